//! Bytes relayed as they are, both ways: after a `CONNECT` that carries neither TLS nor HTTP, and after an upgrade. Those
//! of a WebSocket are looked at on the way (see `lane`), for the record; what passes is the same, but where rules concern it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answers::Talk;
use super::client::{Client, Stream};
use super::error::{Error, Kind};
use super::forward::Wanted;
use super::intercept::{self, Opened, Reached};
use super::lane::{Judge, Lane};
use super::ruled;
use super::serve::After;
use super::shared::Shared;
use super::sockets::{Errand, WAITING};
use crate::exchange::{Live, Tee, Ticker};
use crate::flow::{self, BodyEnd, Framing, Side, Stage, Tunnel};
use crate::http1::{Reader, Writer};
use crate::http2::Duplex;
use crate::record::BodySide;
use crate::rules::{self, MessageRules};
use crate::upstream::{Connection, Io as _, Key, Origin, Passage};
use crate::websocket::Extensions;

/// A tunnel of which nothing has passed.
fn begun(reason: String) -> Box<Tunnel> {
    Box::new(Tunnel { reason, ..Tunnel::default() })
}

/// Relays a tunnel that is left unread, and records it as one flow.
pub(super) async fn opaque(client: &mut Client, mut stream: Stream, opened: Opened, reason: &str) {
    let Opened { opener, origin } = opened;
    let target = opener.target.clone();
    let live = intercept::begin(client, flow::Kind::Tunnel, opener).await;
    live.with(|flow| flow.tunnel = Some(begun(reason.into())));
    let reached = match (ruled::blocks_tunnel(&client.shared, &live), origin) {
        (Some(error), _) => Err(error),
        (None, Reached::Dialed(dialed, since)) => Ok((*dialed, since)),
        (None, Reached::Pooled(origin)) => {
            // It speaks TLS already: of no use here.
            client.shared.pool.give(origin);
            intercept::dial(&client.shared, client.local.ip(), &target, Passage::Tunnel).await
        }
        (None, Reached::NotYet)
            if client.shared.answers.as_ref().is_some_and(|answers| answers.forwards()) =>
        {
            intercept::dial(&client.shared, client.local.ip(), &target, Passage::Tunnel).await
        }
        (None, Reached::NotYet) => {
            let message = "only HTTP is answered here, and this tunnel carries something else";
            Err(Error::new(Kind::Cut, Side::Proxy, Stage::Tunnel, message))
        }
    };
    let key = Key { target, name: String::new() };
    let wanted = Wanted { key, offers: Vec::new(), prior_knowledge: false, passage: Passage::Tunnel };
    let origin = match reached {
        Ok(first) => intercept::handshake(&client.shared, client.local.ip(), &wanted, first).await,
        Err(error) => Err(error),
    };
    match origin {
        // Nothing is spoken on it, by us.
        Ok(Connection::Http2(_)) => {}
        Ok(Connection::Http1(origin)) => {
            live.connected(Arc::clone(&origin.facts), false);
            client.entry.busy();
            client.set_unfinished(true);
            let relayed = relay(client, &mut stream, *origin, &live, What::Unread).await;
            drop(live);
            match relayed {
                Ok(_) => client.set_unfinished(false),
                Err(_) => stream.reset(),
            }
        }
        Err(error) => {
            error.record(&live);
            if error.kind == Kind::Cut {
                drop(live);
                stream.reset();
            }
        }
    }
}

/// Relays a connection that both ends have changed to another protocol (101): as messages if it is a WebSocket, else
/// unread. See [`relay`].
pub(super) async fn upgraded(
    client: &mut Client,
    stream: &mut Stream,
    origin: Origin,
    live: &Live,
    upgrade: &[u8],
) -> Result<After, Error> {
    if let Some(extensions) = live.with(|flow| websocket_extensions(flow)) {
        return relay(client, stream, origin, live, What::WebSocket(extensions)).await;
    }
    let name = String::from_utf8_lossy(upgrade);
    live.with(|flow| {
        flow.tunnel = Some(begun(format!("upgrade {name}")));
    });
    relay(client, stream, origin, live, What::Unread).await
}

