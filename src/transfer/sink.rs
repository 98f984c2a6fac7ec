//! Where the bodies and messages of a flow go that is being read from a file.

use std::io;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::flow::{Content, Flow, Message, State};
use crate::format::transfer::{Part, Sink};
use crate::record::{BodySide, BodyWriter, MessageWriter, Recorder, Ticket};

/// Small contents are gathered, larger ones go to segment files as they come. Its methods block.
pub(super) struct StoreSink {
    recorder: Recorder,
    runtime: Handle,
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
    /// What came last: all of it, or what follows behind what was written.
    gathered: Vec<u8>,
    large: Option<BodyWriter>,
}

impl StoreSink {
    pub(super) fn new(recorder: &Recorder, runtime: &Handle) -> Self {
        Self {
            recorder: recorder.clone(),
            runtime: runtime.clone(),
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

    /// Writes what was gathered.
    fn spill(&mut self, mut open: Open) -> Open {
        let mut writer = open.large.take().unwrap_or_else(|| self.writer(open.part));
        self.runtime.block_on(writer.write(Bytes::from(std::mem::take(&mut open.gathered))));
        open.large = Some(writer);
        open
    }
}

impl Sink for StoreSink {
    fn begin(&mut self, part: Part) {
        let is_open = |open: &Option<Open>| open.as_ref().is_some_and(|open| open.part == part);
        if !is_open(&self.open) && matches!(part, Part::FromClient | Part::FromServer) {
            std::mem::swap(&mut self.open, &mut self.other);
        }
        if !is_open(&self.open) {
            self.open = Some(Open { part, gathered: Vec::new(), large: None });
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(no_body)?;
        let full = PIECE.max(self.recorder.inline_limit() + 1);
        while !bytes.is_empty() {
            let fits = bytes.len().min(full - open.gathered.len());
            open.gathered.extend_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
            if open.gathered.len() == full {
                open = self.spill(open);
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        let mut open = self.open.take().ok_or_else(no_body)?;
        if open.large.is_some() || open.gathered.len() > self.recorder.inline_limit() {
            open = self.spill(open);
        }
        let Open { part, gathered, large } = open;
        let Some(mut writer) = large else { return Ok(Content::Inline(Bytes::from(gathered))) };
        let extents = writer.take_extents();
        if let Part::Message(from_client) = part {
            self.payloads[usize::from(from_client)] = Some(writer);
        }
        Ok(Content::Extents(extents))
    }

    fn whole(&mut self, part: Part, bytes: Bytes) -> io::Result<Content> {
        if bytes.len() <= self.recorder.inline_limit() {
            return Ok(Content::Inline(bytes));
        }
        let mut writer = self.writer(part);
        self.runtime.block_on(writer.write(bytes));
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

/// What is gathered before it is written. A decoder may hand a body over by single bytes, as they stand escaped in its file,
/// and each piece in a segment has a header; of a larger one, a copy would be in memory twice.
const PIECE: usize = 64 << 10;
