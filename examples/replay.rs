//! `cargo run --example replay`
//!
//! Stores a flow, sends its request again to another origin, and tells in what the answer differs from the stored one.
//! It does not show HTTP/2, TLS or WebSockets, which go the same way.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use bytes::Bytes;
use manent::config::Config;
use manent::flow::{Body, Flow, Request, Response, State, Target};
use manent::record::{Recorder, RecorderOptions};
use manent::replay::compare::{Rules, Side, compare};
use manent::replay::send::{Edits, Run, SendOptions};
use manent::store::Reader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = dir.path().join("flows.db");
    let recorder = Recorder::open(&store, RecorderOptions::default()).await?;
    let request = Request {
        method: Bytes::from_static(b"GET"),
        target: Bytes::from_static(b"/hello"),
        headers: [("Host", "origin.test"), ("X-Case", "kept")].into_iter().collect(),
        body: Body::inline(Bytes::new()),
        ..Request::default()
    };
    let json = [("Content-Type", "application/json")];
    let body = Body::inline(&br#"{"greeting": "hello", "n": 1}"#[..]);
    let response = Response { status: 200, headers: json.into_iter().collect(), body, ..Response::default() };
    let target = Target { host: "origin.test".into(), port: 80, ..Target::default() };
    let flow = Flow {
        state: State::Complete,
        target,
        request: Some(request),
        response: Some(response),
        ..Flow::default()
    };
    let mid = recorder.store(flow).await?;
    recorder.close().await?;

    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let mut edits = Edits::default();
    edits.set_header("X-Added: now")?;
    edits.to = Some(format!("http://{}", origin.local_addr()?).parse()?);
    let answer = tokio::spawn(async move {
        let (mut tcp, _) = origin.accept().await?;
        let mut request = vec![0; 4096];
        let len = tcp.read(&mut request).await?;
        let body = r#"{"n":2,"greeting":"hello"}"#;
        let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        tcp.write_all(format!("HTTP/1.1 200 OK\r\n{head}{body}").as_bytes()).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&request[..len]).into_owned())
    });

    let config = Config::new(store.clone(), dir.path().join("ca"));
    let (outbound, recorder) = manent::app::outbound(&config, Vec::new()).await?;
    let options = SendOptions { edits, ..SendOptions::default() };
    let (feed, mut run) = Run::start(outbound, recorder, &store, options)?;
    let feeding = tokio::task::spawn_blocking(move || feed.send(&[mid]));
    let reply = run.reply().await.ok_or_else(|| anyhow::anyhow!("each flow has its reply"))?;
    feeding.await??;
    run.finish().await;
    println!("the origin got {:?}", answer.await??);

    println!("{mid} → {}", reply.mid.ok_or_else(|| anyhow::anyhow!("it is stored"))?);
    let (was, new) = (reply.kept.source, reply.kept.outcome?);
    let reader = Reader::open(&store)?;
    let (was, is) = (Side { reader: &reader, flow: &was }, Side { reader: &reader, flow: &new.flow });
    println!("{:?}", compare(was, is, &Rules::default()).differences);
    Ok(())
}
