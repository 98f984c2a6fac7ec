//! The ends of an exchange in HTTP/2: a stream of a connection that others share.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use http::{HeaderMap, request};

use super::{Answer, Incoming, Outgoing, Part, RequestIn, ResponseIn, ResponseOut};
use crate::flow::{Framing, Headers, Interim, Request, Response, Stage};
use crate::http1::{self, BodyLength, Forwarded, FramingError, HeadLimits, may_trail};
use crate::http2::{self, BodyReader, BodyWriter, HeadError, Refused, RequestHead};
use crate::proxy::error::{Error, Retry};

/// A client's request body.
#[derive(Debug)]
pub(in crate::proxy) struct RequestBody {
    reader: BodyReader,
    head: Option<request::Parts>,
}

impl RequestBody {
    /// The body of a request with this head.
    pub(in crate::proxy) fn new(reader: BodyReader, head: request::Parts) -> Self {
        Self { reader, head: Some(head) }
    }

    /// Gives back the stream's end.
    pub(in crate::proxy) fn into_reader(self) -> BodyReader {
        self.reader
    }
}

impl Incoming for RequestBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        Poll::Ready(ready!(self.reader.poll_part(cx)).map(Part::from).map_err(|error| {
            let message = http2::explain(&error, CLIENT);
            match error.is_library() {
                true => Error::bad_request(Stage::RequestBody, message),
                false => Error::client_gone(Stage::RequestBody, message),
            }
        }))
    }

    fn framing(&self) -> Framing {
        Framing::Stream
    }

    fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    fn wire_len(&self) -> u64 {
        self.reader.wire_len()
    }
}

impl RequestIn for RequestBody {
    async fn gone(&mut self) -> Error {
        self.reader.settle();
        std::future::pending().await
    }

    fn has_begun(&self) -> bool {
        self.reader.has_begun()
    }

    fn take_head(&mut self) -> Option<request::Parts> {
        self.head.take()
    }
}

impl From<http2::Part> for Part {
    fn from(part: http2::Part) -> Self {
        match part {
            http2::Part::Data(data) => Part::Data(data),
            http2::Part::End(trailers) => Part::End(trailers),
        }
    }
}

/// A request on its way to an origin, its head sent.
#[derive(Debug)]
pub(in crate::proxy) struct RequestOut {
    writer: BodyWriter,
}

impl RequestOut {
    pub(in crate::proxy) fn new(writer: BodyWriter) -> Self {
        Self { writer }
    }

    /// Gives back the stream's end.
    pub(in crate::proxy) fn into_writer(self) -> BodyWriter {
        self.writer
    }
}

impl Outgoing for RequestOut {
    fn queued(&self) -> usize {
        self.writer.queued()
    }

    fn queue_data(&mut self, data: &Bytes) {
        self.writer.queue_data(data.clone());
    }

    fn queue_end(&mut self, trailers: Option<&Headers>) {
        self.writer.queue_end(trailers.map(sendable_trailers));
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().await.map_err(|refused| origin_refused(&refused))
    }

    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.writer.poll_refused(cx).map(|refused| origin_refused(&refused))
    }
}

fn origin_refused(refused: &Refused) -> Error {
    Error { code: refused.code, ..Error::bad_gateway(Stage::RequestBody, refused.explain(ORIGIN)) }
}

/// What an origin answers.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseFrom {
    head: ResponseFuture,
    /// Whether the connection has carried a request before.
    reused: bool,
    body: Option<BodyReader>,
    fields: Option<HeaderMap>,
    interims: bool,
}

impl ResponseFrom {
    pub(in crate::proxy) fn new(head: ResponseFuture, reused: bool) -> Self {
        Self { head, reused, body: None, fields: None, interims: false }
    }

    /// Gives back the stream's end; `None` before the final head.
    pub(in crate::proxy) fn into_reader(self) -> Option<BodyReader> {
        self.body
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        at_us: impl Fn() -> u64,
    ) -> Poll<Result<Answer, h2::Error>> {
        match ready!(self.head.poll_informational(cx)) {
            Some(Ok(interim)) => {
                self.interims = true;
                return Poll::Ready(Ok(Answer::Interim(http2::interim(&interim, at_us()))));
            }
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => {}
        }
        let (parts, body) = ready!(std::pin::Pin::new(&mut self.head).poll(cx))?.into_parts();
        let body = self.body.insert(BodyReader::new(body));
        let length = if body.is_absent() { BodyLength::None } else { BodyLength::Chunked };
        let response = http2::response(&parts);
        self.fields = Some(parts.headers);
        Poll::Ready(Ok(Answer::Final(response, length)))
    }
}

