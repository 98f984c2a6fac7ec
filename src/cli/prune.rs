//! `manent prune`: deletes flows, by filter or by limits.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::errors::CliError;
use super::output::Output;
use super::progress::Progress;
use super::stores::{self, Opened};
use super::{escape, search, text};
use crate::config::units::{parse_positive_duration, parse_size, parse_whole};
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{Freed, ListQuery, Marked, Order, Pruner, Reader};

/// Delete flows of one or more stores
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
    #[arg(long, value_name = "N", value_parser = parse_whole)]
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
    let stores = global.stores()?;
    let files = stores.some_files()?;
    let mut opened = Opened::new(&stores, output);
    if files.len() > 1 {
        if args.filter.iter().any(|word| mids(word).is_some()) {
            return Err(CliError::MidOfMany { stores: files.len() }.into());
        }
        if args.max_size.is_some() || args.max_flows.is_some() {
            return Err(CliError::LimitOfMany { stores: files.len() }.into());
        }
    }
    let words = args.filter.iter().map(|word| mids(word).unwrap_or_else(|| word.clone()));
    let filter = search::parse(&words.collect::<Vec<_>>())?;
    let names = stores::names(&files);
    let mut files: Vec<(&PathBuf, &str)> = files.iter().zip(names.iter().map(String::as_str)).collect();
    if !args.yes {
        let mut all = Freed::default();
        let mut with_some = Vec::new();
        for &(file, name) in &files {
            let weighed = weigh(args, file, filter.as_ref(), output);
            let Some(plan) = opened.keep_any(weighed)? else { continue };
            if opened.several && (plan.flows > 0 || args.dry_run) {
                output.say(&format!("{}  {}", escape::line(name), line(&plan, "would be deleted")));
            }
            if plan.flows > 0 {
                with_some.push((file, name));
            }
            all += plan;
        }
        if args.dry_run || all.flows == 0 {
            return tell(&all, "would be deleted", &opened, output);
        }
        output.say(&line(&all, "would be deleted"));
        if !is_confirmed(output) {
            return Err(CliError::NotConfirmed.into());
        }
        files = with_some;
    }
    let mut all = Freed::default();
    for (file, _) in files {
        let deleted = delete(args, file, filter.as_ref(), output);
        all += opened.keep_any(deleted)?.unwrap_or_default();
    }
    tell(&all, "deleted", &opened, output)
}

/// What would be deleted of a store.
fn weigh(args: &PruneArgs, file: &Path, filter: Option<&Filter>, output: &Output) -> anyhow::Result<Freed> {
    let reader = Reader::open(file)?;
    let mut weigh = |mids: &[Mid]| Ok(reader.weigh(mids, args.marked())?);
    let progress = Progress::new(output, "flows");
    sweep(args, &reader, filter, &mut weigh, &|found: &Freed| progress.count(found.flows))
}

/// Deletes flows of a store.
fn delete(args: &PruneArgs, file: &Path, filter: Option<&Filter>, output: &Output) -> anyhow::Result<Freed> {
    let reader = Reader::open(file)?;
    let mut pruner = Pruner::open(file)?;
    let mut delete = |mids: &[Mid]| Ok(pruner.delete(mids, args.marked())?);
    let progress = Progress::new(output, "flows");
    let freed = sweep(args, &reader, filter, &mut delete, &|freed: &Freed| progress.count(freed.flows))?;
    progress.clear();
    if pruner.is_beside_writer() && freed.flows > 0 {
        output.talk("The running capture gives the space back.");
    }
    let progress = Progress::of_bytes(output, "of a segment gone through");
    let step = |done, total| progress.at(done, total);
    // Reading on would keep SQLite from shortening its log.
    drop(reader);
    pruner.finish(step)?;
    Ok(freed)
}

impl PruneArgs {
    fn marked(&self) -> Marked {
        if self.marked { Marked::Delete } else { Marked::Keep }
    }
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

/// `12`, `12,15` and `40-60` would be looked for in URLs: the filter that they mean, if it is such a word.
fn mids(word: &str) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let item = |item: &str| match item.split_once('-') {
        Some((first, last)) if is_number(first) && is_number(last) => Some(format!("mid:{first}..{last}")),
        None if is_number(item) => Some(format!("mid:{item}")),
        _ => None,
    };
    let items = word.split(',').map(item).collect::<Option<Vec<_>>>()?;
    Some(format!("({})", items.join(" | ")))
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

fn tell(freed: &Freed, done: &str, opened: &Opened, output: &Output) -> anyhow::Result<ExitCode> {
    let Freed { flows, bytes, marked, open } = freed;
    match output.json {
        true => output.data_line(
            &json!({"flows": flows, "bytes": bytes, "marked_left": marked, "open_left": open}).to_string(),
        )?,
        false => output.talk(&line(freed, done)),
    }
    Ok(opened.exit_code(*flows > 0))
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
  manent prune -s 'flows-*.db' --max-age 30d   in each of several stores
  manent vacuum                              gives back every byte, and makes the database smaller

Works while a capture runs. Marked flows stay, unless --marked; flows that are under way stay.
Exit code 1 if there was nothing to delete, 4 if a store among several could not be had.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mids_are_no_words_of_urls() {
        for (word, filter) in [
            ("12", Some("(mid:12)")),
            ("12,15", Some("(mid:12 | mid:15)")),
            ("40-60,7", Some("(mid:40..60 | mid:7)")),
            ("a12", None),
            ("host:a", None),
            ("1-", None),
            ("", None),
        ] {
            assert_eq!(mids(word).as_deref(), filter);
        }
    }
}
