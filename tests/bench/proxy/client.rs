//! The load: connections that send requests as told and check every answer. One error ends it all.
//!
//! Closed-loop, each connection (or stream of it) sends when it has its answer; open-loop, requests are due by a
//! schedule, whatever has become of those before, and their latency counts from when they were due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ask::{Ask, get_http2};
use crate::http2::Http2;
use crate::plain::Plain;
use crate::route::{Http1, Route};

/// What one worker sends on.
enum Conn {
    Http1(Box<Http1>),
    Plain(Plain),
    Http2(Http2),
}

struct Load {
    route: Route,
    http2: bool,
    /// Whether HTTP/1.1 is hyper's, rather than what costs least.
    plain: bool,
    /// Whether each request has a connection of its own.
    fresh: bool,
    connections: usize,
    /// Streams at a time on each connection; 1 for HTTP/1.1.
    streams: usize,
    ask: Ask,
    bytes: u64,
    /// The head of every request that is not written by hand.
    crate_head: Option<http::Request<()>>,
    /// Requests per second where they are paced.
    rate: Option<u32>,
}

/// Prints `{"ready":true}`; then for each number N read, sends N requests and prints what they took. Connections are open by
/// then, unless `cold` is set: then opening them is part of what is measured, as load generators measure.
pub(crate) async fn drive(spec: &Value) -> Result<()> {
    let number = |key: &str| spec[key].as_u64().with_context(|| key.to_owned());
    let (bytes, http2, plain) = (number("bytes")?, spec["http2"] == true, spec["plain"] == true);
    let ask = if spec["method"] == "POST" { Ask::Post(bytes) } else { Ask::Get(bytes) };
    let route = Route::from_spec(spec)?;
    let load = Arc::new(Load {
        http2,
        fresh: spec["fresh"] == true,
        connections: usize::try_from(number("connections")?)?,
        streams: usize::try_from(number("streams")?)?,
        ask,
        bytes,
        crate_head: match (http2, plain) {
            (true, _) => Some(ask.http2_head(&route.authority)?),
            (false, true) => Some(ask.plain_head(&route.authority)?),
            (false, false) => None,
        },
        plain,
        rate: spec["rate"].as_u64().map(u32::try_from).transpose()?,
        route,
    });
    let mut kept = Vec::new();
    let cold = spec["cold"] == true;
    if !(load.fresh || cold) {
        for _ in 0..load.connections {
            load.open(&mut kept).await.context("connecting")?;
        }
    }
    println!("{}", json!({ "ready": true }));
    let limit = Duration::from_secs(number("limit_seconds")?);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let requests = line.trim().parse()?;
        let begin = Instant::now();
        let run = async {
            if cold && load.http2 {
                load.open_all(&mut kept).await.context("connecting")?;
            }
            match load.rate {
                Some(rate) => paced(&load, &mut kept, requests, rate).await,
                None => closed_loop(&load, &mut kept, requests).await,
            }
        };
        let mut latencies =
            tokio::time::timeout(limit, run).await.context("the load took longer than it may")??;
        let elapsed = begin.elapsed();
        ensure!(latencies.len() as u64 == requests, "{} answers to {requests} requests", latencies.len());
        latencies.sort_unstable();
        let at = |share: usize| {
            latencies.get(latencies.len().saturating_sub(1) * share / 100).copied().unwrap_or(0)
        };
        println!("{}", json!({ "elapsed_s": elapsed.as_secs_f64(), "p50_us": at(50), "p99_us": at(99) }));
    }
    Ok(())
}

async fn closed_loop(load: &Arc<Load>, kept: &mut Vec<Conn>, requests: u64) -> Result<Vec<u32>> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut workers = JoinSet::new();
    let mut connections: Vec<Option<Conn>> = kept.drain(..).map(Some).collect();
    connections.resize_with(load.connections * load.streams, || None);
    for mut connection in connections {
        let (load, left) = (Arc::clone(load), Arc::clone(&left));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            let mut head = Vec::with_capacity(20 * 1024);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let begin = Instant::now();
                let mut conn = match connection.take() {
                    Some(conn) => conn,
                    None => load.connect().await.context("connecting")?,
                };
                load.exchange(&mut conn, &mut head).await?;
                latencies.push(micros(begin.elapsed()));
                connection = (!load.fresh).then_some(conn);
            }
            anyhow::Ok((connection, latencies))
        });
    }
    gather(workers, kept, requests).await
}

