//! The records of flows as they lie in segment files: pieces like those of bodies, a record's one behind the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use rusqlite::types::ValueRef;
use rustix::buffer::spare_capacity;

use super::reader::{blob, integer};
use super::schema::MAX_RECORD;
use super::segment::piece::{self, Coding, HEADER, Piece};
use super::segment::{PIECE_BYTES, RECORD};
use super::source::Source;
use crate::flow::Mid;

/// Makes pieces of a record, in place. No bytes stay none.
pub(super) fn make_pieces(mid: Mid, record: &mut Vec<u8>) {
    let header = |seq: u64, data: &[u8]| {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Piece { len, mid: mid.0, seq, side: RECORD, coding: Coding::Plain }.header(data)
    };
    if record.is_empty() {
        return;
    }
    if record.len() <= PIECE_BYTES {
        let (first, len) = (header(0, record), record.len());
        record.resize(HEADER + len, 0);
        record.copy_within(..len, HEADER);
        record[..HEADER].copy_from_slice(&first);
        return;
    }
    let pieces = record.chunks(PIECE_BYTES).zip(0..).map(|(data, seq)| [&header(seq, data), data].concat());
    *record = pieces.flatten().collect();
}

/// The record that pieces hold.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if they are not the whole and undamaged pieces of the record of `mid`.
pub(super) fn of_pieces(mid: Mid, mut pieces: Bytes) -> io::Result<Bytes> {
    let mut parts = BytesMut::new();
    let mut seq = 0;
    while !pieces.is_empty() {
        // Records are stored as they are: what a file from elsewhere inflates to here would be held in memory.
        let wanted = |piece: &Piece| {
            (piece.mid, piece.seq, piece.side) == (mid.0, seq, RECORD) && piece.coding == Coding::Plain
        };
        let (_, data) =
            piece::stored(&pieces).filter(|(piece, _)| wanted(piece)).ok_or(io::ErrorKind::InvalidData)?;
        let len = data.len();
        if seq == 0 && pieces.len() == HEADER + len {
            pieces.advance(HEADER);
            return Ok(pieces);
        }
        parts.extend_from_slice(data);
        pieces.advance(HEADER + len);
        seq += 1;
    }
    Ok(parts.freeze())
}

/// Where a row says that its record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordAt {
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Bytes in the file, headers of pieces among them.
    pub(super) stored_len: u64,
}

/// What a row tells of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    InSegment(RecordAt),
    /// In the table `record`.
    InTable(Bytes),
    Nowhere,
}

impl Found {
    /// Reads the columns `pbuf, record_segment, record_offset, record_len`, of which the first is `at`.
    pub(super) fn read(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let number = |at| integer(row, at).map(|n| n.and_then(|n| u64::try_from(n).ok()));
        let inline = || match row.get_ref(at)? {
            ValueRef::Blob(_) => blob(row, at).map(Self::InTable),
            _ => Ok(Self::Nowhere),
        };
        let Some(segment) = integer(row, at + 1)? else { return inline() };
        Ok(match (u32::try_from(segment), number(at + 2)?, number(at + 3)?) {
            (Ok(segment), Some(offset), Some(stored_len)) => {
                Self::InSegment(RecordAt { segment, offset, stored_len })
            }
            _ => Self::Nowhere,
        })
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InSegment(RecordAt { segment, offset, .. }) => {
                write!(f, "segment {segment:06} at offset {offset}")
            }
            Self::InTable(_) => f.write_str("in the database"),
            Self::Nowhere => f.write_str("which its row does not name"),
        }
    }
}

/// The segment files that records are read from.
#[derive(Debug)]
pub(super) struct RecordFiles {
    source: Arc<Source>,
    /// Memory in which several records were read, and how much it is: used again when nobody has one of them any more. Fresh
    /// memory of this size costs a fault a page, and giving it back a system call.
    used: RefCell<VecDeque<(usize, Bytes)>>,
}

