//! Requests and responses.

use bytes::Bytes;

use super::{Body, Headers};

/// The protocol version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl Version {
    /// `HTTP/1.1` and so on; `HTTP/2.0` and `HTTP/3.0` as HAR writes them.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
            Version::Http3 => "HTTP/3.0",
        }
    }
}

/// A request as the client sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Method, as spelled. Empty if the head could not be parsed: then `raw_head` has what came.
    pub method: Bytes,
    /// Request-target, as spelled: origin-form, absolute-form, authority-form or `*` (RFC 9112 §3.2). In HTTP/2 it is
    /// `:path`.
    pub target: Bytes,
    /// Version of the client's message, not of what we sent on.
    pub version: Version,
    /// Its fields. Credentials for the proxy (`Proxy-Authorization`) are left out, their name kept.
    pub headers: Headers,
    /// The head byte for byte, **only** where writing the fields above in canonical form (single blanks, CRLF) would
    /// not give the same bytes back: odd white space, bare LF, a head that could not be parsed.
    pub raw_head: Option<Bytes>,
    /// Length of the head on the wire, bytes.
    pub head_len: u64,
    /// Its body; an empty one with [`super::Framing::None`] where it had none.
    pub body: Body,
    /// Trailer fields; `None` where there was no trailer section.
    pub trailers: Option<Box<Headers>>,
    /// HTTP/2's `:scheme` (RFC 9113 §8.3.1); `None` in HTTP/1, and of a plain `CONNECT`.
    pub scheme: Option<Bytes>,
    /// HTTP/2's `:authority`; `None` where it was left out. A `Host` field stands among the fields. The target of a
    /// plain `CONNECT` is here, too, and in `target`.
    pub authority: Option<Bytes>,
    /// HTTP/2's `:protocol`, of an extended `CONNECT` (RFC 8441 §4).
    pub protocol: Option<Bytes>,
    /// The fields as rules have made them, from which those that went on were made; `None`: no rule changed them.
    pub changed: Option<Box<Headers>>,
}

impl Request {
    /// Path and query: the target without scheme and authority, `/` for an absolute-form target without a path.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        let target = &self.target[..];
        if target.starts_with(b"/") {
            return target;
        }
        let Some(colon) = target.windows(3).position(|w| w == b"://") else { return target };
        let rest = &target[colon + 3..];
        rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).map_or(b"/", |at| &rest[at..])
    }
}

/// A final response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase, as spelled; may be empty.
    pub reason: Bytes,
    /// Version of the origin's message.
    pub version: Version,
    /// Its fields.
    pub headers: Headers,
    /// As for [`Request::raw_head`]. Of a response of our own: what came from the origin in its place and could not be
    /// relayed, if anything did.
    pub raw_head: Option<Bytes>,
    /// Length of the head on the wire, bytes.
    pub head_len: u64,
    /// Its body.
    pub body: Body,
    /// Trailer fields; `None` where there was no trailer section.
    pub trailers: Option<Box<Headers>>,
    /// Whether we made this response ourselves, because there was none to relay.
    pub by_proxy: bool,
}

/// A 1xx response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interim {
    /// Status code, 100 to 199, not 101.
    pub status: u16,
    /// Reason phrase.
    pub reason: Bytes,
    /// Its fields.
    pub headers: Headers,
    /// Microseconds after the flow's start.
    pub at_us: u64,
}

/// Bytes that were relayed unread, each direction as one body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tunnel {
    /// What it turned out to be, or why it was left alone: `unknown`, `silent client`, `upgrade websocket`, ….
    pub reason: String,
    /// From the client to the origin.
    pub from_client: Body,
    /// From the origin to the client.
    pub from_server: Body,
}
