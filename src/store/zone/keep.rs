//! Which zones the writer removes, and which it makes when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::BLOCK_BITS;
use super::build::Builder;
use super::gather::Values;
use crate::flow::Mid;
use crate::store::row::{Numbers, Texts, sqlite_int};

/// What the writer knows of the zones of its store. All of it can be lost: then zones are missing, until the store is opened
/// again and for a while after.
#[derive(Debug)]
pub(in crate::store) struct Zones {
    /// Mids of the blocks from here on were not all given out.
    frontier: u64,
    /// Blocks that have no zone, and when each gets one unless its rows change before.
    waiting: BTreeMap<u64, Instant>,
    /// Blocks below this were not looked at since the store was opened, or could not wait longer. Those that have no zone
    /// get one, the newest first.
    backlog: u64,
    /// How long the rows of a block must have been left alone.
    pub(in crate::store) quiet: Duration,
    builder: Builder,
    /// The blocks of a group's rows.
    touched: Vec<u64>,
    /// A zone could not be written. That is no reason to lose flows, and not to be tried with each group.
    given_up: bool,
}

impl Zones {
    /// Those of a store of which the mids below `next_mid` were given out.
    pub(in crate::store) fn new(next_mid: u64) -> Self {
        let frontier = next_mid >> BLOCK_BITS;
        Self {
            frontier,
            waiting: BTreeMap::new(),
            backlog: frontier,
            quiet: QUIET,
            builder: Builder::new(next_mid),
            touched: Vec::new(),
            given_up: false,
        }
    }

    /// Notes a row that a group inserts or rewrites. [`Zones::update`] must follow in the same transaction.
    pub(in crate::store) fn note(&mut self, mid: Mid, host: i64, numbers: &Numbers, texts: &Texts<'_>) {
        self.touch(mid);
        self.builder.note(&Values::of(mid.0, host, numbers, texts), texts.host);
    }

    /// Notes that a row goes, and its URL with it. As for [`Zones::note`].
    pub(in crate::store) fn touch(&mut self, mid: Mid) {
        let block = mid.0 >> BLOCK_BITS;
        if self.touched.last() != Some(&block) {
            self.touched.push(block);
        }
    }

    /// In the transaction of a group, after its rows: removes the zones that they were in, and makes a few of those that are
    /// due. Gives the bytes that these take.
    ///
    /// # Errors
    /// If a zone could not be removed, or the transaction is lost: it must not be committed then.
    pub(in crate::store) fn update(&mut self, tx: &Connection, next_mid: u64) -> rusqlite::Result<u64> {
        let now = Instant::now();
        let due = now + self.quiet;
        let frontier = self.frontier.max(next_mid >> BLOCK_BITS);
        let passed = self.frontier.max(frontier.saturating_sub(MAX_WAITING as u64));
        if passed > self.frontier {
            self.backlog = self.backlog.max(passed);
        }
        self.waiting.extend((passed..frontier).map(|block| (block, due)));
        self.frontier = frontier;
        for block in self.touched.drain(..) {
            tx.prepare_cached(REMOVE)?.execute([sqlite_int(block)])?;
            tx.prepare_cached(REMOVE_URLS)?.execute([sqlite_int(block)])?;
            if block < frontier {
                self.waiting.insert(block, due);
            }
        }
        while self.waiting.len() > MAX_WAITING {
            if let Some((block, _)) = self.waiting.pop_first() {
                self.backlog = self.backlog.max(block + 1);
            }
        }
        self.make(tx, now, AT_ONCE)
    }

    /// Whether a zone could not be written, so that no more are made.
    pub(in crate::store) fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether every full block has a zone, as far as is known, or will not get one.
    pub(in crate::store) fn is_complete(&self) -> bool {
        self.given_up || (self.waiting.is_empty() && self.backlog == 0)
    }

    /// Makes a number of the zones that wait, also those that are not due. For when nothing is to be stored; in a transaction
    /// of its own.
    ///
    /// # Errors
    /// As [`Zones::update`].
    pub(in crate::store) fn make_early(&mut self, tx: &Connection) -> rusqlite::Result<u64> {
        let now = Instant::now();
        self.waiting.values_mut().for_each(|due| *due = now);
        self.make(tx, now, EARLY_AT_ONCE)
    }

    fn make(&mut self, tx: &Connection, now: Instant, at_most: usize) -> rusqlite::Result<u64> {
        if self.given_up {
            return Ok(0);
        }
        match self.make_or_fail(tx, now, at_most) {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                tracing::warn!(%error, "filters will be slow: what blocks hold cannot be noted");
                self.given_up = true;
                // Some errors take the transaction along (sqlite.org/lang_transaction.html §3).
                if tx.is_autocommit() { Err(error) } else { Ok(0) }
            }
        }
    }

    fn make_or_fail(&mut self, tx: &Connection, now: Instant, at_most: usize) -> rusqlite::Result<u64> {
        let mut bytes = 0;
        while let Some((block, gathered)) = self.builder.take_complete() {
            bytes += self.builder.write(tx, block, gathered)?;
            self.waiting.remove(&block);
        }
        let due = self.waiting.iter().filter(|&(_, due)| *due <= now).map(|(&block, _)| block);
        let due: Vec<u64> = due.take(at_most).collect();
        for &block in &due {
            bytes += self.builder.build(tx, block)?;
            self.waiting.remove(&block);
        }
        for _ in due.len()..at_most {
            let Some(block) = self.next_missing(tx)? else { break };
            bytes += self.builder.build(tx, block)?;
        }
        Ok(bytes)
    }

    /// The next block of the backlog that has rows and no zone; `None` if there is none, or for now.
    fn next_missing(&mut self, tx: &Connection) -> rusqlite::Result<Option<u64>> {
        for _ in 0..LOOKED_AT {
            if self.backlog == 0 {
                return Ok(None);
            }
            let below = sqlite_int(self.backlog << BLOCK_BITS);
            let highest =
                tx.prepare_cached(HIGHEST)?.query_row([below], |row| row.get::<_, Option<i64>>(0))?;
            let Some(block) = highest.map(|mid| mid.cast_unsigned() >> BLOCK_BITS) else {
                self.backlog = 0;
                return Ok(None);
            };
            self.backlog = block.min(self.backlog - 1);
            let has_zone = tx.prepare_cached(HAS_ZONE)?.exists([sqlite_int(block)])?;
            if !has_zone && !self.waiting.contains_key(&block) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }
}

/// Blocks that wait for a zone; the lowest of more go to the backlog.
const MAX_WAITING: usize = 4096;

/// How long a block must have been left alone: most flows end within it, and each that ends later costs its block a new
/// zone. Until then a block is scanned, in 0.2 ms.
const QUIET: Duration = Duration::from_secs(10);

/// Zones that are made with one group of rows that have to be read back, in 1 ms each: little beside a disk's sync.
const AT_ONCE: usize = 4;

/// The same, when nothing else is to be done.
const EARLY_AT_ONCE: usize = 32;

/// Blocks of the backlog that are looked at for each zone that is made, in 3 us each.
const LOOKED_AT: usize = 32;

const HIGHEST: &str = "SELECT max(mid) FROM flow WHERE mid < ?1";
const HAS_ZONE: &str = "SELECT 1 FROM zone WHERE block = ?1";
const REMOVE: &str = "DELETE FROM zone WHERE block = ?1";
const REMOVE_URLS: &str = "DELETE FROM zone_url WHERE block = ?1";
