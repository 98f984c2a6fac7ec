//! What the writer does with a store whose last writer did not close it: rows still open become interrupted, and the
//! torn tail of a segment is cut.
//!
//! Segments that were dropped go, if their files are still there. Else only bytes that are no whole piece are taken away.
//! Whole pieces that no row refers to (their flow never ended) stay; reclaiming them is another matter.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use rusqlite::{Connection, params};

use super::StoreError;
use super::paths::Paths;
use super::segment::{Start, piece};
use super::space;

/// Marks what was open, cuts what is torn; where appending goes on.
pub(super) fn recover(conn: &Connection, paths: &Paths) -> Result<Start, StoreError> {
    let swept = conn
        .execute("UPDATE flow SET state = ?1 WHERE state = 0", params![super::row::INTERRUPTED])
        .map_err(|e| StoreError::sqlite(&paths.db, "marking interrupted flows", e))?;
    if swept > 0 {
        tracing::info!(swept, "flows that were open when the last writer ended are now interrupted");
    }
    space::finish_drops(conn, paths)?;
    let mut start = Start { number: 1, offset: 0 };
    let known = committed(conn).map_err(|e| StoreError::sqlite(&paths.db, "reading the segments", e))?;
    if let Some((&number, _)) = known.last_key_value() {
        start = Start { number: number + 1, offset: 0 };
    }
    let numbers = segment_numbers(&paths.bodies)
        .map_err(|e| StoreError::io(&paths.bodies, "listing the segments", e))?;
    for number in numbers {
        let committed = known.get(&number).copied().unwrap_or(0);
        let path = paths.segment(number);
        let len =
            cut(&path, committed).map_err(|e| StoreError::io(&path, "checking the tail of a segment", e))?;
        if number < start.number.saturating_sub(1) {
            continue;
        }
        // A file that is shorter than what rows refer to has lost bytes. What comes now must not lie in their place.
        start = match len >= committed {
            true => Start { number, offset: len },
            false => {
                tracing::warn!(segment = number, len, committed, "a segment is shorter than it was");
                Start { number: number + 1, offset: 0 }
            }
        };
    }
    Ok(start)
}

fn committed(conn: &Connection) -> rusqlite::Result<std::collections::BTreeMap<u32, u64>> {
    let mut statement = conn.prepare("SELECT number, len FROM segment")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
    rows.collect()
}

/// The numbers of the segment files that are there, rising.
pub(super) fn segment_numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = match folder.read_dir() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".seg")).and_then(|n| n.parse::<u32>().ok());
        numbers.extend(number.filter(|&n| n > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// As [`segment_numbers`], of a store.
pub(super) fn listed_segments(paths: &Paths) -> Result<Vec<u32>, StoreError> {
    segment_numbers(&paths.bodies).map_err(|e| StoreError::io(&paths.bodies, "listing the segments", e))
}

/// Cuts what follows the last whole piece after `committed`; the length of the file then.
fn cut(path: &Path, committed: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    if len <= committed {
        return Ok(len);
    }
    file.seek(SeekFrom::Start(committed))?;
    let good = piece::good_end(&mut io::BufReader::with_capacity(1 << 18, &file), committed)?;
    if good < len {
        file.set_len(good)?;
        file.sync_all()?;
        tracing::warn!(path = %path.display(), cut = len - good, "the torn tail of a segment was cut off");
    }
    Ok(good)
}
