//! Lists and searches in a store of a million flows (or ten): how long a page takes, anywhere, and how much memory.
//!
//! The store is made first (see [`Mix::Tiny`]), or taken from `--store FILE`, where it stays for the next run. A process of its
//! own reads it, so that its memory is that of reading alone. Each query is run at many places of the store; the first time
//! is told by itself, since nothing is in this process's cache then (the kernel's is warm).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use manent::flow::Mid;
use manent::store::{ListQuery, Order, Reader};

use crate::generator::Mix;
use crate::measure::{self, Limit, Sorted, as_f64, digits, millis, note, verdict};
use crate::plan::Plan;
use crate::recorder::fill;
use crate::web::{Chance, Web};

/// First argument of this program when it is the reading process; the store follows.
pub(crate) const READER_FLAG: &str = "--read";

/// A query and its limits.
struct Query {
    name: &'static str,
    /// In a store of a million, and in larger ones, in milliseconds.
    limits_ms: (f64, f64),
    /// Runs it with rows before a mid; how many rows it gave.
    run: fn(&Reader, Mid) -> Result<usize>,
}

/// What is measured. A new one is one line.
const QUERIES: &[Query] = &[
    Query {
        name: "50 newest",
        limits_ms: (5.0, 10.0),
        run: |reader, _| page(reader, None, Order::NewestFirst),
    },
    Query {
        name: "50 before any mid",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| page(reader, Some(mid), Order::NewestFirst),
    },
    Query {
        name: "50 oldest",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| page(reader, Some(mid), Order::OldestFirst),
    },
    Query {
        name: "a whole flow by mid",
        limits_ms: (5.0, 10.0),
        run: |reader, mid| Ok(usize::from(reader.load(mid, 1 << 20)?.is_some())),
    },
];

pub(crate) async fn run(plan: &Plan, dir: &Path) -> Result<()> {
    let path = store(plan, dir).await?;
    // Its lines go where ours go.
    let status = Command::new(std::env::current_exe()?).arg(READER_FLAG).arg(&path).status()?;
    ensure!(status.success(), "the reading process ended with {status}");
    Ok(())
}

/// The store that is read, made unless it is there.
async fn store(plan: &Plan, dir: &Path) -> Result<PathBuf> {
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
    Ok(path)
}

/// The reading process.
pub(crate) fn read(path: &Path) -> Result<()> {
    let reader = Reader::open(path)?;
    let (Mid(low), Mid(high), count) = reader.bounds()?.context("an empty store")?;
    let mut chance = Chance::new(5);
    for query in QUERIES {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..PLACES {
            let mid = Mid(low + 1 + chance.below(high - low));
            let started = Instant::now();
            rows += (query.run)(&reader, mid)?;
            times.push(started.elapsed());
        }
        ensure!(rows > 0, "{} found nothing", query.name);
        let first = millis(times[0]);
        let times = Sorted::new(times);
        let limit = if count > 2_000_000 { query.limits_ms.1 } else { query.limits_ms.0 };
        let name = format!(
            "{}, p99 (first {}, p50 {})",
            query.name,
            digits(first),
            digits(millis(times.percentile(50)))
        );
        verdict(&name, millis(times.percentile(99)), "ms", Limit::AtMost(limit));
    }
    verdict("memory of the reading process", as_f64(measure::peak_rss_mib()?), "MiB", Limit::AtMost(64.0));
    Ok(())
}

fn page(reader: &Reader, before: Option<Mid>, order: Order) -> Result<usize> {
    Ok(reader.list(&ListQuery { limit: Some(50), before, order, ..ListQuery::default() })?.len())
}

/// How often each query is run, each time at another place.
const PLACES: usize = 200;
