//! Deleting flows, some at a time: what dies with each is found out first, then one short transaction takes the rows.
//!
//! All that takes flows out of a store ends in `take_rows`, so that nothing of them is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::{CachedStatement, Connection, OptionalExtension, TransactionBehavior, params};

use super::super::reader::{blob, integer};
use super::super::record::{Found, RecordFiles};
use super::super::row::sqlite_int;
use super::super::{index, zone};
use crate::codec;
use crate::flow::{Body, Content, Extent, Flow, Mid};

/// What was given back, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Flows.
    pub flows: u64,
    /// Bytes in segments, and of records and payloads in the database.
    pub bytes: u64,
    /// Flows that were left because they are marked.
    pub marked: u64,
    /// Flows that were left because they are under way.
    pub open: u64,
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.bytes += other.bytes;
        self.marked += other.marked;
        self.open += other.open;
    }
}

/// What happens to flows that are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marked {
    /// They stay.
    #[default]
    Keep,
    /// They go like others.
    Delete,
}

/// A flow that may be deleted.
#[derive(Debug)]
pub(in crate::store) struct Doomed {
    mid: Mid,
    /// Segment and offset of its record, as its row has them.
    at: [Option<i64>; 2],
    /// Bytes by segment.
    pub(super) dead: BTreeMap<u32, u64>,
    pub(super) bytes: u64,
}

/// What of some flows may be deleted.
#[derive(Debug, Default)]
pub(in crate::store) struct Plan {
    pub(in crate::store) doomed: Vec<Doomed>,
    /// What of it is left, and why.
    pub(super) left: Freed,
    /// How many of the mids were looked at before the time was up.
    pub(super) looked_at: usize,
}

impl Plan {
    pub(super) fn freed(&self) -> Freed {
        let bytes = self.doomed.iter().map(|doomed| doomed.bytes).sum();
        Freed { flows: self.doomed.len() as u64, bytes, ..self.left }
    }
}

/// Reads what dies with these flows, for at most about `patience`. A record that cannot be read is no reason to keep its flow.
pub(in crate::store) fn plan(
    conn: &Connection,
    files: &RecordFiles,
    mids: &[Mid],
    marked: Marked,
    patience: Duration,
) -> rusqlite::Result<Plan> {
    let mut plan = Plan::default();
    let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut row = conn.prepare_cached(if version < 4 { ROW_3 } else { ROW })?;
    let mut messages = if version < 2 { None } else { Some(conn.prepare_cached(MESSAGES)?) };
    let mut mark =
        if has_notes(conn)? && marked == Marked::Keep { Some(conn.prepare_cached(MARK)?) } else { None };
    let started = Instant::now();
    for &mid in mids {
        if started.elapsed() > patience {
            break;
        }
        plan.looked_at += 1;
        let read = |row: &rusqlite::Row<'_>| {
            Ok((integer(row, 0)?, Found::read(row, 1)?, [integer(row, 2)?, integer(row, 3)?]))
        };
        let Some((state, found, at)) = row.query_row([sqlite_int(mid.0)], read).optional()? else { continue };
        if state == Some(0) {
            plan.left.open += 1;
        } else if mark.as_mut().map_or(Ok(false), |mark| mark.exists([sqlite_int(mid.0)]))? {
            plan.left.marked += 1;
        } else {
            plan.doomed.push(Doomed { at, ..doom(files, messages.as_mut(), mid, &found)? });
        }
    }
    Ok(plan)
}

/// What dies with a flow: its record, its bodies, the payloads of its messages.
pub(super) fn doom(
    files: &RecordFiles,
    messages: Option<&mut CachedStatement<'_>>,
    mid: Mid,
    found: &Found,
) -> rusqlite::Result<Doomed> {
    let mut doomed = Doomed::new(mid);
    doomed.count_record(found);
    match files.get(mid, found).map(|record| codec::decode_flow(&record)) {
        Ok(Ok(mut flow)) => bodies(&mut flow).for_each(|body| doomed.count(&body.content)),
        _ => tracing::debug!(%mid, "a record that cannot be read is deleted"),
    }
    if let Some(messages) = messages {
        doomed.count_messages(messages)?;
    }
    doomed.bytes += doomed.dead.values().sum::<u64>();
    Ok(doomed)
}

impl Doomed {
    fn new(mid: Mid) -> Self {
        Self { mid, at: [None; 2], dead: BTreeMap::new(), bytes: 0 }
    }

