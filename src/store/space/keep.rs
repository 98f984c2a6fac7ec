//! Keeping a store within its limits while it is written, on the writing thread, in steps between commits.
//!
//! A step deletes a slice of the oldest flows, or copies a little out of a segment that is mostly dead, or looks for
//! connections that nobody refers to. None of them waits for the disk: rows that go are on disk with the next commit of a
//! group, copies are synced by it, and files go on a thread of their own. How long a step is, and how soon the next one
//! follows, depends on how far the store is beyond its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::StoreError;
use super::super::group::Used;
use super::super::paths::Paths;
use super::super::record::RecordFiles;
use super::super::segment::Segments;
use super::super::source::Source;
use super::count::Count;
use super::delete::{self, Freed, unsynced};
use super::limits::Limits;
use super::oldest;
use super::pins::Pins;
use super::reclaim::{self, Budget, Haste, Reclaimer, Site, Syncs};
use super::sweep::{Sweep, Swept};
use super::usage::Usage;
use crate::flow::Mid;

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Nothing for now.
    Idle,
    /// Something is on its way in another thread, and will be ready in a moment.
    Later,
    /// Another step is due, after a rest that is so many times as long as this one was.
    More {
        /// 0 to 4; the further the store is beyond its limits, the less.
        rest: u32,
    },
}

/// The state of it.
#[derive(Debug)]
pub(in crate::store) struct Space {
    limits: Limits,
    pub(in crate::store) pins: Pins,
    files: RecordFiles,
    pub(in crate::store) reclaimer: Reclaimer,
    sweep: Sweep,
    /// Flows up to this mid were looked at, and stay.
    floor: Mid,
    /// When flows that were left are looked at again.
    look_back: Instant,
    next_check: Instant,
    /// When the files of segments are looked at.
    next_files: Instant,
    /// Flows that are deleted in a slice, so many that it is short.
    slice: usize,
    /// Whose turn it is, where several have work.
    turn: Turn,
    count: Count,
    pressure: Pressure,
    /// Segment files that were found to be gone, so that it is told once.
    missing: reclaim::Missing,
    /// What was deleted so far.
    pub(in crate::store) freed: Freed,
}

/// What a step works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Delete,
    Reclaim,
    Sweep,
}

/// How far the store is beyond its limits, by the last look.
#[derive(Debug, Clone, Copy)]
struct Pressure {
    rest: u32,
    time: Duration,
    haste: Haste,
}

impl Space {
    pub(in crate::store) fn new(paths: &Paths, limits: Limits) -> Self {
        Self {
            limits,
            pins: Pins::default(),
            files: RecordFiles::new(Arc::new(Source::new(paths.clone(), None))),
            reclaimer: Reclaimer::default(),
            sweep: Sweep::default(),
            floor: Mid(0),
            look_back: Instant::now() + LOOK_BACK,
            next_check: Instant::now(),
            next_files: Instant::now(),
            slice: LEAST_SLICE,
            turn: Turn::Delete,
            count: Count::default(),
            pressure: Pressure::LEAST,
            missing: reclaim::Missing::default(),
            freed: Freed::default(),
        }
    }

