//! Where the bodies and messages of a flow go that is being read from a file.

use std::io;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::flow::{Content, Flow, Message, State};
use crate::format::transfer::{Part, Sink};
use crate::record::{BodySide, BodyWriter, MessageWriter, Recorder, Ticket};

/// Small contents are gathered, larger ones go to segment files as they come. Its methods block.
pub(super) struct StoreSink<'a> {
    recorder: &'a Recorder,
    runtime: &'a Handle,
    ticket: Option<Ticket>,
    messages: Option<MessageWriter>,
    /// What is being written; `None` between contents.
    open: Option<Open>,
    /// The other direction of a tunnel, which may go on.
    other: Option<Open>,
    /// Payloads of messages go on in one body a direction: from the origin, from the client.
    payloads: [Option<BodyWriter>; 2],
}

/// A body that is being written.
struct Open {
    part: Part,
    small: Vec<u8>,
    large: Option<BodyWriter>,
}

impl<'a> StoreSink<'a> {
    pub(super) fn new(recorder: &'a Recorder, runtime: &'a Handle) -> Self {
        Self {
            recorder,
            runtime,
            ticket: None,
            messages: None,
            open: None,
            other: None,
            payloads: [None, None],
        }
    }

    /// The flow's place: reserved when its first large body comes, or now.
    pub(super) fn into_ticket(mut self) -> Ticket {
        self.take_ticket()
    }

    fn take_ticket(&mut self) -> Ticket {
        self.ticket.take().unwrap_or_else(|| self.runtime.block_on(self.recorder.admit()))
    }

    /// Takes back what was written of a flow that turned out to be none.
    pub(super) fn discard(self) {
        if let Some(ticket) = self.ticket {
            ticket.discard();
        }
    }

    fn writer(&mut self, part: Part) -> BodyWriter {
        let ticket = self.take_ticket();
        let side = match part {
            Part::Request => BodySide::Request,
            Part::Response => BodySide::Response,
            Part::FromClient => BodySide::TunnelClient,
            Part::FromServer => BodySide::TunnelServer,
            Part::Message(true) => BodySide::MessageClient,
            Part::Message(false) => BodySide::MessageServer,
        };
        let kept = match part {
            Part::Message(from_client) => self.payloads[usize::from(from_client)].take(),
            _ => None,
        };
        let writer = kept.unwrap_or_else(|| ticket.body(side));
        self.ticket = Some(ticket);
        writer
    }
}

impl Sink for StoreSink<'_> {
    fn begin(&mut self, part: Part) {
        let is_open = |open: &Option<Open>| open.as_ref().is_some_and(|open| open.part == part);
        if !is_open(&self.open) && matches!(part, Part::FromClient | Part::FromServer) {
            std::mem::swap(&mut self.open, &mut self.other);
        }
        if !is_open(&self.open) {
            self.open = Some(Open { part, small: Vec::new(), large: None });
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(no_body)?;
        if open.large.is_none() && open.small.len() + bytes.len() <= self.recorder.inline_limit() {
            open.small.extend_from_slice(bytes);
            self.open = Some(open);
            return Ok(());
        }
        let writer = match &mut open.large {
            Some(writer) => writer,
            none => {
                let writer = none.insert(self.writer(open.part));
                self.runtime.block_on(writer.write(Bytes::from(std::mem::take(&mut open.small))));
                writer
            }
        };
        for piece in bytes.chunks(PIECE) {
            self.runtime.block_on(writer.write(Bytes::copy_from_slice(piece)));
        }
        self.open = Some(open);
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        let Open { part, small, large } = self.open.take().ok_or_else(no_body)?;
        let Some(mut writer) = large else { return Ok(Content::Inline(Bytes::from(small))) };
        let extents = writer.take_extents();
        if let Part::Message(from_client) = part {
            self.payloads[usize::from(from_client)] = Some(writer);
        }
        Ok(Content::Extents(extents))
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        if self.messages.is_none() {
            let mut ticket = self.take_ticket();
            // So that they have a flow if this process ends now.
            ticket.write_open(&Flow { state: State::Open, ..Flow::default() });
            self.messages = Some(ticket.messages());
            self.ticket = Some(ticket);
        }
        if let Some(messages) = &self.messages {
            self.runtime.block_on(messages.room());
            messages.push(message);
        }
        Ok(())
    }
}

/// A decoder that writes outside of [`Sink::begin`] and [`Sink::end`].
fn no_body() -> io::Error {
    io::Error::other("no body was begun")
}

/// Of a larger piece, a copy would be in memory twice.
const PIECE: usize = 64 << 10;
