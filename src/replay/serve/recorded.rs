//! A recorded flow as an answer: in the framing and the content-coding of the record, broken off where that is.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::refresh::refreshed;
use super::{Latency, ServeOptions};
use crate::flow::{Body, BodyEnd, Content, Flow, Framing, Headers, Kind, Request, Response, State, Version};
use crate::http1::BodyLength;
use crate::proxy::{Answer, AnswerBody, BodyStream};
use crate::store::{Reader, StoreError};
use crate::websocket;

/// Why a flow cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no answer of an origin's on record.
    NoAnswer,
    /// Something passed after it that nobody has read.
    Unread,
    /// Its body is not whole on record, and that is not how it was sent.
    Truncated,
}

/// Whether a flow can answer.
pub(super) fn fitness(flow: &Flow, allow_truncated: bool) -> Result<(), Unfit> {
    let Some(response) = &flow.response else { return Err(Unfit::NoAnswer) };
    if flow.kind != Kind::Http || flow.state == State::Open || response.by_proxy {
        return Err(Unfit::NoAnswer);
    }
    if flow.tunnel.is_some() || (response.status == 101 && flow.websocket.is_none()) {
        return Err(Unfit::Unread);
    }
    let body = &response.body;
    let whole = is_recorded(body) && (body.end == BodyEnd::Whole || flow.state == State::ServerAborted);
    if whole || allow_truncated { Ok(()) } else { Err(Unfit::Truncated) }
}

/// Whether all of a body that passed is on record.
pub(super) fn is_recorded(body: &Body) -> bool {
    body.end != BodyEnd::Lost && !body.is_truncated() && body.recorded_len() == body.len
}

/// What of a request an answer to it depends on, beside its key.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) is_head: bool,
    version: Version,
    /// `Sec-WebSocket-Key` of one that asks for a WebSocket in HTTP/1.1.
    websocket_key: Option<Bytes>,
}

impl Asker {
    pub(super) fn of(request: &Request) -> Self {
        let key = request.headers.get("sec-websocket-key").map(Bytes::copy_from_slice);
        Self { is_head: request.method == b"HEAD"[..], version: request.version, websocket_key: key }
    }
}

/// The answer that a flow holds; its time of record is `age_s` seconds ago. What speaks for the origin after a change of
/// protocol is for the caller to add.
pub(super) fn answer(
    flow: &Flow,
    body: AnswerBody,
    asker: &Asker,
    options: &ServeOptions,
    age_s: i64,
) -> Option<Answer> {
    let recorded = flow.response.as_ref()?;
    let headers =
        if options.refresh { refreshed(&recorded.headers, age_s) } else { recorded.headers.clone() };
    let response = Response { headers, body: Body::default(), trailers: None, ..recorded.clone() };
    let mut answer = if flow.websocket.is_some() {
        Answer::new(switching(response, asker), BodyLength::None, AnswerBody::Inline(Bytes::new()))
    } else {
        let (response, length) = framed(response, &recorded.body, asker.is_head);
        let body = if length == BodyLength::None { AnswerBody::Inline(Bytes::new()) } else { body };
        Answer {
            broken_off: why_broken(&recorded.body).filter(|_| length != BodyLength::None),
            trailers: recorded.trailers.as_deref().cloned(),
            ..Answer::new(response, length, body)
        }
    };
    // A 100 is an answer to the client's `Expect`, which the proxy has given.
    answer.interim =
        flow.interim.iter().filter(|i| i.status != 100).map(|i| (Duration::ZERO, i.clone())).collect();
    match options.latency {
        Latency::None => {}
        Latency::Fixed(delay) => answer.head_after = delay,
        Latency::Recorded => in_time(&mut answer, flow),
    }
    Some(answer)
}

