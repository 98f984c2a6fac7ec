//! How long a flow that has ended waits to be announced, at a rate and flat out, while a reader pages through the store.
//!
//! Flows of 2 KiB end by a schedule; the feed of commits tells when each is announced. All the while one thread reads the
//! store as a page would: 50 rows at a time from the newest to the oldest and again, with one whole flow of each page.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use manent::flow::Mid;
use manent::record::{Committed, Recorder, RecorderOptions};
use manent::store::{Limits, ListQuery, Reader};
use tokio::sync::broadcast::Receiver;

use crate::generator::{Generator, Mix};
use crate::measure::{self, Limit, Sorted, as_f64, digits, millis, note, verdict};
use crate::plan::Plan;
use crate::recorder::{record, remove};
use crate::web::Web;

pub(crate) async fn at_rates(plan: &Plan, dir: &Path) -> Result<()> {
    for rate in [1_000, 10_000] {
        let count = (rate * plan.sizes.paced_seconds).max(100);
        let seen = run(dir, count, Some(rate), Limits::default()).await?;
        report(&format!("finish to committed at {rate}/s"), seen);
    }
    Ok(())
}

/// The same while the oldest flows are deleted and their segments reclaimed, all the time.
pub(crate) async fn within_limits(plan: &Plan, dir: &Path) -> Result<()> {
    for rate in [1_000, 10_000] {
        let count = (rate * plan.sizes.paced_seconds).max(100);
        // A second's flows are left, and a third of what comes has to go.
        let limits = Limits { max_flows: Some(rate), max_size_bytes: Some(64 << 20), ..Limits::default() };
        let seen = run(dir, count, Some(rate), limits).await?;
        note("flows and bytes of the store at the end", &{
            format!("{} of at most {rate}, {} MB of at most 67", seen.left, seen.bytes / 1_000_000)
        });
        report(&format!("finish to committed at {rate}/s, oldest deleted"), seen);
    }
    Ok(())
}

pub(crate) fn report(name: &str, seen: Seen) {
    let waits = Sorted::new(seen.waits);
    note(&format!("{name}, p50, most"), &{
        let (middle, most) = (millis(waits.percentile(50)), millis(waits.most()));
        format!("{} ms, {} ms; {} µs CPU a flow", digits(middle), digits(most), digits(seen.cpu_us))
    });
    verdict(&format!("{name}, p99"), millis(waits.percentile(99)), "ms", Limit::AtMost(50.0));
    note("pages that the reader read meanwhile", &seen.pages.to_string());
}

pub(crate) async fn longest_commit(plan: &Plan, dir: &Path) -> Result<()> {
    let seen = run(dir, plan.sizes.small, None, Limits::default()).await?;
    let (waits, gaps) = (Sorted::new(seen.waits), Sorted::new(seen.gaps));
    note("finish to committed flat out, p50, p99", &{
        let (middle, high) = (millis(waits.percentile(50)), millis(waits.percentile(99)));
        format!("{} ms, {} ms", digits(middle), digits(high))
    });
    note("from one commit to the next, p50, most", &{
        format!("{} ms, {} ms", digits(millis(gaps.percentile(50))), digits(millis(gaps.most())))
    });
    verdict("from one commit to the next, p99", millis(gaps.percentile(99)), "ms", Limit::AtMost(100.0));
    Ok(())
}

/// What was seen in a run.
pub(crate) struct Seen {
    waits: Vec<Duration>,
    /// Between the commits of groups, which follow each other at once when enough comes in.
    gaps: Vec<Duration>,
    pages: u64,
    cpu_us: f64,
    /// Of the store's files, before it was closed.
    bytes: u64,
    /// Flows that were in it then.
    left: u64,
}

async fn run(dir: &Path, count: u64, rate: Option<u64>, limits: Limits) -> Result<Seen> {
    let path = dir.join("latency.db");
    let seen = run_at(&path, count, rate, limits).await?;
    remove(&path)?;
    Ok(seen)
}

