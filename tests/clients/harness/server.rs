//! Servers of other makes, each in a process of its own, and a proxy between one of them and whoever comes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::command::{Program, clean, python};
use super::{Proxy, Record, Trust};

/// A server that prints its ports as one JSON object, then an object for each thing that it has seen, and ends when its
/// standard input has and every connection to it.
pub(crate) struct Server {
    ports: Value,
    /// Reads what it prints, as it prints it.
    log: JoinHandle<Vec<Value>>,
    stdin: Option<ChildStdin>,
    _child: Child,
}

impl Server {
    /// An HTTP/2 origin on Node.js (nghttp2), with ports `https` and `http`.
    pub(crate) async fn http2(trust: &Trust, home: &Path, websockets: OverHttp2) -> Server {
        let mut command = Program::NODE.command(home);
        command.arg(script("http2_origin.mjs")).arg(&trust.cert_path).arg(&trust.key_path);
        if websockets == OverHttp2::Offered {
            command.arg("extended-connect");
        }
        Server::start(command).await
    }

    /// A server in Python, with ports `tls` and `clear`.
    pub(crate) async fn python(trust: &Trust, home: &Path, name: &str) -> Server {
        let mut command = clean(&python(), home);
        command.arg(script(name)).arg(&trust.cert_path).arg(&trust.key_path);
        Server::start(command).await
    }

    async fn start(mut command: Command) -> Server {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready =
            timeout(PATIENCE, lines.next_line()).await.expect("it gets ready").expect("it speaks UTF-8");
        let ports = object(&ready.expect("it is running"));
        let log = tokio::spawn(async move {
            let mut log = Vec::new();
            while let Some(line) = lines.next_line().await.expect("it speaks UTF-8") {
                log.push(object(&line));
            }
            log
        });
        Server { ports, log, stdin: child.stdin.take(), _child: child }
    }

    pub(crate) fn port(&self, name: &str) -> u64 {
        self.ports[name].as_u64().expect("a port")
    }

    /// A URL on `localhost`; `port` is the server's name for it.
    pub(crate) fn url(&self, scheme: &str, port: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.port(port))
    }

    /// Ends it, and gives all it has seen.
    ///
    /// # Panics
    /// When somebody keeps a connection to it.
    pub(crate) async fn finish(&mut self) -> Vec<Value> {
        drop(self.stdin.take());
        timeout(PATIENCE, &mut self.log).await.expect("nobody is connected, so that it ends").expect("read")
    }
}

/// Whether an origin offers WebSockets over HTTP/2 (RFC 8441 §3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverHttp2 {
    Offered,
    Missing,
}

/// A server, and a proxy between it and whoever comes.
pub(crate) struct ServerStage {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) dir: tempfile::TempDir,
}

impl ServerStage {
    pub(crate) async fn http2(websockets: OverHttp2) -> ServerStage {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let trust = Trust::new(dir.path());
        let server = Server::http2(&trust, dir.path(), websockets).await;
        ServerStage::with(server, &trust, dir).await
    }

    pub(crate) async fn python(name: &str) -> ServerStage {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let trust = Trust::new(dir.path());
        let server = Server::python(&trust, dir.path(), name).await;
        ServerStage::with(server, &trust, dir).await
    }

    async fn with(server: Server, trust: &Trust, dir: tempfile::TempDir) -> ServerStage {
        let proxy = Proxy::start(dir.path(), trust, &[]).await;
        ServerStage { server, proxy, dir }
    }

    /// A URL on `localhost`; `port` is the server's name for it.
    pub(crate) fn url(&self, scheme: &str, port: &str, path: &str) -> String {
        self.server.url(scheme, port, path)
    }

    /// Ends both in order, and gives what the store then holds, oldest first, and what the server has seen, in the order in
    /// which it was over there.
    pub(crate) async fn finish(&mut self) -> (Vec<Record>, Vec<Value>) {
        self.proxy.stop().await;
        (self.proxy.store.records().await, self.server.finish().await)
    }
}

/// The path of a script beside this directory.
pub(crate) fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

const PATIENCE: Duration = Duration::from_secs(20);
