//! Taking away connections and hosts that no flow refers to any more.
//!
//! Rows refer to them by number and no index leads back, since each insert would pay for it. So now and then, when a good
//! part of the flows was deleted, all rows are gone through, a slice at a time, and what they refer to is noted in a bit for
//! each number; what is written meanwhile is noted as it is written ([`Used`]). What has no bit then goes. A flow that was
//! deleted pays 0.1 us for it, as long as four times as many are left.

use rusqlite::{Connection, TransactionBehavior};

use super::super::group::Used;
use super::super::reader::integer;
use super::super::row::sqlite_int;
use super::delete::deleted_ever;

/// The state of it.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    job: Option<Job>,
    /// How many flows had ever been deleted when the last one began; `None` before the first look.
    deleted: Option<u64>,
    /// Flows that it found.
    left: u64,
    /// Where the next one begins: connections, hosts.
    from: [u64; 2],
}

#[derive(Debug)]
struct Job {
    conns: Bits,
    hosts: Bits,
    stage: Stage,
    rows: u64,
}

/// How far it is: up to which number.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Flows(i64),
    Conns(i64),
    Hosts(i64),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Swept {
    /// There is nothing to do.
    Nothing,
    /// It looked.
    Looked,
    /// It took some away, so what is remembered of them is wrong.
    Took,
}

impl Sweep {
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Rows were written that refer to these.
    pub(super) fn used(&mut self, used: &[Used]) {
        let Some(job) = &mut self.job else { return };
        for used in used {
            used.conns.iter().for_each(|&conn| job.conns.set(conn));
            job.hosts.set(used.host.cast_unsigned());
        }
    }

    /// Does a little: a few milliseconds. A transaction of its own where something goes.
    pub(super) fn step(&mut self, conn: &mut Connection) -> rusqlite::Result<Swept> {
        let Some(job) = &mut self.job else {
            let deleted = deleted_ever(conn)?;
            // An earlier opening may have left a few.
            let before = *self.deleted.get_or_insert(deleted.saturating_sub(LEAST - 1));
            if deleted.saturating_sub(before) < LEAST.max(self.left / 4) {
                return Ok(Swept::Nothing);
            }
            let conns = Bits::of(conn, (MIN_CONN, MAX_CONN), &mut self.from[0])?;
            let hosts = Bits::of(conn, (MIN_HOST, MAX_HOST), &mut self.from[1])?;
            self.deleted = Some(deleted);
            self.job = Some(Job { conns, hosts, stage: Stage::Flows(0), rows: 0 });
            return Ok(Swept::Looked);
        };
        let mut swept = Swept::Looked;
        match job.stage {
            Stage::Flows(after) => job.stage = job.flows(conn, after)?,
            Stage::Conns(after) => {
                let (end, took) = take(conn, &job.conns, (CONNS, TAKE_CONNS), after)?;
                job.stage = end.map_or(Stage::Hosts(job.hosts.before()), Stage::Conns);
                swept = if took { Swept::Took } else { swept };
            }
            Stage::Hosts(after) => {
                let (end, took) = take(conn, &job.hosts, (HOSTS, TAKE_HOSTS), after)?;
                swept = if took { Swept::Took } else { swept };
                match end {
                    Some(end) => job.stage = Stage::Hosts(end),
                    None => {
                        self.left = job.rows;
                        self.job = None;
                    }
                }
            }
        }
        Ok(swept)
    }
}

impl Job {
    fn flows(&mut self, conn: &Connection, after: i64) -> rusqlite::Result<Stage> {
        let mut statement = conn.prepare_cached(FLOWS)?;
        let mut rows = statement.query([after, sqlite_int(FLOWS_AT_ONCE)])?;
        let (mut count, mut last) = (0, after);
        while let Some(row) = rows.next()? {
            last = integer(row, 0)?.unwrap_or(last);
            for (at, bits) in [(1, &mut self.conns), (3, &mut self.hosts)] {
                bits.set(integer(row, at)?.unwrap_or(0).cast_unsigned());
            }
            self.conns.set(integer(row, 2)?.unwrap_or(0).cast_unsigned());
            count += 1;
        }
        self.rows += count;
        Ok(match count < FLOWS_AT_ONCE {
            true => Stage::Conns(self.conns.before()),
            false => Stage::Flows(last),
        })
    }
}

