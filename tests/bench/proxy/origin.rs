//! The origin: answers `GET /bytes/N` with N bytes, any request body with a short count of it, `/events` with an event
//! stream that does not end, and `/echo` with WebSocket frames that come back. HTTP/2 and HTTP/1.1, as negotiated.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::wire::{Expect, First, Wire, requested};
use crate::{http2, trust, websocket};

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    http1: AtomicU64,
    http2: AtomicU64,
}

/// Serves until standard input ends. Prints its port, and for each line read, what it has counted so far: connections,
/// and requests by the protocol in which they came.
pub(crate) async fn serve(spec: &Value) -> Result<()> {
    let dir = PathBuf::from(spec["dir"].as_str().context("dir")?);
    let acceptor = TlsAcceptor::from(trust::server(&dir)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    println!("{}", json!({ "port": port }));
    let counters = Arc::new(Counters::default());
    let tasks = TaskTracker::new();
    // `localhost` is often ::1 first; an origin there too spares every proxy the same refused attempt.
    if let Ok(v6) = TcpListener::bind(("::1", port)).await {
        tasks.spawn(accept(v6, acceptor.clone(), Arc::clone(&counters), tasks.clone()));
    }
    tasks.spawn(accept(listener, acceptor, Arc::clone(&counters), tasks.clone()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (connections, http1, http2) =
            (count(&counters.connections), count(&counters.http1), count(&counters.http2));
        println!("{}", json!({ "connections": connections, "http1": http1, "http2": http2 }));
    }
    // The process ends here, and its connections with it.
    Ok(())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, counters: Arc<Counters>, tasks: TaskTracker) {
    while let Ok((tcp, _)) = listener.accept().await {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, counters, streams) = (acceptor.clone(), Arc::clone(&counters), tasks.clone());
        // A connection that breaks shows at the client, which counts errors for all.
        tasks.spawn(async move {
            let served = async {
                tcp.set_nodelay(true)?;
                let tls = acceptor.accept(tcp).await?;
                if tls.get_ref().1.alpn_protocol() == Some(trust::HTTP2) {
                    http2::serve(tls, &counters.http2, &streams).await
                } else {
                    serve_http1(Wire::new(tls), &counters.http1).await
                }
            };
            served.await.is_ok()
        });
    }
}

async fn serve_http1(mut wire: Wire<TlsStream<TcpStream>>, requests: &AtomicU64) -> Result<()> {
    let mut out = Vec::with_capacity(20 * 1024);
    while let Some(head) = wire.head(Expect::Request).await? {
        requests.fetch_add(1, Ordering::Relaxed);
        let First::Request { method, target } = head.first else { bail!("not a request") };
        ensure!(!head.chunked, "a chunked body: none was sent");
        if target == "/events" {
            return events(wire).await;
        }
        if target == "/echo" {
            return echo(wire, &head.websocket.context("no Sec-WebSocket-Key")?).await;
        }
        wire.body(head.content_length).await?;
        let len = if method == "GET" { requested(&target) } else { head.content_length % 1000 };
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        for (name, value) in response_fields() {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(format!("Content-Length: {len}\r\n\r\n").as_bytes());
        wire.send(&mut out, len).await?;
    }
    Ok(())
}

/// An event each [`EVENT_PERIOD`], a chunk each, until the connection breaks.
async fn events(mut wire: Wire<TlsStream<TcpStream>>) -> Result<()> {
    let mut out = b"HTTP/1.1 200 OK\r\n\
        Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    let mut ticks = tokio::time::interval(EVENT_PERIOD);
    for number in 0_u64.. {
        ticks.tick().await;
        let event = format!("data: {number}\n\n");
        out.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        wire.send(&mut out, 0).await?;
    }
    Ok(())
}

/// Sends each frame back as it is, also the one that closes.
async fn echo(mut wire: Wire<TlsStream<TcpStream>>, key: &str) -> Result<()> {
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        websocket::accept(key)
    )
    .into_bytes();
    wire.send(&mut out, 0).await?;
    loop {
        let (opcode, payload) = websocket::read(&mut wire).await?;
        websocket::frame(&mut out, opcode, &payload, None)?;
        wire.send(&mut out, 0).await?;
        if opcode == websocket::CLOSE {
            return Ok(());
        }
    }
}

/// The fields of every response but its length.
pub(crate) fn response_fields() -> &'static [(&'static str, &'static str)] {
    &[
        ("Date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("Server", "bench/1.0"),
        ("Content-Type", "application/octet-stream"),
        ("Cache-Control", "private, max-age=0, must-revalidate"),
        ("ETag", "\"5f3a-61b2c4d8e9f00\""),
        ("Last-Modified", "Sat, 21 Nov 2026 09:00:00 GMT"),
        ("Vary", "Accept-Encoding"),
        ("X-Request-Id", "7d9f3c52-0a61-4a36-9d0e-5c1b8b8f2a11"),
    ]
}

/// How often an event stream has an event.
pub(crate) const EVENT_PERIOD: Duration = Duration::from_millis(100);
