//! `CONNECT`, and TLS inside it: the origin is dialled before the client is told that there is a tunnel, verified before a
//! byte of a request leaves, and the client gets a leaf for the name that it asked for.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::bypass::{self, Left};
use super::client::{Client, Stream};
use super::ends::h1;
use super::error::{Error, Kind};
use super::forward::{HTTP1, HTTP2, Wanted};
use super::mode::Mode;
use super::serve::{self, Connect, Scope, Tunneled};
use super::shared::Shared;
use super::site;
use crate::exchange::Live;
use crate::flow::{self, ConnectHead, Scheme, ServerConn, Side, Stage, State, Target, TlsInfo, Version};
use crate::http2;
use crate::tls::{self, Alpn};
use crate::upstream::{
    BoxIo, Connection, DialError, Dialed, Key, Link, Multiplexed, MultiplexedOptions, OnClose, Origin,
    Passage, ReadAhead, Spoken,
};

/// What a connection to one origin was opened by, for the record of what comes of it.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    /// The `CONNECT`, where there was one.
    pub(super) request: Option<flow::Request>,
    pub(super) started: Instant,
    /// What was asked for; its scheme may not be known yet.
    pub(super) target: Target,
}

/// A tunnel that was promised to the client.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) opener: Opener,
    pub(super) origin: Reached,
}

/// How the origin was reached before the client was answered.
#[derive(Debug)]
pub(super) enum Reached {
    /// A verified connection that an earlier client left.
    Pooled(Connection),
    /// A new TCP connection.
    Dialed(Box<Dialed>, Instant),
    /// Not at all: it is asked when a request is to go on to it, if ever.
    NotYet,
}

