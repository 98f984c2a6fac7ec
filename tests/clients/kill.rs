//! SIGKILL under load: whatever was announced is in the store that is opened again, whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Origin, Proxy, Trust, numbered};

#[tokio::test]
async fn every_announced_flow_survives_the_proxy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let origin = Origin::http().await;
    let mut proxy = Proxy::start(dir.path(), &trust, &["--json"]).await;
    let load = load(proxy.port, origin.port);

    let mut announced = BTreeMap::new();
    while announced.len() < ANNOUNCED {
        let line = timeout(PATIENCE, proxy.announced.next_line()).await.expect("flows are announced");
        note(&mut announced, &line.expect("UTF-8").expect("the proxy is running"));
    }
    proxy.kill().await;
    // What it had written before it died was announced too.
    while let Ok(Some(line)) = proxy.announced.next_line().await {
        note(&mut announced, &line);
    }
    drop(load);

    let mut again = Proxy::start(dir.path(), &trust, &[]).await;
    let rows: BTreeMap<u64, Value> =
        again.store.rows().await.into_iter().map(|row| (row["mid"].as_u64().expect("mid"), row)).collect();
    for (mid, path) in &announced {
        let row = rows.get(mid).unwrap_or_else(|| panic!("mid {mid} was announced and is lost"));
        assert_eq!((row["path"].as_str(), row["state"].as_str()), (Some(path.as_str()), Some("complete")));
        let body = again.store.ask(&["cat", &mid.to_string(), "--raw"]).await;
        assert!(
            body == numbered(path),
            "the body of mid {mid} is {} bytes and not that of {path}",
            body.len()
        );
    }
    let open: Vec<&Value> = rows.values().filter(|row| row["state"] == "open").collect();
    assert!(open.is_empty(), "rows of a proxy that is gone: {open:?}");
    again.stop().await;
}

/// Keeps mid and path of a flow that is announced as complete.
fn note(announced: &mut BTreeMap<u64, String>, line: &str) {
    // The last line may be cut: it was being written when the process died.
    let Ok(flow) = serde_json::from_str::<Value>(line) else { return };
    if flow["state"] == "complete" {
        let url = flow["url"].as_str().expect("url");
        let path = url.splitn(4, '/').nth(3).expect("a path");
        announced.insert(flow["mid"].as_u64().expect("mid"), format!("/{path}"));
    }
}

/// Clients that ask for bodies of all sizes, inline and in segments, until they are dropped or the proxy is gone.
fn load(proxy: u16, origin: u16) -> JoinSet<std::io::Result<()>> {
    let next = Arc::new(AtomicU64::new(1));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let next = Arc::clone(&next);
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let len = [0, 100, 5_000, 200_000][usize::try_from(number % 4).unwrap_or(0)];
                let mut tcp = TcpStream::connect(("127.0.0.1", proxy)).await?;
                let host = format!("localhost:{origin}");
                let head = format!("GET http://{host}/numbered/{number}/{len} HTTP/1.1\r\nHost: {host}\r\n");
                tcp.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await?;
                tcp.read_to_end(&mut Vec::new()).await?;
            }
        });
    }
    clients
}

/// Enough for several groups of commits.
const ANNOUNCED: usize = 150;

const PATIENCE: Duration = Duration::from_secs(20);
