//! `manent ls`: the flows of one or more stores, newest last.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::args::Global;
use super::columns::{ColumnFlags, Lines};
use super::errors::CliError;
use super::merged::{Found, Merged, PAGE, Part};
use super::output::Output;
use super::search;
use super::stores::{self, Opened, Stores};
use crate::config::units::{parse_limit, parse_whole};
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::Order;

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
    /// At most this many [default: 50 on a terminal, else all]. The newest ones, unless --after or --oldest is given
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
    /// Only flows before this one: with -n, the page before it
    #[arg(long, value_name = "MID", value_parser = parse_whole)]
    before: Option<u64>,
    /// Only flows after this one: with -n, the page that follows it
    #[arg(long, value_name = "MID", conflicts_with = "before", value_parser = parse_whole)]
    after: Option<u64>,
    /// With -n: the oldest ones, rather than the newest
    #[arg(long)]
    oldest: bool,
    #[command(flatten)]
    columns: ColumnFlags,
}

pub(super) fn run(args: &LsArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let filter = search::parse(&args.filter)?;
    if let Some(filter) = filter.as_ref().filter(|_| args.explain) {
        search::show_explanation(filter, &global.stores()?.files(), output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let stores = global.stores()?;
    let files = stores.some_files()?;
    if files.len() > 1 && (args.before.is_some() || args.after.is_some()) {
        return Err(CliError::MidOfMany { stores: files.len() }.into());
    }
    let mut parts = parts(files, &stores, filter);
    for part in &mut parts {
        (part.before, part.after) = (args.before.map(Mid), args.after.map(Mid));
    }
    let mut opened = Opened::new(&stores, output);
    let mut lines = Lines::new(&args.columns, output);
    let mut show = |page: &[Found]| Ok(lines.write(page)?);
    let on_screen = output.terminal && !output.json;
    let limit = args.limit.or(on_screen.then_some(SCREENFUL));
    let any = match limit {
        Some(limit) if !args.oldest && args.after.is_none() => newest(&parts, limit, &mut opened, &mut show)?,
        limit => from(&parts, limit.unwrap_or(usize::MAX), &mut opened, &mut show)?,
    };
    Ok(opened.exit_code(any))
}

/// All rows of these files, or those that match.
pub(super) fn parts(files: Vec<PathBuf>, stores: &Stores, filter: Option<Filter>) -> Vec<Part> {
    let named = stores.single().is_none();
    let names = stores::names(&files);
    let filter = filter.map(Arc::new);
    let part = |(path, name): (PathBuf, String)| {
        let name = named.then(|| Arc::from(name));
        Part { path, name, after: None, before: None, filter: filter.clone() }
    };
    files.into_iter().zip(names).map(part).collect()
}

/// Shows the newest `limit` flows, oldest of them first; whether there are any.
pub(super) fn newest(
    parts: &[Part],
    limit: usize,
    opened: &mut Opened,
    show: &mut Show<'_>,
) -> anyhow::Result<bool> {
    let mut page = Vec::new();
    // More than fits in memory at once, perhaps: then it is enough to know where to begin.
    let mut begin: HashMap<usize, Mid> = HashMap::new();
    let mut merged = Merged::open(parts, Order::NewestFirst, limit, opened)?;
    let mut count = 0;
    while count < limit
        && let Some(found) = merged.next(opened)?
    {
        count += 1;
        begin.insert(found.part, found.row.mid);
        if count <= PAGE {
            page.push(found);
        }
    }
    if count > PAGE {
        drop(page);
        opened.unreadable = 0; // they come by once more
        let from_there = |(at, part): (usize, &Part)| match begin.get(&at) {
            Some(first) => Part { after: Some(Mid(first.0.saturating_sub(1))), ..part.clone() },
            None => Part { before: Some(Mid(0)), ..part.clone() },
        };
        let parts: Vec<Part> = parts.iter().enumerate().map(from_there).collect();
        return from(&parts, limit, opened, show);
    }
    page.reverse();
    show(&page)?;
    Ok(count > 0)
}

/// Shows up to `limit` flows from the oldest on, page by page; whether there are any.
fn from(parts: &[Part], limit: usize, opened: &mut Opened, show: &mut Show<'_>) -> anyhow::Result<bool> {
    let mut merged = Merged::open(parts, Order::OldestFirst, limit, opened)?;
    let mut page: Vec<Found> = Vec::new();
    let mut left = limit;
    while left > 0
        && let Some(found) = merged.next(opened)?
    {
        left -= 1;
        page.push(found);
        // What a filter lets through comes in small pages, perhaps with long pauses.
        if page.len() == PAGE || merged.must_search() {
            show(&page)?;
            page.clear();
        }
    }
    show(&page)?;
    Ok(left < limit)
}

/// Shows a page of rows.
pub(super) type Show<'a> = dyn FnMut(&[Found]) -> anyhow::Result<()> + 'a;

/// What a person reads without scrolling far.
const SCREENFUL: usize = 50;

const EXAMPLES: &str = "\
Examples:
  manent ls -n 20                    the newest 20
  manent ls 'status>=400' host:api   what failed there
  manent ls '~m POST & ~bq password' mitmproxy's filters, too
  manent ls -n 20 --before 1041      the 20 before these
  manent ls | cut -f1,5              tab-separated when not on a terminal: mid, start, status,
                                     method, URL, type, response bytes, µs, state, error
  manent ls --columns mid,host,path  only these, in this order; with --json, only these keys
  manent ls -s 'flows-*.db'          of several stores, in order of time; each row tells its store
  manent ls --json | jq -r 'select(.status >= 400) | .url'

Exit code 1 if there is no such flow; 4 if a store among several could not be read.";
