//! Runs the plan: for each round, scenario and proxy a fresh tree of origin, proxy and client.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::plan::{Plan, Proxy, Scenario, Shape};
use crate::process::{Manent, Role, Usage};
use crate::{process, raw, replay, soak, table, trust};

/// What one step of one measurement gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed_s: f64,
    /// CPU time of the proxy process, less what it uses when idle.
    pub(crate) cpu_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) usage: Usage,
    /// Connections that the origin had seen by the end, of the warm-up too.
    pub(crate) origin_connections: u64,
}

/// The samples of one proxy: by round, then by step.
pub(crate) type Rounds = Vec<Vec<Sample>>;

/// Runs everything and prints a table for each scenario as it is done.
///
/// # Errors
/// When any request failed in any way, or a process did not do as told. What was begun is ended in every case.
pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = run_all(plan) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run_all(plan: &Plan) -> Result<()> {
    for scenario in &plan.scenarios {
        let chosen = scenario.proxies.iter().copied().filter(|proxy| plan.proxies.contains(proxy));
        let proxies: Vec<Proxy> = chosen.collect();
        if proxies.is_empty() {
            continue;
        }
        if scenario.shape == Shape::Mixed {
            let dir = scratch()?;
            soak::print(&soak::run(scenario, dir.path(), LIMIT).await.context(scenario.name)?);
            continue;
        }
        if scenario.shape == Shape::Replay {
            let dir = scratch()?;
            let sent = replay::run(scenario, plan, dir.path(), LIMIT).await;
            replay::print(scenario, &sent.context(scenario.name)?);
            continue;
        }
        let rounds = if scenario.shape == Shape::Memory { 1 } else { plan.rounds };
        let mut results: Vec<(Proxy, Rounds)> = proxies.iter().map(|proxy| (*proxy, Vec::new())).collect();
        for round in 0..rounds {
            for turn in 0..proxies.len() {
                let (proxy, samples) = &mut results[(round + turn) % proxies.len()];
                let tree = measure(scenario, *proxy);
                let measured = tokio::time::timeout(LIMIT, tree).await.context("took too long").flatten();
                samples.push(measured.with_context(|| format!("{} with {}", scenario.name, proxy.name()))?);
            }
        }
        table::print(scenario, &results);
    }
    Ok(())
}

/// A proxy under measurement.
pub(crate) enum Subject {
    /// None: the client goes to the origin itself.
    Direct,
    Role(Role, u16),
    Manent(Manent),
}

impl Subject {
    async fn start(proxy: Proxy, dir: &Path, http2: bool) -> Result<Subject> {
        let recording = match proxy {
            Proxy::Direct | Proxy::Raw => return Ok(Subject::Direct),
            Proxy::Relay | Proxy::Hudsucker => {
                let mut role = Role::spawn(proxy.name(), &json!({ "dir": dir, "http2": http2 }))?;
                let port = role.port().await?;
                return Ok(Subject::Role(role, port));
            }
            Proxy::ManentOff => vec!["--no-record".into()],
            Proxy::Manent => vec!["--store".into(), dir.join(STORE)],
            Proxy::Serve => vec!["--store".into(), dir.join(STORE)],
            Proxy::ServeReuse => vec!["--reuse".into(), "--store".into(), dir.join(STORE)],
        };
        let command = if proxy.serves() { "serve" } else { "capture" };
        let mut args = vec![command.into(), "--quiet".into(), "--listen".into(), "127.0.0.1:0".into()];
        args.extend([
            "--ca-dir".into(),
            dir.join(MANENT_CA),
            "--upstream-ca".into(),
            dir.join(trust::CA_CERT),
        ]);
        args.extend(recording);
        Ok(Subject::Manent(Manent::spawn(&args).await?))
    }

    /// `None` where there is no proxy.
    fn port(&self) -> Option<u16> {
        match self {
            Subject::Direct => None,
            Subject::Role(_, port) => Some(*port),
            Subject::Manent(manent) => Some(manent.port),
        }
    }

