//! Filters on the command line: read from words, and explained.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::errors::CliError;
use super::output::Output;
use super::{given, text};
use crate::filter::{self, Filter};
use crate::flow::Mid;
use crate::store::{Explanation, Order, Reader, Row, Search, StoreError, explain};

/// Tell the language of filters, or what a filter says and how it is answered
#[derive(Debug, Args)]
#[command(after_help = filter::help())]
pub(super) struct FilterArgs {
    /// A filter to explain; words are joined by blanks
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

pub(super) fn run(args: &FilterArgs, output: &Output) -> anyhow::Result<ExitCode> {
    match parse(&args.filter)? {
        Some(filter) => show_explanation(&filter, &[], output)?,
        None => output.data_line(filter::help().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The filter that the words make, joined by blanks; `None` if there are none.
///
/// # Errors
/// If they make no filter.
pub(super) fn parse(words: &[String]) -> Result<Option<Filter>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    Filter::parse(&words.join(" ")).map(Some).map_err(CliError::Filter)
}

/// Prints what a filter says, and which part of it is answered how, in these stores.
///
/// # Errors
/// If standard output is closed or full.
pub(super) fn show_explanation(filter: &Filter, stores: &[PathBuf], output: &Output) -> std::io::Result<()> {
    let Explanation { sql, row, record, bodies, index } = explain(filter);
    // A store that is not there, or cannot be read, has no index.
    let covered = |store: &PathBuf| Reader::open(store).ok()?.indexed_flows().ok()?;
    let covered: Option<u64> = stores.iter().map(covered).sum();
    if output.json {
        let object = serde_json::json!({
            "filter": filter.to_string(), "reading": filter.expr().in_words(), "sql": sql, "row": row,
            "record": record, "bodies": bodies, "index": index, "indexed_flows": covered.filter(|_| !stores.is_empty()),
        });
        return output.data_line(&object.to_string());
    }
    let mut lines = vec![format!("reading      {}", filter.expr().in_words())];
    lines.push(format!("by SQL       {}", sql.as_deref().unwrap_or("nothing: every row is looked at")));
    for (title, tests) in [("on the row   ", &row), ("in records   ", &record), ("in bodies    ", &bodies)] {
        lines.extend(tests.iter().map(|test| format!("{title}{test}")));
    }
    let told = match covered {
        _ if stores.is_empty() => String::new(),
        Some(covered) => format!("; the index of bodies covers {}", text::count(covered, "flow")),
        None => given::in_full("; there is no index of bodies, `manent index --bodies` makes one"),
    };
    lines.extend(index.iter().map(|required| {
        match required {
            Some(required) => format!("by index     a body that matches has {required}{told}"),
            None => {
                "by index     no: a body may match without any three bytes in a row that one could ask for"
                    .to_owned()
            }
        }
    }));
    lines.iter().try_for_each(|line| output.data_line(&super::escape::line(line)))
}

/// Shows all from the oldest on, each as soon as the step of the search that found it is over; how many flows could not be
/// read.
///
/// # Errors
/// If the store cannot be read, or `show` fails.
pub(super) fn all(
    reader: &Reader,
    filter: &Filter,
    show: &mut dyn FnMut(&[Row]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let search = Search { order: Order::OldestFirst, ..Search::new(filter) };
    let page = std::cell::RefCell::new(Vec::new());
    let mut failed = None;
    let mut found = |row| {
        page.borrow_mut().push(row);
        ControlFlow::Continue(())
    };
    // A step finds no more than a few hundred.
    let mut step_is_over = |_: &crate::store::Progress| {
        let rows = std::mem::take(&mut *page.borrow_mut());
        if rows.is_empty() {
            return ControlFlow::Continue(());
        }
        match show(&rows) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let progress = reader.search(&search, &mut found, &mut step_is_over)?;
    match failed {
        Some(error) => Err(error),
        None => Ok(progress.unreadable),
    }
}

/// Which of these rows match. One that cannot be read does not.
///
/// # Errors
/// What SQLite said.
pub(super) fn matching(reader: &Reader, filter: &Filter, rows: &[Row]) -> Result<HashSet<Mid>, StoreError> {
    let mut mids: Vec<Mid> = rows.iter().map(|row| row.mid).collect();
    mids.sort_unstable();
    mids.dedup();
    let mut ranges =
        mids.chunk_by(|a, b| a.0 + 1 == b.0).filter_map(|run| Some((*run.first()?, *run.last()?)));
    let search = Search { order: Order::OldestFirst, ..Search::new(filter) };
    let mut matching = HashSet::new();
    let mut found = |row: Row| {
        matching.insert(row.mid);
        ControlFlow::Continue(())
    };
    reader.search_in(&search, &mut ranges, &mut found, &mut |_| ControlFlow::Continue(()))?;
    Ok(matching)
}
