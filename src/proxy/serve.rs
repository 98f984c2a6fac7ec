//! Reading requests from a client, one after the other, and answering each in its turn (RFC 9112 §9.3.2).

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::client::{Client, Stream};
use super::ends::h1;
use super::error::{Error, Kind};
use super::forward::{self, Forwarded, Wanted};
use super::intercept::Opener;
use super::judge::{Plan, admit, recording_works};
use super::limits::{LINGER_BYTES, LINGER_TIME, MAX_BAD_HEAD};
use super::mode::{Reverse, explicit};
use super::redact::recorded;
use super::relay::{Message, Switch};
use super::{answer, bridge, bypass, detect, intercept, tunnel};
use crate::exchange::Live;
use crate::flow::{self, Request, Side, Stage, Target, Version};
use crate::http1::{
    BodyLength, HeadError, ReadError, keeps_alive, request_length, upgrade_tokens, write_response_head,
};
use crate::http2::Duplex;
use crate::upstream::Dialed;

/// Which requests may come, and where they go.
#[derive(Debug)]
pub(super) enum Scope {
    /// Each request names its origin.
    Explicit,
    /// All go to one origin.
    Tunnel(Box<Tunneled>),
}

/// The origin behind a tunnel.
#[derive(Debug)]
pub(super) struct Tunneled {
    /// What its requests are sent on. The target is what was dialled, with the scheme that the tunnel turned out to carry.
    pub(super) wanted: Wanted,
    /// The name that the client asked for in TLS and that the origin was verified by: requests for another one are
    /// misdirected. `None` in clear.
    pub(super) identity: Option<String>,
    /// Where the client takes us for the origin: it may call it by any name.
    pub(super) reverse: Option<Reverse>,
    /// Whether all that is known of the origin is an address that the client never spelled: what it calls it is its name.
    pub(super) by_address: bool,
    /// Why the origin cannot be used: the next request is answered with it.
    pub(super) broken: Mutex<Option<Error>>,
    /// What it was opened by, for the record if `broken` is never asked for, or the client leaves at once.
    pub(super) opened_by: Option<Opener>,
    /// A connection that was dialled for this tunnel and not used yet.
    /// On the heap: it is large, and rarely there.
    pub(super) first: Mutex<Option<Box<(Dialed, Instant)>>>,
}

impl Tunneled {
    /// The origin.
    pub(super) fn target(&self) -> &Target {
        &self.wanted.key.target
    }

    /// Why the origin cannot be used, told once.
    pub(super) fn take_broken(&self) -> Option<Error> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the origin cannot be used.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The connection that was dialled for it, once.
    pub(super) fn take_first(&self) -> Option<(Dialed, Instant)> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take().map(|first| *first)
    }
}

/// A `CONNECT` that was read.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) request: Request,
    pub(super) started: Instant,
    pub(super) target: Target,
}

/// How serving ended.
#[derive(Debug)]
pub(super) enum End {
    /// The connection is to be closed; what was sent is whole.
    Close,
    /// The connection is to be cut so that the client notices.
    Reset,
    /// A tunnel was asked for.
    Connect(Box<Connect>),
    /// The client began with HTTP/2's preface, which is still unread.
    Http2,
    /// The client began with TLS on the proxy's own port, which is still unread.
    Tls,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It can carry the next request.
    Keep,
    /// It ends cleanly.
    Close,
    /// It ends, though the client is still sending.
    CloseUnread,
}

/// Serves requests until the connection ends or becomes something else.
pub(super) async fn run(client: &mut Client, stream: &mut Stream, scope: &Scope) -> End {
    let mut first = true;
    loop {
        match next(client, stream, scope, first).await {
            Next::Again => first = false,
            Next::End(end) => return end,
        }
    }
}

enum Next {
    Again,
    End(End),
}

