//! Deleting flows, some at a time: what dies with each is found out first, then one short transaction takes the rows.

use std::collections::{BTreeMap, BTreeSet};
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

fn doom(
    files: &RecordFiles,
    messages: Option<&mut CachedStatement<'_>>,
    mid: Mid,
    found: &Found,
) -> rusqlite::Result<Doomed> {
    let mut doomed = Doomed { mid, at: [None; 2], dead: BTreeMap::new(), bytes: 0 };
    if let Found::InSegment(at) = found {
        *doomed.dead.entry(at.segment).or_default() += at.stored_len;
    }
    if let Found::InTable(record) = found {
        doomed.bytes += record.len() as u64;
    }
    match files.get(mid, found).map(|record| codec::decode_flow(&record)) {
        Ok(Ok(mut flow)) => bodies(&mut flow).for_each(|body| doomed.count(&body.content)),
        _ => tracing::debug!(%mid, "a record that cannot be read is deleted"),
    }
    if let Some(messages) = messages {
        let mut rows = messages.query([sqlite_int(mid.0)])?;
        while let Some(row) = rows.next()? {
            doomed.bytes += integer(row, 1)?.map_or(0, i64::cast_unsigned);
            if let Ok(extents) = codec::decode_extents(&blob(row, 0)?) {
                doomed.count(&Content::Extents(extents));
            }
        }
    }
    doomed.bytes += doomed.dead.values().sum::<u64>();
    Ok(doomed)
}

impl Doomed {
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
    let has_notes = has_notes(conn)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut flow = tx.prepare_cached(match marked {
            Marked::Keep if has_notes => DELETE_UNMARKED,
            _ => DELETE,
        })?;
        let others = [DELETE_RECORD, DELETE_MESSAGES].iter().chain(has_notes.then_some(&DELETE_NOTE));
        let others = others.chain(has_notes.then_some(&DELETE_TAGS));
        let mut others = others.map(|sql| tx.prepare_cached(sql)).collect::<Result<Vec<_>, _>>()?;
        let mut dead = BTreeMap::<u32, u64>::new();
        let mut blocks = BTreeSet::new();
        for doomed in doomed {
            let mid = sqlite_int(doomed.mid.0);
            if flow.execute(params![mid, doomed.at[0], doomed.at[1]])? == 0 {
                continue;
            }
            for other in &mut others {
                other.execute([mid])?;
            }
            blocks.insert(doomed.mid.0 >> zone::BLOCK_BITS);
            freed.flows += 1;
            freed.bytes += doomed.bytes;
            for (&segment, &bytes) in &doomed.dead {
                *dead.entry(segment).or_default() += bytes;
            }
        }
        // They hold URLs, and trigrams of bodies, of what is gone now. Blocks without are scanned, until they get new ones.
        for block in blocks {
            index::delete(&tx, block)?;
            tx.prepare_cached(DELETE_ZONE)?.execute([sqlite_int(block)])?;
            tx.prepare_cached(DELETE_URLS)?.execute([sqlite_int(block)])?;
        }
        count_dead(&tx, dead)?;
    }
    tx.commit()?;
    Ok(freed)
}

/// Adds to what is dead, by segment.
pub(super) fn count_dead(conn: &Connection, dead: BTreeMap<u32, u64>) -> rusqlite::Result<()> {
    for (segment, bytes) in dead {
        conn.prepare_cached(DEAD)?.execute(params![segment, sqlite_int(bytes)])?;
    }
    Ok(())
}

/// Does something with `PRAGMA synchronous` set otherwise (sqlite.org/pragma.html#pragma_synchronous).
pub(in crate::store) fn with_synchronous<T>(
    conn: &mut Connection,
    level: Synchronous,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let before: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    conn.pragma_update(None, "synchronous", level as i64)?;
    let result = work(conn);
    conn.pragma_update(None, "synchronous", before)?;
    result
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Synchronous {
    /// Nothing. It is on disk when the next commit is that waits.
    Normal = 1,
    /// Itself, and all before it, to be on disk.
    Full = 2,
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
const MESSAGES: &str =
    "SELECT extents, length(payload) FROM message WHERE mid = ?1 AND (extents NOT NULL OR payload NOT NULL)";
const MARK: &str = "SELECT 1 FROM note WHERE mid = ?1 AND marker <> ''";
const DELETE: &str =
    "DELETE FROM flow WHERE mid = ?1 AND state <> 0 AND record_segment IS ?2 AND record_offset IS ?3";
const DELETE_UNMARKED: &str = "DELETE FROM flow WHERE mid = ?1 AND state <> 0 AND record_segment IS ?2 \
     AND record_offset IS ?3 AND NOT EXISTS (SELECT 1 FROM note WHERE note.mid = ?1 AND marker <> '')";
const DELETE_RECORD: &str = "DELETE FROM record WHERE mid = ?1";
const DELETE_MESSAGES: &str = "DELETE FROM message WHERE mid = ?1";
const DELETE_NOTE: &str = "DELETE FROM note WHERE mid = ?1";
const DELETE_TAGS: &str = "DELETE FROM tag WHERE mid = ?1";
const DELETE_ZONE: &str = "DELETE FROM zone WHERE block = ?1";
const DELETE_URLS: &str = "DELETE FROM zone_url WHERE block = ?1";
/// No row is made: a record from elsewhere may name any number.
const DEAD: &str = "UPDATE segment SET dead = dead + ?2 WHERE number = ?1";