/// Answers a `CONNECT`: dials first, then promises. `None` if it was refused; the connection then is at its end.
pub(super) async fn connect(client: &mut Client, stream: &mut Stream, connect: Connect) -> Option<Opened> {
    let Connect { request, started, target } = connect;
    match reach_ahead(client, stream, &target).await {
        Ok(origin) => {
            let head = ConnectHead { authority: request.target.clone(), headers: request.headers.clone() };
            client.learn(|facts| facts.connect = Some(head));
            stream.writer.out().extend_from_slice(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let sent = client.ticker.within(client.shared.limits.relay_timeout, stream.writer.flush()).await;
            if !matches!(sent, Ok(Ok(()))) {
                return None;
            }
            Some(Opened { opener: Opener { request: Some(request), started, target }, origin })
        }
        Err(error) => {
            let opener = Opener { request: Some(request), started, target };
            let live = begin(client, flow::Kind::Connect, opener).await;
            error.record(&live);
            serve::answer_error(client, stream, live, &error).await;
            None
        }
    }
}

/// Reaches the origin of a tunnel that is not promised yet: a verified connection that an earlier client left, else a new
/// one. A client that leaves meanwhile takes the dialling with it; what it sends ahead stays in its buffer.
pub(super) async fn reach_ahead(
    client: &Client,
    stream: &mut Stream,
    target: &Target,
) -> Result<Reached, Error> {
    if site::is_target(&client.shared, target) {
        return site::can_be_shown(&client.shared, target).map(|()| Reached::NotYet);
    }
    if client.shared.rules.as_ref().is_some_and(|rules| rules.blocks_ahead(target, &client.facts)) {
        // Nothing that is asked for by this name goes on. By another one, which TLS may bring, it is reached when it has to be.
        return Ok(Reached::NotYet);
    }
    let key = Key { target: Target { scheme: Scheme::Https, ..target.clone() }, name: target.host.clone() };
    if let Some(connection) = client.shared.pool.take(&key, |_| true) {
        return Ok(Reached::Pooled(connection));
    }
    if client.shared.answers.is_some() {
        return Ok(Reached::NotYet);
    }
    tokio::select! {
        biased;
        dialed = dial(client.shared.as_ref(), client.local.ip(), target, Passage::Tunnel) => {
            dialed.map(|(dialed, since)| Reached::Dialed(Box::new(dialed), since))
        }
        gone = h1::gone(&mut stream.reader, true) => Err(gone),
    }
}

/// Dials an origin, or the upstream proxy that leads there.
pub(super) async fn dial(
    shared: &Shared,
    local: IpAddr,
    target: &Target,
    passage: Passage,
) -> Result<(Dialed, Instant), Error> {
    let since = Instant::now();
    let guard = |address| shared.is_own(address, Some(local));
    match shared.dialer.open(&target.host, target.port, passage, &guard).await {
        Ok(mut dialed) => {
            dialed.conn.id = shared.next_conn_id();
            if let Some((here, there)) = dialed.ends()
                && here.ip() == there.ip()
                && shared.is_own(there, Some(here.ip()))
            {
                // One of the machine's own addresses, on which a listener for all of them is reached.
                let way = match &dialed.conn.via {
                    Some(via) => format!("upstream proxy {}://{}", via.scheme, via.address),
                    None => target.host_port(),
                };
                let message = format!("{way} is this proxy itself ({there}){}", site::pointer(shared));
                let error = Error::new(Kind::Loop, Side::Proxy, Stage::Target, message);
                return Err(Error { server: Some(Box::new(dialed.conn)), ..error });
            }
            Ok((dialed, since))
        }
        Err(error) => Err(dial_error(shared, error)),
    }
}

/// Makes a connection to an origin that is ready for a request, on one that was dialled: TLS is done and verified where
/// the origin is an https one, and HTTP/2 begun where that is spoken.
///
/// An origin that takes none of the protocols that the client offered is asked again for the other one, so that a client
/// of HTTP/1.1 alone reaches an origin of HTTP/2 alone; the next connection begins with that.
pub(super) async fn handshake(
    shared: &Shared,
    local: IpAddr,
    wanted: &Wanted,
    first: (Dialed, Instant),
) -> Result<Connection, Error> {
    let (dialed, since) = first;
    if wanted.key.target.scheme != Scheme::Https {
        let spoken = if wanted.prior_knowledge { Spoken::Http2 } else { Spoken::Http1 };
        let Dialed { link, conn, forwarder } = dialed;
        let io: BoxIo = match link {
            Link::Tcp(tcp) => Box::new(tcp),
            link @ Link::Proxied(_) => Box::new(link),
        };
        let spoken = speak(shared, &wanted.key, conn, io, since, spoken).await?;
        return Ok(match spoken {
            Connection::Http1(origin) => Connection::Http1(Box::new(origin.forwarded_by(forwarder))),
            http2 @ Connection::Http2(_) => http2,
        });
    }
    let offers = wanted.origin_offers(shared);
    let refused = match shared.dialer.handshake(dialed, &wanted.key.name, &offers).await {
        Ok((tls, conn)) => {
            let spoken = spoken(&conn);
            return speak(shared, &wanted.key, conn, Box::new(tls), since, spoken).await;
        }
        Err(error) => error,
    };
    let (other, spoken) = match &offers[..] {
        [only] if refused.alpn_refused && only[..] == *HTTP2 => (HTTP1, Spoken::Http1),
        [only] if refused.alpn_refused && only[..] == *HTTP1 => (HTTP2, Spoken::Http2),
        _ => return Err(dial_error(shared, refused)),
    };
    let (dialed, since) = dial(shared, local, &wanted.key.target, Passage::Tunnel).await?;
    match shared.dialer.handshake(dialed, &wanted.key.name, &[Bytes::from_static(other)]).await {
        Ok((tls, conn)) => {
            shared.memo.set(wanted.key.clone(), spoken);
            speak(shared, &wanted.key, conn, Box::new(tls), since, spoken).await
        }
        Err(error) => Err(dial_error(shared, error)),
    }
}

/// What was agreed on with an origin in TLS.
fn spoken(conn: &ServerConn) -> Spoken {
    match conn.tls.as_ref().and_then(|tls| tls.alpn.as_deref()) {
        Some(HTTP2) => Spoken::Http2,
        _ => Spoken::Http1,
    }
}

/// Begins the protocol on a stream that is ready for it.
async fn speak(
    shared: &Shared,
    key: &Key,
    conn: ServerConn,
    io: BoxIo,
    since: Instant,
    spoken: Spoken,
) -> Result<Connection, Error> {
    let note = shared
        .recorder
        .clone()
        .map(|recorder| -> OnClose { Arc::new(move |facts| recorder.server_conn_changed(facts)) });
    match spoken {
        Spoken::Http1 => {
            let origin = Origin::new(key.clone(), conn, io, since);
            let origin = match note {
                Some(note) => origin.on_close(note),
                None => origin,
            };
            Ok(Connection::Http1(Box::new(origin)))
        }
        Spoken::Http2 => {
            let facts = Box::new(conn.clone());
            let options = MultiplexedOptions {
                max_head_bytes: shared.limits.head.max_bytes,
                ping_every: shared.limits.ping_every,
                ping_answer: shared.limits.ping_answer,
            };
            let begun =
                Multiplexed::start(key.clone(), conn, io, since, note, options, &shared.carriers).await;
            begun.map(|open| Connection::Http2(Arc::new(open))).map_err(|error| Error {
                server: Some(facts),
                ..Error::bad_gateway(Stage::Connect, http2::explain(&error, "the origin"))
            })
        }
    }
}

fn dial_error(shared: &Shared, error: DialError) -> Error {
    let kind = match () {
        () if error.refused_own => Kind::Loop,
        () if error.timed_out => Kind::GatewayTimeout,
        () => Kind::BadGateway,
    };
    let mut conn: ServerConn = *error.conn;
    if conn.id.0 == 0 {
        conn.id = shared.next_conn_id();
    }
    let (side, message) = match error.refused_own {
        true => (Side::Proxy, error.message + &site::pointer(shared)),
        false => (Side::Server, error.message),
    };
    Error { server: Some(Box::new(conn)), io: error.io, ..Error::new(kind, side, error.stage, message) }
}

/// The flow of what was opened and ends without a request inside it.
pub(super) async fn begin(client: &Client, kind: flow::Kind, opener: Opener) -> Live {
    // A client that looks whether it trusts us, on our own page, asks for no origin.
    let is_flow = kind != flow::Kind::Tls || !site::is_target(&client.shared, &opener.target);
    let recorder = client.shared.recorder.as_ref().filter(|_| is_flow);
    let live = Live::begin(recorder, opener.started, kind, Arc::clone(&client.facts)).await;
    live.with(|flow| {
        flow.request = opener.request;
        flow.target = opener.target;
    });
    live
}

/// HTTP in clear inside a tunnel: its origin is the one that was asked for.
pub(super) fn plain_scope(client: &mut Client, opened: Opened, spoken: Version) -> Scope {
    // A client that asks by SOCKS5 may have looked up the name itself; one of a transparent proxy always has.
    let by_address = opened.opener.request.is_none() && opened.opener.target.host.parse::<IpAddr>().is_ok();
    let target = Target { scheme: Scheme::Http, ..opened.opener.target };
    let first = match opened.origin {
        Reached::Dialed(dialed, since) => Some((*dialed, since)),
        // It speaks TLS: of no use here, but to the next client.
        Reached::Pooled(origin) => {
            client.shared.pool.give(origin);
            None
        }
        Reached::NotYet => None,
    };
    let wanted = Wanted {
        key: Key { target, name: String::new() },
        offers: Vec::new(),
        prior_knowledge: spoken == Version::Http2,
        passage: Passage::Tunnel,
    };
    Scope::Tunnel(Box::new(Tunneled {
        wanted,
        identity: None,
        reverse: None,
        by_address,
        broken: Mutex::default(),
        opened_by: None,
        first: Mutex::new(first.map(Box::new)),
    }))
}

/// Begins HTTP/2 with the origin of a tunnel in clear whose client has begun it. What fails is told to its requests.
pub(super) async fn reach_in_clear(client: &Client, tunneled: &Tunneled) {
    let Some(first) = tunneled.take_first() else { return };
    match handshake(&client.shared, client.local.ip(), &tunneled.wanted, first).await {
        Ok(connection) => client.origins.keep(connection),
        Err(error) => *tunneled.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
    }
}

/// A ClientHello, and the handshake that waits for our answer to it.
pub(super) struct Hello {
    handshake: StartHandshake<BoxIo>,
    /// What it says.
    pub(super) offered: TlsInfo,
    /// Microseconds after the client's connection was accepted.
    began_us: u64,
}

/// Reads the client's ClientHello. `None`: it is none, which is recorded.
pub(super) async fn hello(client: &mut Client, stream: Stream, opener: &Opener) -> Option<Hello> {
    let began_us = client.now_us();
    let (io, prefix) = stream.into_io();
    let io = Box::new(ReadAhead::after(prefix, io)) as BoxIo;
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let message = match client.ticker.within(client.shared.limits.tls_timeout, acceptor).await {
        Ok(Ok(handshake)) => {
            let offered = tls::describe_hello(&handshake.client_hello());
            return Some(Hello { handshake, offered, began_us });
        }
        Ok(Err(error)) => tls::explain_client(&error),
        Err(_) => "no ClientHello in time".to_owned(),
    };
    failed_handshake(client, opener, message, TlsInfo::default()).await;
    None
}

/// Ends the client's handshake with a leaf for `name`. `origin` was reached for it and is kept, whatever becomes of the
/// client. `None`: it failed, which is recorded.
pub(super) async fn accept(
    client: &mut Client,
    hello: Hello,
    opener: &Opener,
    name: &str,
    alpn: Alpn,
    origin: Option<Connection>,
) -> Option<Stream> {
    let Hello { handshake, offered, began_us } = hello;
    let config = match client.shared.leaves.server_config(name, alpn) {
        Ok(config) => config,
        Err(error) => {
            failed_handshake(client, opener, error.to_string(), offered).await;
            return None;
        }
    };
    let limit = client.shared.limits.tls_timeout;
    let accepted = client.ticker.within(limit, handshake.into_stream(config)).await;
    // The connection to the origin is good, whatever becomes of this client.
    if let Some(origin) = origin {
        client.origins.keep(origin);
    }
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let passes_through = !matches!(client.mode(), Mode::Reverse(_));
            if passes_through && tls::is_rejection(&error) {
                bypass::rejected(client, &opener.target, offered.sni.as_deref(), Left::by(&error));
            }
            failed_handshake(client, opener, tls::explain_client(&error), offered).await;
            return None;
        }
        Err(_) => {
            let message = "the client did not finish the handshake in time".to_owned();
            failed_handshake(client, opener, message, offered).await;
            return None;
        }
    };
    let chain = client.shared.leaves.chain(name).unwrap_or_default();
    let info = tls::describe_server_side(stream.get_ref().1, offered, chain);
    let tls_end = client.now_us();
    client.learn(|facts| {
        facts.tls = Some(info);
        facts.tls_start_us = Some(began_us);
        facts.tls_end_us = Some(tls_end);
    });
    Some(Stream::new(Box::new(stream), bytes::BytesMut::new()))
}

