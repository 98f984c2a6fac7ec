//! The append side: places are given out at once, one thread writes the pieces in that order.
//!
//! A sender learns where its piece will lie before it is written, so extents need no answer from the disk. When a
//! segment cannot be written or synced, it is broken from the first byte that is not known to be good; the next piece
//! goes to a new segment, and [`Segments::is_lost`] tells of each extent whether it is among what was dropped.

mod thread;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::files::{SegmentFile, SegmentFiles};
use super::piece::{Coding, Piece};
use super::squeeze::squeezed;
use super::{BodySide, PIECE_BYTES, SEGMENT_BYTES};
use crate::flow::{Extent, Mid};

/// The append side of a store's segments. Cheap to clone; the writing thread ends when the store is closed.
#[derive(Debug, Clone)]
pub struct Segments {
    shared: Arc<Shared>,
}

/// Whether room was reserved for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// By [`Segments::reserve`].
    Reserved,
    /// It was not: the caller bounds how much of this there is.
    Unreserved,
}

/// Where appending begins.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Start {
    pub(in crate::store) number: u32,
    pub(in crate::store) offset: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread waits here for pieces.
    work: Condvar,
    /// Commits wait here for pieces to be written.
    done: Condvar,
    budget: tokio::sync::Semaphore,
    budget_bytes: usize,
    files: Box<dyn SegmentFiles>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held by who syncs. What could not be written is told to the first who asks for it, and nobody else: until he has
    /// said so here, others wait.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Where the next piece goes.
    next: Start,
    queue: Vec<Queued>,
    /// Bytes of data in `queue`.
    queued_bytes: usize,
    /// A commit waits for what is queued.
    hurry: bool,
    /// Pieces ever taken, and pieces of these that were written or dropped. `written <= taken`.
    taken: u64,
    written: u64,
    /// Of these, those that are on disk for sure, or lost. `synced <= written`.
    synced: u64,
    /// Segments that are not wholly good, and their first byte that is not.
    broken: BTreeMap<u32, u64>,
    /// Segments with bytes that may not be on disk yet.
    dirty: BTreeMap<u32, Dirty>,
    /// After a failure: drop pieces until then, rather than make a new file for each.
    pause: Option<Instant>,
    /// Whether the last write or sync failed, so that an episode is logged once.
    failing: bool,
    lost_pieces: u64,
    /// A thread brings to disk what no commit has asked for yet.
    flushing: bool,
    /// How much that has to be: see [`thread`].
    flush_bytes: u64,
    closing: bool,
}

#[derive(Debug)]
struct Dirty {
    file: Arc<dyn SegmentFile>,
    written: u64,
    /// Up to here a commit knows it to be on disk.
    synced: u64,
    /// Up to here it was brought to disk before its commit.
    flushed: u64,
}

impl Dirty {
    /// From where on nobody has brought it to disk.
    fn clean(&self) -> u64 {
        self.synced.max(self.flushed)
    }
}

#[derive(Debug)]
struct Queued {
    segment: u32,
    offset: u64,
    /// Bytes of the budget that come back when it is written.
    reserved: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Data that room was reserved for; its header is made when it is written.
    Piece(Piece, Bytes),
    /// Whole pieces, headers and all.
    Pieces(Bytes),
}

impl Queued {
    fn stored_len(&self) -> u64 {
        match &self.what {
            What::Piece(piece, _) => piece.stored_len(),
            What::Pieces(bytes) => bytes.len() as u64,
        }
    }
}

