//! Reading requests from a client, one after the other, and answering each in its turn (RFC 9112 §9.3.2).

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::ReadHalf;

use super::client::{Client, Stream};
use super::error::{Error, Kind};
use super::forward::{self, After};
use super::limits::{LINGER_BYTES, LINGER_TIME, MAX_BAD_HEAD, MAX_READ_AHEAD};
use super::mode::explicit::{self, Route};
use super::{answer, intercept};
use crate::exchange::Live;
use crate::flow::{self, Body, BodyEnd, Framing, Headers, Request, Scheme, Side, Stage, Target, Version};
use crate::http1::{BodyLength, HeadError, ReadError, Reader, request_length, write_response_head};
use crate::upstream::{BoxIo, Dialed};

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
    /// What was dialled, with the scheme that the tunnel turned out to carry.
    pub(super) target: Target,
    /// The name that the client asked for in TLS and that the origin was verified by: requests for another one are
    /// misdirected. `None` in clear.
    pub(super) identity: Option<String>,
    /// Why the origin cannot be used: each request is answered with it.
    pub(super) broken: Option<Error>,
    /// The `CONNECT` and its time, for the record if `broken` is never asked for.
    pub(super) opened_by: Option<(Request, Instant)>,
    /// A connection that was dialled for this tunnel and not used yet.
    pub(super) first: Option<(Dialed, Instant)>,
    /// Protocols to offer on further connections.
    pub(super) offers: Vec<Bytes>,
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
}

/// Serves requests until the connection ends or becomes something else.
pub(super) async fn run(client: &mut Client, stream: &mut Stream, scope: &mut Scope) -> End {
    loop {
        match next(client, stream, scope).await {
            Next::Again => {}
            Next::End(end) => return end,
        }
    }
}

enum Next {
    Again,
    End(End),
}

async fn next(client: &mut Client, stream: &mut Stream, scope: &mut Scope) -> Next {
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
    scope: &mut Scope,
    request: Request,
    started: Instant,
) -> Next {
    let live =
        Live::begin(client.shared.recorder.as_ref(), started, flow::Kind::Http, Arc::clone(&client.facts))
            .await;
    let judged = judge(client, scope, &request);
    let version = request.version;
    let length = judged.as_ref().ok().map_or_else(|| request_length(&request).ok(), |plan| Some(plan.length));
    let now = live.now_us();
    live.with(|flow| {
        flow.timing.request_head_us = Some(now);
        // Where there is no body, the head is all of it.
        flow.timing.request_end_us = (length == Some(BodyLength::None)).then_some(now);
        flow.target = match (&judged, &*scope) {
            (Ok(plan), _) => plan.route.target.clone(),
            (Err(_), Scope::Tunnel(tunneled)) => tunneled.target.clone(),
            (Err(_), Scope::Explicit) => Target::default(),
        };
        flow.request = Some(recorded(&request, length));
    });
    let error = match judged {
        Ok(Plan { own_answer: Some(response), .. }) => {
            let sent = own_answer(stream, &live, response, &request);
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
    tracing::debug!(peer = %client.peer, error = %error, "exchange failed");
    error.record(&live);
    if forward::answered(&live) {
        // Never a clean end, whatever tells the length: security rests on clients that look at the end.
        return Next::End(End::Reset);
    }
    // What is rare lies on the heap here and elsewhere: a future is as large as its largest branch, and this one is made
    // anew, and copied, for every request.
    Box::pin(answer_error_as(client, stream, live, &error, version)).await;
    Next::End(End::Close)
}

/// [`forward::forward`], in which the end of the connection cuts something short.
async fn forwarded(
    client: &mut Client,
    stream: &mut Stream,
    scope: &mut Scope,
    live: &Live,
    request: &Request,
    plan: &Plan,
) -> Result<After, Error> {
    client.set_unfinished(true);
    let result = forward::forward(client, stream, scope, live, request, plan).await;
    client.set_unfinished(false);
    result
}

/// What is to be done with a request that was found good.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) route: Route,
    pub(super) length: BodyLength,
    /// `Host` as it goes on, where it is not the client's.
    pub(super) host: Option<Vec<u8>>,
    pub(super) max_forwards: Option<u64>,
    /// We are the last hop for it (RFC 9110 §7.6.2).
    own_answer: Option<flow::Response>,
}

/// Everything that can be said against a request before an origin is asked.
fn judge(client: &Client, scope: &Scope, request: &Request) -> Result<Plan, Error> {
    let bad = |message: String| Error::bad_request(Stage::RequestHead, message);
    let length = request_length(request).map_err(|error| bad(error.to_string()))?;
    if request.headers.get_all("host").count() > 1 {
        return Err(bad("more than one Host field".into()));
    }
    if request.version == Version::Http11 && request.headers.get("host").is_none() {
        // RFC 9112 §3.2: also where an absolute-form target would tell the host.
        return Err(bad("no Host field in an HTTP/1.1 request".into()));
    }
    let route = match scope {
        Scope::Explicit => explicit::route(request, Scheme::Http)?,
        Scope::Tunnel(tunneled) => inside(tunneled, request)?,
    };
    recording_works(client)?;
    let host = replaced_host(request, &route);
    let (max_forwards, own_answer) = count_down(request);
    Ok(Plan { route, length, host, max_forwards, own_answer })
}

/// Whether requests may go on unrecorded, or recording works.
fn recording_works(client: &Client) -> Result<(), Error> {
    if client.shared.require_recording && client.shared.recorder.as_ref().is_none_or(|r| r.is_failing()) {
        let message = "recording does not work";
        return Err(Error::new(Kind::NotRecording, Side::Proxy, Stage::RequestHead, message));
    }
    Ok(())
}

/// The route of a request inside a tunnel: the tunnel's origin, and no other.
fn inside(tunneled: &Tunneled, request: &Request) -> Result<Route, Error> {
    let scheme = tunneled.target.scheme;
    let mut route = if request.headers.get("host").is_none() && request.target.starts_with(b"/") {
        // HTTP/1.0: the tunnel tells the host.
        Route { target: tunneled.target.clone(), origin_form: request.target.to_vec(), authority: None }
    } else {
        explicit::route(request, scheme)?
    };
    let named = &route.target;
    let own_name = tunneled.identity.as_deref().unwrap_or(&tunneled.target.host);
    let same_host =
        |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(own_name.trim_end_matches('.'));
    // A Host field without a port says nothing about one on another port than the scheme's.
    let says_port = named.port != scheme.default_port();
    let same = named.scheme == scheme
        && same_host(&named.host)
        && (!says_port || named.port == tunneled.target.port);
    let absolute = route.authority.is_some();
    if !same && (absolute || tunneled.identity.is_some()) {
        let message = format!(
            "this connection is for {own_name}:{}, the request for {}:{}",
            tunneled.target.port, named.host, named.port
        );
        return Err(Error::new(Kind::Misdirected, Side::Client, Stage::Target, message));
    }
    route.target = Target { host: own_name.to_owned(), ..tunneled.target.clone() };
    Ok(route)
}

/// `Host` as it must be sent where the client's is missing or contradicts the target (RFC 9112 §3.2.2).
fn replaced_host(request: &Request, route: &Route) -> Option<Vec<u8>> {
    let Some(host) = request.headers.get("host") else { return Some(route.target.authority().into_bytes()) };
    let authority = route.authority.as_ref()?;
    let default = Some(route.target.scheme.default_port());
    let same = explicit::authority(host, default)
        .is_ok_and(|(host, port)| host.eq_ignore_ascii_case(&route.target.host) && port == route.target.port);
    (!same).then(|| authority.clone())
}

/// `Max-Forwards` of TRACE and OPTIONS (RFC 9110 §7.6.2): one less, or our own answer at 0.
fn count_down(request: &Request) -> (Option<u64>, Option<flow::Response>) {
    let counted = request.method == b"TRACE"[..] || request.method == b"OPTIONS"[..];
    let value = request.headers.get("max-forwards").filter(|_| counted);
    let left = value.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse::<u64>().ok());
    match left {
        Some(0) => (None, Some(answer::local(200, "OK", "text/plain; charset=utf-8", Bytes::new()))),
        left => (left.map(|left| left - 1), None),
    }
}

