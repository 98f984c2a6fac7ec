//! The `manent` binary: one that captures, and the commands that read its store.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::command::{clean, finish, succeed};
use super::{Record, Trust};

/// A proxy that is capturing.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Those of all its listeners on 127.0.0.1, the first among them.
    pub(crate) ports: Vec<u16>,
    pub(crate) ca: PathBuf,
    pub(crate) store: Store,
    child: Child,
    /// What it has announced on standard output, if it was told to with `--json`.
    pub(crate) announced: Lines<BufReader<ChildStdout>>,
    /// Reads what it says after readiness to its end.
    talk: JoinHandle<String>,
}

impl Proxy {
    /// Starts it with its CA and store in `dir`, and waits until it listens.
    pub(crate) async fn start(dir: &Path, trust: &Trust, more: &[&str]) -> Proxy {
        Self::begin("capture", dir, trust, more).await
    }

    /// The same of one that serves the store that another has left.
    pub(crate) async fn serving(dir: &Path, trust: &Trust, more: &[&str]) -> Proxy {
        Self::begin("serve", dir, trust, more).await
    }

    async fn begin(what: &str, dir: &Path, trust: &Trust, more: &[&str]) -> Proxy {
        let ca_dir = dir.join("ca");
        let store = Store { path: dir.join("flows.db"), home: dir.to_owned() };
        let mut command = manent(dir);
        command.arg(what).args(["--listen", "127.0.0.1:0"]).args(more);
        command.arg("--store").arg(&store.path).arg("--ca-dir").arg(&ca_dir);
        command.arg("--upstream-ca").arg(&trust.ca_path);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let announced = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        let ports = loop {
            let line =
                timeout(PATIENCE, lines.next_line()).await.expect("it gets ready").expect("it speaks UTF-8");
            let line = line.unwrap_or_else(|| panic!("it ended before it was ready: {said}"));
            if let Some((_, rest)) = line.split_once("listening on ") {
                let number = |rest: &str| -> u16 {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    digits.parse().expect("a port")
                };
                break rest.split("127.0.0.1:").skip(1).map(number).collect::<Vec<_>>();
            }
            said.push_str(&line);
            said.push('\n');
        };
        let talk = tokio::spawn(async move {
            let mut rest = Vec::new();
            // What it says is for the message of a test that fails anyway.
            let _ = lines.into_inner().read_to_end(&mut rest).await;
            String::from_utf8_lossy(&rest).into_owned()
        });
        Proxy { port: ports[0], ports, ca: ca_dir.join("manent-ca.pem"), store, child, announced, talk }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end with 0 in time.
    pub(crate) async fn stop(&mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it is running");
        let pid = rustix::process::Pid::from_raw(pid).expect("not 0");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
        let status =
            timeout(PATIENCE, self.child.wait()).await.expect("it ends on SIGINT").expect("waited for");
        let said = (&mut self.talk).await.expect("read to the end");
        assert!(status.success(), "it ended with {status}, saying: {said}");
    }

    /// Ends it without a chance to do anything: SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it is ours");
    }
}

/// A store as the command line shows it.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(super) home: PathBuf,
}

impl Store {
    pub(crate) fn new(path: PathBuf, home: &Path) -> Store {
        Store { path, home: home.to_owned() }
    }

    /// Every row, oldest first.
    pub(crate) async fn rows(&self) -> Vec<Value> {
        let output = finish(manent(&self.home).args(["ls", "--json", "--store"]).arg(&self.path)).await;
        // 1 tells that there is no flow.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let mut rows: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
        rows.sort_by_key(|row| row["mid"].as_u64());
        rows
    }

    /// Every flow in full, oldest first.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for row in self.rows().await {
            let mid = row["mid"].as_u64().expect("a row has its mid").to_string();
            let shown = self.ask(&["show", &mid, "--json"]).await;
            let shown = serde_json::from_slice(&shown).expect("one JSON object");
            records.push(Record { row, shown });
        }
        records
    }

    /// The output of `manent ARGS… --store …`.
    pub(crate) async fn ask(&self, args: &[&str]) -> Vec<u8> {
        succeed(manent(&self.home).args(args).arg("--store").arg(&self.path)).await
    }
}

/// The binary under test, without settings from outside.
pub(crate) fn manent(home: &Path) -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_manent")), home)
}

const PATIENCE: Duration = Duration::from_secs(20);
