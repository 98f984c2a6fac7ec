//! Keeping a store within its limits while it is written, on the writing thread, in steps between commits.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

use super::super::StoreError;
use super::super::paths::Paths;
use super::super::record::RecordFiles;
use super::super::recover::listed_segments;
use super::super::row::sqlite_int;
use super::super::schema;
use super::super::segment::Segments;
use super::super::source::Source;
use super::delete::{self, Doomed, Freed, Marked, Synchronous, has_notes, with_synchronous};
use super::pins::Pins;
use super::reclaim::{self, Reclaimer, Site};
use crate::flow::Mid;

/// What a store may hold. Flows beyond it are deleted, those with the lowest mids first; flows that are marked or under way
/// stay, and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Flows that began longer ago go.
    pub max_age: Option<Duration>,
    /// Bytes of database, WAL and segments. An eighth of it is kept free for what is dead and not reclaimed yet.
    pub max_size_bytes: Option<u64>,
    /// Flows.
    pub max_flows: Option<u64>,
}

impl Limits {
    fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Segments of this size are small enough that the dead part of one does not count.
    fn roll_bytes(&self) -> Option<u64> {
        self.max_size_bytes.map(|max| (max / 8).max(LEAST_SEGMENT))
    }

    /// Bytes that may be live.
    fn live_bytes(&self) -> Option<u64> {
        self.max_size_bytes.map(|max| max - max / 8)
    }
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Nothing for now.
    Idle,
    /// Something is on its way in another thread, and will be ready in a moment.
    Later,
    /// Another step is due.
    More,
}

/// The state of it.
#[derive(Debug)]
pub(in crate::store) struct Space {
    limits: Limits,
    pub(in crate::store) pins: Pins,
    files: RecordFiles,
    pub(in crate::store) reclaimer: Reclaimer,
    /// Flows up to this mid were looked at, and stay.
    floor: Mid,
    /// When flows that were left are looked at again.
    look_back: Instant,
    next_check: Instant,
    /// Flows that are deleted in a step, so many that it is short.
    batch: usize,
    /// Whether the last step deleted some: then the next one copies.
    deleted: bool,
    count: Count,
    /// What was deleted so far.
    pub(in crate::store) freed: Freed,
}

/// How many flows there are, so that nobody has to count a million of them each second.
#[derive(Debug, Default)]
struct Count {
    flows: u64,
    /// Of a count that is under way: up to which mid, and how many.
    pass: Option<(i64, u64)>,
    /// SQLite's `data_version` when counting began; another tells that another process has written.
    version: Option<i64>,
}

impl Space {
    pub(in crate::store) fn new(paths: &Paths, limits: Limits) -> Self {
        Self {
            limits,
            pins: Pins::default(),
            files: RecordFiles::new(Arc::new(Source::new(paths.clone(), None))),
            reclaimer: Reclaimer::default(),
            floor: Mid(0),
            look_back: Instant::now() + LOOK_BACK,
            next_check: Instant::now(),
            batch: LEAST_BATCH,
            deleted: false,
            count: Count::default(),
            freed: Freed::default(),
        }
    }

    /// For tests: as if the time of the next look had come.
    #[cfg(test)]
    pub(in crate::store) fn look_now(&mut self) {
        self.next_check = Instant::now();
    }

    /// A group is committed that had so many flows that are new.
    pub(in crate::store) fn committed(&mut self, fresh: usize) {
        self.count.flows += fresh as u64;
    }

