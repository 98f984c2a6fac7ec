//! `cargo bench --bench proxy`: what a request costs in the proxy process, beside yardsticks measured in the same run.
//!
//! Compared are a bare TLS relay (terminates, re-originates, copies bytes: the floor of any intercepting proxy), hudsucker
//! without a handler, manent with recording off, and manent recording to the disk under `target/`; where it is the question,
//! also a direct connection, and plain appends to a file. Origin, proxy and load
//! client are processes of their own, started anew for each measurement, so that CPU time and memory are read for the
//! proxy alone. The order of the proxies changes with each round, and medians are reported: machines are noisy.
//!
//! `cargo test` runs the same program with small numbers, to see that it works at all; its figures then mean nothing.
//! It deliberately asserts no speed. Loopback only, and every run is bounded in count and time.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's product is what it prints")]

mod ask;
mod client;
mod driver;
mod http2;
mod mixed;
mod origin;
mod peer;
mod plain;
mod plan;
mod process;
mod raw;
mod relay;
mod replay;
mod route;
mod soak;
mod table;
mod trust;
mod websocket;
mod wire;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::plan::Plan;

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [flag, role, spec] = args.as_slice()
        && flag == process::ROLE_FLAG
    {
        let spec = serde_json::from_str(spec).context("the role's argument is not JSON")?;
        let role = role.as_str();
        return runtime
            .block_on(async move {
                match role {
                    "origin" => origin::serve(&spec).await,
                    "relay" => relay::serve(&spec).await,
                    "hudsucker" => peer::serve(&spec).await,
                    "client" => client::drive(&spec).await,
                    "mixed" => mixed::drive(&spec).await,
                    other => bail!("no role `{other}`"),
                }
            })
            .with_context(|| format!("the {role}"));
    }
    match Plan::from_args(&args)? {
        Some(plan) => runtime.block_on(driver::run(&plan)),
        None => {
            print!("{}", plan::HELP);
            Ok(())
        }
    }
}
