//! The disk that a store is on.

use std::io;
use std::path::Path;

/// Bytes that are free for us where `path` is, or is to be.
///
/// # Errors
/// When the system does not tell.
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(there)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A page with its images fills this in a minute.
pub(super) const LITTLE: u64 = 100_000_000;
