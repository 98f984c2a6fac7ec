//! Lists and filters in a store of a million flows (or ten): how long a page takes, anywhere, and how much memory.
//!
//! The store is made first (see [`Mix::Tiny`]), or taken from `--store FILE`, where it stays for the next run. A process of its
//! own reads it, so that its memory is that of reading alone. Each list is read at many places of the store; the first time
//! is told by itself, since nothing is in this process's cache then (the kernel's is warm). Filters ask for the newest 50
//! that match, before many places; beside each stands the same search without zones, which has to look at each row.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use manent::filter::{Expr, Filter, Number, Ranges, Test};
use manent::flow::Mid;
use manent::store::{
    Durability, Limits, ListQuery, Order, PageCache, Reader, Row, Search, Writer, WriterOptions,
};
use rusqlite::Connection;

use crate::generator::Mix;
use crate::measure::{self, Limit, Sorted, as_f64, digits, millis, note, verdict};
use crate::plan::Plan;
use crate::recorder::fill;
use crate::web::{Chance, RARE_HOST, Web};

/// First argument of this program when it is the reading process; the store follows.
pub(crate) const READER_FLAG: &str = "--read";

/// A list and its limits.
struct List {
    name: &'static str,
    /// In a store of a million, and in larger ones, in milliseconds.
    limits_ms: (f64, f64),
    /// Runs it with rows before a mid; how many rows it gave.
    run: fn(&Reader, Mid) -> Result<usize>,
}

/// What is measured. A new one is one line.
const LISTS: &[List] = &[
    List {
        name: "50 newest",
        limits_ms: (5.0, 10.0),
        run: |reader, _| page(reader, None, Order::NewestFirst),
    },
    List {
        name: "50 before any mid",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| page(reader, Some(mid), Order::NewestFirst),
    },
    List {
        name: "50 oldest",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| page(reader, Some(mid), Order::OldestFirst),
    },
    List {
        name: "a whole flow by mid",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| Ok(usize::from(reader.load(mid, 1 << 20)?.is_some())),
    },
];

/// Filters, with their limit in a store of a million, in milliseconds.
const FILTERS: &[(&str, &str, f64)] = &[
    ("a frequent host", "host:cdn", 20.0),
    ("a rare host", RARE_HOST, 20.0),
    ("a host that does not occur", "host=none.example", 20.0),
    ("status 500", "status=500", 20.0),
    ("status 418, none", "status=418", 20.0),
    ("status >= 400", "status>=400", 20.0),
    ("method DELETE", "~m DELETE", 20.0),
    ("method PURGE, none", "~m PURGE", 20.0),
    ("status, host and method", "status=404 host:api ~m POST", 20.0),
    ("a minute", MINUTE, 20.0),
    ("a text of URLs, frequent", "~u chunk", 100.0),
    ("a text of URLs, rare", "~u redirect_to=needle", 100.0),
    ("a text of URLs, none", "~u nosuchthing", 100.0),
];

pub(crate) async fn run(plan: &Plan, dir: &Path) -> Result<()> {
    let path = store(plan, dir).await?;
    // Its lines go where ours go.
    let status = Command::new(std::env::current_exe()?).arg(READER_FLAG).arg(&path).status()?;
    ensure!(status.success(), "the reading process ended with {status}");
    Ok(())
}

/// The store that is read, made unless it is there.
pub(crate) async fn store(plan: &Plan, dir: &Path) -> Result<PathBuf> {
    let path = plan.store.clone().unwrap_or_else(|| dir.join("queries.db"));
    let there = if path.exists() { Reader::open(&path)?.bounds()?.map_or(0, |(.., count)| count) } else { 0 };
    if there > 0 {
        note("flows in the store, as it was", &there.to_string());
        return Ok(path);
    }
    let (web, started) = (Web::new(), Instant::now());
    let stats = fill(&web, &path, Mix::Tiny, plan.sizes.queries).await?;
    let took = started.elapsed().as_secs_f64();
    let speed = as_f64(stats.stored) / took;
    note(
        "flows in the store, made just now",
        &format!("{} in {took:.1} s, {}/s", stats.stored, digits(speed)),
    );
    make_zones(&path, as_f64(stats.stored))?;
    Ok(path)
}

