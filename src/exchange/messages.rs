//! A tap on a WebSocket: its messages go to the store as they end, large payloads as they come.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;

use super::Live;
use crate::flow::{BodyEnd, Content, Message, MessageCoding, Opcode, Side, Stage, State};
use crate::record::{BodySide, BodyWriter, MessageWriter};
use crate::websocket::{ABNORMAL, Ended, Event, Extensions, Tap, Violation, close_status};

/// The record of one WebSocket, shared by the taps of its two directions. Dropping it notes a close that nobody announced.
#[derive(Debug)]
pub struct Messages<'a> {
    live: &'a Live,
    /// `None` where nothing is recorded.
    writer: Option<MessageWriter>,
    inline_limit: usize,
    /// Bytes of each message's payload that may be recorded.
    body_limit: u64,
    /// Messages that have ended.
    count: AtomicU64,
    /// A direction broke the rules and is not followed any more.
    lost_track: AtomicBool,
}

impl<'a> Messages<'a> {
    pub(super) fn new(
        live: &'a Live,
        writer: Option<MessageWriter>,
        inline_limit: usize,
        body_limit: u64,
    ) -> Self {
        Self {
            live,
            writer,
            inline_limit,
            body_limit,
            count: AtomicU64::new(0),
            lost_track: AtomicBool::new(false),
        }
    }

    /// A tap on what the client sends.
    pub fn of_client(&'a self, extensions: Extensions) -> MessageTee<'a> {
        MessageTee::new(self, Side::Client, Tap::of_client(extensions))
    }

    /// A tap on what the origin sends.
    pub fn of_server(&'a self, extensions: Extensions) -> MessageTee<'a> {
        MessageTee::new(self, Side::Server, Tap::of_server(extensions))
    }

    /// Waits for room in the queue of the recorder.
    async fn room(&self) {
        if let Some(writer) = &self.writer {
            writer.room().await;
        }
    }

    /// Numbers a message that has ended, counts it, and hands it over.
    fn push(&self, mut message: Message, not_utf8: bool) {
        message.seq = 1 + self.count.fetch_add(1, Ordering::Relaxed);
        self.live.with(|flow| {
            let Some(websocket) = &mut flow.websocket else { return };
            let (messages, len, bad_text) = match message.from_client {
                true => (
                    &mut websocket.messages_from_client,
                    &mut websocket.len_from_client,
                    &mut websocket.bad_text_from_client,
                ),
                false => (
                    &mut websocket.messages_from_server,
                    &mut websocket.len_from_server,
                    &mut websocket.bad_text_from_server,
                ),
            };
            *messages += 1;
            *bad_text += u64::from(not_utf8);
            *len = len.saturating_add(message.len);
        });
        if let Some(writer) = &self.writer {
            writer.push(&message);
        }
    }

    /// Notes the first close frame (RFC 6455 §7.1.5).
    fn closing(&self, side: Side, payload: &[u8]) {
        let (code, reason) = close_status(payload);
        self.live.with(|flow| {
            if let Some(websocket) = &mut flow.websocket
                && websocket.closed_by_client.is_none()
            {
                websocket.closed_by_client = Some(side == Side::Client);
                websocket.close_code = Some(code);
                websocket.close_reason =
                    (payload.len() >= 2).then(|| String::from_utf8_lossy(reason).into_owned());
            }
        });
    }
}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        self.live.with(|flow| {
            // After a frame that broke the rules we cannot tell.
            if let Some(websocket) = &mut flow.websocket
                && websocket.closed_by_client.is_none()
                && !self.lost_track.load(Ordering::Relaxed)
            {
                websocket.close_code = Some(ABNORMAL);
            }
        });
    }
}

