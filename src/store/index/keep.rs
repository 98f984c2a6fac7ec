//! What the writer does for the index: tells it of rows that change, and makes it, a block at a time.
//!
//! A block is read in a thread with a connection of its own, and written in small transactions between the commits of groups,
//! so that no flow waits for it. Where flows come faster than that, blocks are left for later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::build::{self, Built, place_of};
use super::head;
use crate::flow::Mid;
use crate::store::row::sqlite_int;
use crate::store::space::delete::unsynced;
use crate::store::zone::BLOCK_BITS;
use crate::store::{Reader, Step, StoreError};

/// The index of bodies, as the store's writer has it.
#[derive(Debug, Default)]
pub(in crate::store) struct Indexer {
    /// The mids of rows that a group inserts, rewrites or takes away.
    noted: Vec<u64>,
    work: Work,
    /// `None` for a writer that makes no index, and yet must tell of what it changes.
    making: Option<Making>,
}

/// The making of it.
#[derive(Debug)]
struct Making {
    /// Whether people want an index; the store says so, and others may change it.
    is_on: bool,
    /// When that is looked at next.
    look_at: Instant,
    /// Blocks from here on were looked at.
    below: u64,
    /// When they are looked at again from the newest on.
    pass_at: Instant,
    pace: Pace,
    /// Blocks whose rows changed lately.
    recent: BTreeMap<u64, Instant>,
}

/// When a block is due.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Pace {
    /// How long its rows must have been left alone.
    pub(in crate::store) quiet: Duration,
    /// How many of them must have changed since its index was made.
    pub(in crate::store) changes: i64,
}

impl Pace {
    /// Whatever has no index, or one that is not as it could be.
    pub(in crate::store) const AT_ONCE: Self = Self { quiet: Duration::ZERO, changes: 1 };
}

/// What is under way.
#[derive(Debug, Default)]
enum Work {
    #[default]
    Nothing,
    Building {
        thread: JoinHandle<Result<Option<Built>, StoreError>>,
        stop: Arc<AtomicBool>,
        changed: Changed,
    },
    Writing {
        built: Box<Built>,
        /// Chunks that are written.
        done: usize,
        changed: Changed,
    },
}

/// A block, and which of its flows changed since its rows were read.
#[derive(Debug)]
struct Changed {
    block: u64,
    places: BTreeSet<usize>,
}

/// Whether a step waits for the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Patience {
    /// It does.
    Wait,
    /// It does not: [`Step::Later`] tells that it should be asked again.
    Look,
}

impl Indexer {
    /// From here on the index is made, if the store says that one is wanted.
    pub(in crate::store) fn make(&mut self) {
        self.begin(Pace { quiet: QUIET, changes: CHANGES });
    }

    /// From here on the index is made at this pace.
    pub(in crate::store) fn begin(&mut self, pace: Pace) {
        let now = Instant::now();
        let recent = BTreeMap::new();
        self.making = Some(Making { is_on: false, look_at: now, below: TOP, pass_at: now, pace, recent });
    }

    /// A group inserts, rewrites or removes this row, or adds a message to it. [`Indexer::update`] must follow in the same
    /// transaction.
    pub(in crate::store) fn note(&mut self, mid: Mid) {
        if self.noted.last() != Some(&mid.0) {
            self.noted.push(mid.0);
        }
    }

    /// In the transaction of a group, after its rows.
    ///
    /// # Errors
    /// What SQLite said: the transaction must not be committed then.
    pub(in crate::store) fn update(&mut self, tx: &Connection) -> rusqlite::Result<()> {
        let now = Instant::now();
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_unstable();
        noted.dedup();
        let mut places = Vec::new();
        let mut result = Ok(());
        for mids in noted.chunk_by(|a, b| a >> BLOCK_BITS == b >> BLOCK_BITS) {
            let block = mids[0] >> BLOCK_BITS;
            places.clear();
            places.extend(mids.iter().map(|&mid| place_of(mid)));
            if let Work::Building { changed, .. } | Work::Writing { changed, .. } = &mut self.work
                && changed.block == block
            {
                changed.places.extend(&places);
            }
            if let Some(making) = &mut self.making {
                making.recent.insert(block, now);
                if making.recent.len() > MOST_RECENT {
                    making.recent.pop_first();
                }
            }
            result = result.and_then(|()| head::forget(tx, block, &places));
        }
        noted.clear();
        self.noted = noted;
        result
    }

