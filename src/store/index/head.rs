//! The rows of the index: one for each block, with what it covers, and its chunks.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::gather::Grain;
use super::postings::{self, Chunk};
use super::{DOCS, Docs, PLACES, TRIGRAM_BITS, doc};
use crate::store::reader::integer;
use crate::store::row::sqlite_int;

/// What is noted of each side of each flow of a block: two bits each, the number of a [`Grain`] or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classes(Box<[u8; DOCS / 4]>);

impl Classes {
    pub(super) fn new() -> Self {
        Self(Box::new([0; DOCS / 4]))
    }

    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self(Box::new(bytes.try_into().ok()?)))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }

    pub(super) fn set(&mut self, doc: usize, grain: Option<Grain>) {
        let (byte, shift) = (&mut self.0[doc / 4], doc % 4 * 2);
        *byte = *byte & !(3 << shift) | grain.map_or(0, |grain| grain as u8) << shift;
    }

    fn get(&self, doc: usize) -> u8 {
        self.0[doc / 4] >> (doc % 4 * 2) & 3
    }

    /// The sides that have this number.
    pub(super) fn docs(&self, number: u8) -> Docs {
        let mut docs = [0; DOCS / 64];
        for doc in (0..DOCS).filter(|&doc| self.get(doc) == number) {
            docs[doc / 64] |= 1 << (doc % 64);
        }
        docs
    }

    /// Whether both sides of a flow are covered.
    fn is_covered(&self, place: usize) -> bool {
        [true, false].iter().all(|&side| self.get(doc(place, side)) != 0)
    }

    /// Flows of which both sides are covered.
    pub(super) fn covered(&self) -> usize {
        (0..PLACES).filter(|&place| self.is_covered(place)).count()
    }

    /// Nothing is known of a flow any more.
    pub(super) fn forget(&mut self, place: usize) {
        [true, false].iter().for_each(|&side| self.set(doc(place, side), None));
    }
}

/// Whether the store has the tables: one of an older version has not, until a writer opens it.
pub(super) fn exists(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(EXISTS)?.exists([])
}

/// What a block covers; `None` if it has no index.
pub(super) fn classes(conn: &Connection, block: u64) -> rusqlite::Result<Option<Classes>> {
    let mut statement = conn.prepare_cached(CLASSES)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Classes::of(bytes),
            _ => None,
        })
    };
    Ok(statement.query_row([sqlite_int(block)], read).optional()?.flatten())
}

/// How many rows changed since the index of a block was made; `None` if it has none.
pub(super) fn stale(conn: &Connection, block: u64) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(STALE)?.query_row([sqlite_int(block)], |row| row.get(0)).optional()
}

/// Nothing is known any more of these flows of a block, in rising order.
pub(super) fn forget(conn: &Connection, block: u64, places: &[usize]) -> rusqlite::Result<()> {
    let Some(mut classes) = classes(conn, block)? else { return Ok(()) };
    places.iter().for_each(|&place| classes.forget(place));
    let covered = sqlite_int(classes.covered() as u64);
    let changed = sqlite_int(places.len() as u64);
    conn.prepare_cached(FORGET)?.execute(params![sqlite_int(block), classes.as_bytes(), covered, changed])?;
    Ok(())
}

/// Writes the row by which the index of a block counts. Its chunks must be there.
pub(super) fn insert(conn: &Connection, block: u64, classes: &Classes, bytes: u64) -> rusqlite::Result<()> {
    let covered = sqlite_int(classes.covered() as u64);
    conn.prepare_cached(INSERT)?.execute(params![
        sqlite_int(block),
        covered,
        sqlite_int(bytes),
        classes.as_bytes()
    ])?;
    Ok(())
}

/// Writes a chunk.
pub(super) fn insert_chunk(conn: &Connection, block: u64, chunk: &Chunk) -> rusqlite::Result<()> {
    conn.prepare_cached(INSERT_CHUNK)?.execute(params![key(block, chunk.first), &chunk.data[..]])?;
    Ok(())
}

/// The sides of a block's flows that have a trigram, if the block has an index. `None` if what tells that is damaged.
pub(super) fn find(conn: &Connection, block: u64, trigram: u32) -> rusqlite::Result<Option<Docs>> {
    let mut statement = conn.prepare_cached(CHUNK)?;
    let read = |row: &rusqlite::Row<'_>| {
        let first = integer(row, 0)?.unwrap_or(0) & ((1 << TRIGRAM_BITS) - 1);
        Ok(match (u32::try_from(first), row.get_ref(1)?) {
            (Ok(first), ValueRef::Blob(data)) => postings::find(first, data, trigram).ok(),
            _ => None,
        })
    };
    let found = statement.query_row([key(block, 0), key(block, trigram)], read).optional()?;
    // No chunk that could have it.
    Ok(found.unwrap_or(Some([0; DOCS / 64])))
}

