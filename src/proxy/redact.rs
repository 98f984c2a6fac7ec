//! What of a request is recorded: all of it but the client's credentials for us.

use bytes::Bytes;

use crate::flow::{Body, BodyEnd, Framing, Headers, Request};
use crate::http1::BodyLength;

/// A request as it is recorded before its body has come: without the client's credentials for us. A body whose `length`
/// cannot be told is cut off before its first byte.
pub(super) fn recorded(request: &Request, length: Option<BodyLength>) -> Request {
    let mut recorded = request.clone();
    if let Some(redacted) = without_secrets(&request.headers) {
        recorded.headers = redacted;
    }
    if let Some(raw) = &request.raw_head {
        let mut raw = raw.to_vec();
        redact(&mut raw);
        recorded.raw_head = Some(Bytes::from(raw));
    }
    recorded.body = match length {
        Some(BodyLength::None) => Body::inline(Bytes::new()),
        Some(BodyLength::Length(0)) => Body { framing: Framing::Length, ..Body::inline(Bytes::new()) },
        Some(length) => Body { framing: length.into(), ..Body::default() },
        None => Body { end: BodyEnd::CutOff, ..Body::default() },
    };
    recorded
}

/// The fields without the client's credentials for us; `None` where there are none.
pub(super) fn without_secrets(headers: &Headers) -> Option<Headers> {
    let secret = |name: &[u8]| name.eq_ignore_ascii_case(b"proxy-authorization");
    headers.get("proxy-authorization")?;
    Some(headers.iter().map(|(n, v)| (n, if secret(n) { &b"(redacted)"[..] } else { v })).collect())
}

/// Overwrites the client's credentials for us in bytes that could not be parsed: what follows the field's name up to the
/// line's end, and the lines that continue it, wherever they stand. The length stays.
fn redact(head: &mut [u8]) {
    const NAME: &[u8] = b"proxy-authorization";
    let mut at = 0;
    while at + NAME.len() <= head.len() {
        if !head[at..at + NAME.len()].eq_ignore_ascii_case(NAME) {
            at += 1;
            continue;
        }
        at += NAME.len();
        while at < head.len() {
            let folded = matches!(head.get(at + 1), Some(b' ' | b'\t'));
            match head[at] {
                b'\n' if !folded => break,
                b'\r' | b'\n' | b':' | b' ' => {}
                _ => head[at] = b'*',
            }
            at += 1;
        }
    }
}