/// Sends `requests` requests at `rate` a second, turn by turn on the kept connections. A latency is the time from when the
/// request was due to the response's head, so that a request that had to wait for the one before it counts its wait.
async fn paced(load: &Arc<Load>, kept: &mut Vec<Conn>, requests: u64, rate: u32) -> Result<Vec<u32>> {
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for mut conn in kept.drain(..) {
        // Room for all, so that the pacer never waits.
        let (queue, mut due) = mpsc::channel::<Instant>(usize::try_from(requests)?.max(1));
        queues.push(queue);
        let load = Arc::clone(load);
        workers.spawn(async move {
            let mut latencies = Vec::new();
            let mut head = Vec::with_capacity(20 * 1024);
            while let Some(due) = due.recv().await {
                let first_byte = load.exchange(&mut conn, &mut head).await?;
                latencies.push(micros(first_byte - due));
            }
            anyhow::Ok((Some(conn), latencies))
        });
    }
    // A thread of its own: tokio's timers are a millisecond coarse, which is more than what is measured.
    let pacer = tokio::task::spawn_blocking(move || {
        let (begin, interval) = (Instant::now(), Duration::from_secs(1) / rate);
        let turns = queues.iter().cycle().zip(0..requests);
        for (due, (queue, _)) in std::iter::successors(Some(begin), |due| Some(*due + interval)).zip(turns) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if queue.blocking_send(due).is_err() {
                break; // its worker failed, which is told below
            }
        }
    });
    let latencies = gather(workers, kept, requests).await;
    pacer.await?;
    latencies
}

type Worked = Result<(Option<Conn>, Vec<u32>)>;

/// Waits for all workers and takes their connections back.
async fn gather(mut workers: JoinSet<Worked>, kept: &mut Vec<Conn>, requests: u64) -> Result<Vec<u32>> {
    let mut all = Vec::with_capacity(usize::try_from(requests)?);
    while let Some(worker) = workers.join_next().await {
        let (connection, latencies) = worker.context("a worker panicked")??;
        kept.extend(connection);
        all.extend(latencies);
    }
    Ok(all)
}

impl Load {
    /// Opens one connection and adds a handle for each of its streams.
    async fn open(&self, kept: &mut Vec<Conn>) -> Result<()> {
        if self.http2 {
            let http2 = self.route.http2().await?;
            kept.extend((0..self.streams).map(|_| Conn::Http2(http2.clone())));
        } else {
            kept.push(self.connect().await?);
        }
        Ok(())
    }

    /// A connection over HTTP/1.1.
    async fn connect(&self) -> Result<Conn> {
        let wire = self.route.http1().await?;
        Ok(match self.plain {
            true => Conn::Plain(Plain::handshake(wire.stream).await?),
            false => Conn::Http1(Box::new(wire)),
        })
    }

    /// Opens all connections of HTTP/2, at the same time.
    async fn open_all(self: &Arc<Self>, kept: &mut Vec<Conn>) -> Result<()> {
        let mut opening = JoinSet::new();
        for _ in 0..self.connections {
            let load = Arc::clone(self);
            opening.spawn(async move {
                let mut kept = Vec::new();
                load.open(&mut kept).await.map(|()| kept)
            });
        }
        while let Some(opened) = opening.join_next().await {
            kept.extend(opened.context("a task panicked")??);
        }
        Ok(())
    }

    /// Returns when the response's head was there.
    async fn exchange(&self, conn: &mut Conn, head: &mut Vec<u8>) -> Result<Instant> {
        match conn {
            Conn::Http1(wire) => self.ask.over_http1(wire, &self.route.authority, head).await,
            Conn::Plain(plain) => {
                plain.get(self.crate_head.as_ref().context("no head for hyper")?, self.bytes).await
            }
            Conn::Http2(http2) => {
                let head = self.crate_head.as_ref().context("no head for HTTP/2")?;
                get_http2(http2, head, self.bytes).await
            }
        }
    }
}

fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)
}
