//! What kind of store a file is, how large, and whether it is of this version.

use std::path::Path;

use super::db_file::DbFile;
use super::lock::Lock;
use super::paths::Paths;
use super::reader::{Reader, integer};
use super::{Durability, StoreError, recover, schema};
use crate::flow::Mid;

/// Facts of a store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// The version of its tables.
    pub version: u32,
    /// The version that a writer of this program makes of it.
    pub newest: u32,
    /// When it was made by `manent store pack`, nanoseconds since 1970; `None` for a store with segment files.
    pub packed_unix_ns: Option<i64>,
    /// Lowest mid, highest mid and how many flows there are; `None` without any.
    pub flows: Option<(Mid, Mid, u64)>,
    /// How often a writer opened it.
    pub sessions: u64,
    /// Bytes of the database and its log.
    pub db_bytes: u64,
    /// Segment files beside it.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
}

impl StoreInfo {
    /// Asks a store.
    ///
    /// # Errors
    /// What the system or SQLite said.
    pub fn of(reader: &Reader) -> Result<Self, StoreError> {
        let (conn, paths, source, _) = reader.parts();
        let fail = |e| StoreError::sqlite(&paths.db, "looking at the store", e);
        let sessions = conn
            .query_row("SELECT count(*) FROM session", [], |row| integer(row, 0))
            .map_err(fail)?
            .unwrap_or(0);
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut log = paths.db.clone().into_os_string();
        log.push("-wal");
        let numbers = recover::segment_numbers(&paths.bodies)
            .map_err(|e| StoreError::io(&paths.bodies, "listing the segments", e))?;
        Ok(Self {
            version: schema::version(conn).map_err(fail)?,
            newest: schema::VERSION,
            packed_unix_ns: source.packed(),
            flows: reader.bounds()?,
            sessions: sessions.cast_unsigned(),
            db_bytes: len(&paths.db) + len(log.as_ref()),
            segments: numbers.len() as u64,
            segment_bytes: numbers.iter().map(|&number| len(&paths.segment(number))).sum(),
        })
    }
}

/// Brings a store to the version of this program, as every writer does that opens it: the version before, and now.
///
/// # Errors
/// [`StoreError::Locked`] if it is written, [`StoreError::Packed`] for a packed store; else as [`Reader::open`].
pub fn upgrade(path: &Path) -> Result<(u32, u32), StoreError> {
    let before = StoreInfo::of(&Reader::open(path)?)?.version;
    let paths = Paths::of(path);
    let _lock = Lock::take(&paths)?;
    let _file = DbFile::find(&paths.db)?;
    let conn = schema::open_writer(&paths, Durability::Full)?;
    conn.close().map_err(|(_, e)| StoreError::sqlite(&paths.db, "closing the store", e))?;
    Ok((before, schema::VERSION))
}