/// Sees every byte of one direction and never changes one. What it cannot follow it notes once in the flow, then looks
/// away. Dropping it records a message that was cut off.
#[derive(Debug)]
pub struct MessageTee<'a> {
    messages: &'a Messages<'a>,
    side: Side,
    tap: Tap,
    open: Option<Open>,
    /// The payload of the message under way, while it is small.
    kept: Vec<u8>,
    /// For large payloads, from the first one on.
    writer: Option<BodyWriter>,
    /// What is said of what is written now.
    mark: Mark,
    /// A close frame came by.
    closed: bool,
}

/// What is said of messages beside what their bytes tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    /// See [`Message::injected`].
    pub injected: bool,
    /// See [`Message::dropped`].
    pub dropped: bool,
    /// When its first frame came, if that was before it is written.
    pub at_us: Option<u64>,
}

/// How much of what is given is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// All.
    End,
    /// What comes before the first place between two messages.
    Between,
}

/// The message under way.
#[derive(Debug)]
struct Open {
    opcode: Opcode,
    at_us: u64,
    /// Whether its payload goes to segment files.
    is_out: bool,
    /// Bytes of payload that may still be recorded.
    room: u64,
}

impl<'a> MessageTee<'a> {
    fn new(messages: &'a Messages<'a>, side: Side, tap: Tap) -> Self {
        let mark = Mark::default();
        Self { messages, side, tap, open: None, kept: Vec::new(), writer: None, mark, closed: false }
    }

    /// Records what the bytes say; waits while the recorder has more than it may hold. After a future that was dropped while
    /// it waited, the rest of what it was given is missing: only the end of the flow should do that.
    pub async fn write(&mut self, data: &Bytes) {
        self.take(&mut data.clone(), Until::End).await;
    }

    /// The same for whole messages of which there is more to be said.
    pub async fn write_marked(&mut self, data: &Bytes, mark: Mark) {
        self.mark = mark;
        self.take(&mut data.clone(), Until::End).await;
        self.mark = Mark::default();
    }

    /// The same, but only as far as the end of the next message or of the data, and takes that off its front.
    pub async fn write_some(&mut self, data: &mut Bytes) {
        self.take(data, Until::Between).await;
    }

    /// Whether a message of ours could stand behind what was written. Never where nothing is recorded.
    #[must_use]
    pub fn is_between(&self) -> bool {
        !self.is_over() && !self.tap.is_inside()
    }

