//! A recorded body: what passed, where it is kept, and how it ended.

use bytes::Bytes;

/// A message body as it was recorded: the payload after transfer decoding, still in its content-coding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// The bytes, or where they are.
    pub content: Content,
    /// Payload bytes that passed, recorded or not. `content` holds at most as many.
    pub len: u64,
    /// Bytes on the wire including transfer framing (chunk lines, trailers). At least `len`.
    pub wire_len: u64,
    /// How its end was told.
    pub framing: Framing,
    /// Whether it came to its end.
    pub end: BodyEnd,
}

impl Body {
    /// A whole body with a known length, kept in place.
    #[must_use]
    pub fn inline(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        let framing = if bytes.is_empty() { Framing::None } else { Framing::Length };
        Self { content: Content::Inline(bytes), len, wire_len: len, framing, end: BodyEnd::Whole }
    }

    /// The recorded bytes if they are kept in place.
    #[must_use]
    pub fn as_inline(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Inline(bytes) => Some(bytes),
            Content::Absent | Content::Extents(_) => None,
        }
    }

    /// Payload bytes that are recorded: at most `len`.
    #[must_use]
    pub fn recorded_len(&self) -> u64 {
        match &self.content {
            Content::Absent => 0,
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Extents(extents) => extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.len)),
        }
    }

    /// Whether a cap kept some of what passed out of the record. With [`BodyEnd::CutOff`] beside it, the body was cut off
    /// on the wire, too, at `len`.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.end == BodyEnd::Capped
            || (self.end != BodyEnd::Lost
                && self.content != Content::Absent
                && self.recorded_len() < self.len)
    }

    /// Keeps at most `limit` bytes of a body that is kept in place.
    pub fn cap(&mut self, limit: u64) {
        if let Content::Inline(bytes) = &mut self.content
            && let Ok(limit) = usize::try_from(limit)
            && bytes.len() > limit
        {
            bytes.truncate(limit);
            if self.end == BodyEnd::Whole {
                self.end = BodyEnd::Capped;
            }
        }
    }
}

/// Where the bytes of a body are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// They were not recorded. Not the same as an empty body.
    #[default]
    Absent,
    /// Here.
    Inline(Bytes),
    /// In segment files beside the database, in this order.
    Extents(Vec<Extent>),
}

/// A run of contiguous pieces of one body in a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of the segment file, from 1.
    pub segment: u32,
    /// Byte offset of the first piece's header in the file.
    pub offset: u64,
    /// Bytes in the file, headers of pieces included.
    pub stored_len: u64,
    /// Bytes of body.
    pub len: u64,
}

/// How the end of a body was told (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is none: by method, by status, or no framing field in a request.
    #[default]
    None,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection closes.
    Close,
    /// HTTP/2's END_STREAM (RFC 9113 §8.1), also where there is a `Content-Length`.
    Stream,
}

impl Framing {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [Framing; 5] =
        [Framing::None, Framing::Length, Framing::Chunked, Framing::Close, Framing::Stream];

    /// `none`, `length`, `chunked`, `close` or `stream`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Framing::None => "none",
            Framing::Length => "length",
            Framing::Chunked => "chunked",
            Framing::Close => "close",
            Framing::Stream => "stream",
        }
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyEnd {
    /// It had not ended when this was written.
    #[default]
    Open,
    /// It came to the end that its framing told, and all of it is recorded.
    Whole,
    /// The peer went away, or we stopped, before its end. Whether a cap kept some of it out of the record besides, tells
    /// [`Body::is_truncated`].
    CutOff,
    /// It passed whole, but a cap kept the rest of it out of the record.
    Capped,
    /// It passed, but the store could not take it.
    Lost,
}

impl BodyEnd {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [BodyEnd; 5] =
        [BodyEnd::Open, BodyEnd::Whole, BodyEnd::CutOff, BodyEnd::Capped, BodyEnd::Lost];

    /// `open`, `whole`, `cut-off`, `capped` or `lost`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BodyEnd::Open => "open",
            BodyEnd::Whole => "whole",
            BodyEnd::CutOff => "cut-off",
            BodyEnd::Capped => "capped",
            BodyEnd::Lost => "lost",
        }
    }
}
