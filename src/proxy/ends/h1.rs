//! The ends of an exchange in HTTP/1: our own codec on a stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{ReadHalf, WriteHalf};

use super::{Answer, Incoming, Outgoing, Part, RequestIn, ResponseIn, ResponseOut};
use crate::flow::{Framing, Headers, Interim, Response, Stage, Version};
use crate::http1::{
    BodyError, BodyLength, Decoded, Decoder, HeadLimits, ReadError, Reader, Writer, received_head,
    response_length, write_interim, write_response_head,
};
use crate::proxy::bridge;
use crate::proxy::error::{Error, Retry};
use crate::proxy::limits::{MAX_BAD_HEAD, MAX_READ_AHEAD};
use crate::upstream::{BoxIo, UpstreamProxy};

type Read = Reader<ReadHalf<BoxIo>>;
type Write = Writer<WriteHalf<BoxIo>>;

/// A client's request body.
#[derive(Debug)]
pub(in crate::proxy) struct RequestBody<'a> {
    reader: &'a mut Read,
    decoder: Decoder,
    length: BodyLength,
    eof_is_gone: bool,
    begun: bool,
}

impl<'a> RequestBody<'a> {
    /// A body of this length. `eof_is_gone` says whether a client that ends its direction is gone, rather than silent.
    pub(in crate::proxy) fn new(reader: &'a mut Read, length: BodyLength, eof_is_gone: bool) -> Self {
        Self { reader, decoder: Decoder::new(length), length, eof_is_gone, begun: false }
    }
}

impl Incoming for RequestBody<'_> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        let part = ready!(poll_body(self.reader, &mut self.decoder, cx));
        self.begun = true;
        Poll::Ready(part.map_err(request_body_error))
    }

    fn framing(&self) -> Framing {
        self.length.into()
    }

    fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    fn wire_len(&self) -> u64 {
        self.decoder.wire_len()
    }
}

impl RequestIn for RequestBody<'_> {
    async fn gone(&mut self) -> Error {
        gone(self.reader, self.eof_is_gone).await
    }

    async fn gone_early(&mut self) -> Error {
        gone(self.reader, self.eof_is_gone).await
    }

    fn has_begun(&self) -> bool {
        // An empty body can be sent any number of times.
        self.begun && self.length != BodyLength::Length(0)
    }
}

/// Waits until the client is gone. Bytes that it sends ahead are kept, up to a bound. The end of its direction alone is
/// no farewell where it may be a half-close (`eof_is_gone` false): its answer is still due.
pub(in crate::proxy) async fn gone(reader: &mut Read, eof_is_gone: bool) -> Error {
    loop {
        if reader.buffer().len() >= MAX_READ_AHEAD {
            std::future::pending::<()>().await;
        }
        match reader.fill().await {
            Ok(0) if eof_is_gone => {
                return Error::client_gone(Stage::ResponseHead, "closed before the answer was there");
            }
            Ok(0) => std::future::pending::<()>().await,
            Ok(_) => {}
            Err(error) => {
                return Error::client_gone(Stage::ResponseHead, format!("connection lost: {error}"));
            }
        }
    }
}

fn poll_body(
    reader: &mut Read,
    decoder: &mut Decoder,
    cx: &mut Context<'_>,
) -> Poll<Result<Part, ReadError>> {
    match reader.poll_body(decoder, cx) {
        Poll::Ready(Ok(Decoded::Data(data))) => Poll::Ready(Ok(Part::Data(data))),
        Poll::Ready(Ok(Decoded::End(trailers))) => Poll::Ready(Ok(Part::End(trailers))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(Decoded::More)) | Poll::Pending => Poll::Pending,
    }
}

fn request_body_error(error: ReadError) -> Error {
    match error {
        ReadError::Body(error @ (BodyError::Short { .. } | BodyError::ShortChunked)) => {
            Error::client_gone(Stage::RequestBody, error.to_string())
        }
        ReadError::Body(error) => Error::bad_request(Stage::RequestBody, error.to_string()),
        error => Error::client_gone(Stage::RequestBody, error.to_string()),
    }
}

