//! `manent stats`: what one or more stores hold, in numbers.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::args::Global;
use super::output::{Data, Output, Paint};
use super::progress::Progress;
use super::stores::{self, Opened};
use super::{escape, text};
use crate::config::units::parse_limit;
use crate::store::{Files, Reader, Session, SessionCounts, Stats, StoreError, Tally, TopList};

/// Say what one or more stores hold: flows, bytes, hosts, statuses, sessions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatsArgs {
    /// How many hosts, methods and types, the most frequent ones
    #[arg(long, value_name = "N", default_value = "10", value_parser = parse_limit)]
    top: usize,
}

pub(super) fn run(args: &StatsArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let stores = global.stores()?;
    let files = stores.some_files()?;
    let mut opened = Opened::new(&stores, output);
    // Of several stores, all names are counted, so that what is frequent in the sum is found.
    let top = if opened.several { args.top.max(Stats::ALL_NAMES) } else { args.top };
    let mut all: Option<Stats> = None;
    let mut parts = Vec::new();
    for (file, name) in files.iter().zip(stores::names(&files)) {
        let progress = Progress::new(output, "flows");
        let read = || -> Result<_, StoreError> {
            let reader = Reader::open(file)?;
            let stats = reader.stats(top, |done, total| progress.at(done, total))?;
            Ok((stats, reader.sessions(SESSIONS)?))
        };
        let Some((stats, sessions)) = opened.keep(read())? else { continue };
        parts.push(Part { name, all: stats.all, files: stats.files, sessions });
        match &mut all {
            Some(all) => all.add(stats),
            None => all = Some(stats),
        }
    }
    let Some(mut all) = all else { return Ok(opened.exit_code(false)) };
    all.truncate(args.top);
    if opened.several {
        all.mids = None;
    }
    let sessions = if opened.several { &[] } else { &parts[0].sessions[..] };
    if output.json {
        let mut object = to_json(&all, sessions);
        if opened.several {
            object["stores"] = parts.iter().map(Part::to_json).collect();
        }
        output.data_line(&object.to_string())?;
        return Ok(opened.exit_code(true));
    }
    let mut page = Page { data: output.data(), paint: output.paint };
    page.all(&all)?;
    if opened.several {
        page.list("stores", true, parts.iter().map(|part| (escape::line(&part.name), &part.all)))?;
    }
    page.sessions(sessions)?;
    page.data.flush()?;
    Ok(opened.exit_code(true))
}

/// One of several stores.
struct Part {
    name: String,
    all: Tally,
    files: Files,
    sessions: Vec<Session>,
}

impl Part {
    fn to_json(&self) -> Value {
        json!({
            "store": self.name, "flows": self.all.flows, "bytes": self.all.bytes, "files": files_json(&self.files),
            "sessions": self.sessions.iter().map(session_json).collect::<Vec<_>>(),
        })
    }
}

struct Page {
    data: Data,
    paint: Paint,
}

impl Page {
    fn all(&mut self, stats: &Stats) -> io::Result<()> {
        let mids = stats.mids.map(|(low, high)| format!("  mids {low}–{high}")).unwrap_or_default();
        writeln!(self.data, "flows     {}{mids}", stats.all.flows)?;
        let (up, down) = (text::size(stats.request_bytes), text::size(stats.response_bytes));
        writeln!(self.data, "bytes     {up} in requests, {down} in responses")?;
        if let Some((first, last)) = stats.span_unix_ns {
            writeln!(self.data, "time      {} to {}", text::local(first), text::local(last))?;
        }
        let files = &stats.files;
        let (database, wal) = (text::size(files.database), text::size(files.wal));
        let segments = text::count(files.segment_count, "segment");
        let segments = match files.packed {
            0 => format!("{} in {segments}", text::size(files.segments)),
            bytes if files.segment_count == 0 => {
                format!("{} of the database packed bodies", text::size(bytes))
            }
            bytes => format!("{} in {segments}, {} packed", text::size(files.segments), text::size(bytes)),
        };
        writeln!(self.data, "files     {database} database, {wal} log, {segments}")?;
        let (marked, commented) = (stats.marked, stats.commented);
        if marked > 0 || commented > 0 {
            writeln!(self.data, "notes     {marked} marked, {commented} with a comment")?;
        }
        self.list("kinds", true, stats.kinds.iter())?;
        self.list("states", true, stats.states.iter())?;
        let classes = classes(stats);
        self.list("statuses", true, classes.iter().map(|(class, tally)| (format!("{class}xx"), tally)))?;
        self.list("", true, stats.statuses.iter())?;
        self.top("hosts", &stats.hosts)?;
        self.top("methods", &stats.methods)?;
        self.top("types", &stats.types)?;
        for (at, (name, tally)) in stats.tags.iter().enumerate() {
            self.heading(at, "tags", true)?;
            writeln!(self.data, "{:>9}         {}", tally.flows, escape::line(name))?;
        }
        Ok(())
    }

    fn top(&mut self, what: &str, list: &TopList) -> io::Result<()> {
        let shown = |name: &str| if name.is_empty() { "(none)".to_owned() } else { escape::line(name) };
        self.list(what, list.exact, list.names.iter().map(|(name, tally)| (shown(name), tally)))
    }

    /// Flows, bytes, name; a line each. Without a heading, it goes on with the list before.
    fn list<'a, N: Display>(
        &mut self,
        what: &str,
        exact: bool,
        names: impl Iterator<Item = (N, &'a Tally)>,
    ) -> io::Result<()> {
        for (at, (name, tally)) in names.enumerate() {
            self.heading(at, what, exact)?;
            writeln!(self.data, "{:>9}  {:>5}  {name}", tally.flows, text::size(tally.bytes))?;
        }
        Ok(())
    }

