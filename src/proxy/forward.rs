//! One request to its origin, and the answer back, for each combination of protocols.
//!
//! A request is sent once more where nothing is lost by it: one that went out on a used connection and met its end there,
//! if it is safe to repeat and not a byte of an answer was seen (RFC 9112 §9.3.1); one of which the origin said that it
//! did not look at it (RFC 9113 §8.7). Never, if something of its body was taken.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Reason;

use super::answered;
use super::answers::Talk;
use super::bridge;
use super::context::Context;
use super::ends::{RequestIn, ResponseOut, h1, h2 as ends_h2};
use super::error::{Error, Retry};
use super::intercept;
use super::judge::Plan;
use super::relay::{self, Ends, Message, Relayed, Switch};
use super::ruled;
use super::serve::Scope;
use super::site;
use crate::exchange::Live;
use crate::flow::{Request, Scheme, Stage, Version};
use crate::http1::{BodyLength, RequestLine, upgrade_tokens, write_request_head};
use crate::http2::{self, BodyReader, BodyWriter};
use crate::upstream::{Connection, Dialed, Key, Multiplexed, Origin, Passage, Spoken, absolute_form};

/// What became of a request.
pub(super) enum Forwarded {
    /// It was answered.
    Answered(Relayed),
    /// The protocol has changed, and the origin's connection carries the new one.
    SwitchedHttp1(Box<Origin>),
    /// The same, on a stream.
    SwitchedHttp2(BodyReader, BodyWriter),
    /// The same, and there is no origin: this speaks for it.
    SwitchedHere(Talk),
}

/// Does with a request what rules say, where there are any, and sends it and relays what comes back.
pub(super) async fn forward<I: RequestIn, O: ResponseOut>(
    cx: &mut Context<'_>,
    scope: &Scope,
    live: &Live,
    message: &Message<'_>,
    plan: &Plan,
    from: &mut I,
    to: &mut O,
) -> Result<Forwarded, Error> {
    match cx.shared.rules.clone() {
        Some(rules) => ruled::ruled(cx, rules, scope, live, message, plan, from, to).await,
        None => asked(cx, scope, live, message, plan, from, to).await,
    }
}

/// Sends a request and relays what comes back; where there is somebody to answer it, he is asked first.
pub(super) async fn asked<I: RequestIn, O: ResponseOut>(
    cx: &mut Context<'_>,
    scope: &Scope,
    live: &Live,
    message: &Message<'_>,
    plan: &Plan,
    from: &mut I,
    to: &mut O,
) -> Result<Forwarded, Error> {
    match cx.shared.answers.clone() {
        Some(answers) => answered::answered(cx, answers, scope, live, message, plan, from, to).await,
        None => sent(cx, scope, live, message, plan, from, to).await,
    }
}

/// Sends a request to its origin and relays what comes back.
pub(super) async fn sent<I: RequestIn, O: ResponseOut>(
    cx: &mut Context<'_>,
    scope: &Scope,
    live: &Live,
    message: &Message<'_>,
    plan: &Plan,
    from: &mut I,
    to: &mut O,
) -> Result<Forwarded, Error> {
    let mut again = false;
    loop {
        let connection = {
            let mut acquired = pin!(acquire(cx, scope, live, plan, again));
            // A client that leaves takes the dialling with it.
            poll_fn(|task| match acquired.as_mut().poll(task) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => to.poll_refused(task).map(Err),
            })
            .await?
        };
        let result = match connection {
            Connection::Http1(origin) => over_http1(cx, live, message, plan, from, to, origin).await,
            Connection::Http2(shared) => {
                let result = over_http2(cx, live, message, plan, from, to, &shared).await;
                if let Err(error) = &result
                    && error.code == Some(Reason::HTTP_1_1_REQUIRED.into())
                    && message.request.version != Version::Http2
                    && !again
                {
                    // A client that speaks HTTP/2 is told, and comes back with HTTP/1.1. This one has done so already.
                    cx.shared.memo.set(shared.key.clone(), Spoken::Http1);
                    cx.origins.forget(&shared);
                }
                result
            }
        };
        match result {
            Err(error) if !again && !from.has_begun() && may_repeat(&error, message) => {
                tracing::debug!(error = %error, "sent again");
                again = true;
            }
            result => return result,
        }
    }
}