    /// Does a little, between two commits: a few milliseconds. Gives the bytes that it wrote, too.
    ///
    /// # Errors
    /// What SQLite said. The block that was in work is made anew later.
    pub(in crate::store) fn step(
        &mut self,
        conn: &mut Connection,
        db: &Path,
        patience: Patience,
    ) -> Result<(Step, u64), StoreError> {
        let result = self.try_step(conn, db, patience);
        if result.is_err()
            && let Some(making) = &mut self.making
        {
            making.pass_at = Instant::now() + RETRY;
        }
        result
    }

    fn try_step(
        &mut self,
        conn: &mut Connection,
        db: &Path,
        patience: Patience,
    ) -> Result<(Step, u64), StoreError> {
        let fail = |e| StoreError::sqlite(db, "indexing bodies", e);
        let now = Instant::now();
        let Some(making) = &mut self.making else { return Ok((Step::Idle, 0)) };
        if now >= making.look_at {
            making.is_on = is_on(conn).map_err(fail)?;
            making.look_at = now + LOOK;
        }
        if !making.is_on {
            self.stop();
            return drop_some(conn).map_err(fail);
        }
        match std::mem::take(&mut self.work) {
            Work::Nothing if now < making.pass_at => Ok((Step::Idle, 0)),
            Work::Nothing => match making.find(conn, now).map_err(fail)? {
                Next::Block(block) => {
                    self.work = start(db, block)?;
                    Ok((Step::Later, 0))
                }
                Next::Unknown => Ok((Step::More { rest: REST }, 0)),
                Next::None => Ok((Step::Idle, 0)),
            },
            Work::Building { thread, stop, changed }
                if patience == Patience::Look && !thread.is_finished() =>
            {
                self.work = Work::Building { thread, stop, changed };
                Ok((Step::Later, 0))
            }
            Work::Building { thread, changed, .. } => {
                // A panic has been printed.
                let gone =
                    || StoreError::Panicked { path: db.to_owned(), message: "the indexing thread".into() };
                if let Some(built) = thread.join().unwrap_or_else(|_| Err(gone()))? {
                    self.work = Work::Writing { built: Box::new(built), done: 0, changed };
                }
                Ok((Step::More { rest: REST }, 0))
            }
            Work::Writing { built, done, changed } => {
                let work = |conn: &mut Connection| write(conn, &built, done, &changed);
                // Nobody waits for it to be on disk: what is lost is made again.
                let (next, bytes) = unsynced(conn, work).map_err(fail)?;
                if let Some(done) = next {
                    self.work = Work::Writing { built, done, changed };
                }
                Ok((Step::More { rest: REST }, bytes))
            }
        }
    }

