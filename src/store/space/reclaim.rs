//! Segments with few live bytes: what is live is copied out, then the file goes.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};

use rusqlite::{Connection, TransactionBehavior};

use super::super::StoreError;
use super::super::group::save_segments;
use super::super::paths::{Paths, sync_folder};
use super::super::record::RecordFiles;
use super::super::recover::listed_segments;
use super::super::segment::{Segments, piece};
use super::delete::{Synchronous, with_synchronous};
use super::pins::Pins;
use super::relocate::{self, CopyError, Moved, Source};
use crate::flow::{Extent, Mid};

/// What all steps work on.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) conn: &'a mut Connection,
    pub(super) paths: &'a Paths,
    pub(super) segments: &'a Segments,
    pub(super) files: &'a RecordFiles,
    pub(super) pins: &'a Pins,
}

/// Reclaims segments, one at a time, a bounded step at a time.
#[derive(Debug, Default)]
pub(in crate::store) struct Reclaimer {
    job: Option<Job>,
    /// Segments that have to stay for now, and with how many dead bytes that was found.
    left: BTreeMap<u32, u64>,
    /// Bytes of the files that were unlinked.
    pub(super) dropped_bytes: u64,
}

/// A segment that is being walked.
#[derive(Debug)]
struct Job {
    segment: u32,
    /// Read in its order, and here and there.
    files: [File; 2],
    /// How far everything is copied.
    offset: u64,
    len: u64,
    /// Of those that the table counts, for [`Reclaimer::left`].
    dead: u64,
}

/// A segment, as the table and the folder tell of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) number: u32,
    pub(super) dead: u64,
    pub(super) len: u64,
}

impl Reclaimer {
    /// Begins with the segment that has the most dead bytes in proportion, if that is at least `percent` of it. Whether there
    /// is work.
    pub(super) fn begin(&mut self, site: &Site<'_>, percent: u64) -> Result<bool, StoreError> {
        if self.job.is_some() {
            return Ok(true);
        }
        let mut best: Option<Candidate> = None;
        for found in candidates(site)? {
            let stays = self.left.get(&found.number).is_some_and(|&dead| found.dead <= dead);
            let enough = u128::from(found.dead) * 100 >= u128::from(found.len) * u128::from(percent.max(1));
            // Compared without a division: a/b > c/d.
            let more = |best: Candidate| {
                u128::from(found.dead) * u128::from(best.len) > u128::from(best.dead) * u128::from(found.len)
            };
            if !stays && enough && best.is_none_or(more) {
                best = Some(found);
            }
        }
        let Some(found) = best else { return Ok(false) };
        self.job = Some(Job::new(site, found)?);
        Ok(true)
    }

    /// Begins with this segment, however much of it is dead.
    pub(super) fn force(&mut self, site: &Site<'_>, candidate: Candidate) -> Result<(), StoreError> {
        self.job = Some(Job::new(site, candidate)?);
        Ok(())
    }

    /// Segments that could not be had because of flows that were under way may be tried again.
    pub(in crate::store) fn forgive(&mut self) {
        self.left.retain(|_, dead| *dead == u64::MAX);
    }

