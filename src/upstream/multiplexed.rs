//! A connection to an origin that speaks HTTP/2: many exchanges at once, one task that carries them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::sync::watch;
use tokio::time::{interval_at, timeout};
use tokio_util::task::TaskTracker;

use super::carrier::{Adopted, Carrier};
use super::{BoxIo, Key, OnClose};
use crate::flow::ServerConn;
use crate::http2::{self, Cork, Corked};

/// An open connection. When it is dropped and its streams have ended, the connection says GOAWAY and closes.
pub struct Multiplexed {
    /// What it is good for.
    pub key: Key,
    /// Its facts, as they are recorded.
    pub facts: Arc<ServerConn>,
    send: SendRequest<Bytes>,
    used: AtomicU32,
    active: http2::Active,
    settled: watch::Receiver<bool>,
    carrier: Arc<Carrier>,
}

/// What the origin allows, as its SETTINGS say (RFC 9113 §6.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Streams at a time; at most [`http2::MAX_STREAMS`].
    pub max_streams: u32,
    /// Extended `CONNECT` (RFC 8441 §3).
    pub extended_connect: bool,
}

/// Limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiplexedOptions {
    /// Bytes in the head of a message.
    pub max_head_bytes: usize,
    /// Between two PINGs (RFC 9113 §6.7), which find an origin that is gone without a word.
    pub ping_every: Duration,
    /// For the answer to one. The connection is given up without it, and its streams fail.
    pub ping_answer: Duration,
}

impl Multiplexed {
    /// Begins HTTP/2 on a stream that is ready for it, with a task on `tasks` that carries it. `closed` is called with
    /// the connection's last facts.
    ///
    /// # Errors
    /// If not even the preface could be written.
    pub async fn start(
        key: Key,
        facts: ServerConn,
        io: BoxIo,
        started: Instant,
        closed: Option<OnClose>,
        options: MultiplexedOptions,
        tasks: &TaskTracker,
    ) -> Result<Self, h2::Error> {
        let (io, cork) = Corked::new(io);
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(http2::STREAM_WINDOW)
            .initial_connection_window_size(http2::CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(options.max_head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(http2::SEND_BUFFER)
            .handshake::<_, Bytes>(io)
            .await?;
        cork.cork();
        let (settling, settled) = watch::channel(false);
        let facts = Arc::new(facts);
        let pings = connection.ping_pong();
        let last = Arc::clone(&facts);
        let carrier = Carrier::new(async move {
            let error = carry(connection, cork, pings, options, &settling).await;
            if let Some(note) = closed {
                let mut facts = ServerConn::clone(&last);
                facts.revision += 1;
                facts.closed_us = Some(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
                facts.error = error;
                note(Arc::new(facts));
            }
        });
        let active = http2::Active::default();
        tasks.spawn(http2::Gather::new(Arc::clone(&carrier).stand_by(), active.clone()));
        Ok(Self { key, facts, send, used: AtomicU32::new(0), active, settled, carrier })
    }

    /// Whether a request can be begun: the connection is there, and the origin has not said GOAWAY.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // A fresh clone waits for no stream of its own, so it is ready or never will be.
        matches!(self.send.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Takes over the work of the connection from its own task, unless another has. What is given must be polled.
    #[must_use]
    pub fn adopt(&self) -> Option<Adopted> {
        self.carrier.adopt()
    }

    /// Counts an exchange as under way, for as long as what it gives is kept.
    #[must_use]
    pub fn enter(&self) -> http2::Entered {
        self.active.enter()
    }

    /// For one request. Where the origin allows no more streams at the time, the request waits in the connection.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    /// Counts an exchange, and tells whether it is the first.
    #[must_use]
    pub fn count(&self) -> bool {
        self.used.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// What the origin allows. Waits for its SETTINGS, which are the first that it sends, but not for long.
    pub async fn allowed(&self) -> Allowed {
        let mut settled = self.settled.clone();
        // Late or never: what is known then is the protocol's defaults. An error means that the connection has ended.
        let _ = timeout(SETTINGS_TIME, settled.wait_for(|settled| *settled)).await;
        Allowed {
            max_streams: u32::try_from(self.send.current_max_send_streams())
                .unwrap_or(u32::MAX)
                .clamp(1, http2::MAX_STREAMS),
            extended_connect: self.send.is_extended_connect_protocol_enabled(),
        }
    }
}

impl std::fmt::Debug for Multiplexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multiplexed")
            .field("key", &self.key)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// Drives the connection to its end, and gives what ended it, if that was no ordinary close. The first PING tells by its
/// answer that the origin's SETTINGS are in force; the later ones find an origin that is gone without a word.
async fn carry(
    connection: Connection<Corked<BoxIo>, Bytes>,
    cork: Cork<BoxIo>,
    pings: Option<PingPong>,
    options: MultiplexedOptions,
    settling: &watch::Sender<bool>,
) -> Option<String> {
    let MultiplexedOptions { ping_every, ping_answer, .. } = options;
    let mut connection = pin!(connection);
    let mut pinging = pin!(async {
        let Some(mut pings) = pings else { return std::future::pending().await };
        let mut ticks = interval_at(tokio::time::Instant::now() + ping_every, ping_every);
        loop {
            match timeout(ping_answer, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => settling.send_replace(true),
                // The connection has ended, and tells itself why.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return,
            };
            ticks.tick().await;
        }
    });
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        // It is polled again for as long as it cannot be flushed whole.
        let _ = cork.poll_flush(cx);
        if let Poll::Ready(end) = polled {
            return Poll::Ready(match end {
                Ok(()) => None,
                Err(error) => Some(http2::explain(&error, "the origin")),
            });
        }
        pinging.as_mut().poll(cx).map(|()| Some(format!("no answer to a PING for {ping_answer:?}")))
    })
    .await
}

/// How long an origin's SETTINGS are waited for before a client is served without knowing them. They come with the first
/// packet after the handshake.
const SETTINGS_TIME: Duration = Duration::from_secs(1);
