//! `manent prune`: deletes flows, by filter or by limits.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::errors::{self, CliError};
use super::output::Output;
use super::{search, text};
use crate::config::units::{parse_positive_duration, parse_size};
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{Freed, ListQuery, Marked, Order, Pruner, Reader};

/// Delete flows
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// Those that match; words are joined by blanks. 12, 12,15 and 40-60 are mids
    #[arg(value_name = "FILTER", conflicts_with_all = ["max_age", "max_size", "max_flows"])]
    #[arg(required_unless_present_any = ["max_age", "max_size", "max_flows"])]
    filter: Vec<String>,
    /// Those that began longer ago
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    max_age: Option<Duration>,
    /// The oldest, until the store's live bytes are no more than this
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// The oldest, until there are no more than this
    #[arg(long, value_name = "N")]
    max_flows: Option<u64>,
    /// Delete marked flows too
    #[arg(long)]
    marked: bool,
    /// Say what would be deleted, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
}

pub(super) fn run(args: &PruneArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let path = global.store()?;
    let reader = Reader::open(&path)?;
    let filter = search::parse(&args.filter.iter().map(|word| mids_as_filter(word)).collect::<Vec<_>>())?;
    let marked = if args.marked { Marked::Delete } else { Marked::Keep };
    let progress = |freed: &Freed| output.progress(&format!("{} so far", text::count(freed.flows, "flow")));
    if !args.yes {
        let mut weigh = |mids: &[Mid]| Ok(reader.weigh(mids, marked)?);
        let plan = sweep(args, &reader, filter.as_ref(), &mut weigh, &progress)?;
        output.progress("");
        if args.dry_run || plan.flows == 0 {
            return tell(&plan, "would be deleted", output);
        }
        output.say(&line(&plan, "would be deleted"));
        if !is_confirmed(output) {
            return Err(CliError::NotConfirmed.into());
        }
    }
    let mut pruner = Pruner::open(&path)?;
    let mut delete = |mids: &[Mid]| Ok(pruner.delete(mids, marked)?);
    let freed = sweep(args, &reader, filter.as_ref(), &mut delete, &progress)?;
    if pruner.is_beside_writer() {
        output.talk("The running capture gives the space back.");
    }
    let step = |done, total| {
        output.progress(&format!("{} of {} of a segment gone through", text::size(done), text::size(total)));
    };
    // Reading on would keep SQLite from shortening its log.
    drop(reader);
    pruner.finish(step)?;
    output.progress("");
    tell(&freed, "deleted", output)
}

/// Gives `work` the flows that are meant, a page at a time, oldest first.
fn sweep(
    args: &PruneArgs,
    reader: &Reader,
    filter: Option<&Filter>,
    work: &mut dyn FnMut(&[Mid]) -> anyhow::Result<Freed>,
    progress: &dyn Fn(&Freed),
) -> anyhow::Result<Freed> {
    let mut freed = Freed::default();
    let mut page = |mids: &[Mid]| -> anyhow::Result<Freed> {
        freed += work(mids)?;
        progress(&freed);
        Ok(freed)
    };
    match filter {
        Some(filter) => search::all(reader, filter, &mut |rows| {
            page(&rows.iter().map(|row| row.mid).collect::<Vec<_>>()).map(drop)
        })
        .map(drop)?,
        None => oldest(args, reader, &mut page)?,
    }
    Ok(freed)
}

/// The flows beyond the limits.
fn oldest(
    args: &PruneArgs,
    reader: &Reader,
    page: &mut dyn FnMut(&[Mid]) -> anyhow::Result<Freed>,
) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cutoff =
        args.max_age.map(|age| i64::try_from(now.saturating_sub(age).as_nanos()).unwrap_or(i64::MAX));
    let count = reader.bounds()?.map_or(0, |(_, _, count)| count);
    let excess_flows = args.max_flows.map_or(0, |max| count.saturating_sub(max));
    let live = if args.max_size.is_some() { reader.live_bytes()? } else { 0 };
    let excess_bytes = args.max_size.map_or(0, |max| live.saturating_sub(max));
    let (mut freed, mut after) = (Freed::default(), None);
    loop {
        let rows =
            reader.list(&ListQuery { limit: Some(PAGE), before: None, after, order: Order::OldestFirst })?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.mid);
        let too_old = rows.iter().take_while(|row| cutoff.is_some_and(|cutoff| row.started_unix_ns < cutoff));
        let too_old = too_old.count();
        let flows = usize::try_from(excess_flows.saturating_sub(freed.flows)).unwrap_or(usize::MAX);
        let bytes = if freed.bytes < excess_bytes { rows.len() } else { 0 };
        let due = too_old.max(flows).max(bytes).min(rows.len());
        if due == 0 {
            return Ok(());
        }
        freed = page(&rows[..due].iter().map(|row| row.mid).collect::<Vec<_>>())?;
    }
}

/// `12`, `12,15` and `40-60` would be looked for in URLs.
fn mids_as_filter(word: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let item = |item: &str| match item.split_once('-') {
        Some((first, last)) if is_number(first) && is_number(last) => Some(format!("mid:{first}..{last}")),
        None if is_number(item) => Some(format!("mid:{item}")),
        _ => None,
    };
    match word.split(',').map(item).collect::<Option<Vec<_>>>() {
        Some(items) => format!("({})", items.join(" | ")),
        None => word.to_owned(),
    }
}

fn is_confirmed(output: &Output) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    output.say("Delete? [y/N]");
    let mut answer = String::new();
    // An answer that cannot be read is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

fn tell(freed: &Freed, done: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let Freed { flows, bytes, marked, open } = freed;
    match output.json {
        true => output.data_line(
            &json!({"flows": flows, "bytes": bytes, "marked_left": marked, "open_left": open}).to_string(),
        )?,
        false => output.talk(&line(freed, done)),
    }
    Ok(if *flows > 0 { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

fn line(freed: &Freed, done: &str) -> String {
    let mut line = format!("{} {done}, {}", text::count(freed.flows, "flow"), text::size(freed.bytes));
    for (left, why) in [(freed.marked, "marked"), (freed.open, "under way")] {
        if left > 0 {
            line += &format!("; {left} left, {why}");
        }
    }
    line
}

/// Rows in memory at a time, and about how exact `--max-size` is.
const PAGE: usize = 250;

const EXAMPLES: &str = "\
Examples:
  manent prune --max-age 30d --dry-run       what that would delete
  manent prune --max-size 2G --yes           the oldest, until what is left fits
  manent prune 'host:ads.example.com'        asks first, on a terminal
  manent prune 40-60                         by mid
  manent vacuum                              gives back every byte, and makes the database smaller

Works while a capture runs. Marked flows stay, unless --marked; flows that are under way stay.
Exit code 1 if there was nothing to delete.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mids_are_no_words_of_urls() {
        for (word, filter) in [
            ("12", "(mid:12)"),
            ("12,15", "(mid:12 | mid:15)"),
            ("40-60,7", "(mid:40..60 | mid:7)"),
            ("a12", "a12"),
            ("host:a", "host:a"),
            ("1-", "1-"),
            ("", ""),
        ] {
            assert_eq!(mids_as_filter(word), filter);
        }
    }
}
