//! What goes into the segment files of a store that is unpacked.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::super::StoreError;
use super::super::paths::{Paths, open_private};
use super::super::record::make_pieces;
use super::super::row::sqlite_int;
use super::super::segment::SEGMENT_BYTES;
use super::RecordAt;
use super::bodies::Sink;
use crate::flow::{Extent, Mid};

/// Segment files under construction, one after the other.
pub(super) struct FilesSink<'a> {
    to: &'a Connection,
    paths: &'a Paths,
    /// Of the file that is written; 0 before the first.
    number: u32,
    len: u64,
    file: Option<BufWriter<File>>,
}

impl<'a> FilesSink<'a> {
    /// `paths` are those of the copy; its folder for segments is there.
    pub(super) fn new(to: &'a Connection, paths: &'a Paths) -> Self {
        Self { to, paths, number: 0, len: 0, file: None }
    }

    /// Writes the record of a flow; where it is.
    pub(super) fn place(&mut self, mid: Mid, record: Bytes) -> Result<RecordAt, StoreError> {
        let mut pieces = Vec::from(record);
        make_pieces(mid, &mut pieces);
        let offset = self.append(&[&pieces])?;
        Ok(RecordAt { segment: self.number, offset, stored_len: pieces.len() as u64 })
    }

    /// Writes bytes that belong together; their offset in the file that is written now.
    fn append(&mut self, parts: &[&[u8]]) -> Result<u64, StoreError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.file.is_none() || self.len > 0 && self.len + len as u64 > SEGMENT_BYTES {
            self.end_file()?;
            self.number += 1;
            self.len = 0;
            let path = self.paths.segment(self.number);
            let file = open_private(&path).map_err(|e| StoreError::io(&path, "making a segment", e))?;
            self.file = Some(BufWriter::with_capacity(BUFFER, file));
        }
        let offset = self.len;
        if let Some(file) = &mut self.file {
            parts.iter().try_for_each(|part| file.write_all(part)).map_err(|e| self.fail(e))?;
        }
        self.len += len as u64;
        Ok(offset)
    }

    fn end_file(&mut self) -> Result<(), StoreError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|e| self.fail(e))?;
        let sql = "INSERT INTO segment (number, len) VALUES (?1, ?2)";
        let saved = self
            .to
            .prepare_cached(sql)
            .and_then(|mut insert| insert.execute(params![self.number, sqlite_int(self.len)]));
        saved.map_err(|e| StoreError::sqlite(&self.paths.db, "writing the copy", e))?;
        Ok(())
    }

    fn fail(&self, error: io::Error) -> StoreError {
        StoreError::io(&self.paths.segment(self.number), "writing a segment", error)
    }
}

impl Sink for FilesSink<'_> {
    fn find(&mut self, _: &blake3::Hash, _: u64) -> rusqlite::Result<Option<Extent>> {
        Ok(None)
    }

    fn remember(&mut self, _: &blake3::Hash, _: &Extent) -> rusqlite::Result<()> {
        Ok(())
    }

    /// In segment files, each body is its flow's own, and goes with it.
    fn shares(&self) -> bool {
        false
    }

    fn put(&mut self, header: &[u8], data: &[u8]) -> Result<(u32, u64), StoreError> {
        let offset = self.append(&[header, data])?;
        Ok((self.number, offset))
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.end_file()?;
        let end = "DELETE FROM meta WHERE key = 'packed'";
        self.to.execute_batch(end).map_err(|e| StoreError::sqlite(&self.paths.db, "writing the copy", e))
    }
}

const BUFFER: usize = 1 << 20;
