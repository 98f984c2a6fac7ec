//! What Linux tells of this process, percentiles, raw appends as the yardstick, and how a figure is printed beside its limit.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Processor time of this process, user and system, all threads, to 10 ms.
pub(crate) fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the name in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a short stat")?.parse()?) };
    // proc(5): utime is field 14 and stime 15, counted from 1; `fields` begins with field 3.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * MILLIS_PER_TICK))
}

/// `/proc` counts in USER_HZ, which is 100 on every Linux that Rust runs on.
const MILLIS_PER_TICK: u64 = 10;

/// Bytes that this process gave to the system to write.
pub(crate) fn written() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    Ok(io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?.parse()?)
}

/// The most memory that this process had, in MiB.
pub(crate) fn peak_rss_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// A plain file that is appended to and synced: what the disk allows. It goes away with its handle.
pub(crate) struct Raw {
    path: PathBuf,
    file: File,
}

impl Raw {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let path = dir.join("raw");
        Ok(Self { file: File::create(&path)?, path })
    }

    /// How long it takes to append `bytes` in so many equal groups, each of them synced.
    pub(crate) fn append(&mut self, bytes: u64, groups: u64) -> Result<Duration> {
        let groups = groups.max(1);
        let group = vec![7; usize::try_from(bytes / groups)?];
        let started = Instant::now();
        for _ in 0..groups {
            self.file.write_all(&group)?;
            self.file.sync_data()?;
        }
        Ok(started.elapsed())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The folder is deleted at the end in any case.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Durations that were measured, to be asked for percentiles.
pub(crate) struct Sorted(Vec<Duration>);

impl Sorted {
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The duration that so many percent stay below; zero if nothing was measured.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// The middle one.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Exact below 2^53, which nothing here comes near.
#[expect(clippy::cast_precision_loss, reason = "counts and bytes are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Which side of its limit a figure should be on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// Prints a figure, its limit, and what the one is to the other.
pub(crate) fn verdict(what: &str, figure: f64, unit: &str, limit: Limit) {
    let (sign, limit, good) = match limit {
        Limit::AtMost(limit) => ("<=", limit, figure <= limit),
        Limit::AtLeast(limit) => (">=", limit, figure >= limit),
    };
    let verdict = if good { "ok" } else { "MISSED" };
    let (figure_text, limit_text) = (digits(figure), digits(limit));
    println!(
        "  {what:<58} {figure_text:>9} {unit:<10} {sign} {limit_text:>7}  {:>5.2} of it  {verdict}",
        figure / limit
    );
}

/// Prints a figure that has no limit, but explains one that has.
pub(crate) fn note(what: &str, text: &str) {
    println!("  {what:<58} {text}");
}

/// Three digits that count, but whole numbers whole.
pub(crate) fn digits(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}
