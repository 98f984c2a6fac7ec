//! The origin: answers `GET /bytes/N` with N bytes, and any request body with a short count of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::trust;
use crate::wire::{Expect, First, Wire};

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
}

/// Serves until standard input ends. Prints its port, and for each line read, what it has counted so far.
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
        let (connections, requests) =
            (counters.connections.load(Ordering::Relaxed), counters.requests.load(Ordering::Relaxed));
        println!("{}", json!({ "connections": connections, "requests": requests }));
    }
    // The process ends here, and its connections with it.
    Ok(())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, counters: Arc<Counters>, tasks: TaskTracker) {
    while let Ok((tcp, _)) = listener.accept().await {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, counters) = (acceptor.clone(), Arc::clone(&counters));
        // A connection that breaks shows at the client, which counts errors for all.
        tasks.spawn(async move { connection(tcp, acceptor, &counters).await.is_ok() });
    }
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, counters: &Counters) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut wire = Wire::new(acceptor.accept(tcp).await?);
    let mut out = Vec::with_capacity(20 * 1024);
    while let Some(head) = wire.head(Expect::Request).await? {
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let First::Request { method, target } = head.first else { bail!("not a request") };
        wire.body(head.content_length).await?;
        let len = if method == "GET" {
            target.strip_prefix("/bytes/").and_then(|rest| rest.split('?').next()?.parse().ok()).unwrap_or(0)
        } else {
            head.content_length % 1000
        };
        response_head(&mut out, len);
        wire.send(&mut out, len).await?;
    }
    Ok(())
}

fn response_head(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\n\
          Date: Sun, 22 Nov 2026 10:00:00 GMT\r\n\
          Server: bench/1.0\r\n\
          Content-Type: application/octet-stream\r\n\
          Cache-Control: private, max-age=0, must-revalidate\r\n\
          ETag: \"5f3a-61b2c4d8e9f00\"\r\n\
          Last-Modified: Sat, 21 Nov 2026 09:00:00 GMT\r\n\
          Vary: Accept-Encoding\r\n\
          X-Request-Id: 7d9f3c52-0a61-4a36-9d0e-5c1b8b8f2a11\r\n\
          Content-Length: ",
    );
    out.extend_from_slice(len.to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}