/// Intercepts TLS: the whole ClientHello is in the stream's buffer. The origin's handshake comes first, so that the client
/// is offered what the origin chose; if it fails, the client is told so inside its own TLS. `None`: the client's handshake
/// failed, and is recorded.
pub(super) async fn tls(client: &mut Client, stream: Stream, opened: Opened) -> Option<(Stream, Scope)> {
    let Opened { opener, origin } = opened;
    let hello = hello(client, stream, &opener).await?;
    let identity = hello.offered.sni.clone().unwrap_or_else(|| opener.target.host.clone());
    let https = Target { scheme: Scheme::Https, ..opener.target.clone() };
    let key = Key { target: https, name: identity.clone() };
    let offers = known_offers(&hello.offered.alpn_offers);
    let wanted = Wanted { key, offers, prior_knowledge: false, passage: Passage::Tunnel };
    let reached = match origin {
        Reached::NotYet => Ok(None),
        origin => reach(client, &wanted, origin).await.map(Some),
    };
    let alpn = mirrored(&wanted.offers, reached.as_ref().ok().and_then(Option::as_ref));
    let (origin, broken) = match reached {
        Ok(origin) => (origin, None),
        Err(error) => (None, Some(error)),
    };
    let stream = accept(client, hello, &opener, &identity, alpn, origin).await?;
    let scope = Tunneled {
        wanted,
        identity: Some(identity),
        reverse: None,
        by_address: false,
        broken: Mutex::new(broken),
        opened_by: Some(opener),
        first: Mutex::default(),
    };
    Some((stream, Scope::Tunnel(Box::new(scope))))
}

