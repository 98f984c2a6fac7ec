//! The two directions of one exchange, both at once: a request body may still be going up when the answer comes down, and
//! may never be wanted.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::error::{Error, Kind};
use super::limits::{FLUSH_AT, Limits, MAX_BAD_HEAD, MAX_INTERIM};
use super::redact::without_secrets;
use super::serve::gone;
use crate::exchange::{Live, Tee, Ticker};
use crate::flow::{Body, BodyEnd, Interim, Request, Response, Side, Stage, Version};
use crate::http1::{
    BodyError, BodyLength, Decoded, Decoder, ReadError, Reader, RequestLine, Writer, keeps_alive,
    received_head, response_length, write_interim, write_request_head, write_response_head,
};
use crate::record::BodySide;
use crate::upstream::{BoxIo, Origin};

/// The connections of an exchange.
#[derive(Debug)]
pub(super) struct Ends<'a> {
    pub(super) reader: &'a mut Reader<ReadHalf<BoxIo>>,
    pub(super) writer: &'a mut Writer<WriteHalf<BoxIo>>,
    pub(super) origin: &'a mut Origin,
}

/// The request, as it is to be sent.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) request: &'a Request,
    pub(super) line: RequestLine<'a>,
    pub(super) length: BodyLength,
    pub(super) client_keeps: bool,
    pub(super) eof_is_gone: bool,
    /// Whether the origin's connection has carried a request before.
    pub(super) reused: bool,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relayed {
    /// The client's connection can carry another request.
    pub(super) client_keeps: bool,
    /// So can the origin's.
    pub(super) origin_keeps: bool,
    /// Both have changed to another protocol (101).
    pub(super) switched: bool,
    /// The client was still sending when the origin had heard enough.
    pub(super) unread: bool,
}

/// What both directions know of each other.
#[derive(Debug, Default)]
struct Progress {
    /// Microseconds after the flow's start at which something last passed.
    last_us: AtomicU64,
    uploaded: AtomicBool,
    /// Whether the upload waits for the client, rather than for the origin.
    awaits_client: AtomicBool,
    /// Whether the download waits for the client to read.
    client_reads: AtomicBool,
}

impl Progress {
    fn touch(&self, live: &Live) {
        self.touched_at(live.now_us());
    }

    fn touched_at(&self, now_us: u64) {
        self.last_us.store(now_us, Ordering::Relaxed);
    }

    fn uploaded(&self) -> bool {
        self.uploaded.load(Ordering::Relaxed)
    }
}

/// Why an upload ended before its end.
enum Stop {
    Client(Error),
    Origin,
}