    /// What the proxy has used; nothing where there is none.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(match self {
            Subject::Direct => return Ok(Usage::default()),
            Subject::Role(role, _) => role.pid()?,
            Subject::Manent(manent) => manent.pid()?,
        })
    }

    pub(crate) async fn end(self) -> Result<()> {
        match self {
            Subject::Direct => Ok(()),
            Subject::Role(role, _) => role.end().await,
            Subject::Manent(manent) => manent.end().await,
        }
    }
}

/// The processes of one measurement.
pub(crate) struct Tree {
    pub(crate) origin: Role,
    pub(crate) subject: Subject,
    pub(crate) client: Role,
    pub(crate) origin_port: u16,
}

impl Tree {
    /// Starts all, the load in the role `load`; returns when the load is ready. `dir` takes certificates and the store.
    pub(crate) async fn start(
        scenario: &Scenario,
        proxy: Proxy,
        dir: &Path,
        load: &'static str,
    ) -> Result<Tree> {
        trust::create_ca(dir)?;
        let mut origin = Role::spawn("origin", &json!({ "dir": dir }))?;
        let origin_port = origin.port().await?;
        if proxy.serves() {
            fill(scenario, proxy, dir, origin_port).await.context("recording what is to be served")?;
        }
        let subject = Subject::start(proxy, dir, scenario.http2).await?;
        let ca = match &subject {
            Subject::Direct | Subject::Role(..) => dir.join(trust::CA_CERT),
            Subject::Manent(_) => dir.join(MANENT_CA).join("manent-ca.pem"),
        };
        let client = load_on(scenario, load, &subject, origin_port, &ca).await?;
        Ok(Tree { origin, subject, client, origin_port })
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.client.end().await?;
        self.subject.end().await?;
        self.origin.end().await
    }
}

/// Starts the load, and returns when it is ready.
async fn load_on(
    scenario: &Scenario,
    load: &'static str,
    subject: &Subject,
    origin_port: u16,
    ca: &Path,
) -> Result<Role> {
    let mut client = Role::spawn(
        load,
        &json!({
            "proxy": subject.port(), "origin": origin_port, "ca": ca, "fresh": scenario.fresh,
            "connections": scenario.connections, "streams": scenario.streams, "http2": scenario.http2,
            "rate": scenario.rate, "method": scenario.method, "bytes": scenario.bytes,
            "seconds": scenario.seconds, "limit_seconds": LIMIT.as_secs(),
        }),
    )?;
    client.told(LIMIT).await?;
    Ok(client)
}

/// Records what is to be served: an answer for each request that will come, or one.
async fn fill(scenario: &Scenario, proxy: Proxy, dir: &Path, origin_port: u16) -> Result<()> {
    let count = if proxy == Proxy::ServeReuse { 1 } else { requests(scenario) };
    let capture = Subject::start(Proxy::Manent, dir, scenario.http2).await?;
    let ca = dir.join(MANENT_CA).join("manent-ca.pem");
    let mut client = load_on(scenario, "client", &capture, origin_port, &ca).await?;
    client.ask(&count.to_string(), LIMIT).await?;
    client.end().await?;
    capture.end().await
}

/// All requests of a measurement.
fn requests(scenario: &Scenario) -> u64 {
    scenario.warm_up + scenario.steps.iter().sum::<u64>()
}

/// The requests that the origin has seen.
async fn seen(origin: &mut Role) -> Result<u64> {
    let counted = origin.ask("count", LIMIT).await?;
    let [http1, http2] = ["http1", "http2"].map(|protocol| counted[protocol].as_u64());
    Ok(http1.context("http1")? + http2.context("http2")?)
}

/// A directory under target/, which is a disk: in /tmp, recording would often be measured against memory.
fn scratch() -> Result<TempDir> {
    Ok(TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?)
}

