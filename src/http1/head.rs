//! Reading heads: bytes in, request or response out, or the reason why not.
//!
//! The grammar is `httparse`'s; what it lets through and we do not (bare LF in requests, two readings of one line)
//! is refused here. It does not look at framing fields: see `framing`.

use std::mem::MaybeUninit;

use bytes::Bytes;
use thiserror::Error;

use crate::flow::{Headers, Request, Response, Version};

/// Limits on a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Longest head, first line and last CRLF included.
    pub max_bytes: usize,
    /// Most fields.
    pub max_fields: usize,
}

impl Default for HeadLimits {
    /// 256 KiB and 1,000 fields: far above what browsers and servers send, small enough for thousands of connections.
    fn default() -> Self {
        Self { max_bytes: 256 * 1024, max_fields: 1000 }
    }
}

/// Why a head was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// More bytes than [`HeadLimits::max_bytes`].
    #[error("head is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// More fields than [`HeadLimits::max_fields`].
    #[error("head has more than {limit} fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
    /// The first line is not `METHOD SP target SP HTTP/1.x`, or not a status line.
    #[error("malformed {what}")]
    FirstLine {
        /// `request line` or `status line`.
        what: &'static str,
    },
    /// The version is not HTTP/1.0 or HTTP/1.1.
    #[error("unsupported protocol version")]
    Version,
    /// A field name is empty, has a blank before its colon or a character that no name may have.
    #[error("invalid field name")]
    FieldName,
    /// A field value holds a control character.
    #[error("invalid field value")]
    FieldValue,
    /// A line ends in LF without CR (RFC 9112 §2.2 allows to accept it; two parsers that differ there are a hole).
    #[error("line ends in a bare LF")]
    BareLf,
}

/// What a parser made of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head is not whole yet.
    Incomplete,
    /// The message without its body, and how many bytes its head took.
    Head(T, usize),
}

/// The length of the head at the start of `buf`, up to and including its empty line, if it is whole.
/// `scanned` bytes are known to hold no end; pass the length of the last try, so that a head that trickles in
/// byte by byte costs no more than one that comes at once.
#[must_use]
pub fn find_head_end(buf: &[u8], scanned: usize) -> Option<usize> {
    let start = scanned.saturating_sub(3);
    memchr::memchr_iter(b'\n', &buf[start..]).map(|i| start + i).find_map(|at| match buf[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Parses the head of a request (RFC 9112 §3, §5). `head` is one whole head as [`find_head_end`] delimits it.
///
/// # Errors
/// If it is malformed or exceeds `limits`.
pub fn parse_request(head: &[u8], limits: &HeadLimits) -> Result<Parsed<Request>, HeadError> {
    if head.len() > limits.max_bytes {
        return Err(HeadError::TooLong { limit: limits.max_bytes });
    }
    with_header_slots(limits.max_fields, |slots| {
        let mut parsed = httparse::Request::new(&mut []);
        let len = match httparse::ParserConfig::default().parse_request_with_uninit_headers(
            &mut parsed,
            head,
            slots,
        ) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Incomplete),
            Err(error) => return Err(head_error(error, "request line", limits)),
        };
        if has_bare_lf(&head[..len]) {
            return Err(HeadError::BareLf);
        }
        let text = Bytes::copy_from_slice(&head[..len]);
        let range = |part: &[u8]| range_in(head, part);
        let method = range(parsed.method.unwrap_or_default().as_bytes());
        let target = range(parsed.path.unwrap_or_default().as_bytes());
        let first_line = method.len() + target.len() + " ".len() * 2 + "HTTP/1.1\r\n".len();
        let canonical =
            target.start == method.len() + 1 && is_canonical(head, len, first_line, parsed.headers);
        Ok(Parsed::Head(
            Request {
                method: text.slice(method),
                target: text.slice(target),
                version: version(parsed.version),
                headers: fields(&text, head, parsed.headers),
                raw_head: (!canonical).then(|| text.clone()),
                head_len: len as u64,
                ..Request::default()
            },
            len,
        ))
    })
}

/// Parses the head of a response (RFC 9112 §4, §5). Folded fields and blanks before a colon are taken, as RFC 9112
/// §5.1 and §5.2 ask of a proxy; they go on repaired, and the record keeps the raw head.
///
/// # Errors
/// If it is malformed or exceeds `limits`.
pub fn parse_response(head: &[u8], limits: &HeadLimits) -> Result<Parsed<Response>, HeadError> {
    if head.len() > limits.max_bytes {
        return Err(HeadError::TooLong { limit: limits.max_bytes });
    }
    with_header_slots(limits.max_fields, |slots| {
        let mut parsed = httparse::Response::new(&mut []);
        let len = match httparse::ParserConfig::default()
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .parse_response_with_uninit_headers(&mut parsed, head, slots)
        {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Incomplete),
            Err(error) => return Err(head_error(error, "status line", limits)),
        };
        // A status below 100 has no class (RFC 9110 §15).
        let Some(status @ 100..) = parsed.code else {
            return Err(HeadError::FirstLine { what: "status line" });
        };
        let text = Bytes::copy_from_slice(&head[..len]);
        let reason = reason_range(head);
        let canonical = head.starts_with(b"HTTP/1.")
            && is_canonical(head, len, reason.end + 2, parsed.headers)
            && head[12] == b' ';
        Ok(Parsed::Head(
            Response {
                status,
                reason: text.slice(reason),
                version: version(parsed.version),
                headers: fields(&text, head, parsed.headers),
                raw_head: (!canonical).then(|| text.clone()),
                head_len: len as u64,
                ..Response::default()
            },
            len,
        ))
    })
}

