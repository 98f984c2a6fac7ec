//! `manent store`: a store as one file, and back.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::signals::Signals;
use super::{errors, text};
use crate::store::{self, PackOptions, Packed, Progress, StoreError, Watch};

/// Make one file of a store, and a store of that
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copy the store into one file that holds everything, to send or to keep. A capture may go on meanwhile
    Pack {
        /// The file to make; every command reads it with --store
        #[arg(value_name = "FILE")]
        to: PathBuf,
        /// Store bodies that shrink by it as zstd, with this effort
        #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true)]
        #[arg(default_missing_value = "3", value_parser = clap::value_parser!(i32).range(1..=19))]
        compress: Option<i32>,
        /// Replace the store that is there
        #[arg(long)]
        force: bool,
    },
    /// Copy a packed store into one with segment files, to record into
    Unpack {
        /// The packed store
        from: PathBuf,
        /// The store to make
        #[arg(value_name = "FILE")]
        to: PathBuf,
        /// Replace the store that is there
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(args: &StoreArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let (copied, to) = match &args.verb {
        Verb::Pack { to, compress, force } => {
            let (from, options) = (global.store()?, PackOptions { level: *compress, replace: *force });
            let target = to.clone();
            (watched(*output, move |watch| store::pack(&from, &target, options, watch))?, to)
        }
        Verb::Unpack { from, to, force } => {
            let (from, options) = (from.clone(), PackOptions { level: None, replace: *force });
            let target = to.clone();
            (watched(*output, move |watch| store::unpack(&from, &target, options, watch))?, to)
        }
    };
    tell(&copied, to, output)?;
    Ok(if copied.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

/// Makes a copy, shows how far it has come, and ends it in order at a signal.
fn watched(
    output: Output,
    copy: impl FnOnce(Watch<'_>) -> Result<Packed, StoreError> + Send + 'static,
) -> anyhow::Result<Packed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = {
            let stop = Arc::clone(&stop);
            tokio::task::spawn_blocking(move || {
                let mut shown = Instant::now();
                let result = copy(&mut |progress| {
                    if shown.elapsed() > SHOWN_EVERY {
                        shown = Instant::now();
                        output.progress(&in_words(progress));
                    }
                    match stop.load(Ordering::Relaxed) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                });
                output.progress("");
                result
            })
        };
        loop {
            tokio::select! {
                done = &mut work => return Ok(done??),
                _ = signals.next() => stop.store(true, Ordering::Relaxed),
            }
        }
    })
}

fn in_words(progress: Progress) -> String {
    let Progress { flows, of_flows, bytes } = progress;
    format!("{flows} of {}, {}B", text::count(of_flows, "flow"), text::size(bytes))
}

fn tell(copied: &Packed, to: &Path, output: &Output) -> anyhow::Result<()> {
    let Packed { flows, body_bytes, stored_bytes, shared_bodies, shared_bytes, damaged, damaged_mids } =
        copied;
    if output.json {
        let mids: Vec<u64> = damaged_mids.iter().map(|mid| mid.0).collect();
        let object = json!({
            "store": to.to_string_lossy(), "flows": flows, "body_bytes": body_bytes, "stored_bytes": stored_bytes,
            "shared_bodies": shared_bodies, "shared_bytes": shared_bytes, "damaged": damaged, "damaged_mids": mids,
        });
        return Ok(output.data_line(&object.to_string())?);
    }
    let mut line = format!(
        "{} in {}: {}B of bodies in {}B",
        text::count(*flows, "flow"),
        text::path(to),
        text::size(*body_bytes),
        text::size(*stored_bytes)
    );
    if *shared_bodies > 0 {
        line += &format!(", and {}B that equal some of these", text::size(*shared_bytes));
    }
    output.talk(&line);
    if *damaged > 0 {
        let named: Vec<String> = damaged_mids.iter().map(ToString::to_string).collect();
        let more = if *damaged > named.len() as u64 { ", …" } else { "" };
        output.say(&format!(
            "{}: {} could not be read whole, and what could be read was copied: {}{more}",
            output.talk_paint.yellow("warning"),
            text::count(*damaged, "flow"),
            named.join(", ")
        ));
    }
    Ok(())
}

/// Often enough to be seen moving.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  manent store pack bug.db                     everything in one file, also while a capture goes on
  manent -s bug.db show 12                     read it as any store
  manent store pack --compress small.db        bodies as zstd, where they shrink
  manent store unpack bug.db again.db          with segment files again, to record into

Equal bodies are in a packed file once. Exit code 1 if something was damaged; what could be read is there.";
