//! `cargo run --example capture`
//!
//! Runs a proxy inside a program, sends one request through it and reads the flow back by its mid.
//! It does not show TLS: for that a client has to trust `proxy.ca()`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use manent::app::{Grace, Proxy};
use manent::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path().join("flows.db"), dir.path().join("ca"));
    config.listen = vec!["127.0.0.1:0".parse()?];
    let proxy = Proxy::start(config).await?;
    let recorder = proxy.recorder().ok_or_else(|| anyhow::anyhow!("recording is on by default"))?.clone();
    let mut commits = recorder.commits();

    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let addr = origin.local_addr()?;
    let answer = async {
        let (mut tcp, _) = origin.accept().await?;
        let mut request = [0; 4096];
        let _ = tcp.read(&mut request).await?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmanent").await
    };
    let ask = async {
        let mut tcp = TcpStream::connect(proxy.addr()).await?;
        let request =
            format!("GET http://{addr}/hello HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        tcp.read_to_string(&mut response).await?;
        Ok(response)
    };
    let ((), response) = tokio::try_join!(answer, ask)?;
    println!("the client got {:?}", response.lines().next().unwrap_or_default());

    // A mid is announced once its flow is committed.
    let mid = commits.recv().await?[0].mid;
    let flow = recorder.collect(mid).await?.ok_or_else(|| anyhow::anyhow!("an announced mid is there"))?;
    let body = flow.response.as_ref().and_then(|r| r.body.as_inline()).cloned().unwrap_or_default();
    println!("mid {mid}: {} {:?}, {} bytes: {}", flow.url(), flow.state, body.len(), body.escape_ascii());

    let summary = proxy
        .shutdown(Grace { period: std::time::Duration::from_secs(1), skip: CancellationToken::new() })
        .await;
    println!("stored {}, lost {}", summary.stored, summary.lost);
    Ok(())
}
