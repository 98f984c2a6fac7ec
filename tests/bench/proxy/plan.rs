//! What is measured: scenarios, proxies, numbers, and the arguments that choose among them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) const HELP: &str = "\
cargo bench --bench proxy [-- OPTIONS]

  --scenario NAME   repeatable (all but mixed):
                      keepalive       GET of 1 KiB, HTTP/1.1, 64 connections
                      newconn         a new TLS connection for each request
                      h2              GET of 1 KiB, HTTP/2 on both legs, 16 connections x 16 streams
                      download100, upload100
                                      100 MiB over one connection
                      download1g, download1g-h2
                                      1 GiB, beside recording off and raw append + fdatasync of as many bytes
                      firstbyte, firstbyte-h2
                                      500 requests/s by schedule, beside a direct connection
                      serve, serve-h2 as keepalive and h2, beside `manent serve`: each request has an answer of its own on
                                      record, or all have one
                      replay, replay-h2
                                      recorded flows sent again, 64 at a time, beside the load client
                      soak            memory after many flows and after ten times as many
                      mixed           all kinds of traffic at once for --seconds, memory sampled: only when named
  --proxy NAME      relay, hudsucker, manent-off, manent, serve or serve-reuse; also direct and raw, which are
                    yardsticks; repeatable (all)
  --requests N      requests of keepalive, newconn, h2, firstbyte and firstbyte-h2
  --generator PROG  oha or hey, where one is installed: replay (HTTP/1.1) is set against that, too
  --seconds N       how long mixed runs (600)
  --rounds N        how often each measurement is repeated; medians are printed (3)
  --quick           small numbers, mixed too: shows that it works, measures nothing
";

pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) rounds: usize,
    /// A load generator of others, that is installed.
    pub(crate) generator: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// No proxy at all.
    Direct,
    /// No traffic at all: the bytes are appended to a file and synced.
    Raw,
    Relay,
    Hudsucker,
    ManentOff,
    Manent,
    /// `manent serve`, with as many answers on record as there are requests.
    Serve,
    /// The same with one answer, given again and again.
    ServeReuse,
}

impl Proxy {
    const ALL: &[Proxy] = &[
        Proxy::Direct,
        Proxy::Raw,
        Proxy::Relay,
        Proxy::Hudsucker,
        Proxy::ManentOff,
        Proxy::Manent,
        Proxy::Serve,
        Proxy::ServeReuse,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Proxy::Direct => "direct",
            Proxy::Raw => "raw",
            Proxy::Relay => "relay",
            Proxy::Hudsucker => "hudsucker",
            Proxy::ManentOff => "manent-off",
            Proxy::Manent => "manent",
            Proxy::Serve => "serve",
            Proxy::ServeReuse => "serve-reuse",
        }
    }
}

impl Proxy {
    /// Whether it answers from a store.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Proxy::Serve | Proxy::ServeReuse)
    }
}

/// How a scenario's figures are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By the request: CPU, rate, latency.
    Requests,
    /// By the byte: throughput.
    Transfer,
    /// By the request that is due at a time: latency of the first byte, and what is added to a yardstick's.
    FirstByte,
    /// By the memory that stays.
    Memory,
    /// By the request that is sent again, beside the load client.
    Replay,
    /// By the memory over time, under all kinds of traffic.
    Mixed,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) method: &'static str,
    /// Size of the body that counts: of the response for GET, of the request for POST.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    /// Whether both legs speak HTTP/2, which is checked at both ends; else both speak HTTP/1.1.
    pub(crate) http2: bool,
    /// Streams at a time on each connection; 1 for HTTP/1.1.
    pub(crate) streams: u64,
    /// Requests a second where they are due by a schedule; `None` sends the next when one is answered.
    pub(crate) rate: Option<u64>,
    /// What is compared, in the table's order.
    pub(crate) proxies: &'static [Proxy],
    /// What the figures are set against.
    pub(crate) yardsticks: &'static [Proxy],
    /// Whether each request has a new connection.
    pub(crate) fresh: bool,
    pub(crate) warm_up: u64,
    /// Requests of each measured step, on the same connections.
    pub(crate) steps: Vec<u64>,
    /// How long the idle proxy is watched before each step; zero where no figure is wanted.
    pub(crate) idle: Duration,
    /// How long mixed traffic runs; 0 for all others.
    pub(crate) seconds: u64,
}

