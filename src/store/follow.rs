//! Following a store that another process writes: each flow once, and once more when it ends if it was open before.
//!
//! SQLite tells cheaply whether anything was committed since the last look (`PRAGMA data_version`, sqlite.org/pragma.html).
//! Then only these rows are read: those above the highest mid seen, those of flows that were open, and those of mids that
//! had been passed without a row ([`Gaps`]), since flows do not end in the order in which they began.
//!
//! A store that is replaced by another file is read to its end first, then the other one from its beginning.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::gaps::Gaps;
use super::{ListQuery, Order, Reader, Row, StoreError};
use crate::flow::{Mid, State};

/// See the module. Its methods block, for moments.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    reader: Option<Reader>,
    /// The file that the reader has open: device and inode.
    file: Option<(u64, u64)>,
    /// What `data_version` was, and how often it was seen to change.
    version: Option<i64>,
    changes: u64,
    /// The change up to which new rows were looked for.
    looked: u64,
    seen: Seen,
    /// What is still to be read of this look.
    due: VecDeque<RangeInclusive<u64>>,
}

/// Which flows were given.
#[derive(Debug, Default)]
struct Seen {
    highest: u64,
    gaps: Gaps,
    /// Flows that had not ended.
    open: BTreeSet<u64>,
}

impl Follower {
    /// Follows what is at `path`, now or later, from its first flow on.
    #[must_use]
    pub fn from_first(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            reader: None,
            file: None,
            version: None,
            changes: 1,
            looked: 0,
            seen: Seen::default(),
            due: VecDeque::new(),
        }
    }

    /// Follows the store at `path` from what is stored in it from now on. Flows that are under way are given when they end.
    ///
    /// # Errors
    /// As [`Reader::open`]; else what SQLite said.
    pub fn from_now(path: &Path) -> Result<Self, StoreError> {
        let mut follower = Self::from_first(path);
        let file = file_at(path);
        let reader = Reader::open(path)?;
        // Before the rest: what is committed meanwhile is looked at again.
        follower.version = Some(reader.data_version()?);
        follower.seen = Seen::so_far(&reader)?;
        (follower.reader, follower.file) = (Some(reader), file);
        Ok(follower)
    }

    /// Rows that are news since the last call, in the order of their mids, and no more than some hundred: another call may
    /// have more. None if there are none now, or there is no store yet.
    ///
    /// # Errors
    /// If the store cannot be opened or read. Nothing is missed by that: a later call may find that it can.
    pub fn news(&mut self) -> Result<Vec<Row>, StoreError> {
        self.news_at(Instant::now())
    }

    /// As [`Follower::news`], at this time.
    pub(super) fn news_at(&mut self, now: Instant) -> Result<Vec<Row>, StoreError> {
        let result = self.next_rows(now);
        if result.is_err() {
            // Whatever was left to be read is due again.
            (self.reader, self.version) = (None, None);
            self.due.clear();
        }
        result
    }

    /// The store, while it is open.
    #[must_use]
    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    /// Notes a row that was given otherwise.
    pub fn note(&mut self, row: &Row) {
        self.seen.is_news(row, self.changes, Instant::now());
    }

    fn next_rows(&mut self, now: Instant) -> Result<Vec<Row>, StoreError> {
        loop {
            if self.due.is_empty() {
                let replaced = self.is_replaced();
                let Some(reader) = &self.reader else {
                    if !self.open()? {
                        return Ok(Vec::new());
                    }
                    continue;
                };
                let version = reader.data_version()?;
                if self.version != Some(version) {
                    self.version = Some(version);
                    self.changes += 1;
                } else if replaced {
                    self.due.extend(self.seen.gaps.due(self.changes, now + LATER));
                    if !self.due.is_empty() {
                        continue;
                    }
                    // It has been read to its end.
                    let path = std::mem::take(&mut self.path);
                    *self = Self { changes: self.changes, ..Self::from_first(&path) };
                    continue;
                }
                self.begin_look(now)?;
                if self.due.is_empty() {
                    return Ok(Vec::new());
                }
            }
            let rows = self.read_due(now)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
    }

    /// Whether another file has taken the place of the one that is open. One that is just being made has no bytes.
    fn is_replaced(&self) -> bool {
        let there = file_at(&self.path);
        self.reader.is_some() && there.is_some() && there != self.file
    }

    /// Opens the store; `false` if there is none yet.
    fn open(&mut self) -> Result<bool, StoreError> {
        let Some(file) = file_at(&self.path) else { return Ok(false) };
        let reader = Reader::open(&self.path)?;
        let highest = reader.highest_mid()?.map_or(0, |mid| mid.0);
        // The same file after an error goes on; but one that was written over is another one.
        if self.file != Some(file) || highest < self.seen.highest {
            self.seen = Seen::default();
        }
        (self.reader, self.file, self.version) = (Some(reader), Some(file), None);
        self.changes += 1;
        Ok(true)
    }

    /// Finds what is to be read now.
    fn begin_look(&mut self, now: Instant) -> Result<(), StoreError> {
        let Some(reader) = &self.reader else { return Ok(()) };
        self.due.extend(self.seen.gaps.due(self.changes, now));
        if self.looked == self.changes {
            return Ok(());
        }
        self.looked = self.changes;
        if !self.seen.open.is_empty() {
            let open: BTreeSet<u64> = reader.open_mids(MAX_OPEN)?.into_iter().map(|mid| mid.0).collect();
            self.due.extend(self.seen.open.difference(&open).map(|&mid| mid..=mid));
            self.due.make_contiguous().sort_unstable_by_key(|mids| *mids.start());
        }
        self.due.push_back(self.seen.highest.saturating_add(1)..=u64::MAX);
        Ok(())
    }

    /// Reads some of what is due.
    fn read_due(&mut self, now: Instant) -> Result<Vec<Row>, StoreError> {
        let Some(reader) = &self.reader else { return Ok(Vec::new()) };
        let mut news = Vec::new();
        while news.len() < PAGE
            && let Some(mids) = self.due.pop_front()
        {
            let query = ListQuery {
                limit: Some(PAGE),
                after: mids.start().checked_sub(1).map(Mid),
                before: mids.end().checked_add(1).map(Mid),
                order: Order::OldestFirst,
            };
            let rows = reader.list(&query)?;
            if let Some(last) = rows.last().filter(|_| rows.len() == PAGE) {
                self.due.push_front(last.mid.0.saturating_add(1)..=*mids.end());
            }
            if rows.is_empty() && mids.start() == mids.end() {
                // A flow that was open and is wanted no more.
                self.seen.open.remove(mids.start());
            }
            let (seen, change) = (&mut self.seen, self.changes);
            news.extend(rows.into_iter().filter(|row| seen.is_news(row, change, now)));
        }
        Ok(news)
    }
}

