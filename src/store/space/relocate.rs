//! Moving what one flow has in a segment to the current one, a bounded part at a time.
//!
//! The copies are appended here, and the rows that name them are written in a transaction once the copies are on disk.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::reader::{blob, integer};
use super::super::record::{self, Found, RecordAt, RecordFiles};
use super::super::row::sqlite_int;
use super::super::segment::piece::{self, Coding};
use super::super::segment::{Segments, push_extent};
use super::delete::{ROW, bodies};
use crate::codec;
use crate::flow::{Content, Extent, Mid};

/// A flow whose rows have to say where its bytes lie now.
#[derive(Debug)]
pub(super) struct Moved {
    mid: Mid,
    /// What its row said.
    before: Found,
    record: Option<New>,
    /// Messages by number.
    messages: Vec<(i64, Vec<Extent>)>,
}

#[derive(Debug)]
enum New {
    InSegment(RecordAt),
    InTable(Bytes),
}

/// Where bytes are taken from, and how many may be.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) segment: u32,
    pub(super) file: &'a File,
    pub(super) segments: &'a Segments,
    /// Bytes that may still be copied.
    pub(super) budget: u64,
    /// Where the copies are to be.
    pub(super) copies: Vec<Extent>,
}

impl Source<'_> {
    /// Whether an extent lies here.
    fn holds(&self, extent: &Extent) -> bool {
        extent.segment == self.segment
    }

    /// Copies extents that lie here as far as the budget goes; the rest stays. Whether any was copied.
    fn copy(&mut self, extents: &mut Vec<Extent>) -> io::Result<bool> {
        if !extents.iter().any(|extent| self.holds(extent)) || self.budget == 0 {
            return Ok(false);
        }
        let mut moved = Vec::with_capacity(extents.len() + 1);
        for extent in extents.iter() {
            match self.holds(extent) && self.budget > 0 {
                true => self.copy_extent(extent, &mut moved)?,
                false => moved.push(*extent),
            }
        }
        *extents = moved;
        Ok(true)
    }

    fn copy_extent(&mut self, extent: &Extent, moved: &mut Vec<Extent>) -> io::Result<()> {
        let (segment, offset) = (self.segment, extent.offset);
        let damaged = || {
            let detail = format!("segment {segment:06} is damaged in the extent at offset {offset}");
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        let mut file = BufReader::with_capacity(64 << 10, self.file);
        file.seek(SeekFrom::Start(extent.offset))?;
        let mut left = *extent;
        let (mut run, mut run_len) = (Vec::new(), 0);
        let (mut stored, mut data) = (Vec::new(), Vec::new());
        while left.stored_len > 0 && self.budget > 0 {
            let piece = piece::read(&mut file, &mut stored, &mut data)?.ok_or_else(damaged)?;
            // As it is stored, whatever its coding.
            let raw = if piece.coding == Coding::Plain { &data } else { &stored };
            run.extend_from_slice(&piece.header(raw));
            run.extend_from_slice(raw);
            run_len += data.len() as u64;
            left.offset += piece.stored_len();
            left.stored_len = left.stored_len.checked_sub(piece.stored_len()).ok_or_else(damaged)?;
            left.len = left.len.saturating_sub(data.len() as u64);
            self.budget = self.budget.saturating_sub(piece.stored_len());
            if run.len() >= RUN_BYTES || left.stored_len == 0 || self.budget == 0 {
                let copy = self.append(std::mem::take(&mut run).into())?;
                push_extent(moved, Extent { len: std::mem::take(&mut run_len), ..copy });
            }
        }
        if left.stored_len > 0 {
            push_extent(moved, left);
        }
        Ok(())
    }

    fn append(&mut self, pieces: Bytes) -> io::Result<Extent> {
        let full = || io::Error::other("the disk takes no bodies at the moment");
        let copy = self.segments.append_pieces(pieces).ok_or_else(full)?;
        self.copies.push(copy);
        Ok(copy)
    }

    fn append_record(&mut self, pieces: Bytes) -> io::Result<RecordAt> {
        self.budget = self.budget.saturating_sub(pieces.len() as u64);
        let extent = self.append(pieces)?;
        Ok(RecordAt { segment: extent.segment, offset: extent.offset, stored_len: extent.stored_len })
    }
}

