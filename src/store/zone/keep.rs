//! Which zones the writer removes, and which it makes when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::BLOCK_BITS;
use super::build::Builder;
use crate::flow::Mid;
use crate::store::row::sqlite_int;

/// What the writer knows of the zones of its store. All of it but the settings can be lost: then zones are missing.
#[derive(Debug)]
pub(in crate::store) struct Zones {
    /// Blocks from here on are not full, and have no zone.
    frontier: u64,
    /// Blocks without a zone, and when each gets one unless its rows change before.
    waiting: BTreeMap<u64, Instant>,
    /// Blocks below this were not looked at since the store was opened, or could not wait longer. Those that have no zone
    /// get one, the newest first.
    backlog: u64,
    /// How long the rows of a block must have been left alone.
    pub(in crate::store) quiet: Duration,
    builder: Builder,
    /// The blocks of a group's rows, in memory that is kept.
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
            builder: Builder::default(),
            touched: Vec::new(),
            given_up: false,
        }
    }

    /// In the transaction that inserted or rewrote the rows of `mids`, after that: removes the zones that they were in, and
    /// makes a few of those that are due.
    ///
    /// # Errors
    /// If a zone could not be removed, or the transaction is lost: it must not be committed then.
    pub(in crate::store) fn update(
        &mut self,
        tx: &Connection,
        mids: impl Iterator<Item = Mid>,
        next_mid: u64,
    ) -> rusqlite::Result<()> {
        let now = Instant::now();
        let due = now + self.quiet;
        let frontier = self.frontier.max(next_mid >> BLOCK_BITS);
        let passed = self.frontier.max(frontier.saturating_sub(MAX_WAITING as u64));
        if passed > self.frontier {
            self.backlog = self.backlog.max(passed);
        }
        self.waiting.extend((passed..frontier).map(|block| (block, due)));
        self.touched.clear();
        self.touched.extend(mids.map(|mid| mid.0 >> BLOCK_BITS));
        self.touched.sort_unstable();
        self.touched.dedup();
        for &block in &self.touched {
            tx.prepare_cached(REMOVE)?.execute([sqlite_int(block)])?;
            tx.prepare_cached(REMOVE_URLS)?.execute([sqlite_int(block)])?;
            if block < frontier {
                self.waiting.insert(block, due);
            }
        }
        self.frontier = frontier;
        while self.waiting.len() > MAX_WAITING {
            if let Some((block, _)) = self.waiting.pop_first() {
                self.backlog = self.backlog.max(block + 1);
            }
        }
        self.build(tx, now, AT_ONCE)
    }

    /// Makes up to `at_most` zones that are due at `now`, or missing since before the store was opened.
    fn build(&mut self, tx: &Connection, now: Instant, at_most: usize) -> rusqlite::Result<()> {
        if self.given_up {
            return Ok(());
        }
        match self.build_or_fail(tx, now, at_most) {
            Err(error) if !tx.is_autocommit() => {
                tracing::warn!(%error, "filters will be slow: what blocks hold cannot be noted");
                self.given_up = true;
                Ok(())
            }
            result => result,
        }
    }

    fn build_or_fail(&mut self, tx: &Connection, now: Instant, at_most: usize) -> rusqlite::Result<()> {
        let due = self.waiting.iter().filter(|&(_, due)| *due <= now).map(|(&block, _)| block);
        let due: Vec<u64> = due.take(at_most).collect();
        for &block in &due {
            self.builder.build(tx, block)?;
            self.waiting.remove(&block);
        }
        for _ in due.len()..at_most {
            let Some(block) = self.next_missing(tx)? else { break };
            self.builder.build(tx, block)?;
        }
        Ok(())
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

    /// Makes zones that are missing, in transactions of their own, until all are there or `patience` is over. For when
    /// nothing is to be stored. Gives whether all full blocks have one.
    ///
    /// # Errors
    /// What SQLite said.
    pub(in crate::store) fn finish(
        &mut self,
        conn: &mut Connection,
        patience: Duration,
    ) -> rusqlite::Result<bool> {
        let end = Instant::now() + patience;
        self.waiting.values_mut().for_each(|due| *due = Instant::now());
        while !self.given_up && !(self.waiting.is_empty() && self.backlog == 0) {
            if Instant::now() >= end {
                return Ok(false);
            }
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            self.build(&tx, Instant::now(), FINISH_AT_ONCE)?;
            tx.commit()?;
        }
        Ok(!self.given_up)
    }
}

/// Blocks that wait for a zone; the lowest of more go to the backlog. At 50,000 flows a second 500 wait.
const MAX_WAITING: usize = 4096;

/// How long a block must have been left alone: most flows end within it, and each that ends later costs its block a new
/// zone. Until then a block is scanned, in 0.2 ms.
const QUIET: Duration = Duration::from_secs(10);

/// Zones that are made with one group, in 0.6 ms each: more than rows come in, and little beside a disk's sync.
const AT_ONCE: usize = 4;

/// The same, when nothing else is to be done.
const FINISH_AT_ONCE: usize = 32;

/// Blocks of the backlog that are looked at for each zone that is made, in 3 us each.
const LOOKED_AT: usize = 32;

const HIGHEST: &str = "SELECT max(mid) FROM flow WHERE mid < ?1";
const HAS_ZONE: &str = "SELECT 1 FROM zone WHERE block = ?1";
const REMOVE: &str = "DELETE FROM zone WHERE block = ?1";
const REMOVE_URLS: &str = "DELETE FROM zone_url WHERE block = ?1";
