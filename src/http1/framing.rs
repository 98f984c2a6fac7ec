//! How long a body is (RFC 9112 §6): the one place that reads `Content-Length` and `Transfer-Encoding`.
//!
//! Stricter than the RFC where it leaves a choice: two framing fields, two lengths (also equal ones in a request),
//! or a transfer coding that we do not know are refused, so that no hop behind us can read the message otherwise.

use thiserror::Error;

use crate::flow::{Framing, Headers, Request, Response, Version};

/// The length of a body, as its head tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// Up to the close of the connection (responses only).
    Close,
}

impl From<BodyLength> for Framing {
    fn from(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Framing::None,
            BodyLength::Length(_) => Framing::Length,
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::Close => Framing::Close,
        }
    }
}

/// Why a message's framing was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// Request smuggling lives here (RFC 9112 §6.1, §11.2).
    #[error("both Transfer-Encoding and Content-Length")]
    LengthAndChunked,
    /// More than one `Content-Length`.
    #[error("more than one Content-Length")]
    TwoLengths,
    /// Not a plain decimal number.
    #[error("invalid Content-Length")]
    InvalidLength,
    /// Unknown codings, `chunked` not once and last, or two fields.
    #[error("unacceptable Transfer-Encoding")]
    TransferEncoding,
    /// HTTP/1.0 knows no transfer codings (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    ChunkedInHttp10,
    /// A status that has no body came with transfer coding (RFC 9112 §6.1).
    #[error("Transfer-Encoding in a response that has no body")]
    ChunkedWithoutBody,
    /// More than one `Host`, or none where there must be one (RFC 9112 §3.2).
    #[error("{0} Host field")]
    Host(
        /// `no`, `more than one` or `invalid`.
        &'static str,
    ),
}

/// The length of a request's body (RFC 9112 §6.3).
///
/// # Errors
/// If the framing fields contradict each other or cannot be read in one way only.
pub fn request_length(request: &Request) -> Result<BodyLength, FramingError> {
    let mut transfer_encoding = request.headers.get_all("transfer-encoding");
    let mut lengths = request.headers.get_all("content-length");
    match (transfer_encoding.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::None),
        (Some(_), Some(_)) => Err(FramingError::LengthAndChunked),
        (Some(_), None) if request.version == Version::Http10 => Err(FramingError::ChunkedInHttp10),
        (Some(codings), None) => {
            if transfer_encoding.next().is_some() || !ends_in_one_chunked(codings) {
                return Err(FramingError::TransferEncoding);
            }
            Ok(BodyLength::Chunked)
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(FramingError::TwoLengths);
            }
            decimal(length).map(BodyLength::Length)
        }
    }
}

/// The length of a final response's body (RFC 9112 §6.3) to a request with `method`.
///
/// # Errors
/// As for [`request_length`]; a response whose codings do not end in `chunked` runs to the close instead, and equal
/// repeated lengths are one, as the RFC has it.
pub fn response_length(response: &Response, method: &[u8]) -> Result<BodyLength, FramingError> {
    let transfer_encoding = transfer_codings(&response.headers);
    let has_length = response.headers.get("content-length").is_some();
    if transfer_encoding.is_some() {
        if response.version == Version::Http10 {
            return Err(FramingError::ChunkedInHttp10);
        }
        if has_length {
            return Err(FramingError::LengthAndChunked);
        }
        if response.status == 204 || response.status < 200 {
            return Err(FramingError::ChunkedWithoutBody);
        }
    }
    let connect_ok = method == b"CONNECT" && (200..300).contains(&response.status);
    if method == b"HEAD" || connect_ok || response.status < 200 || matches!(response.status, 204 | 304) {
        return Ok(BodyLength::None);
    }
    match transfer_encoding {
        Some(codings) if ends_in_one_chunked(&codings) => Ok(BodyLength::Chunked),
        // `identity`, `gzip`, `xchunked`, `chunked, chunked`: no end but the close can be trusted.
        Some(_) => Ok(BodyLength::Close),
        None if has_length => equal_lengths(&response.headers).map(BodyLength::Length),
        None => Ok(BodyLength::Close),
    }
}

/// All codings of all `Transfer-Encoding` fields as one list; `None` where there is no such field.
fn transfer_codings(headers: &Headers) -> Option<Vec<u8>> {
    let mut fields = headers.get_all("transfer-encoding");
    let mut list = fields.next()?.to_vec();
    for field in fields {
        list.extend_from_slice(b", ");
        list.extend_from_slice(field);
    }
    Some(list)
}

/// Whether `codings` is a list of known transfer codings with `chunked` exactly once, as the last.
fn ends_in_one_chunked(codings: &[u8]) -> bool {
    let mut members = codings.split(|&b| b == b',').map(|m| m.trim_ascii()).rev();
    members.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
        && members.all(|coding| {
            [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
                .iter()
                .any(|known| coding.eq_ignore_ascii_case(known))
        })
}

fn equal_lengths(headers: &Headers) -> Result<u64, FramingError> {
    let mut lengths = headers.get_all("content-length").map(decimal);
    let first = lengths.next().unwrap_or(Err(FramingError::InvalidLength))?;
    if lengths.all(|other| other == Ok(first)) { Ok(first) } else { Err(FramingError::TwoLengths) }
}

/// `1*DIGIT` that fits 63 bits, without a leading zero before other digits: some parsers read `010` as octal.
fn decimal(value: &[u8]) -> Result<u64, FramingError> {
    let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    if !digits || (value[0] == b'0' && value.len() > 1) {
        return Err(FramingError::InvalidLength);
    }
    let number =
        value.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.filter(|&n| i64::try_from(n).is_ok()).ok_or(FramingError::InvalidLength)
}