/// A message on its way out.
#[derive(Debug)]
pub(in crate::proxy) struct MessageOut<'a> {
    writer: &'a mut Write,
    chunked: bool,
    /// To whom.
    to: To,
    /// Of the WebSocket handshake that a response answers.
    websocket_key: Option<Bytes>,
}

/// Whom a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A request, its head queued.
    Origin,
    /// A response, to a client that speaks this.
    Client(Version),
}

impl To {
    /// What it speaks; an origin is taken for one that speaks what we do.
    fn version(self) -> Version {
        match self {
            To::Origin => Version::Http11,
            To::Client(version) => version,
        }
    }
}

impl<'a> MessageOut<'a> {
    /// A request with a body of this length, its head queued.
    pub(in crate::proxy) fn request(writer: &'a mut Write, length: BodyLength) -> Self {
        Self { writer, chunked: length == BodyLength::Chunked, to: To::Origin, websocket_key: None }
    }

    /// A response to a client that speaks `version`; to a WebSocket's handshake, if there is a key of one.
    pub(in crate::proxy) fn response(
        writer: &'a mut Write,
        version: Version,
        websocket_key: Option<Bytes>,
    ) -> Self {
        Self { writer, chunked: false, to: To::Client(version), websocket_key }
    }
}

impl Outgoing for MessageOut<'_> {
    fn queued(&self) -> usize {
        self.writer.queued()
    }

    fn queue_data(&mut self, data: &Bytes) {
        self.writer.queue_data(data, self.chunked);
    }

    fn queue_end(&mut self, trailers: Option<&Headers>) {
        if self.chunked {
            self.writer.queue_last_chunk(trailers);
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let to = self.to;
        self.writer.flush().await.map_err(|error| match to {
            To::Origin => Error::bad_gateway(Stage::RequestBody, format!("connection lost: {error}")),
            To::Client(_) => {
                let message = format!("gone before the answer was whole: {error}");
                Error::client_gone(Stage::ResponseBody, message)
            }
        })
    }

    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<Error> {
        Poll::Pending
    }
}

impl ResponseOut for MessageOut<'_> {
    fn queue_interim(&mut self, interim: &Interim) {
        // HTTP/1.0 clients do not know them (RFC 9110 §15.2).
        if self.to.version() != Version::Http10 {
            write_interim(self.writer.out(), interim);
        }
    }

    fn queue_head(
        &mut self,
        response: &Response,
        _: Option<HeaderMap>,
        length: BodyLength,
        keep: bool,
    ) -> Result<bool, Error> {
        // Towards a client that knows no chunks the close tells the end.
        let sent_as = match length {
            BodyLength::Chunked if self.to.version() == Version::Http10 => BodyLength::Close,
            length => length,
        };
        self.chunked = sent_as == BodyLength::Chunked;
        let keep = keep && sent_as != BodyLength::Close;
        write_response_head(self.writer.out(), response, self.to.version(), sent_as, !keep);
        Ok(keep)
    }

    fn queue_switch(&mut self, response: &Response) -> Result<(), Error> {
        let bridged = self.websocket_key.as_ref().filter(|_| response.status != 101);
        let bridged = bridged.map(|key| bridge::switching(response, key));
        let response = bridged.as_ref().unwrap_or(response);
        write_response_head(self.writer.out(), response, self.to.version(), BodyLength::None, false);
        Ok(())
    }
}

/// What an origin answers.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseFrom<'a> {
    reader: &'a mut Read,
    /// Whether the connection has carried a request before.
    reused: bool,
    interims: bool,
    body: Option<(Decoder, BodyLength)>,
    /// The upstream proxy that the answer comes through, if that forwards requests.
    forwarder: Option<&'a UpstreamProxy>,
}