async fn next(client: &mut Client, stream: &mut Stream, scope: &Scope, first: bool) -> Next {
    let limits = client.shared.limits;
    client.entry.idle();
    let stop = client.entry.token();
    // Also where the next request is there already: it was sent ahead, and a client must expect to send it again.
    if stop.is_cancelled() {
        if has_unread(stream) {
            linger(client, stream).await;
        }
        return farewell(client, stream).await;
    }
    let arrived = tokio::select! {
        biased;
        arrived = client.ticker.within(limits.idle_timeout, stream.reader.wait_for_message()) => arrived,
        () = stop.cancelled() => return farewell(client, stream).await,
    };
    match arrived {
        Ok(Ok(true)) => {}
        // Gone between requests: nothing was asked, nothing is recorded.
        Ok(Ok(false) | Err(_)) => return Next::End(End::Close),
        Err(_) => return farewell(client, stream).await,
    }
    if first && let Scope::Tunnel(tunneled) = scope {
        // Also of a connection that was opened ahead, on which nothing came in the moment that is waited for it.
        bypass::accepted(client, tunneled);
    }
    if first && matches!(scope, Scope::Explicit) && detect::is_tls(client, stream) {
        return Next::End(End::Tls);
    }
    if first && detect::is_http2(client, stream).await {
        return Next::End(End::Http2);
    }
    let started = Instant::now();
    let head = tokio::select! {
        biased;
        head = client.ticker.within(limits.head_timeout, stream.reader.request(&limits.head)) => head,
        () = stop.cancelled() => {
            let message = "ended by the proxy in the middle of a request head";
            let error = Error::new(Kind::Ended, Side::Proxy, Stage::Shutdown, message);
            return Box::pin(bad_head(client, stream, started, error)).await;
        }
    };
    client.entry.busy();
    let request = match head {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return bad_head(client, stream, started, head_error(error)).await,
        Err(_) => {
            let message = format!("no whole request head within {:?}", limits.head_timeout);
            let error = Error::new(Kind::ClientTimeout, Side::Client, Stage::RequestHead, message);
            return Box::pin(bad_head(client, stream, started, error)).await;
        }
    };
    if request.method == b"CONNECT"[..] {
        return Box::pin(connect(client, stream, scope, request, started)).await;
    }
    exchange(client, stream, scope, request, started).await
}

/// Ends an idle connection so that the client can tell it from a broken one: in TLS, with a close_notify.
async fn farewell(client: &mut Client, stream: &mut Stream) -> Next {
    // A client that does not take it is as good as gone.
    let _ = client.ticker.within(LINGER_TIME, stream.writer.shutdown()).await;
    Next::End(End::Close)
}

/// One request other than `CONNECT`, from its head to the end of its answer.
async fn exchange(
    client: &mut Client,
    stream: &mut Stream,
    scope: &Scope,
    request: Request,
    started: Instant,
) -> Next {
    let length = request_length(&request);
    let (live, judged) = admit(&client.shared, &client.facts, scope, &request, length, started).await;
    let version = request.version;
    let error = match judged {
        Ok(Plan { own_answer: Some(response), .. }) => {
            let sent = own_answer(stream, &live, *response, &request);
            return match client.ticker.within(client.shared.limits.relay_timeout, sent).await {
                Ok(Ok(true)) => Next::Again,
                Ok(Ok(false)) => {
                    drop(live);
                    linger(client, stream).await;
                    Next::End(End::Close)
                }
                Ok(Err(())) | Err(_) => Next::End(End::Close),
            };
        }
        Ok(plan) => match forwarded(client, stream, scope, &live, &request, &plan).await {
            Ok(After::Keep) => return Next::Again,
            Ok(After::Close) if !has_unread(stream) => {
                drop(live);
                // The close_notify waits behind what a slow client has not read yet, and without it a body that runs to
                // the close would look cut. Nothing can fail here that the client would not see itself.
                let limit = client.shared.limits.relay_timeout;
                let _ = client.ticker.within(limit, stream.writer.shutdown()).await;
                return Next::End(End::Close);
            }
            Ok(After::Close | After::CloseUnread) => {
                drop(live);
                linger(client, stream).await;
                return Next::End(End::Close);
            }
            Err(error) => error,
        },
        Err(error) => error,
    };
    if matches!(error.kind, Kind::Unauthorized | Kind::Blocked(_)) {
        return Box::pin(answer_and_go_on(client, stream, live, &request, &error)).await;
    }
    tracing::debug!(peer = %client.peer, error = %error, "exchange failed");
    error.record(&live);
    if forward::answered(&live) || error.kind == Kind::Cut {
        // Never a clean end, whatever tells the length: security rests on clients that look at the end.
        return Next::End(End::Reset);
    }
    // What is rare lies on the heap here and elsewhere: a future is as large as its largest branch, and this one is made
    // anew, and copied, for every request.
    Box::pin(answer_error_as(client, stream, live, &error, version)).await;
    Next::End(End::Close)
}

