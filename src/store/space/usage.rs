//! What a store takes of the disk.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::Connection;

use super::super::StoreError;
use super::super::paths::Paths;
use super::super::recover::listed_segments;
use super::super::schema;

/// What a store takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Of all files.
    pub(super) bytes: u64,
    /// Of these, in segments and known to be dead.
    pub(super) dead: u64,
    /// Of these, in pages of the database that are free.
    pub(super) free: u64,
}

impl Usage {
    pub(super) fn of(conn: &Connection, paths: &Paths) -> Result<Self, StoreError> {
        let fail = |e| StoreError::sqlite(&paths.db, "measuring the store", e);
        let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let pages = number("freelist_count").map_err(fail)?.cast_unsigned();
        let page = number("page_size").map_err(fail)?.cast_unsigned();
        // Before this version nothing was deleted.
        let (dead, dropped) = match schema::version(conn).map_err(fail)? {
            0..8 => (0, HashSet::new()),
            _ => dead(conn).map_err(fail)?,
        };
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let (mut segments, mut going) = (0, 0);
        for number in listed_segments(paths)? {
            let len = len(&paths.segment(number));
            segments += len;
            going += if dropped.contains(&number) { len } else { 0 };
        }
        let mut wal = paths.db.clone().into_os_string();
        wal.push("-wal");
        Ok(Self {
            bytes: len(&paths.db) + len(wal.as_ref()) + segments,
            dead: dead + going,
            free: pages * page,
        })
    }

    /// Bytes that deleting flows can make less.
    pub(super) fn live(&self) -> u64 {
        self.bytes.saturating_sub(self.dead).saturating_sub(self.free)
    }
}

/// Bytes that are dead in segments, and the segments whose files are about to go.
fn dead(conn: &Connection) -> rusqlite::Result<(u64, HashSet<u32>)> {
    let dead: i64 = conn.prepare_cached(DEAD)?.query_row([], |row| row.get(0))?;
    let mut statement = conn.prepare_cached(DROPPED)?;
    let dropped = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok((dead.max(0).cast_unsigned(), dropped))
}

const DEAD: &str = "SELECT ifnull(sum(dead), 0) FROM segment WHERE dropped = 0";
const DROPPED: &str = "SELECT number FROM segment WHERE dropped = 1";