impl<'a> ResponseFrom<'a> {
    pub(in crate::proxy) fn new(reader: &'a mut Read, reused: bool) -> Self {
        Self { reader, reused, interims: false, body: None, forwarder: None }
    }

    pub(in crate::proxy) fn through(self, forwarder: Option<&'a UpstreamProxy>) -> Self {
        Self { forwarder, ..self }
    }

    fn head_error(&self, error: &ReadError) -> Error {
        let seen = self.reader.buffer();
        let nothing_came = !self.interims && seen.is_empty();
        let is_end = match error {
            ReadError::Eof => true,
            ReadError::Io(error) => is_close(error),
            ReadError::Head(_) | ReadError::Body(_) => false,
        };
        let message = match error {
            ReadError::Eof if !nothing_came => "closed in the middle of a response head".to_owned(),
            ReadError::Eof => "closed without an answer".to_owned(),
            ReadError::Io(error) if is_close(error) => format!("closed without an answer ({error})"),
            error => error.to_string(),
        };
        let received = Bytes::copy_from_slice(&seen[..seen.len().min(MAX_BAD_HEAD)]);
        Error {
            retry: if nothing_came && self.reused && is_end { Retry::IfIdempotent } else { Retry::Never },
            received: (!received.is_empty()).then_some(received),
            ..Error::bad_gateway(Stage::ResponseHead, message)
        }
    }
}

impl Incoming for ResponseFrom<'_> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        let Some((decoder, _)) = &mut self.body else { return Poll::Ready(Ok(Part::End(None))) };
        Poll::Ready(ready!(poll_body(self.reader, decoder, cx)).map_err(|error| {
            let message = match error {
                ReadError::Io(error) => format!("connection lost in the body: {error}"),
                error => error.to_string(),
            };
            Error::bad_gateway(Stage::ResponseBody, message)
        }))
    }

    fn framing(&self) -> Framing {
        self.body.as_ref().map_or(Framing::None, |(_, length)| (*length).into())
    }

    fn is_done(&self) -> bool {
        self.body.as_ref().is_none_or(|(decoder, _)| decoder.is_done())
    }

    fn wire_len(&self) -> u64 {
        self.body.as_ref().map_or(0, |(decoder, _)| decoder.wire_len())
    }
}

impl ResponseIn for ResponseFrom<'_> {
    async fn head(
        &mut self,
        limits: &HeadLimits,
        method: &[u8],
        at_us: impl Fn() -> u64 + Send + Sync,
    ) -> Result<Answer, Error> {
        let response = match self.reader.response(limits).await {
            Ok(response) => response,
            Err(error) => return Err(self.head_error(&error)),
        };
        if let Some(proxy) = self.forwarder
            && response.status == 407
        {
            // That is between the proxy and us (RFC 9110 §11.7.1): a client would take it for a question of ours.
            return Err(refused_response(&response, proxy.wants_credentials(&response)));
        }
        // Also of an interim response: where its fields say that there is a body, the next head cannot be found for sure.
        let length = match response_length(&response, method) {
            Ok(length) => length,
            Err(error) => return Err(refused_response(&response, error.to_string())),
        };
        if response.status >= 200 || response.status == 101 {
            self.body = Some((Decoder::new(length), length));
            return Ok(Answer::Final(response, length));
        }
        self.interims = true;
        let Response { status, reason, headers, .. } = response;
        Ok(Answer::Interim(Interim { status, reason, headers, at_us: at_us() }))
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // One that closes, or says more than it was asked, wants no more.
        self.reader.poll_fill(cx).map(|_| ())
    }

    fn has_surplus(&self) -> bool {
        !self.reader.buffer().is_empty()
    }
}

/// A response that was read, but not relayed.
pub(in crate::proxy) fn refused_response(response: &Response, message: impl Into<String>) -> Error {
    let received = Some(received_head(response));
    Error { received, ..Error::bad_gateway(Stage::ResponseHead, message) }
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
