//! `manent ls`: the flows of a store, newest last.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::args::Global;
use super::errors;
use super::output::Output;
use super::row::{self, Line};
use super::search;
use crate::flow::Mid;
use crate::store::{ListQuery, Order, Reader, Row};

/// List recorded flows, newest last
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LsArgs {
    /// Only flows that match; words are joined by blanks, `manent filter` tells the language
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Tell what FILTER says and how it is answered, and list nothing
    #[arg(long, requires = "filter")]
    explain: bool,
    /// At most this many, the newest ones [default: 50 on a terminal, else all]
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

pub(super) fn run(args: &LsArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let filter = search::parse(&args.filter)?;
    if let Some(filter) = filter.as_ref().filter(|_| args.explain) {
        search::show_explanation(filter, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reader = Reader::open(&global.store()?)?;
    let on_screen = output.terminal && !output.json;
    let mut data = output.data();
    let mut any = false;
    let mut show = |rows: &[Row]| -> anyhow::Result<()> {
        any |= !rows.is_empty();
        let mid_width = rows.last().map_or(0, |row| row.mid.to_string().len());
        for row in rows {
            // A look-up a row, so only for the few that may have some.
            let messages = row::may_have_messages(row).then(|| reader.last_message(row.mid)).transpose()?;
            let messages = messages.filter(|&count| count > 0);
            if output.json {
                writeln!(data, "{}", row::row_json(row, messages))?;
            } else if on_screen {
                let line = Line::from(row).with_messages(messages);
                writeln!(data, "{}", line.for_terminal(output.width, mid_width, output.paint))?;
            } else {
                writeln!(data, "{}", Line::from(row).for_pipe())?;
            }
        }
        Ok(data.flush()?)
    };
    let limit = args.limit.or(on_screen.then_some(SCREENFUL));
    match (limit, &filter) {
        (limit, Some(filter)) => search::matching(&reader, filter, limit, output, &mut show)?,
        (Some(limit), None) => newest(&reader, limit, &mut show)?,
        (None, None) => from(&reader, None, usize::MAX, &mut show)?,
    }
    Ok(if any { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

/// Shows the newest `limit` flows, oldest of them first.
fn newest(
    reader: &Reader,
    limit: usize,
    show: &mut impl FnMut(&[Row]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rows = reader.list(&ListQuery {
        limit: Some(limit.min(PAGE)),
        before: None,
        after: None,
        order: Order::NewestFirst,
    })?;
    if limit <= PAGE {
        rows.reverse();
        return show(&rows);
    }
    // More than fits in memory at once, perhaps: find where to begin, then go forward.
    let mut skipped = rows.len();
    while let Some(last) = rows.last().map(|row| row.mid)
        && skipped < limit
    {
        let step = Some((limit - skipped).min(PAGE));
        let more = reader.list(&ListQuery {
            limit: step,
            before: Some(last),
            after: None,
            order: Order::NewestFirst,
        })?;
        if more.is_empty() {
            break;
        }
        skipped += more.len();
        rows = more;
    }
    let first = rows.last().map(|row| Mid(row.mid.0.saturating_sub(1)));
    from(reader, first, limit, show)
}

/// Shows up to `limit` flows after `after`, page by page.
fn from(
    reader: &Reader,
    mut after: Option<Mid>,
    mut limit: usize,
    show: &mut impl FnMut(&[Row]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while limit > 0 {
        let rows = reader.list(&ListQuery {
            limit: Some(limit.min(PAGE)),
            before: None,
            after,
            order: Order::OldestFirst,
        })?;
        let Some(last) = rows.last() else { break };
        after = Some(last.mid);
        limit -= rows.len().min(limit);
        show(&rows)?;
    }
    Ok(())
}

/// What a person reads without scrolling far.
const SCREENFUL: usize = 50;

/// Rows in memory at a time; a row is some hundred bytes.
const PAGE: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  manent ls -n 20                    the newest 20
  manent ls 'status>=400' host:api   what failed there
  manent ls '~m POST & ~bq password' mitmproxy's filters, too
  manent ls | cut -f1,5              tab-separated when not on a terminal:
                                     mid, start, status, method, URL, type, response bytes, µs, state, error
  manent ls --json | jq -r 'select(.status >= 400) | .url'

Exit code 1 if there is no such flow.";
