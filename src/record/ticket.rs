//! A place in the recorder, from admission to the end of the flow.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::queue::{Finished, Queue, Waiter};
use super::recorder::{Committed, RecordError, Shared};
use crate::filter::{FlowSubject, Notes, OpenSubject};
use crate::flow::{Extent, Flow, Message, Mid};
use crate::store::{BodySide, Draft, Pin, Room, Segments, StoreError};

/// An admitted flow: its mid, and its place in the queue.
///
/// Dropped unfinished, it gives the place back, and nothing of the flow is stored (but a snapshot that
/// [`Ticket::write_open`] gave).
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    mid: Mid,
    /// Whether a snapshot was handed over, so that there may be a row already.
    snapshot: bool,
    finished: bool,
    /// Held from its first body until its commit.
    pin: OnceLock<Pin>,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, mid: Mid) -> Self {
        Self { shared, mid, snapshot: false, finished: false, pin: OnceLock::new() }
    }

    /// The mid that the flow will have. Nobody outside may be told before it is committed.
    #[must_use]
    pub fn mid(&self) -> Mid {
        self.mid
    }

    /// A writer for one of the flow's bodies. One for each side at a time.
    #[must_use]
    pub fn body(&self, side: BodySide) -> BodyWriter {
        self.pin.get_or_init(|| self.shared.pins.pin(self.mid));
        BodyWriter {
            segments: self.shared.segments.clone(),
            mid: self.mid,
            side,
            seq: 0,
            extents: Vec::new(),
            len: 0,
            level: self.shared.options.compress,
            gathered: BytesMut::new(),
        }
    }

    /// A writer for the messages of a WebSocket, which are stored as they pass. Call [`Ticket::write_open`] first, so that
    /// they have a flow whatever happens.
    #[must_use]
    pub fn messages(&self) -> MessageWriter {
        MessageWriter { shared: Arc::clone(&self.shared), mid: self.mid }
    }

    /// Has the flow stored as it is now, [`crate::flow::State::Open`]; its end will replace it. Never blocks.
    pub fn write_open(&mut self, flow: &Flow) {
        self.push(flow, false, None);
        self.snapshot = true;
    }

    /// Whether the recorder's filter wants the flow as it is now.
    #[must_use]
    pub fn is_wanted(&self, flow: &Flow) -> bool {
        let filter = self.shared.choice.filter();
        let Some(filter) = filter.as_deref() else { return true };
        let notes = Notes::default();
        let mut subject = FlowSubject { flow, mid: self.sqlite_mid(), notes: Some(&notes) };
        // What the flow cannot answer was refused before there was a recorder; should it come, nothing must be lost.
        filter.judge(&mut subject) != Ok(Some(false))
    }

    /// Whether the recorder's filter may want the flow at its end, by what will not change any more.
    #[must_use]
    pub fn may_be_wanted(&self, flow: &Flow) -> bool {
        let filter = self.shared.choice.filter();
        let Some(filter) = filter.as_deref() else { return true };
        filter.judge(&mut OpenSubject { flow, mid: self.sqlite_mid() }) != Ok(Some(false))
    }

    fn sqlite_mid(&self) -> i64 {
        i64::try_from(self.mid.0).unwrap_or(i64::MAX)
    }

    /// Hands the flow over at its end. Never blocks. One that the recorder's filter does not want is not stored, and taken out
    /// of the store again if it is there as open. Extents of bodies are those that [`BodyWriter::extents`] gave; if
    /// the disk could not take one of them, the body is stored as lost.
    pub fn finish(self, flow: &Flow) {
        match self.is_wanted(flow) {
            true => self.finish_for(flow, None),
            false => self.leave_out(flow),
        }
    }

    /// Ends a flow that is not to be stored, whatever the recorder's filter says: as [`Ticket::finish`] does one that it does
    /// not want. Never blocks.
    pub fn leave_out(mut self, flow: &Flow) {
        self.finished = true;
        self.shared.counts.left_out.fetch_add(1, Ordering::Relaxed);
        self.shared.pins.left_out(flow);
        if self.snapshot {
            self.shared.queue.remove(self.mid);
        }
        self.shared.queue.give_places_back(1);
    }

    /// As [`Ticket::finish`], and tells what becomes of the flow. `None` for one that the recorder's filter does not want.
    #[must_use]
    pub fn finish_with_receipt(self, flow: &Flow) -> Option<Receipt> {
        if !self.is_wanted(flow) {
            self.finish(flow);
            return None;
        }
        Some(self.finish_stored(flow))
    }

    /// As [`Ticket::finish_with_receipt`], whatever the recorder's filter says.
    pub(super) fn finish_stored(self, flow: &Flow) -> Receipt {
        let (waiter, outcome) = oneshot::channel();
        let (mid, queue) = (self.mid, Arc::clone(&self.shared.queue));
        self.finish_for(flow, Some(waiter));
        Receipt { mid, outcome, queue }
    }

    /// Gives the place back and takes out of the store what [`Ticket::write_open`] gave, and messages with it: for a flow that
    /// turned out to be none. Bodies that were written are left for reclaiming.
    pub fn discard(self) {
        if self.snapshot {
            self.shared.queue.remove(self.mid);
        }
    }

    fn finish_for(mut self, flow: &Flow, waiter: Option<Waiter>) {
        self.finished = true;
        self.push(flow, true, waiter);
    }

    fn push(&mut self, flow: &Flow, ended: bool, waiter: Option<Waiter>) {
        thread_local! {
            static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let flow = &*self.shared.at_home(flow);
        let news = self.shared.is_followed().then(|| Committed::of(self.mid, &self.shared.path, flow));
        BYTES.with_borrow_mut(|bytes| {
            let pin = if ended { self.pin.take() } else { None };
            let draft = Draft::new(self.mid, flow, self.snapshot, bytes);
            self.shared.queue.push(Finished { draft, ended, news, waiter, pin }, bytes);
            bytes.shrink_to(KEPT_BYTES);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.queue.give_places_back(1);
        }
    }
}

/// Tells what becomes of a flow that was handed over.
#[derive(Debug)]
pub struct Receipt {
    mid: Mid,
    outcome: oneshot::Receiver<Result<bool, Arc<StoreError>>>,
    queue: Arc<Queue>,
}

impl Receipt {
    /// Waits until the flow's transaction has committed, or failed; its mid. From now on, not before, somebody waits: the group
    /// that the flow is in does not linger.
    ///
    /// # Errors
    /// [`RecordError::Commit`] if the transaction failed, [`RecordError::BodyLost`] if the flow is stored but a body of it is
    /// not, [`RecordError::Closed`] if the recorder was dropped.
    pub async fn committed(mut self) -> Result<Mid, RecordError> {
        let outcome = match self.outcome.try_recv() {
            Err(TryRecvError::Empty) => {
                self.queue.hurry();
                self.outcome.await
            }
            Err(TryRecvError::Closed) => return Err(RecordError::Closed),
            Ok(outcome) => Ok(outcome),
        };
        match outcome {
            Ok(Ok(false)) => Ok(self.mid),
            Ok(Ok(true)) => Err(RecordError::BodyLost { mid: self.mid }),
            Ok(Err(error)) => Err(RecordError::Commit(error)),
            Err(_) => Err(RecordError::Closed),
        }
    }
}

/// Has the messages of a WebSocket stored, in groups with flows.
#[derive(Debug, Clone)]
pub struct MessageWriter {
    shared: Arc<Shared>,
    mid: Mid,
}

impl MessageWriter {
    /// Waits while more waits for the disk than may. To be called before each [`MessageWriter::push`], so that a slow disk
    /// slows the traffic. Dropping this future changes nothing.
    pub async fn room(&self) {
        self.shared.queue.bytes_below_limit().await;
    }

    /// Hands a message over. Never blocks. Its content is kept in its row, or is extents that a [`BodyWriter`] gave; if the
    /// disk could not take one of them, the payload is stored as lost.
    pub fn push(&self, message: &Message) {
        self.shared.queue.push_message(self.mid, message);
    }
}

/// Appends a body to the segment files as it passes.
#[derive(Debug)]
pub struct BodyWriter {
    segments: Segments,
    mid: Mid,
    side: BodySide,
    seq: u64,
    extents: Vec<Extent>,
    len: u64,
    /// zstd's level; `None` to store what comes as it is.
    level: Option<i32>,
    /// What waits for more, where it is to be compressed: a frame of a few KiB saves little.
    gathered: BytesMut,
}

impl BodyWriter {
    /// For data that are compressed already: does not try it once more.
    #[must_use]
    pub fn compressed(self) -> Self {
        Self { level: None, ..self }
    }

    /// Appends `data`, waiting while too much waits for the disk. It never fails: what a failing disk cannot take makes
    /// the body a lost one.
    ///
    /// Dropping this future while it waits appends nothing, for `data` up to the recorder's bound on bytes; of longer
    /// data, a part may be appended.
    pub async fn write(&mut self, mut data: Bytes) {
        if self.level.is_some() {
            if self.gathered.len() + data.len() > FRAME_BYTES {
                self.squeeze_gathered().await;
            }
            // Whether the last of it shrank may have changed what is done with the rest.
            if self.level.is_some() && data.len() < FRAME_BYTES {
                self.len += data.len() as u64;
                self.gathered.extend_from_slice(&data);
                return;
            }
        }
        while !data.is_empty() {
            let room = self.segments.reserve(data.len()).await;
            let mut part = data.split_to(room.clamp(1, data.len()));
            self.len += part.len() as u64;
            while let Some(level) = self.level.filter(|_| !part.is_empty()) {
                let frame = part.split_to(part.len().min(FRAME_BYTES));
                self.append_squeezed(&frame, Room::Reserved, level);
            }
            if !part.is_empty() {
                self.seq += self.segments.append(self.mid, self.side, self.seq, part, &mut self.extents);
            }
        }
    }

    async fn squeeze_gathered(&mut self) {
        if let Some(level) = self.level
            && !self.gathered.is_empty()
        {
            let room = self.segments.reserve(self.gathered.len()).await;
            let whole = self.gathered.split_to(room.min(self.gathered.len())).freeze();
            self.append_squeezed(&whole, Room::Reserved, level);
            self.append_rest();
        }
    }

    /// Appends what is gathered, at the end of a body. There is at most a frame of it for each body that is open.
    fn append_rest(&mut self) {
        let rest = self.gathered.split().freeze();
        if !rest.is_empty() {
            self.append_squeezed(&rest, Room::Unreserved, self.level.unwrap_or(LEAST));
        }
    }

    fn append_squeezed(&mut self, data: &Bytes, room: Room, level: i32) {
        let body = (self.mid, self.side, self.seq);
        if !self.segments.append_squeezed(body, data, room, level, &mut self.extents) {
            // Nor will the rest of the body shrink.
            self.level = None;
        }
        self.seq += 1;
    }

    /// Where the bytes so far lie, for [`crate::flow::Content::Extents`].
    #[must_use]
    pub fn extents(&mut self) -> Vec<Extent> {
        self.append_rest();
        self.extents.clone()
    }

    /// Where the bytes lie that came since the last call: a writer goes on from one message to the next.
    pub fn take_extents(&mut self) -> Vec<Extent> {
        self.append_rest();
        std::mem::take(&mut self.extents)
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// zstd's least effort, for the rest of a body that does not shrink.
const LEAST: i32 = 1;

/// Most of what goes into one frame of zstd. Larger ones save little more, and each body that is open may hold one back.
const FRAME_BYTES: usize = 64 << 10;

/// What a thread keeps of its buffer for drafts.
const KEPT_BYTES: usize = 64 << 10;
