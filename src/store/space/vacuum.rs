//! Making a store as small as it can be: every dead byte is found, segments are copied out, and SQLite writes its file anew.
//!
//! A process that is killed in the middle leaves a whole store: segments go one by one as they do while recording, and `VACUUM`
//! is a transaction like any other (sqlite.org/lang_vacuum.html).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::limits::Limit;

use super::super::paths::Paths;
use super::super::record::RecordFiles;
use super::super::recover::listed_segments;
use super::super::row::sqlite_int;
use super::super::source::Source;
use super::super::{Reader, StoreError, Writer};
use super::delete::{self, Marked};
use super::prune::options;
use super::reclaim::{self, Budget, Candidate, Reclaimer, Site, Syncs};
use super::usage::Usage;
use crate::flow::Mid;

/// What there is to be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of all files of the store.
    pub bytes: u64,
    /// Bytes in segments that nothing refers to.
    pub dead_bytes: u64,
    /// Bytes of free pages in the database.
    pub free_bytes: u64,
    /// Free bytes that the disk must have meanwhile.
    pub need_bytes: u64,
}

/// A store that is being made smaller. Its methods block.
#[derive(Debug)]
pub struct Vacuum {
    writer: Writer,
    files: RecordFiles,
}

impl Vacuum {
    /// Opens the store at `path` as its only writer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, [`StoreError::Locked`] if it has a writer; else as [`Writer::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        if !paths.db.exists() {
            return Err(StoreError::NotFound { path: paths.db });
        }
        let writer = Writer::open(path, &options("vacuum"))?;
        // What is appended from now on lies behind all that may go.
        writer.keeper.segments.roll();
        Ok(Self { writer, files: RecordFiles::new(Arc::new(Source::new(paths, None))) })
    }

    /// Finds all that is dead, by reading each record. `progress` is told how many flows of how many are read.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub fn measure(&mut self, progress: impl FnMut(u64, u64)) -> Result<Estimate, StoreError> {
        let (conn, paths) = (&mut self.writer.conn, &self.writer.keeper.paths);
        let fail = |e| StoreError::sqlite(&paths.db, "measuring the store", e);
        reclaim::know_files(conn, paths, &mut reclaim::Missing::new())?;
        let conn = &*conn;
        let live = live(conn, &self.files, progress).map_err(fail)?;
        let found = segments(paths, &live)?;
        for Candidate { number, dead, .. } in &found {
            let set = conn.prepare_cached(SET_DEAD);
            set.and_then(|mut set| set.execute((number, sqlite_int(*dead)))).map_err(fail)?;
        }
        estimate(conn, paths, &found)
    }

    /// Gives back all of it, but for segments with less than a tenth dead. `progress` is told how many bytes of how many are
    /// gone through.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], with nothing done, if the disk is too full for it; else what SQLite or the system said, with the
    /// store whole.
    pub fn run(&mut self, estimate: &Estimate, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let paths = &self.writer.keeper.paths;
        let folder = paths.db.parent().unwrap_or(Path::new("/"));
        let disk = rustix::fs::statvfs(folder)
            .map_err(|e| StoreError::io(folder, "asking for the free space of the disk", e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < estimate.need_bytes {
            return Err(StoreError::NoRoom { path: paths.db.clone(), need: estimate.need_bytes, free });
        }
        self.copy_out(&mut progress)?;
        let conn = &self.writer.conn;
        let fail = |e| StoreError::sqlite(&self.writer.keeper.paths.db, "vacuuming", e);
        conn.execute_batch(ORPHANS).map_err(fail)?;
        vacuum(conn).map_err(fail)
    }

    fn copy_out(&mut self, progress: &mut impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let Writer { conn, keeper } = &mut self.writer;
        let mut site = Site {
            conn,
            paths: &keeper.paths,
            segments: &keeper.segments,
            files: &self.files,
            pins: &keeper.space.pins,
        };
        let mut work = reclaim::candidates(&site)?;
        work.retain(|found| found.dead * LEAST_SHARE >= found.len);
        let total = work.iter().map(|found| found.len).sum();
        let mut done = 0;
        let mut reclaimer = Reclaimer::default();
        for found in work {
            reclaimer.force(&site, found)?;
            while reclaimer.is_busy() {
                progress(done + reclaimer.at().0, total);
                reclaimer.step(&mut site, BUDGET)?;
            }
            done += found.len;
        }
        let fail = |e| StoreError::sqlite(&keeper.paths.db, "vacuuming", e);
        reclaimer.finish(site.conn, site.segments).map_err(fail)
    }

    /// Closes the store, its WAL taken in; bytes of its files then.
    ///
    /// # Errors
    /// As [`Writer::close`].
    pub fn close(self) -> Result<u64, StoreError> {
        let paths = self.writer.keeper.paths.clone();
        let conn = &self.writer.conn;
        let bytes = |conn: &Connection| Usage::of(conn, &paths).map(|usage| usage.bytes);
        // Once here, for the figure; closing does it again.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| StoreError::sqlite(&paths.db, "taking the WAL in", e))?;
        let left = bytes(conn)?;
        self.writer.close()?;
        Ok(left)
    }
}

impl Reader {
    /// What a [`Vacuum`] would find, without changing anything. Flows that a recorder has under way count as dead.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub fn reclaimable(&self, progress: impl FnMut(u64, u64)) -> Result<Estimate, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "measuring the store", e);
        let live = live(&self.conn, &self.records, progress).map_err(fail)?;
        estimate(&self.conn, &self.paths, &segments(&self.paths, &live)?)
    }
}

