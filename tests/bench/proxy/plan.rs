//! What is measured: scenarios, proxies, numbers, and the arguments that choose among them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) const HELP: &str = "\
cargo bench --bench proxy [-- OPTIONS]

  --scenario NAME   keepalive, newconn, download100, upload100 or soak; repeatable (all)
  --proxy NAME      relay, hudsucker, manent-off or manent; repeatable (all)
  --requests N      requests of keepalive and newconn
  --rounds N        how often each measurement is repeated; medians are printed (3)
  --quick           small numbers: shows that it works, measures nothing
";

pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Relay,
    Hudsucker,
    ManentOff,
    Manent,
}

impl Proxy {
    pub(crate) const ALL: [Proxy; 4] = [Proxy::Relay, Proxy::Hudsucker, Proxy::ManentOff, Proxy::Manent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Proxy::Relay => "relay",
            Proxy::Hudsucker => "hudsucker",
            Proxy::ManentOff => "manent-off",
            Proxy::Manent => "manent",
        }
    }
}

/// How a scenario's figures are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By the request: CPU, rate, latency.
    Requests,
    /// By the byte: throughput.
    Transfer,
    /// By the memory that stays.
    Memory,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) method: &'static str,
    /// Size of the body that counts: of the response for GET, of the request for POST.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    /// Whether each request has a new connection.
    pub(crate) fresh: bool,
    pub(crate) warm_up: u64,
    /// Requests of each measured step, on the same connections.
    pub(crate) steps: Vec<u64>,
    /// How long the idle proxy is watched before each step; zero where no figure is wanted.
    pub(crate) idle: Duration,
}

impl Plan {
    /// `None` means: print the help, or there is nothing to run.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<Plan>> {
        // cargo bench passes --bench. Without it this is cargo test, whose other arguments are for libtest.
        if !args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--quick") {
            return Ok(under_test(args).then(|| Plan::new(Sizes::QUICK)));
        }
        let mut sizes = if args.iter().any(|arg| arg == "--quick") { Sizes::QUICK } else { Sizes::FULL };
        let (mut scenarios, mut proxies, mut rounds) = (Vec::new(), Vec::new(), None);
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" | "--quick" => {}
                "--help" | "-h" => return Ok(None),
                "--scenario" => scenarios.push(value()?.clone()),
                "--proxy" => proxies.push(value()?.clone()),
                "--rounds" => rounds = Some(value()?.parse().context("--rounds")?),
                "--requests" => {
                    sizes.keepalive = value()?.parse().context("--requests")?;
                    sizes.newconn = sizes.keepalive;
                }
                other => bail!("unknown argument {other}\n\n{HELP}"),
            }
        }
        let mut plan = Plan::new(sizes);
        plan.rounds = rounds.unwrap_or(plan.rounds);
        choose("scenario", &mut plan.scenarios, &scenarios, |scenario| scenario.name)?;
        choose("proxy", &mut plan.proxies, &proxies, |proxy| proxy.name())?;
        Ok(Some(plan))
    }

    fn new(sizes: Sizes) -> Plan {
        let keepalive = Scenario {
            name: "keepalive",
            shape: Shape::Requests,
            method: "GET",
            bytes: 1024,
            connections: sizes.connections,
            fresh: false,
            warm_up: sizes.keepalive / 10 + 64,
            steps: vec![sizes.keepalive],
            idle: sizes.idle,
        };
        let newconn = Scenario {
            name: "newconn",
            connections: 8,
            fresh: true,
            warm_up: sizes.newconn / 10 + 8,
            steps: vec![sizes.newconn],
            ..keepalive.clone()
        };
        let download = Scenario {
            name: "download100",
            shape: Shape::Transfer,
            bytes: sizes.transfer,
            connections: 1,
            warm_up: 1,
            steps: vec![sizes.transfers],
            ..keepalive.clone()
        };
        let upload = Scenario { name: "upload100", method: "POST", ..download.clone() };
        let soak = Scenario {
            name: "soak",
            shape: Shape::Memory,
            warm_up: 0,
            steps: vec![sizes.soak, 9 * sizes.soak],
            ..keepalive.clone()
        };
        let scenarios = vec![keepalive, newconn, download, upload, soak];
        Plan { scenarios, proxies: Proxy::ALL.to_vec(), rounds: sizes.rounds }
    }
}

/// Whether `cargo test` with these arguments means this program: no list was asked for, and no filter excludes it.
fn under_test(args: &[String]) -> bool {
    let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    !args.iter().any(|arg| arg == "--list")
        && (filters.peek().is_none() || filters.any(|filter| "bench_proxy_works".contains(filter.as_str())))
}

/// Keeps of `all` what is named; everything if nothing is.
fn choose<T>(
    what: &str,
    all: &mut Vec<T>,
    names: &[String],
    name: impl Fn(&T) -> &'static str,
) -> Result<()> {
    for wanted in names {
        ensure!(all.iter().any(|one| name(one) == wanted), "no {what} `{wanted}`\n\n{HELP}");
    }
    all.retain(|one| names.is_empty() || names.iter().any(|wanted| name(one) == wanted));
    Ok(())
}

/// The numbers that make a run long or short.
struct Sizes {
    connections: u64,
    keepalive: u64,
    newconn: u64,
    transfer: u64,
    transfers: u64,
    soak: u64,
    rounds: usize,
    idle: Duration,
}

impl Sizes {
    /// Large enough that a tick of 10 ms is below a hundredth of what is measured.
    const FULL: Sizes = Sizes {
        connections: 64,
        keepalive: 100_000,
        newconn: 3_000,
        transfer: 100 << 20,
        transfers: 3,
        soak: 20_000,
        rounds: 3,
        idle: Duration::from_millis(500),
    };
    const QUICK: Sizes = Sizes {
        connections: 8,
        keepalive: 200,
        newconn: 16,
        transfer: 1 << 20,
        transfers: 1,
        soak: 100,
        rounds: 1,
        idle: Duration::ZERO,
    };
}
