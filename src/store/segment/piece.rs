//! A piece: 32 bytes of header and its data. Numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | `MNTp` |
//! | 4–7 | length of the data as they are stored, 1 to 256 KiB |
//! | 8–15 | mid |
//! | 16–23 | number of the piece in its body, from 0 |
//! | 24 | side, see [`super::BodySide`] |
//! | 25 | coding of the data: 0 none, 1 zstd (RFC 8878), a frame a piece |
//! | 26–27 | zero |
//! | 28–31 | CRC-32C over bytes 0–27 and the data as they are stored |

use std::io::{self, Read};

use super::PIECE_BYTES;

/// Length of a piece's header, bytes.
pub(in crate::store) const HEADER: usize = 32;

const MAGIC: [u8; 4] = *b"MNTp";

/// How the data of a piece are stored. The numbers are in files, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) enum Coding {
    /// As they are.
    #[default]
    Plain = 0,
    /// As one zstd frame, of at most [`PIECE_BYTES`] when it is decoded.
    Zstd = 1,
}

/// What a piece says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Piece {
    pub(in crate::store) len: u32,
    pub(in crate::store) mid: u64,
    pub(in crate::store) seq: u64,
    pub(in crate::store) side: u8,
    pub(in crate::store) coding: Coding,
}

impl Piece {
    /// The header as it is written, its sum made over `data`, which is `len` bytes long.
    pub(in crate::store) fn header(&self, data: &[u8]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&self.len.to_le_bytes());
        header[8..16].copy_from_slice(&self.mid.to_le_bytes());
        header[16..24].copy_from_slice(&self.seq.to_le_bytes());
        header[24] = self.side;
        header[25] = self.coding as u8;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..28]), data);
        header[28..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// Bytes in the file.
    pub(in crate::store) fn stored_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.len)
    }
}

/// Reads the next piece, and its data, decoded, into `data`. `stored` is for its own use.
///
/// `Ok(None)` where the bytes are not a whole and undamaged piece; an error only if the file cannot be read.
pub(in crate::store) fn read(
    file: &mut impl Read,
    stored: &mut Vec<u8>,
    data: &mut Vec<u8>,
) -> io::Result<Option<Piece>> {
    let piece = read_stored(file, data)?;
    if piece.is_none_or(|piece| piece.coding == Coding::Plain) {
        return Ok(piece);
    }
    std::mem::swap(stored, data);
    Ok(piece.filter(|_| decode(stored, data)))
}

/// As [`read`], with the data as they are stored.
pub(in crate::store) fn read_stored(file: &mut impl Read, data: &mut Vec<u8>) -> io::Result<Option<Piece>> {
    let mut header = [0; HEADER];
    if !filled(file.read_exact(&mut header))? {
        return Ok(None);
    }
    let Some(piece) = parse(&header) else { return Ok(None) };
    data.resize(piece.len as usize, 0);
    Ok((filled(file.read_exact(data))? && piece.header(data) == header).then_some(piece))
}

/// The piece at the beginning of `bytes`, if it is a whole and undamaged one, and its data as they are stored.
pub(in crate::store) fn stored(bytes: &[u8]) -> Option<(Piece, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let piece = parse(header)?;
    let data = rest.get(..piece.len as usize)?;
    (piece.header(data) == *header).then_some((piece, data))
}

/// As [`stored`], of a piece that is stored as it is.
pub(in crate::store) fn plain(bytes: &[u8]) -> Option<&[u8]> {
    stored(bytes).filter(|(piece, _)| piece.coding == Coding::Plain).map(|(_, data)| data)
}

/// Reads the next piece's header, its sum unchecked; its data come next. `Ok(None)` where there is none.
pub(in crate::store) fn read_header(file: &mut impl Read) -> io::Result<Option<Piece>> {
    let mut header = [0; HEADER];
    Ok(if filled(file.read_exact(&mut header))? { parse(&header) } else { None })
}

fn parse(header: &[u8; HEADER]) -> Option<Piece> {
    let word = |at: usize| header.as_chunks::<4>().0.get(at / 4).map_or(0, |w| u32::from_le_bytes(*w));
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let coding = if header[25] == Coding::Zstd as u8 { Coding::Zstd } else { Coding::Plain };
    let piece = Piece { len: word(4), mid: long(8), seq: long(16), side: header[24], coding };
    let len = piece.len as usize;
    (header[..4] == MAGIC && len > 0 && len <= PIECE_BYTES).then_some(piece)
}

/// Decodes the data of a piece; `false` if they are no frame, or one that holds nothing or more than a piece may.
fn decode(stored: &[u8], data: &mut Vec<u8>) -> bool {
    data.resize(PIECE_BYTES, 0);
    // A file from elsewhere may say what it likes: no more is written than there is room for.
    match zstd::bulk::decompress_to_buffer(stored, data.as_mut_slice()) {
        Ok(len) if len > 0 => {
            data.truncate(len);
            true
        }
        _ => false,
    }
}

/// Where the last good piece ends, reading from `from`, which is the position of `file`.
pub(in crate::store) fn good_end(file: &mut impl Read, from: u64) -> io::Result<u64> {
    let mut end = from;
    let mut data = Vec::new();
    while let Some(piece) = read_stored(file, &mut data)? {
        end += piece.stored_len();
    }
    Ok(end)
}

/// Whether a read got all it wanted; the end of the file is an answer, not an error.
fn filled(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