/// The length of a request's body: `absent` where END_STREAM came with the head. The crate holds the peer to a
/// `Content-Length`, but takes one that is empty or repeated, which HTTP/1 servers behind us read in other ways.
///
/// # Errors
/// If the lengths that the head tells are none, or more than one.
pub(in crate::proxy) fn request_length(request: &Request, absent: bool) -> Result<BodyLength, FramingError> {
    match http1::request_length(request)? {
        BodyLength::Length(1..) if absent => Err(FramingError::InvalidLength),
        _ if absent => Ok(BodyLength::None),
        BodyLength::None => Ok(BodyLength::Chunked),
        length => Ok(length),
    }
}

/// The same of a response. What may have no body has none, whatever the origin sends.
fn checked_length(response: &Response, method: &[u8], sent: BodyLength) -> Result<BodyLength, Error> {
    match http1::response_length(response, method) {
        Err(error) => Err(Error::bad_gateway(Stage::ResponseHead, error.to_string())),
        Ok(_) if sent == BodyLength::None => Ok(BodyLength::None),
        Ok(BodyLength::Close) => Ok(BodyLength::Chunked),
        Ok(length) => Ok(length),
    }
}

impl Incoming for ResponseFrom {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Part::End(None))) };
        Poll::Ready(ready!(body.poll_part(cx)).map(Part::from).map_err(|error| Error {
            code: remote_code(&error),
            ..Error::bad_gateway(Stage::ResponseBody, http2::explain(&error, ORIGIN))
        }))
    }

    fn framing(&self) -> Framing {
        Framing::Stream
    }

    fn is_done(&self) -> bool {
        self.body.as_ref().is_some_and(BodyReader::is_done)
    }

    fn wire_len(&self) -> u64 {
        self.body.as_ref().map_or(0, BodyReader::wire_len)
    }
}

impl ResponseIn for ResponseFrom {
    async fn head(
        &mut self,
        limits: &HeadLimits,
        method: &[u8],
        at_us: impl Fn() -> u64 + Send + Sync,
    ) -> Result<Answer, Error> {
        let answer = poll_fn(|cx| self.poll_head(cx, &at_us)).await;
        match answer {
            Ok(Answer::Final(response, _)) if response.headers.len() > limits.max_fields => {
                let message = format!("more than {} fields in the response's head", limits.max_fields);
                Err(Error::bad_gateway(Stage::ResponseHead, message))
            }
            Ok(Answer::Final(response, sent)) => {
                let length = checked_length(&response, method, sent)?;
                Ok(Answer::Final(response, length))
            }
            // The change of protocol that it tells of does not exist here (RFC 9113 §8.6).
            Ok(Answer::Interim(interim)) if interim.status == 101 => {
                Err(Error::bad_gateway(Stage::ResponseHead, "101 over HTTP/2"))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(Error {
                retry: match () {
                    () if http2::is_unprocessed(&error) => Retry::Always,
                    // The connection went, and perhaps before it took the request.
                    () if self.reused && !self.interims && error.is_io() => Retry::IfIdempotent,
                    () => Retry::Never,
                },
                code: remote_code(&error),
                ..Error::bad_gateway(Stage::ResponseHead, http2::explain(&error, ORIGIN))
            }),
        }
    }

    fn poll_over(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // The request's own end of the stream tells.
        Poll::Pending
    }

    fn has_surplus(&self) -> bool {
        false
    }

    fn take_fields(&mut self) -> Option<HeaderMap> {
        self.fields.take()
    }
}

/// The code of a peer's RST_STREAM, which is passed on.
fn remote_code(error: &h2::Error) -> Option<u32> {
    (error.is_reset() && error.is_remote()).then(|| http2::code(error)).flatten()
}

/// An answer on its way to a client.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseTo {
    respond: SendResponse<Bytes>,
    /// A head that waits for what follows it, so that both leave together; and whether it is all.
    head: Option<(http::Response<()>, bool)>,
    /// What is to follow it; no piece is empty.
    early: VecDeque<Bytes>,
    early_end: Option<Option<Headers>>,
    writer: Option<BodyWriter>,
}

