//! Replay: recorded requests sent again to their origin by `manent replay`, beside the load client that sends as many there.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::driver::{MANENT_CA, STORE, Tree, last_mid};
use crate::plan::{Proxy, Scenario};
use crate::process::{Role, replay};
use crate::trust;

/// One round: requests a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) client: f64,
    /// From the start of the process to its end, when all answers are committed.
    pub(crate) replay: f64,
    /// Peak memory of the replay, MiB.
    pub(crate) peak_mib: f64,
}

/// Records `scenario.steps[0]` requests, then sends them again `rounds` times, the load client's turn before each.
///
/// # Errors
/// When any request failed, or the store lacks one.
pub(crate) async fn run(
    scenario: &Scenario,
    rounds: usize,
    dir: &Path,
    limit: Duration,
) -> Result<Vec<Round>> {
    let count = *scenario.steps.first().context("how many requests")?;
    let mut tree = Tree::start(scenario, Proxy::Manent, dir, "client").await?;
    tree.client.ask(&count.to_string(), limit).await?;
    let Tree { origin, subject, client, origin_port } = tree;
    client.end().await?;
    subject.end().await?;
    ensure!(last_mid(dir).await? == count, "the store does not end at mid {count}");
    let spec = json!({
        "proxy": null, "origin": origin_port, "ca": dir.join(trust::CA_CERT), "fresh": false,
        "connections": scenario.connections, "streams": scenario.streams, "http2": scenario.http2,
        "rate": null, "method": scenario.method, "bytes": scenario.bytes, "seconds": 0,
        "limit_seconds": limit.as_secs(),
    });
    let places = (scenario.connections * scenario.streams).to_string();
    let mut done = Vec::new();
    for round in 0..rounds.max(1) {
        let mut client = Role::spawn("client", &spec)?;
        client.told(limit).await?;
        let told = client.ask(&count.to_string(), limit).await?;
        client.end().await?;
        let elapsed = told["elapsed_s"].as_f64().context("elapsed_s")?;
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
            client: requests / elapsed,
            replay: requests / again,
            peak_mib: crate::table::as_f64(peak_kib) / 1024.0,
        });
    }
    origin.end().await?;
    Ok(done)
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
    println!("{:<24}{:>14}{:>14}{:>18}", "", "requests/s", "× client", "peak memory MiB");
    println!("{:<24}{:>14.0}", "load client", median(&|round| round.client));
    println!(
        "{:<24}{:>14.0}{:>14.2}{:>18.1}",
        "manent replay",
        median(&|round| round.replay),
        median(&|round| round.replay / round.client),
        median(&|round| round.peak_mib)
    );
}