fn may_repeat(error: &Error, message: &Message<'_>) -> bool {
    let speaks_http2 = message.request.version == Version::Http2;
    match error.retry {
        // A client that speaks HTTP/2 is told that its stream was refused, and knows better whether to try again.
        Retry::Always => !(speaks_http2 && error.code == Some(Reason::REFUSED_STREAM.into())),
        Retry::IfIdempotent => message.length == BodyLength::None && is_idempotent(&message.request.method),
        Retry::Never => !speaks_http2 && error.code == Some(Reason::HTTP_1_1_REQUIRED.into()),
    }
}

/// On the heap, as [`over_http2`]: of a future that is boxed where it is awaited, the room stays in the one that awaits it,
/// and each request has a new one of that.
fn over_http1<'a, I: RequestIn, O: ResponseOut>(
    cx: &'a mut Context<'_>,
    live: &'a Live,
    message: &'a Message<'_>,
    plan: &'a Plan,
    from: &'a mut I,
    to: &'a mut O,
    mut origin: Box<Origin>,
) -> BoxFuture<'a, Result<Forwarded, Error>> {
    Box::pin(async move {
        let request = message.request;
        if message.switch == Switch::Connect {
            let error = "this origin speaks HTTP/1.1, which knows no extended CONNECT";
            return Err(Error::bad_gateway(Stage::RequestHead, error));
        }
        let absolute = origin.forwarder.as_ref().map(|_| absolute_target(plan));
        let line = RequestLine {
            target: absolute.as_deref().unwrap_or(&plan.route.origin_form),
            host: plan.host.as_deref(),
            upgrade: upgrade_tokens(request).is_some(),
            max_forwards: plan.max_forwards,
            proxy_authorization: origin.forwarder.as_ref().and_then(|proxy| proxy.authorization()),
        };
        write_request_head(origin.writer.out(), request, &line, plan.length);
        origin.tied |= authenticates_connection(request);
        let reused = origin.used > 0;
        let Origin { reader, writer, forwarder, .. } = &mut *origin;
        let ends = Ends {
            request_in: from,
            request_out: &mut h1::MessageOut::request(writer, plan.length),
            response_in: &mut h1::ResponseFrom::new(reader, reused).through(forwarder.as_deref()),
            response_out: to,
        };
        let relayed = relay::exchange(cx.ticker, &cx.shared.limits, live, ends, message).await?;
        if relayed.switched {
            return Ok(Forwarded::SwitchedHttp1(origin));
        }
        // An exchange may have made the connection one client's own.
        origin.used += 1;
        origin.tied |= relayed.ties;
        if relayed.origin_keeps {
            cx.origins.keep(Connection::Http1(origin));
        }
        Ok(Forwarded::Answered(relayed))
    })
}

fn over_http2<'a, I: RequestIn, O: ResponseOut>(
    cx: &'a mut Context<'_>,
    live: &'a Live,
    message: &'a Message<'_>,
    plan: &'a Plan,
    from: &'a mut I,
    to: &'a mut O,
    shared: &'a Multiplexed,
) -> BoxFuture<'a, Result<Forwarded, Error>> {
    Box::pin(async move {
        let bridged = match message.switch {
            Switch::Upgrade => bridged(message, shared).await,
            Switch::Connect | Switch::Never => None,
        };
        let request = bridged.as_deref().unwrap_or(message.request);
        let switch = if bridged.is_some() { Switch::Connect } else { message.switch };
        let message = &Message { switch, ..*message };
        let connect = switch == Switch::Connect;
        if connect && !shared.allowed().await.extended_connect {
            let error = "this origin takes no extended CONNECT";
            return Err(Error::bad_gateway(Stage::RequestHead, error));
        }
        let reused = live.with(|flow| flow.server_reused);
        let host = || request.headers.get("host").map(Bytes::copy_from_slice);
        let authority = plan.host.clone().or_else(|| request.authority.clone()).or_else(host);
        let scheme = plan.route.target.scheme.as_str();
        let path = &plan.route.origin_form;
        let head = ends_h2::outgoing_request(
            request,
            scheme,
            &authority.unwrap_or_default(),
            path,
            plan.max_forwards,
            from.take_head(),
        )?;
        let ends = plan.length == BodyLength::None && !connect;
        let refused = |error: h2::Error| Error {
            retry: if http2::is_unprocessed(&error) || error.is_io() { Retry::Always } else { Retry::Never },
            ..Error::bad_gateway(Stage::RequestHead, http2::explain(&error, "the origin"))
        };
        let _entered = shared.enter();
        // One that is new to it need not wait for an earlier request of its own.
        let (response, stream) = shared.sender().send_request(head, ends).map_err(refused)?;
        let mut request_out = ends_h2::RequestOut::new(BodyWriter::new(stream, ends));
        let mut response_in = ends_h2::ResponseFrom::new(response, reused);
        let ends = Ends {
            request_in: from,
            request_out: &mut request_out,
            response_in: &mut response_in,
            response_out: to,
        };
        let relayed = relay::exchange(cx.ticker, &cx.shared.limits, live, ends, message).await?;
        match response_in.into_reader().filter(|_| relayed.switched) {
            Some(reader) => Ok(Forwarded::SwitchedHttp2(reader, request_out.into_writer())),
            None => Ok(Forwarded::Answered(relayed)),
        }
    })
}

