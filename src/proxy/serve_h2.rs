//! Serving a client that speaks HTTP/2: one task for the connection and all of its streams.
//!
//! A stream's end is its own: whatever becomes of it, the others go on. What the client breaks on the connection ends all
//! of them, as RFC 9113 §5.4.1 wants. Requests that the `h2` crate refuses by itself are recorded, too.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};

use super::answers::Talk;
use super::client::{Client, Stream};
use super::context::Context;
use super::ends::h2::{self as ends, RequestBody, ResponseTo};
use super::ends::{Outgoing as _, ResponseOut as _};
use super::error::{Error, Kind};
use super::forward::{self, Forwarded};
use super::judge::{Plan, admit};
use super::limits::LINGER_TIME;
use super::origins::Origins;
use super::relay::{Message, Switch};
use super::serve::Scope;
use super::server::Entry;
use super::shared::Shared;
use super::{answer, intercept, tunnel};
use crate::exchange::{Live, Ticker};
use crate::flow::{self, ClientConn, Request, Side, Stage, Target};
use crate::http1::BodyLength;
use crate::http2::{self, BodyReader, Cork, Corked, Duplex, Verdict, Verdicts, Watch};
use crate::upstream::{Adopted, Allowed, BoxIo, ReadAhead};

/// What the streams of one connection share.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    facts: Arc<ClientConn>,
    peer: SocketAddr,
    local: IpAddr,
    origins: Arc<Origins>,
    scope: Arc<Scope>,
    /// Timers of streams that have ended, for others: each is moved about once a second, whoever has it.
    tickers: Mutex<Vec<Ticker>>,
}