impl Seen {
    /// All that is in the store. What was passed without a row is looked for among the last mids only: a flow that began
    /// long ago has a row, as an open one.
    fn so_far(reader: &Reader) -> Result<Self, StoreError> {
        let mut seen = Self::default();
        let Some(highest) = reader.highest_mid()? else { return Ok(seen) };
        seen.highest = highest.0;
        let now = Instant::now();
        let mut next = highest.0.saturating_sub(WINDOW).max(1);
        reader.each_mid(Mid(next), highest, &mut |mid| {
            seen.gaps.add(next..=mid.0.saturating_sub(1), 0, now);
            next = mid.0.saturating_add(1);
        })?;
        // Those that end from here on are found, also if they were gaps a moment ago.
        seen.open = reader
            .open_mids(MAX_OPEN)?
            .into_iter()
            .map(|mid| mid.0)
            .filter(|mid| *mid <= highest.0)
            .collect();
        Ok(seen)
    }

    /// Notes a row; whether it was not given before, as it is now.
    fn is_news(&mut self, row: &Row, change: u64, now: Instant) -> bool {
        let mid = row.mid.0;
        let is_new = if mid > self.highest {
            self.gaps.add(self.highest + 1..=mid - 1, change, now);
            self.highest = mid;
            true
        } else {
            self.gaps.remove(mid)
        };
        if row.state != State::Open {
            return self.open.remove(&mid) || is_new;
        }
        if is_new {
            self.open.insert(mid);
            if self.open.len() > MAX_OPEN {
                self.open.pop_first();
            }
        }
        is_new
    }
}

/// Device and inode of the file at a path, if it is there and not empty.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    (meta.len() > 0).then(|| (meta.dev(), meta.ino()))
}

/// Later than any gap waits to be looked at.
const LATER: Duration = Duration::from_secs(3600);

/// Rows at a time.
const PAGE: usize = 500;

/// Mids below the highest one that may belong to flows without a row: more than pass in the second after which a flow that
/// goes on gets one.
const WINDOW: u64 = 65_536;

/// Flows whose end is waited for, at most. As many as can be under way in a recorder, by default.
const MAX_OPEN: usize = 16_384;
