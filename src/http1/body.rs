//! Reading bodies: framed bytes in, payload and trailers out.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::framing::BodyLength;
use super::head::{HeadError, HeadLimits, find_head_end, has_bare_lf, parse_trailers};
use crate::flow::Headers;

/// Why a body could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The connection ended first.
    #[error("closed {missing} bytes before the end of the body")]
    Short {
        /// Bytes of a declared length that did not come.
        missing: u64,
    },
    /// The connection ended between or inside chunks.
    #[error("closed before the last chunk")]
    ShortChunked,
    /// Not `1*HEXDIG [;extension] CRLF`, or a size beyond 63 bits.
    #[error("invalid chunk size line")]
    ChunkSize,
    /// A chunk is not followed by CRLF.
    #[error("chunk data without its CRLF")]
    ChunkEnd,
    /// Chunk extensions beyond 4 KiB in a line or 16 KiB in a body.
    #[error("chunk extensions are too long")]
    Extensions,
    /// The trailer section is malformed or too long.
    #[error("trailer section: {0}")]
    Trailers(#[source] HeadError),
}

/// What came out of a decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// More input is needed.
    More,
    /// Payload; never empty.
    Data(Bytes),
    /// The body's end, with its trailer section if it had a non-empty one.
    End(Option<Headers>),
}

/// The state of one body being read.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    chunked: bool,
    wire_len: u64,
    extension_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Close,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers { scanned: usize },
    Done,
}

impl Decoder {
    /// A decoder for a body of this length.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(len) => State::Length(len),
            BodyLength::Chunked => State::ChunkSize,
            BodyLength::Close => State::Close,
        };
        Self { state, chunked: length == BodyLength::Chunked, wire_len: 0, extension_bytes: 0 }
    }

    /// Whether the body's end has been told.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the body comes in chunks.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Bytes taken from the wire so far, framing included.
    #[must_use]
    pub fn wire_len(&self) -> u64 {
        self.wire_len
    }

    /// Takes what it can from the front of `buf`; `eof` says that nothing will follow.
    ///
    /// # Errors
    /// If the framing is broken or the end came too early. The decoder must not be used again.
    pub fn decode(&mut self, buf: &mut BytesMut, eof: bool) -> Result<Decoded, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Decoded::End(None)),
                State::Length(left) => {
                    let Some(data) = self.take(buf, left) else {
                        return if eof { Err(BodyError::Short { missing: left }) } else { Ok(Decoded::More) };
                    };
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                State::Close => {
                    let Some(data) = self.take(buf, u64::MAX) else {
                        if eof {
                            self.state = State::Done;
                        }
                        return Ok(if eof { Decoded::End(None) } else { Decoded::More });
                    };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkData(left) => {
                    let Some(data) = self.take(buf, left) else { return more(eof) };
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => match buf[..] {
                    [b'\r', b'\n', ..] => {
                        self.skip(buf, 2);
                        self.state = State::ChunkSize;
                    }
                    [] | [b'\r'] => return more(eof),
                    _ => return Err(BodyError::ChunkEnd),
                },
                State::ChunkSize => match self.chunk_size(buf)? {
                    None => return more(eof),
                    Some(0) => self.state = State::Trailers { scanned: 0 },
                    Some(size) => self.state = State::ChunkData(size),
                },
                State::Trailers { scanned } => match self.trailers(buf, scanned)? {
                    None => return more(eof),
                    Some(trailers) => {
                        self.state = State::Done;
                        return Ok(Decoded::End(trailers));
                    }
                },
            }
        }
    }

    /// Up to `limit` bytes of payload. Small ones are copied, so that a recorded piece does not keep a whole read
    /// buffer alive and the buffer is used again; large ones are shared.
    fn take(&mut self, buf: &mut BytesMut, limit: u64) -> Option<Bytes> {
        const COPY_UP_TO: usize = 8 * 1024;
        let len = usize::try_from(limit).unwrap_or(usize::MAX).min(buf.len());
        if len == 0 {
            return None;
        }
        self.wire_len += len as u64;
        if len > COPY_UP_TO {
            return Some(buf.split_to(len).freeze());
        }
        let data = Bytes::copy_from_slice(&buf[..len]);
        buf.advance(len);
        Some(data)
    }

    fn skip(&mut self, buf: &mut BytesMut, len: usize) {
        buf.advance(len);
        self.wire_len += len as u64;
    }

    /// One `chunk-size [chunk-ext] CRLF` (RFC 9112 §7.1). Extensions are passed over, within bounds.
    fn chunk_size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, BodyError> {
        let Some(lf) = memchr::memchr(b'\n', &buf[..buf.len().min(MAX_CHUNK_LINE)]) else {
            if buf.len() >= MAX_CHUNK_LINE {
                return Err(BodyError::Extensions);
            }
            // Refuse what cannot become a size at once, rather than wait for its line to end.
            let bare_cr = memchr::memchr(b'\r', buf).is_some_and(|at| at + 1 < buf.len());
            return if buf.first().is_none_or(u8::is_ascii_hexdigit) && !bare_cr {
                Ok(None)
            } else {
                Err(BodyError::ChunkSize)
            };
        };
        let Some(line) = buf[..lf].strip_suffix(b"\r") else { return Err(BodyError::ChunkSize) };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        // At most 15 digits: 60 bits, so nothing overflows. Only `;` may follow, and no control character but TAB.
        let well_formed = (1..=15).contains(&digits)
            && (extension.is_empty() || extension[0] == b';')
            && !extension.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f);
        if !well_formed {
            return Err(BodyError::ChunkSize);
        }
        self.extension_bytes += extension.len();
        if self.extension_bytes > MAX_EXTENSIONS {
            return Err(BodyError::Extensions);
        }
        let size = line[..digits]
            .iter()
            .fold(0u64, |sum, &digit| sum * 16 + u64::from(char::from(digit).to_digit(16).unwrap_or(0)));
        self.skip(buf, lf + 1);
        Ok(Some(size))
    }

    /// The trailer section after the last chunk: `Some(None)` where it is empty.
    fn trailers(&mut self, buf: &mut BytesMut, scanned: usize) -> Result<Option<Option<Headers>>, BodyError> {
        match buf[..] {
            [b'\r', b'\n', ..] => {
                self.skip(buf, 2);
                return Ok(Some(None));
            }
            [] | [b'\r'] => return Ok(None),
            _ => {}
        }
        let limits = HeadLimits { max_bytes: MAX_TRAILERS, max_fields: 100 };
        let Some(end) = find_head_end(buf, scanned) else {
            if has_bare_lf(buf) {
                return Err(BodyError::Trailers(HeadError::BareLf));
            }
            if buf.len() > MAX_TRAILERS {
                return Err(BodyError::Trailers(HeadError::TooLong { limit: MAX_TRAILERS }));
            }
            self.state = State::Trailers { scanned: buf.len() };
            return Ok(None);
        };
        let trailers = parse_trailers(&buf[..end], &limits).map_err(BodyError::Trailers)?;
        self.skip(buf, end);
        Ok(Some(Some(trailers)))
    }
}

fn more(eof: bool) -> Result<Decoded, BodyError> {
    if eof { Err(BodyError::ShortChunked) } else { Ok(Decoded::More) }
}

/// Longest chunk-size line, extensions included. Arbitrary; real ones have under 20 bytes.
pub(super) const MAX_CHUNK_LINE: usize = 4 * 1024;
/// Most bytes of chunk extensions in one body (compare Go's CVE-2023-39326: endless extensions for tiny chunks).
pub(super) const MAX_EXTENSIONS: usize = 16 * 1024;
/// Longest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
