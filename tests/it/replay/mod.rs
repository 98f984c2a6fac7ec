//! Client replay and comparison, through the command line: what goes out again, what is told of it, and what is refused.

mod bytes;
mod compare;
mod edits;
mod http2;
mod refusals;
mod runs;
mod websocket;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use manent::flow::{Flow, Mid};
use manent::store::{Reader, Row};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::harness::{Origin, Peer, Setup, soon};

/// A store that a capture has left.
pub(super) struct Scene {
    dir: Arc<tempfile::TempDir>,
    store: PathBuf,
}

impl Scene {
    /// Ends the capture.
    pub(super) async fn of(setup: Setup) -> Self {
        let (dir, config, summary) = setup.stop().await;
        assert_eq!(summary.lost, 0);
        Self { dir, store: config.store }
    }

    /// Begins a command on the store.
    pub(super) fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manent"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MANENT_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("MANENT_STORE", &self.store)
            .env("MANENT_CA_DIR", self.dir.path().join("ca"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs one to its end.
    pub(super) async fn run(&self, args: &[&str]) -> Done {
        done(self.start(args)).await
    }

    /// A flow of the store.
    pub(super) fn flow(&self, mid: u64) -> Flow {
        let reader = Reader::open(&self.store).unwrap();
        reader.load(Mid(mid), u64::MAX).unwrap().unwrap_or_else(|| panic!("no flow {mid}"))
    }

    /// A flow's row.
    pub(super) fn row(&self, mid: u64) -> Row {
        Reader::open(&self.store).unwrap().row(Mid(mid)).unwrap().unwrap()
    }

    /// A path beside the store.
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

/// How a command ended.
pub(super) struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// Fails unless it ended with this code; gives what it wrote.
    pub(super) fn expect(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        &self.out
    }

    /// The objects that it wrote, one a line.
    pub(super) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(super) async fn done(child: Child) -> Done {
    let output = soon("manent to end", child.wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Reads up to and including `end`, and gives all.
pub(super) async fn read_until(peer: &mut Peer, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        seen.extend(peer.read(1).await);
    }
    seen
}

/// A capture of these requests (see [`Origin::fill`]), each answered with `answer`, on an origin that is still there.
pub(super) async fn captured(requests: &[&str], answer: &str) -> (Scene, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = setup.client().await;
    let mut server = None;
    for request in requests {
        client.send(origin.fill(request)).await;
        if server.is_none() {
            server = Some(origin.accept().await);
        }
        let server = server.as_mut().unwrap();
        server.head().await;
        server.send(answer).await;
        client.expect(answer).await;
        setup.flow().await;
    }
    drop((client, server));
    (Scene::of(setup).await, origin)
}

/// Answers one request of a replay, on a connection of its own.
pub(super) async fn answer(origin: &Origin, answer: &str) -> String {
    let mut server = origin.accept().await;
    let head = server.head().await;
    server.send(answer).await;
    head
}