/// The highest mid in the store of `dir`.
pub(crate) async fn last_mid(dir: &Path) -> Result<u64> {
    process::last_mid(&dir.join(STORE)).await
}

async fn measure(scenario: &Scenario, proxy: Proxy) -> Result<Vec<Sample>> {
    if proxy == Proxy::Raw {
        let bytes = scenario.bytes;
        return Ok(vec![tokio::task::spawn_blocking(move || raw::append(bytes)).await??]);
    }
    let dir = scratch()?;
    let mut tree = Tree::start(scenario, proxy, dir.path(), "client").await?;
    let asked_before = seen(&mut tree.origin).await?;
    if scenario.warm_up > 0 {
        tree.client.ask(&scenario.warm_up.to_string(), LIMIT).await?;
    }
    let mut samples = Vec::new();
    for requests in &scenario.steps {
        samples.push(step(scenario, *requests, &mut tree).await?);
    }
    let asked = seen(&mut tree.origin).await? - asked_before;
    ensure!(!proxy.serves() || asked == 0, "the origin was asked {asked} times, and all is on record");
    tree.end().await?;
    if proxy == Proxy::Manent {
        let sent = requests(scenario);
        let last = last_mid(dir.path()).await?;
        ensure!(last >= sent, "{sent} requests were made, and the store ends at mid {last}");
    }
    Ok(samples)
}

async fn step(scenario: &Scenario, requests: u64, tree: &mut Tree) -> Result<Sample> {
    let Tree { origin, subject, client, .. } = tree;
    settle(scenario, subject).await?;
    let idle_from = subject.usage()?.cpu;
    sleep(scenario.idle).await;
    let before = subject.usage()?.cpu;
    let idle = (before - idle_from).as_secs_f64();
    let idle_share = if scenario.idle.is_zero() { 0.0 } else { idle / scenario.idle.as_secs_f64() };
    let begin = Instant::now();
    let told = client.ask(&requests.to_string(), LIMIT).await?;
    // What the proxy still does for these requests, such as writing the record, is part of their cost.
    settle(scenario, subject).await?;
    let took = begin.elapsed().as_secs_f64();
    let usage = subject.usage()?;
    let number = |key: &str| told[key].as_f64().with_context(|| key.to_owned());
    let counted = origin.ask("count", LIMIT).await?;
    // A proxy that speaks another protocol to the origin than to the client does other work than is compared here.
    let [http1, http2] = ["http1", "http2"].map(|protocol| counted[protocol].as_u64());
    let (wanted, other, strays) =
        if scenario.http2 { ("h2", "http/1.1", http1) } else { ("http/1.1", "h2", http2) };
    let strays = strays.context("requests by protocol")?;
    ensure!(strays == 0, "the origin was to be spoken to in {wanted}, and got {strays} requests in {other}");
    Ok(Sample {
        requests,
        bytes: requests * scenario.bytes,
        elapsed_s: number("elapsed_s")?,
        cpu_s: ((usage.cpu - before).as_secs_f64() - idle_share * took).max(0.0),
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
        usage,
        origin_connections: counted["connections"].as_u64().context("connections")?,
    })
}

/// Waits until the proxy uses at most one tick in a tenth of a second; two seconds at most. Not at all where no figure
/// is wanted.
async fn settle(scenario: &Scenario, subject: &Subject) -> Result<()> {
    if scenario.idle.is_zero() {
        return Ok(());
    }
    let mut last = subject.usage()?.cpu;
    for _ in 0..20 {
        sleep(Duration::from_millis(100)).await;
        let now = subject.usage()?.cpu;
        if now - last <= Duration::from_millis(10) {
            break;
        }
        last = now;
    }
    Ok(())
}

pub(crate) const STORE: &str = "flows.db";
pub(crate) const MANENT_CA: &str = "manent-ca";

/// No measurement may take longer: the slowest, the soak, takes about half a minute on two cores. Mixed traffic has its own
/// time on top.
const LIMIT: Duration = Duration::from_secs(300);