/// Relays one exchange.
pub(super) async fn exchange(
    ticker: &mut Ticker,
    limits: &Limits,
    live: &Live,
    ends: Ends<'_>,
    message: &Message<'_>,
) -> Result<Relayed, Error> {
    let progress = Progress::default();
    let Ends { reader, writer, origin } = ends;
    let Origin { reader: origin_reader, writer: origin_writer, tied, .. } = origin;
    write_request_head(origin_writer.out(), message.request, &message.line, message.length);
    progress.touched_at(live.mark(|timing| &mut timing.send_start_us));

    let mut up = pin!(upload(live, &progress, reader, origin_writer, message));
    let mut origin_stopped = false;
    let down = {
        let mut down = pin!(download(limits, live, &progress, origin_reader, writer, message));
        let work = poll_fn(|cx| {
            if progress.uploaded()
                && let Poll::Ready(result) = down.as_mut().poll(cx)
            {
                return Poll::Ready(result);
            }
            if !origin_stopped {
                match up.as_mut().poll(cx) {
                    Poll::Ready(Err(Stop::Client(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(Stop::Origin)) => origin_stopped = true,
                    Poll::Pending => {}
                }
            }
            down.as_mut().poll(cx)
        });
        watched(ticker, limits.relay_timeout, live, &progress, work).await??
    };
    *tied |= down.ties;
    // An answer that came early does not end the upload by itself: the origin may want the rest (RFC 9112 §9.3).
    if !progress.uploaded() && !origin_stopped && down.origin_keeps {
        let rest = poll_fn(|cx| {
            match up.as_mut().poll(cx) {
                Poll::Ready(Err(stop)) => return Poll::Ready(Some(stop)),
                Poll::Pending if progress.uploaded() => return Poll::Ready(None),
                Poll::Pending => {}
            }
            // One that closes, or says more than it was asked, wants no more.
            origin_reader.poll_fill(cx).map(|_| Some(Stop::Origin))
        });
        match watched(ticker, limits.relay_timeout, live, &progress, rest).await? {
            // It has its answer, and need not send what the answer has made idle (RFC 9110 §10.1.1).
            Some(Stop::Client(Error { kind: Kind::ClientGone, .. })) => {}
            Some(Stop::Client(error)) => return Err(error),
            Some(Stop::Origin) | None => {}
        }
    }
    let uploaded = progress.uploaded();
    let client_keeps = down.client_keeps && uploaded;
    Ok(Relayed {
        client_keeps,
        origin_keeps: down.origin_keeps && uploaded,
        switched: down.switched && uploaded,
        unread: !uploaded,
    })
}

/// Waits for `work` as long as something passes; writes the flow as open on the way.
async fn watched<T>(
    ticker: &mut Ticker,
    limit: Duration,
    live: &Live,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let first = Instant::from_std(live.first_tick()).min(Instant::now() + limit);
    let tick = |now: Instant| {
        let next = Instant::from_std(live.tick(now.into_std()));
        let quiet = Duration::from_micros(live.now_us() - progress.last_us.load(Ordering::Relaxed));
        match limit.checked_sub(quiet) {
            Some(left) if !left.is_zero() => Ok(next.min(now + left)),
            _ => Err(timed_out(limit, progress, live)),
        }
    };
    ticker.watch(first, tick, work).await
}

fn timed_out(limit: Duration, progress: &Progress, live: &Live) -> Error {
    if !progress.uploaded() && progress.awaits_client.load(Ordering::Relaxed) {
        let message = format!("no byte of the request body for {limit:?}");
        return Error::new(Kind::ClientTimeout, Side::Client, Stage::RequestBody, message);
    }
    if progress.client_reads.load(Ordering::Relaxed) {
        let message = format!("took no byte of the answer for {limit:?}");
        return Error::client_gone(Stage::ResponseBody, message);
    }
    let (stage, what) = match live.with(|flow| flow.response.is_some()) {
        true => (Stage::ResponseBody, "nothing passed"),
        false => (Stage::ResponseHead, "no answer"),
    };
    Error::new(Kind::GatewayTimeout, Side::Server, stage, format!("{what} for {limit:?}"))
}

/// Sends the request, then watches the client until the exchange is over: never ends well by itself.
async fn upload(
    live: &Live,
    progress: &Progress,
    reader: &mut Reader<ReadHalf<BoxIo>>,
    writer: &mut Writer<WriteHalf<BoxIo>>,
    message: &Message<'_>,
) -> Result<Infallible, Stop> {
    if message.length != BodyLength::None {
        let mut tee = live.tee(BodySide::Request, message.length.into());
        let mut decoder = Decoder::new(message.length);
        let sent = upload_body(live, progress, reader, writer, &mut decoder, &mut tee).await;
        let end = if decoder.is_done() { BodyEnd::Whole } else { BodyEnd::CutOff };
        tee.end(end, decoder.wire_len());
        sent?;
        live.mark(|timing| &mut timing.request_end_us);
    }
    let flushed = writer.flush().await;
    progress.touched_at(live.mark(|timing| &mut timing.send_end_us));
    progress.uploaded.store(true, Ordering::Relaxed);
    if flushed.is_err() {
        return Err(Stop::Origin);
    }
    Err(Stop::Client(gone(reader, message.eof_is_gone).await))
}

async fn upload_body(
    live: &Live,
    progress: &Progress,
    reader: &mut Reader<ReadHalf<BoxIo>>,
    writer: &mut Writer<WriteHalf<BoxIo>>,
    decoder: &mut Decoder,
    tee: &mut Tee<'_>,
) -> Result<(), Stop> {
    let chunked = decoder.is_chunked();
    loop {
        progress.awaits_client.store(true, Ordering::Relaxed);
        let part = next_part(reader, decoder, writer.queued() > 0).await;
        progress.awaits_client.store(false, Ordering::Relaxed);
        match part {
            Ok(Part::Pause) => writer.flush().await.map_err(|_| Stop::Origin)?,
            Ok(Part::Data(data)) => {
                tee.write(&data).await;
                writer.queue_data(&data, chunked);
                progress.touch(live);
                if writer.queued() >= FLUSH_AT {
                    writer.flush().await.map_err(|_| Stop::Origin)?;
                }
            }
            Ok(Part::End(trailers)) => {
                if chunked {
                    writer.queue_last_chunk(trailers.as_ref());
                }
                live.with(|flow| {
                    if let Some(request) = &mut flow.request {
                        request.trailers = trailers.map(|t| without_secrets(&t).unwrap_or(t));
                    }
                });
                return Ok(());
            }
            Err(error) => return Err(Stop::Client(request_body_error(error))),
        }
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

/// What a relay does next.
enum Part {
    /// Nothing more is there at the moment, and something waits to be sent.
    Pause,
    Data(Bytes),
    End(Option<crate::flow::Headers>),
}

/// The next part of a body; [`Part::Pause`] before a wait if something is queued, so that what belongs together leaves
/// together and nothing is held back.
async fn next_part(
    reader: &mut Reader<ReadHalf<BoxIo>>,
    decoder: &mut Decoder,
    queued: bool,
) -> Result<Part, ReadError> {
    poll_fn(|cx| match reader.poll_body(decoder, cx) {
        Poll::Ready(Ok(Decoded::Data(data))) => Poll::Ready(Ok(Part::Data(data))),
        Poll::Ready(Ok(Decoded::End(trailers))) => Poll::Ready(Ok(Part::End(trailers))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(Decoded::More)) | Poll::Pending if queued => Poll::Ready(Ok(Part::Pause)),
        Poll::Ready(Ok(Decoded::More)) | Poll::Pending => Poll::Pending,
    })
    .await
}

struct Downloaded {
    client_keeps: bool,
    origin_keeps: bool,
    switched: bool,
    /// The response ties the connection to this client.
    ties: bool,
}

/// Relays the response: 1xx as they come, the final head, the body.
async fn download(
    limits: &Limits,
    live: &Live,
    progress: &Progress,
    reader: &mut Reader<ReadHalf<BoxIo>>,
    writer: &mut Writer<WriteHalf<BoxIo>>,
    message: &Message<'_>,
) -> Result<Downloaded, Error> {
    let version = message.request.version;
    let response = final_head(limits, live, progress, reader, writer, message).await?;
    let length = response_length(&response, &message.request.method)
        .map_err(|error| refused_response(&response, error.to_string()))?;
    let switched = response.status == 101;
    if switched && !message.line.upgrade {
        return Err(refused_response(&response, "101 to a request that asked for no upgrade"));
    }
    // Towards a client that knows no chunks the close tells the end.
    let sent_as = match length {
        BodyLength::Chunked if version == Version::Http10 => BodyLength::Close,
        length => length,
    };
    let origin_keeps = keeps_alive(response.version, &response.headers) && length != BodyLength::Close;
    let client_keeps = message.client_keeps && origin_keeps && sent_as != BodyLength::Close;
    let ties = ties_connection(&response);
    write_response_head(writer.out(), &response, version, sent_as, !client_keeps && !switched);
    let now = live.now_us();
    progress.touched_at(now);
    live.with(|flow| {
        flow.timing.response_head_us = Some(now);
        let body = match length {
            BodyLength::None => Body::inline(Bytes::new()),
            length => Body { framing: length.into(), ..Body::default() },
        };
        flow.response = Some(Response { body, ..response });
    });
    if length != BodyLength::None {
        let mut tee = live.tee(BodySide::Response, length.into());
        let mut decoder = Decoder::new(length);
        let relayed = download_body(live, progress, reader, writer, &mut decoder, &mut tee, sent_as).await;
        let end = if decoder.is_done() { BodyEnd::Whole } else { BodyEnd::CutOff };
        tee.end(end, decoder.wire_len());
        relayed?;
    }
    live.mark(|timing| &mut timing.response_end_us);
    send(progress, live, writer).await?;
    // Bytes that nobody asked for would be taken for the next answer: such a connection is not used again.
    let surplus = !switched && !reader.buffer().is_empty();
    Ok(Downloaded { client_keeps, origin_keeps: origin_keeps && !surplus, switched, ties })
}

async fn final_head(
    limits: &Limits,
    live: &Live,
    progress: &Progress,
    reader: &mut Reader<ReadHalf<BoxIo>>,
    writer: &mut Writer<WriteHalf<BoxIo>>,
    message: &Message<'_>,
) -> Result<Response, Error> {
    let mut interims = 0;
    loop {
        let response = match reader.response(&limits.head).await {
            Ok(response) => response,
            Err(error) => {
                let nothing_came = interims == 0 && reader.buffer().is_empty();
                let seen = reader.buffer();
                let received = Bytes::copy_from_slice(&seen[..seen.len().min(MAX_BAD_HEAD)]);
                let error = response_head_error(error, nothing_came, message.reused);
                return Err(Error { received: (!received.is_empty()).then_some(received), ..error });
            }
        };
        if response.status >= 200 || response.status == 101 {
            return Ok(response);
        }
        interims += 1;
        if interims > MAX_INTERIM {
            let message = format!("more than {MAX_INTERIM} interim responses");
            return Err(Error::bad_gateway(Stage::ResponseHead, message));
        }
        // Where its fields say that there is a body, the next head cannot be found for sure.
        response_length(&response, &message.request.method)
            .map_err(|error| refused_response(&response, error.to_string()))?;
        progress.touch(live);
        let Response { status, reason, headers, .. } = response;
        let interim = Interim { status, reason, headers, at_us: live.now_us() };
        // HTTP/1.0 clients do not know them (RFC 9110 §15.2).
        if message.request.version != Version::Http10 {
            write_interim(writer.out(), &interim);
            send(progress, live, writer).await?;
        }
        live.with(|flow| flow.interim.push(interim));
    }
}

/// A response that was read, but not relayed.
fn refused_response(response: &Response, message: impl Into<String>) -> Error {
    let received = Some(received_head(response));
    Error { received, ..Error::bad_gateway(Stage::ResponseHead, message) }
}

fn response_head_error(error: ReadError, nothing_came: bool, reused: bool) -> Error {
    let is_end = match &error {
        ReadError::Eof => true,
        ReadError::Io(error) => is_close(error),
        ReadError::Head(_) | ReadError::Body(_) => false,
    };
    let message = match &error {
        ReadError::Eof if !nothing_came => "closed in the middle of a response head".to_owned(),
        ReadError::Eof => "closed without an answer".to_owned(),
        ReadError::Io(error) if is_close(error) => format!("closed without an answer ({error})"),
        error => error.to_string(),
    };
    Error { stale: nothing_came && reused && is_end, ..Error::bad_gateway(Stage::ResponseHead, message) }
}

async fn download_body(
    live: &Live,
    progress: &Progress,
    reader: &mut Reader<ReadHalf<BoxIo>>,
    writer: &mut Writer<WriteHalf<BoxIo>>,
    decoder: &mut Decoder,
    tee: &mut Tee<'_>,
    sent_as: BodyLength,
) -> Result<(), Error> {
    let chunked = sent_as == BodyLength::Chunked;
    loop {
        match next_part(reader, decoder, writer.queued() > 0).await {
            Ok(Part::Pause) => send(progress, live, writer).await?,
            Ok(Part::Data(data)) => {
                tee.write(&data).await;
                writer.queue_data(&data, chunked);
                progress.touch(live);
                if writer.queued() >= FLUSH_AT {
                    send(progress, live, writer).await?;
                }
            }
            Ok(Part::End(trailers)) => {
                if chunked {
                    writer.queue_last_chunk(trailers.as_ref());
                }
                live.with(|flow| {
                    if let Some(response) = &mut flow.response {
                        response.trailers = trailers;
                    }
                });
                return Ok(());
            }
            Err(error) => {
                // What came before the break belongs to the client.
                send(progress, live, writer).await?;
                let message = match error {
                    ReadError::Io(error) => format!("connection lost in the body: {error}"),
                    error => error.to_string(),
                };
                return Err(Error::bad_gateway(Stage::ResponseBody, message));
            }
        }
    }
}

/// Sends what is queued for the client.
async fn send(progress: &Progress, live: &Live, writer: &mut Writer<WriteHalf<BoxIo>>) -> Result<(), Error> {
    progress.client_reads.store(true, Ordering::Relaxed);
    let sent = writer.flush().await;
    progress.client_reads.store(false, Ordering::Relaxed);
    progress.touch(live);
    sent.map_err(|error| client_lost(&error))
}

fn client_lost(error: &io::Error) -> Error {
    Error::client_gone(Stage::ResponseBody, format!("gone before the answer was whole: {error}"))
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Whether the origin authenticates connections rather than requests.
fn ties_connection(response: &Response) -> bool {
    response.headers.get_all("www-authenticate").any(|value| {
        let scheme = value.split(|&b| b == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
    })
}