impl Segments {
    /// Starts the thread. `budget_bytes` bounds the data that wait to be written.
    pub(in crate::store) fn start(
        files: Box<dyn SegmentFiles>,
        next: Start,
        budget_bytes: usize,
    ) -> io::Result<Self> {
        let state = State {
            next,
            queue: Vec::new(),
            queued_bytes: 0,
            hurry: false,
            taken: 0,
            written: 0,
            synced: 0,
            broken: BTreeMap::new(),
            dirty: BTreeMap::new(),
            pause: None,
            failing: false,
            lost_pieces: 0,
            flushing: false,
            flush_bytes: thread::FLUSH_BYTES,
            closing: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            budget: tokio::sync::Semaphore::new(budget_bytes),
            budget_bytes,
            files,
            thread: Mutex::new(None),
            syncing: Mutex::new(()),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("segments".into()).spawn(move || shared.run())?
        };
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared })
    }

    /// Waits until there is room for `len` bytes, or for as many as ever fit at a time, and takes it; how many it took.
    /// The room comes back when the bytes that [`Segments::append`] gets are written. Dropping this future takes
    /// nothing.
    pub async fn reserve(&self, len: usize) -> usize {
        let len = len.min(self.shared.budget_bytes);
        let permits = u32::try_from(len).unwrap_or(u32::MAX);
        if let Ok(permit) = self.shared.budget.acquire_many(permits).await {
            permit.forget();
        }
        permits as usize
    }

    /// Gives `data` (for all of which room was reserved) its place as piece `seq` and following of a body, and queues it.
    /// Pushes the extents to `extents`, merged with the last one where they touch. Never blocks for long. Returns how
    /// many pieces it became.
    ///
    /// Data that are dropped at once, because the disk just failed, get an extent in segment 0, which there never is.
    pub fn append(
        &self,
        mid: Mid,
        side: BodySide,
        seq: u64,
        mut data: Bytes,
        extents: &mut Vec<Extent>,
    ) -> u64 {
        let mut state = self.shared.lock();
        if state.closing || state.paused() {
            state.lost_pieces += 1;
            drop(state);
            self.shared.budget.add_permits(data.len());
            push(extents, LOST);
            return 1;
        }
        let (was_idle, before) = (state.queue.is_empty(), state.queued_bytes);
        let mut count = 0;
        while !data.is_empty() {
            let data = data.split_to(data.len().min(PIECE_BYTES));
            let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let piece = Piece { len, mid: mid.0, seq: seq + count, side: side as u8, coding: Coding::Plain };
            state.queue_piece(piece, data, len.into(), extents);
            count += 1;
        }
        self.shared.wake(state, was_idle, before);
        count
    }

    /// As [`Segments::append`], with data of at most one piece, stored as zstd of this level where they shrink by it. Room was
    /// reserved for as many bytes as the data have, or for none. Returns whether they shrank.
    pub fn append_squeezed(
        &self,
        body: (Mid, BodySide, u64),
        data: &Bytes,
        room: Room,
        level: i32,
        extents: &mut Vec<Extent>,
    ) -> bool {
        let ((mid, side, seq), len) = (body, data.len().min(PIECE_BYTES));
        let reserved = if room == Room::Reserved { data.len() } else { 0 };
        let frame = squeezed(&data[..len], level);
        let shrank = frame.is_some();
        let (coding, stored) = match frame {
            Some(frame) => (Coding::Zstd, frame),
            None => (Coding::Plain, data.slice(..len)),
        };
        let mut state = self.shared.lock();
        if state.closing || state.paused() {
            state.lost_pieces += 1;
            drop(state);
            self.shared.budget.add_permits(reserved);
            push(extents, LOST);
            return shrank;
        }
        let (was_idle, before) = (state.queue.is_empty(), state.queued_bytes);
        let stored_len = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        let piece = Piece { len: stored_len, mid: mid.0, seq, side: side as u8, coding };
        state.queue_piece(piece, stored, len as u64, extents);
        if let Some(queued) = state.queue.last_mut() {
            queued.reserved = reserved;
        }
        self.shared.wake(state, was_idle, before);
        shrank
    }

    /// Gives whole pieces, one behind the other, their place in one segment, and queues them; where that is. `None` if the
    /// disk just failed, and nothing is tried for the moment. Takes no room: the caller bounds what it hands over.
    pub(in crate::store) fn append_pieces(&self, pieces: Bytes) -> Option<Extent> {
        let stored_len = pieces.len() as u64;
        let mut state = self.shared.lock();
        if state.closing || state.paused() {
            return None;
        }
        let Start { number: segment, offset } = state.place(stored_len);
        state.queued_bytes += pieces.len();
        state.queue.push(Queued { segment, offset, reserved: 0, what: What::Pieces(pieces) });
        state.taken += 1;
        Some(Extent { segment, offset, stored_len, len: 0 })
    }

    /// Where the next piece goes, unless it does not fit there.
    pub(in crate::store) fn current(&self) -> Start {
        self.shared.lock().next
    }

    /// Goes on in a new segment.
    pub(in crate::store) fn roll(&self) {
        let mut state = self.shared.lock();
        if state.next.offset > 0 {
            state.next = Start { number: state.next.number + 1, offset: 0 };
        }
    }

    /// Whether the first `upto` pieces are on disk, or lost: see [`Segments::is_lost`].
    pub(in crate::store) fn is_synced(&self, upto: u64) -> bool {
        self.shared.lock().synced >= upto
    }

    /// Takes segment files away of which no row that is committed tells any more, in this order: the WAL with that commit to disk,
    /// the files, the news of it to disk. For a thread that may block for long.
    ///
    /// # Errors
    /// What the system said; a file may be gone then, or not.
    pub(in crate::store) fn remove(&self, numbers: &[u32]) -> io::Result<()> {
        let files = &self.shared.files;
        files.sync_wal()?;
        numbers.iter().try_for_each(|&number| files.remove(number))?;
        files.sync_names()
    }

    /// Looks whether the files that are written to still have their names. One that has not is lost, with all that is in it.
    /// That costs a microsecond or two.
    pub(in crate::store) fn look(&self) {
        let files: Vec<_> = {
            let state = self.shared.lock();
            state.dirty.iter().map(|(&number, dirty)| (number, Arc::clone(&dirty.file))).collect()
        };
        for (number, file) in files {
            if !file.is_in_place() {
                self.shared.lock().abandon(number);
            }
        }
    }

    /// What is brought to disk before its commit, from now to the next time that this is done.
    #[cfg(test)]
    pub(in crate::store) fn set_flush_bytes(&self, bytes: u64) {
        self.shared.lock().flush_bytes = bytes;
    }

    /// Closes the file of a segment that nothing is appended to any more.
    pub(in crate::store) fn forget(&self, segment: u32) {
        self.shared.lock().dirty.remove(&segment);
    }

    /// Number of the last piece that was taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.shared.lock().taken
    }

    /// Pieces that were dropped because the disk failed.
    #[must_use]
    pub fn lost_pieces(&self) -> u64 {
        self.shared.lock().lost_pieces
    }

    /// Whether the bytes of this extent are not, and never will be, in their file.
    #[must_use]
    pub fn is_lost(&self, extent: &Extent) -> bool {
        if *extent == LOST {
            return true;
        }
        let state = self.shared.lock();
        state.broken.get(&extent.segment).is_some_and(|&good| extent.offset + extent.stored_len > good)
    }

    /// Waits until the first `upto` pieces are written (or dropped). For a thread that may block.
    pub(in crate::store) fn wait_written(&self, upto: u64) {
        let mut state = self.shared.lock();
        if state.written < upto {
            state.hurry = true;
            self.shared.work.notify_one();
        }
        while state.written < upto {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Brings everything that is written to disk; the segments that grew, with the length that is on disk. A segment
    /// that cannot be synced is broken from its last sync on. For a thread that may block.
    pub(in crate::store) fn sync(&self) -> Vec<(u32, u64)> {
        let _turn = self.shared.turn_to_sync();
        let (due, upto) = {
            let state = self.shared.lock();
            let due = state.dirty.iter().filter(|(_, d)| d.written > d.synced);
            let due = due.map(|(&number, d)| (number, Arc::clone(&d.file), d.clean(), d.written));
            (due.collect::<Vec<_>>(), state.written)
        };
        let mut grown = Vec::with_capacity(due.len());
        for (number, file, clean, written) in due {
            let result = file.sync();
            if result.is_ok() {
                file.synced(clean, written);
            }
            let mut state = self.shared.lock();
            let current = state.next.number;
            let Some(dirty) = state.dirty.get_mut(&number) else { continue };
            match result {
                Ok(()) => {
                    dirty.synced = written;
                    if number != current && dirty.written == written {
                        state.dirty.remove(&number);
                    }
                    state.failing = false;
                    grown.push((number, written));
                }
                Err(e) => {
                    // What the kernel could not write, it may have dropped: a second sync would prove nothing.
                    let good = dirty.synced;
                    state.dirty.remove(&number);
                    state.fail(number, good, &e);
                }
            }
        }
        let mut state = self.shared.lock();
        state.synced = state.synced.max(upto);
        drop(state);
        grown
    }

    /// Writes what is queued and ends the thread. What comes later is lost.
    pub(in crate::store) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It catches its errors; a panic of it has been printed.
            let _ = thread.join();
        }
        self.shared.wait_flushed();
    }
}

