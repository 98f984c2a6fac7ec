//! The two directions of one exchange, both at once: a request body may still be going up when the answer comes down, and
//! may never be wanted. Nothing here knows which protocol stands on either side.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ends::{Answer, Incoming, Outgoing, Part, RequestIn, ResponseIn, ResponseOut};
use super::error::{Error, Kind};
use super::limits::{FLUSH_AT, Limits, MAX_INTERIM};
use super::redact::without_secrets;
use crate::exchange::{Live, Tee, Ticker};
use crate::flow::{Body, BodyEnd, Request, Response, Side, Stage};
use crate::http1::{BodyLength, keeps_alive};
use crate::record::BodySide;

/// The ends of an exchange. The head of the request is queued or sent.
#[derive(Debug)]
pub(super) struct Ends<'a, I, U, R, O> {
    /// The request's body from the client.
    pub(super) request_in: &'a mut I,
    /// To the origin.
    pub(super) request_out: &'a mut U,
    /// The answer from the origin.
    pub(super) response_in: &'a mut R,
    /// To the client.
    pub(super) response_out: &'a mut O,
}

/// The request, as far as the relay has to know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) request: &'a Request,
    pub(super) length: BodyLength,
    pub(super) client_keeps: bool,
    /// What a change of protocol was asked with.
    pub(super) switch: Switch,
}

