//! `manent check`: whether all that a store holds is what was written.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::progress::Progress;
use super::{errors, escape, text};
use crate::flow::Mid;
use crate::store::{Checked, Damage, Reader};

/// Read everything in the store, and say what is damaged
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {}

pub(super) fn run(_: &CheckArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let reader = Reader::open(&global.store()?)?;
    let progress = std::cell::RefCell::new(Progress::new(output, "mids"));
    let mut data = output.data();
    let found = |damage: &Damage| -> anyhow::Result<()> {
        progress.borrow_mut().clear();
        let Damage { mid, part, detail } = damage;
        if output.json {
            let mid = mid.map(|mid| mid.0);
            writeln!(data, "{}", json!({"mid": mid, "part": part, "damage": detail}))?;
        } else {
            let mid = mid.map_or_else(|| "-".to_owned(), |mid: Mid| mid.to_string());
            writeln!(data, "{mid}  {}: {}", escape::line(part), escape::line(detail))?;
        }
        // Whoever waits for long wants to see it now.
        Ok(data.flush()?)
    };
    let checked = reader.check(found, |done, total| progress.borrow_mut().at(done, total))?;
    progress.borrow_mut().clear();
    output.data_line(&if output.json { to_json(&checked) } else { told(&checked) })?;
    Ok(if checked.damages == 0 { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

fn told(checked: &Checked) -> String {
    let flows = text::count(checked.flows, "flow");
    let mut told = match checked.damages {
        0 => format!("{flows}: nothing is damaged"),
        count => {
            let places = text::count(count, "damage");
            format!("{places} in {} of {flows}", checked.damaged_flows)
        }
    };
    if checked.missing_messages > 0 {
        let missing = text::count(checked.missing_messages, "message");
        told += &format!("; {missing} passed that could not be stored");
    }
    if checked.dead_bytes > 0 {
        told += &format!("; {} of segments can be reclaimed", text::size(checked.dead_bytes));
    }
    told
}

fn to_json(checked: &Checked) -> String {
    json!({
        "mid": null, "checked": true, "flows": checked.flows, "damaged_flows": checked.damaged_flows,
        "damages": checked.damages, "bodies": checked.bodies, "messages": checked.messages,
        "missing_messages": checked.missing_messages, "live_bytes": checked.live_bytes,
        "dead_bytes": checked.dead_bytes,
    })
    .to_string()
}

const EXAMPLES: &str = "\
Examples:
  manent check
  manent check --json | jq -r 'select(.damage).mid'

It only reads, and works while a capture runs. Exit code 0 if nothing is damaged, 1 if something is.";
