//! Filters on the command line: read from words, explained, and searched for in a store.

use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;

use super::errors::CliError;
use super::output::Output;
use super::text;
use crate::filter::{self, Filter};
use crate::flow::Mid;
use crate::store::{Explanation, Order, Reader, Row, Search, explain};

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
        Some(filter) => show_explanation(&filter, output)?,
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

/// Prints what a filter says, and which part of it is answered how.
///
/// # Errors
/// If standard output is closed or full.
pub(super) fn show_explanation(filter: &Filter, output: &Output) -> std::io::Result<()> {
    let Explanation { sql, row, record, bodies } = explain(filter);
    if output.json {
        let object = serde_json::json!({
            "filter": filter.to_string(), "reading": filter.expr().in_words(), "sql": sql, "row": row,
            "record": record, "bodies": bodies,
        });
        return output.data_line(&object.to_string());
    }
    let mut lines = vec![format!("reading      {}", filter.expr().in_words())];
    lines.push(format!("by SQL       {}", sql.as_deref().unwrap_or("nothing: every row is looked at")));
    for (title, tests) in [("on the row   ", &row), ("in records   ", &record), ("in bodies    ", &bodies)] {
        lines.extend(tests.iter().map(|test| format!("{title}{test}")));
    }
    lines.iter().try_for_each(|line| output.data_line(&super::escape::line(line)))
}

/// Shows the newest `limit` flows that match, or all, oldest of them first.
///
/// # Errors
/// If the store cannot be read, or `show` fails.
pub(super) fn matching(
    reader: &Reader,
    filter: &Filter,
    limit: Option<usize>,
    output: &Output,
    show: &mut dyn FnMut(&[Row]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let unreadable = match limit {
        Some(limit) if limit <= PAGE => {
            let (mut rows, progress) = newest(reader, filter, limit)?;
            rows.reverse();
            show(&rows)?;
            progress
        }
        Some(limit) => {
            // More than fits in memory at once, perhaps: their mids do.
            let (mids, unreadable) = newest_mids(reader, filter, limit)?;
            for page in mids.rchunks(PAGE) {
                let rows = page.iter().rev().filter_map(|&mid| reader.row(mid).transpose());
                show(&rows.collect::<Result<Vec<_>, _>>()?)?;
            }
            unreadable
        }
        None => all(reader, filter, show)?,
    };
    if unreadable > 0 {
        output.say(&format!(
            "warning: {} could not be read, and may have matched",
            text::count(unreadable, "flow")
        ));
    }
    Ok(())
}

/// The newest rows, newest first, and how many flows could not be read.
fn newest(reader: &Reader, filter: &Filter, limit: usize) -> anyhow::Result<(Vec<Row>, u64)> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok((rows, 0));
    }
    let search = Search { limit: Some(limit), ..Search::new(filter) };
    let mut found = |row| {
        rows.push(row);
        ControlFlow::Continue(())
    };
    let progress = reader.search(&search, &mut found, &mut |_| ControlFlow::Continue(()))?;
    Ok((rows, progress.unreadable))
}

/// The mids of the newest, newest first, and how many flows could not be read.
fn newest_mids(reader: &Reader, filter: &Filter, limit: usize) -> anyhow::Result<(Vec<Mid>, u64)> {
    let mut mids = Vec::new();
    let search = Search { limit: Some(limit), ..Search::new(filter) };
    let mut found = |row: Row| {
        mids.push(row.mid);
        ControlFlow::Continue(())
    };
    let progress = reader.search(&search, &mut found, &mut |_| ControlFlow::Continue(()))?;
    Ok((mids, progress.unreadable))
}

/// Shows all from the oldest on, each as soon as the step of the search that found it is over.
fn all(
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

/// Rows in memory at a time.
const PAGE: usize = 1000;