/// Which answer changes the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// None: it was not asked for.
    Never,
    /// 101, to an `Upgrade` (RFC 9110 §7.8).
    Upgrade,
    /// 2xx, to a `CONNECT` (RFC 9110 §9.3.6, RFC 8441 §5).
    Connect,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relayed {
    /// The client's connection can carry another request.
    pub(super) client_keeps: bool,
    /// So can the origin's.
    pub(super) origin_keeps: bool,
    /// Both have changed to another protocol.
    pub(super) switched: bool,
    /// The client was still sending when the origin had heard enough.
    pub(super) unread: bool,
    /// The response ties the origin's connection to this client.
    pub(super) ties: bool,
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
pub(super) async fn exchange<I, U, R, O>(
    ticker: &mut Ticker,
    limits: &Limits,
    live: &Live,
    ends: Ends<'_, I, U, R, O>,
    message: &Message<'_>,
) -> Result<Relayed, Error>
where
    I: RequestIn,
    U: Outgoing,
    R: ResponseIn,
    O: ResponseOut,
{
    let progress = Progress::default();
    let Ends { request_in, request_out, response_in, response_out } = ends;
    progress.touched_at(live.mark(|timing| &mut timing.send_start_us));

    let mut up = pin!(upload(live, &progress, request_in, request_out, message));
    let mut origin_stopped = false;
    let down = {
        let mut down = pin!(download(limits, live, &progress, response_in, response_out, message));
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
    // An answer that came early does not end the upload by itself: the origin may want the rest (RFC 9112 §9.3).
    if !progress.uploaded() && !origin_stopped && down.origin_keeps {
        let rest = poll_fn(|cx| {
            match up.as_mut().poll(cx) {
                Poll::Ready(Err(stop)) => return Poll::Ready(Some(stop)),
                Poll::Pending if progress.uploaded() => return Poll::Ready(None),
                Poll::Pending => {}
            }
            response_in.poll_over(cx).map(|()| Some(Stop::Origin))
        });
        match watched(ticker, limits.relay_timeout, live, &progress, rest).await? {
            // It has its answer, and need not send what the answer has made idle (RFC 9110 §10.1.1).
            Some(Stop::Client(Error { kind: Kind::ClientGone, .. })) => {}
            Some(Stop::Client(error)) => return Err(error),
            Some(Stop::Origin) | None => {}
        }
    }
    let uploaded = progress.uploaded();
    Ok(Relayed {
        client_keeps: down.client_keeps && uploaded,
        origin_keeps: down.origin_keeps && uploaded,
        switched: down.switched && uploaded,
        unread: !uploaded,
        ties: down.ties,
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
    // By the flow's beginning, which is known, rather than by now: a call that comes early does no harm.
    let first = Instant::from_std(live.first_tick().min(live.started() + limit));
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
async fn upload<I: RequestIn, U: Outgoing>(
    live: &Live,
    progress: &Progress,
    from: &mut I,
    to: &mut U,
    message: &Message<'_>,
) -> Result<Infallible, Stop> {
    if message.length != BodyLength::None {
        upload_taped(live, progress, from, to).await?;
    }
    let flushed = to.flush().await;
    progress.touched_at(live.mark(|timing| &mut timing.send_end_us));
    progress.uploaded.store(true, Ordering::Relaxed);
    if flushed.is_err() {
        return Err(Stop::Origin);
    }
    Err(Stop::Client(from.gone().await))
}

/// The request's body, for the record, too. On the heap: most requests have none.
fn upload_taped<'a, I: RequestIn, U: Outgoing>(
    live: &'a Live,
    progress: &'a Progress,
    from: &'a mut I,
    to: &'a mut U,
) -> BoxFuture<'a, Result<(), Stop>> {
    Box::pin(async move {
        let mut tee = live.tee(BodySide::Request, from.framing());
        let sent = upload_body(live, progress, from, to, &mut tee).await;
        let end = if from.is_done() { BodyEnd::Whole } else { BodyEnd::CutOff };
        tee.end(end, from.wire_len());
        drop(tee);
        sent?;
        live.mark(|timing| &mut timing.request_end_us);
        Ok(())
    })
}

async fn upload_body<I: RequestIn, U: Outgoing>(
    live: &Live,
    progress: &Progress,
    from: &mut I,
    to: &mut U,
    tee: &mut Tee<'_>,
) -> Result<(), Stop> {
    loop {
        progress.awaits_client.store(true, Ordering::Relaxed);
        let step = next_step(from, to).await;
        progress.awaits_client.store(false, Ordering::Relaxed);
        match step {
            Step::Pause => to.flush().await.map_err(|_| Stop::Origin)?,
            Step::Data(data) => {
                tee.write(&data).await;
                to.queue_data(&data);
                progress.touch(live);
                if to.queued() >= FLUSH_AT {
                    to.flush().await.map_err(|_| Stop::Origin)?;
                }
            }
            Step::End(trailers) => {
                to.queue_end(trailers.as_ref());
                live.with(|flow| {
                    if let Some(request) = &mut flow.request {
                        request.trailers = trailers.map(|t| Box::new(without_secrets(&t).unwrap_or(t)));
                    }
                });
                return Ok(());
            }
            Step::Broken(error) => return Err(Stop::Client(error)),
            Step::Refused(_) => return Err(Stop::Origin),
        }
    }
}

/// What a relay does next.
enum Step {
    /// Nothing more is there at the moment, and something waits to be sent.
    Pause,
    Data(Bytes),
    End(Option<crate::flow::Headers>),
    /// Where it comes from is broken.
    Broken(Error),
    /// Where it goes takes no more.
    Refused(Error),
}

/// The next step of a body; [`Step::Pause`] before a wait if something is queued, so that what belongs together leaves
/// together and nothing is held back.
async fn next_step<F: Incoming, T: Outgoing>(from: &mut F, to: &mut T) -> Step {
    poll_fn(|cx| match from.poll_part(cx) {
        Poll::Ready(Ok(Part::Data(data))) => Poll::Ready(Step::Data(data)),
        Poll::Ready(Ok(Part::End(trailers))) => Poll::Ready(Step::End(trailers)),
        Poll::Ready(Err(error)) => Poll::Ready(Step::Broken(error)),
        Poll::Pending if to.queued() > 0 => Poll::Ready(Step::Pause),
        Poll::Pending => to.poll_refused(cx).map(Step::Refused),
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
async fn download<R: ResponseIn, O: ResponseOut>(
    limits: &Limits,
    live: &Live,
    progress: &Progress,
    from: &mut R,
    to: &mut O,
    message: &Message<'_>,
) -> Result<Downloaded, Error> {
    let (mut response, length) = final_head(limits, live, progress, from, to, message).await?;
    let switched = match response.status {
        101 if message.switch != Switch::Upgrade => {
            return Err(super::ends::h1::refused_response(
                &response,
                "101 to a request that asked for no upgrade",
            ));
        }
        101 => true,
        200..300 => message.switch == Switch::Connect,
        _ => false,
    };
    let origin_keeps = keeps_alive(response.version, &response.headers) && length != BodyLength::Close;
    let ties = ties_connection(&response);
    let client_keeps = match switched {
        true => to.queue_switch(&response).map(|()| false)?,
        false => {
            let fields = from.take_fields();
            to.queue_head(&response, fields, length, message.client_keeps && origin_keeps)?
        }
    };
    let has_body = length != BodyLength::None && !switched;
    let now = live.now_us();
    progress.touched_at(now);
    response.body = match has_body {
        false => Body::inline(Bytes::new()),
        true => Body { framing: from.framing(), ..Body::default() },
    };
    live.with(|flow| {
        flow.timing.response_head_us = Some(now);
        flow.response = Some(response);
    });
    if has_body {
        let mut tee = live.tee(BodySide::Response, from.framing());
        let relayed = download_body(live, progress, from, to, &mut tee).await;
        let end = if from.is_done() { BodyEnd::Whole } else { BodyEnd::CutOff };
        tee.end(end, from.wire_len());
        drop(tee);
        relayed?;
    }
    live.mark(|timing| &mut timing.response_end_us);
    send(progress, live, to).await?;
    // Bytes that nobody asked for would be taken for the next answer: such a connection is not used again.
    let surplus = !switched && from.has_surplus();
    Ok(Downloaded { client_keeps, origin_keeps: origin_keeps && !surplus, switched, ties })
}

async fn final_head<R: ResponseIn, O: ResponseOut>(
    limits: &Limits,
    live: &Live,
    progress: &Progress,
    from: &mut R,
    to: &mut O,
    message: &Message<'_>,
) -> Result<(Response, BodyLength), Error> {
    let mut interims = 0;
    loop {
        let answer = {
            let mut head = pin!(from.head(&limits.head, &message.request.method, || live.now_us()));
            poll_fn(|cx| match head.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer),
                Poll::Pending => to.poll_refused(cx).map(Err),
            })
            .await?
        };
        let interim = match answer {
            Answer::Final(response, length) => return Ok((response, length)),
            Answer::Interim(interim) => interim,
        };
        interims += 1;
        if interims > MAX_INTERIM {
            let message = format!("more than {MAX_INTERIM} interim responses");
            return Err(Error::bad_gateway(Stage::ResponseHead, message));
        }
        progress.touch(live);
        to.queue_interim(&interim);
        send(progress, live, to).await?;
        live.with(|flow| flow.interim.push(interim));
    }
}

async fn download_body<R: ResponseIn, O: ResponseOut>(
    live: &Live,
    progress: &Progress,
    from: &mut R,
    to: &mut O,
    tee: &mut Tee<'_>,
) -> Result<(), Error> {
    loop {
        match next_step(from, to).await {
            Step::Pause => send(progress, live, to).await?,
            Step::Data(data) => {
                tee.write(&data).await;
                to.queue_data(&data);
                progress.touch(live);
                if to.queued() >= FLUSH_AT {
                    send(progress, live, to).await?;
                }
            }
            Step::End(trailers) => {
                to.queue_end(trailers.as_ref());
                live.with(|flow| {
                    if let Some(response) = &mut flow.response {
                        response.trailers = trailers.map(Box::new);
                    }
                });
                return Ok(());
            }
            Step::Broken(error) => {
                // What came before the break belongs to the client.
                send(progress, live, to).await?;
                return Err(error);
            }
            Step::Refused(error) => return Err(error),
        }
    }
}

/// Sends what is queued for the client.
async fn send<O: Outgoing>(progress: &Progress, live: &Live, to: &mut O) -> Result<(), Error> {
    progress.client_reads.store(true, Ordering::Relaxed);
    let sent = to.flush().await;
    progress.client_reads.store(false, Ordering::Relaxed);
    progress.touch(live);
    sent
}

/// Whether the origin authenticates connections rather than requests.
fn ties_connection(response: &Response) -> bool {
    response.headers.get_all("www-authenticate").any(|value| {
        let scheme = value.split(|&b| b == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
    })
}