/// Serves requests until the connection ends.
pub(super) async fn run(client: &mut Client, stream: Stream, scope: Arc<Scope>) {
    let limits = client.shared.limits;
    let allowed = allowed(client, &scope).await;
    let (io, prefix) = stream.into_io();
    let verdicts = Verdicts::default();
    let io: BoxIo = if prefix.is_empty() { io } else { Box::new(ReadAhead::after(prefix, io)) };
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(http2::STREAM_WINDOW)
        .initial_connection_window_size(http2::CONNECTION_WINDOW)
        .max_concurrent_streams(allowed.max_streams)
        .max_header_list_size(u32::try_from(limits.head.max_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(http2::SEND_BUFFER);
    if allowed.extended_connect {
        builder.enable_connect_protocol();
    }
    let session = Arc::new(Session {
        shared: Arc::clone(&client.shared),
        facts: Arc::clone(&client.facts),
        peer: client.peer,
        local: client.local.ip(),
        origins: Arc::clone(&client.origins),
        scope,
        tickers: Mutex::default(),
    });
    let (io, cork) = Corked::new(io);
    let begun = builder.handshake::<_, Bytes>(Watch::new(io, verdicts.clone()));
    let connection = match client.ticker.within(limits.head_timeout, begun).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return session.broken(error).await,
        Err(_) => return,
    };
    cork.cork();
    serve(client, &session, connection, &verdicts, &cork).await;
}

/// What the client is allowed: what its origin allows. A client that may open more streams than its origin takes would
/// wait without knowing why.
async fn allowed(client: &Client, scope: &Scope) -> Allowed {
    if let Scope::Tunnel(tunneled) = scope {
        if tunneled.wanted.prior_knowledge {
            intercept::reach_in_clear(client, tunneled).await;
        }
        if let Some(shared) = client.origins.http2() {
            return shared.allowed().await;
        }
    }
    // Who answers here may do so with a WebSocket.
    let extended_connect = client.shared.answers.is_some();
    Allowed { max_streams: http2::MAX_STREAMS, extended_connect }
}

async fn serve(
    client: &mut Client,
    session: &Arc<Session>,
    mut connection: Connection<Watch<Corked<BoxIo>>, Bytes>,
    verdicts: &Verdicts,
    cork: &Cork<BoxIo>,
) {
    let idle_timeout = client.shared.limits.idle_timeout;
    let stop = client.entry.token();
    let mut streams = Streams::default();
    let mut origin = None;
    let mut stopping = false;
    let mut idle = Box::pin(tokio::time::sleep(idle_timeout));
    loop {
        let event = tokio::select! {
            biased;
            event = poll_fn(|cx| {
                let event = next_event(session, &client.entry, &mut connection, &mut streams, verdicts, cx);
                if event.is_pending() {
                    session.carry(&mut origin, cx);
                }
                if !matches!(event, Poll::Ready(Event::Requests)) {
                    // It is polled again for as long as it cannot be flushed whole.
                    let _ = cork.poll_flush(cx);
                }
                event
            }) => event,
            () = stop.cancelled(), if !stopping => Event::Stop,
            // One that was told, and does not say whether it heard, may be long gone.
            () = &mut idle, if streams.is_empty() => if stopping { Event::End } else { Event::Stop },
        };
        match event {
            Event::Requests => {}
            Event::Verdicts => {
                for verdict in verdicts.take() {
                    streams.push(Box::pin(Arc::clone(session).refused(verdict)));
                }
            }
            Event::Idle => {
                client.entry.idle();
                let limit = if stopping { LINGER_TIME } else { idle_timeout };
                idle.as_mut().reset(tokio::time::Instant::now() + limit);
            }
            Event::Stop => {
                stopping = true;
                connection.graceful_shutdown();
                idle.as_mut().reset(tokio::time::Instant::now() + LINGER_TIME);
            }
            Event::Broken(error) => {
                streams.push(Box::pin(Arc::clone(session).broken(error)));
                break;
            }
            Event::End => break,
        }
    }
    for verdict in verdicts.take() {
        streams.push(Box::pin(Arc::clone(session).refused(verdict)));
    }
    // They find their streams broken, and record it. The origin's connection goes on with its own task.
    drop(connection);
    drop(origin);
    poll_fn(|cx| poll_streams(&mut streams, cx)).await;
}

/// The streams of a connection, all in its task: what one packet brings for many of them is dealt with in one go, and
/// what they answer leaves together.
type Streams = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// What happens on a connection.
enum Event {
    /// Requests were taken: it is not idle any more.
    Requests,
    /// Requests were refused below us.
    Verdicts,
    /// The last stream has ended.
    Idle,
    /// No more requests are to be taken.
    Stop,
    Broken(h2::Error),
    End,
}

/// Takes the requests that have come; where there are none, drives the streams as far as they go.
fn next_event(
    session: &Arc<Session>,
    entry: &Entry,
    connection: &mut Connection<Watch<Corked<BoxIo>>, Bytes>,
    streams: &mut Streams,
    verdicts: &Verdicts,
    cx: &mut task::Context<'_>,
) -> Poll<Event> {
    let mut any = false;
    loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                any = true;
                verdicts.accepted(respond.stream_id().as_u32());
                entry.busy();
                streams.push(Box::pin(Arc::clone(session).stream(request, respond)));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Broken(error)),
            Poll::Ready(None) => return Poll::Ready(Event::End),
            // The client may be silent for long after one.
            Poll::Pending if verdicts.any() => return Poll::Ready(Event::Verdicts),
            Poll::Pending if any => return Poll::Ready(Event::Requests),
            Poll::Pending => break,
        }
    }
    let were_some = !streams.is_empty();
    let over = poll_streams(streams, cx);
    if were_some && over.is_ready() { Poll::Ready(Event::Idle) } else { Poll::Pending }
}

/// Drives the streams as far as they go; ready when none is left. A panic in one is no business of the others; its flow is
/// recorded as failed, since dropping it did that.
fn poll_streams(streams: &mut Streams, cx: &mut task::Context<'_>) -> Poll<()> {
    loop {
        // Whoever panics is dropped by what holds the streams, which goes on with the rest.
        match catch_unwind(AssertUnwindSafe(|| streams.poll_next_unpin(cx))) {
            Ok(Poll::Ready(Some(()))) => {}
            Ok(Poll::Ready(None)) => return Poll::Ready(()),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(_) => tracing::error!("a stream ended in a panic"),
        }
    }
}

