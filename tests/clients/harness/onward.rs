//! A proxy behind the proxy under test (`--via`), which leads names that exist nowhere else to an origin on loopback, and
//! refuses all others: a client that goes past the proxy finds nothing, and no test leaves this machine.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub(crate) struct Onward {
    pub(crate) port: u16,
    refused: Arc<Mutex<Vec<String>>>,
    /// Aborted when it is dropped.
    accepting: JoinHandle<()>,
}

impl Onward {
    /// Leads every name that the origin's certificate is for, at its port 443, to this port.
    pub(crate) async fn to(port: u16) -> Onward {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("bound").port();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&refused);
        let accepting = tokio::spawn(async move {
            let connections = TaskTracker::new();
            while let Ok((client, _)) = listener.accept().await {
                let refused = Arc::clone(&shared);
                // A connection that breaks shows at the client.
                connections.spawn(async move { lead(client, port, &refused).await.is_ok() });
            }
        });
        Onward { port: own, refused, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests that were refused, by their first lines.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Onward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn lead(mut client: TcpStream, port: u16, refused: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default();
    let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(":443 "));
    if !target.is_some_and(|(host, _)| NAMES.contains(&host)) {
        refused.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        return client
            .write_all(b"HTTP/1.1 403 Not Here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    }
    let mut origin = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut origin).await.map(|_| ())
}

/// `origin.test` cannot exist (RFC 6761). The address is for documentation (RFC 5737), for clients that look names up before
/// they ask a proxy, and never ask one for loopback. `example.com` is the one that the README asks.
pub(crate) const NAMES: [&str; 3] = ["origin.test", "192.0.2.1", "example.com"];