/// Records into the store at `path`, which may have flows.
pub(crate) async fn run_at(path: &Path, count: u64, rate: Option<u64>, limits: Limits) -> Result<Seen> {
    let web = Web::new();
    let recorder = Recorder::open(path, RecorderOptions { limits, ..RecorderOptions::default() }).await?;
    let before = Reader::open(path)?.bounds()?.map_or(0, |(_, highest, _)| highest.0);
    let origin = Instant::now();
    // When each flow ended, in nanoseconds from `origin`; its place is how many mids it is above those before.
    let ends: Arc<Vec<AtomicU64>> = Arc::new((0..=count).map(|_| AtomicU64::new(0)).collect());
    let commits = tokio::spawn(follow(recorder.commits(), origin, Arc::clone(&ends), before));
    let paging = Paging::start(path.to_owned());
    let cpu = measure::cpu_time()?;
    {
        let mut generator = Generator::new(&web, Mix::Small, || recorder.next_conn_id());
        let started = Instant::now();
        for done in 0..count {
            pace(done, rate, started).await;
            let made = generator.next();
            let mid = record(&recorder, made).await;
            // After the hand-over, so that its own time is not counted as waiting; a commit takes far longer than this.
            ends[usize::try_from(mid.0 - before)?].store(since(origin), Ordering::Release);
        }
    }
    let bytes = size(path);
    let left = Reader::open(path)?.bounds()?.map_or(0, |(_, _, count)| count);
    let stats = recorder.close().await?;
    let cpu = measure::cpu_time()? - cpu;
    let pages = paging.end()?;
    ensure!((stats.stored, stats.lost) == (count, 0), "not all is stored: {stats:?}");
    drop(recorder);
    let (waits, gaps) = commits.await??;
    let cpu_us = cpu.as_secs_f64() * 1e6 / as_f64(count);
    Ok(Seen { waits, gaps, pages, cpu_us, bytes, left })
}

/// Bytes of a store's files.
pub(crate) fn size(path: &Path) -> u64 {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let segments = std::fs::read_dir(with("-bodies")).into_iter().flatten().flatten();
    let files = [with(""), with("-wal")].into_iter().chain(segments.map(|entry| entry.path()));
    files.map(|file| std::fs::metadata(file).map_or(0, |m| m.len())).sum()
}

/// Notes when each flow is announced, until the recorder is gone.
async fn follow(
    mut commits: Receiver<Arc<[Committed]>>,
    origin: Instant,
    ends: Arc<Vec<AtomicU64>>,
    stored: u64,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut waits, mut gaps) = (Vec::with_capacity(ends.len()), Vec::new());
    let mut before = None;
    let mut at_once = 0_usize;
    loop {
        let group = match commits.recv().await {
            Ok(group) => group,
            Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
            Err(lagged) => return Err(anyhow!("the feed was not followed quickly enough: {lagged}")),
        };
        let now = since(origin);
        gaps.extend(before.map(|before| Duration::from_nanos(now - before)));
        before = Some(now);
        for Committed { mid: Mid(mid), .. } in group.iter() {
            match ends[usize::try_from(*mid - stored)?].load(Ordering::Acquire) {
                // Announced before the hand-over was over.
                0 => at_once += 1,
                ended => waits.push(Duration::from_nanos(now.saturating_sub(ended))),
            }
        }
    }
    waits.extend(std::iter::repeat_n(Duration::ZERO, at_once));
    Ok((waits, gaps))
}

fn since(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

async fn pace(done: u64, rate: Option<u64>, started: Instant) {
    if let Some(rate) = rate
        && done.is_multiple_of(10)
    {
        let due = Duration::from_secs_f64(as_f64(done) / as_f64(rate));
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
}

/// The reader beside the writer.
struct Paging {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Paging {
    fn start(path: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || page_through(&path, &over)
        });
        Self { over, thread }
    }

    fn end(self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn page_through(path: &Path, over: &AtomicBool) -> Result<u64> {
    let reader = Reader::open(path)?;
    let (mut pages, mut before) = (0, None);
    while !over.load(Ordering::Relaxed) {
        let rows = reader.list(&ListQuery { limit: Some(50), before, ..ListQuery::default() })?;
        before = rows.last().map(|row| row.mid);
        if let Some(row) = rows.first() {
            // Where the oldest are deleted, both go between two looks.
            let is_there = reader.load(row.mid, 1 << 20)?.is_some() || reader.row(row.mid)?.is_none();
            ensure!(is_there, "a row without a flow: {}", row.mid);
        }
        pages += 1;
        // As quick as an impatient person, not as quick as it can: two processors are for the writer, too.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(pages)
}
