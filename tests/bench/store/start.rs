//! How long the binary takes from its start until it listens, with a CA that is there and a store with so many flows; and how
//! large it is.
//!
//! Each start is told beside the shortest life of another program of the same machine: `curl --version`, which loads and sets
//! up what it is linked with, and ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::measure::{Limit, Sorted, as_f64, digits, millis, note, verdict};
use crate::plan::Plan;
use crate::queries;

pub(crate) async fn run(plan: &Plan, dir: &Path) -> Result<()> {
    let store = queries::store(plan, dir).await?;
    let ca = dir.join("ca");
    // Makes the CA, and has the files read once.
    start(&store, &ca)?;
    let rounds = if plan.quick { 1 } else { ROUNDS };
    let (mut starts, mut others) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        starts.push(start(&store, &ca)?);
        others.extend(other());
    }
    let (starts, others) = (Sorted::new(starts), Sorted::new(others));
    let median = starts.percentile(50);
    verdict("from start to listening, median", millis(median), "ms", Limit::AtMost(50.0));
    note("the longest", &format!("{} ms", digits(millis(starts.most()))));
    match others.percentile(50) {
        Duration::ZERO => note("curl --version", "there is no curl here"),
        other => note(
            "the median of curl --version, and how often it goes into the start",
            &format!("{} ms, {}", digits(millis(other)), digits(median.div_duration_f64(other))),
        ),
    }
    let size = std::fs::metadata(BINARY)?.len();
    if plan.quick {
        note("the binary", "its size is told of a release build");
    } else {
        verdict("the binary", as_f64(size) / f64::from(1 << 20), "MiB", Limit::AtMost(25.0));
    }
    Ok(())
}

/// From before the process is made to its word that it listens.
fn start(store: &Path, ca: &Path) -> Result<Duration> {
    let began = Instant::now();
    let mut manent = Command::new(BINARY)
        .args(["capture", "--port", "0", "--store"])
        .arg(store)
        .arg("--ca-dir")
        .arg(ca)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let talk = BufReader::new(manent.stderr.take().context("it is piped")?);
    let mut took = None;
    let mut said = String::new();
    for line in talk.lines() {
        let line = line?;
        if line.contains("listening on ") {
            took = Some(began.elapsed());
            let pid = i32::try_from(manent.id()).ok().and_then(Pid::from_raw).context("a process id")?;
            kill_process(pid, Signal::INT)?;
        }
        said += &line;
        said.push('\n');
    }
    let status = manent.wait()?;
    ensure!(status.success(), "it ended with {status}: {said}");
    took.with_context(|| format!("it did not listen: {said}"))
}

/// The same of a program that does next to nothing; `None` where it is not installed.
fn other() -> Option<Duration> {
    let began = Instant::now();
    let mut curl = Command::new("curl");
    curl.args(["-q", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    curl.status().ok().filter(std::process::ExitStatus::success).map(|_| began.elapsed())
}

const BINARY: &str = env!("CARGO_BIN_EXE_manent");
const ROUNDS: usize = 20;