impl Session {
    /// Carries the connection to the origin, which is this client's alone: one task for both legs.
    fn carry(&self, origin: &mut Option<Adopted>, cx: &mut task::Context<'_>) {
        if origin.is_none() {
            *origin = self.origins.http2().and_then(|shared| shared.adopt());
        }
        if origin.as_mut().is_some_and(|origin| origin.poll(cx).is_ready()) {
            *origin = None;
        }
    }

    /// One stream, from its request's head to the end of its answer.
    fn stream(
        self: Arc<Self>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let request = http2::request(&parts);
        let body = BodyReader::new(body);
        let length = match request.protocol {
            Some(_) => Ok(BodyLength::None),
            None => ends::request_length(&request, body.is_absent()),
        };
        let mut from = RequestBody::new(body, parts);
        let mut to = ResponseTo::new(respond);
        // A block, since a function's future has room for what it is given twice, and each stream has a new one.
        async move {
            let (live, judged) =
                admit(&self.shared, &self.facts, &self.scope, &request, length, started).await;
            let error = match judged {
                Ok(Plan { own_answer: Some(response), .. }) => {
                    let sent = self.own_answer(&mut to, &live, *response).await;
                    return sent.map_or_else(|error| error.record(&live), |()| live.complete());
                }
                Ok(ref plan) => match self.forward(&live, &request, plan, &mut from, &mut to).await {
                    Ok(Forwarded::Answered(_)) => return live.complete(),
                    // Only an upgrade leads there, which HTTP/2 does not know.
                    Ok(Forwarded::SwitchedHttp1(_)) => return to.reset(Reason::INTERNAL_ERROR.into()),
                    Ok(Forwarded::SwitchedHttp2(reader, writer)) => {
                        let Some(out) = to.into_writer() else { return };
                        let near = Duplex::new(from.into_reader(), out, "the client");
                        let far = Duplex::new(reader, writer, "the origin");
                        return self.join(&live, near, far, &request).await;
                    }
                    Ok(Forwarded::SwitchedHere(talk)) => {
                        let Some(out) = to.into_writer() else { return };
                        let near = Duplex::new(from.into_reader(), out, "the client");
                        return self.talk(&live, near, talk, &request).await;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::debug!(peer = %self.peer, error = %error, "exchange failed");
            error.record(&live);
            self.tell(&live, &error, &mut to).await;
        }
    }

    async fn forward(
        &self,
        live: &Live,
        request: &Request,
        plan: &Plan,
        from: &mut RequestBody,
        to: &mut ResponseTo,
    ) -> Result<Forwarded, Error> {
        let message = Message {
            request,
            length: plan.length,
            client_keeps: true,
            switch: if request.protocol.is_some() { Switch::Connect } else { Switch::Never },
        };
        let mut ticker = self.tickers().pop().unwrap_or_default();
        let mut cx =
            Context { ticker: &mut ticker, shared: &self.shared, local: self.local, origins: &self.origins };
        let forwarded = forward::forward(&mut cx, &self.scope, live, &message, plan, from, to).await;
        self.tickers().push(ticker);
        forwarded
    }

    fn tickers(&self) -> MutexGuard<'_, Vec<Ticker>> {
        self.tickers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relays what two streams carry that an extended `CONNECT` has joined. Boxed here, as what else is rare: of a future
    /// that is boxed where it is awaited, the room stays in the one that awaits it.
    fn join<'a>(
        &'a self,
        live: &'a Live,
        near: Duplex,
        far: Duplex,
        request: &'a Request,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let protocol = request.protocol.as_deref().unwrap_or_default();
            let joined = tunnel::joined(&mut Ticker::new(), &self.shared, live, near, far, protocol).await;
            if let Err(error) = joined {
                tracing::debug!(peer = %self.peer, error = %error, "joined streams failed");
            }
        })
    }

