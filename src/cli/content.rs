//! The bytes of a recorded message: which body is meant, how it is read, and whether it is all there.

use std::io::{self, Read};

use crate::flow::{Body, BodyEnd, Content, Flow, Headers, State};
use crate::format::coding::{self, Caps};
use crate::store::Reader;

/// Which direction is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// From the client.
    Request,
    /// From the origin.
    Response,
}

impl Part {
    /// `request` or `response`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Part::Request => "request",
            Part::Response => "response",
        }
    }
}

/// A body with the fields that say how it is coded; `None` for the fields of a tunnel, which has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) body: &'a Body,
    pub(super) headers: Option<&'a Headers>,
}

/// What was read from the store is not what was written; stands inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct StoredBodyFailed(#[source] pub(super) io::Error);

/// The message of `flow` in that direction; what was relayed unread goes before an (empty) body. `None` where none came.
pub(super) fn message(flow: &Flow, part: Part) -> Option<Message<'_>> {
    if let Some(tunnel) = &flow.tunnel {
        let body = if part == Part::Request { &tunnel.from_client } else { &tunnel.from_server };
        return Some(Message { body, headers: None });
    }
    match part {
        Part::Request => flow.request.as_ref().map(|m| Message { body: &m.body, headers: Some(&m.headers) }),
        Part::Response => {
            flow.response.as_ref().map(|m| Message { body: &m.body, headers: Some(&m.headers) })
        }
    }
}

/// Why there is nothing, in words.
pub(super) fn why_missing(flow: &Flow) -> String {
    match &flow.error {
        Some(error) => format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message),
        None if flow.state == State::Open => "It was still going on when it was last written.".to_owned(),
        None => format!("It ended as {}.", flow.state.as_str()),
    }
}

/// Why what is there is not all of it; `None` if it is.
pub(super) fn why_not_whole(body: &Body) -> Option<String> {
    let end = match body.end {
        BodyEnd::Whole | BodyEnd::Capped => "",
        BodyEnd::Open => "It was still going on when it was last written.",
        BodyEnd::CutOff => "It was cut off on the wire.",
        BodyEnd::Lost => "The store could not take the rest of it.",
    };
    if !body.is_truncated() {
        return (!end.is_empty()).then(|| end.to_owned());
    }
    let (kept, len) = (body.recorded_len(), body.len);
    let cap = format!("The record holds the first {kept} of the {len} bytes that passed (--body-limit).");
    Some(if end.is_empty() { cap } else { format!("{end} {cap}") })
}

/// Whether bytes of the body passed and none is kept.
pub(super) fn is_absent(body: &Body) -> bool {
    body.content == Content::Absent && (body.len > 0 || body.end == BodyEnd::Lost)
}

/// The body as it was on the wire.
///
/// # Errors
/// If its pieces cannot be opened.
pub(super) fn wire<'a>(store: &'a Reader, body: &'a Body) -> anyhow::Result<Box<dyn Read + 'a>> {
    if body.content == Content::Absent {
        return Ok(Box::new(io::empty()));
    }
    Ok(Box::new(Stored(store.body(body)?)))
}

/// The body with its content-codings undone.
///
/// # Errors
/// If its pieces cannot be opened, or a coding is not known.
pub(super) fn decoded<'a>(
    store: &'a Reader,
    message: Message<'a>,
    caps: Caps,
) -> anyhow::Result<Box<dyn Read + 'a>> {
    let codings = message.headers.map_or(Ok(Vec::new()), coding::codings)?;
    Ok(coding::undo(wire(store, message.body)?, &codings, caps))
}

/// Whether bytes are no text that a person could read, by the beginning of them.
pub(super) fn is_binary(beginning: &[u8]) -> bool {
    if beginning.contains(&0) {
        return true;
    }
    let odd: usize = beginning
        .utf8_chunks()
        .map(|chunk| {
            let control = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x1b' | '\x0c');
            // A character cut at the end of the beginning is no sign of anything.
            chunk.valid().chars().filter(control).count() + usize::from(!chunk.invalid().is_empty())
        })
        .sum();
    odd > 1 && odd * 10 > beginning.len()
}

/// Reads until `buffer` is full or the end: how many bytes, and what ended it early.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

struct Stored<R>(R);

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|error| io::Error::new(error.kind(), StoredBodyFailed(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_are_told_apart() {
        for text in ["", "hello\n", "{\"grüße\": 1}\r\n", "\x1b[31mred\x1b[0m"] {
            assert!(!is_binary(text.as_bytes()), "{text:?}");
        }
        assert!(!is_binary(&"日本".as_bytes()[..4]));
        assert!(!is_binary("caf\u{e9} and a long latin-1 text".as_bytes()));
        for binary in [&b"\x89PNG\r\n\x1a\n\0"[..], b"\x1f\x8b\x08\xff\xfe\xfd", b"\x01\x02\x03\x04"] {
            assert!(is_binary(binary), "{binary:?}");
        }
    }
}
