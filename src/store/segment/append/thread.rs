//! The thread that writes, and the one that brings to disk before its commit what is much.

use std::io::{self, IoSlice};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Dirty, Queued, SegmentFile, Shared, State, What};
use crate::store::segment::piece::HEADER;

/// How much is gathered for a write, and for how long at most. Many TLS records; far below what may wait.
const GATHER_BYTES: usize = 1 << 20;
const GATHER_TIME: Duration = Duration::from_millis(2);

/// What is brought to disk before its commit, of a body that is long under way: as much as the disk writes in this time, by what it
/// did last. Else a gigabyte would wait in the system's memory, take the place of what others have there, and hold up the commit
/// at its end, and all that comes behind it.
const HOLD_UP: Duration = Duration::from_millis(500);
/// As long as nothing is known of the disk: half a second of one that writes 130 MB/s.
pub(super) const FLUSH_BYTES: u64 = 64 << 20;
const FLUSH_AT_LEAST: u64 = 16 << 20;
const FLUSH_AT_MOST: u64 = 512 << 20;

/// Blocks that a body finds ahead of itself which comes at a speed that makes writes of so many bytes. What is left of them goes
/// back when the file is closed; where that is prevented, the next who appends finds them.
const RESERVE_BYTES: u64 = 16 << 20;
const RESERVE_FROM: u64 = 128 << 10;

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that make a write worth while.
    fn gather(&self) -> usize {
        GATHER_BYTES.min(self.budget_bytes / 4)
    }

    /// Wakes the thread if what was queued since is enough for it, or the first.
    pub(super) fn wake(&self, state: MutexGuard<'_, State>, was_idle: bool, before: usize) {
        let enough = before < self.gather() && state.queued_bytes >= self.gather();
        drop(state);
        if was_idle || enough {
            self.work.notify_one();
        }
    }

    pub(super) fn turn_to_sync(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_flushed(&self) {
        let state = self.lock();
        drop(self.done.wait_while(state, |state| state.flushing).unwrap_or_else(PoisonError::into_inner));
    }

    /// Starts a thread that brings to disk what is written of a segment, if that is much.
    fn flush_if_much(self: &Arc<Self>, segment: u32) {
        let mut state = self.lock();
        let much = state.flush_bytes;
        let is_much = |dirty: &Dirty| dirty.written.saturating_sub(dirty.clean()) >= much;
        if state.flushing || state.closing || !state.dirty.get(&segment).is_some_and(is_much) {
            return;
        }
        let shared = Arc::clone(self);
        let work = move || shared.flush(segment);
        // Without a thread, it is left to the commit.
        state.flushing = std::thread::Builder::new().name("flush".into()).spawn(work).is_ok();
    }

    /// What that thread does.
    fn flush(&self, segment: u32) {
        let _flushing = Flushing(self);
        let _turn = self.turn_to_sync();
        let due = self
            .lock()
            .dirty
            .get(&segment)
            .map(|dirty| (Arc::clone(&dirty.file), dirty.clean(), dirty.written));
        if let Some((file, from, to)) = due {
            let begin = Instant::now();
            let result = file.sync();
            let took = begin.elapsed();
            if result.is_ok() {
                file.synced(from, to);
            }
            let mut state = self.lock();
            if result.is_ok() {
                state.flush_bytes = much(to.saturating_sub(from), took);
            }
            match (result, state.dirty.get_mut(&segment)) {
                (Ok(()), Some(dirty)) => dirty.flushed = to,
                (Err(e), Some(dirty)) => {
                    // As in `Segments::sync`.
                    let good = dirty.synced;
                    state.dirty.remove(&segment);
                    state.fail(segment, good, &e);
                }
                // Its file was taken away meanwhile.
                (_, None) => {}
            }
        }
    }

    /// The thread.
    pub(super) fn run(self: &Arc<Self>) {
        let mut batch = Vec::new();
        let mut open = None;
        loop {
            {
                let mut state = self.lock();
                while state.queue.is_empty() {
                    if state.closing {
                        return;
                    }
                    state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                // A wake-up and a write for each TLS record would cost more than copying its bytes.
                let too_few = |s: &mut State| s.queued_bytes < self.gather() && !s.hurry && !s.closing;
                (state, _) = self
                    .work
                    .wait_timeout_while(state, GATHER_TIME, too_few)
                    .unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut state.queue, &mut batch);
                (state.queued_bytes, state.hurry) = (0, false);
            }
            for run in batch.chunk_by(follows) {
                for run in run.chunks(RUN_PIECES) {
                    self.write_run(run, &mut open);
                }
                self.flush_if_much(run[0].segment);
            }
            batch.clear();
            batch.shrink_to(RUN_PIECES);
        }
    }

    /// Writes pieces that lie one behind the other.
    fn write_run(&self, run: &[Queued], open: &mut Option<Open>) {
        let Queued { segment, offset, .. } = run[0];
        let bytes: u64 = run.iter().map(Queued::stored_len).sum();
        let is_broken = self.lock().broken.contains_key(&segment);
        let result = match is_broken {
            true => Ok(None),
            false => self.file(segment, open).and_then(|open| {
                open.reserve(offset, bytes);
                let file = Arc::clone(&open.file);
                write_all(&*file, run).inspect_err(|_| {
                    // Best effort: a reader trusts extents only, never the length of the file.
                    let _ = file.truncate(offset);
                })?;
                Ok(Some(file))
            }),
        };
        let mut state = self.lock();
        match result {
            Ok(Some(file)) => {
                let fresh = Dirty { file, written: offset, synced: offset, flushed: offset };
                let dirty = state.dirty.entry(segment).or_insert(fresh);
                dirty.written = offset + bytes;
            }
            Ok(None) => state.lost_pieces += run.len() as u64,
            Err(e) => {
                state.lost_pieces += run.len() as u64;
                state.fail(segment, offset, &e);
                *open = None;
            }
        }
        state.written += run.len() as u64;
        drop(state);
        self.done.notify_all();
        self.budget.add_permits(run.iter().map(|queued| queued.reserved).sum());
    }

    fn file<'a>(&self, segment: u32, open: &'a mut Option<Open>) -> io::Result<&'a mut Open> {
        match open.take() {
            Some(there) if there.segment == segment => Ok(open.insert(there)),
            other => {
                drop(other);
                Ok(open.insert(Open { segment, file: self.files.open(segment)?, reserved: 0 }))
            }
        }
    }
}