/// Bytes by segment that flows refer to.
fn live(
    conn: &Connection,
    files: &RecordFiles,
    mut progress: impl FnMut(u64, u64),
) -> rusqlite::Result<BTreeMap<u32, u64>> {
    let total: i64 = conn.query_row("SELECT count(*) FROM flow", [], |row| row.get(0))?;
    let mut live = BTreeMap::<u32, u64>::new();
    let (mut after, mut done) = (0_i64, 0);
    loop {
        let mut statement = conn.prepare_cached(PAGE)?;
        let mids = statement.query_map([after], |row| row.get::<_, i64>(0))?;
        let mids: Vec<Mid> =
            mids.map(|mid| mid.map(|mid| Mid(mid.cast_unsigned()))).collect::<Result<_, _>>()?;
        let Some(last) = mids.last() else { return Ok(live) };
        after = sqlite_int(last.0);
        let plan = delete::plan(conn, files, &mids, Marked::Delete, Duration::MAX)?;
        for (&segment, &bytes) in plan.doomed.iter().flat_map(|doomed| &doomed.dead) {
            let sum = live.entry(segment).or_default();
            *sum = sum.saturating_add(bytes);
        }
        done += mids.len() as u64;
        progress(done, total.cast_unsigned());
    }
}

/// The segment files, and what is dead in each.
fn segments(paths: &Paths, live: &BTreeMap<u32, u64>) -> Result<Vec<Candidate>, StoreError> {
    let numbers = listed_segments(paths)?;
    let of = |number: u32| {
        let len = std::fs::metadata(paths.segment(number)).map_or(0, |file| file.len());
        let dead = len.saturating_sub(live.get(&number).copied().unwrap_or(0));
        Candidate { number, dead, len }
    };
    Ok(numbers.into_iter().map(of).collect())
}

fn estimate(conn: &Connection, paths: &Paths, found: &[Candidate]) -> Result<Estimate, StoreError> {
    let usage = Usage::of(conn, paths)?;
    let segment_bytes: u64 = found.iter().map(|found| found.len).sum();
    let copied = found.iter().filter(|found| found.dead * LEAST_SHARE >= found.len);
    let most = copied.map(|found| found.len - found.dead).max().unwrap_or(0);
    let database = usage.bytes.saturating_sub(segment_bytes).saturating_sub(usage.free);
    Ok(Estimate {
        bytes: usage.bytes,
        dead_bytes: found.iter().map(|found| found.dead).sum(),
        free_bytes: usage.free,
        // SQLite writes it to a temporary file, then to the WAL.
        need_bytes: most + 2 * database,
    })
}

fn vacuum(conn: &Connection) -> rusqlite::Result<()> {
    // It attaches its temporary file, which may be larger than memory.
    let attached =
        conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1).and(conn.limit(Limit::SQLITE_LIMIT_ATTACHED));
    conn.execute_batch("PRAGMA temp_store = FILE; VACUUM; PRAGMA temp_store = MEMORY;")?;
    attached.and_then(|_| conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map(drop))
}

/// A segment with fewer than one dead byte in so many is left.
const LEAST_SHARE: u64 = 10;

/// What is copied in one transaction. Nobody waits for anything else.
const BUDGET: Budget = Budget { bytes: 16 << 20, time: Duration::MAX, syncs: Syncs::Step };

const PAGE: &str = "SELECT mid FROM flow WHERE mid > ?1 ORDER BY mid LIMIT 500";
const SET_DEAD: &str = "UPDATE segment SET dead = ?2 WHERE number = ?1";

/// Rows that belong to flows that are gone.
const ORPHANS: &str = "
PRAGMA temp_store = FILE;
BEGIN IMMEDIATE;
DELETE FROM conn WHERE id NOT IN (SELECT client_conn FROM flow UNION SELECT server_conn FROM flow WHERE server_conn NOT NULL);
DELETE FROM host WHERE id NOT IN (SELECT host FROM flow);
DELETE FROM record WHERE mid NOT IN (SELECT mid FROM flow);
DELETE FROM message WHERE mid NOT IN (SELECT mid FROM flow);
DELETE FROM index_chunk WHERE key >> 24 NOT IN (SELECT block FROM index_block);
COMMIT;
";