/// Relays a WebSocket of a client that speaks HTTP/1.1 and an origin that speaks HTTP/2.
///
/// # Errors
/// As [`copy_both`]. The origin's stream is reset then.
pub(super) async fn bridged(
    client: &mut Client,
    stream: &mut Stream,
    origin: Duplex,
    live: &Live,
) -> Result<After, Error> {
    let headers = live.with(|flow| flow.response.as_ref().map(|response| response.headers.clone()));
    let what = What::WebSocket(Extensions::of(&headers.unwrap_or_default()));
    let (origin_in, origin_out) = tokio::io::split(origin);
    let near = End { reader: &mut stream.reader, writer: &mut stream.writer };
    let far =
        End { reader: &mut Reader::new(origin_in, BytesMut::new()), writer: &mut Writer::new(origin_out) };
    copy_both(&mut client.ticker, &client.shared, live, near, far, what).await?;
    Ok(After::Close)
}

/// Relays two streams that an extended `CONNECT` with this `:protocol` has joined, the client's of HTTP/2: as messages if
/// that is a WebSocket (RFC 8441 §5), else unread.
///
/// # Errors
/// As [`copy_both`]. Dropping the streams then resets them.
pub(super) async fn joined(
    ticker: &mut Ticker,
    shared: &Shared,
    live: &Live,
    client: Duplex,
    server: impl AsyncRead + AsyncWrite,
    protocol: &[u8],
) -> Result<(), Error> {
    let what = if protocol == b"websocket" {
        let headers = live.with(|flow| flow.response.as_ref().map(|response| response.headers.clone()));
        What::WebSocket(Extensions::of(&headers.unwrap_or_default()))
    } else {
        let name = String::from_utf8_lossy(protocol).into_owned();
        live.with(|flow| {
            flow.tunnel = Some(begun(format!("connect {name}")));
        });
        What::Unread
    };
    let ((client_in, client_out), (server_in, server_out)) =
        (tokio::io::split(client), tokio::io::split(server));
    let near =
        End { reader: &mut Reader::new(client_in, BytesMut::new()), writer: &mut Writer::new(client_out) };
    let far =
        End { reader: &mut Reader::new(server_in, BytesMut::new()), writer: &mut Writer::new(server_out) };
    copy_both(ticker, shared, live, near, far, what).await
}

/// Relays what a client of HTTP/1.1 and somebody who speaks for the origin say after an upgrade, as [`upgraded`].
///
/// # Errors
/// As [`copy_both`].
pub(super) async fn talked(
    client: &mut Client,
    stream: &mut Stream,
    talk: Talk,
    live: &Live,
    upgrade: &[u8],
) -> Result<After, Error> {
    let what = match live.with(|flow| websocket_extensions(flow)) {
        Some(extensions) => What::WebSocket(extensions),
        None => {
            let name = String::from_utf8_lossy(upgrade);
            let reason = format!("upgrade {name}");
            live.with(|flow| flow.tunnel = Some(begun(reason)));
            What::Unread
        }
    };
    let (shared, ticker) = (&client.shared, &mut client.ticker);
    let near = End { reader: &mut stream.reader, writer: &mut stream.writer };
    let work = |far| async move {
        let (far_in, far_out) = tokio::io::split(far);
        let far =
            End { reader: &mut Reader::new(far_in, BytesMut::new()), writer: &mut Writer::new(far_out) };
        copy_both(ticker, shared, live, near, far, what).await
    };
    beside(talk, work).await?;
    Ok(After::Close)
}