/// Takes some away of those that have no bit, from after a number on; up to which, or `None` at the end, and whether any went.
fn take(
    conn: &mut Connection,
    bits: &Bits,
    (select, delete): (&str, &str),
    after: i64,
) -> rusqlite::Result<(Option<i64>, bool)> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut statement = tx.prepare_cached(select)?;
    let ids =
        statement.query_map([after, bits.last(), sqlite_int(AT_ONCE as u64)], |row| row.get::<_, i64>(0))?;
    let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
    drop(statement);
    let unused = |id: &i64| !bits.has(id.cast_unsigned());
    let mut took = false;
    for run in ids.chunk_by(|a, b| unused(a) == unused(b)) {
        if unused(&run[0]) {
            tx.prepare_cached(delete)?.execute([run[0], run[run.len() - 1]])?;
            took = true;
        }
    }
    match took {
        true => tx.commit()?,
        false => drop(tx),
    }
    Ok((ids.last().copied().filter(|_| ids.len() >= AT_ONCE), took))
}

/// A bit for each number from one to another.
#[derive(Debug)]
struct Bits {
    first: u64,
    words: Vec<u64>,
}

impl Bits {
    /// For the numbers that there are, or some of them: then the next ones begin at `from`.
    fn of(conn: &Connection, (low, high): (&str, &str), from: &mut u64) -> rusqlite::Result<Self> {
        let ask = |sql: &str| -> rusqlite::Result<u64> {
            let found = conn.prepare_cached(sql)?.query_row([sqlite_int(*from)], |row| integer(row, 0))?;
            Ok(found.unwrap_or(0).max(0).cast_unsigned())
        };
        let (first, last) = (ask(low)?, ask(high)?);
        let count = (last + 1).saturating_sub(first);
        *from = if count > MOST { first + MOST } else { 0 };
        let words = usize::try_from(count.min(MOST).div_ceil(64)).unwrap_or(0);
        Ok(Self { first, words: vec![0; words] })
    }

    fn place(&self, id: u64) -> Option<(usize, u64)> {
        let at = id.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn set(&mut self, id: u64) {
        if let Some((word, bit)) = self.place(id)
            && let Some(word) = self.words.get_mut(word)
        {
            *word |= bit;
        }
    }

    fn has(&self, id: u64) -> bool {
        let word = self.place(id).and_then(|(word, bit)| self.words.get(word).map(|word| word & bit));
        // What it has no bit for is left alone.
        word != Some(0)
    }

    /// The number before the first.
    fn before(&self) -> i64 {
        sqlite_int(self.first) - 1
    }

    fn last(&self) -> i64 {
        sqlite_int(self.first.saturating_add(64 * self.words.len() as u64)) - 1
    }
}

/// Fewer deleted flows are not worth it.
const LEAST: u64 = 1000;

/// Rows of flows, and of connections, that are looked at in a step: 2 ms each.
const FLOWS_AT_ONCE: u64 = 5000;
const AT_ONCE: usize = 500;

/// Bits of a pass, of each kind: 512 KiB. Arbitrary.
const MOST: u64 = 4 << 20;

const FLOWS: &str =
    "SELECT mid, client_conn, server_conn, host FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2";
const MIN_CONN: &str = "SELECT min(id) FROM conn WHERE id >= ?1";
const MAX_CONN: &str = "SELECT max(id) FROM conn WHERE id >= ?1";
const CONNS: &str = "SELECT id FROM conn WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
const TAKE_CONNS: &str = "DELETE FROM conn WHERE id BETWEEN ?1 AND ?2";
const MIN_HOST: &str = "SELECT min(id) FROM host WHERE id >= ?1";
/// The newest one stays, so that no number is given to two names: a zone, or its maker, may remember the older one.
const MAX_HOST: &str = "SELECT max(id) - 1 FROM host WHERE id >= ?1";
const HOSTS: &str = "SELECT id FROM host WHERE id > ?1 AND id <= ?2 AND id < (SELECT max(id) FROM host) \
     ORDER BY id LIMIT ?3";
const TAKE_HOSTS: &str = "DELETE FROM host WHERE id BETWEEN ?1 AND ?2";
