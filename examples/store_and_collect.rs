//! `cargo run --example store_and_collect`
//!
//! Shows the idea of the store: give it a flow, keep the mid as a ticket, collect the flow by it later, also after the
//! store was closed and opened again. It does not show the proxy, and does not prove that a power cut is survived.

use std::sync::Arc;

use bytes::Bytes;
use manent::flow::{Body, ClientConn, Flow, Request, Response, Scheme, State, Target};
use manent::record::{Recorder, RecorderOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("manent-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("flows.db");

    let recorder = Recorder::open(&path, RecorderOptions::default()).await?;
    let small = recorder.store(flow("/small", b"hello".to_vec())).await?;
    // A body above the inline limit lies in a segment file beside the database.
    let large = recorder.store(flow("/large", vec![b'x'; 1 << 20])).await?;
    let stats = recorder.close().await?;
    say(&format!("stored {} flows in {} groups: mids {small} and {large}", stats.stored, stats.groups));

    let recorder = Recorder::open(&path, RecorderOptions::default()).await?;
    for mid in [small, large] {
        let Some(flow) = recorder.collect(mid).await? else { anyhow::bail!("mid {mid} is gone") };
        let body = flow.response.as_ref().and_then(|r| r.body.as_inline()).map_or(0, Bytes::len);
        say(&format!("collected {mid}: {} with {body} bytes of body", flow.url()));
    }
    recorder.close().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn flow(path: &'static str, body: Vec<u8>) -> Flow {
    let request = Request {
        method: Bytes::from_static(b"GET"),
        target: Bytes::from_static(path.as_bytes()),
        headers: [("Host", "example.com")].into_iter().collect(),
        ..Request::default()
    };
    let response = Response {
        status: 200,
        reason: Bytes::from_static(b"OK"),
        headers: [("Content-Type", "text/plain")].into_iter().collect(),
        body: Body::inline(body),
        ..Response::default()
    };
    Flow {
        state: State::Complete,
        target: Target { scheme: Scheme::Https, host: "example.com".into(), port: 443 },
        request: Some(request),
        response: Some(response),
        client: Arc::new(ClientConn { mode: "explicit".into(), ..ClientConn::default() }),
        ..Flow::default()
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn say(line: &str) {
    println!("{line}");
}
