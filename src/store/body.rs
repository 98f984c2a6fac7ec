//! Reading the bytes of a body, wherever they are, in constant memory.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use bytes::{Buf, Bytes};

use super::paths::Paths;
use super::segment::piece;
use crate::flow::Extent;

/// The bytes of a body, from the record or from segment files, each piece checked against its sum.
///
/// A piece that is not what was written ends it with an error of kind [`io::ErrorKind::InvalidData`] that names the
/// segment and the offset.
#[derive(Debug)]
pub struct BodyReader {
    paths: Paths,
    extents: std::vec::IntoIter<Extent>,
    open: Option<Open>,
    /// The piece being given out.
    piece: Vec<u8>,
    at: usize,
    inline: Bytes,
}

/// The extent being read.
#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    segment: u32,
    offset: u64,
    end: u64,
}

impl BodyReader {
    pub(super) fn inline(paths: Paths, inline: Bytes) -> Self {
        Self { paths, extents: Vec::new().into_iter(), open: None, piece: Vec::new(), at: 0, inline }
    }

    pub(super) fn extents(paths: Paths, extents: Vec<Extent>) -> Self {
        Self {
            paths,
            extents: extents.into_iter(),
            open: None,
            piece: Vec::new(),
            at: 0,
            inline: Bytes::new(),
        }
    }

    /// All that is left, up to `limit` bytes, `likely_len` of them by what the record says. As `read_to_end`, without its
    /// clearing of memory before it is read into, and without moving what is there each time it asks for twice as much.
    pub(super) fn into_bytes(mut self, likely_len: u64, limit: u64) -> io::Result<Bytes> {
        if !self.inline.is_empty() {
            return Ok(self.inline);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(usize::try_from(likely_len).unwrap_or(usize::MAX).min(limit));
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
                _ => match self.extents.next() {
                    None => return Ok(false),
                    Some(extent) => {
                        self.open = Some(Open::at(&self.paths, &extent)?);
                        continue;
                    }
                },
            };
            self.at = 0;
            // The buffer is not emptied before: filling it with zeros anew costs more than the read.
            let read = piece::read(&mut open.file, &mut self.piece).inspect_err(|_| self.piece.clear())?;
            let Some(read) = read.filter(|read| open.offset + read.stored_len() <= open.end) else {
                self.piece.clear();
                let detail = format!("segment {:06} is damaged at offset {}", open.segment, open.offset);
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
            };
            open.offset += read.stored_len();
            return Ok(true);
        }
    }
}

impl Open {
    fn at(paths: &Paths, extent: &Extent) -> io::Result<Self> {
        let Extent { segment, offset, stored_len, .. } = *extent;
        let damaged = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
        let path = paths.segment(segment);
        let file = File::open(&path).map_err(|e| match e.kind() {
            // An open file could be read on; this one was not open yet.
            io::ErrorKind::NotFound => {
                let detail = format!(
                    "segment {segment:06} is gone: its flow was deleted or moved since its record was read"
                );
                io::Error::new(e.kind(), detail)
            }
            kind => io::Error::new(kind, format!("segment {segment:06}: {e}")),
        })?;
        let end = offset
            .checked_add(stored_len)
            .ok_or_else(|| damaged(format!("segment {segment:06}: an extent is out of range at {offset}")))?;
        let mut file = BufReader::with_capacity(64 << 10, file);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, segment, offset, end })
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
