//! A place in the recorder, from admission to the end of the flow.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::queue::{Finished, Waiter};
use super::recorder::{Committed, Shared};
use crate::filter::{FlowSubject, Notes, OpenSubject};
use crate::flow::{Extent, Flow, Message, Mid};
use crate::store::{BodySide, Draft, Pin, Segments};

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
        let Some(filter) = &self.shared.options.filter else { return true };
        let notes = Notes::default();
        let mut subject = FlowSubject { flow, mid: self.sqlite_mid(), notes: Some(&notes) };
        // What the flow cannot answer was refused before there was a recorder; should it come, nothing must be lost.
        filter.judge(&mut subject) != Ok(Some(false))
    }

    /// Whether the recorder's filter may want the flow at its end, by what will not change any more.
    #[must_use]
    pub fn may_be_wanted(&self, flow: &Flow) -> bool {
        let Some(filter) = &self.shared.options.filter else { return true };
        filter.judge(&mut OpenSubject { flow, mid: self.sqlite_mid() }) != Ok(Some(false))
    }

    fn sqlite_mid(&self) -> i64 {
        i64::try_from(self.mid.0).unwrap_or(i64::MAX)
    }

    /// Hands the flow over at its end. Never blocks. One that the recorder's filter does not want is not stored, and taken out
    /// of the store again if it is there as open. Extents of bodies are those that [`BodyWriter::extents`] gave; if
    /// the disk could not take one of them, the body is stored as lost.
    pub fn finish(mut self, flow: &Flow) {
        if self.is_wanted(flow) {
            return self.finish_for(flow, None);
        }
        self.finished = true;
        self.shared.counts.left_out.fetch_add(1, Ordering::Relaxed);
        self.shared.pins.left_out(flow);
        if self.snapshot {
            self.shared.queue.remove(self.mid);
        }
        self.shared.queue.give_places_back(1);
    }

    pub(super) fn finish_for(mut self, flow: &Flow, waiter: Option<Waiter>) {
        self.finished = true;
        self.push(flow, true, waiter);
    }

    fn push(&mut self, flow: &Flow, ended: bool, waiter: Option<Waiter>) {
        thread_local! {
            static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let flow = &*self.shared.at_home(flow);
        let news = self.shared.is_followed().then(|| Committed::of(self.mid, flow));
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
}

impl BodyWriter {
    /// Appends `data`, waiting while too much waits for the disk. It never fails: what a failing disk cannot take makes
    /// the body a lost one.
    ///
    /// Dropping this future while it waits appends nothing, for `data` up to the recorder's bound on bytes; of longer
    /// data, a part may be appended.
    pub async fn write(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            let room = self.segments.reserve(data.len()).await;
            let part = data.split_to(room.clamp(1, data.len()));
            self.len += part.len() as u64;
            self.seq += self.segments.append(self.mid, self.side, self.seq, part, &mut self.extents);
        }
    }

    /// Where the bytes so far lie, for [`crate::flow::Content::Extents`].
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        self.extents.clone()
    }

    /// Where the bytes lie that came since the last call: a writer goes on from one message to the next.
    pub fn take_extents(&mut self) -> Vec<Extent> {
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

/// What a thread keeps of its buffer for drafts.
const KEPT_BYTES: usize = 64 << 10;
