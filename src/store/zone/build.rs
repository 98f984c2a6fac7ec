//! Making zones: of rows as they are inserted, where a block comes to its end that way, else of rows read back.
//!
//! Reading rows back costs 1.2 us a flow, most of it SQLite's calls for their columns; noting them while they are at hand
//! costs 0.3, and both include writing the zone. But what is noted has to wait for the slowest flow of its block, in
//! memory, so that is done for a few of the newest blocks only.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::gather::{Gathered, Origins, Values};
use super::{BLOCK, BLOCK_BITS};
use crate::store::row::{Numbers, Texts, sqlite_int};

/// Makes zones, in memory that it keeps.
#[derive(Debug)]
pub(super) struct Builder {
    origins: Origins,
    /// Blocks whose rows are noted; `None` once that is in vain.
    noted: BTreeMap<u64, Option<Gathered>>,
    /// Blocks below this are not noted from here on: not all of their rows came by.
    first: u64,
    /// Memory, used again.
    spare: Gathered,
    lines: Vec<u8>,
}

impl Builder {
    /// For a store of which the mids below `next_mid` were given out.
    pub(super) fn new(next_mid: u64) -> Self {
        // There is no mid 0.
        let first = if next_mid <= 1 { 0 } else { next_mid.div_ceil(BLOCK) };
        Self {
            origins: Origins::default(),
            noted: BTreeMap::new(),
            first,
            spare: Gathered::default(),
            lines: Vec::new(),
        }
    }

    /// Notes a row that was inserted or rewritten. What a transaction that failed noted does no harm: a zone may tell of more
    /// than there is.
    pub(super) fn note(&mut self, row: &Values<'_>, host: &str) {
        let block = row.mid >> BLOCK_BITS;
        if block < self.first {
            return;
        }
        let Self { noted, origins, .. } = self;
        let slot = noted.entry(block).or_insert_with(|| Some(Gathered::default()));
        let Some(gathered) = slot else { return };
        let Ok(origin) = origins.of(row, || Ok::<_, std::convert::Infallible>(host.to_owned()));
        let again = !gathered.add(row, origin);
        if again || row.state == 0 || gathered.text_len() > MAX_NOTED_BYTES {
            *slot = None;
        }
        while self.noted.len() > MAX_NOTED {
            if let Some((block, _)) = self.noted.pop_first() {
                self.first = block + 1;
            }
        }
    }

    /// A block of which every row was noted and has ended; it is not noted any more.
    pub(super) fn take_complete(&mut self) -> Option<(u64, Gathered)> {
        let full = |block: u64| if block == 0 { BLOCK - 1 } else { BLOCK };
        let complete = |(block, gathered): (&u64, &Option<Gathered>)| {
            gathered.as_ref().filter(|g| g.rows == full(*block)).map(|_| *block)
        };
        let block = self.noted.iter().find_map(complete)?;
        let gathered = self.noted.insert(block, None)??;
        Some((block, gathered))
    }

    /// Writes what [`Builder::take_complete`] gave as a zone, in the transaction that `conn` is in; the bytes that it takes.
    pub(super) fn write(
        &mut self,
        conn: &Connection,
        block: u64,
        mut gathered: Gathered,
    ) -> rusqlite::Result<u64> {
        gathered.write(conn, block, &mut self.lines)
    }

    /// Writes the zone of a block as its rows are now, in the transaction that `conn` is in; the bytes that it takes. A block
    /// that has no rows gets no zone.
    pub(super) fn build(&mut self, conn: &Connection, block: u64) -> rusqlite::Result<u64> {
        self.spare.clear();
        let first = block << BLOCK_BITS;
        let mut rows = conn.prepare_cached(ROWS)?;
        let mut rows = rows.query([sqlite_int(first), sqlite_int(first + BLOCK - 1)])?;
        while let Some(row) = rows.next()? {
            let row = read(row)?;
            let origin = self.origins.of(&row, || {
                let name = conn.prepare_cached(HOST_NAME)?.query_row([row.host], |row| row.get(0));
                Ok::<String, rusqlite::Error>(name.optional()?.unwrap_or_default())
            })?;
            self.spare.add(&row, origin);
        }
        match self.spare.rows {
            0 => Ok(0),
            _ => self.spare.write(conn, block, &mut self.lines),
        }
    }
}

impl<'a> Values<'a> {
    /// Those of a row as it is inserted.
    pub(super) fn of(mid: u64, host: i64, numbers: &Numbers, texts: &Texts<'a>) -> Self {
        Self {
            mid,
            kind: numbers.kind,
            state: numbers.state,
            scheme: numbers.scheme,
            host,
            port: i64::from(numbers.port),
            status: numbers.status.map(i64::from),
            started: numbers.started_unix_ns,
            duration: numbers.duration_us,
            request_len: numbers.request_len,
            response_len: numbers.response_len,
            truncated: numbers.truncated,
            has_error: texts.error.is_some(),
            has_server: numbers.server_conn.is_some(),
            is_replay: numbers.replay_of.is_some(),
            method: texts.method.as_bytes(),
            path: texts.path.as_bytes(),
            request_type: texts.request_type.map(str::as_bytes),
            response_type: texts.response_type.map(str::as_bytes),
        }
    }
}

/// Reads what [`ROWS`] gave, as lenient as a list.
fn read<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Values<'a>> {
    let int = |at| row.get_ref(at).map(|v| if let ValueRef::Integer(n) = v { Some(n) } else { None });
    let text = |at| {
        row.get_ref(at).map(|v| match v {
            ValueRef::Text(t) | ValueRef::Blob(t) => Some(t),
            _ => None,
        })
    };
    Ok(Values {
        mid: int(0)?.unwrap_or(0).cast_unsigned(),
        kind: int(1)?.unwrap_or(0),
        state: int(2)?.unwrap_or(0),
        scheme: int(3)?.unwrap_or(0),
        host: int(4)?.unwrap_or(0),
        port: int(5)?.unwrap_or(0),
        status: int(6)?,
        started: int(7)?.unwrap_or(0),
        duration: int(8)?,
        request_len: int(9)?.unwrap_or(0),
        response_len: int(10)?.unwrap_or(0),
        truncated: int(11)?.unwrap_or(0),
        has_error: int(12)? == Some(1),
        has_server: int(13)? == Some(1),
        is_replay: int(14)? == Some(1),
        method: text(15)?.unwrap_or_default(),
        path: text(16)?.unwrap_or_default(),
        request_type: text(17)?,
        response_type: text(18)?,
    })
}

/// Blocks that are noted at a time: those of the flows of the last 0.6 s at 50,000 a second.
const MAX_NOTED: usize = 32;

/// Bytes of URLs of a block that is noted; one with more is read back. So what is noted takes 10 MiB at most, and 3 as a
/// rule.
const MAX_NOTED_BYTES: usize = 256 << 10;

const ROWS: &str = "SELECT mid, kind, state, scheme, host, port, status, started_unix_ns, duration_us, request_len, \
     response_len, truncated, error IS NOT NULL, server_conn IS NOT NULL, replay_of IS NOT NULL, method, path, \
     request_type, response_type FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
const HOST_NAME: &str = "SELECT name FROM host WHERE id = ?1";