    /// What the store may hold from now on.
    pub(in crate::store) fn keep_within(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            (self.floor, self.next_check) = (Mid(0), Instant::now());
        }
    }

    /// As if the time of the next look had come, and for a store to which nothing else is going on.
    pub(in crate::store) fn look_now(&mut self) {
        (self.next_check, self.next_files) = (Instant::now(), Instant::now());
        self.reclaimer.hurry();
    }

    /// A group is committed that had so many flows that are new, and took so many out again.
    pub(in crate::store) fn committed(&mut self, fresh: usize, taken_out: usize) {
        self.count.changed(fresh, taken_out);
    }

    /// Whether what rows refer to is to be told to [`Space::used`].
    pub(in crate::store) fn wants_used(&self) -> bool {
        self.sweep.is_busy()
    }

    /// Rows were written that refer to these.
    pub(in crate::store) fn used(&mut self, used: &[Used]) {
        self.sweep.used(used);
    }

    /// Does a little, in some milliseconds; and whether connections or hosts went, so that what is remembered of them is wrong.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub(in crate::store) fn step(
        &mut self,
        conn: &mut Connection,
        paths: &Paths,
        segments: &Segments,
    ) -> Result<(Step, Swept), StoreError> {
        let now = Instant::now();
        if now < self.next_check && !self.reclaimer.is_busy() && !self.sweep.is_busy() {
            return Ok((Step::Idle, Swept::Nothing));
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
        let until = now + self.pressure.time;
        // Each in its turn, and who has nothing to do leaves it to the next.
        for _ in 0..3 {
            let turn = self.turn;
            self.turn = turn.next();
            let (has_more, swept) = match turn {
                Turn::Delete => (self.delete(conn, paths, until)?, Swept::Nothing),
                Turn::Reclaim => (self.reclaim(conn, paths, segments, until)?, Swept::Nothing),
                Turn::Sweep => {
                    let swept = self.sweep.step(conn);
                    let fail = |e| StoreError::sqlite(&paths.db, "looking for unused connections", e);
                    let swept = swept.map_err(fail)?;
                    (swept != Swept::Nothing, swept)
                }
            };
            if has_more || Instant::now() >= until {
                return Ok((Step::More { rest: self.pressure.rest }, swept));
            }
        }
        self.next_check = Instant::now() + CHECK;
        Ok((Step::Idle, Swept::Nothing))
    }

    fn reclaim(
        &mut self,
        conn: &mut Connection,
        paths: &Paths,
        segments: &Segments,
        until: Instant,
    ) -> Result<bool, StoreError> {
        if !self.reclaimer.is_busy() {
            self.count_segments(conn, paths)?;
        }
        let haste = self.pressure.haste;
        let mut site = Site { conn, paths, segments, files: &self.files, pins: &self.pins };
        // Over the limit, what is dead is worth more than the time to get it.
        let percent = if haste == Haste::Full { LEAST_DEAD_PERCENT } else { MOSTLY_DEAD_PERCENT };
        let has_work = self.reclaimer.begin(&site, percent, haste)?;
        let bytes = if self.pressure.rest == 0 { 4 * STEP_BYTES } else { STEP_BYTES };
        let time = until.saturating_duration_since(Instant::now()).max(LEAST_TIME);
        self.reclaimer.step(&mut site, Budget { bytes, time, syncs: Syncs::Commits })?;
        Ok(has_work)
    }

    /// Brings the table of segments up to what is known otherwise.
    fn count_segments(&mut self, conn: &mut Connection, paths: &Paths) -> Result<(), StoreError> {
        let now = Instant::now();
        if now >= self.next_files {
            self.next_files = now + FILES;
            reclaim::know_files(conn, paths, &mut self.missing)?;
        }
        let dead = self.pins.take_dead();
        if dead.is_empty() {
            return Ok(());
        }
        unsynced(conn, |conn| delete::count_dead(conn, dead))
            .map_err(|e| StoreError::sqlite(&paths.db, "counting dead bytes", e))
    }

    /// Deletes some of the oldest flows if there are too many; whether there may be more of them.
    fn delete(&mut self, conn: &mut Connection, paths: &Paths, until: Instant) -> Result<bool, StoreError> {
        if !self.limits.any() {
            return Ok(false);
        }
        let usage = Usage::of(conn, paths)?;
        // Nobody waits for it to be on disk.
        let work = |conn: &mut Connection| self.delete_slices(conn, &usage, until);
        unsynced(conn, work)
            .map_err(|e| StoreError::sqlite(&paths.db, "keeping the store within its limits", e))
    }

    fn delete_slices(
        &mut self,
        conn: &mut Connection,
        usage: &Usage,
        until: Instant,
    ) -> rusqlite::Result<bool> {
        let mut bytes = 0;
        loop {
            let flows = match self.limits.max_flows {
                Some(max) => self.count.flows(conn, max)?,
                None => 0,
            };
            if self.count.is_under_way() {
                return Ok(true);
            }
            let mut excess = self.limits.excess(flows, usage);
            excess.bytes = excess.bytes.saturating_sub(bytes);
            self.pressure = Pressure::of(&self.limits, flows, usage, None);
            if excess.is_none() {
                return Ok(false);
            }
            let started = Instant::now();
            let patience = until.saturating_duration_since(started).max(LEAST_TIME);
            let slice = oldest::delete(conn, &self.files, (self.floor, self.slice), &excess, patience)?;
            self.slice = match started.elapsed() {
                short if short < SHORT => (self.slice + self.slice / 2).min(SLICE),
                long if long > 2 * SHORT => (self.slice / 2).max(LEAST_SLICE),
                _ => self.slice,
            };
            self.freed += slice.freed;
            bytes += slice.freed.bytes;
            self.floor = slice.last.unwrap_or(self.floor);
            self.pressure = Pressure::of(&self.limits, flows, usage, slice.oldest);
            if !slice.more || Instant::now() >= until {
                return Ok(slice.more);
            }
        }
    }
}

impl Turn {
    fn next(self) -> Self {
        match self {
            Turn::Delete => Turn::Reclaim,
            Turn::Reclaim => Turn::Sweep,
            Turn::Sweep => Turn::Delete,
        }
    }
}

impl Pressure {
    /// A fifth of the time, in steps that no commit feels.
    const LEAST: Self = Self { rest: 4, time: Duration::from_millis(4), haste: Haste::None };

    /// Where more comes than goes, the share rises before the store is a quarter too large; in the end a step follows each
    /// commit, and is as long as a disk's sync.
    fn of(limits: &Limits, flows: u64, usage: &Usage, oldest: Option<i64>) -> Self {
        let haste = if limits.are_files_over(usage) { Haste::Full } else { Haste::None };
        let (rest, time) = match limits.over_per_mille(flows, usage, oldest) {
            0..60 => (4, Self::LEAST.time),
            60..120 => (2, Self::LEAST.time),
            120..250 => (1, Duration::from_millis(6)),
            _ => (0, Duration::from_millis(12)),
        };
        Self { rest, time, haste }
    }
}

/// How often limits are looked at: often, so that little is to be done at a time.
const CHECK: Duration = Duration::from_millis(200);

/// How often the folder of segments is.
const FILES: Duration = Duration::from_secs(1);

/// How often flows that were left, and segments, are looked at again.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// Flows in one transaction, at most and at least, and how long it should take.
const SLICE: usize = 4096;
const LEAST_SLICE: usize = 64;
const SHORT: Duration = Duration::from_millis(2);

/// How long a slice may read records at least.
const LEAST_TIME: Duration = Duration::from_millis(1);

/// What is copied in a step.
const STEP_BYTES: u64 = 1 << 20;

/// Copying a live byte for less than a dead one would be more work than it gives back.
const MOSTLY_DEAD_PERCENT: u64 = 50;
const LEAST_DEAD_PERCENT: u64 = 10;