/// Deletes the index of blocks, from the first to the last.
pub(in crate::store) fn delete(conn: &Connection, (first, last): (u64, u64)) -> rusqlite::Result<()> {
    // No key is of a block beyond; a run of mids may go on to their end.
    let (first, last) = (first.min(LAST_BLOCK), last.min(LAST_BLOCK));
    conn.prepare_cached(DELETE)?.execute([sqlite_int(first), sqlite_int(last)])?;
    let chunks = [key(first, 0), key(last, (1 << TRIGRAM_BITS) - 1)];
    conn.prepare_cached(DELETE_CHUNKS)?.execute(chunks)?;
    Ok(())
}

/// Deletes some of whatever there is.
pub(super) fn delete_some(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached(DELETE_SOME)?.execute([])?;
    conn.prepare_cached(DELETE_SOME_CHUNKS)?.execute([])?;
    Ok(())
}

/// Whether there is nothing.
pub(super) fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(!conn.prepare_cached(ANY)?.exists([])? && !conn.prepare_cached(ANY_CHUNK)?.exists([])?)
}

/// Tells what is damaged of the index, a few hundred of its rows at a time, those of a block in a row.
pub(in crate::store) fn verify(conn: &Connection, mut damaged: impl FnMut(String)) -> rusqlite::Result<()> {
    if !exists(conn)? {
        return Ok(());
    }
    let mut heads = conn.prepare(HEADS)?;
    let mut rows = heads.query([])?;
    while let Some(row) = rows.next()? {
        let is_whole = matches!(row.get_ref(1)?, ValueRef::Blob(bytes) if Classes::of(bytes).is_some());
        if !is_whole {
            damaged(format!("what block {} covers", integer(row, 0)?.unwrap_or(0)));
        }
    }
    let mut after = i64::MIN;
    let mut chunks = conn.prepare(CHUNKS)?;
    loop {
        let before = after;
        let mut rows = chunks.query([after])?;
        while let Some(row) = rows.next()? {
            after = integer(row, 0)?.unwrap_or(i64::MAX);
            let first = u32::try_from(after & ((1 << TRIGRAM_BITS) - 1)).unwrap_or(0);
            let is_whole = match row.get_ref(1)? {
                ValueRef::Blob(data) => postings::each(first, data, |_| false, &mut |_, _| {}).is_ok(),
                _ => false,
            };
            if !is_whole {
                damaged(format!("chunk {first:06x} of block {}", after >> TRIGRAM_BITS));
            }
        }
        if after == before {
            return Ok(());
        }
    }
}

/// The key of the chunk that begins with a trigram.
/// The last block that a key can name.
const LAST_BLOCK: u64 = (1 << (63 - TRIGRAM_BITS)) - 1;

fn key(block: u64, trigram: u32) -> i64 {
    sqlite_int(block) << TRIGRAM_BITS | i64::from(trigram)
}

/// Blocks with an index, flows that are covered, bytes of chunks.
pub(super) fn totals(conn: &Connection) -> rusqlite::Result<(u64, u64, u64)> {
    let number = |row: &rusqlite::Row<'_>, at| integer(row, at).map(|n| n.unwrap_or(0).cast_unsigned());
    conn.query_row(TOTALS, [], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))
}

const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'index_chunk'";
const CLASSES: &str = "SELECT classes FROM index_block WHERE block = ?1";
const STALE: &str = "SELECT stale FROM index_block WHERE block = ?1";
const FORGET: &str = "UPDATE index_block SET classes = ?2, covered = ?3, stale = stale + ?4 WHERE block = ?1";
const INSERT: &str =
    "INSERT OR REPLACE INTO index_block (block, covered, stale, bytes, classes) VALUES (?1, ?2, 0, ?3, ?4)";
const INSERT_CHUNK: &str = "INSERT INTO index_chunk (key, data) VALUES (?1, ?2)";
const CHUNK: &str = "SELECT key, data FROM index_chunk WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT 1";
const DELETE: &str = "DELETE FROM index_block WHERE block BETWEEN ?1 AND ?2";
const DELETE_CHUNKS: &str = "DELETE FROM index_chunk WHERE key BETWEEN ?1 AND ?2";
const ANY: &str = "SELECT 1 FROM index_block";
const ANY_CHUNK: &str = "SELECT 1 FROM index_chunk";
const DELETE_SOME: &str =
    "DELETE FROM index_block WHERE block IN (SELECT block FROM index_block ORDER BY block LIMIT 64)";
const DELETE_SOME_CHUNKS: &str =
    "DELETE FROM index_chunk WHERE key IN (SELECT key FROM index_chunk ORDER BY key LIMIT 1024)";
const HEADS: &str = "SELECT block, classes FROM index_block";
const CHUNKS: &str = "SELECT key, data FROM index_chunk WHERE key > ?1 ORDER BY key LIMIT 512";
const TOTALS: &str = "SELECT count(*), sum(covered), sum(bytes) FROM index_block";