impl Scenario {
    /// The same load, beside what answers from a store.
    fn served(&self, name: &'static str) -> Scenario {
        Scenario {
            name,
            proxies: &[Proxy::ManentOff, Proxy::Manent, Proxy::Serve, Proxy::ServeReuse],
            yardsticks: &[Proxy::ManentOff, Proxy::Manent],
            ..self.clone()
        }
    }
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
        let mut generator = None;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" | "--quick" => {}
                "--help" | "-h" => return Ok(None),
                "--scenario" => scenarios.push(value()?.clone()),
                "--proxy" => proxies.push(value()?.clone()),
                "--generator" => generator = Some(value()?.into()),
                "--rounds" => rounds = Some(value()?.parse().context("--rounds")?),
                "--requests" => {
                    sizes.keepalive = value()?.parse().context("--requests")?;
                    sizes.newconn = sizes.keepalive;
                    sizes.h2 = sizes.keepalive;
                    sizes.paced = sizes.keepalive;
                }
                "--seconds" => {
                    sizes.seconds = value()?.parse().context("--seconds")?;
                    ensure!(sizes.seconds > 0, "--seconds 0 measures nothing");
                }
                other => bail!("unknown argument {other}\n\n{HELP}"),
            }
        }
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut plan = Plan::new(sizes);
        if scenarios.is_empty() && !quick {
            plan.scenarios.retain(|scenario| scenario.shape != Shape::Mixed);
        }
        plan.rounds = rounds.unwrap_or(plan.rounds);
        plan.generator = generator;
        choose("scenario", &mut plan.scenarios, &scenarios, |scenario| scenario.name)?;
        choose("proxy", &mut plan.proxies, &proxies, |proxy| proxy.name())?;
        Ok(Some(plan))
    }

    #[expect(clippy::too_many_lines, reason = "a table: an entry a scenario")]
    fn new(sizes: Sizes) -> Plan {
        let keepalive = Scenario {
            name: "keepalive",
            shape: Shape::Requests,
            method: "GET",
            bytes: 1024,
            connections: sizes.connections,
            http2: false,
            streams: 1,
            rate: None,
            proxies: &[Proxy::Relay, Proxy::Hudsucker, Proxy::ManentOff, Proxy::Manent],
            yardsticks: &[Proxy::Relay, Proxy::Hudsucker],
            fresh: false,
            warm_up: sizes.keepalive / 10 + 64,
            steps: vec![sizes.keepalive],
            idle: sizes.idle,
            seconds: 0,
        };
        let h2 = Scenario {
            name: "h2",
            connections: sizes.h2_connections,
            http2: true,
            streams: 16,
            warm_up: sizes.h2 / 10 + 64,
            steps: vec![sizes.h2],
            ..keepalive.clone()
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
        let download1g = Scenario {
            name: "download1g",
            bytes: sizes.large,
            proxies: &[Proxy::Raw, Proxy::ManentOff, Proxy::Manent],
            yardsticks: &[Proxy::ManentOff, Proxy::Raw],
            warm_up: 0,
            steps: vec![1],
            ..download.clone()
        };
        let firstbyte = Scenario {
            name: "firstbyte",
            shape: Shape::FirstByte,
            connections: 32,
            rate: Some(500),
            proxies: &[Proxy::Direct, Proxy::Hudsucker, Proxy::ManentOff, Proxy::Manent],
            yardsticks: &[Proxy::Direct],
            warm_up: sizes.paced / 10 + 32,
            steps: vec![sizes.paced],
            ..keepalive.clone()
        };
        let over_http2 = |name, scenario: &Scenario| Scenario { name, http2: true, ..scenario.clone() };
        let (download1g_h2, firstbyte_h2) =
            (over_http2("download1g-h2", &download1g), over_http2("firstbyte-h2", &firstbyte));
        let (serve, serve_h2) = (keepalive.served("serve"), h2.served("serve-h2"));
        let replay = Scenario {
            name: "replay",
            shape: Shape::Replay,
            proxies: &[Proxy::Manent],
            warm_up: 0,
            steps: vec![sizes.replay],
            ..keepalive.clone()
        };
        let replay_h2 =
            Scenario { name: "replay-h2", connections: 4, streams: 16, ..over_http2("", &replay) };
        let mixed = Scenario {
            name: "mixed",
            shape: Shape::Mixed,
            proxies: &[Proxy::Manent],
            seconds: sizes.seconds,
            ..keepalive.clone()
        };
        let soak = Scenario {
            name: "soak",
            shape: Shape::Memory,
            proxies: &[Proxy::Manent],
            warm_up: 0,
            steps: vec![sizes.soak, 9 * sizes.soak],
            ..keepalive.clone()
        };
        let scenarios = vec![
            keepalive,
            newconn,
            h2,
            download,
            upload,
            download1g,
            download1g_h2,
            firstbyte,
            firstbyte_h2,
            serve,
            serve_h2,
            replay,
            replay_h2,
            soak,
            mixed,
        ];
        Plan { scenarios, proxies: Proxy::ALL.to_vec(), rounds: sizes.rounds, generator: None }
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
    h2_connections: u64,
    h2: u64,
    transfer: u64,
    transfers: u64,
    large: u64,
    paced: u64,
    seconds: u64,
    soak: u64,
    replay: u64,
    rounds: usize,
    idle: Duration,
}

impl Sizes {
    /// Large enough that a tick of 10 ms is below a hundredth of what is measured.
    const FULL: Sizes = Sizes {
        connections: 64,
        keepalive: 100_000,
        newconn: 3_000,
        h2_connections: 16,
        h2: 100_000,
        transfer: 100 << 20,
        transfers: 3,
        large: 1 << 30,
        paced: 5_000,
        seconds: 600,
        soak: 20_000,
        replay: 10_000,
        rounds: 3,
        idle: Duration::from_millis(500),
    };
    const QUICK: Sizes = Sizes {
        connections: 8,
        keepalive: 200,
        newconn: 16,
        h2_connections: 2,
        h2: 200,
        transfer: 1 << 20,
        transfers: 1,
        large: 4 << 20,
        paced: 100,
        seconds: 3,
        soak: 100,
        replay: 100,
        rounds: 1,
        idle: Duration::ZERO,
    };
}