/// Parses a trailer section: fields up to and including an empty line (RFC 9112 §7.1.2).
///
/// # Errors
/// If it is malformed or exceeds `limits`.
pub fn parse_trailers(section: &[u8], limits: &HeadLimits) -> Result<Headers, HeadError> {
    if section.len() > limits.max_bytes {
        return Err(HeadError::TooLong { limit: limits.max_bytes });
    }
    if has_bare_lf(section) {
        return Err(HeadError::BareLf);
    }
    let mut slots = vec![httparse::EMPTY_HEADER; limits.max_fields];
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, parsed))) => {
            Ok(fields(&Bytes::copy_from_slice(section), section, parsed))
        }
        Ok(httparse::Status::Partial) => Err(HeadError::FieldName),
        Err(error) => Err(head_error(error, "trailer section", limits)),
    }
}

/// Runs `parse` with room for the fields: on the stack where they are few, as nearly always, else on the heap.
fn with_header_slots<'h, T>(
    max_fields: usize,
    parse: impl Fn(&mut [MaybeUninit<httparse::Header<'h>>]) -> Result<T, HeadError>,
) -> Result<T, HeadError> {
    const FEW: usize = 64;
    let mut few = [MaybeUninit::uninit(); FEW];
    match parse(&mut few[..FEW.min(max_fields)]) {
        Err(HeadError::TooManyFields { .. }) if max_fields > FEW => {
            parse(&mut vec![MaybeUninit::uninit(); max_fields])
        }
        result => result,
    }
}

fn head_error(error: httparse::Error, what: &'static str, limits: &HeadLimits) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine | httparse::Error::Token | httparse::Error::Status => {
            HeadError::FirstLine { what }
        }
        httparse::Error::TooManyHeaders => HeadError::TooManyFields { limit: limits.max_fields },
        httparse::Error::Version => HeadError::Version,
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

fn fields(text: &Bytes, head: &[u8], parsed: &[httparse::Header<'_>]) -> Headers {
    Headers::from_ranges(
        text.clone(),
        parsed.iter().map(|field| (range_in(head, field.name.as_bytes()), range_in(head, field.value))),
    )
}

/// Where `part`, a slice of `whole`, stands in it.
fn range_in(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// Whether some line ends in LF without CR.
pub(super) fn has_bare_lf(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r')
}

/// The reason phrase in a head whose status line `httparse` accepted: from byte 13 (after `HTTP/1.x NNN `) to the line's
/// end; empty lines before it are passed over. `httparse` itself hides phrases with bytes above 0x7f.
fn reason_range(head: &[u8]) -> std::ops::Range<usize> {
    let start = head.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let line_end = memchr::memchr2(b'\r', b'\n', &head[start..]).map_or(head.len(), |at| start + at);
    (start + 13).min(line_end)..line_end
}

/// Whether writing the parsed head in canonical form gives back these bytes: one blank after each colon, CRLF, nothing
/// else. `first_line` is the length of the first line with its CRLF if that is canonical itself.
fn is_canonical(head: &[u8], len: usize, first_line: usize, parsed: &[httparse::Header<'_>]) -> bool {
    let mut at = first_line;
    if head.get(at - 2..at) != Some(b"\r\n") {
        return false;
    }
    for field in parsed {
        let (name, value) = (range_in(head, field.name.as_bytes()), range_in(head, field.value));
        let starts = name.start == at && head.get(name.end..name.end + 2) == Some(b": ");
        if !starts || value.start != name.end + 2 || head.get(value.end..value.end + 2) != Some(b"\r\n") {
            return false;
        }
        at = value.end + 2;
        // A folded value holds line ends of its own; it is written with blanks in their place.
        if memchr::memchr(b'\r', field.value).is_some() {
            return false;
        }
    }
    at + 2 == len && head.get(at..len) == Some(b"\r\n")
}