/// The body of a flow's answer, to be read as it is sent if it is not in the record.
///
/// # Errors
/// What the store said.
pub(super) fn body(flow: &Flow, reader: &Reader) -> Result<AnswerBody, StoreError> {
    match flow.response.as_ref().map(|response| &response.body) {
        Some(body) if matches!(body.content, Content::Extents(_)) => {
            Ok(AnswerBody::Stream(body.recorded_len(), pieces(reader.body(body)?)))
        }
        _ => Ok(inline_body(flow)),
    }
}

/// The same of one that is all in its record.
pub(super) fn inline_body(flow: &Flow) -> AnswerBody {
    let bytes = flow.response.as_ref().and_then(|response| response.body.as_inline());
    AnswerBody::Inline(bytes.cloned().unwrap_or_default())
}

/// Gives an answer the times of the record.
fn in_time(answer: &mut Answer, flow: &Flow) {
    let timing = &flow.timing;
    let asked = timing.request_end_us.or(timing.request_head_us).unwrap_or(0);
    let after = |at: Option<u64>| Duration::from_micros(at.map_or(0, |at| at.saturating_sub(asked)));
    for (due, interim) in &mut answer.interim {
        *due = after(Some(interim.at_us));
    }
    answer.head_after = after(timing.response_head_us);
    answer.body_over = after(timing.response_end_us).saturating_sub(answer.head_after);
}

/// The head of a response as it says what its body is, and how its end is told.
///
/// A record of our own says so already. One that came from another tool's file may hold a decoded body under the fields of
/// the coded one: what is sent must be true.
fn framed(mut response: Response, body: &Body, is_head: bool) -> (Response, BodyLength) {
    if is_head || response.status < 200 || matches!(response.status, 204 | 304) {
        return (response, BodyLength::None);
    }
    let said = said_length(&response.headers);
    let len = match said {
        Some(said) if body.end != BodyEnd::Whole => said.max(body.recorded_len()),
        _ => body.len,
    };
    let length = match body.framing {
        Framing::Chunked => BodyLength::Chunked,
        Framing::Close => BodyLength::Close,
        Framing::Stream if response.headers.get("content-length").is_none() => BodyLength::Chunked,
        Framing::Stream | Framing::Length | Framing::None => BodyLength::Length(len),
    };
    let is = |name: &[u8], what: &str| name.eq_ignore_ascii_case(what.as_bytes());
    match length {
        BodyLength::Length(len) => {
            let coded = response.headers.get("transfer-encoding").is_some();
            if said != Some(len) || coded {
                let kept = response.headers.iter();
                let kept =
                    kept.filter(|(name, _)| !is(name, "content-length") && !is(name, "transfer-encoding"));
                let text = len.to_string();
                response.headers = kept.chain([(&b"Content-Length"[..], text.as_bytes())]).collect();
            }
        }
        _ if response.headers.get("content-length").is_some() => {
            response.headers =
                response.headers.iter().filter(|(name, _)| !is(name, "content-length")).collect();
        }
        _ => {}
    }
    (response, length)
}

/// The length that the fields tell, if they tell one.
fn said_length(headers: &Headers) -> Option<u64> {
    let mut lengths =
        headers.get_all("content-length").map(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let first: u64 = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

fn why_broken(body: &Body) -> Option<String> {
    match body.end {
        BodyEnd::Whole if body.recorded_len() == body.len => None,
        BodyEnd::CutOff | BodyEnd::Open if !body.is_truncated() => {
            Some(format!("broken off after {} bytes, as it was recorded", body.len))
        }
        _ => Some(format!("the record holds {} bytes of {}", body.recorded_len(), body.len)),
    }
}

/// The head with which a WebSocket begins, for a client of this kind. Extensions are not agreed on, as messages are on
/// record without what an extension had made of them.
fn switching(response: Response, asker: &Asker) -> Response {
    let dropped = [
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "content-length",
        "transfer-encoding",
    ];
    let accept = asker.websocket_key.as_deref().map(websocket::accept);
    let theirs = response.headers.iter();
    let theirs =
        theirs.filter(|(name, _)| !dropped.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes())));
    match &accept {
        Some(accept) if asker.version != Version::Http2 => {
            let own = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)];
            let own = own.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let headers = own.into_iter().chain(theirs).collect();
            let reason = Bytes::from_static(b"Switching Protocols");
            Response { status: 101, reason, version: Version::Http11, headers, ..Response::default() }
        }
        _ => {
            let headers = theirs.collect();
            Response { status: 200, version: Version::Http2, headers, ..Response::default() }
        }
    }
}