/// Those of the client's protocols that we speak, once each, in its order.
pub(super) fn known_offers(offers: &[Bytes]) -> Vec<Bytes> {
    let mut known: Vec<Bytes> = Vec::new();
    for offer in offers {
        if (offer[..] == *HTTP1 || offer[..] == *HTTP2) && !known.contains(offer) {
            known.push(offer.clone());
        }
    }
    known
}

/// A connection to the origin of a tunnel: the one that was reached before its client's ClientHello, if it will do.
async fn reach(client: &Client, wanted: &Wanted, reached: Reached) -> Result<Connection, Error> {
    let shared = &client.shared;
    let first = match reached {
        Reached::Dialed(dialed, since) => (*dialed, since),
        Reached::NotYet => return reach_anew(client, wanted).await,
        Reached::Pooled(connection) => {
            if *connection.key() == wanted.key && wanted.fits(shared, &connection) {
                return Ok(connection);
            }
            shared.pool.give(connection);
            return reach_anew(client, wanted).await;
        }
    };
    handshake(shared, client.local.ip(), wanted, first).await
}

/// As [`reach_anew`], ahead of the first request; `None` where origins are asked when a request is to go on to them, if ever.
pub(super) async fn reach_if_due(client: &Client, wanted: &Wanted) -> Result<Option<Connection>, Error> {
    match client.shared.answers {
        Some(_) => Ok(None),
        None => reach_anew(client, wanted).await.map(Some),
    }
}

