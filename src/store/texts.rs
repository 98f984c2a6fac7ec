//! The texts of a flow that filters look into: bodies with their content-codings undone, what passed through a tunnel, the
//! payloads of a WebSocket's messages; the beginning of each, one at a time.
//!
//! A search and the index of bodies both ask here, so that what the one finds is what the other has noted.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;

use super::{Reader, StoreError};
use crate::filter::Part;
use crate::flow::{Body, BodyEnd, Content, Flow, Headers, Mid};
use crate::format::charset::Charset;
use crate::format::coding::{Caps, codings, undo};

/// Reads texts of a store.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    reader: &'a Reader,
    /// Decoded bytes that are read of each.
    max: u64,
    /// Where a text is while it is looked at.
    buffer: Vec<u8>,
}

/// A text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Its bytes, as they are.
    pub(super) bytes: &'a [u8],
    /// Their charset, if it is known and not UTF-8.
    pub(super) charset: Option<Charset>,
    /// Whether there are more than `max`, so that the rest is left out.
    pub(super) is_cut: bool,
}

impl<'a> Texts<'a> {
    /// Reads up to `max` decoded bytes of each.
    pub(super) fn new(reader: &'a Reader, max: u64) -> Self {
        Self { reader, max, buffer: Vec::new() }
    }

    /// Decoded bytes that are read of each.
    pub(super) fn max(&self) -> usize {
        usize::try_from(self.max).unwrap_or(usize::MAX)
    }

    /// Gives each text of a part of the flow to `see`, which may stop it; whether it did. What was not recorded is left out.
    /// Sets `damaged` if something could not be read; what could be read of it is given.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a message cannot be decoded; else what SQLite said.
    pub(super) fn each(
        &mut self,
        flow: &Flow,
        mid: Mid,
        part: Part,
        damaged: &Cell<bool>,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut bodies: Vec<(&Body, Option<&Headers>)> = Vec::new();
        if part != Part::Response {
            bodies.extend(flow.request.as_ref().map(|r| (&r.body, Some(&r.headers))));
            bodies.extend(flow.tunnel.as_ref().map(|t| (&t.from_client, None)));
        }
        if part != Part::Request {
            bodies.extend(flow.response.as_ref().map(|r| (&r.body, Some(&r.headers))));
            bodies.extend(flow.tunnel.as_ref().map(|t| (&t.from_server, None)));
        }
        for (body, headers) in bodies {
            let is_there = body.content != Content::Absent || (body.len == 0 && body.end != BodyEnd::Lost);
            if is_there && self.one(&body.content, headers, damaged, see)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if flow.websocket.is_none() {
            return Ok(ControlFlow::Continue(()));
        }
        let mut after = 0;
        loop {
            let messages = self.reader.messages(mid, after, PAGE)?;
            let Some(last) = messages.last() else { return Ok(ControlFlow::Continue(())) };
            after = last.seq;
            for message in &messages {
                let wanted = match part {
                    Part::Either => true,
                    Part::Request => message.from_client,
                    Part::Response => !message.from_client,
                };
                let is_there = message.content != Content::Absent || message.len == 0;
                if wanted
                    && is_there
                    && message.opcode.is_data()
                    && self.one(&message.content, None, damaged, see)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }

    fn one(
        &mut self,
        content: &Content,
        headers: Option<&Headers>,
        damaged: &Cell<bool>,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let max = self.max();
        let mut give = |bytes: &[u8]| {
            let is_cut = bytes.len() > max;
            see(Seen {
                bytes: &bytes[..bytes.len().min(max)],
                charset: headers.and_then(Charset::of),
                is_cut,
            })
        };
        // What is in a coding that we do not know is searched as it is, as mitmproxy does.
        let codings = headers.map_or(Ok(Vec::new()), codings).unwrap_or_default();
        if let Content::Inline(bytes) = content
            && codings.is_empty()
        {
            return Ok(give(bytes));
        }
        let stored = Watched { inner: self.reader.content(content)?, failed: damaged };
        self.buffer.clear();
        // The length alone bounds the work, so that a page of blanks is searched, too.
        let mut body = undo(stored, &codings, Caps { max_len: None }).take(self.max.saturating_add(1));
        // A body that is cut off, or not what its coding says, is searched as far as it could be decoded.
        let _ = body.read_to_end(&mut self.buffer);
        drop(body);
        let flow = give(&self.buffer);
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        Ok(flow)
    }
}

/// Notes that reading from the store failed, which decoding could not tell from a coding that is broken.
struct Watched<'a, R> {
    inner: R,
    failed: &'a Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed.set(true);
            }
        })
    }
}

/// Messages in memory at a time.
const PAGE: usize = 64;

/// What the buffer keeps between texts.
pub(super) const KEPT_BYTES: usize = 1 << 20;