/// What `reader` gives, read on other threads than those of the traffic.
pub(super) fn pieces<R: Read + Send + 'static>(reader: R) -> BodyStream {
    let next = |reader: Option<R>| async move {
        let mut reader = reader?;
        let read = spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(PIECE);
            Read::by_ref(&mut reader).take(PIECE as u64).read_to_end(&mut bytes)?;
            io::Result::Ok((reader, bytes))
        });
        match read.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok((_, bytes)) if bytes.is_empty() => None,
            Ok((reader, bytes)) => Some((Ok(Bytes::from(bytes)), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    };
    stream::unfold(Some(reader), next).boxed()
}

/// Bytes read at a time: few enough visits to another thread, little enough memory a body.
const PIECE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> Response {
        Response { status, headers: fields.iter().copied().collect(), ..Response::default() }
    }

    fn body(framing: Framing, len: u64) -> Body {
        let content = vec![b'x'; usize::try_from(len).unwrap()];
        Body { framing, ..Body::inline(content) }
    }

    #[test]
    fn what_is_said_of_a_body_is_true() {
        let lied = [("Content-Length", "5"), ("Content-Type", "a/b"), ("Content-Length", "5")];
        let (made, length) = framed(response(200, &lied), &body(Framing::Length, 9), false);
        assert_eq!(length, BodyLength::Length(9));
        let fields: Headers = [("Content-Type", "a/b"), ("Content-Length", "9")].into_iter().collect();
        assert_eq!(made.headers, fields);
        let (made, length) = framed(response(200, &lied), &body(Framing::Chunked, 9), false);
        assert_eq!((length, made.headers.get("content-length")), (BodyLength::Chunked, None));
        let (made, length) = framed(response(200, &[]), &body(Framing::None, 0), false);
        assert_eq!((length, made.headers.get("content-length")), (BodyLength::Length(0), Some(&b"0"[..])));
    }

    #[test]
    fn what_is_true_is_left_as_it_was() {
        let fields = [("content-LENGTH", "9"), ("X", "y")];
        for (framing, wanted) in
            [(Framing::Length, BodyLength::Length(9)), (Framing::Stream, BodyLength::Length(9))]
        {
            let (made, length) = framed(response(200, &fields), &body(framing, 9), false);
            assert_eq!((made, length), (response(200, &fields), wanted));
        }
        let (made, length) = framed(response(200, &[("X", "y")]), &body(Framing::Close, 9), false);
        assert_eq!((made, length), (response(200, &[("X", "y")]), BodyLength::Close));
        for (status, is_head) in [(200, true), (304, false), (204, false)] {
            let (made, length) = framed(response(status, &fields), &body(Framing::None, 0), is_head);
            assert_eq!((made, length), (response(status, &fields), BodyLength::None));
        }
    }

    #[test]
    fn a_body_that_broke_off_says_the_length_that_it_should_have_had() {
        let cut = Body { end: BodyEnd::CutOff, ..body(Framing::Length, 4) };
        let (_, length) = framed(response(200, &[("Content-Length", "9")]), &cut, false);
        assert_eq!((length, why_broken(&cut).is_some()), (BodyLength::Length(9), true));
        let capped = Body { len: 9, end: BodyEnd::Capped, ..body(Framing::Length, 4) };
        assert!(why_broken(&capped).unwrap().contains("4 bytes of 9"));
        assert_eq!(why_broken(&body(Framing::Length, 4)), None);
    }
}
