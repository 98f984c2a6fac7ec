//! `manent check`: whether all that one or more stores hold is what was written.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::args::Global;
use super::errors::CliError;
use super::output::Output;
use super::progress::Progress;
use super::stores::{self, Opened};
use super::{escape, text};
use crate::flow::Mid;
use crate::store::{Checked, Damage, Reader, StoreError};

/// Read everything in one or more stores, and say what is damaged
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {}

pub(super) fn run(_: &CheckArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let stores = global.stores()?;
    let files = stores.some_files()?;
    let mut opened = Opened::new(&stores, output);
    let mut damages = 0;
    for (file, name) in files.iter().zip(stores::names(&files)) {
        let name = opened.several.then_some(&*name);
        let Some(reader) = opened.keep_any(Reader::open(file).map_err(unopened))? else { continue };
        match check(&reader, name, output) {
            Ok(checked) => damages += checked.damages,
            Err(Failed::Store(error)) => drop(opened.keep_any::<()>(Err(unopened(error)))?),
            Err(Failed::Output(error)) => return Err(error.into()),
        }
    }
    Ok(opened.exit_code(damages == 0))
}

/// A database of which nothing can be read is told otherwise than elsewhere, where this command would find out more.
fn unopened(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Damaged { path, detail } => CliError::Unreadable { path, detail }.into(),
        other => other.into(),
    }
}

/// Why a check did not come to its end.
enum Failed {
    Store(StoreError),
    Output(io::Error),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Checks a store, which is called so where there are several.
fn check(reader: &Reader, name: Option<&str>, output: &Output) -> Result<Checked, Failed> {
    let progress = Progress::new(output, "mids");
    let mut data = output.data();
    let store = |mut object: Value| {
        if let Some(name) = name {
            object["store"] = name.into();
        }
        object.to_string()
    };
    let found = |damage: &Damage| -> Result<(), Failed> {
        progress.clear();
        let Damage { mid, part, detail } = damage;
        if output.json {
            let mid = mid.map(|mid| mid.0);
            writeln!(data, "{}", store(json!({"mid": mid, "part": part, "damage": detail})))?;
        } else {
            let mid = mid.map_or_else(|| "-".to_owned(), |mid: Mid| mid.to_string());
            let name = name.map(|name| escape::line(name) + ":").unwrap_or_default();
            writeln!(data, "{name}{mid}  {}: {}", escape::line(part), escape::line(detail))?;
        }
        // Whoever waits for long wants to see it now.
        Ok(data.flush()?)
    };
    let checked = reader.check(found, |done, total| progress.at(done, total))?;
    progress.clear();
    let name = name.map(|name| escape::line(name) + "  ").unwrap_or_default();
    output.data_line(&if output.json { store(to_json(&checked)) } else { name + &told(&checked) })?;
    Ok(checked)
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

fn to_json(checked: &Checked) -> Value {
    json!({
        "mid": null, "checked": true, "flows": checked.flows, "damaged_flows": checked.damaged_flows,
        "damages": checked.damages, "bodies": checked.bodies, "messages": checked.messages,
        "missing_messages": checked.missing_messages, "live_bytes": checked.live_bytes,
        "dead_bytes": checked.dead_bytes,
    })
}

const EXAMPLES: &str = "\
Examples:
  manent check
  manent check --json | jq -r 'select(.damage).mid'
  manent check -s 'flows-*.db'        several stores, one after the other; each line tells its store

It only reads, and works while a capture runs. Exit code 0 if nothing is damaged, 1 if something is, 4 if a store among
several could not be read.";