    fn heading(&mut self, at: usize, what: &str, exact: bool) -> io::Result<()> {
        if at > 0 || what.is_empty() {
            return Ok(());
        }
        let note = if exact { "" } else { "   (too many to count each: some are higher)" };
        writeln!(self.data, "\n{}{note}", self.paint.bold(what))
    }

    fn sessions(&mut self, sessions: &[Session]) -> io::Result<()> {
        for (at, session) in sessions.iter().enumerate() {
            self.heading(at, "sessions", true)?;
            let ended = match session.ended_unix_ns {
                Some(at) => format!("to {}", text::local(at)),
                None => self.paint.yellow("not closed: it is running, or was cut off"),
            };
            write!(self.data, "{:>9}  {} {ended}", session.id, text::local(session.started_unix_ns))?;
            for words in [&session.label, &session.listen] {
                if !words.is_empty() {
                    write!(self.data, "  {}", escape::line(words))?;
                }
            }
            writeln!(self.data)?;
            if let Some(counts) = &session.counts {
                writeln!(self.data, "           {}", counted(counts))?;
            }
        }
        Ok(())
    }
}

/// Losses are told where there are some.
fn counted(counts: &SessionCounts) -> String {
    let SessionCounts { stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes } = *counts;
    let mut told = vec![format!("{} stored", text::count(stored, "flow"))];
    if messages > 0 {
        told.push(format!("{} stored", text::count(messages, "message")));
    }
    told.push(format!("{} of {}", text::count(groups, "group"), text::size(record_bytes)));
    for (count, what) in [(lost, "flow"), (lost_messages, "message")] {
        if count > 0 {
            told.push(format!("{} LOST", text::count(count, what)));
        }
    }
    match lost_bodies {
        0 => {}
        1 => told.push("1 body LOST".to_owned()),
        count => told.push(format!("{count} bodies LOST")),
    }
    told.join(", ")
}

/// Tallies by the first digit of the status (RFC 9110 §15).
fn classes(stats: &Stats) -> std::collections::BTreeMap<u16, Tally> {
    let mut classes = std::collections::BTreeMap::<u16, Tally>::new();
    for (status, tally) in &stats.statuses {
        let class = classes.entry(status / 100).or_default();
        class.flows += tally.flows;
        class.bytes = class.bytes.saturating_add(tally.bytes);
    }
    classes
}

fn to_json(stats: &Stats, sessions: &[Session]) -> Value {
    let tally = |tally: &Tally| json!({"flows": tally.flows, "bytes": tally.bytes});
    fn named<K: Display>(tallies: impl Iterator<Item = (K, Value)>) -> Value {
        Value::Object(tallies.map(|(name, tally)| (name.to_string(), tally)).collect::<Map<_, _>>())
    }
    let top = |list: &TopList| {
        let names = list
            .names
            .iter()
            .map(|(name, tally)| json!({"name": name, "flows": tally.flows, "bytes": tally.bytes}));
        json!({"exact": list.exact, "top": names.collect::<Vec<_>>()})
    };
    let span = stats.span_unix_ns;
    json!({
        "flows": stats.all.flows,
        "first_mid": stats.mids.map(|(low, _)| low),
        "last_mid": stats.mids.map(|(_, high)| high),
        "request_bytes": stats.request_bytes,
        "response_bytes": stats.response_bytes,
        "first_started": span.map(|(first, _)| text::utc(first)),
        "last_started": span.map(|(_, last)| text::utc(last)),
        "files": files_json(&stats.files),
        "marked": stats.marked,
        "commented": stats.commented,
        "kinds": named(stats.kinds.iter().map(|(name, t)| (name, tally(t)))),
        "states": named(stats.states.iter().map(|(name, t)| (name, tally(t)))),
        "status_classes": named(classes(stats).iter().map(|(class, t)| (format!("{class}xx"), tally(t)))),
        "statuses": named(stats.statuses.iter().map(|(status, t)| (status, tally(t)))),
        "hosts": top(&stats.hosts),
        "methods": top(&stats.methods),
        "types": top(&stats.types),
        "tags": stats.tags.iter().map(|(name, t)| json!({"name": name, "flows": t.flows})).collect::<Vec<_>>(),
        "sessions": sessions.iter().map(session_json).collect::<Vec<_>>(),
    })
}

fn files_json(files: &Files) -> Value {
    json!({
        "database_bytes": files.database, "wal_bytes": files.wal, "segment_bytes": files.segments,
        "segments": files.segment_count, "packed_bytes": files.packed,
    })
}

fn session_json(session: &Session) -> Value {
    let counts = session.counts.as_ref().map(|counts| {
        json!({
            "stored": counts.stored, "lost": counts.lost, "lost_bodies": counts.lost_bodies,
            "messages": counts.messages, "lost_messages": counts.lost_messages, "groups": counts.groups,
            "record_bytes": counts.record_bytes,
        })
    });
    json!({
        "id": session.id,
        "started": text::utc(session.started_unix_ns),
        "ended": session.ended_unix_ns.map(text::utc),
        "closed": session.ended_unix_ns.is_some(),
        "label": session.label,
        "listen": session.listen,
        "version": session.version,
        "counts": counts,
    })
}

/// The last openings; who wants all has the database.
const SESSIONS: usize = 10;

const EXAMPLES: &str = "\
Examples:
  manent stats
  manent stats --top 50
  manent stats --json | jq '.hosts.top[0]'
  manent stats -s 'flows-*.db'       of several stores together, and how much each has

Works while a capture runs. Exit code 4 if a store among several could not be read.";