impl RecordFiles {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, used: RefCell::default() }
    }

    /// The record of `mid`.
    ///
    /// # Errors
    /// What the system said, and [`io::ErrorKind::InvalidData`] if what lies there is not that record.
    pub(super) fn get(&self, mid: Mid, found: &Found) -> io::Result<Bytes> {
        match found {
            Found::InSegment(at) => self.read(mid, *at),
            Found::InTable(record) => Ok(record.clone()),
            Found::Nowhere => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Closes the file of a segment, if it is open.
    pub(super) fn forget(&self, segment: u32) {
        self.source.forget(segment);
    }

    /// The records of several flows, in their order; each as [`RecordFiles::get`] has it. Those that lie near each other in one
    /// file are read in one go, and share its memory.
    pub(super) fn get_all(&self, wanted: &[(Mid, Found)]) -> impl Iterator<Item = io::Result<Bytes>> {
        let around = around(wanted);
        let read = around.and_then(|at| self.several(at).ok().map(|pieces| (at, pieces)));
        wanted.iter().map(move |(mid, found)| match (&read, found) {
            (Some((all, pieces)), Found::InSegment(at)) if all.holds(*at) => {
                // It lies within, so both fit.
                let begin = usize::try_from(at.offset - all.offset).unwrap_or(usize::MAX);
                let len = usize::try_from(at.stored_len).unwrap_or(usize::MAX);
                of_pieces(*mid, pieces.slice(begin..begin.saturating_add(len)))
            }
            _ => self.get(*mid, found),
        })
    }

    fn read(&self, mid: Mid, at: RecordAt) -> io::Result<Bytes> {
        of_pieces(mid, self.pieces(at, Vec::new())?)
    }

    /// What lies in the file there, which is more than one record.
    fn several(&self, at: RecordAt) -> io::Result<Bytes> {
        let mut used = self.used.borrow_mut();
        // A little more than this one needs, so that it does for others, too. Not much more: what has room is read.
        let room = usize::try_from(at.stored_len).unwrap_or(0).next_multiple_of(ROOM);
        let fits = |(has, pieces): &(usize, Bytes)| (room..=room + ROOM).contains(has) && pieces.is_unique();
        // Of those that nobody looks at any more, the one that was read last is most likely in the processor's cache.
        let free = used.iter().rposition(fits).and_then(|free| used.remove(free));
        let (room, memory) = match free.and_then(|(has, free)| Some((has, free.try_into_mut().ok()?))) {
            Some((has, mut free)) => {
                free.clear();
                (has, Vec::from(free))
            }
            None => (room, Vec::with_capacity(room)),
        };
        let pieces = self.pieces(at, memory)?;
        used.push_back((room, pieces.clone()));
        while used.iter().map(|(has, _)| has).sum::<usize>() > MOST_USED {
            used.pop_front();
        }
        Ok(pieces)
    }

    /// What lies in the file there, in `pieces`, which is empty.
    fn pieces(&self, at: RecordAt, mut pieces: Vec<u8>) -> io::Result<Bytes> {
        let len = usize::try_from(at.stored_len).ok().filter(|&len| len <= LONGEST);
        let len = len.ok_or(io::ErrorKind::InvalidData)?;
        let file = self.source.file(at.segment)?;
        pieces.reserve_exact(len);
        while pieces.len() < len {
            let next = at.offset.checked_add(pieces.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
            // Into memory that nobody has filled with zeros before.
            match rustix::io::pread(&file, spare_capacity(&mut pieces), next) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        pieces.truncate(len);
        Ok(pieces.into())
    }
}

impl RecordAt {
    fn end(self) -> Option<u64> {
        self.offset.checked_add(self.stored_len)
    }

    fn holds(self, other: Self) -> bool {
        let is_within = other.end().zip(self.end()).is_some_and(|(theirs, ours)| theirs <= ours);
        self.segment == other.segment && self.offset <= other.offset && is_within
    }
}

/// The part of the first record's segment that holds all records in it, if little else lies between them: the records of a
/// group are side by side, in the order in which their flows have ended.
fn around(wanted: &[(Mid, Found)]) -> Option<RecordAt> {
    let mut places = wanted.iter().filter_map(|(_, found)| match found {
        Found::InSegment(at) => Some(*at),
        Found::InTable(_) | Found::Nowhere => None,
    });
    let first = places.next()?;
    let (mut begin, mut end, mut sum, mut count) = (first.offset, first.end()?, first.stored_len, 1);
    for at in places.filter(|at| at.segment == first.segment) {
        (begin, end) = (begin.min(at.offset), end.max(at.end()?));
        sum = at.stored_len.saturating_add(sum);
        count += 1;
    }
    let stored_len = end - begin;
    let worth = count > 1 && stored_len <= NEAR_BYTES && stored_len / MOST_BETWEEN <= sum;
    worth.then_some(RecordAt { segment: first.segment, offset: begin, stored_len })
}

/// The most that is read in one go; a flow that is kept may hold all of it.
const NEAR_BYTES: u64 = 1 << 20;

/// Bytes of such memory that are held: what is read while those before the last are still looked at.
const MOST_USED: usize = 4 << 20;

/// Memory for them is taken in multiples of this.
const ROOM: usize = 64 << 10;

/// How many times as much as the records may be read for them. 64 exchanges at a time end within 128 places of their turn, and a
/// read costs as much as copying some tens of KiB.
const MOST_BETWEEN: u64 = 4;

/// The longest record with the heads of its pieces.
const LONGEST: usize = MAX_RECORD + HEADER * MAX_RECORD.div_ceil(PIECE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_any_length_becomes_pieces_and_a_record_again() {
        for len in [0, 1, 2000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7] {
            let record: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0]).collect();
            let mut pieces = record.clone();
            make_pieces(Mid(9), &mut pieces);
            assert_eq!(pieces.len(), len + HEADER * len.div_ceil(PIECE_BYTES));
            let pieces = Bytes::from(pieces);
            assert_eq!(of_pieces(Mid(9), pieces.clone()).unwrap(), record);
            if len == 0 {
                continue;
            }
            assert!(of_pieces(Mid(8), pieces.clone()).is_err(), "another flow's");
            let mut damaged = pieces.to_vec();
            damaged[len / 2 + HEADER / 2] ^= 1;
            assert!(of_pieces(Mid(9), damaged.into()).is_err());
            assert!(of_pieces(Mid(9), pieces.slice(..pieces.len() - 1)).is_err());
        }
    }
}