/// The lowest mid of all flows.
pub(super) fn lowest(conn: &Connection) -> rusqlite::Result<Option<Mid>> {
    let lowest = conn.prepare_cached(LOWEST)?.query_row([], |row| integer(row, 0))?;
    Ok(lowest.map(|mid| Mid(mid.max(0).cast_unsigned())))
}

/// Copies what this flow has in the segment, as far as the budget goes; `None` if it has nothing there, or is gone.
///
/// # Errors
/// If something cannot be read or appended: then the segment has to stay.
pub(super) fn copy(
    conn: &Connection,
    files: &RecordFiles,
    source: &mut Source<'_>,
    mid: Mid,
) -> Result<Option<Moved>, CopyError> {
    let read = |row: &rusqlite::Row<'_>| Found::read(row, 1);
    let Some(before) = conn.prepare_cached(ROW)?.query_row([sqlite_int(mid.0)], read).optional()? else {
        return Ok(None);
    };
    let messages = copy_messages(conn, source, mid)?;
    let pieces = files.get(mid, &before)?;
    let mut flow = codec::decode_flow(&pieces).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let mut changed = false;
    for body in bodies(&mut flow) {
        if let Content::Extents(extents) = &mut body.content {
            changed |= source.copy(extents)?;
        }
    }
    let is_here = matches!(before, Found::InSegment(at) if at.segment == source.segment);
    let mut bytes = Vec::new();
    match changed {
        true => codec::encode_flow_into(&flow, &mut bytes),
        false if is_here => bytes.extend_from_slice(&pieces),
        false => {}
    }
    let record = match before {
        _ if !changed && !is_here => None,
        Found::InTable(_) => Some(New::InTable(bytes.into())),
        _ => {
            record::make_pieces(mid, &mut bytes);
            Some(New::InSegment(source.append_record(bytes.into())?))
        }
    };
    Ok(match record.is_none() && messages.is_empty() {
        true => None,
        false => Some(Moved { mid, before, record, messages }),
    })
}

fn copy_messages(
    conn: &Connection,
    source: &mut Source<'_>,
    mid: Mid,
) -> Result<Vec<(i64, Vec<Extent>)>, CopyError> {
    let mut moved = Vec::new();
    let mut statement = conn.prepare_cached(MESSAGES)?;
    let mut rows = statement.query([sqlite_int(mid.0)])?;
    while let Some(row) = rows.next()?
        && source.budget > 0
    {
        let mut extents = codec::decode_extents(&blob(row, 1)?)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if source.copy(&mut extents)? {
            moved.push((integer(row, 0)?.unwrap_or(0), extents));
        }
    }
    Ok(moved)
}

impl Moved {
    /// Has the rows say where the copies are. A flow that was deleted meanwhile stays so.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mid = sqlite_int(self.mid.0);
        let (segment, offset) = match &self.before {
            Found::InSegment(at) => (Some(at.segment), Some(sqlite_int(at.offset))),
            Found::InTable(_) | Found::Nowhere => (None, None),
        };
        if !tx.prepare_cached(STILL)?.exists(params![mid, segment, offset])? {
            return Ok(());
        }
        match &self.record {
            None => {}
            Some(New::InSegment(at)) => {
                let place = params![mid, at.segment, sqlite_int(at.offset), sqlite_int(at.stored_len)];
                tx.prepare_cached(MOVE)?.execute(place)?;
            }
            Some(New::InTable(record)) => {
                tx.prepare_cached(RECORD)?.execute(params![mid, &record[..]])?;
            }
        }
        for (seq, extents) in &self.messages {
            tx.prepare_cached(MESSAGE)?.execute(params![mid, seq, codec::encode_extents(extents)])?;
        }
        Ok(())
    }
}

/// Why a flow could not be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The database.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What it names, or where it should go.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is appended at a time.
const RUN_BYTES: usize = 1 << 20;

const MESSAGES: &str = "SELECT seq, extents FROM message WHERE mid = ?1 AND extents NOT NULL ORDER BY seq";
const LOWEST: &str = "SELECT min(mid) FROM flow";
const STILL: &str = "SELECT 1 FROM flow WHERE mid = ?1 AND record_segment IS ?2 AND record_offset IS ?3";
const MOVE: &str = "UPDATE flow SET record_segment = ?2, record_offset = ?3, record_len = ?4 WHERE mid = ?1";
const RECORD: &str = "UPDATE record SET pbuf = ?2 WHERE mid = ?1";
const MESSAGE: &str = "UPDATE message SET extents = ?3 WHERE mid = ?1 AND seq = ?2";