/// A connection that an earlier client left, else a new one.
pub(super) async fn reach_anew(client: &Client, wanted: &Wanted) -> Result<Connection, Error> {
    let shared = &client.shared;
    if let Some(connection) = shared.pool.take(&wanted.key, |connection| wanted.fits(shared, connection)) {
        return Ok(connection);
    }
    let first = dial(shared, client.local.ip(), &wanted.key.target, wanted.passage).await?;
    handshake(shared, client.local.ip(), wanted, first).await
}

/// What the client is offered: what the origin chose, if the client has offered that; else what the client wants, and
/// the relay goes between the two. A client that has offered nothing that we speak is served without ALPN, rather than
/// refused.
pub(super) fn mirrored(offers: &[Bytes], origin: Option<&Connection>) -> Alpn {
    let offered = |protocol: &[u8]| offers.iter().any(|offer| offer[..] == *protocol);
    match (offered(HTTP2), offered(HTTP1), origin) {
        (false, false, _) => Alpn::None,
        (true, true, None) => Alpn::Http2AndHttp11,
        (true, _, Some(Connection::Http2(_))) | (true, false, _) => Alpn::Http2,
        (false, true, Some(Connection::Http2(_))) | (false, true, None) => Alpn::Http11,
        (_, true, Some(Connection::Http1(origin))) => {
            let chosen = origin.facts.tls.as_ref().is_some_and(|tls| tls.alpn.is_some());
            if chosen { Alpn::Http11 } else { Alpn::None }
        }
    }
}

/// Records TLS of the client's in which not even the ClientHello became whole.
pub(super) async fn broken_tls(client: &mut Client, opened: Opened, reason: &str) {
    failed_handshake(client, &opened.opener, reason.into(), TlsInfo::default()).await;
}

/// Records why the origin of a tunnel could not be used, if the client has left without a request that would have been
/// answered with it.
pub(super) async fn unasked(client: &Client, tunneled: &Tunneled) {
    let (Some(error), Some(opener)) = (tunneled.take_broken(), &tunneled.opened_by) else { return };
    let opener = Opener { target: tunneled.target().clone(), ..opener.clone() };
    error.record(&begin(client, flow::Kind::Tls, opener).await);
}

/// Records a TLS handshake with the client that failed.
async fn failed_handshake(client: &mut Client, opener: &Opener, message: String, offered: TlsInfo) {
    client.learn(|facts| facts.tls = Some(TlsInfo { error: Some(message.clone()), ..offered }));
    let target = Target { scheme: Scheme::Https, ..opener.target.clone() };
    let live = begin(client, flow::Kind::Tls, Opener { target, ..opener.clone() }).await;
    live.fail(State::Failed, Side::Client, Stage::Tls, message);
}
