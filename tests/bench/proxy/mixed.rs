//! The load of the long soak: all kinds of traffic at the same time, each at a pace of its own, for a given time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::ask::{Ask, get_http2};
use crate::origin::EVENT_PERIOD;
use crate::route::{Http1, Route};
use crate::websocket;
use crate::wire::{Expect, First};

/// What one kind of traffic did: its name, and how often.
type Done = Result<(&'static str, u64)>;

/// Prints `{"ready":true}`; runs for `seconds` from the first line read; then prints how often each kind was done.
pub(crate) async fn drive(spec: &Value) -> Result<()> {
    let route = Arc::new(Route::from_spec(spec)?);
    let seconds = spec["seconds"].as_u64().context("seconds")?;
    let negotiated = route.negotiated().await?;
    println!("{}", json!({ "ready": true }));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await?.context("not told to begin")?;

    let until = Instant::now() + Duration::from_secs(seconds);
    let pace = |millis| Pace::new(Duration::from_millis(millis), until);
    let mut kinds: JoinSet<Done> = JoinSet::new();
    for _ in 0..KEPT {
        kinds.spawn(kept("GET of 1 KiB", Ask::Get(1024), Arc::clone(&route), pace(20)));
    }
    kinds.spawn(kept("POST of 100 KiB", Ask::Post(100 * 1024), Arc::clone(&route), pace(200)));
    kinds.spawn(kept("GET of 1 MiB", Ask::Get(1 << 20), Arc::clone(&route), pace(500)));
    kinds.spawn(fresh(Arc::clone(&route), pace(100)));
    kinds.spawn(events(Arc::clone(&route), until));
    for _ in 0..SOCKETS {
        kinds.spawn(echoes(Arc::clone(&route), pace(20)));
    }
    if negotiated == "h2" {
        kinds.spawn(streams(Arc::clone(&route), until));
    }

    let mut counts: Map<String, Value> = Map::new();
    let grace = Duration::from_secs(seconds + GRACE_SECONDS);
    let all = async {
        while let Some(done) = kinds.join_next().await {
            let (kind, count) = done.context("a worker panicked")??;
            let sum = counts.get(kind).and_then(Value::as_u64).unwrap_or(0) + count;
            counts.insert(kind.to_owned(), sum.into());
        }
        anyhow::Ok(())
    };
    timeout(grace, all).await.context("the load took longer than it may")??;
    println!("{}", json!({ "negotiated": negotiated, "counts": counts }));
    Ok(())
}

/// Ticks until a point in time.
struct Pace {
    ticks: Interval,
    until: Instant,
}

impl Pace {
    fn new(period: Duration, until: Instant) -> Pace {
        let mut ticks = interval(period);
        // A slow answer is no reason for a burst after it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pace { ticks, until }
    }

    /// Waits for the next turn; false when the time is over.
    async fn turn(&mut self) -> bool {
        self.ticks.tick().await;
        Instant::now() < self.until
    }
}

/// The same request again and again on one connection.
async fn kept(kind: &'static str, ask: Ask, route: Arc<Route>, mut pace: Pace) -> Done {
    let mut wire = route.http1().await.context(kind)?;
    let (mut count, mut head) = (0, Vec::new());
    while pace.turn().await {
        ask.over_http1(&mut wire, &route.authority, &mut head).await.context(kind)?;
        count += 1;
    }
    Ok((kind, count))
}

/// A connection for each request.
async fn fresh(route: Arc<Route>, mut pace: Pace) -> Done {
    let kind = "GET on a new connection";
    let (mut count, mut head) = (0, Vec::new());
    while pace.turn().await {
        let mut wire = route.http1().await.context(kind)?;
        Ask::Get(1024).over_http1(&mut wire, &route.authority, &mut head).await.context(kind)?;
        count += 1;
    }
    Ok((kind, count))
}

/// Streams of one HTTP/2 connection, [`STREAMS`] at a time.
async fn streams(route: Arc<Route>, until: Instant) -> Done {
    let kind = "HTTP/2 stream of 1 KiB";
    let http2 = route.http2().await.context(kind)?;
    let head = Arc::new(Ask::Get(1024).http2_head(&route.authority)?);
    let mut workers: JoinSet<Result<u64>> = JoinSet::new();
    for _ in 0..STREAMS {
        let (http2, head) = (http2.clone(), Arc::clone(&head));
        let mut pace = Pace::new(Duration::from_millis(40), until);
        workers.spawn(async move {
            let mut count = 0;
            while pace.turn().await {
                get_http2(&http2, &head, 1024).await?;
                count += 1;
            }
            Ok(count)
        });
    }
    let mut sum = 0;
    while let Some(worker) = workers.join_next().await {
        sum += worker.context("a worker panicked")?.context(kind)?;
    }
    Ok((kind, sum))
}

/// One event stream for the whole time. Its events must come in their order, and none may be late by seconds.
async fn events(route: Arc<Route>, until: Instant) -> Done {
    let kind = "event of one stream";
    let mut wire = route.http1().await.context(kind)?;
    let mut head =
        format!("GET /events HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n", route.authority)
            .into_bytes();
    wire.send(&mut head, 0).await?;
    let answer = wire.head(Expect::Response).await?.context("closed instead of sending events")?;
    ensure!(matches!(answer.first, First::Response { status: 200 }), "no event stream");
    let mut count = 0;
    while Instant::now() < until {
        // Lines of chunked framing and empty lines between events are passed over.
        let line =
            timeout(EVENT_PERIOD * 50, wire.line()).await.context("an event is late")?.context(kind)?;
        if let Some(number) = line.strip_prefix(b"data: ") {
            ensure!(number == count.to_string().as_bytes(), "event {count} did not come in its turn");
            count += 1;
        }
    }
    Ok((kind, count))
}

/// Text frames on one WebSocket connection, each answered by its echo.
async fn echoes(route: Arc<Route>, mut pace: Pace) -> Done {
    let kind = "WebSocket echo";
    let mut wire = upgrade(&route).await.context(kind)?;
    let (mut count, mut out) = (0_u64, Vec::new());
    while pace.turn().await {
        // Lengths on both sides of 126, where the frame's head grows.
        let text = format!("message {count} {}", "x".repeat(usize::try_from(count % 400)?));
        websocket::frame(&mut out, websocket::TEXT, text.as_bytes(), Some(MASK))?;
        wire.send(&mut out, 0).await?;
        let (opcode, payload) = websocket::read(&mut wire).await.context(kind)?;
        ensure!(opcode == websocket::TEXT && payload == text.as_bytes(), "message {count} came back changed");
        count += 1;
    }
    websocket::frame(&mut out, websocket::CLOSE, &1000_u16.to_be_bytes(), Some(MASK))?;
    wire.send(&mut out, 0).await?;
    let (opcode, _) = websocket::read(&mut wire).await.context(kind)?;
    ensure!(opcode == websocket::CLOSE, "a frame in place of the closing one");
    Ok((kind, count))
}

async fn upgrade(route: &Route) -> Result<Http1> {
    let mut wire = route.http1().await?;
    let mut head = format!(
        "GET /echo HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n",
        route.authority
    )
    .into_bytes();
    wire.send(&mut head, 0).await?;
    let answer = wire.head(Expect::Response).await?.context("closed instead of upgrading")?;
    let First::Response { status } = answer.first else { bail!("not a response") };
    ensure!(status == 101, "the upgrade was answered with {status}");
    ensure!(answer.websocket == Some(websocket::accept(KEY)), "the wrong Sec-WebSocket-Accept");
    Ok(wire)
}

/// Connections of the smallest kind of request.
const KEPT: usize = 4;

/// WebSocket connections.
const SOCKETS: usize = 4;

/// Streams at a time on the HTTP/2 connection.
const STREAMS: usize = 8;

/// What the last exchanges may take after the time is over.
const GRACE_SECONDS: u64 = 30;

/// RFC 6455 §1.3's example. Neither it nor the mask needs chance here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
