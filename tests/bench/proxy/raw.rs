//! The disk's own speed: the bytes of a download appended to a file and synced, without any proxy.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;
use tempfile::TempDir;

use crate::driver::Sample;
use crate::process::Usage;
use crate::wire::PATTERN;

/// Writes `bytes` bytes in pieces of 64 KiB under `target/`, where stores are measured too, and syncs once at the end.
pub(crate) fn append(bytes: u64) -> Result<Sample> {
    let dir = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let begin = Instant::now();
    let mut file = File::create(dir.path().join("raw"))?;
    let mut left = bytes;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(PATTERN.len());
        file.write_all(&PATTERN[..take])?;
        left -= take as u64;
    }
    file.sync_data()?;
    let elapsed_s = begin.elapsed().as_secs_f64();
    Ok(Sample {
        requests: 1,
        bytes,
        elapsed_s,
        cpu_s: f64::NAN,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        usage: Usage::default(),
        origin_connections: 0,
    })
}
