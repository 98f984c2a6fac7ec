//! `cargo bench --bench store`: what it costs to store flows and to find them again, each figure beside its limit.
//!
//! Where the disk is the question, the same bytes are appended to a plain file and synced as often, in the same run: what the
//! disk allows. Stores lie under `target/` or in `--folder`, and are deleted at the end. `generator.rs` says what the flows
//! are like.
//!
//! `cargo test` runs the same program with small numbers, to see that it works at all; its figures then mean nothing. It
//! deliberately fails for no figure: machines are noisy, and people are to look.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's product is what it prints")]

mod bodies;
mod generator;
mod latency;
mod measure;
mod origin_experiment;
mod plan;
mod queries;
mod recorder;
mod start;
mod web;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::plan::{Case, Plan};

/// As in the binary: flows are built on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, path] = args.as_slice()
        && flag == queries::READER_FLAG
    {
        return queries::read(Path::new(path));
    }
    let Some(plan) = Plan::from_args(&args)? else {
        print!("{}", plan::HELP);
        return Ok(());
    };
    if plan.quick {
        println!("small numbers: the figures mean nothing");
    }
    let dir = tempfile::tempdir_in(&plan.folder).context("making a folder for the stores")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for case in &plan.cases {
            println!("{}", case.name());
            one(*case, &plan, dir.path()).await.with_context(|| format!("case {}", case.name()))?;
        }
        Ok(())
    })
}

async fn one(case: Case, plan: &Plan, dir: &Path) -> Result<()> {
    match case {
        Case::Origin => origin_experiment::run(plan, dir).await,
        Case::Browser => recorder::browser(plan, dir).await,
        Case::Small => recorder::small(plan, dir).await,
        Case::One => origin_experiment::one_at_a_time(plan, dir).await,
        Case::Latency => latency::at_rates(plan, dir).await,
        Case::Commits => latency::longest_commit(plan, dir).await,
        Case::Limits => latency::within_limits(plan, dir).await,
        Case::Queries => queries::run(plan, dir).await,
        Case::Bodies => bodies::run(plan, dir).await,
        Case::Start => start::run(plan, dir).await,
    }
}
