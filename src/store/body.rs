//! Reading the bytes of a body, wherever they are, in constant memory.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::segment::piece::{self, Piece};
use super::source::{Source, Stream};
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

    /// Makes `piece` the next one; `false` at the end of the body.
    fn next_piece(&mut self) -> io::Result<bool> {
        loop {
            let open = match &mut self.open {
                Some(open) if open.offset < open.end => open,
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
            let read = piece::read(&mut open.stream, &mut self.stored, &mut self.piece)
                .inspect_err(|_| self.piece.clear())?;
            let fits = |read: &Piece| open.offset + read.stored_len() <= open.end;
            let len = self.piece.len() as u64;
            let is_last = |read: &Piece| open.offset + read.stored_len() == open.end;
            let Some(read) = read.filter(fits).filter(|r| len < open.len || len == open.len && is_last(r))
            else {
                self.piece.clear();
                let detail = format!("segment {:06} is damaged at offset {}", open.segment, open.offset);
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
            };
            open.offset += read.stored_len();
            open.len -= len;
            return Ok(true);
        }
    }
}

impl Open {
    fn at(source: &Arc<Source>, extent: &Extent) -> io::Result<Self> {
        let Extent { segment, offset, stored_len, len } = *extent;
        let end = offset.checked_add(stored_len).ok_or_else(|| {
            let detail = format!("segment {segment:06}: an extent is out of range at {offset}");
            io::Error::new(io::ErrorKind::InvalidData, detail)
        })?;
        let stream = source
            .open(segment, offset)
            .map_err(|e| io::Error::new(e.kind(), format!("segment {segment:06}: {e}")))?;
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