    /// Whether none ever will: nothing is recorded, the frames are not understood, or a close frame came by.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.messages.writer.is_none() || self.tap.is_silent() || self.closed
    }

    async fn take(&mut self, data: &mut Bytes, until: Until) {
        if self.messages.writer.is_none() {
            data.clear();
            return;
        }
        loop {
            match self.tap.next(data) {
                Ok(None) => return,
                Ok(Some(Event::Begun(opcode))) => {
                    let at_us = self.mark.at_us.unwrap_or_else(|| self.messages.live.now_us());
                    let room = self.messages.body_limit;
                    self.open = Some(Open { opcode, at_us, is_out: false, room });
                }
                Ok(Some(Event::Payload(piece))) => self.keep(piece).await,
                Ok(Some(Event::Ended(ended))) => {
                    self.write_kept().await;
                    self.messages.room().await;
                    let recorded = self.open.as_ref().map_or(0, |open| self.messages.body_limit - open.room);
                    let capped = ended.truncated || recorded < ended.len;
                    let end = if capped { BodyEnd::Capped } else { BodyEnd::Whole };
                    self.finish(ended, end);
                }
                Ok(Some(Event::Control { opcode, payload })) => {
                    self.messages.room().await;
                    self.control(opcode, payload);
                }
                Err(violation) => {
                    self.write_kept().await;
                    self.broken(violation);
                }
            }
            if until == Until::Between && self.is_between() {
                return;
            }
        }
    }

    /// Notes that the direction has ended; an end in the middle of a message is a fault.
    pub fn end(&mut self) {
        if self.tap.is_inside() {
            self.fail("the connection ended in the middle of a WebSocket message");
        }
    }

    /// Keeps a small payload, and has a large one written, in pieces that are not too small.
    async fn keep(&mut self, mut piece: Bytes) {
        let Some(open) = &mut self.open else { return };
        piece.truncate(usize::try_from(open.room).unwrap_or(usize::MAX));
        open.room -= piece.len() as u64;
        let len = self.kept.len() + piece.len();
        if len <= if open.is_out { GATHER } else { self.messages.inline_limit } {
            self.kept.extend_from_slice(&piece);
            return;
        }
        open.is_out = true;
        self.write_kept().await;
        if piece.len() < GATHER {
            self.kept.extend_from_slice(&piece);
        } else if let Some(writer) = &mut self.writer {
            writer.write(piece).await;
        }
    }

    /// Writes what is kept of a large payload.
    async fn write_kept(&mut self) {
        if !self.open.as_ref().is_some_and(|open| open.is_out) {
            return;
        }
        let side = if self.side == Side::Client { BodySide::MessageClient } else { BodySide::MessageServer };
        if self.writer.is_none() {
            self.writer = self.messages.live.body_writer(side);
        }
        if let Some(writer) = &mut self.writer
            && !self.kept.is_empty()
        {
            writer.write(std::mem::take(&mut self.kept).into()).await;
        }
    }

    fn finish(&mut self, facts: Ended, end: BodyEnd) {
        let Some(open) = self.open.take() else { return };
        let content = match &mut self.writer {
            Some(writer) if open.is_out => Content::Extents(writer.take_extents()),
            _ => Content::Inline(Bytes::copy_from_slice(&self.kept)),
        };
        self.kept.clear();
        let message = Message {
            seq: 0,
            from_client: self.side == Side::Client,
            opcode: open.opcode,
            at_us: open.at_us,
            len: facts.len,
            wire_len: facts.wire_len,
            coding: facts.coding,
            fragments: facts.fragments,
            injected: self.mark.injected,
            dropped: self.mark.dropped,
            end,
            content,
        };
        self.messages.push(message, facts.not_utf8);
    }

    fn control(&mut self, opcode: Opcode, mut payload: Bytes) {
        if opcode == Opcode::Close {
            self.closed = true;
            self.messages.closing(self.side, &payload);
        }
        let len = payload.len() as u64;
        payload.truncate(usize::try_from(self.messages.body_limit).unwrap_or(usize::MAX));
        let end = if (payload.len() as u64) < len { BodyEnd::Capped } else { BodyEnd::Whole };
        let message = Message {
            seq: 0,
            from_client: self.side == Side::Client,
            opcode,
            at_us: self.messages.live.now_us(),
            len,
            wire_len: len,
            coding: MessageCoding::Plain,
            fragments: 1,
            injected: false,
            dropped: false,
            end,
            content: Content::Inline(payload),
        };
        self.messages.push(message, false);
    }

    fn broken(&mut self, violation: Violation) {
        self.messages.lost_track.store(true, Ordering::Relaxed);
        self.fail(&violation.to_string());
        self.cut_off();
    }

    fn fail(&self, message: &str) {
        let state = if self.side == Side::Client { State::ClientAborted } else { State::ServerAborted };
        self.messages.live.fail(state, self.side, Stage::Tunnel, message);
    }

    /// Records what came of a message that does not end. One a direction at most, so it need not wait for room.
    fn cut_off(&mut self) {
        if let Some(facts) = self.tap.unfinished() {
            self.finish(facts, BodyEnd::CutOff);
        }
    }
}

impl Drop for MessageTee<'_> {
    fn drop(&mut self) {
        // If there is no room for it at once, a little more of the message is missing: it was cut off anyhow.
        let _ = pin!(self.write_kept()).poll(&mut Context::from_waker(Waker::noop()));
        self.cut_off();
    }
}

/// The least that is written at a time of a large payload: frames may be tiny, and each piece costs 32 bytes in the file and
/// as many in memory until the message ends.
const GATHER: usize = 16 * 1024;
