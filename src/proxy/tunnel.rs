//! Bytes relayed unread, both ways: after a `CONNECT` that carries neither TLS nor HTTP, and after an upgrade.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::client::{Client, Stream};
use super::error::{Error, Kind};
use super::forward::Wanted;
use super::intercept::{self, Opened, Reached};
use super::serve::After;
use crate::exchange::{Live, Tee, Ticker};
use crate::flow::{self, BodyEnd, Framing, Side, Stage, Tunnel};
use crate::http1::{Reader, Writer};
use crate::record::BodySide;
use crate::upstream::{Connection, Io as _, Key, Origin};

/// Relays a tunnel that is left unread, and records it as one flow.
pub(super) async fn opaque(client: &mut Client, mut stream: Stream, opened: Opened, reason: &str) {
    let Opened { request, started, target, origin } = opened;
    let live = intercept::begin(client, started, flow::Kind::Tunnel, request, target.clone()).await;
    live.with(|flow| flow.tunnel = Some(Tunnel { reason: reason.into(), ..Tunnel::default() }));
    let reached = match origin {
        Reached::Dialed(dialed, since) => Ok((*dialed, since)),
        Reached::Pooled(origin) => {
            // It speaks TLS already: of no use here.
            client.shared.pool.give(origin);
            intercept::dial(&client.shared, client.local.ip(), &target).await
        }
    };
    let key = Key { target, name: String::new() };
    let wanted = Wanted { key, offers: Vec::new(), prior_knowledge: false };
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
            let relayed = relay(client, &mut stream, *origin, &live).await;
            drop(live);
            match relayed {
                Ok(_) => client.set_unfinished(false),
                Err(_) => stream.reset(),
            }
        }
        Err(error) => error.record(&live),
    }
}

/// Copies both ways until both have ended, one fails, or nothing passes for too long. Half-closes are passed on; what broke
/// is broken towards the origin, too, and is for the caller to break towards the client.
pub(super) async fn relay(
    client: &mut Client,
    stream: &mut Stream,
    origin: Origin,
    live: &Live,
) -> Result<After, Error> {
    let limit = client.shared.limits.relay_timeout;
    let last_us = AtomicU64::new(live.now_us());
    let mut origin = origin;
    let result = {
        let up = Copy { live, last_us: &last_us, side: BodySide::TunnelClient };
        let down = Copy { live, last_us: &last_us, side: BodySide::TunnelServer };
        let up = up.run(&mut stream.reader, &mut origin.writer);
        let down = down.run(&mut origin.reader, &mut stream.writer);
        both(&mut client.ticker, limit, live, &last_us, up, down).await
    };
    match result {
        Ok(()) => {
            live.complete();
            Ok(After::Close)
        }
        Err(error) => {
            error.record(live);
            // Neither end may take what it got for the whole.
            origin.into_io().0.reset_on_drop();
            Err(error)
        }
    }
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
enum Broken {
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

/// One direction.
struct Copy<'a> {
    live: &'a Live,
    last_us: &'a AtomicU64,
    side: BodySide,
}

impl Copy<'_> {
    async fn run<R, W>(self, reader: &mut Reader<R>, writer: &mut Writer<W>) -> Result<(), Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut tee = self.live.tee(self.side, Framing::Close);
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
            self.pass(&data, &mut tee, writer).await.map_err(Broken::Write)?;
        }
        let wire_len = tee.len();
        tee.end(BodyEnd::Whole, wire_len);
        // The peer may have closed both directions already.
        let _ = writer.shutdown().await;
        Ok(())
    }

    async fn pass<W>(&self, data: &Bytes, tee: &mut Tee<'_>, writer: &mut Writer<W>) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        tee.write(data).await;
        writer.queue_data(data, false);
        writer.flush().await?;
        self.last_us.store(self.live.now_us(), Ordering::Relaxed);
        Ok(())
    }
}