/// The file that is written to.
struct Open {
    segment: u32,
    file: Arc<dyn SegmentFile>,
    /// Up to here it has blocks, whether they hold data or not; 0 where none were reserved.
    reserved: u64,
}

impl Open {
    /// Sees to it that a body which comes at full speed finds blocks in the file: to look for them page by page was a third of
    /// what the system did for a write (187 ms against 115 for a GiB, on ext4).
    fn reserve(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        if len >= RESERVE_FROM && end > self.reserved {
            let from = self.reserved.max(offset);
            self.reserved = end.saturating_add(RESERVE_BYTES);
            self.file.reserve(from, self.reserved - from);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.file.release();
        }
    }
}

/// What is much for a disk that took so long for so many bytes.
fn much(bytes: u64, took: Duration) -> u64 {
    let in_time = u128::from(bytes) * HOLD_UP.as_micros() / took.as_micros().max(1);
    u64::try_from(in_time).unwrap_or(u64::MAX).clamp(FLUSH_AT_LEAST, FLUSH_AT_MOST)
}

/// A thread that flushes; whoever waits for its end must hear of it, however it comes.
struct Flushing<'a>(&'a Shared);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.lock().flushing = false;
        self.0.done.notify_all();
    }
}

fn follows(a: &Queued, b: &Queued) -> bool {
    a.segment == b.segment && a.offset + a.stored_len() == b.offset
}

/// Pieces in one write: two slices each, and 1024 slices is what Linux takes (`IOV_MAX`).
const RUN_PIECES: usize = 500;

fn write_all(file: &dyn SegmentFile, run: &[Queued]) -> io::Result<()> {
    let header = |queued: &Queued| match &queued.what {
        What::Piece(piece, data) => piece.header(data),
        What::Pieces(_) => [0; HEADER],
    };
    let headers: Vec<[u8; HEADER]> = run.iter().map(header).collect();
    let mut slices = Vec::with_capacity(2 * run.len());
    for (queued, header) in run.iter().zip(&headers) {
        match &queued.what {
            What::Piece(_, data) => slices.extend([IoSlice::new(header), IoSlice::new(data)]),
            What::Pieces(bytes) => slices.push(IoSlice::new(bytes)),
        }
    }
    let mut rest = &mut slices[..];
    let mut offset = run[0].offset;
    while !rest.is_empty() {
        let n = file.write_at(rest, offset)?;
        offset += n as u64;
        IoSlice::advance_slices(&mut rest, n);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_much_is_what_the_disk_writes_in_half_a_second() {
        assert_eq!(much(64 << 20, Duration::from_millis(320)), 100 << 20);
        assert_eq!(much(64 << 20, Duration::from_secs(60)), FLUSH_AT_LEAST);
        assert_eq!(much(64 << 20, Duration::ZERO), FLUSH_AT_MOST);
    }
}