/// [`forward::forward`] over HTTP/1, in which the end of the connection cuts something short.
async fn forwarded(
    client: &mut Client,
    stream: &mut Stream,
    scope: &Scope,
    live: &Live,
    request: &Request,
    plan: &Plan,
) -> Result<After, Error> {
    client.set_unfinished(true);
    let upgrade = upgrade_tokens(request);
    let message = Message {
        request,
        length: plan.length,
        client_keeps: keeps_alive(request.version, &request.headers) && !client.entry.token().is_cancelled(),
        switch: if upgrade.is_some() { Switch::Upgrade } else { Switch::Never },
    };
    // A TLS client that closes its direction is gone; on TCP it may only have nothing more to say.
    let eof_is_gone = client.facts.is_encrypted();
    let websocket_key = upgrade.and_then(|_| bridge::key(request)).map(Bytes::copy_from_slice);
    let mut from = h1::RequestBody::new(&mut stream.reader, plan.length, eof_is_gone);
    let mut to = h1::MessageOut::response(&mut stream.writer, request.version, websocket_key);
    let forwarded =
        forward::forward(&mut client.context(), scope, live, &message, plan, &mut from, &mut to).await;
    let result = match forwarded {
        Ok(Forwarded::Answered(relayed)) => {
            if !relayed.client_keeps {
                client.origins.close();
            }
            live.complete();
            Ok(match (relayed.client_keeps, relayed.unread) {
                (true, _) => After::Keep,
                (false, true) => After::CloseUnread,
                (false, false) => After::Close,
            })
        }
        Ok(Forwarded::SwitchedHttp1(origin)) => {
            let upgrade = upgrade.unwrap_or_default();
            Box::pin(tunnel::upgraded(client, stream, *origin, live, upgrade)).await
        }
        Ok(Forwarded::SwitchedHttp2(reader, writer)) => {
            let origin = Duplex::new(reader, writer, "the origin");
            Box::pin(tunnel::bridged(client, stream, origin, live)).await
        }
        Ok(Forwarded::SwitchedHere(talk)) => {
            let upgrade = upgrade.unwrap_or_default();
            Box::pin(tunnel::talked(client, stream, talk, live, upgrade)).await
        }
        Err(error) => Err(error),
    };
    client.set_unfinished(false);
    result
}

async fn own_answer(
    stream: &mut Stream,
    live: &Live,
    response: flow::Response,
    request: &Request,
) -> Result<bool, ()> {
    live.complete();
    answer_and_keep(stream, live, response, request).await
}

/// Answers a request itself. Gives whether the connection can carry another: nothing of a body is to come.
async fn answer_and_keep(
    stream: &mut Stream,
    live: &Live,
    response: flow::Response,
    request: &Request,
) -> Result<bool, ()> {
    let no_body = matches!(request_length(request), Ok(BodyLength::None | BodyLength::Length(0)));
    let keep = no_body && keeps_alive(request.version, &request.headers);
    let length = BodyLength::Length(response.body.len);
    write_response_head(stream.writer.out(), &response, request.version, length, !keep);
    if let (Some(body), false) = (response.body.as_inline(), request.method == b"HEAD"[..]) {
        stream.writer.queue_data(body, false);
    }
    live.with(|flow| flow.response = Some(response));
    stream.writer.flush().await.map_err(|_| ())?;
    Ok(keep)
}

/// Asks a client who it is (RFC 9110 §15.5.8), and keeps its connection for the answer (pitfall 116): clients that try
/// without credentials first would not come back on another. One whose request was blocked goes on with others.
async fn answer_and_go_on(
    client: &mut Client,
    stream: &mut Stream,
    live: Live,
    request: &Request,
    error: &Error,
) -> Next {
    error.record(&live);
    let Some(response) = answer::response(error) else { return Next::End(End::Close) };
    let sent = answer_and_keep(stream, &live, response, request);
    let sent = client.ticker.within(client.shared.limits.relay_timeout, sent).await;
    drop(live);
    match sent {
        Ok(Ok(true)) => Next::Again,
        Ok(Ok(false)) => {
            linger(client, stream).await;
            Next::End(End::Close)
        }
        Ok(Err(())) | Err(_) => Next::End(End::Close),
    }
}

