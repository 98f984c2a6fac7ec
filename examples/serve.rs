//! `cargo run --example serve`
//!
//! Records one exchange, ends the origin, and has the store answer the same request in its place; then asks for something
//! that was not recorded, and shows what came nearest. It does not show TLS, nor the options of the command line.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use manent::app::{Grace, Proxy};
use manent::config::Config;
use manent::replay::serve::{ServeOptions, StoreAnswers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = dir.path().join("flows.db");
    let mut config = Config::new(store.clone(), dir.path().join("ca"));
    config.listen = vec!["127.0.0.1:0".parse()?];

    let proxy = Proxy::start(config.clone()).await?;
    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let host = origin.local_addr()?;
    let answer = async {
        let (mut tcp, _) = origin.accept().await?;
        let mut request = [0; 4096];
        let _ = tcp.read(&mut request).await?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmanent").await
    };
    let (answered, asked) = tokio::join!(answer, ask(proxy.addr(), host, "/hello?n=1"));
    answered?;
    asked?;
    proxy.shutdown(grace()).await;
    drop(origin);

    // Opening looks at every flow, and blocks.
    let options = ServeOptions { reuse: true, ..ServeOptions::default() };
    let open = move || StoreAnswers::open(&store, None, options, &mut |_| {});
    let answers = tokio::task::spawn_blocking(open).await??;
    println!("{} of {} flows can answer", answers.indexed().answers, answers.indexed().seen);
    config.record = false;
    let proxy = Proxy::start_answering(config, Arc::new(answers.clone())).await?;
    for target in ["/hello?n=1", "/hello?n=2"] {
        println!("--- {target}\n{}", ask(proxy.addr(), host, target).await?);
    }
    proxy.shutdown(grace()).await;
    println!("--- {} answered, {} missed", answers.counts().answered, answers.counts().missed);
    Ok(())
}

async fn ask(proxy: SocketAddr, host: SocketAddr, target: &str) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect(proxy).await?;
    let request = format!("GET http://{host}{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    tcp.read_to_string(&mut response).await?;
    Ok(response)
}

fn grace() -> Grace {
    Grace { period: Duration::from_secs(1), skip: CancellationToken::new() }
}
