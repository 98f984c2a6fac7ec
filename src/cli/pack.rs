//! `manent store`: a store as one file, and back; what a store is.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::progress::Progress;
use super::signals::Signals;
use super::{errors, process, text};
use crate::config::units::parse_level;
use crate::store::{self, CopyProgress, CopyWatch, PackOptions, Packed, Reader, StoreError, StoreInfo};

/// Make one file of a store and a store of that, see how large it is, bring it to this version
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
        #[arg(default_missing_value = "3", value_parser = parse_level)]
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
    /// Print what kind of store it is, and how large
    Info,
    /// Bring the store to this version now, rather than at its next capture
    Upgrade,
}

pub(super) fn run(args: &StoreArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    // Each segment file is held open while it is copied from.
    process::raise_file_limit();
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
        Verb::Info => {
            let path = global.store()?;
            return info(&path, &StoreInfo::of(&Reader::open(&path)?)?, output);
        }
        Verb::Upgrade => {
            let (before, now) = store::upgrade(&global.store()?)?;
            output.talk(&match before == now {
                true => format!("it has version {now} already"),
                false => format!("it had version {before}, and has version {now}"),
            });
            return Ok(ExitCode::SUCCESS);
        }
    };
    tell(&copied, to, output)?;
    Ok(if copied.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

/// Makes a copy, shows how far it has come, and ends it in order at a signal.
fn watched(
    output: Output,
    copy: impl FnOnce(CopyWatch<'_>) -> Result<Packed, StoreError> + Send + 'static,
) -> anyhow::Result<Packed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = {
            let stop = Arc::clone(&stop);
            tokio::task::spawn_blocking(move || {
                let progress = Progress::new(&output, "flows copied");
                copy(&mut |CopyProgress { flows, of_flows, .. }| {
                    progress.at(flows, of_flows);
                    match stop.load(Ordering::Relaxed) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })
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

fn info(path: &Path, info: &StoreInfo, output: &Output) -> anyhow::Result<ExitCode> {
    let StoreInfo { version, newest, packed_unix_ns, flows, sessions, db_bytes, segments, segment_bytes } =
        info;
    let count = flows.map_or(0, |(.., count)| count);
    if output.json {
        let object = json!({
            "store": path.to_string_lossy(), "version": version, "newest_version": newest,
            "packed": packed_unix_ns.map(text::utc), "flows": count, "first_mid": flows.map(|(first, ..)| first.0),
            "last_mid": flows.map(|(_, last, _)| last.0), "sessions": sessions, "db_bytes": db_bytes,
            "segments": segments, "segment_bytes": segment_bytes,
        });
        output.data_line(&object.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let span = flows.map_or(String::new(), |(first, last, _)| format!(" ({first}–{last})"));
    let kind = match packed_unix_ns {
        Some(when) => format!("packed at {}", text::utc(*when)),
        None => format!("{}, {}B", text::count(*segments, "segment file"), text::size(*segment_bytes)),
    };
    let version = match version == newest {
        true => version.to_string(),
        false => format!("{version} (this program makes {newest} of it: manent store upgrade)"),
    };
    for (name, value) in [
        ("store", text::path(path)),
        ("version", version),
        ("flows", format!("{count}{span}")),
        ("sessions", sessions.to_string()),
        ("database", format!("{}B", text::size(*db_bytes))),
        ("bodies", kind),
    ] {
        output.data_line(&format!("{name:9} {value}"))?;
    }
    Ok(ExitCode::SUCCESS)
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

const EXAMPLES: &str = "\
Examples:
  manent store pack bug.db                     everything in one file, also while a capture goes on
  manent -s bug.db show 12                     read it as any store
  manent store pack --compress small.db        bodies as zstd, where they shrink
  manent store unpack bug.db again.db          with segment files again, to record into
  manent store info                            version, flows, sizes

Equal bodies are in a packed file once. Exit code 1 if something was damaged; what could be read is there.";
