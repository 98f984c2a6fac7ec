//! Segments with few live bytes: what is live is copied out, then the file goes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::super::StoreError;
use super::super::group::save_segments;
use super::super::paths::{Paths, sync_folder};
use super::super::record::RecordFiles;
use super::super::recover::listed_segments;
use super::super::segment::{Segments, piece};
use super::delete::unsynced;
use super::pins::Pins;
use super::relocate::{self, CopyError, Moved, Source};
use super::unlink::{self, Unlinks};
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
#[derive(Debug)]
pub(in crate::store) struct Reclaimer {
    job: Option<Job>,
    /// Segments that have to stay for now, and with how many dead bytes that was found.
    left: BTreeMap<u32, u64>,
    /// How many dead bytes segments have, and since when.
    seen: BTreeMap<u32, (u64, Instant)>,
    /// How long the dead bytes of a segment must have been as many before it is copied from.
    rest: Duration,
    unlinks: Unlinks,
}

impl Default for Reclaimer {
    fn default() -> Self {
        Self {
            job: None,
            left: BTreeMap::new(),
            seen: BTreeMap::new(),
            rest: REST,
            unlinks: Unlinks::default(),
        }
    }
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
    /// What is copied, and not yet told by rows.
    copied: Option<Copied>,
}

/// Flows of which copies were appended.
#[derive(Debug)]
struct Copied {
    moved: Vec<Moved>,
    copies: Vec<Extent>,
    /// Number of the last piece of the copies.
    upto: u64,
}

/// How much a step may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Bytes that are copied.
    pub(super) bytes: u64,
    /// How long it may take, about.
    pub(super) time: Duration,
    /// Who brings copies to disk.
    pub(super) syncs: Syncs,
}

