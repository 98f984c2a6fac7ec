//! The messages in the body of a gRPC call: where each begins, how long it is, how the call ended.
//!
//! A body is recorded as it passed; its borders are found when it is read. They are those of "gRPC over HTTP/2" (its
//! `Length-Prefixed-Message`) and of gRPC-Web, which puts the trailers into the body as one more. What the messages say is
//! not looked at, nor is anything decompressed. The base64 of `application/grpc-web-text` is not undone.
//!
//! Invariant: no bytes make it panic, and memory does not depend on the body but for [`MAX_TRAILERS`].

use std::io::{self, BufRead, BufReader, Read};

use crate::flow::Headers;

/// One length-prefixed message: five bytes of prefix, then `len` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where its prefix begins in the body. The message itself is five bytes further on.
    pub offset: u64,
    /// Bytes without the prefix, as the prefix says; `None` where the body ends inside of the prefix.
    pub len: Option<u32>,
    /// Bytes without the prefix that are there. `here <= len`; less only where the body ends before the message does.
    pub here: u64,
    /// The first byte of the prefix: 1 compressed, 0x80 trailers, all else reserved.
    pub flags: u8,
    /// The fields of gRPC-Web trailers that are whole, not compressed and not longer than [`MAX_TRAILERS`].
    pub trailers: Option<Headers>,
}

impl Message {
    /// Whether it is compressed, by what `grpc-encoding` names.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// Whether it is no message but the trailers of gRPC-Web.
    #[must_use]
    pub fn is_trailers(&self) -> bool {
        self.flags & TRAILERS != 0
    }

    /// Whether the body ends before it does.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.len.is_none_or(|len| self.here < u64::from(len))
    }
}

/// The messages of a body, read as they are asked for. After an error there are no more.
#[derive(Debug)]
pub struct Messages<R> {
    body: BufReader<R>,
    offset: u64,
    ended: bool,
}

impl<R: Read> Messages<R> {
    /// The messages of `body`, which is without transfer and content-coding.
    pub fn new(body: R) -> Self {
        Self { body: BufReader::with_capacity(BUFFER, body), offset: 0, ended: false }
    }

    fn read(&mut self) -> io::Result<Option<Message>> {
        let mut prefix = Vec::with_capacity(PREFIX);
        take_up_to(&mut self.body, PREFIX as u64, |bytes| prefix.extend_from_slice(bytes))?;
        let Some(&flags) = prefix.first() else { return Ok(None) };
        let mut message = Message { offset: self.offset, len: None, here: 0, flags, trailers: None };
        self.offset = self.offset.saturating_add(prefix.len() as u64);
        if let [_, len @ ..] = prefix.as_slice()
            && let Ok(len) = <[u8; 4]>::try_from(len)
        {
            let len = u32::from_be_bytes(len);
            let wanted = flags == TRAILERS && len <= MAX_TRAILERS;
            let mut text = Vec::new();
            let keep = |bytes: &[u8]| {
                if wanted {
                    text.extend_from_slice(bytes)
                }
            };
            message.here = take_up_to(&mut self.body, len.into(), keep)?;
            self.offset = self.offset.saturating_add(message.here);
            message.len = Some(len);
            message.trailers = (wanted && !message.is_cut()).then(|| fields(&text));
        }
        Ok(Some(message))
    }
}

impl<R: Read> Iterator for Messages<R> {
    type Item = io::Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(&read, Ok(Some(message)) if !message.is_cut());
        read.transpose()
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its code; `None` where `grpc-status` is no number.
    pub code: Option<u32>,
    /// `grpc-message` with its percent-encoding undone; may hold anything.
    pub message: Option<Vec<u8>>,
}

impl Status {
    /// What a trailer section, the trailers inside of a gRPC-Web body, or (of a call that failed at once, "Trailers-Only")
    /// the head of the response says. `None` where there is no `grpc-status`.
    #[must_use]
    pub fn of(fields: &Headers) -> Option<Self> {
        let code = std::str::from_utf8(fields.get("grpc-status")?).ok();
        let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_digit()));
        Some(Self {
            code: code.and_then(|code| code.parse().ok()),
            message: fields.get("grpc-message").map(percent_decoded),
        })
    }

    /// The name of its code, such as `NOT_FOUND`; `None` for a code that has none.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        NAMES.get(usize::try_from(self.code?).ok()?).copied()
    }
}

