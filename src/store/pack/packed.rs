//! What goes into a packed store: one segment in the rows of `chunk`, records in rows of their own.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::StoreError;
use super::super::reader::integer;
use super::super::row::sqlite_int;
use super::super::source::{CHUNK_BYTES, PACKED};
use super::super::writer::unix_ns;
use super::bodies::Sink;
use crate::flow::{Extent, Mid};

/// The tables of a packed store under construction.
pub(super) struct PackedSink<'a> {
    to: &'a Connection,
    /// Bytes in rows.
    at: u64,
    /// Bytes of the next row.
    block: Vec<u8>,
}

impl<'a> PackedSink<'a> {
    pub(super) fn new(to: &'a Connection) -> rusqlite::Result<Self> {
        // In a file of SQLite's own, which goes with the connection: sums of a million bodies are no matter for memory.
        to.execute_batch(SUMS)?;
        Ok(Self { to, at: 0, block: Vec::with_capacity(CHUNK_BYTES) })
    }

    /// Writes the record of a flow, in the place of the one that was there.
    pub(super) fn record(&mut self, mid: Mid, record: &[u8]) -> rusqlite::Result<()> {
        self.to.prepare_cached(RECORD)?.execute(params![sqlite_int(mid.0), record])?;
        Ok(())
    }

    /// Takes away the record of a flow whose newest one cannot be read: an older one would be taken for it.
    pub(super) fn no_record(&mut self, mid: Mid) -> rusqlite::Result<()> {
        self.to.prepare_cached("DELETE FROM record WHERE mid = ?1")?.execute([sqlite_int(mid.0)])?;
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> rusqlite::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        if !self.block.is_empty() {
            self.to.prepare_cached(CHUNK)?.execute(params![sqlite_int(self.at), self.block])?;
            self.at += self.block.len() as u64;
            self.block.clear();
        }
        Ok(())
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        self.flush()?;
        self.to.execute_batch(END)?;
        self.to.execute(STAMP, [unix_ns()])?;
        Ok(())
    }

    fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(self.to.path().unwrap_or_default().as_ref(), "writing the copy", source)
    }
}

impl Sink for PackedSink<'_> {
    fn find(&mut self, sum: &blake3::Hash, len: u64) -> rusqlite::Result<Option<Extent>> {
        let number = |row: &rusqlite::Row<'_>, at| integer(row, at).map(|n| n.unwrap_or(0).cast_unsigned());
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Extent { segment: PACKED, offset: number(row, 0)?, stored_len: number(row, 1)?, len })
        };
        let key = params![sum.as_bytes(), sqlite_int(len)];
        self.to.prepare_cached(FIND)?.query_row(key, read).optional()
    }

    fn remember(&mut self, sum: &blake3::Hash, extent: &Extent) -> rusqlite::Result<()> {
        let Extent { offset, stored_len, len, .. } = *extent;
        let values = params![sum.as_bytes(), sqlite_int(len), sqlite_int(offset), sqlite_int(stored_len)];
        self.to.prepare_cached(REMEMBER)?.execute(values)?;
        Ok(())
    }

    fn shares(&self) -> bool {
        true
    }

    fn put(&mut self, header: &[u8], data: &[u8]) -> Result<(u32, u64), StoreError> {
        let offset = self.at + self.block.len() as u64;
        self.append(header).and_then(|()| self.append(data)).map_err(|e| self.fail(e))?;
        Ok((PACKED, offset))
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.end().map_err(|e| self.fail(e))
    }
}

const SUMS: &str = "
CREATE TEMP TABLE body_sum (sum BLOB NOT NULL, len INTEGER NOT NULL, at INTEGER NOT NULL, stored_len INTEGER NOT NULL,
  PRIMARY KEY (sum, len)) STRICT, WITHOUT ROWID;
";
const FIND: &str = "SELECT at, stored_len FROM temp.body_sum WHERE sum = ?1 AND len = ?2";
const REMEMBER: &str =
    "INSERT OR REPLACE INTO temp.body_sum (sum, len, at, stored_len) VALUES (?1, ?2, ?3, ?4)";
const RECORD: &str = "INSERT OR REPLACE INTO record (mid, pbuf) VALUES (?1, ?2)";
const CHUNK: &str = "INSERT INTO chunk (at, data) VALUES (?1, ?2)";
/// Rows still say where records were in the store that was copied. It has no index: nobody would keep it up.
const END: &str = "UPDATE flow SET record_segment = NULL, record_offset = NULL, record_len = NULL \
     WHERE record_segment IS NOT NULL; DELETE FROM meta WHERE key = 'index_bodies'; DROP TABLE temp.body_sum;";
const STAMP: &str = "INSERT OR REPLACE INTO meta (key, value) VALUES ('packed', ?1)";
