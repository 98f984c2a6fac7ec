//! The long soak: one manent process under mixed traffic, its memory watched all the time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::driver::{Tree, last_mid};
use crate::plan::{Proxy, Scenario};
use crate::process::Usage;

/// What a soak gave.
pub(crate) struct Soak {
    pub(crate) took: Duration,
    /// Resident memory in MiB, by seconds since the load began; in order of time.
    pub(crate) rss: Vec<(f64, f64)>,
    pub(crate) peak_mib: f64,
    /// What was negotiated where the client offered HTTP/2.
    pub(crate) negotiated: String,
    /// How often each kind of traffic was done.
    pub(crate) counts: Vec<(String, u64)>,
    /// The highest mid in the store.
    pub(crate) flows: u64,
}

/// Runs mixed traffic for `scenario.seconds` through manent, recording.
///
/// # Errors
/// When any exchange failed, or the store has fewer flows than there were exchanges.
pub(crate) async fn run(scenario: &Scenario, dir: &Path, limit: Duration) -> Result<Soak> {
    let mut tree = Tree::start(scenario, Proxy::Manent, dir, "mixed").await?;
    let seconds = Duration::from_secs(scenario.seconds);
    let mut ticks = tokio::time::interval((seconds / SAMPLES).min(Duration::from_secs(3)));
    let begin = Instant::now();
    let mut rss = Vec::new();
    let told = {
        let Tree { subject, client, .. } = &mut tree;
        let told = client.ask("begin", limit + seconds);
        tokio::pin!(told);
        loop {
            tokio::select! {
                told = &mut told => break told?,
                _ = ticks.tick() => rss.push((begin.elapsed().as_secs_f64(), mib(subject.usage()?.rss_kib))),
            }
        }
    };
    let took = begin.elapsed();
    let last: Usage = tree.subject.usage()?;
    rss.push((took.as_secs_f64(), mib(last.rss_kib)));
    let counts = told["counts"].as_object().context("counts")?;
    let counts: Vec<(String, u64)> =
        counts.iter().map(|(kind, count)| (kind.clone(), count.as_u64().unwrap_or(0))).collect();
    tree.end().await?;
    let flows = last_mid(dir).await?;
    // Events and echoes are many within one flow.
    let requests: u64 = counts
        .iter()
        .filter(|(kind, _)| !kind.contains("echo") && !kind.contains("event"))
        .map(|(_, n)| n)
        .sum();
    ensure!(flows >= requests, "{requests} requests were made, and the store ends at mid {flows}");
    let negotiated = told["negotiated"].as_str().map(str::to_owned).context("negotiated")?;
    Ok(Soak { took, rss, peak_mib: mib(last.peak_rss_kib), negotiated, counts, flows })
}

impl Soak {
    /// Resident memory in MiB at `share` of the time: the first reading not before.
    pub(crate) fn rss_at(&self, share: f64) -> f64 {
        let wanted = self.took.as_secs_f64() * share;
        let at = self.rss.iter().find(|(second, _)| *second >= wanted).or(self.rss.last());
        at.map_or(f64::NAN, |(_, mib)| *mib)
    }

    /// Slope of resident memory in MiB a minute over the second half, by least squares.
    pub(crate) fn slope(&self) -> f64 {
        let half = self.took.as_secs_f64() / 2.0;
        let points: Vec<_> = self.rss.iter().filter(|(second, _)| *second >= half).collect();
        let count = points.iter().map(|_| 1.0).sum::<f64>();
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
        60.0 * covariance / variance
    }
}

/// Prints what a soak gave.
pub(crate) fn print(soak: &Soak) {
    let done: Vec<String> = soak.counts.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    println!(
        "\nmixed: {:.0} s of mixed traffic, manent recording: {}",
        soak.took.as_secs_f64(),
        done.join(", ")
    );
    if soak.negotiated != "h2" {
        println!("note: HTTP/2 was left out, since {} was negotiated where it was offered", soak.negotiated);
    }
    println!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}{:>16}{:>10}",
        "RSS MiB at", "10 %", "50 %", "100 %", "peak", "slope MiB/min", "flows"
    );
    let [early, half, end] = [0.1, 0.5, 1.0].map(|share| soak.rss_at(share));
    println!(
        "{:<12}{early:>12.1}{half:>12.1}{end:>12.1}{:>12.1}{:>16.3}{:>10}",
        "manent",
        soak.peak_mib,
        soak.slope(),
        soak.flows
    );
}

fn mib(kib: u64) -> f64 {
    crate::table::as_f64(kib) / 1024.0
}

/// Readings of memory, at least.
const SAMPLES: u32 = 40;