/// Whether a message with these fields has a body of length-prefixed messages: `application/grpc`, `application/grpc-web`,
/// and these with `+proto` and the like.
#[must_use]
pub fn is_framed(headers: &Headers) -> bool {
    let Some(media_type) = headers.get("content-type") else { return false };
    let essence = media_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.split(|&b| b == b'+').next().unwrap_or_default();
    essence.eq_ignore_ascii_case(b"application/grpc") || essence.eq_ignore_ascii_case(b"application/grpc-web")
}

/// Percent-encoding undone as "gRPC over HTTP/2" asks: what is no valid escape stays as it is.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit =
        |at: usize| text.get(at).and_then(|&b| char::from(b).to_digit(16)).map(|n| n.to_le_bytes()[0]);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Lines of `name: value`, as gRPC-Web writes its trailers; what has no colon is no field.
fn fields(text: &[u8]) -> Headers {
    text.split(|&b| b == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
        })
        .collect()
}

/// Gives the next bytes of `body` to `take`, up to `len`; how many there were.
fn take_up_to(body: &mut impl BufRead, len: u64, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut taken = 0;
    while taken < len {
        let bytes = match body.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let n = usize::try_from(len - taken).unwrap_or(usize::MAX).min(bytes.len());
        if n == 0 {
            break;
        }
        take(&bytes[..n]);
        body.consume(n);
        taken += n as u64;
    }
    Ok(taken)
}

/// Bytes before each message: flags, and the length, big-endian.
pub const PREFIX: usize = 5;

/// The longest trailers of gRPC-Web that are looked into; they are a status and a few fields.
pub const MAX_TRAILERS: u32 = 64 * 1024;

/// Bit of the prefix's first byte.
const COMPRESSED: u8 = 1;

/// Bit of the prefix's first byte, in gRPC-Web ("Protocol differences vs gRPC over HTTP2").
const TRAILERS: u8 = 0x80;

/// Arbitrary: large enough that short messages do not cost a call each.
const BUFFER: usize = 64 * 1024;

