//! The load: connections through the proxy that send requests as told and check every answer. One error ends it all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::trust;
use crate::wire::{Expect, First, Wire};

type Conn = Wire<TlsStream<TcpStream>>;

struct Load {
    proxy: String,
    authority: String,
    tls: Arc<ClientConfig>,
    /// Whether each request has a connection of its own.
    fresh: bool,
    connections: usize,
    method: &'static str,
    /// Size of the body: of the response for GET, of the request for POST.
    bytes: u64,
}

/// Prints `{"ready":true}`; then for each number N read, sends N requests and prints what they took.
pub(crate) async fn drive(spec: &Value) -> Result<()> {
    let text = |key: &str| spec[key].as_str().map(str::to_owned).with_context(|| key.to_owned());
    let number = |key: &str| spec[key].as_u64().with_context(|| key.to_owned());
    let load = Arc::new(Load {
        proxy: format!("127.0.0.1:{}", number("proxy")?),
        authority: format!("{}:{}", trust::NAME, number("origin")?),
        tls: trust::client(&PathBuf::from(text("ca")?), Resumption::disabled())?,
        fresh: spec["fresh"] == true,
        connections: usize::try_from(number("connections")?)?,
        method: if text("method")? == "POST" { "POST" } else { "GET" },
        bytes: number("bytes")?,
    });
    let mut kept = Vec::new();
    if !load.fresh {
        for _ in 0..load.connections {
            kept.push(load.connect().await.context("connecting")?);
        }
    }
    println!("{}", json!({ "ready": true }));
    let limit = Duration::from_secs(number("limit_seconds")?);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let requests = line.trim().parse()?;
        let begin = Instant::now();
        let done = tokio::time::timeout(limit, run(&load, &mut kept, requests));
        let mut latencies = done.await.context("the load took longer than it may")??;
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

async fn run(load: &Arc<Load>, kept: &mut Vec<Conn>, requests: u64) -> Result<Vec<u32>> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut workers = JoinSet::new();
    let mut connections: Vec<Option<Conn>> = kept.drain(..).map(Some).collect();
    connections.resize_with(load.connections, || None);
    for mut connection in connections {
        let (load, left) = (Arc::clone(load), Arc::clone(&left));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            let mut head = Vec::with_capacity(20 * 1024);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let begin = Instant::now();
                let mut wire = match connection.take() {
                    Some(wire) => wire,
                    None => load.connect().await.context("connecting")?,
                };
                load.exchange(&mut wire, &mut head).await?;
                latencies.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
                connection = (!load.fresh).then_some(wire);
            }
            anyhow::Ok((connection, latencies))
        });
    }
    let mut all = Vec::with_capacity(usize::try_from(requests)?);
    while let Some(worker) = workers.join_next().await {
        let (connection, latencies) = worker.context("a worker panicked")??;
        kept.extend(connection);
        all.extend(latencies);
    }
    Ok(all)
}

impl Load {
    async fn connect(&self) -> Result<Conn> {
        let tcp = TcpStream::connect(&self.proxy).await?;
        tcp.set_nodelay(true)?;
        let mut wire = Wire::new(tcp);
        let mut head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.authority).into_bytes();
        wire.send(&mut head, 0).await?;
        let head = wire.head(Expect::Response).await?.context("closed instead of answering CONNECT")?;
        let First::Response { status } = head.first else { bail!("not a response") };
        ensure!(status == 200, "CONNECT answered with {status}");
        let name = ServerName::try_from(trust::NAME)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, wire.stream).await?;
        Ok(Wire::new(tls))
    }

    async fn exchange(&self, wire: &mut Conn, head: &mut Vec<u8>) -> Result<()> {
        let uploads = self.method == "POST";
        self.request_head(head, uploads);
        wire.send(head, if uploads { self.bytes } else { 0 }).await?;
        let answer = wire.head(Expect::Response).await?.context("closed instead of answering")?;
        let First::Response { status } = answer.first else { bail!("not a response") };
        ensure!(status == 200, "answered with {status}");
        let want = if uploads { self.bytes % 1000 } else { self.bytes };
        ensure!(answer.content_length == want, "a body of {} bytes for {want}", answer.content_length);
        wire.body(want).await
    }

    fn request_head(&self, head: &mut Vec<u8>, uploads: bool) {
        let target =
            if uploads { "/upload".to_owned() } else { format!("/bytes/{}?q=1&lang=en", self.bytes) };
        let line = format!("{} {target} HTTP/1.1\r\nHost: {}\r\n", self.method, self.authority);
        head.extend_from_slice(line.as_bytes());
        head.extend_from_slice(
            b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
              Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
              Accept-Language: en-US,en;q=0.5\r\n\
              Accept-Encoding: gzip, deflate, br, zstd\r\n\
              Cookie: session=6f1d2a9c8b7e4f3a; theme=dark; consent=yes\r\n\
              Referer: https://localhost/\r\n\
              Cache-Control: no-cache\r\n",
        );
        if uploads {
            let fields =
                format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", self.bytes);
            head.extend_from_slice(fields.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
    }
}