/// A WebSocket of a client that speaks HTTP/1.1, where the origin takes it; else it is a request like others. On the heap, as
/// all that is rare.
fn bridged<'a>(message: &'a Message<'_>, shared: &'a Multiplexed) -> BoxFuture<'a, Option<Box<Request>>> {
    Box::pin(async move {
        let bridged = bridge::connect(message.request).filter(|_| message.length == BodyLength::None)?;
        shared.allowed().await.extended_connect.then(|| Box::new(bridged))
    })
}

/// The target of a request as an upstream proxy gets it, that forwards it.
fn absolute_target(plan: &Plan) -> Vec<u8> {
    let spelled = plan.route.authority.clone();
    let authority = spelled.unwrap_or_else(|| plan.route.target.authority().into());
    absolute_form(&authority, &plan.route.origin_form)
}

/// Whether an answer has begun to go to the client.
pub(super) fn answered(live: &Live) -> bool {
    live.with(|flow| flow.timing.response_head_us.is_some())
}

/// A connection for the request: one at hand, else a new one; `again` if one at hand has just failed.
async fn acquire(
    cx: &Context<'_>,
    scope: &Scope,
    live: &Live,
    plan: &Plan,
    again: bool,
) -> Result<Connection, Error> {
    let explicit;
    let wanted = match scope {
        Scope::Explicit => {
            explicit = Wanted::explicit(plan);
            &explicit
        }
        Scope::Tunnel(tunneled) => {
            if let Some(error) = tunneled.take_broken().or_else(|| site::own_tunnel(cx.shared, tunneled)) {
                return Err(error);
            }
            match tunneled.wanted.passage {
                // A reverse proxy's, which forwards plain requests as an explicit one does.
                Passage::Forwarded if plan.tunnel => {
                    explicit = Wanted::explicit(plan);
                    &explicit
                }
                _ => &tunneled.wanted,
            }
        }
    };
    if let Some(connection) = at_hand(cx, wanted, again) {
        return Ok(connected(live, connection));
    }
    // Connections that many exchanges can share are opened once.
    let _turn = if wanted.may_be_http2(cx) { cx.origins.turn().await } else { None };
    if _turn.is_some()
        && let Some(connection) = at_hand(cx, wanted, again)
    {
        return Ok(connected(live, connection));
    }
    let first = match scope {
        Scope::Tunnel(tunneled) => tunneled.take_first(),
        Scope::Explicit => None,
    };
    let connection = open(cx, wanted, first).await?;
    if let Connection::Http2(shared) = &connection {
        cx.origins.keep(Connection::Http2(Arc::clone(shared)));
    }
    Ok(connected(live, connection))
}