impl ResponseTo {
    pub(in crate::proxy) fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, head: None, early: VecDeque::new(), early_end: None, writer: None }
    }

    /// Gives back the stream's end; `None` before the final head was sent.
    pub(in crate::proxy) fn into_writer(self) -> Option<BodyWriter> {
        self.writer
    }

    /// Ends the stream with RST_STREAM, unless it has ended.
    pub(in crate::proxy) fn reset(&mut self, code: u32) {
        match &mut self.writer {
            Some(writer) => writer.reset(code),
            None => self.respond.send_reset(Reason::from(code)),
        }
    }

    /// Sends the head that waits, with END_STREAM if nothing follows.
    fn open(&mut self) -> Result<(), Error> {
        let Some((head, all)) = self.head.take() else { return Ok(()) };
        let ends = all || self.early.is_empty() && matches!(self.early_end, Some(None));
        let stream = self.respond.send_response(head, ends).map_err(|error| client_gone(&error))?;
        let mut writer = BodyWriter::new(stream, ends);
        if !ends {
            writer = writer.with_queue(std::mem::take(&mut self.early));
            if let Some(trailers) = self.early_end.take() {
                writer.queue_end(trailers);
            }
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn queue(&mut self, response: &Response, fields: Option<HeaderMap>, all: bool) -> Result<(), Error> {
        if let Some(fields) = fields.filter(goes_on_as_it_is) {
            let head = http2::response_with(response.status, fields).map_err(unsendable)?;
            self.head = Some((head, all));
            return Ok(());
        }
        let forwarded = Forwarded::new(&response.headers);
        let fields = response.headers.iter();
        // A question of ours is for this hop. An origin's, or another proxy's, never is.
        let ours = |name: &[u8]| response.by_proxy && name.eq_ignore_ascii_case(b"proxy-authenticate");
        let fields =
            fields.filter(|(name, _)| (forwarded.keeps(name) || ours(name)) && !is_transfer_encoding(name));
        let head = http2::response_head(response.status, fields).map_err(unsendable)?;
        self.head = Some((head, all));
        Ok(())
    }
}

impl Outgoing for ResponseTo {
    fn queued(&self) -> usize {
        let early = self.early.iter().map(Bytes::len).sum::<usize>();
        early
            + usize::from(self.head.is_some() || self.early_end.is_some())
            + self.writer.as_ref().map_or(0, BodyWriter::queued)
    }

    fn queue_data(&mut self, data: &Bytes) {
        match &mut self.writer {
            Some(writer) => writer.queue_data(data.clone()),
            None if data.is_empty() => {}
            None => self.early.push_back(data.clone()),
        }
    }

    fn queue_end(&mut self, trailers: Option<&Headers>) {
        let trailers = trailers.map(sendable_trailers);
        match &mut self.writer {
            Some(writer) if writer.is_ended() => {}
            Some(writer) => writer.queue_end(trailers),
            None => self.early_end = Some(trailers),
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.open()?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let gone = |refused: Refused| Error::client_gone(Stage::ResponseBody, refused.explain(CLIENT));
        writer.flush().await.map_err(gone)
    }

    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match &mut self.writer {
            Some(writer) => {
                let refused = ready!(writer.poll_refused(cx));
                Poll::Ready(Error::client_gone(Stage::ResponseBody, refused.explain(CLIENT)))
            }
            None => {
                let message = match ready!(self.respond.poll_reset(cx)) {
                    Ok(reason) => format!("stream reset by {CLIENT}: {reason:?}"),
                    Err(error) => http2::explain(&error, CLIENT),
                };
                Poll::Ready(Error::client_gone(Stage::ResponseHead, message))
            }
        }
    }
}

impl ResponseOut for ResponseTo {
    fn queue_interim(&mut self, interim: &Interim) {
        let forwarded = Forwarded::new(&interim.headers);
        let fields = interim.headers.iter().filter(|(name, _)| forwarded.keeps(name));
        // A head that cannot be sent is no loss beside the final one, and a stream that is gone tells by itself.
        let sent = http2::response_head(interim.status, fields)
            .map(|head| self.respond.send_informational(head).is_ok());
        tracing::trace!(sent = ?sent, "interim response");
    }

    fn queue_head(
        &mut self,
        response: &Response,
        fields: Option<HeaderMap>,
        length: BodyLength,
        _: bool,
    ) -> Result<bool, Error> {
        self.queue(response, fields, matches!(length, BodyLength::None | BodyLength::Length(0)))?;
        Ok(true)
    }

    fn queue_switch(&mut self, response: &Response) -> Result<(), Error> {
        self.queue(response, None, false)
    }
}

fn client_gone(error: &h2::Error) -> Error {
    Error::client_gone(Stage::ResponseHead, http2::explain(error, CLIENT))
}

fn unsendable(error: HeadError) -> Error {
    Error::bad_gateway(Stage::ResponseHead, error.to_string())
}

fn is_transfer_encoding(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// Trailers as they go on in HTTP/2: without what belongs to one hop, or frames or routes a message (RFC 9110 §6.5.1).
fn sendable_trailers(trailers: &Headers) -> Headers {
    let forwarded = Forwarded::new(trailers);
    trailers.iter().filter(|(name, _)| forwarded.keeps(name) && may_trail(name)).collect()
}

/// A request as it goes to an origin over HTTP/2: `authority` in place of `Host`, nothing that belongs to the client's hop.
/// `own` is the head of `request` in HTTP/2's own form, where it came in that.
///
/// # Errors
/// If it has no form in HTTP/2.
pub(in crate::proxy) fn outgoing_request(
    request: &Request,
    scheme: &str,
    authority: &Bytes,
    path: &Bytes,
    max_forwards: Option<u64>,
    own: Option<request::Parts>,
) -> Result<http::Request<()>, Error> {
    let head = RequestHead {
        method: &request.method,
        scheme,
        authority: Some(authority),
        path,
        protocol: request.protocol.as_deref(),
    };
    let bad = |error: HeadError| Error::bad_request(Stage::RequestHead, error.to_string());
    let as_it_is = |fields: &HeaderMap| {
        max_forwards.is_none() && !fields.contains_key(http::header::HOST) && goes_on_as_it_is(fields)
    };
    if let Some(own) = own.filter(|own| as_it_is(&own.headers)) {
        return match http2::names(&own.uri, &head) {
            true => Ok(http::Request::from_parts(own, ())),
            false => http2::request_with(&head, own.headers).map_err(bad),
        };
    }
    let forwarded = Forwarded::new(&request.headers);
    let counted = max_forwards.map(|left| left.to_string());
    // A client of HTTP/2 may send `Host` besides `:authority`; what contradicts that does not go on (RFC 9113 §8.3.1).
    let same_host = |value: &[u8]| request.authority.is_some() && value.eq_ignore_ascii_case(authority);
    let goes_on = |name: &[u8], value: &[u8]| match () {
        () if is_transfer_encoding(name) || name.eq_ignore_ascii_case(b"http2-settings") => false,
        () if name.eq_ignore_ascii_case(b"host") => same_host(value),
        () => forwarded.keeps(name),
    };
    let te = request.headers.has_token("te", "trailers").then_some((&b"te"[..], &b"trailers"[..]));
    let fields = request.headers.iter().filter(|(name, value)| goes_on(name, value));
    let fields = fields.map(|(name, value)| match &counted {
        Some(left) if name.eq_ignore_ascii_case(b"max-forwards") => (name, left.as_bytes()),
        _ => (name, value),
    });
    http2::request_head(&head, fields.chain(te)).map_err(bad)
}

/// Whether none of the fields belongs to one hop alone. `TE` says nothing but `trailers` in HTTP/2 (RFC 9113 §8.2.2), and
/// that is what we say, too.
fn goes_on_as_it_is(fields: &HeaderMap) -> bool {
    let of_hop = |name: &str| name != "te" && http1::is_hop_by_hop(name.as_bytes());
    fields.keys().all(|name| !of_hop(name.as_str()) && name != "http2-settings")
}

const CLIENT: &str = "the client";
const ORIGIN: &str = "the origin";
