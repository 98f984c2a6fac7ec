//! What is measured: cases, numbers, and the arguments that choose among them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

pub(crate) const HELP: &str = "\
cargo bench --bench store [-- OPTIONS]

  --case NAME     repeatable (all):
                    origin     flows with a body of 4 MiB, 16 at a time; one of them collected
                    browser    a browser's mix flat out, 37 KB a flow
                    small      bodies of 2 KiB flat out
                    one        store() of one flow at a time
                    latency    from a flow's end to its commit, at 1,000 and 10,000 flows/s
                    commits    from commit to commit flat out
                    limits     latency while the oldest flows are deleted
                    queries    pages and filters in a store of a million flows; what zones cost
                    bodies     the index of bodies: what it costs, and searches with it and without
                    start      the binary, from its start until it listens, with the store of queries; its size
  --flows N       flows of queries and start (1000000) and of bodies (100000)
  --store FILE    the store of queries and start, made there if it is not there, and kept
  --folder DIR    where all other stores lie, on a real disk (target/tmp)
  --rounds N      how often browser and small are repeated; medians are printed (3)
  --quick         small numbers: shows that it works, measures nothing
";

pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    /// Whether the numbers are so small that the figures mean nothing.
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) sizes: Sizes,
    pub(crate) store: Option<PathBuf>,
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Origin,
    Browser,
    Small,
    One,
    Latency,
    Commits,
    Limits,
    Queries,
    Bodies,
    Start,
}

impl Case {
    const ALL: &[Case] = &[
        Case::Origin,
        Case::Browser,
        Case::Small,
        Case::One,
        Case::Latency,
        Case::Commits,
        Case::Limits,
        Case::Queries,
        Case::Bodies,
        Case::Start,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::Origin => "origin",
            Case::Browser => "browser",
            Case::Small => "small",
            Case::One => "one",
            Case::Latency => "latency",
            Case::Commits => "commits",
            Case::Limits => "limits",
            Case::Queries => "queries",
            Case::Bodies => "bodies",
            Case::Start => "start",
        }
    }

    fn named(name: &str) -> Result<Case> {
        let found = Case::ALL.iter().find(|case| case.name() == name);
        found.copied().with_context(|| format!("no case `{name}`\n\n{HELP}"))
    }
}

impl Plan {
    /// `None` means: print the help, or there is nothing to run.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<Plan>> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut plan = Plan {
            cases: Vec::new(),
            quick,
            rounds: if quick { 1 } else { 3 },
            sizes: if quick { Sizes::QUICK } else { Sizes::FULL },
            store: None,
            folder: env!("CARGO_TARGET_TMPDIR").into(),
        };
        // cargo bench passes --bench. Without it this is cargo test, whose other arguments are for libtest.
        if !args.iter().any(|arg| arg == "--bench") && !quick {
            let plan = Plan { cases: Case::ALL.into(), quick: true, rounds: 1, sizes: Sizes::QUICK, ..plan };
            return Ok(under_test(args).then_some(plan));
        }
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" | "--quick" => {}
                "--help" | "-h" => return Ok(None),
                "--case" => plan.cases.push(Case::named(value()?)?),
                "--flows" => {
                    plan.sizes.queries = value()?.parse().context("--flows")?;
                    plan.sizes.bodies = plan.sizes.queries;
                }
                "--store" => plan.store = Some(value()?.into()),
                "--folder" => plan.folder = value()?.into(),
                "--rounds" => plan.rounds = value()?.parse().context("--rounds")?,
                other => bail!("unknown argument {other}\n\n{HELP}"),
            }
        }
        if plan.cases.is_empty() {
            plan.cases = Case::ALL.into();
        }
        Ok(Some(plan))
    }
}

/// Whether `cargo test` with these arguments means this program: no list was asked for, and no filter excludes it.
fn under_test(args: &[String]) -> bool {
    let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    !args.iter().any(|arg| arg == "--list")
        && (filters.peek().is_none() || filters.any(|filter| "bench_store_works".contains(filter.as_str())))
}

/// The numbers that make a run long or short.
pub(crate) struct Sizes {
    pub(crate) origin_groups: u64,
    pub(crate) browser: u64,
    pub(crate) small: u64,
    pub(crate) one_at_a_time: usize,
    pub(crate) paced_seconds: u64,
    pub(crate) queries: u64,
    pub(crate) bodies: u64,
}

impl Sizes {
    /// Large enough that a tick of 10 ms is below a hundredth of what is measured, and that several segments and
    /// checkpoints are in it.
    const FULL: Sizes = Sizes {
        origin_groups: 20,
        browser: 50_000,
        small: 400_000,
        one_at_a_time: 200,
        paced_seconds: 10,
        queries: 1_000_000,
        bodies: 100_000,
    };
    const QUICK: Sizes = Sizes {
        origin_groups: 1,
        browser: 200,
        small: 500,
        one_at_a_time: 3,
        paced_seconds: 0,
        queries: 500,
        bodies: 300,
    };
}
