//! `CONNECT`, and TLS inside it: the origin is dialled before the client is told that there is a tunnel, verified before a
//! byte of a request leaves, and the client gets a leaf for the name that it asked for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio_rustls::LazyConfigAcceptor;

use super::client::{Client, Stream};
use super::error::{Error, Kind};
use super::serve::{self, Connect, Scope, Tunneled};
use crate::exchange::Live;
use crate::flow::{self, ConnectHead, Scheme, ServerConn, Side, Stage, State, Target};
use crate::tls::{self, Alpn};
use crate::upstream::{BoxIo, DialError, Dialed, Key, Origin, ReadAhead};

/// A tunnel that was promised to the client.
#[derive(Debug)]
pub(super) struct Opened {
    /// The `CONNECT` itself, for the record of what comes of it.
    pub(super) request: flow::Request,
    pub(super) started: Instant,
    /// What was asked for; its scheme is not known yet.
    pub(super) target: Target,
    pub(super) origin: Reached,
}

/// How the origin was reached before the client was answered.
#[derive(Debug)]
pub(super) enum Reached {
    /// A verified connection that an earlier client left.
    Pooled(Box<Origin>),
    /// A new TCP connection.
    Dialed(Box<Dialed>, Instant),
}

/// Answers a `CONNECT`: dials first, then promises. `None` if it was refused; the connection then is at its end.
pub(super) async fn connect(client: &mut Client, stream: &mut Stream, connect: Connect) -> Option<Opened> {
    let Connect { request, started, target } = connect;
    let key = Key { target: Target { scheme: Scheme::Https, ..target.clone() }, name: target.host.clone() };
    let reached = match client.shared.pool.take(&key) {
        Some(origin) => Ok(Reached::Pooled(Box::new(origin))),
        None => {
            // A client that leaves meanwhile takes the dialling with it; what it sends ahead stays in its buffer.
            tokio::select! {
                biased;
                dialed = dial(client.shared.as_ref(), client.local.ip(), &target) => {
                    dialed.map(|(dialed, since)| Reached::Dialed(Box::new(dialed), since))
                }
                gone = serve::gone(&mut stream.reader, true) => Err(gone),
            }
        }
    };
    match reached {
        Ok(origin) => {
            let head = ConnectHead { authority: request.target.clone(), headers: request.headers.clone() };
            client.learn(|facts| facts.connect = Some(head));
            stream.writer.out().extend_from_slice(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let sent = client.ticker.within(client.shared.limits.relay_timeout, stream.writer.flush()).await;
            if !matches!(sent, Ok(Ok(()))) {
                return None;
            }
            Some(Opened { request, started, target, origin })
        }
        Err(error) => {
            let live = begin(client, started, flow::Kind::Connect, request, target).await;
            error.record(&live);
            serve::answer_error(client, stream, live, &error).await;
            None
        }
    }
}

/// Dials the target of a `CONNECT`.
pub(super) async fn dial(
    shared: &super::shared::Shared,
    local: std::net::IpAddr,
    target: &Target,
) -> Result<(Dialed, Instant), Error> {
    let since = Instant::now();
    let guard = |address| shared.is_own(address, Some(local));
    match shared.dialer.connect(&target.host, target.port, &guard).await {
        Ok(mut dialed) => {
            dialed.conn.id = shared.next_conn_id();
            if let (Ok(here), Ok(there)) = (dialed.tcp.local_addr(), dialed.tcp.peer_addr())
                && here.ip() == there.ip()
                && shared.is_own(there, Some(here.ip()))
            {
                // One of the machine's own addresses, on which a listener for all of them is reached.
                let message = format!("{} is this proxy itself ({there})", target.host_port());
                let error = Error::new(Kind::Loop, Side::Proxy, Stage::Target, message);
                return Err(Error { server: Some(Box::new(dialed.conn)), ..error });
            }
            Ok((dialed, since))
        }
        Err(error) => Err(dial_error(shared, error)),
    }
}

/// Makes a connection to an origin that is ready for a request: TLS is done and verified where `name` is given.
pub(super) async fn handshake(
    shared: &super::shared::Shared,
    key: Key,
    dialed: Dialed,
    since: Instant,
    offers: &[Bytes],
) -> Result<Origin, Error> {
    let note = |origin: Origin| match &shared.recorder {
        Some(recorder) => {
            let recorder = recorder.clone();
            origin.on_close(Arc::new(move |facts| recorder.server_conn_changed(facts)))
        }
        None => origin,
    };
    if key.target.scheme != Scheme::Https {
        let io: BoxIo = Box::new(dialed.tcp);
        return Ok(note(Origin::new(key, dialed.conn, io, since)));
    }
    match shared.dialer.handshake(dialed, &key.name, offers).await {
        Ok((tls, conn)) => Ok(note(Origin::new(key, conn, Box::new(tls), since))),
        Err(error) => Err(dial_error(shared, error)),
    }
}

fn dial_error(shared: &super::shared::Shared, error: DialError) -> Error {
    let kind = match () {
        () if error.refused_own => Kind::Loop,
        () if error.timed_out => Kind::GatewayTimeout,
        () => Kind::BadGateway,
    };
    let mut conn: ServerConn = *error.conn;
    if conn.id.0 == 0 {
        conn.id = shared.next_conn_id();
    }
    Error {
        server: Some(Box::new(conn)),
        ..Error::new(
            kind,
            if error.refused_own { Side::Proxy } else { Side::Server },
            error.stage,
            error.message,
        )
    }
}

/// The flow of a `CONNECT` that ends without a request inside it.
pub(super) async fn begin(
    client: &Client,
    started: Instant,
    kind: flow::Kind,
    request: flow::Request,
    target: Target,
) -> Live {
    let live = Live::begin(client.shared.recorder.as_ref(), started, kind, Arc::clone(&client.facts)).await;
    live.with(|flow| {
        flow.request = Some(request);
        flow.target = target;
    });
    live
}

/// HTTP in clear inside a tunnel: its origin is the one that was asked for.
pub(super) fn plain_scope(client: &mut Client, opened: Opened) -> Scope {
    let target = Target { scheme: Scheme::Http, ..opened.target };
    let first = match opened.origin {
        Reached::Dialed(dialed, since) => Some((*dialed, since)),
        // It speaks TLS: of no use here, but to the next client.
        Reached::Pooled(origin) => {
            client.shared.pool.give(*origin);
            None
        }
    };
    Scope::Tunnel(Box::new(Tunneled {
        target,
        identity: None,
        broken: None,
        opened_by: None,
        first,
        offers: Vec::new(),
    }))
}

/// Intercepts TLS: the whole ClientHello is in the stream's buffer. The origin's handshake comes first, so that the client
/// is offered what the origin chose; if it fails, the client is told so inside its own TLS. `None`: the client's handshake
/// failed, and is recorded.
pub(super) async fn tls(client: &mut Client, stream: Stream, opened: Opened) -> Option<(Stream, Scope)> {
    let tls_start = client.now_us();
    let (io, prefix) = stream.into_io();
    let acceptor = LazyConfigAcceptor::new(
        rustls::server::Acceptor::default(),
        Box::new(ReadAhead::after(prefix, io)) as BoxIo,
    );
    let Opened { request, started, target, origin } = opened;
    let hello = match client.ticker.within(client.shared.limits.tls_timeout, acceptor).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            let message = tls::explain_client(&error);
            failed_handshake(client, started, request, target, message, flow::TlsInfo::default()).await;
            return None;
        }
        Err(_) => {
            let message = "no ClientHello in time".to_owned();
            failed_handshake(client, started, request, target, message, flow::TlsInfo::default()).await;
            return None;
        }
    };
    let offered = tls::describe_hello(&hello.client_hello());
    let identity = offered.sni.clone().unwrap_or_else(|| target.host.clone());
    let https = Target { scheme: Scheme::Https, ..target.clone() };
    let key = Key { target: https.clone(), name: identity.clone() };

    // Only HTTP/1.1 so far; a client that offers something else alone is served without ALPN rather than refused.
    let offers: Vec<Bytes> =
        offered.alpn_offers.iter().filter(|offer| offer[..] == *b"http/1.1").take(1).cloned().collect();
    let reached = match origin {
        Reached::Pooled(origin) if origin.key == key => Ok(*origin),
        Reached::Pooled(origin) => {
            client.shared.pool.give(*origin);
            match client.shared.pool.take(&key) {
                Some(origin) => Ok(origin),
                None => match dial(&client.shared, client.local.ip(), &https).await {
                    Ok((dialed, since)) => handshake(&client.shared, key, dialed, since, &offers).await,
                    Err(error) => Err(error),
                },
            }
        }
        Reached::Dialed(dialed, since) => handshake(&client.shared, key, *dialed, since, &offers).await,
    };
    let spoken = reached.as_ref().ok().and_then(|origin| origin.facts.tls.as_ref()?.alpn.clone());
    let alpn = match (&reached, offers.is_empty()) {
        (Ok(_), false) if spoken.is_some() => Alpn::Http11,
        (Err(_), false) => Alpn::Http11,
        _ => Alpn::None,
    };
    let (origin, broken) = match reached {
        Ok(origin) => (Some(origin), None),
        Err(error) => (None, Some(error)),
    };

    let config = match client.shared.leaves.server_config(&identity, alpn) {
        Ok(config) => config,
        Err(error) => {
            failed_handshake(client, started, request, target, error.to_string(), offered).await;
            return None;
        }
    };
    let accepted = client.ticker.within(client.shared.limits.tls_timeout, hello.into_stream(config)).await;
    // The connection to the origin is good, whatever becomes of this client.
    client.origins.extend(origin);
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let message = tls::explain_client(&error);
            failed_handshake(client, started, request, target, message, offered).await;
            return None;
        }
        Err(_) => {
            let message = "the client did not finish the handshake in time".to_owned();
            failed_handshake(client, started, request, target, message, offered).await;
            return None;
        }
    };
    let chain = client.shared.leaves.chain(&identity).unwrap_or_default();
    let info = tls::describe_server_side(stream.get_ref().1, offered, chain);
    let tls_end = client.now_us();
    client.learn(|facts| {
        facts.tls = Some(info);
        facts.tls_start_us = Some(tls_start);
        facts.tls_end_us = Some(tls_end);
    });
    let stream = Stream::new(Box::new(stream), bytes::BytesMut::new());
    let opened_by = broken.is_some().then_some((request, started));
    let scope = Tunneled { target: https, identity: Some(identity), broken, opened_by, first: None, offers };
    Some((stream, Scope::Tunnel(Box::new(scope))))
}

/// Records TLS of the client's in which not even the ClientHello became whole.
pub(super) async fn broken_tls(client: &mut Client, opened: Opened, reason: &str) {
    let Opened { request, started, target, .. } = opened;
    failed_handshake(client, started, request, target, reason.into(), flow::TlsInfo::default()).await;
}

/// Records why the origin of a tunnel could not be used, if the client has left without a request that would have been
/// answered with it.
pub(super) async fn unasked(client: &Client, tunneled: Tunneled) {
    let Tunneled { broken: Some(error), opened_by: Some((request, started)), target, .. } = tunneled else {
        return;
    };
    let live = begin(client, started, flow::Kind::Tls, request, target).await;
    error.record(&live);
}

/// Records a TLS handshake with the client that failed.
async fn failed_handshake(
    client: &mut Client,
    started: Instant,
    request: flow::Request,
    target: Target,
    message: String,
    offered: flow::TlsInfo,
) {
    client.learn(|facts| facts.tls = Some(flow::TlsInfo { error: Some(message.clone()), ..offered }));
    let target = Target { scheme: Scheme::Https, ..target };
    let live = begin(client, started, flow::Kind::Tls, request, target).await;
    live.fail(State::Failed, Side::Client, Stage::Tls, message);
}
