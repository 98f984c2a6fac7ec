//! `manent vacuum`: makes a store's files as small as they can be.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::progress::Progress;
use super::text;
use crate::store::{Estimate, Reader, Vacuum};

/// Give back the space of what was deleted
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VacuumArgs {
    /// Say how much there is, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &VacuumArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let path = global.store()?;
    let measuring = Progress::new(output, "flows measured");
    let measure = |done, total| measuring.at(done, total);
    if args.dry_run {
        let found = Reader::open(&path)?.reclaimable(measure)?;
        measuring.clear();
        let Estimate { bytes, dead_bytes, free_bytes, need_bytes } = found;
        match output.json {
            true => output.data_line(
                &json!({"bytes": bytes, "dead_bytes": dead_bytes, "free_bytes": free_bytes, "need_bytes": need_bytes})
                    .to_string(),
            )?,
            false => output.data_line(&format!(
                "{} of {} can be given back; it takes {} of free disk for a while",
                text::size(dead_bytes + free_bytes),
                text::size(bytes),
                text::size(need_bytes)
            ))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut vacuum = Vacuum::open(&path)?;
    let before = vacuum.measure(measure)?;
    let copying = Progress::of_bytes(output, "copied");
    vacuum.run(&before, |done, total| copying.at(done, total))?;
    let after = vacuum.close()?;
    measuring.clear();
    copying.clear();
    match output.json {
        true => output.data_line(&json!({"bytes_before": before.bytes, "bytes": after}).to_string())?,
        false => output.talk(&format!("{} before, {} now", text::size(before.bytes), text::size(after))),
    }
    Ok(ExitCode::SUCCESS)
}

const EXAMPLES: &str = "\
Examples:
  manent vacuum --dry-run      how much there is to be had
  manent prune --max-age 30d --yes && manent vacuum

Needs the store for itself: stop the capture first. Reading works meanwhile. Killed at any moment, it leaves a whole store.";