/// Who brings what was appended to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncs {
    /// The next commit of a group, most likely: the step after it goes on.
    Commits,
    /// The step.
    Step,
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
    ///
    /// One that is not all dead is left until nothing has died in it for a while: where the oldest flows go one after the
    /// other, the rest of it is next, and copying it would be in vain.
    pub(super) fn begin(&mut self, site: &Site<'_>, percent: u64, haste: Haste) -> Result<bool, StoreError> {
        if self.job.is_some() {
            return Ok(true);
        }
        let mut best: Option<Candidate> = None;
        let now = Instant::now();
        let rest = if haste == Haste::Full { self.rest.min(SHORT_REST) } else { self.rest };
        let mut seen = std::mem::take(&mut self.seen);
        for found in candidates(site)? {
            let since = match seen.remove(&found.number) {
                Some((dead, since)) if dead == found.dead => since,
                _ => now,
            };
            self.seen.insert(found.number, (found.dead, since));
            let stays = self.left.get(&found.number).is_some_and(|&dead| found.dead <= dead);
            let is_due = found.is_dead(WHOLE_PERCENT) || now.duration_since(since) >= rest;
            // Compared without a division: a/b > c/d.
            let more = |best: Candidate| {
                u128::from(found.dead) * u128::from(best.len) > u128::from(best.dead) * u128::from(found.len)
            };
            if !stays && is_due && found.is_dead(percent) && best.is_none_or(more) {
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

    /// For a store to which nothing else is going on: no segment has to come to rest.
    pub(in crate::store) fn hurry(&mut self) {
        self.rest = Duration::ZERO;
    }

    /// How far the segment in work is: bytes, of bytes.
    pub(super) fn at(&self) -> (u64, u64) {
        self.job.as_ref().map_or((0, 0), |job| (job.offset, job.len))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Walks on as far as the budget goes. Without a segment in work, it only looks after files that are to go.
    ///
    /// # Errors
    /// What SQLite said. A segment that cannot be read, or copied from, stays, and that is no error.
    pub(super) fn step(&mut self, site: &mut Site<'_>, budget: Budget) -> Result<(), StoreError> {
        let fail =
            |site: &Site<'_>, e| StoreError::sqlite(&site.paths.db, "moving flows to another segment", e);
        self.unlinks.step(site.conn, site.segments).map_err(|e| fail(site, e))?;
        let started = Instant::now();
        let Some(mut job) = self.job.take() else { return Ok(()) };
        if let Some(copied) = job.copied.take() {
            let mut grown = Vec::new();
            if !site.segments.is_synced(copied.upto) {
                site.segments.wait_written(copied.upto);
                grown = site.segments.sync();
            }
            if copied.copies.iter().any(|copy| site.segments.is_lost(copy)) {
                self.left.insert(job.segment, job.dead);
                return Ok(());
            }
            write(site.conn, &copied.moved, &grown).map_err(|e| fail(site, e))?;
        }
        while job.offset < job.len && started.elapsed() < budget.time {
            let mut copied = Copied { moved: Vec::new(), copies: Vec::new(), upto: 0 };
            match job.walk(site, budget, started, &mut copied) {
                Ok(Walk::Pinned(mid)) => {
                    tracing::debug!(segment = job.segment, %mid, "a segment stays for a flow that is under way");
                    self.left.insert(job.segment, job.dead);
                    return Ok(());
                }
                Ok(Walk::On) => {}
                Err(CopyError::Sqlite(error)) => return Err(fail(site, error)),
                Err(CopyError::Io(error)) => {
                    tracing::warn!(segment = job.segment, %error, "a segment stays, since what is in it cannot be copied");
                    self.left.insert(job.segment, u64::MAX);
                    return Ok(());
                }
            }
            if !copied.moved.is_empty() {
                copied.upto = site.segments.taken();
                job.copied = Some(copied);
                self.job = Some(job);
                return match budget.syncs {
                    Syncs::Commits => Ok(()),
                    Syncs::Step => self.step(site, Budget { time: Duration::ZERO, ..budget }),
                };
            }
        }
        if job.offset < job.len {
            self.job = Some(job);
            return Ok(());
        }
        drop_segment(site.conn, job.segment).map_err(|e| fail(site, e))?;
        drop(job.files);
        site.files.forget(job.segment);
        site.segments.forget(job.segment);
        self.unlinks.push(job.segment);
        self.unlinks.step(site.conn, site.segments).map_err(|e| fail(site, e))
    }

    /// Waits for the thread that takes files away.
    pub(in crate::store) fn join(&mut self) {
        self.unlinks.end();
    }

    /// Waits until the files of all segments that were dropped are gone.
    ///
    /// # Errors
    /// What SQLite said.
    pub(in crate::store) fn finish(
        &mut self,
        conn: &mut Connection,
        segments: &Segments,
    ) -> rusqlite::Result<()> {
        self.unlinks.finish(conn, segments)
    }
}

impl Candidate {
    fn is_dead(&self, percent: u64) -> bool {
        u128::from(self.dead) * 100 >= u128::from(self.len) * u128::from(percent.max(1))
    }
}

/// Whether there is more in the files than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    None,
    Full,
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
        Ok(Self { segment: candidate.number, files, offset: 0, len, dead: candidate.dead, copied: None })
    }

    /// Walks on until something is copied, or the time is up.
    fn walk(
        &mut self,
        site: &Site<'_>,
        budget: Budget,
        started: Instant,
        copied: &mut Copied,
    ) -> Result<Walk, CopyError> {
        let mut pieces = BufReader::with_capacity(64 << 10, &self.files[0]);
        pieces.seek(SeekFrom::Start(self.offset))?;
        let (segment, file) = (self.segment, &self.files[1]);
        let mut source =
            Source { segment, file, segments: site.segments, budget: budget.bytes, copies: Vec::new() };
        let mut seen = HashSet::new();
        // Where the oldest flows go first, nothing below is left, and needs no look.
        let lowest = relocate::lowest(site.conn)?;
        for walked in 1.. {
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
                if lowest.is_some_and(|lowest| mid >= lowest) {
                    copied.moved.extend(relocate::copy(site.conn, site.files, &mut source, mid)?);
                }
                if source.budget == 0 {
                    // There may be more of it: it is looked at again.
                    break;
                }
                seen.insert(mid);
            }
            pieces.seek_relative(i64::from(piece.len))?;
            self.offset += piece.stored_len();
            if walked % LOOK_PIECES == 0 && started.elapsed() >= budget.time {
                break;
            }
        }
        copied.copies.append(&mut source.copies);
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

/// Segments whose files were found to be gone.
pub(super) type Missing = BTreeSet<u32>;

/// Has a row in `segment` for each file: commits with [`Durability::Normal`](super::super::Durability::Normal) make none.
/// And tells, once, of files that somebody took away.
pub(super) fn know_files(
    conn: &mut Connection,
    paths: &Paths,
    missing: &mut Missing,
) -> Result<(), StoreError> {
    let fail = |e| StoreError::sqlite(&paths.db, "counting the segments", e);
    let known = known(conn).map_err(fail)?;
    let numbers = listed_segments(paths)?;
    let new: Vec<u32> = numbers.iter().copied().filter(|number| !known.contains_key(number)).collect();
    if !new.is_empty() {
        let know = |conn: &mut Connection| {
            new.iter().try_for_each(|number| conn.prepare_cached(KNOW)?.execute([number]).map(drop))
        };
        unsynced(conn, know).map_err(fail)?;
    }
    let is_there = |number: &u32| numbers.binary_search(number).is_ok();
    missing.retain(|number| !is_there(number));
    for (&number, &len) in &known {
        if len > 0 && !is_there(&number) && missing.insert(number) {
            tracing::error!(
                segment = number,
                "the file of a segment was taken away: what was in it is lost, as `manent check` tells"
            );
        }
    }
    Ok(())
}

/// The segments that the table has, with their lengths; 0 for those that were dropped.
fn known(conn: &Connection) -> rusqlite::Result<BTreeMap<u32, i64>> {
    let mut statement = conn.prepare_cached(KNOWN)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Has rows say where the copies are, which are on disk. Nobody waits for these rows: until they are on disk, the old ones name
/// bytes that are still there.
fn write(conn: &mut Connection, moved: &[Moved], grown: &[(u32, u64)]) -> rusqlite::Result<()> {
    unsynced(conn, |conn| {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        moved.iter().try_for_each(|moved| moved.write(&tx))?;
        save_segments(&tx, grown)?;
        tx.commit()
    })
}

/// Marks a segment to which no row refers any more. Its file may go when this is on disk.
fn drop_segment(conn: &mut Connection, number: u32) -> rusqlite::Result<()> {
    unsynced(conn, |conn| conn.prepare_cached(DROP)?.execute([number]).map(drop))
}

/// At opening: finishes what a writer that was killed had begun.
pub(in crate::store) fn finish_drops(conn: &Connection, paths: &Paths) -> Result<(), StoreError> {
    let fail = |e| StoreError::sqlite(&paths.db, "reading the segments", e);
    let mut statement = conn.prepare(DROPPED).map_err(fail)?;
    let rows = statement.query_map([], |row| row.get::<_, u32>(0)).map_err(fail)?;
    for number in rows.collect::<Result<Vec<_>, _>>().map_err(fail)? {
        let path = paths.segment(number);
        let removed = std::fs::remove_file(&path).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        });
        removed
            .and_then(|()| sync_folder(&paths.bodies))
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            .map_err(|e| StoreError::io(&path, "deleting a segment", e))?;
        unlink::forget(conn, number).map_err(fail)?;
    }
    Ok(())
}

/// How long nothing must have died in a segment before what is live is copied out; the same where the files are too large.
const REST: Duration = Duration::from_secs(10);
const SHORT_REST: Duration = Duration::from_secs(1);

/// One that is as dead as this is not waited for. What dies uncounted is less.
const WHOLE_PERCENT: u64 = 98;

/// Flows that are looked at in a step: some milliseconds, where each has to be copied.
const WALK_FLOWS: usize = 10_000;

/// Pieces between two looks at the clock.
const LOOK_PIECES: u32 = 32;

const DEAD_SEGMENTS: &str = "SELECT number, dead FROM segment WHERE dead > 0 AND dropped = 0 AND number < ?1";
const KNOWN: &str = "SELECT number, CASE dropped WHEN 0 THEN len ELSE 0 END FROM segment";
const KNOW: &str = "INSERT OR IGNORE INTO segment (number, len) VALUES (?1, 0)";
const DROP: &str = "UPDATE segment SET dropped = 1 WHERE number = ?1";
const DROPPED: &str = "SELECT number FROM segment WHERE dropped = 1";