async fn connect(
    client: &mut Client,
    stream: &mut Stream,
    scope: &Scope,
    request: Request,
    started: Instant,
) -> Next {
    let bad = |message: &str| Error::bad_request(Stage::Target, message);
    let judged = match (scope, request_length(&request)) {
        (Scope::Tunnel(_), _) => Err(bad("CONNECT inside a tunnel: this is not an explicit proxy in here")),
        (_, Err(error)) => Err(bad(&error.to_string())),
        (_, Ok(BodyLength::None | BodyLength::Length(0))) => explicit::connect_target(&request)
            .and_then(|target| recording_works(&client.shared).map(|()| target)),
        (_, Ok(_)) => Err(bad("a CONNECT has no body")),
    };
    // Asked before anything is looked up or dialled.
    let judged = match (judged, scope) {
        (Ok(target), Scope::Explicit) => match client.shared.access.check(&request.headers).await {
            Ok(()) => Ok(target),
            Err(error) => {
                let recorded = recorded(&request, Some(BodyLength::None));
                let opener = Opener { request: Some(recorded), started, target };
                let live = intercept::begin(client, flow::Kind::Connect, opener).await;
                return answer_and_go_on(client, stream, live, &request, &error).await;
            }
        },
        (judged, _) => judged,
    };
    let request = recorded(&request, Some(BodyLength::None));
    match judged {
        Ok(target) => Next::End(End::Connect(Box::new(Connect { request, started, target }))),
        Err(error) => {
            let opener = Opener { request: Some(request), started, target: Target::default() };
            let live = intercept::begin(client, flow::Kind::Connect, opener).await;
            error.record(&live);
            answer_error(client, stream, live, &error).await;
            Next::End(End::Close)
        }
    }
}

/// A head that could not be read is a flow too, with the bytes that came.
async fn bad_head(client: &mut Client, stream: &mut Stream, started: Instant, error: Error) -> Next {
    let live =
        Live::begin(client.shared.recorder.as_ref(), started, flow::Kind::Http, Arc::clone(&client.facts))
            .await;
    let seen = stream.reader.buffer();
    let kept = Bytes::copy_from_slice(&seen[..seen.len().min(MAX_BAD_HEAD)]);
    let request = Request { head_len: seen.len() as u64, raw_head: Some(kept), ..Request::default() };
    live.with(|flow| flow.request = Some(recorded(&request, Some(BodyLength::None))));
    error.record(&live);
    answer_error(client, stream, live, &error).await;
    Next::End(End::Close)
}

fn head_error(error: ReadError) -> Error {
    match error {
        ReadError::Head(error @ (HeadError::TooLong { .. } | HeadError::TooManyFields { .. })) => {
            Error::new(Kind::HeadTooLarge, Side::Client, Stage::RequestHead, error.to_string())
        }
        ReadError::Head(error) => Error::bad_request(Stage::RequestHead, error.to_string()),
        ReadError::Eof => Error::client_gone(Stage::RequestHead, "closed in the middle of a request head"),
        other => Error::client_gone(Stage::RequestHead, other.to_string()),
    }
}

/// Tells the client of a failure, if it is there to be told, notes the answer in the flow, and takes leave of both: the
/// flow has ended then, and our direction of the connection.
pub(super) async fn answer_error(client: &mut Client, stream: &mut Stream, live: Live, error: &Error) {
    answer_error_as(client, stream, live, error, Version::Http11).await;
}

async fn answer_error_as(
    client: &mut Client,
    stream: &mut Stream,
    live: Live,
    error: &Error,
    version: Version,
) {
    let Some(mut response) = answer::response(error) else { return };
    response.raw_head = error.received.clone();
    let head = live.with(|flow| flow.request.as_ref().is_some_and(|request| request.method == b"HEAD"[..]));
    let length = BodyLength::Length(response.body.len);
    write_response_head(stream.writer.out(), &response, version, length, true);
    if let (Some(body), false) = (response.body.as_inline(), head) {
        stream.writer.queue_data(body, false);
    }
    live.with(|flow| {
        if flow.response.is_none() {
            flow.response = Some(response);
        }
    });
    let sent = client.ticker.within(LINGER_TIME, stream.writer.flush()).await;
    drop(live);
    if sent.is_ok_and(|sent| sent.is_ok()) {
        linger(client, stream).await;
    }
}

/// Whether the client has sent something that will not be served.
fn has_unread(stream: &mut Stream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    !stream.reader.buffer().is_empty() || matches!(stream.reader.poll_fill(&mut cx), Poll::Ready(Ok(1..)))
}

/// Ends our direction and reads on for a moment: closing with unread data would reset the connection, and the client
/// might lose the answer (RFC 9112 §9.6).
pub(super) async fn linger(client: &mut Client, stream: &mut Stream) {
    let work = async {
        stream.writer.shutdown().await?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            let len = stream.reader.fill().await?;
            if len == 0 {
                break;
            }
            stream.reader.take_buffer();
            left = left.saturating_sub(len);
        }
        std::io::Result::Ok(())
    };
    // The connection ends here either way.
    let _ = client.ticker.within(LINGER_TIME, work).await;
}