    fn count_record(&mut self, found: &Found) {
        match found {
            Found::InSegment(at) => *self.dead.entry(at.segment).or_default() += at.stored_len,
            Found::InTable(record) => self.bytes += record.len() as u64,
            Found::Nowhere => {}
        }
    }

    fn count_messages(&mut self, messages: &mut CachedStatement<'_>) -> rusqlite::Result<()> {
        let mut rows = messages.query([sqlite_int(self.mid.0)])?;
        while let Some(row) = rows.next()? {
            self.bytes += integer(row, 1)?.map_or(0, i64::cast_unsigned);
            if let Ok(extents) = codec::decode_extents(&blob(row, 0)?) {
                self.count(&Content::Extents(extents));
            }
        }
        Ok(())
    }

    fn count(&mut self, content: &Content) {
        if let Content::Extents(extents) = content {
            for Extent { segment, stored_len, .. } in extents {
                let dead = self.dead.entry(*segment).or_default();
                *dead = dead.saturating_add(*stored_len);
            }
        }
    }
}

/// Takes the rows away, but for those that have been marked or rewritten since the plan was made.
pub(in crate::store) fn delete(
    conn: &mut Connection,
    doomed: &[Doomed],
    marked: Marked,
) -> rusqlite::Result<Freed> {
    let mut freed = Freed::default();
    if doomed.is_empty() {
        return Ok(freed);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut dead = BTreeMap::<u32, u64>::new();
    let mut gone = Vec::new();
    {
        let mut still = tx.prepare_cached(match marked {
            Marked::Keep => STILL_UNMARKED,
            Marked::Delete => STILL,
        })?;
        for doomed in doomed {
            if !still.exists(params![sqlite_int(doomed.mid.0), doomed.at[0], doomed.at[1]])? {
                continue;
            }
            gone.push(doomed.mid);
            freed.flows += 1;
            freed.bytes += doomed.bytes;
            for (&segment, &bytes) in &doomed.dead {
                *dead.entry(segment).or_default() += bytes;
            }
        }
    }
    gone.sort_unstable();
    let runs: Vec<(Mid, Mid)> =
        gone.chunk_by(|a, b| a.0 + 1 == b.0).map(|run| (run[0], run[run.len() - 1])).collect();
    take(&tx, &runs)?;
    count_dead(&tx, dead)?;
    note_deleted(&tx, freed.flows)?;
    tx.commit()?;
    Ok(freed)
}

/// Takes flows out whose bodies are counted as dead elsewhere ([`Pins::left_out`](super::Pins::left_out)), in the transaction
/// of a group. A mid without rows is no error. Zones are the caller's.
pub(in crate::store) fn take_out(tx: &Connection, mids: &[Mid]) -> rusqlite::Result<()> {
    let mut dead = BTreeMap::new();
    for &mid in mids {
        let mut doomed = Doomed::new(mid);
        let read = |row: &rusqlite::Row<'_>| Found::read(row, 1);
        let found = tx.prepare_cached(ROW)?.query_row([sqlite_int(mid.0)], read).optional()?;
        doomed.count_record(&found.unwrap_or(Found::Nowhere));
        doomed.count_messages(&mut tx.prepare_cached(MESSAGES)?)?;
        take_rows(tx, (mid, mid))?;
        for (segment, bytes) in doomed.dead {
            *dead.entry(segment).or_default() += bytes;
        }
    }
    count_dead(tx, dead)
}

/// Takes away all that there is of flows, by runs of mids that rise, both ends of each within; and the zones that they were
/// in and the index of those, which hold URLs and trigrams of what is gone now. Blocks without are scanned, until they get
/// new ones. In a transaction.
pub(super) fn take(tx: &Connection, runs: &[(Mid, Mid)]) -> rusqlite::Result<()> {
    let mut bare = None;
    for &run in runs {
        take_rows(tx, run)?;
        let blocks = (run.0.0 >> zone::BLOCK_BITS, run.1.0 >> zone::BLOCK_BITS);
        if bare != Some(blocks) {
            index::delete(tx, blocks)?;
            for sql in [DELETE_ZONES, DELETE_URLS] {
                tx.prepare_cached(sql)?.execute([sqlite_int(blocks.0), sqlite_int(blocks.1)])?;
            }
            bare = Some(blocks);
        }
    }
    Ok(())
}

fn take_rows(tx: &Connection, (first, last): (Mid, Mid)) -> rusqlite::Result<()> {
    for sql in [DELETE, DELETE_RECORDS, DELETE_MESSAGES, DELETE_NOTES, DELETE_TAGS] {
        tx.prepare_cached(sql)?.execute([sqlite_int(first.0), sqlite_int(last.0)])?;
    }
    Ok(())
}

/// Tells a recorder that counts flows how many of them went, whoever deletes.
pub(super) fn note_deleted(tx: &Connection, flows: u64) -> rusqlite::Result<()> {
    tx.prepare_cached(NOTE_DELETED)?.execute([sqlite_int(flows)]).map(drop)
}

/// How many flows were ever deleted from the store, as [`note_deleted`] was told.
pub(super) fn deleted_ever(conn: &Connection) -> rusqlite::Result<u64> {
    let found = conn.prepare_cached(DELETED_EVER)?.query_row([], |row| integer(row, 0)).optional()?;
    Ok(found.flatten().unwrap_or(0).cast_unsigned())
}

/// Adds to what is dead, by segment.
pub(super) fn count_dead(conn: &Connection, dead: BTreeMap<u32, u64>) -> rusqlite::Result<()> {
    for (segment, bytes) in dead {
        conn.prepare_cached(DEAD)?.execute(params![segment, sqlite_int(bytes)])?;
    }
    Ok(())
}

/// Does something whose commits do not wait for the disk (`PRAGMA synchronous = NORMAL`,
/// sqlite.org/pragma.html#pragma_synchronous). It is on disk when a later commit is that does, or the WAL.
pub(in crate::store) fn unsynced<T>(
    conn: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let before: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    let result = work(conn);
    conn.pragma_update(None, "synchronous", before)?;
    result
}

/// The bodies of a flow that may lie in segments, but for messages.
pub(super) fn bodies(flow: &mut Flow) -> impl Iterator<Item = &mut Body> {
    let request = flow.request.as_mut().map(|r| &mut r.body);
    let response = flow.response.as_mut().map(|r| &mut r.body);
    let tunnel = flow.tunnel.as_mut().map(|t| [&mut t.from_client, &mut t.from_server]);
    request.into_iter().chain(response).chain(tunnel.into_iter().flatten())
}

pub(super) fn has_notes(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(NOTES_EXIST)?.exists([])
}

const NOTES_EXIST: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tag'";
pub(super) const ROW: &str = "SELECT state, pbuf, record_segment, record_offset, record_len FROM flow \
     LEFT JOIN record USING (mid) WHERE mid = ?1";
const ROW_3: &str =
    "SELECT state, pbuf, NULL, NULL, NULL FROM flow LEFT JOIN record USING (mid) WHERE mid = ?1";
pub(super) const MESSAGES: &str =
    "SELECT extents, length(payload) FROM message WHERE mid = ?1 AND (extents NOT NULL OR payload NOT NULL)";
/// Of a store of any version, for those that only read. Who deletes writes, and has the tables of today.
const MARK: &str = "SELECT 1 FROM note WHERE mid = ?1 AND marker <> ''";
const STILL: &str =
    "SELECT 1 FROM flow WHERE mid = ?1 AND state <> 0 AND record_segment IS ?2 AND record_offset IS ?3";
const STILL_UNMARKED: &str = "SELECT 1 FROM flow WHERE mid = ?1 AND state <> 0 AND record_segment IS ?2 \
     AND record_offset IS ?3 AND NOT EXISTS (SELECT 1 FROM note WHERE note.mid = ?1 AND marker <> '')";
const DELETE: &str = "DELETE FROM flow WHERE mid BETWEEN ?1 AND ?2";
const DELETE_RECORDS: &str = "DELETE FROM record WHERE mid BETWEEN ?1 AND ?2";
const DELETE_MESSAGES: &str = "DELETE FROM message WHERE mid BETWEEN ?1 AND ?2";
const DELETE_NOTES: &str = "DELETE FROM note WHERE mid BETWEEN ?1 AND ?2";
const DELETE_TAGS: &str = "DELETE FROM tag WHERE mid BETWEEN ?1 AND ?2";
const NOTE_DELETED: &str = "INSERT INTO meta (key, value) VALUES ('deleted', ?1) \
     ON CONFLICT (key) DO UPDATE SET value = value + excluded.value";
const DELETED_EVER: &str = "SELECT value FROM meta WHERE key = 'deleted'";
const DELETE_ZONES: &str = "DELETE FROM zone WHERE block BETWEEN ?1 AND ?2";
const DELETE_URLS: &str = "DELETE FROM zone_url WHERE block BETWEEN ?1 AND ?2";
/// No row is made: a record from elsewhere may name any number.
const DEAD: &str = "UPDATE segment SET dead = dead + ?2 WHERE number = ?1";