    /// Ends the thread, if there is one, and leaves what it did.
    pub(in crate::store) fn stop(&mut self) {
        if let Work::Building { thread, stop, .. } = std::mem::take(&mut self.work) {
            stop.store(true, Ordering::Relaxed);
            // What it made, or a panic that was printed, is of no use.
            let _ = thread.join();
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Next {
    Block(u64),
    /// There may be one, where nobody has looked yet.
    Unknown,
    None,
}

impl Making {
    /// Looks for a block that is due: among the newest, then where it looked last.
    fn find(&mut self, conn: &Connection, now: Instant) -> rusqlite::Result<Next> {
        let mut top = TOP;
        if let Next::Block(block) = self.find_below(conn, now, &mut top)? {
            return Ok(Next::Block(block));
        }
        let mut below = self.below.min(top);
        let next = self.find_below(conn, now, &mut below)?;
        self.below = below;
        if let Next::None = next {
            (self.below, self.pass_at) = (TOP, now + PASS.min(self.pace.quiet));
            let quiet = self.pace.quiet;
            self.recent.retain(|_, changed| *changed + quiet > now);
        }
        Ok(next)
    }

    fn find_below(&self, conn: &Connection, now: Instant, below: &mut u64) -> rusqlite::Result<Next> {
        for _ in 0..LOOKED_AT {
            let highest = conn
                .prepare_cached(HIGHEST)?
                .query_row([sqlite_int(*below << BLOCK_BITS)], |row| row.get::<_, Option<i64>>(0))?;
            let Some(mid) = highest else { return Ok(Next::None) };
            let block = mid.cast_unsigned() >> BLOCK_BITS;
            *below = block.min(below.saturating_sub(1));
            let quiet = self.recent.get(&block).is_none_or(|&changed| changed + self.pace.quiet <= now);
            if quiet && head::stale(conn, block)?.is_none_or(|changes| changes >= self.pace.changes) {
                return Ok(Next::Block(block));
            }
        }
        Ok(Next::Unknown)
    }
}

fn start(db: &Path, block: u64) -> Result<Work, StoreError> {
    let (db, path, stop) = (db.to_owned(), db, Arc::new(AtomicBool::new(false)));
    let work = {
        let stop = Arc::clone(&stop);
        move || build::build(&Reader::open(&db)?, block, &stop)
    };
    let thread = std::thread::Builder::new().name("index".into()).spawn(work);
    let thread = thread.map_err(|e| StoreError::io(path, "starting the indexing thread", e))?;
    Ok(Work::Building { thread, stop, changed: Changed { block, places: BTreeSet::new() } })
}

/// Writes some chunks of a block, at last the row by which they count: how many are written then, or `None` if all is done,
/// and bytes.
fn write(
    conn: &mut Connection,
    built: &Built,
    done: usize,
    changed: &Changed,
) -> rusqlite::Result<(Option<usize>, u64)> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if done == 0 {
        head::delete(&tx, (built.block, built.block))?;
    }
    let (mut bytes, mut next) = (0, done);
    while let Some(chunk) = built.chunks.get(next)
        && bytes < STEP_BYTES
    {
        head::insert_chunk(&tx, built.block, chunk)?;
        bytes += chunk.data.len() as u64;
        next += 1;
    }
    if next < built.chunks.len() {
        tx.commit()?;
        return Ok((Some(next), bytes));
    }
    let there = build::places(&tx, built.block)?;
    if built.there.iter().all(|place| there.binary_search(place).is_ok()) {
        let mut classes = built.classes.clone();
        changed.places.iter().for_each(|&place| classes.forget(place));
        let all = built.chunks.iter().map(|chunk| chunk.data.len() as u64).sum();
        head::insert(&tx, built.block, &classes, all)?;
    } else {
        // What a flow had that was deleted meanwhile must not stay.
        head::delete(&tx, (built.block, built.block))?;
    }
    tx.commit()?;
    Ok((None, bytes))
}

/// Deletes a little of an index that nobody wants any more.
fn drop_some(conn: &mut Connection) -> rusqlite::Result<(Step, u64)> {
    if head::is_empty(conn)? {
        return Ok((Step::Idle, 0));
    }
    let work = |conn: &mut Connection| {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        head::delete_some(&tx)?;
        tx.commit()
    };
    unsynced(conn, work)?;
    Ok((Step::More { rest: REST }, STEP_BYTES))
}

/// Whether the store says that an index is wanted.
pub(super) fn is_on(conn: &Connection) -> rusqlite::Result<bool> {
    let value = conn.prepare_cached(WANTED)?.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(value.is_some_and(|value| value != 0))
}

/// Says so, or not.
pub(in crate::store) fn want(conn: &Connection, wanted: bool) -> rusqlite::Result<()> {
    conn.execute(if wanted { WANT } else { DO_NOT_WANT }, [])?;
    Ok(())
}

/// Above any block.
const TOP: u64 = i64::MAX.cast_unsigned() >> BLOCK_BITS;

/// How long the rows of a block must have been left alone: most flows end within it.
const QUIET: Duration = Duration::from_secs(10);

/// Rows of a block that change before its index is made anew, which is the work of all of them. Until then they are read.
const CHANGES: i64 = 32;

/// How often somebody may want an index, or not.
const LOOK: Duration = Duration::from_secs(1);

/// How often all blocks are gone through, which takes 3 us each.
const PASS: Duration = Duration::from_secs(10);

/// The pause after something failed.
const RETRY: Duration = Duration::from_secs(60);

/// Blocks that are looked at in a step, twice.
const LOOKED_AT: usize = 32;

/// Blocks that are known to have changed lately: those of the last 4 million flows.
const MOST_RECENT: usize = 4096;

/// What is written in one transaction: some 3 ms.
const STEP_BYTES: u64 = 256 << 10;

const HIGHEST: &str = "SELECT max(mid) FROM flow WHERE mid < ?1";
const WANTED: &str = "SELECT value FROM meta WHERE key = 'index_bodies'";
const WANT: &str = "INSERT OR REPLACE INTO meta (key, value) VALUES ('index_bodies', 1)";
const DO_NOT_WANT: &str = "DELETE FROM meta WHERE key = 'index_bodies'";

/// So many times as long as a step the writer has for itself.
const REST: u32 = 4;