/// Codes of "Status codes and their use in gRPC", from 0.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[flags], &len[..], payload].concat()
    }

    fn read(body: &[u8]) -> Vec<Message> {
        Messages::new(body).map(|message| message.expect("a slice does not fail")).collect()
    }

    #[test]
    fn messages_are_found_by_their_prefixes() {
        let body = [message(0, b"hello"), message(1, b""), message(0, &[7; 300_000])].concat();
        let found = read(&body);
        let facts: Vec<_> = found.iter().map(|m| (m.offset, m.len, m.is_compressed(), m.is_cut())).collect();
        let whole = |offset, len, compressed| (offset, Some(len), compressed, false);
        assert_eq!(facts, [whole(0, 5, false), whole(10, 0, true), whole(15, 300_000, false)]);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn the_last_one_may_be_cut_anywhere() {
        let body = [message(0, b"hello"), message(1, b"world")].concat();
        for end in 11..20 {
            let last = read(&body[..end]).pop().expect("a message");
            assert!(last.is_cut() && last.offset == 10 && last.is_compressed());
            let (len, here) = if end < 15 { (None, 0) } else { (Some(5), end as u64 - 15) };
            assert_eq!((last.len, last.here), (len, here));
        }
        assert!(!read(&body[..10])[0].is_cut());
        let huge = read(b"\0\xff\xff\xff\xffabc");
        assert_eq!((huge[0].len, huge[0].here, huge[0].is_cut()), (Some(u32::MAX), 3, true));
    }

    #[test]
    fn trailers_of_grpc_web_are_read() {
        let body =
            [message(0, b"x"), message(TRAILERS, b"grpc-status: 5\r\ngrpc-message:no%20such\r\n")].concat();
        let last = read(&body).pop().expect("trailers");
        assert!(last.is_trailers() && !last.is_compressed());
        let status = Status::of(&last.trailers.expect("fields")).expect("a status");
        assert_eq!((status.code, status.name()), (Some(5), Some("NOT_FOUND")));
        assert_eq!(status.message.as_deref(), Some(&b"no such"[..]));
        let compressed = read(&message(TRAILERS | COMPRESSED, b"grpc-status: 0"));
        assert!(compressed[0].is_trailers() && compressed[0].trailers.is_none());
    }

    #[test]
    fn status_is_read_leniently() {
        let of = |status: &str| Status::of(&[("Grpc-Status", status)].into_iter().collect());
        let name = |status| of(status).map(|status| (status.code, status.name()));
        assert_eq!(name("0"), Some((Some(0), Some("OK"))));
        assert_eq!(name("16"), Some((Some(16), Some("UNAUTHENTICATED"))));
        assert_eq!(name("17"), Some((Some(17), None)));
        for odd in ["", "-1", "+1", "x", "99999999999"] {
            assert_eq!(name(odd), Some((None, None)), "{odd}");
        }
        assert_eq!(Status::of(&Headers::new()), None);
        assert_eq!(percent_decoded(b"100%25 %C3%a9 %zz %"), "100% \u{e9} %zz %".as_bytes());
    }

    #[test]
    fn framed_types_are_known() {
        let framed = |media_type: &str| is_framed(&[("Content-Type", media_type)].into_iter().collect());
        for yes in ["application/grpc", "Application/GRPC+proto", "application/grpc-web+json; charset=utf-8"]
        {
            assert!(framed(yes), "{yes}");
        }
        for no in
            ["application/grpc-web-text", "application/grpcx", "text/plain", "", "application/json+grpc"]
        {
            assert!(!framed(no), "{no}");
        }
        assert!(!is_framed(&Headers::new()));
    }

    #[test]
    fn an_error_is_given_once() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        let body = message(0, b"x");
        let mut messages = Messages::new(body.chain(Fails));
        assert!(messages.next().is_some_and(|m| m.is_ok()) && messages.next().is_some_and(|m| m.is_err()));
        assert!(messages.next().is_none());
    }

    proptest! {
        #[test]
        fn what_was_framed_is_found(parts: Vec<(bool, Vec<u8>)>, cut in 0usize..9) {
            let body: Vec<u8> = parts.iter().flat_map(|(z, payload)| message((*z).into(), payload)).collect();
            let found = read(&body);
            prop_assert_eq!(found.len(), parts.len());
            for (message, (compressed, payload)) in found.iter().zip(&parts) {
                let at = usize::try_from(message.offset).unwrap() + PREFIX;
                prop_assert_eq!(&body[at..at + payload.len()], &payload[..]);
                prop_assert_eq!((message.is_compressed(), message.is_cut()), (*compressed, false));
            }
            let short = &body[..body.len() - cut.min(body.len())];
            prop_assert!(read(short).iter().rev().skip(1).all(|m| !m.is_cut()));
        }

        #[test]
        fn any_bytes_are_covered_without_gap_or_panic(body: Vec<u8>) {
            let mut at = 0;
            for message in read(&body) {
                prop_assert_eq!(message.offset, at);
                let prefix = if message.len.is_none() { body.len() as u64 - at } else { PREFIX as u64 };
                prop_assert!(prefix <= PREFIX as u64 && message.here <= message.len.unwrap_or(0).into());
                at += prefix + message.here;
            }
            prop_assert_eq!(at, body.len() as u64);
        }

        #[test]
        fn any_fields_give_a_status_or_none(text: Vec<u8>, status in ".{0,8}") {
            let _ = percent_decoded(&text); // only that it does not panic
            let _ = Status::of(&fields(&text)).map(|s| s.name());
            let _ = Status::of(&[("grpc-status", status)].into_iter().collect()).map(|s| s.name());
        }
    }
}