    /// How far the segment in work is: bytes, of bytes.
    pub(super) fn at(&self) -> (u64, u64) {
        self.job.as_ref().map_or((0, 0), |job| (job.offset, job.len))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Walks on, copying at most about `budget` bytes. Does nothing without a job.
    ///
    /// # Errors
    /// What SQLite said, or the system at unlinking. A segment that cannot be read, or copied from, stays, and that is no
    /// error.
    pub(super) fn step(&mut self, site: &mut Site<'_>, budget: u64) -> Result<(), StoreError> {
        let Some(mut job) = self.job.take() else { return Ok(()) };
        let fail = |e| StoreError::sqlite(&site.paths.db, "moving flows to another segment", e);
        let (mut moved, mut copies) = (Vec::new(), Vec::new());
        match job.walk(site, budget, &mut moved, &mut copies) {
            Ok(Walk::Pinned(mid)) => {
                tracing::debug!(segment = job.segment, %mid, "a segment stays for a flow that is under way");
                self.left.insert(job.segment, job.dead);
                return Ok(());
            }
            Ok(Walk::On) => {}
            Err(CopyError::Sqlite(error)) => return Err(fail(error)),
            Err(CopyError::Io(error)) => {
                tracing::warn!(segment = job.segment, %error, "a segment stays, since what is in it cannot be copied");
                self.left.insert(job.segment, u64::MAX);
                return Ok(());
            }
        }
        let done = job.offset >= job.len;
        if moved.is_empty() && !done {
            self.job = Some(job);
            return Ok(());
        }
        site.segments.wait_written(site.segments.taken());
        let grown = site.segments.sync();
        if copies.iter().any(|copy| site.segments.is_lost(copy)) {
            self.left.insert(job.segment, job.dead);
            return Ok(());
        }
        write(site.conn, &moved, &grown, done.then_some(job.segment)).map_err(fail)?;
        if done {
            drop(job.files);
            site.files.forget(job.segment);
            site.segments.forget(job.segment);
            unlink(site.conn, site.paths, job.segment)?;
            self.dropped_bytes += job.len;
        } else {
            self.job = Some(job);
        }
        Ok(())
    }
}

/// How a walk went.
enum Walk {
    /// As far as the budget goes, or to the end.
    On,
    /// A flow that is under way has pieces here.
    Pinned(Mid),
}

impl Job {
    fn new(site: &Site<'_>, candidate: Candidate) -> Result<Self, StoreError> {
        let path = site.paths.segment(candidate.number);
        let fail = |e| StoreError::io(&path, "opening a segment", e);
        // What was taken before is written before; nothing more comes for a segment that is not the current one.
        site.segments.wait_written(site.segments.taken());
        let files = [File::open(&path).map_err(fail)?, File::open(&path).map_err(fail)?];
        let len = files[0].metadata().map_err(fail)?.len();
        Ok(Self { segment: candidate.number, files, offset: 0, len, dead: candidate.dead })
    }

    fn walk(
        &mut self,
        site: &Site<'_>,
        budget: u64,
        moved: &mut Vec<Moved>,
        copies: &mut Vec<Extent>,
    ) -> Result<Walk, CopyError> {
        let mut pieces = BufReader::with_capacity(64 << 10, &self.files[0]);
        pieces.seek(SeekFrom::Start(self.offset))?;
        let (segment, file) = (self.segment, &self.files[1]);
        let mut source = Source { segment, file, segments: site.segments, budget, copies: Vec::new() };
        let mut seen = HashSet::new();
        for _ in 0..WALK_PIECES {
            if self.offset >= self.len {
                break;
            }
            let Some(piece) = piece::read_header(&mut pieces)? else {
                let detail = format!("there is no piece at offset {}", self.offset);
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail).into());
            };
            let mid = Mid(piece.mid);
            if !seen.contains(&mid) {
                // In this order: what is no longer pinned is committed.
                if site.pins.contains(mid) {
                    return Ok(Walk::Pinned(mid));
                }
                if source.budget == 0 || seen.len() >= WALK_FLOWS {
                    break;
                }
                moved.extend(relocate::copy(site.conn, site.files, &mut source, mid)?);
                if source.budget == 0 {
                    // There may be more of it: it is looked at again.
                    break;
                }
                seen.insert(mid);
            }
            pieces.seek_relative(i64::from(piece.len))?;
            self.offset += piece.stored_len();
        }
        copies.append(&mut source.copies);
        Ok(Walk::On)
    }
}

/// Segments of which something is dead and to which nothing is appended any more. The newest one stays, so that no number is
/// given twice: a reader may still hold a record that names it.
pub(super) fn candidates(site: &Site<'_>) -> Result<Vec<Candidate>, StoreError> {
    let fail = |e| StoreError::sqlite(&site.paths.db, "reading the segments", e);
    let current = site.segments.current().number;
    let mut statement = site.conn.prepare_cached(DEAD_SEGMENTS).map_err(fail)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    let rows = statement.query_map([current], read).map_err(fail)?;
    let mut found = Vec::new();
    for row in rows {
        let (number, dead) = row.map_err(fail)?;
        if let Ok(file) = std::fs::metadata(site.paths.segment(number)) {
            found.push(Candidate { number, dead, len: file.len() });
        }
    }
    Ok(found)
}

