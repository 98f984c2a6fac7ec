//! Reading the bytes of a body, wherever they are, in constant memory.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;

use super::segment::piece::{self, HEADER, Piece};
use super::source::{self, Source, Stream};
use crate::flow::Extent;

/// The bytes of a body, from the record or from segment files, each piece checked against its sum.
///
/// A piece that is not what was written ends it with an error of kind [`io::ErrorKind::InvalidData`] that names the
/// segment and the offset.
#[derive(Debug)]
pub struct BodyReader {
    source: Arc<Source>,
    extents: std::vec::IntoIter<Extent>,
    open: Option<Open>,
    /// The piece being given out.
    piece: Vec<u8>,
    at: usize,
    /// What was made of a piece that is stored in less.
    stored: Vec<u8>,
    inline: Bytes,
}

/// The extent being read.
#[derive(Debug)]
struct Open {
    stream: Stream,
    segment: u32,
    offset: u64,
    end: u64,
    /// Bytes of body that it still has to give.
    len: u64,
}

impl BodyReader {
    pub(super) fn inline(source: Arc<Source>, inline: Bytes) -> Self {
        Self { inline, ..Self::extents(source, Vec::new()) }
    }

    pub(super) fn extents(source: Arc<Source>, extents: Vec<Extent>) -> Self {
        Self {
            source,
            extents: extents.into_iter(),
            open: None,
            piece: Vec::new(),
            at: 0,
            stored: Vec::new(),
            inline: Bytes::new(),
        }
    }

    /// All that is left, up to `limit` bytes, `likely_len` of them by what the record says. As `read_to_end`, without its
    /// clearing of memory before it is read into, and without moving what is there each time it asks for twice as much.
    pub(super) fn into_bytes(mut self, likely_len: u64, limit: u64) -> io::Result<Bytes> {
        if !self.inline.is_empty() {
            return Ok(self.inline);
        }
        if let [extent] = self.extents.as_slice()
            && extent.len <= limit
            && let Some(bytes) = plain(&self.source, extent)
        {
            return Ok(bytes);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(usize::try_from(likely_len).unwrap_or(usize::MAX).min(limit));
        while self.open.is_none()
            && let Some(extent) = self.extents.as_slice().first()
            && extent.len <= (limit - bytes.len()) as u64
            && let Some(more) = plain(&self.source, extent)
        {
            bytes.extend_from_slice(&more);
            self.extents.next();
        }
        while bytes.len() < limit && self.next_piece()? {
            let room = limit - bytes.len();
            bytes.extend_from_slice(&self.piece[..room.min(self.piece.len())]);
        }
        Ok(bytes.into())
    }

    /// Makes `piece` the next one; `false` at the end of the body.
    fn next_piece(&mut self) -> io::Result<bool> {
        loop {
            let open = match &mut self.open {
                Some(open) if open.offset < open.end => open,
                Some(open) if open.len > 0 => {
                    let (name, end, len) = (source::name(open.segment), open.end, open.len);
                    return Err(damaged(format!("{name} lacks {len} bytes of a body at offset {end}")));
                }
                _ => match self.extents.next() {
                    None => return Ok(false),
                    Some(extent) => {
                        self.open = Some(Open::at(&self.source, &extent)?);
                        continue;
                    }
                },
            };
            self.at = 0;
            // The buffer is not emptied before: filling it with zeros anew costs more than the read.
            let read = piece::read(&mut open.stream, &mut self.stored, &mut self.piece);
            let read = read.map_err(|e| {
                self.piece.clear();
                io::Error::new(e.kind(), format!("{}: {e}", source::name(open.segment)))
            })?;
            let len = self.piece.len() as u64;
            let fits = |piece: &Piece| open.offset + piece.stored_len() <= open.end && len <= open.len;
            let Some(read) = read.filter(fits) else {
                self.piece.clear();
                let name = source::name(open.segment);
                return Err(damaged(format!("{name} is damaged at offset {}", open.offset)));
            };
            open.offset += read.stored_len();
            open.len -= len;
            return Ok(true);
        }
    }
}

/// The bytes of an extent of a segment file whose pieces are stored as they are, in one read, and mostly without a copy. `None`
/// if they are not, or damaged, or not to be had: who goes through it piece by piece finds out what it is.
fn plain(source: &Source, extent: &Extent) -> Option<Bytes> {
    // A store of strangers may tell of more than it has.
    let most = extent.len.saturating_mul(2).saturating_add(HEADER as u64);
    if extent.segment == source::PACKED || extent.stored_len > most {
        return None;
    }
    let len = usize::try_from(extent.stored_len).ok()?;
    let file = source.file(extent.segment).ok()?;
    let mut stored = Vec::with_capacity(len);
    while stored.len() < len {
        let at = extent.offset.checked_add(stored.len() as u64)?;
        // Into memory that nobody has filled with zeros before.
        match rustix::io::pread(&file, spare_capacity(&mut stored), at) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    stored.truncate(len);
    let first = piece::plain(&stored)?.len();
    if HEADER + first == len {
        return (first as u64 == extent.len).then(|| Bytes::from(stored).slice(HEADER..));
    }
    let (mut at, mut kept) = (0, 0);
    while at < len {
        let data = piece::plain(&stored[at..])?.len();
        stored.copy_within(at + HEADER..at + HEADER + data, kept);
        (at, kept) = (at + HEADER + data, kept + data);
    }
    stored.truncate(kept);
    (kept as u64 == extent.len).then(|| stored.into())
}

impl Open {
    fn at(source: &Arc<Source>, extent: &Extent) -> io::Result<Self> {
        let Extent { segment, offset, stored_len, len } = *extent;
        let name = || source::name(segment);
        let end = offset
            .checked_add(stored_len)
            .ok_or_else(|| damaged(format!("{}: an extent is out of range at {offset}", name())))?;
        let stream = source.open(segment, offset).map_err(|e| {
            let why = match e.kind() {
                // An open file could be read on; this one was not open yet.
                io::ErrorKind::NotFound => {
                    format!("{} is gone: its flow was deleted or moved since its record was read", name())
                }
                _ => format!("{}: {e}", name()),
            };
            io::Error::new(e.kind(), why)
        })?;
        Ok(Self { stream, segment, offset, end, len })
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.inline.is_empty() {
            let n = buffer.len().min(self.inline.len());
            self.inline.copy_to_slice(&mut buffer[..n]);
            return Ok(n);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.at == self.piece.len() && !self.next_piece()? {
            return Ok(0);
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn damaged(detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