/// The extent of data that were dropped. Segments are numbered from 1.
const LOST: Extent = Extent { segment: 0, offset: 0, stored_len: 0, len: 0 };

/// Adds an extent, or lengthens the last one.
pub(in crate::store) fn push(extents: &mut Vec<Extent>, extent: Extent) {
    if let Some(last) = extents.last_mut()
        && last.segment == extent.segment
        && last.offset + last.stored_len == extent.offset
    {
        last.stored_len += extent.stored_len;
        last.len += extent.len;
        return;
    }
    extents.push(extent);
}

impl State {
    /// Queues a piece that holds `len` bytes of body, for all of which as stored there is room.
    fn queue_piece(&mut self, piece: Piece, data: Bytes, len: u64, extents: &mut Vec<Extent>) {
        let (stored_len, reserved) = (piece.stored_len(), data.len());
        let Start { number: segment, offset } = self.place(stored_len);
        push(extents, Extent { segment, offset, stored_len, len });
        self.queued_bytes += data.len();
        self.queue.push(Queued { segment, offset, reserved, what: What::Piece(piece, data) });
        self.taken += 1;
    }

    fn place(&mut self, len: u64) -> Start {
        if self.next.offset > 0 && self.next.offset + len > SEGMENT_BYTES {
            self.next = Start { number: self.next.number + 1, offset: 0 };
        }
        let place = self.next;
        self.next.offset += len;
        place
    }

    fn paused(&mut self) -> bool {
        match self.pause {
            Some(until) if Instant::now() < until => true,
            _ => {
                self.pause = None;
                false
            }
        }
    }

    /// The file of a segment was taken away.
    fn abandon(&mut self, segment: u32) {
        tracing::error!(
            segment,
            "the file of a segment was deleted or replaced while it was written: what was in it is lost, as `manent check` tells"
        );
        self.dirty.remove(&segment);
        self.broken.insert(segment, 0);
        if self.next.number == segment {
            self.next = Start { number: segment + 1, offset: 0 };
        }
    }

    fn fail(&mut self, segment: u32, good: u64, error: &io::Error) {
        if !self.failing {
            tracing::error!(segment, good, %error, "bodies cannot be stored");
        }
        self.failing = true;
        let from = self.broken.entry(segment).or_insert(good);
        *from = good.min(*from);
        self.pause = Some(Instant::now() + RETRY);
        if self.next.number == segment {
            self.next = Start { number: segment + 1, offset: 0 };
        }
    }
}

/// How long pieces are dropped after a failure, before a new segment is tried.
const RETRY: Duration = Duration::from_millis(500);