/// Has a row in `segment` for each file: commits with [`Durability::Normal`](super::super::Durability::Normal) make none.
pub(super) fn know_files(conn: &Connection, paths: &Paths) -> Result<(), StoreError> {
    let fail = |e| StoreError::sqlite(&paths.db, "counting the segments", e);
    let numbers = listed_segments(paths)?;
    let known: i64 =
        conn.prepare_cached(COUNT).and_then(|mut s| s.query_row([], |row| row.get(0))).map_err(fail)?;
    if known.cast_unsigned() >= numbers.len() as u64 {
        return Ok(());
    }
    for number in numbers {
        conn.prepare_cached(KNOW).and_then(|mut know| know.execute([number])).map_err(fail)?;
    }
    Ok(())
}

/// One transaction. If a segment is dropped, it is on disk when this returns, whatever the durability: else its file would be
/// gone and rows still name it.
fn write(
    conn: &mut Connection,
    moved: &[Moved],
    grown: &[(u32, u64)],
    dropped: Option<u32>,
) -> rusqlite::Result<()> {
    let level = if dropped.is_some() { Synchronous::Full } else { Synchronous::Normal };
    with_synchronous(conn, level, |conn| write_rows(conn, moved, grown, dropped))
}

fn write_rows(
    conn: &mut Connection,
    moved: &[Moved],
    grown: &[(u32, u64)],
    dropped: Option<u32>,
) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for moved in moved {
        moved.write(&tx)?;
    }
    save_segments(&tx, grown)?;
    if let Some(number) = dropped {
        tx.prepare_cached(DROP)?.execute([number])?;
    }
    tx.commit()
}

/// Takes away the file of a segment that is marked as dropped, then its row.
fn unlink(conn: &Connection, paths: &Paths, number: u32) -> Result<(), StoreError> {
    let path = paths.segment(number);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io(&path, "deleting a segment", e));
        }
        _ => {}
    }
    sync_folder(&paths.bodies).map_err(|e| StoreError::io(&paths.bodies, "deleting a segment", e))?;
    let forget = conn.prepare_cached(FORGET).and_then(|mut forget| forget.execute([number]));
    forget.map(drop).map_err(|e| StoreError::sqlite(&paths.db, "deleting a segment", e))
}

/// At opening: finishes what a writer that was killed had begun.
pub(in crate::store) fn finish_drops(conn: &Connection, paths: &Paths) -> Result<(), StoreError> {
    let fail = |e| StoreError::sqlite(&paths.db, "reading the segments", e);
    let mut statement = conn.prepare(DROPPED).map_err(fail)?;
    let rows = statement.query_map([], |row| row.get::<_, u32>(0)).map_err(fail)?;
    for number in rows.collect::<Result<Vec<_>, _>>().map_err(fail)? {
        unlink(conn, paths, number)?;
    }
    Ok(())
}

/// Pieces and flows that are looked at in a step: some milliseconds.
const WALK_PIECES: usize = 2_000;
const WALK_FLOWS: usize = 200;

const DEAD_SEGMENTS: &str = "SELECT number, dead FROM segment WHERE dead > 0 AND dropped = 0 AND number < ?1";
const COUNT: &str = "SELECT count(*) FROM segment";
const KNOW: &str = "INSERT OR IGNORE INTO segment (number, len) VALUES (?1, 0)";
const DROP: &str = "UPDATE segment SET dropped = 1 WHERE number = ?1";
const DROPPED: &str = "SELECT number FROM segment WHERE dropped = 1";
/// The highest stays, for its number.
const FORGET: &str = "DELETE FROM segment WHERE number = ?1 AND number < (SELECT max(number) FROM segment)";
