//! Replay: recorded requests sent again to their origin by `manent replay`, beside the load client that sends as many there
//! over as many connections, with the same TLS, and does nothing else: it reads no store, records nothing, compares nothing.
//!
//! The load client is measured as load generators measure themselves, from its first connect to its last answer. What is asked
//! is how near `replay` comes to a plain load generator, as oha: that is hyper's client. The client by hand, which is what the
//! other scenarios load with, costs a third of it, and is told too, also on connections that are open already.
//!
//! A load generator that is installed sends the same requests, with the recorded fields, and is told in two ways: as it measures
//! itself, and from the start of its process to its end, which is how `replay` is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::ask::{Ask, FIELDS};
use crate::driver::{MANENT_CA, STORE, Tree, last_mid};
use crate::plan::{Plan, Proxy, Scenario};
use crate::process::{Role, replay};
use crate::trust;

/// One round: requests a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// With connections that are open.
    pub(crate) warm: f64,
    /// With opening them.
    pub(crate) client: f64,
    /// The same with hyper's client, which is what load generators are made of.
    pub(crate) plain: f64,
    /// The same requests by another load generator.
    pub(crate) generated: Option<Generated>,
    /// From the start of the process to its end, when all answers are committed.
    pub(crate) replay: f64,
    /// Peak memory of the replay, MiB.
    pub(crate) peak_mib: f64,
}

/// Requests a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generated {
    /// As it tells itself: from its first connect to its last answer.
    pub(crate) told: f64,
    /// As `manent replay` is measured: from the start of the process to its end.
    pub(crate) whole: f64,
}

/// Records `scenario.steps[0]` requests, then sends them again once a round, the load client's turn before each.
///
/// # Errors
/// When any request failed, or the store lacks one.
pub(crate) async fn run(scenario: &Scenario, plan: &Plan, dir: &Path, limit: Duration) -> Result<Vec<Round>> {
    let count = *scenario.steps.first().context("how many requests")?;
    let mut tree = Tree::start(scenario, Proxy::Manent, dir, "client").await?;
    tree.client.ask(&count.to_string(), limit).await?;
    let Tree { origin, subject, client, origin_port } = tree;
    client.end().await?;
    subject.end().await?;
    ensure!(last_mid(dir).await? == count, "the store does not end at mid {count}");
    let spec = |cold, plain| {
        json!({
            "plain": plain,
            "proxy": null, "origin": origin_port, "ca": dir.join(trust::CA_CERT), "fresh": false, "cold": cold,
            "connections": scenario.connections, "streams": scenario.streams, "http2": scenario.http2,
            "rate": null, "method": scenario.method, "bytes": scenario.bytes, "seconds": 0,
            "limit_seconds": limit.as_secs(),
        })
    };
    let places = (scenario.connections * scenario.streams).to_string();
    let mut done = Vec::new();
    for round in 0..plan.rounds.max(1) {
        let mut elapsed = [0.0; 3];
        let clients = [(false, false), (true, false), (true, !scenario.http2)];
        for (elapsed, (cold, plain)) in elapsed.iter_mut().zip(clients) {
            let mut client = Role::spawn("client", &spec(cold, plain))?;
            client.told(limit).await?;
            let told = client.ask(&count.to_string(), limit).await?;
            client.end().await?;
            *elapsed = told["elapsed_s"].as_f64().context("elapsed_s")?;
        }
        let generated = match &plan.generator {
            Some(program) if !scenario.http2 => Some(generated(program, scenario, origin_port, limit).await?),
            _ => None,
        };
        let into = dir.join(format!("again-{round}.db"));
        let args = ["-j", &places, "--into"].map(std::ffi::OsString::from);
        let args = args.into_iter().chain([into.clone().into(), format!("1-{count}").into()]);
        let begin = Instant::now();
        let peak_kib =
            replay(&dir.join(STORE), &dir.join(MANENT_CA), &dir.join(trust::CA_CERT), args, limit).await?;
        let again = begin.elapsed().as_secs_f64();
        let stored = crate::process::last_mid(&into).await?;
        ensure!(stored == count, "{count} flows were sent again, and the store ends at mid {stored}");
        let requests = crate::table::as_f64(count);
        done.push(Round {
            warm: requests / elapsed[0],
            client: requests / elapsed[1],
            plain: requests / elapsed[2],
            generated,
            replay: requests / again,
            peak_mib: crate::table::as_f64(peak_kib) / 1024.0,
        });
    }
    origin.end().await?;
    Ok(done)
}

/// The same requests by a load generator. oha and hey take the same flags for what is asked here, and print the same line.
async fn generated(program: &Path, scenario: &Scenario, port: u16, limit: Duration) -> Result<Generated> {
    let count = *scenario.steps.first().context("how many requests")?;
    let mut command = Command::new(program);
    command.args(["-n", &count.to_string(), "-c", &scenario.connections.to_string()]);
    if program.file_stem().is_some_and(|name| name == "oha") {
        command.args(["--insecure", "--no-tui"]);
    }
    for (name, value) in FIELDS {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    let target = Ask::Get(scenario.bytes).target();
    command.arg(format!("https://{}:{port}{target}", trust::NAME)).kill_on_drop(true);
    let begin = Instant::now();
    let output =
        tokio::time::timeout(limit, command.output()).await.context("the generator does not end")??;
    let whole = crate::table::as_f64(count) / begin.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let told = rate.with_context(|| format!("the generator told no rate: {text}"))?.trim().parse();
    Ok(Generated { told: told.context("its rate")?, whole })
}

/// Prints the medians.
pub(crate) fn print(scenario: &Scenario, rounds: &[Round]) {
    let median = |of: &dyn Fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "\n{}: {} flows sent again, {} at a time; `manent replay` from its start to its end, all answers committed",
        scenario.name,
        scenario.steps.first().copied().unwrap_or(0),
        scenario.connections * scenario.streams
    );
    println!("{:<28}{:>12}{:>22}{:>18}", "", "requests/s", "replay is × this", "peak memory MiB");
    let beside = |name: &str, of: &dyn Fn(&Round) -> f64| {
        let ratio = median(&|round| round.replay / of(round));
        println!("{name:<28}{:>12.0}{ratio:>22.2}", median(of));
    };
    if !scenario.http2 {
        beside("load client, hyper", &|round| round.plain);
    }
    beside("load client, by hand", &|round| round.client);
    beside("  connected before", &|round| round.warm);
    if rounds.iter().any(|round| round.generated.is_some()) {
        let generated = |of: fn(Generated) -> f64| move |round: &Round| round.generated.map_or(f64::NAN, of);
        beside("load generator, whole", &generated(|generated| generated.whole));
        beside("  as it tells itself", &generated(|generated| generated.told));
    }
    let (rate, peak) = (median(&|round| round.replay), median(&|round| round.peak_mib));
    println!("{:<28}{rate:>12.0}{:>22}{peak:>18.1}", "manent replay", "");
}
