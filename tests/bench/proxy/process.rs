//! The processes of a measurement, and what Linux tells of them in `/proc`. Each is killed when its handle is dropped.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// First argument of this program when it plays a part.
pub(crate) const ROLE_FLAG: &str = "--role";

/// How long a process may take to start, answer a question or end.
const PATIENCE: Duration = Duration::from_secs(20);

/// This program in one of its parts: told by lines, answers with JSON lines, ends when its input ends.
pub(crate) struct Role {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Role {
    pub(crate) fn spawn(name: &'static str, spec: &Value) -> Result<Role> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE_FLAG, name, &spec.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting the {name}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Role { name, child, input, lines: BufReader::new(output).lines() })
    }

    /// The next line it prints, within `patience`.
    pub(crate) async fn told(&mut self, patience: Duration) -> Result<Value> {
        let line = timeout(patience, self.lines.next_line())
            .await
            .with_context(|| format!("the {} is silent", self.name))??
            .with_context(|| format!("the {} ended", self.name))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// What it answers to `question`, within `patience`.
    pub(crate) async fn ask(&mut self, question: &str, patience: Duration) -> Result<Value> {
        self.input.write_all(format!("{question}\n").as_bytes()).await?;
        self.told(patience).await
    }

    /// The port it prints when it is ready.
    pub(crate) async fn port(&mut self) -> Result<u16> {
        let port = self.told(PATIENCE).await?["port"].as_u64().context("no port")?;
        Ok(u16::try_from(port)?)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("the {} ended", self.name))
    }

    /// Closes its input and waits until it has ended.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.input);
        timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("the {} does not end", self.name))??;
        Ok(())
    }
}

/// A running `manent capture`.
pub(crate) struct Manent {
    child: Child,
    pub(crate) port: u16,
    /// Reads what it says to its end, so that it never waits for a full pipe.
    talk: JoinHandle<()>,
}

impl Manent {
    pub(crate) async fn spawn<A: AsRef<OsStr>>(args: &[A]) -> Result<Manent> {
        let mut child = manent().args(args).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let mut said = String::new();
        let port = loop {
            let line = timeout(PATIENCE, lines.next_line()).await.context("manent does not get ready")??;
            let Some(line) = line else { bail!("manent ended before it was ready, saying: {said}") };
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse()?;
            }
            said.push_str(&line);
        };
        let talk = tokio::spawn(async move {
            let mut rest = Vec::new();
            // Only emptied; bounded, since what follows readiness is a few lines.
            let _ = lines.into_inner().read_to_end(&mut rest).await;
        });
        Ok(Manent { child, port, talk })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("manent ended")
    }

    /// Asks it to end, as Ctrl-C does, and checks that it ends with 0.
    pub(crate) async fn end(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()?)?).context("pid 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let status =
            timeout(PATIENCE, self.child.wait()).await.context("manent does not end on SIGINT")??;
        self.talk.await?;
        ensure!(status.success(), "manent ended with {status}");
        Ok(())
    }
}

/// The highest mid in `store`, as the command line tells it.
pub(crate) async fn last_mid(store: &Path) -> Result<u64> {
    let output =
        manent().args(["ls", "--json", "-n", "1", "--store"]).arg(store).stdout(Stdio::piped()).output();
    let output = timeout(PATIENCE, output).await.context("manent ls does not end")??;
    let text = String::from_utf8(output.stdout)?;
    let row: Value = serde_json::from_str(text.trim()).context("manent ls printed no row")?;
    row["mid"].as_u64().context("a row without mid")
}

/// Runs `manent replay` to its end, which must be 0; gives its peak memory in KiB.
pub(crate) async fn replay(
    store: &Path,
    ca_dir: &Path,
    upstream_ca: &Path,
    args: impl IntoIterator<Item = std::ffi::OsString>,
    limit: Duration,
) -> Result<u64> {
    let mut command = manent();
    command.args(["replay", "--quiet", "--store"]).arg(store).arg("--ca-dir").arg(ca_dir);
    let mut child = command.arg("--upstream-ca").arg(upstream_ca).args(args).kill_on_drop(true).spawn()?;
    let mut peak = 0;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let ended = timeout(limit, async {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                _ = looks.tick() => {}
            }
            // It may have ended just now.
            let usage = child.id().map(Usage::of);
            peak = usage.and_then(Result::ok).map_or(peak, |usage| usage.peak_rss_kib.max(peak));
        }
    });
    let status = ended.await.context("manent replay does not end")??;
    ensure!(status.success(), "manent replay ended with {status}");
    Ok(peak)
}

fn manent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manent"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MANENT_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Resolves when standard input has ended: the driver is done, or gone.
pub(crate) async fn stdin_ended() {
    // An unreadable input counts as ended.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time, of threads that ended too.
    pub(crate) cpu: Duration,
    pub(crate) rss_kib: u64,
    pub(crate) peak_rss_kib: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in parentheses, and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a short stat")?.parse()?) };
        // proc(5): utime is field 14 and stime 15, counted from 1; `fields` begins with field 3.
        let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * MILLIS_PER_TICK);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| key.to_owned())?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Usage { cpu, rss_kib: kib("VmRSS:")?, peak_rss_kib: kib("VmHWM:")? })
    }
}

/// `/proc` counts in USER_HZ, which is 100 on every Linux that Rust runs on.
const MILLIS_PER_TICK: u64 = 10;
