//! A store as one file, and back: `manent store pack` and `unpack`.
//!
//! A packed store has its segment in the table `chunk`, and its records in the table `record`. Only what flows refer to is
//! copied, each body in one run; equal bodies are there once. It is read by whatever reads a store, and written by nothing:
//! bodies that flows share would have to be counted.
//!
//! A copy is made under another name, and gets its own when it is whole.

mod bodies;
mod files;
mod packed;
mod rows;
mod target;

use std::ops::ControlFlow;
use std::path::Path;

use bodies::Copier;
use files::FilesSink;
use packed::PackedSink;
use target::Target;

use super::reader::{Reader, integer};
use super::record::{Found, RecordAt};
use super::{StoreError, row};
use crate::flow::Mid;

/// How a copy is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions {
    /// zstd's level for what shrinks by it; `None` to store bodies as they are. For [`pack`] only.
    pub level: Option<i32>,
    /// Whether a store that is where the copy goes is replaced by it.
    pub replace: bool,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// Flows that were copied.
    pub flows: u64,
    /// Flows that there are.
    pub of_flows: u64,
    /// Bytes of bodies that were copied.
    pub bytes: u64,
}

/// What a copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Flows.
    pub flows: u64,
    /// Bytes of bodies outside of records.
    pub body_bytes: u64,
    /// Bytes that hold these, headers of pieces included.
    pub stored_bytes: u64,
    /// Bodies that are equal to another one, and are not there a second time.
    pub shared_bodies: u64,
    /// Their bytes.
    pub shared_bytes: u64,
    /// How many flows have a record, a body or a message that could not be read. What could be read is there.
    pub damaged: u64,
    /// The first hundred of them.
    pub damaged_mids: Vec<Mid>,
}

/// Told how far a copy has come, about every hundred flows and every few MiB; [`ControlFlow::Break`] ends it with
/// [`StoreError::Stopped`].
pub type CopyWatch<'a> = &'a mut dyn FnMut(CopyProgress) -> ControlFlow<()>;

/// Makes one file of the store `from`, also while it is written: the copy holds what was committed at one moment.
///
/// # Errors
/// If `from` cannot be read, and as [`StoreError::Exists`], [`StoreError::Same`], [`StoreError::Full`] and
/// [`StoreError::Stopped`] say; nothing is left of the copy then. What is damaged in `from` is no error: see
/// [`Packed::damaged`].
pub fn pack(
    from: &Path,
    to: &Path,
    options: PackOptions,
    watch: CopyWatch<'_>,
) -> Result<Packed, StoreError> {
    let reader = Reader::open(from)?;
    let (conn, paths, source, records) = reader.parts();
    let target = Target::begin(paths, to, options.replace)?;
    let to = target.connect()?;
    let from_fail = |e| StoreError::sqlite(&paths.db, "reading the store", e);
    let fail = |e| StoreError::sqlite(target.path(), "writing the copy", e);
    // Before the rows are read: a segment that is taken away from now on, its bodies moved, is still there for us.
    source.hold().map_err(|e| StoreError::io(&paths.bodies, "opening the segments", e))?;
    to.execute_batch("BEGIN").map_err(fail)?;
    conn.execute_batch("BEGIN").map_err(from_fail)?;
    rows::copy_all(conn, &to, &["segment", "chunk", "index_block", "index_chunk"], &target.errors(paths))?;
    // The rest goes by the rows of the copy: a long read would keep the writer's log from starting anew.
    conn.execute_batch("COMMIT").map_err(from_fail)?;
    source.hold().map_err(|e| StoreError::io(&paths.bodies, "opening the segments", e))?;
    let sink = PackedSink::new(&to).map_err(fail)?;
    let told = (count(&to).map_err(fail)?, options.level);
    let mut copier = Copier::new(&reader, sink, target.path(), told, watch);
    let mut after = 0;
    loop {
        let page = page(&to, after).map_err(fail)?;
        let Some(&last) = page.last() else { break };
        for mid in page {
            let found = find(&to, mid).map_err(fail)?;
            match copier.flow(mid, records.get(mid, &found))? {
                Some(record) => copier.sink.record(mid, &record).map_err(fail)?,
                None => copier.sink.no_record(mid).map_err(fail)?,
            }
        }
        after = last.0;
    }
    copier.messages(&to)?;
    let packed = copier.finish()?;
    to.execute_batch("COMMIT").map_err(fail)?;
    close(to, &target)?;
    target.finish()?;
    Ok(packed)
}