/// A new connection, on one that was dialled before if there is one.
fn open<'a>(
    cx: &'a Context<'_>,
    wanted: &'a Wanted,
    first: Option<(Dialed, Instant)>,
) -> BoxFuture<'a, Result<Connection, Error>> {
    Box::pin(async move {
        let first = match first {
            Some(first) => first,
            None => intercept::dial(cx.shared, cx.local, &wanted.key.target, wanted.passage).await?,
        };
        intercept::handshake(cx.shared, cx.local, wanted, first).await
    })
}

/// A connection that is there. After a failure on one of HTTP/1, none of those: they may all be of the same age.
fn at_hand(cx: &Context<'_>, wanted: &Wanted, again: bool) -> Option<Connection> {
    let connection = cx.origins.take(&wanted.key, |connection| wanted.fits(cx.shared, connection))?;
    if connection.is_forwarded() && wanted.passage == Passage::Tunnel {
        // One of the client's own, on which other requests may follow.
        cx.origins.keep(connection);
        return None;
    }
    (connection.is_http2() || !again).then_some(connection)
}

/// Notes the connection in the flow.
fn connected(live: &Live, connection: Connection) -> Connection {
    let reused = match &connection {
        Connection::Http1(origin) => origin.used > 0,
        Connection::Http2(shared) => !shared.count(),
    };
    live.connected(Arc::clone(connection.facts()), reused);
    connection
}

/// The connection that a request needs.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    /// The protocols that the client has offered and that we speak, in its order.
    pub(super) offers: Vec<Bytes>,
    /// In clear: whether the client knows that the origin speaks HTTP/2.
    pub(super) prior_knowledge: bool,
    /// What an upstream proxy is asked for.
    pub(super) passage: Passage,
}

impl Wanted {
    fn explicit(plan: &Plan) -> Self {
        let target = &plan.route.target;
        let name = if target.scheme == Scheme::Https { target.host.clone() } else { String::new() };
        let forwarded = target.scheme == Scheme::Http && !plan.tunnel;
        let passage = if forwarded { Passage::Forwarded } else { Passage::Tunnel };
        Self {
            key: Key { target: target.clone(), name },
            offers: Vec::new(),
            prior_knowledge: false,
            passage,
        }
    }

    /// What an origin is offered: the client's protocols, unless the origin is known to insist on another.
    pub(super) fn origin_offers(&self, shared: &super::shared::Shared) -> Vec<Bytes> {
        match shared.memo.get(&self.key) {
            _ if self.offers.is_empty() => Vec::new(),
            Some(Spoken::Http1) => vec![Bytes::from_static(HTTP1)],
            Some(Spoken::Http2) => vec![Bytes::from_static(HTTP2)],
            None => self.offers.clone(),
        }
    }

    /// Whether a connection that another client left is of the kind that this client would get.
    pub(super) fn fits(&self, shared: &super::shared::Shared, connection: &Connection) -> bool {
        if connection.is_forwarded() && self.passage == Passage::Tunnel {
            return false;
        }
        if self.key.target.scheme != Scheme::Https {
            return connection.is_http2() == self.prior_knowledge;
        }
        let offers_http2 = self.origin_offers(shared).iter().any(|offer| offer[..] == *HTTP2);
        connection.is_http2() == offers_http2
            || !connection.is_http2() && {
                // The origin chose HTTP/1 though it was offered HTTP/2.
                let tls = connection.facts().tls.as_ref();
                tls.is_some_and(|tls| tls.alpn_offers.iter().any(|offer| offer[..] == *HTTP2))
            }
    }

    fn may_be_http2(&self, cx: &Context<'_>) -> bool {
        match self.key.target.scheme {
            Scheme::Https => self.origin_offers(cx.shared).iter().any(|offer| offer[..] == *HTTP2),
            Scheme::Http | Scheme::Tcp => self.prior_knowledge,
        }
    }
}

/// The protocols by their ALPN names (RFC 7301 §6, RFC 9113 §3.1).
pub(super) const HTTP1: &[u8] = b"http/1.1";
pub(super) const HTTP2: &[u8] = b"h2";

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    [&b"GET"[..], b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"].contains(&method)
}

/// Whether a request takes part in an authentication that holds for its connection (RFC 4559 §6 on NTLM and Negotiate).
fn authenticates_connection(request: &Request) -> bool {
    request.headers.get_all("authorization").any(|value| {
        let scheme = value.split(|&b| b == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
    })
}
