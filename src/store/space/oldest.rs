//! Deleting the oldest flows, a slice of mids in a transaction, as a recorder does it all the time.
//!
//! A flow whose bodies are in its record, as those of most are, is deleted without being read: its row says how long its
//! record is, and rows that lie side by side go by one statement a table. 4 us a flow so, where deleting by mid takes 16.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::super::reader::integer;
use super::super::record::{Found, RecordFiles};
use super::super::row::{self, sqlite_int};
use super::delete::{self, Freed};
use super::limits::Excess;
use crate::flow::{Kind, Mid};

/// What one slice came to.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) freed: Freed,
    /// All flows up to this mid were looked at.
    pub(super) last: Option<Mid>,
    /// When the first of them began that may go: nanoseconds since 1970.
    pub(super) oldest: Option<i64>,
    /// Whether there may be more that is too much.
    pub(super) more: bool,
}

/// What is deleted.
#[derive(Debug, Default)]
struct Doomed {
    freed: Freed,
    /// Bytes by segment.
    dead: BTreeMap<u32, u64>,
    /// Mids of which all rows between go, both ends within.
    runs: Vec<(Mid, Mid)>,
    /// Whether the next row follows the last one of the last run.
    follows: bool,
}

/// Deletes the oldest flows above `floor` that are too much, of at most `limit` that are looked at, and for at most about
/// `patience`.
pub(super) fn delete(
    conn: &mut Connection,
    files: &RecordFiles,
    (floor, limit): (Mid, usize),
    excess: &Excess,
    patience: Duration,
) -> rusqlite::Result<Slice> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut slice = Slice::default();
    let doomed = doom(&tx, files, (floor, limit), excess, patience, &mut slice)?;
    slice.freed = doomed.freed;
    if doomed.runs.is_empty() {
        return Ok(slice);
    }
    delete::take(&tx, &doomed.runs)?;
    delete::count_dead(&tx, doomed.dead)?;
    delete::note_deleted(&tx, slice.freed.flows)?;
    tx.commit()?;
    Ok(slice)
}

fn doom(
    tx: &Transaction<'_>,
    files: &RecordFiles,
    (floor, limit): (Mid, usize),
    excess: &Excess,
    patience: Duration,
    slice: &mut Slice,
) -> rusqlite::Result<Doomed> {
    let started = Instant::now();
    let mut doomed = Doomed::default();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let marked = marked(tx, floor, limit)?;
    let mut messages = tx.prepare_cached(delete::MESSAGES)?;
    let mut statement = tx.prepare_cached(ROWS)?;
    let mut rows = statement.query([sqlite_int(floor.0), limit])?;
    slice.more = true;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let number = |at| integer(row, at).map(|n| n.and_then(|n| u64::try_from(n).ok()));
        let mid = Mid(number(0)?.unwrap_or(0));
        let (state, began) = (integer(row, 1)?, integer(row, 2)?.unwrap_or(0));
        let is_open = state == Some(0);
        if is_open || marked.contains(&mid) {
            doomed.follows = false;
        } else {
            slice.oldest.get_or_insert(began);
            if !excess.takes(began, doomed.freed.flows, doomed.freed.bytes) {
                slice.more = false;
                return Ok(doomed);
            }
            if doomed.freed.flows > 0 && started.elapsed() > patience {
                return Ok(doomed);
            }
            let len = number(4)?.unwrap_or(u64::MAX).max(number(5)?.unwrap_or(u64::MAX));
            let place = (integer(row, 6)?.and_then(|n| u32::try_from(n).ok()), number(7)?);
            let is_small = len <= SMALL
                && row::kind(integer(row, 3)?) == Kind::Http
                && state.is_some_and(|state| state != row::INTERRUPTED);
            match place {
                (Some(segment), Some(stored_len)) if is_small => doomed.add(mid, [(segment, stored_len)], 0),
                _ => {
                    let read = |row: &rusqlite::Row<'_>| Found::read(row, 1);
                    let found = tx.prepare_cached(delete::ROW)?.query_row([sqlite_int(mid.0)], read)?;
                    let one = delete::doom(files, Some(&mut messages), mid, &found)?;
                    let in_table = one.bytes - one.dead.values().sum::<u64>();
                    doomed.add(mid, one.dead, in_table);
                }
            }
        }
        slice.last = Some(mid);
        looked_at += 1;
    }
    slice.more = looked_at == limit;
    Ok(doomed)
}

/// Which of the first `limit` flows above `floor` are marked.
fn marked(tx: &Transaction<'_>, floor: Mid, limit: i64) -> rusqlite::Result<HashSet<Mid>> {
    let mut statement = tx.prepare_cached(MARKED)?;
    let rows = statement.query_map([sqlite_int(floor.0), limit], |row| integer(row, 0))?;
    rows.map(|mid| Ok(Mid(mid?.unwrap_or(0).cast_unsigned()))).collect()
}

impl Doomed {
    fn add(&mut self, mid: Mid, dead: impl IntoIterator<Item = (u32, u64)>, in_table: u64) {
        match self.runs.last_mut().filter(|_| self.follows) {
            Some((_, last)) => *last = mid,
            None => self.runs.push((mid, mid)),
        }
        self.follows = true;
        self.freed.flows += 1;
        self.freed.bytes += in_table;
        for (segment, bytes) in dead {
            let sum = self.dead.entry(segment).or_default();
            *sum = sum.saturating_add(bytes);
            self.freed.bytes = self.freed.bytes.saturating_add(bytes);
        }
    }
}

/// Bodies up to this are taken to be in the record. Where a recorder was told to put smaller ones into segments, these are
/// counted as live a little too long: `dead` is told to be a lower bound.
const SMALL: u64 = 2048;

const ROWS: &str = "SELECT mid, state, started_unix_ns, kind, request_len, response_len, record_segment, record_len \
     FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2";
/// At most as many have notes as are looked at, and notes of flows that are not there are no harm.
const MARKED: &str = "SELECT mid FROM note WHERE mid > ?1 AND mid <= \
     ifnull((SELECT max(mid) FROM (SELECT mid FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2)), 0) AND marker <> ''";