/// Takes the zones away that came with the flows, and makes them of their rows.
fn make_zones(path: &Path, flows: f64) -> Result<()> {
    let conn = Connection::open(path)?;
    let free = || conn.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
    let before = free()?;
    conn.execute_batch("DELETE FROM zone; DELETE FROM zone_url")?;
    let pages = free()?.saturating_sub(before);
    drop(conn);
    let options = WriterOptions {
        durability: Durability::Full,
        queue_bytes: 1 << 20,
        label: String::new(),
        listen: String::new(),
        limits: Limits::default(),
        cache: PageCache::default(),
    };
    let mut writer = Writer::open(path, &options)?;
    let (cpu, started) = (measure::cpu_time()?, Instant::now());
    ensure!(writer.make_zones(Duration::from_secs(600))?, "zones could not be made in ten minutes");
    let (cpu, took) = (measure::cpu_time()? - cpu, started.elapsed());
    writer.close()?;
    let us = |time: Duration| digits(time.as_secs_f64() * 1e6 / flows);
    note("zones made of rows: CPU, time and bytes a flow", &{
        format!(
            "{} µs, {} µs, {}",
            us(cpu),
            us(took),
            digits(as_f64(pages.cast_unsigned() * PAGE_BYTES) / flows)
        )
    });
    Ok(())
}

/// The reading process.
pub(crate) fn read(path: &Path) -> Result<()> {
    let reader = Reader::open(path)?;
    let (Mid(low), Mid(high), count) = reader.bounds()?.context("an empty store")?;
    let is_larger = count > 2_000_000;
    let mut chance = Chance::new(5);
    let mut place = || Mid(low + 1 + chance.below(high - low));
    for list in LISTS {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..PLACES {
            let mid = place();
            let started = Instant::now();
            rows += (list.run)(&reader, mid)?;
            times.push(started.elapsed());
        }
        ensure!(rows > 0, "{} found nothing", list.name);
        let limit = if is_larger { list.limits_ms.1 } else { list.limits_ms.0 };
        told(list.name, times, Some(limit));
    }
    for &(name, filter, limit) in FILTERS {
        let filter = match filter {
            MINUTE => minute(&reader, Mid(low + (high - low) / 2))?,
            RARE_HOST => format!("host={RARE_HOST}").parse()?,
            filter => filter.parse()?,
        };
        let (mut times, mut found) = (Vec::new(), Vec::new());
        for at in 0..FILTER_PLACES {
            // The first from the newest on, for most people look there, and what does not occur is looked for everywhere.
            let search =
                Search { before: (at > 0).then(&mut place), limit: Some(50), ..Search::new(&filter) };
            let started = Instant::now();
            let mids = mids(|see| reader.search(&search, see, &mut |_| ControlFlow::Continue(())))?;
            times.push(started.elapsed());
            if at == 0 {
                found = mids;
            }
        }
        let search = Search { limit: Some(50), ..Search::new(&filter) };
        let started = Instant::now();
        let all = &mut std::iter::once((Mid(0), Mid(u64::MAX)));
        let scanned = mids(|see| reader.search_in(&search, all, see, &mut |_| ControlFlow::Continue(())))?;
        let scan = millis(started.elapsed());
        ensure!(found == scanned, "{name}: zones leave out what matches");
        // Of larger stores, nothing is promised.
        told(name, times, (!is_larger).then_some(limit));
        note("    rows found; the same without zones", &format!("{}; {} ms", found.len(), digits(scan)));
    }
    verdict("memory of the reading process", as_f64(measure::peak_rss_mib()?), "MiB", Limit::AtMost(64.0));
    Ok(())
}

fn told(name: &str, times: Vec<Duration>, limit: Option<f64>) {
    let first = millis(times[0]);
    let times = Sorted::new(times);
    let (middle, high) = (millis(times.percentile(50)), millis(times.percentile(99)));
    let name = format!("{name}, p99 (first {}, p50 {})", digits(first), digits(middle));
    match limit {
        Some(limit) => verdict(&name, high, "ms", Limit::AtMost(limit)),
        None => note(&name, &format!("{} ms", digits(high))),
    }
}

fn mids<T>(
    search: impl FnOnce(&mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<T, manent::store::StoreError>,
) -> Result<Vec<Mid>> {
    let mut mids = Vec::new();
    search(&mut |row| {
        mids.push(row.mid);
        ControlFlow::Continue(())
    })?;
    Ok(mids)
}

/// What began in the minute after a flow did.
fn minute(reader: &Reader, mid: Mid) -> Result<Filter> {
    let from = reader.row(mid)?.context("no flow in the middle")?.started_unix_ns;
    let range = Ranges::one(from, from + 60_000_000_000).context("an empty minute")?;
    Ok(Filter::from(Expr::Test(Test::Number(Number::Started, range))))
}

fn page(reader: &Reader, before: Option<Mid>, order: Order) -> Result<usize> {
    Ok(reader.list(&ListQuery { limit: Some(50), before, order, ..ListQuery::default() })?.len())
}

/// How often each list is read, each time at another place.
const PLACES: usize = 200;

/// The same of filters.
const FILTER_PLACES: usize = 20;

/// Stands for a filter that depends on the store.
const MINUTE: &str = "";

/// Of the database.
const PAGE_BYTES: u64 = 8192;
