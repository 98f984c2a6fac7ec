//! Walking over the mids of a store block by block, each with its zone, in constant memory.

use std::collections::VecDeque;

use rusqlite::{Connection, params};

use super::summary::{self, Zone};
use super::{BLOCK_BITS, EXISTS};
use crate::flow::Mid;
use crate::store::row::sqlite_int;
use crate::store::{Order, StoreError};

/// A run of mids: a block with its zone, or any number of blocks in a row that have none. Each is scanned, or left out, as
/// a whole.
#[derive(Debug, Clone)]
pub struct Block {
    /// The lowest mid.
    pub first: Mid,
    /// The highest mid, itself within.
    pub last: Mid,
    /// What its rows hold. `None`: that is not known, so any of them may match.
    pub zone: Option<Zone>,
}

/// The blocks of a store from one mid to another. Together they are all mids between, each once.
///
/// Zones are read a few at a time, each time as the store is then. A row that is written anew while one walks may so be
/// seen as it was before.
#[derive(Debug)]
pub struct Blocks<'r> {
    reader: (&'r Connection, &'r std::path::Path),
    order: Order,
    /// What is left, both ends within.
    left: Option<(u64, u64)>,
    /// Zones that were read and lie within what is left.
    read: VecDeque<Zone>,
    /// Whether there may be more of them.
    more: bool,
}

impl<'r> Blocks<'r> {
    pub(in crate::store) fn new(
        reader: (&'r Connection, &'r std::path::Path),
        (first, last): (Mid, Mid),
        order: Order,
    ) -> Result<Self, StoreError> {
        let fail = |e| StoreError::sqlite(reader.1, "reading the schema", e);
        let more = reader.0.prepare_cached(EXISTS).and_then(|mut s| s.exists([])).map_err(fail)?;
        let last = last.0.min(i64::MAX.cast_unsigned());
        let left = (first.0 <= last).then_some((first.0, last));
        Ok(Self { reader, order, left, read: VecDeque::new(), more })
    }

    /// The next block; `None` when all were given.
    ///
    /// # Errors
    /// What SQLite said.
    #[expect(
        clippy::should_implement_trait,
        reason = "it may fail, and what follows an error is not defined"
    )]
    pub fn next(&mut self) -> Result<Option<Block>, StoreError> {
        let Some((first, last)) = self.left else { return Ok(None) };
        if self.read.is_empty() && self.more {
            self.read_zones(first, last)
                .map_err(|e| StoreError::sqlite(self.reader.1, "reading zones", e))?;
        }
        let Some(zone) = self.read.front() else {
            self.left = None;
            return Ok(Some(Block { first: Mid(first), last: Mid(last), zone: None }));
        };
        let (low, high) = zone.mids();
        let (low, high) = (low.0.max(first), high.0.min(last));
        // What lies before the zone, in the order of the walk, has none.
        let bare = match self.order {
            Order::NewestFirst => (high < last).then(|| (high + 1, last)),
            Order::OldestFirst => (first < low).then(|| (first, low - 1)),
        };
        let (from, to) = bare.unwrap_or((low, high));
        self.left = match self.order {
            Order::NewestFirst => (first < from).then(|| (first, from - 1)),
            Order::OldestFirst => (to < last).then(|| (to + 1, last)),
        };
        let zone = if bare.is_some() { None } else { self.read.pop_front() };
        Ok(Some(Block { first: Mid(from), last: Mid(to), zone }))
    }

    fn read_zones(&mut self, first: u64, last: u64) -> rusqlite::Result<()> {
        let direction = match self.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let sql = format!(
            "{} WHERE block BETWEEN ?1 AND ?2 ORDER BY block {direction} LIMIT {PAGE}",
            summary::SELECT
        );
        let mut statement = self.reader.0.prepare_cached(&sql)?;
        let range = params![sqlite_int(first >> BLOCK_BITS), sqlite_int(last >> BLOCK_BITS)];
        let mut rows = statement.query(range)?;
        self.more = false;
        while let Some(row) = rows.next()? {
            let zone = Zone::read(row)?;
            // A damaged tree may give rows in any order. What does not follow is left out: its block is scanned.
            let follows = self.read.back().is_none_or(|before| match self.order {
                Order::NewestFirst => zone.block < before.block,
                Order::OldestFirst => zone.block > before.block,
            });
            if !follows || !(first >> BLOCK_BITS..=last >> BLOCK_BITS).contains(&zone.block) {
                return Ok(());
            }
            self.read.push_back(zone);
        }
        self.more = self.read.len() == PAGE;
        Ok(())
    }
}

/// Zones that are read at a time: some 50 KB, in 0.1 ms.
const PAGE: usize = 64;
