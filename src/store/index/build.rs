//! Making the index of a block, in memory: its flows are read one by one, each body that is not too long, with its codings
//! undone.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::gather::{Gatherer, Grain, TooFine, is_binary};
use super::head::Classes;
use super::postings::{Chunk, Postings};
use super::{PLACES, doc};
use crate::filter::Part;
use crate::flow::{Flow, Mid, State};
use crate::store::reader::integer;
use crate::store::row::{self, sqlite_int};
use crate::store::texts::{Seen, Texts};
use crate::store::zone::BLOCK_BITS;
use crate::store::{Reader, StoreError};

/// The index of a block.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) block: u64,
    pub(super) classes: Classes,
    pub(super) chunks: Vec<Chunk>,
    /// The places of the flows that were looked at.
    pub(super) there: Vec<usize>,
}

/// Makes the index of a block; `None` if it was stopped.
///
/// # Errors
/// What SQLite said.
pub(super) fn build(reader: &Reader, block: u64, stop: &AtomicBool) -> Result<Option<Built>, StoreError> {
    let mut work = Work {
        reader,
        texts: Texts::new(reader, MAX_TEXT as u64),
        gatherer: Gatherer::new(),
        decoded: String::new(),
        postings: Postings::new(),
        classes: Classes::new(),
    };
    let rows = rows(&reader.conn, block)
        .map_err(|e| StoreError::sqlite(&reader.paths.db, "reading rows to index", e))?;
    for row in &rows {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        work.flow(row)?;
    }
    let Work { classes, postings, .. } = work;
    let there = rows.iter().map(|row| row.place).collect();
    Ok(Some(Built { block, classes, chunks: postings.into_chunks(), there }))
}

/// What of a row tells whether there is anything to read.
#[derive(Debug)]
struct Row {
    mid: Mid,
    place: usize,
    has_ended: bool,
    is_empty: bool,
}

fn rows(conn: &Connection, block: u64) -> rusqlite::Result<Vec<Row>> {
    let mut statement = conn.prepare_cached(ROWS)?;
    let first = block << BLOCK_BITS;
    let rows = statement.query_map([sqlite_int(first), sqlite_int(first + PLACES as u64 - 1)], |row| {
        let mid = integer(row, 0)?.unwrap_or(0).cast_unsigned();
        let state = row::state(integer(row, 1)?);
        Ok(Row {
            mid: Mid(mid),
            place: place_of(mid),
            // The lengths of a flow that was not seen to end may be those of its beginning.
            has_ended: !matches!(state, State::Open | State::Interrupted),
            is_empty: integer(row, 2)? == Some(0) && integer(row, 3)? == Some(0),
        })
    })?;
    rows.collect()
}

/// Where in its block a mid is.
pub(super) fn place_of(mid: u64) -> usize {
    usize::try_from(mid % PLACES as u64).unwrap_or(0)
}

/// The places of the flows of a block that are there.
pub(super) fn places(conn: &Connection, block: u64) -> rusqlite::Result<Vec<usize>> {
    let mut statement = conn.prepare_cached(MIDS)?;
    let first = block << BLOCK_BITS;
    let mids = statement.query_map([sqlite_int(first), sqlite_int(first + PLACES as u64 - 1)], |row| {
        Ok(place_of(integer(row, 0)?.unwrap_or(0).cast_unsigned()))
    })?;
    mids.collect()
}

struct Work<'a> {
    reader: &'a Reader,
    texts: Texts<'a>,
    gatherer: Gatherer,
    decoded: String,
    postings: Postings,
    classes: Classes,
}

impl Work<'_> {
    fn flow(&mut self, row: &Row) -> Result<(), StoreError> {
        if !row.has_ended {
            return Ok(());
        }
        let sides = [(Part::Request, doc(row.place, true)), (Part::Response, doc(row.place, false))];
        if row.is_empty {
            sides.iter().for_each(|&(_, doc)| self.classes.set(doc, Some(Grain::All)));
            return Ok(());
        }
        let mut flow = self.read(row.mid)?;
        for (part, doc) in sides {
            let mut side = self.side(flow.as_ref(), row.mid, part)?;
            if let Side::Damaged = side {
                // Its bytes may have been moved between record and body: then its record names other places now.
                flow = self.read(row.mid)?;
                side = self.side(flow.as_ref(), row.mid, part)?;
            }
            let found = self.gatherer.found();
            if let Side::Noted(grain) = side
                && self.postings.has_room(found.len())
            {
                self.postings.add(doc, found);
                self.classes.set(doc, Some(grain));
            }
        }
        Ok(())
    }

    fn read(&self, mid: Mid) -> Result<Option<Flow>, StoreError> {
        match self.reader.flow_alone(mid) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            flow => flow,
        }
    }

    /// Gathers the trigrams of one side.
    fn side(&mut self, flow: Option<&Flow>, mid: Mid, part: Part) -> Result<Side, StoreError> {
        let Some(flow) = flow else { return Ok(Side::Damaged) };
        let Self { texts, gatherer, decoded, .. } = self;
        for grain in Grain::ALL {
            gatherer.begin(grain);
            let (damaged, mut refused, mut bytes) = (Cell::new(false), None, 0);
            let mut see = |seen: Seen<'_>| {
                bytes += seen.bytes.len().max(LEAST_TEXT);
                let added = match seen.is_cut || bytes > MAX_TEXT {
                    true => Err(Refused::TooLong),
                    false => add(gatherer, grain, &seen, decoded).map_err(|TooFine| Refused::TooFine),
                };
                refused = added.err();
                if refused.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let all = match texts.each(flow, mid, part, &damaged, &mut see) {
                Err(StoreError::Damaged { .. }) => return Ok(Side::Damaged),
                seen => seen?,
            };
            match (all, refused) {
                _ if damaged.get() => return Ok(Side::Damaged),
                (ControlFlow::Continue(()), _) => return Ok(Side::Noted(grain)),
                (ControlFlow::Break(()), Some(Refused::TooFine)) => {}
                (ControlFlow::Break(()), _) => return Ok(Side::Refused),
            }
        }
        Ok(Side::Refused)
    }
}

/// What came of one side.
enum Side {
    /// What was gathered counts, with this grain.
    Noted(Grain),
    /// It is not to be indexed.
    Refused,
    /// Something could not be read.
    Damaged,
}

enum Refused {
    TooLong,
    TooFine,
}

/// Gathers whatever a pattern may be looked for in: the bytes, and the text of another charset.
fn add(gatherer: &mut Gatherer, grain: Grain, seen: &Seen<'_>, decoded: &mut String) -> Result<(), TooFine> {
    if grain == Grain::All && seen.charset.is_none() && is_binary(seen.bytes) {
        return Err(TooFine);
    }
    gatherer.add(seen.bytes)?;
    let Some(charset) = seen.charset else { return Ok(()) };
    charset.decode(seen.bytes, usize::MAX, decoded);
    let result = gatherer.add(decoded.as_bytes());
    *decoded = String::new();
    result
}

/// Decoded bytes of one side of a flow that are indexed; of one that has more, all is read by every search.
const MAX_TEXT: usize = 4 << 20;

/// What a message counts at least: a million of empty ones are work, too.
const LEAST_TEXT: usize = 64;

const ROWS: &str =
    "SELECT mid, state, request_len, response_len FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
const MIDS: &str = "SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