async fn own_answer(
    stream: &mut Stream,
    live: &Live,
    response: flow::Response,
    request: &Request,
) -> Result<bool, ()> {
    let keep = request_length(request) == Ok(BodyLength::None)
        && crate::http1::keeps_alive(request.version, &request.headers);
    write_response_head(stream.writer.out(), &response, request.version, BodyLength::None, !keep);
    live.with(|flow| flow.response = Some(response));
    live.complete();
    stream.writer.flush().await.map_err(|_| ())?;
    Ok(keep)
}

/// A request as it is recorded before its body has come: without the client's credentials for us. A body whose `length`
/// cannot be told is cut off before its first byte.
fn recorded(request: &Request, length: Option<BodyLength>) -> Request {
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
    headers
        .iter()
        .any(|(name, _)| secret(name))
        .then(|| headers.iter().map(|(n, v)| (n, if secret(n) { &b"(redacted)"[..] } else { v })).collect())
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
        (_, Ok(BodyLength::None | BodyLength::Length(0))) => {
            explicit::connect_target(&request).and_then(|target| recording_works(client).map(|()| target))
        }
        (_, Ok(_)) => Err(bad("a CONNECT has no body")),
    };
    let request = recorded(&request, Some(BodyLength::None));
    match judged {
        Ok(target) => Next::End(End::Connect(Box::new(Connect { request, started, target }))),
        Err(error) => {
            let live =
                intercept::begin(client, started, flow::Kind::Connect, request, Target::default()).await;
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

/// Waits until the client is gone. Bytes that it sends ahead are kept, up to a bound. The end of its direction alone is
/// no farewell where it may be a half-close (`eof_is_gone` false): its answer is still due.
pub(super) async fn gone(reader: &mut Reader<ReadHalf<BoxIo>>, eof_is_gone: bool) -> Error {
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