    /// Does a little: deletes some hundred flows, or copies some megabytes. A few milliseconds, and syncs.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub(in crate::store) fn step(
        &mut self,
        conn: &mut Connection,
        paths: &Paths,
        segments: &Segments,
    ) -> Result<Step, StoreError> {
        let now = Instant::now();
        if now < self.next_check && !self.reclaimer.is_busy() {
            return Ok(Step::Idle);
        }
        if now > self.look_back {
            (self.floor, self.look_back) = (Mid(0), now + LOOK_BACK);
            self.reclaimer.forgive();
        }
        if let Some(bytes) = self.limits.roll_bytes()
            && segments.current().offset >= bytes
        {
            segments.roll();
        }
        if !self.reclaimer.is_busy() {
            reclaim::know_files(conn, paths)?;
            delete::count_dead(conn, self.pins.take_dead())
                .map_err(|e| StoreError::sqlite(&paths.db, "counting dead bytes", e))?;
        }
        let (deleted, usage) = match self.deleted && self.reclaimer.is_busy() {
            true => (false, Usage::default()),
            false => self.enforce(conn, paths)?,
        };
        self.deleted = deleted;
        // Over the limit, what is dead is worth more than the time to get it.
        let is_over = self.limits.max_size_bytes.is_some_and(|max| usage.bytes > max);
        let percent = if is_over { LEAST_DEAD_PERCENT } else { MOSTLY_DEAD_PERCENT };
        let mut site = Site { conn, paths, segments, files: &self.files, pins: &self.pins };
        let busy = self.reclaimer.begin(&site, percent)?;
        if !deleted {
            self.reclaimer.step(&mut site, STEP_BYTES)?;
        }
        if busy || deleted || self.count.pass.is_some() {
            return Ok(Step::More);
        }
        self.next_check = Instant::now() + CHECK;
        Ok(Step::Idle)
    }

    /// Deletes some of the oldest flows if there are too many; whether there may be more of them.
    fn enforce(&mut self, conn: &mut Connection, paths: &Paths) -> Result<(bool, Usage), StoreError> {
        let fail = |e| StoreError::sqlite(&paths.db, "keeping the store within its limits", e);
        if !self.limits.any() {
            return Ok((false, Usage::default()));
        }
        let (usage, started) = (Usage::of(conn, paths)?, Instant::now());
        let oldest = oldest(conn, self.floor, self.batch).map_err(fail)?;
        let excess_bytes = self.limits.live_bytes().map_or(0, |max| usage.live().saturating_sub(max));
        let excess_flows = match self.limits.max_flows {
            Some(max) => self.count.flows(conn, max).map_err(fail)?.saturating_sub(max),
            None => 0,
        };
        let cutoff =
            self.limits.max_age.map_or(i64::MIN, |age| sqlite_int(unix_ns().saturating_sub(nanos(age))));
        let too_old = oldest.iter().take_while(|(_, started)| *started < cutoff).count();
        let due = too_old.max(usize::try_from(excess_flows).unwrap_or(usize::MAX)).min(oldest.len());
        let due = if excess_bytes > 0 { oldest.len() } else { due };
        let mids: Vec<Mid> = oldest[..due].iter().map(|(mid, _)| *mid).collect();
        let Some(first) = mids.first() else { return Ok((false, usage)) };
        self.floor = Mid(first.0.saturating_sub(1));
        tracing::trace!(%first, due, "flows beyond the limits");
        let plan = delete::plan(conn, &self.files, &mids, Marked::Keep, PLAN_TIME).map_err(fail)?;
        let by_bytes = enough(&plan.doomed, excess_bytes);
        let least = too_old.max(usize::try_from(excess_flows).unwrap_or(usize::MAX));
        let doomed = &plan.doomed[..plan.doomed.len().min(least.max(by_bytes))];
        // Nobody waits for it to be on disk. A segment is dropped by a commit that does.
        let work = |conn: &mut Connection| delete::delete(conn, doomed, Marked::Keep);
        let freed = with_synchronous(conn, Synchronous::Normal, work).map_err(fail)?;
        self.batch = match started.elapsed() {
            short if short < SHORT => (self.batch + self.batch / 4).min(BATCH),
            long if long > 2 * SHORT => (self.batch / 2).max(LEAST_BATCH),
            _ => self.batch,
        };
        self.count.flows = self.count.flows.saturating_sub(freed.flows);
        self.freed += freed;
        // All that was looked at and is still there stays.
        if freed.flows == 0
            && let Some(last) = mids.get(plan.looked_at.saturating_sub(1))
        {
            self.floor = *last;
        }
        Ok((true, usage))
    }
}

/// How many of these make up so many bytes.
fn enough(doomed: &[Doomed], bytes: u64) -> usize {
    let sums = doomed.iter().scan(0_u64, |sum, doomed| {
        let before = *sum;
        *sum = sum.saturating_add(doomed.bytes);
        Some(before)
    });
    sums.take_while(|before| *before < bytes).count()
}

