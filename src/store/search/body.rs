//! Looking into bodies: content-codings undone, as bytes and as text of their charset, the beginning of each, one at a time.

use std::cell::Cell;
use std::io::{self, Read};

use super::super::{Reader, StoreError};
use crate::filter::{Part, Pattern};
use crate::flow::{Body, BodyEnd, Content, Flow, Headers, Mid};
use crate::format::charset::Charset;
use crate::format::coding::{Caps, codings, undo};

/// Searches bodies of a store.
#[derive(Debug)]
pub(super) struct Bodies<'a> {
    reader: &'a Reader,
    /// Decoded bytes that are searched of each.
    max: u64,
    /// Where a body is while it is searched.
    buffer: Vec<u8>,
    /// Its text, where its charset is not UTF-8.
    text: String,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(reader: &'a Reader, max: u64) -> Self {
        Self { reader, max, buffer: Vec::new(), text: String::new() }
    }

    /// Whether a body of the flow, or the payload of a message of its WebSocket, matches. What was not recorded does not.
    /// Sets `damaged` if something could not be read; what could be read of it is searched.
    pub(super) fn contain(
        &mut self,
        flow: &Flow,
        mid: Mid,
        part: Part,
        pattern: &Pattern,
        damaged: &Cell<bool>,
    ) -> Result<bool, StoreError> {
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
            if is_there && self.matches(&body.content, headers, pattern, damaged)? {
                return Ok(true);
            }
        }
        if flow.websocket.is_none() {
            return Ok(false);
        }
        let mut after = 0;
        loop {
            let messages = self.reader.messages(mid, after, PAGE)?;
            let Some(last) = messages.last() else { return Ok(false) };
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
                    && self.matches(&message.content, None, pattern, damaged)?
                {
                    return Ok(true);
                }
            }
        }
    }

    fn matches(
        &mut self,
        content: &Content,
        headers: Option<&Headers>,
        pattern: &Pattern,
        damaged: &Cell<bool>,
    ) -> Result<bool, StoreError> {
        // What is in a coding that we do not know is searched as it is, as mitmproxy does.
        let codings = headers.map_or(Ok(Vec::new()), codings).unwrap_or_default();
        if let Content::Inline(bytes) = content
            && codings.is_empty()
        {
            let len = usize::try_from(self.max).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(self.matches_decoded(&bytes[..len], headers, pattern));
        }
        let stored = Watched { inner: self.reader.content(content)?, failed: damaged };
        self.buffer.clear();
        // The length alone bounds the work, so that a page of blanks is searched, too.
        let mut body = undo(stored, &codings, Caps { max_len: None }).take(self.max);
        // A body that is cut off, or not what its coding says, is searched as far as it could be decoded.
        let _ = body.read_to_end(&mut self.buffer);
        drop(body);
        let buffer = std::mem::take(&mut self.buffer);
        let answer = self.matches_decoded(&buffer, headers, pattern);
        if buffer.capacity() <= KEPT_BYTES {
            self.buffer = buffer;
        }
        Ok(answer)
    }

    /// Searches a body as bytes, and where those would not show what is meant, as text.
    fn matches_decoded(&mut self, bytes: &[u8], headers: Option<&Headers>, pattern: &Pattern) -> bool {
        if pattern.is_match(bytes) {
            return true;
        }
        let charset = headers.and_then(Charset::of);
        // A pattern of ASCII finds in Latin-1, Shift JIS and their like what it finds in UTF-8.
        let charset = charset.filter(|charset| !charset.is_ascii_compatible() || !pattern.text().is_ascii());
        let Some(charset) = charset else { return false };
        charset.decode(bytes, usize::try_from(self.max).unwrap_or(usize::MAX), &mut self.text);
        let answer = pattern.is_match(self.text.as_bytes());
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        answer
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

/// What the buffer keeps between bodies.
const KEPT_BYTES: usize = 1 << 20;