    /// The same with somebody who speaks for the origin.
    fn talk<'a>(
        &'a self,
        live: &'a Live,
        near: Duplex,
        talk: Talk,
        request: &'a Request,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let protocol = request.protocol.as_deref().unwrap_or_default();
            let mut ticker = Ticker::new();
            let work = |far| tunnel::joined(&mut ticker, &self.shared, live, near, far, protocol);
            if let Err(error) = tunnel::beside(talk, work).await {
                tracing::debug!(peer = %self.peer, error = %error, "a talk on a stream failed");
            }
        })
    }

    fn own_answer<'a>(
        &'a self,
        to: &'a mut ResponseTo,
        live: &'a Live,
        response: flow::Response,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.own_answer_unboxed(to, live, response))
    }

    async fn own_answer_unboxed(
        &self,
        to: &mut ResponseTo,
        live: &Live,
        response: flow::Response,
    ) -> Result<(), Error> {
        let body = response.body.as_inline().cloned().unwrap_or_default();
        let head =
            live.with(|flow| flow.request.as_ref().is_some_and(|request| request.method == b"HEAD"[..]));
        let length = if head { BodyLength::None } else { BodyLength::Length(body.len() as u64) };
        to.queue_head(&response, None, length, true)?;
        live.with(|flow| {
            if flow.response.is_none() {
                flow.response = Some(response);
            }
        });
        if length != BodyLength::None {
            to.queue_data(&body);
        }
        to.queue_end(None);
        let limit = self.shared.limits.relay_timeout;
        match Ticker::new().within(limit, to.flush()).await {
            Ok(sent) => sent,
            Err(_) => Err(Error::client_gone(Stage::ResponseBody, "took no byte of the answer")),
        }
    }

    /// Tells the client of a failure: with the origin's own code, if it has reset its stream; with an answer, if there is
    /// none yet; else by breaking the stream, never with a clean end.
    async fn tell(&self, live: &Live, error: &Error, to: &mut ResponseTo) {
        if let Some(code) = error.code {
            return to.reset(code);
        }
        if forward::answered(live) {
            return to.reset(Reason::INTERNAL_ERROR.into());
        }
        let Some(mut response) = answer::response(error) else {
            return to.reset(Reason::CANCEL.into());
        };
        response.raw_head = error.received.clone();
        // One that is gone needs no answer.
        let _ = self.own_answer(to, live, response).await;
    }

    /// Records a request that was refused below us, by RST_STREAM or 431.
    async fn refused(self: Arc<Self>, verdict: Verdict) {
        let limit = self.shared.limits.head.max_bytes;
        let message = match verdict.code.map(Reason::from) {
            None => format!("header list of more than {limit} bytes on stream {}", verdict.stream),
            Some(Reason::REFUSED_STREAM) => {
                format!("stream {} refused: more at a time than were allowed", verdict.stream)
            }
            Some(reason) => format!("malformed request on stream {}: {reason:?}", verdict.stream),
        };
        let error = match verdict.code {
            None => Error::new(Kind::HeadTooLarge, Side::Client, Stage::RequestHead, message),
            Some(_) => Error::bad_request(Stage::RequestHead, message),
        };
        error.record(&self.begin().await);
    }

    /// Records what ended the connection, if that was more than its close. Exchanges that were under way have records of
    /// their own.
    async fn broken(self: Arc<Self>, error: h2::Error) {
        let message = http2::explain(&error, "the client");
        tracing::debug!(peer = %self.peer, error = %message, "connection failed");
        if error.is_library() {
            Error::bad_request(Stage::RequestHead, message).record(&self.begin().await);
        }
    }

    /// A flow without a request that could be read.
    async fn begin(&self) -> Live {
        let recorder = self.shared.recorder.as_ref();
        let facts = Arc::clone(&self.facts);
        let live = Live::begin(recorder, Instant::now(), flow::Kind::Http, facts).await;
        let target = match &*self.scope {
            Scope::Tunnel(tunneled) => tunneled.target().clone(),
            Scope::Explicit => Target::default(),
        };
        live.with(|flow| flow.target = target);
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_panics_ends_and_the_others_go_on() {
        let mut streams = Streams::default();
        let ends = Arc::new(());
        for n in 0..3 {
            let end = Arc::clone(&ends);
            streams.push(Box::pin(async move {
                tokio::task::yield_now().await;
                assert!(n != 1, "this one");
                drop(end);
            }));
        }
        let mut cx = task::Context::from_waker(task::Waker::noop());
        while poll_streams(&mut streams, &mut cx).is_pending() {}
        assert!(streams.is_empty());
        assert_eq!(Arc::strong_count(&ends), 1, "what the streams held is dropped");
    }
}