/// Does `work` with a stream to somebody who speaks for the origin, who is heard as long as it lasts.
pub(super) async fn beside<T, W: Future<Output = T>>(talk: Talk, work: impl FnOnce(DuplexStream) -> W) -> T {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut talk = Some(talk(far));
    let mut work = pin!(work(near));
    poll_fn(|cx| {
        // Its end drops its end of the stream, which the work sees.
        if talk.as_mut().is_some_and(|talk| talk.as_mut().poll(cx).is_ready()) {
            talk = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

/// The extensions of a WebSocket that an HTTP/1.1 upgrade opened; `None` if it opened something else (RFC 6455 §4).
pub(super) fn websocket_extensions(flow: &flow::Flow) -> Option<Extensions> {
    let (request, response) = (flow.request.as_ref()?, flow.response.as_ref()?);
    let names = |headers: &flow::Headers| headers.has_token("upgrade", "websocket");
    (names(&request.headers) && names(&response.headers)).then(|| Extensions::of(&response.headers))
}

/// Copies both ways, as [`copy_both`]. What broke is broken towards the origin, too, and is for the caller to break towards
/// the client.
async fn relay(
    client: &mut Client,
    stream: &mut Stream,
    origin: Origin,
    live: &Live,
    what: What,
) -> Result<After, Error> {
    let mut origin = origin;
    let near = End { reader: &mut stream.reader, writer: &mut stream.writer };
    let far = End { reader: &mut origin.reader, writer: &mut origin.writer };
    match copy_both(&mut client.ticker, &client.shared, live, near, far, what).await {
        Ok(()) => Ok(After::Close),
        Err(error) => {
            // Neither end may take what it got for the whole.
            origin.into_io().0.reset_on_drop();
            Err(error)
        }
    }
}

/// What passes, and so how it is recorded.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// Any bytes: two bodies of [`flow::Flow::tunnel`], which must be there.
    Unread,
    /// A WebSocket with these extensions: messages.
    WebSocket(Extensions),
}

/// One of the two ends of a relay.
pub(super) struct End<'a, R, W> {
    /// What it says.
    pub(super) reader: &'a mut Reader<R>,
    /// What it is told.
    pub(super) writer: &'a mut Writer<W>,
}

/// Copies both ways until both have ended, one fails, or nothing passes for the time that a relay may be idle; not a byte is
/// changed but by rules. Half-closes are passed on. The end of the flow is noted in `live`, also an error; breaking the two
/// ends after one is for the caller.
///
/// # Errors
/// If an end fails, or the time is over.
pub(super) async fn copy_both<CR, CW, SR, SW>(
    ticker: &mut Ticker,
    shared: &Shared,
    live: &Live,
    client: End<'_, CR, CW>,
    server: End<'_, SR, SW>,
    what: What,
) -> Result<(), Error>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let last_us = &AtomicU64::new(live.now_us());
    let limit = shared.limits.relay_timeout;
    let result = match what {
        What::Unread => {
            let copy = |side| Copy { live, last_us, tee: live.tee(side, Framing::Close) };
            let up = copy(BodySide::TunnelClient).run(client.reader, server.writer);
            let down = copy(BodySide::TunnelServer).run(server.reader, client.writer);
            both(ticker, limit, live, last_us, up, down).await
        }
        What::WebSocket(extensions) => {
            let messages = live.messages();
            let rules = message_rules(shared, live, extensions);
            let (to_client, of_client) = mpsc::channel(WAITING);
            let (to_server, of_server) = mpsc::channel(WAITING);
            let judge = |from, other: &mpsc::Sender<Errand>| {
                rules.as_ref().map(|rules| Judge::new(rules, from, other.clone()))
            };
            let up = Lane {
                live,
                last_us,
                tee: messages.of_client(extensions),
                from: rules::End::Client,
                inbox: of_server,
                judge: judge(rules::End::Client, &to_client),
            };
            let down = Lane {
                live,
                last_us,
                tee: messages.of_server(extensions),
                from: rules::End::Server,
                inbox: of_client,
                judge: judge(rules::End::Server, &to_server),
            };
            let _registered =
                live.mid().map(|mid| shared.sockets.register(mid, to_client, to_server, !extensions.unknown));
            // They are large, and many connections are not WebSockets.
            let up = Box::pin(up.run(client.reader, server.writer));
            let down = Box::pin(down.run(server.reader, client.writer));
            both(ticker, limit, live, last_us, up, down).await
        }
    };
    match &result {
        Ok(()) => live.complete(),
        Err(error) => error.record(live),
    }
    result
}

/// The rules on messages that a WebSocket concerns. An origin that uses an extension which it was not offered is left alone:
/// what its messages say is not sure.
fn message_rules(shared: &Shared, live: &Live, extensions: Extensions) -> Option<MessageRules> {
    let rules = shared.rules.as_ref()?;
    let rules = live.with(|flow| rules.messages(flow))?;
    if extensions != Extensions::default() {
        tracing::warn!(
            mid = live.mid().map(|mid| mid.0),
            "rules do not look at a WebSocket that uses extensions which were not offered"
        );
        return None;
    }
    Some(rules)
}

async fn both(
    ticker: &mut Ticker,
    limit: Duration,
    live: &Live,
    last_us: &AtomicU64,
    up: impl Future<Output = Result<(), Broken>>,
    down: impl Future<Output = Result<(), Broken>>,
) -> Result<(), Error> {
    let (up, down) = (pin!(up), pin!(down));
    // What breaks on one side of one direction is told from the side that the tunnel's client stands on.
    let work = async {
        tokio::try_join!(
            async { up.await.map_err(|broken| broken.error(Side::Client, Side::Server)) },
            async { down.await.map_err(|broken| broken.error(Side::Server, Side::Client)) },
        )
    };
    let tick = |now: Instant| {
        let next = Instant::from_std(live.tick(now.into_std()));
        let quiet = Duration::from_micros(live.now_us() - last_us.load(Ordering::Relaxed));
        match limit.checked_sub(quiet) {
            Some(left) if !left.is_zero() => Ok(next.min(now + left)),
            _ => {
                let message = format!("nothing passed for {limit:?}");
                Err(Error::new(Kind::GatewayTimeout, Side::Proxy, Stage::Tunnel, message))
            }
        }
    };
    let first = Instant::from_std(live.first_tick()).min(Instant::now() + limit);
    ticker.watch(first, tick, work).await??;
    Ok(())
}

/// A direction that broke.
pub(super) enum Broken {
    Read(io::Error),
    Write(io::Error),
}

impl Broken {
    fn error(self, from: Side, to: Side) -> Error {
        let (side, error) = match self {
            Broken::Read(error) => (from, error),
            Broken::Write(error) => (to, error),
        };
        let kind = if side == Side::Client { Kind::ClientGone } else { Kind::BadGateway };
        Error::new(kind, side, Stage::Tunnel, format!("connection lost: {error}"))
    }
}

/// One direction of bytes that nobody reads.
struct Copy<'a> {
    live: &'a Live,
    last_us: &'a AtomicU64,
    tee: Tee<'a>,
}

impl Copy<'_> {
    async fn run<R, W>(mut self, reader: &mut Reader<R>, writer: &mut Writer<W>) -> Result<(), Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if reader.buffer().is_empty() {
                match reader.fill().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // TLS that ends without close_notify ends all the same: what is inside has its own end.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(Broken::Read(error)),
                }
            }
            let data = reader.take_buffer().freeze();
            self.pass(&data, writer).await.map_err(Broken::Write)?;
        }
        let wire_len = self.tee.len();
        self.tee.end(BodyEnd::Whole, wire_len);
        // The peer may have closed both directions already.
        let _ = writer.shutdown().await;
        Ok(())
    }

    async fn pass<W>(&mut self, data: &Bytes, writer: &mut Writer<W>) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        self.tee.write(data).await;
        writer.queue_data(data, false);
        writer.flush().await?;
        self.last_us.store(self.live.now_us(), Ordering::Relaxed);
        Ok(())
    }
}

/// Bytes that may wait between a client and somebody who speaks for the origin.
const PIPE: usize = 64 * 1024;