impl Count {
    /// How many flows there are; 0 while it is not known, and where there cannot be too many.
    fn flows(&mut self, conn: &Connection, max: u64) -> rusqlite::Result<u64> {
        let version: i64 = conn.pragma_query_value(None, "data_version", |row| row.get(0))?;
        let span: i64 = conn.prepare_cached(SPAN)?.query_row([], |row| row.get(0))?;
        if span.cast_unsigned() <= max {
            return Ok(0);
        }
        if self.version != Some(version) {
            (self.version, self.pass) = (Some(version), Some((0, 0)));
        }
        let Some((after, sum)) = self.pass else { return Ok(self.flows) };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
        let (count, last) = conn.prepare_cached(COUNT)?.query_row(params![after, COUNT_ROWS], read)?;
        let sum = sum + count.cast_unsigned();
        match last.filter(|_| count == COUNT_ROWS) {
            Some(last) => {
                self.pass = Some((last, sum));
                Ok(0)
            }
            None => {
                (self.pass, self.flows) = (None, sum);
                Ok(sum)
            }
        }
    }
}

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
        let dead: i64 = match schema::version(conn).map_err(fail)? {
            0..6 => 0,
            _ => {
                conn.prepare_cached(DEAD).and_then(|mut s| s.query_row([], |row| row.get(0))).map_err(fail)?
            }
        };
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let segments = listed_segments(paths)?.into_iter().map(|n| len(&paths.segment(n))).sum::<u64>();
        let mut wal = paths.db.clone().into_os_string();
        wal.push("-wal");
        Ok(Self {
            bytes: len(&paths.db) + len(wal.as_ref()) + segments,
            dead: dead.cast_unsigned(),
            free: pages * page,
        })
    }

    /// Bytes that deleting flows can make less.
    pub(super) fn live(&self) -> u64 {
        self.bytes.saturating_sub(self.dead).saturating_sub(self.free)
    }
}

/// The oldest flows above `floor` that are neither marked nor under way, with their starts.
pub(super) fn oldest(conn: &Connection, floor: Mid, limit: usize) -> rusqlite::Result<Vec<(Mid, i64)>> {
    let sql = if has_notes(conn)? { OLDEST_UNMARKED } else { OLDEST };
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = |row: &rusqlite::Row<'_>| Ok((Mid(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?));
    statement.query_map(params![sqlite_int(floor.0), limit], read)?.collect()
}

fn unix_ns() -> u64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How often limits are looked at. In a second, a disk takes a gigabyte at most.
pub(super) const CHECK: Duration = Duration::from_secs(1);

/// How often flows that were left, and segments, are looked at again.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// Flows in one transaction, at most and at least, and how long a step should take that deletes some.
const BATCH: usize = 1000;
const LEAST_BATCH: usize = 64;
const SHORT: Duration = Duration::from_millis(4);

/// How long records may be read before it.
const PLAN_TIME: Duration = Duration::from_millis(5);

/// Rows that are counted at a time: about a millisecond.
const COUNT_ROWS: i64 = 20_000;

/// What is copied between two commits.
const STEP_BYTES: u64 = 1 << 20;

/// Copying a live byte for less than a dead one would be more work than it gives back.
const MOSTLY_DEAD_PERCENT: u64 = 50;
const LEAST_DEAD_PERCENT: u64 = 10;

/// Smaller files would be many.
const LEAST_SEGMENT: u64 = 1 << 20;

const SPAN: &str = "SELECT ifnull((SELECT max(mid) FROM flow) - (SELECT min(mid) FROM flow) + 1, 0)";
const COUNT: &str =
    "SELECT count(*), max(mid) FROM (SELECT mid FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2)";
const DEAD: &str = "SELECT ifnull(sum(dead), 0) FROM segment WHERE dropped = 0";
const OLDEST: &str =
    "SELECT mid, started_unix_ns FROM flow WHERE mid > ?1 AND state <> 0 ORDER BY mid LIMIT ?2";
const OLDEST_UNMARKED: &str = "SELECT mid, started_unix_ns FROM flow WHERE mid > ?1 AND state <> 0 AND NOT EXISTS \
     (SELECT 1 FROM note WHERE note.mid = flow.mid AND marker <> '') ORDER BY mid LIMIT ?2";