/// Makes a store with segment files of the packed store `from`, for recording into it.
///
/// # Errors
/// [`StoreError::NotPacked`] if it is not; else as [`pack`].
pub fn unpack(
    from: &Path,
    to: &Path,
    options: PackOptions,
    watch: CopyWatch<'_>,
) -> Result<Packed, StoreError> {
    let reader = Reader::open(from)?;
    let (conn, paths, _, records) = reader.parts();
    if !reader.is_packed() {
        return Err(StoreError::NotPacked { path: paths.db.clone() });
    }
    let mut target = Target::begin(paths, to, options.replace)?;
    target.make_folder()?;
    let to = target.connect()?;
    let from_fail = |e| StoreError::sqlite(&paths.db, "reading the store", e);
    let fail = |e| StoreError::sqlite(target.path(), "writing the copy", e);
    let sink = FilesSink::new(&to, target.paths());
    to.execute_batch("BEGIN").map_err(fail)?;
    // Nobody writes to it, so a long read is in nobody's way.
    conn.execute_batch("BEGIN").map_err(from_fail)?;
    let errors = target.errors(paths);
    rows::copy_all(
        conn,
        &to,
        &["segment", "chunk", "record", "flow", "index_block", "index_chunk"],
        &errors,
    )?;
    let told = (count(conn).map_err(from_fail)?, None);
    let mut copier = Copier::new(&reader, sink, target.path(), told, watch);
    rows::copy_flows(conn, &to, &errors, |mid| {
        let found = find(conn, mid).map_err(from_fail)?;
        match copier.flow(mid, records.get(mid, &found))? {
            Some(record) => copier.sink.place(mid, record).map(Some),
            None => Ok(None),
        }
    })?;
    copier.messages(&to)?;
    let unpacked = copier.finish()?;
    to.execute_batch("COMMIT").map_err(fail)?;
    conn.execute_batch("COMMIT").map_err(from_fail)?;
    close(to, &target)?;
    target.finish()?;
    Ok(unpacked)
}

fn close(conn: rusqlite::Connection, target: &Target) -> Result<(), StoreError> {
    conn.close().map_err(|(_, e)| StoreError::sqlite(target.path(), "closing the copy", e))
}

fn count(conn: &rusqlite::Connection) -> rusqlite::Result<u64> {
    let count = conn.query_row("SELECT count(*) FROM flow", [], |row| integer(row, 0))?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

fn page(conn: &rusqlite::Connection, after: u64) -> rusqlite::Result<Vec<Mid>> {
    let mut statement = conn.prepare_cached("SELECT mid FROM flow WHERE mid > ?1 ORDER BY mid LIMIT 256")?;
    let rows = statement.query_map([row::sqlite_int(after)], |row| integer(row, 0))?;
    rows.map(|mid| mid.map(|mid| Mid(mid.unwrap_or(0).cast_unsigned()))).collect()
}

/// Where the record of a flow is. Both kinds of store that are asked here have the columns of this version.
fn find(conn: &rusqlite::Connection, mid: Mid) -> rusqlite::Result<Found> {
    let sql = "SELECT pbuf, record_segment, record_offset, record_len FROM flow LEFT JOIN record USING (mid) \
               WHERE mid = ?1";
    conn.prepare_cached(sql)?.query_row([row::sqlite_int(mid.0)], |row| Found::read(row, 0))
}
