//! Content-codings undone for people's eyes: gzip, deflate, br and zstd, stacked as the message says.
//!
//! What is stored stays in its coding; this is a view of it. A body comes from a stranger, so the work is streamed and
//! bounded: by length, by ratio, by the number of codings, and by the window of each decoder.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use crate::flow::Headers;

/// One content-coding (RFC 9110 §8.4.1) that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952; `x-gzip` is the same.
    Gzip,
    /// RFC 1950 as the standard says, or bare RFC 1951 as some servers send.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// How far undoing may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Decoded bytes; `None` lifts this and the cap on the ratio.
    pub max_len: Option<u64>,
}

/// Why codings cannot be undone at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// A coding that is not known here. It comes from a peer: escape it before a terminal sees it.
    #[error("the content-coding `{name}` is not known")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// More codings than any honest message has.
    #[error("{count} content-codings are stacked, more than {MAX_CODINGS}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// Undoing was stopped because the body is far larger than it seemed; stands inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("decoding was stopped after {len} bytes, made from {coded_len}")]
pub struct CapReached {
    /// Decoded bytes that were given.
    pub len: u64,
    /// Coded bytes that were read for them.
    pub coded_len: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { max_len: Some(64 * 1024 * 1024) }
    }
}

/// The codings that a message's fields name, in the order in which they were applied. Empty where there is none.
///
/// # Errors
/// If one is unknown, or there are too many.
pub fn codings(headers: &Headers) -> Result<Vec<Coding>, CodingError> {
    let names: Vec<&[u8]> =
        headers.tokens("content-encoding").filter(|name| !name.eq_ignore_ascii_case(b"identity")).collect();
    if names.len() > MAX_CODINGS {
        return Err(CodingError::TooMany { count: names.len() });
    }
    names.into_iter().map(coding).collect()
}

/// A reader that gives `body` with `codings` undone, the last applied first.
///
/// It fails with [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] where the body is not what its
/// coding says, after giving all that could be decoded; and with [`CapReached`] inside where a cap is reached. An
/// empty body stays empty: that is how a response to `HEAD` looks.
pub fn undo<'a>(body: impl Read + 'a, codings: &[Coding], caps: Caps) -> Box<dyn Read + 'a> {
    if codings.is_empty() {
        return Box::new(body);
    }
    let coded_len = Rc::new(Cell::new(0));
    let mut reader: Box<dyn BufRead + 'a> =
        Box::new(BufReader::new(Counted { inner: body, len: Rc::clone(&coded_len) }));
    for coding in codings.iter().rev() {
        reader = Box::new(BufReader::new(Lazy { coding: *coding, state: LazyState::Waiting(Some(reader)) }));
    }
    Box::new(Capped { inner: reader, len: 0, coded_len, caps })
}

/// A reader that gives `body` in `coding`, at little cost: for bodies that come decoded while their fields say that they are
/// coded. In brotli, of which only a decoder is here, the bytes stand uncompressed.
///
/// # Errors
/// If an encoder cannot be made.
pub fn apply<'a>(body: Box<dyn Read + 'a>, coding: Coding) -> io::Result<Box<dyn Read + 'a>> {
    let fast = flate2::Compression::fast();
    Ok(match coding {
        Coding::Gzip => Box::new(flate2::read::GzEncoder::new(body, fast)),
        Coding::Deflate => Box::new(flate2::read::ZlibEncoder::new(body, fast)),
        Coding::Zstd => Box::new(zstd::stream::read::Encoder::new(body, 1)?),
        Coding::Brotli => Box::new(StoredBrotli { body, out: Vec::new(), at: 0, state: StoredState::Begin }),
    })
}

/// Brotli in uncompressed meta-blocks (RFC 7932 §9.2).
struct StoredBrotli<'a> {
    body: Box<dyn Read + 'a>,
    out: Vec<u8>,
    at: usize,
    state: StoredState,
}

#[derive(PartialEq, Eq)]
enum StoredState {
    Begin,
    Blocks,
    End,
}

impl Read for StoredBrotli<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            if self.state == StoredState::End {
                return Ok(0);
            }
            let mut block = vec![0; STORED_BLOCK];
            let len = self.body.read(&mut block)?;
            self.out.clear();
            self.at = 0;
            // The lowest bits first. The window: 16 bits, one zero bit (§9.1). A meta-block: not the last (0), four nibbles of
            // length (00), the length less one (16 bits), uncompressed (1), then zeros up to a whole byte. The last: 11.
            let (window, bits) = if self.state == StoredState::Begin { (0u32, 1) } else { (0, 0) };
            if len == 0 {
                self.out.push(0b11 << bits);
                self.state = StoredState::End;
                continue;
            }
            let block_len = u32::try_from(len - 1).unwrap_or(0);
            let header = window | (block_len << 3 | 1 << 19) << bits;
            self.out.extend_from_slice(&header.to_le_bytes()[..3]);
            self.out.extend_from_slice(&block[..len]);
            self.state = StoredState::Blocks;
        }
        let len = buf.len().min(self.out.len() - self.at);
        buf[..len].copy_from_slice(&self.out[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn coding(name: &[u8]) -> Result<Coding, CodingError> {
    match name.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Ok(Coding::Gzip),
        b"deflate" => Ok(Coding::Deflate),
        b"br" => Ok(Coding::Brotli),
        b"zstd" => Ok(Coding::Zstd),
        _ => Err(CodingError::Unknown { name: String::from_utf8_lossy(name).into_owned() }),
    }
}

/// Makes its decoder at the first read, when the first bytes can be looked at.
struct Lazy<'a> {
    coding: Coding,
    state: LazyState<'a>,
}

enum LazyState<'a> {
    Waiting(Option<Box<dyn BufRead + 'a>>),
    Running(Box<dyn Read + 'a>),
}

impl Read for Lazy<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let LazyState::Waiting(source) = &mut self.state {
            let Some(source) = source.take() else { return Ok(0) };
            match start(self.coding, source)? {
                Some(decoder) => self.state = LazyState::Running(decoder),
                None => return Ok(0),
            }
        }
        match &mut self.state {
            LazyState::Running(decoder) => decoder.read(buf),
            LazyState::Waiting(_) => Ok(0),
        }
    }
}

/// `None` where there is nothing to decode.
fn start<'a>(coding: Coding, mut source: Box<dyn BufRead + 'a>) -> io::Result<Option<Box<dyn Read + 'a>>> {
    let first = source.fill_buf()?;
    let Some(&first_byte) = first.first() else { return Ok(None) };
    Ok(Some(match coding {
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        // RFC 1950: the low four bits name the method, 8 is deflate. A bare deflate stream that begins so would
        // open with a stored block whose unused bits are set, which no encoder does.
        Coding::Deflate if first_byte & 0x0f == 8 => Box::new(flate2::bufread::ZlibDecoder::new(source)),
        Coding::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(source)),
        Coding::Brotli => Box::new(brotli_decompressor::Decompressor::new(source, BUFFER)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    }))
}

struct Counted<R> {
    inner: R,
    len: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.len.set(self.len.get() + n as u64);
        Ok(n)
    }
}

struct Capped<'a> {
    inner: Box<dyn BufRead + 'a>,
    len: u64,
    coded_len: Rc<Cell<u64>>,
    caps: Caps,
}

impl Read for Capped<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.len += n as u64;
        let coded_len = self.coded_len.get();
        let bomb = self.caps.max_len.is_some_and(|max| {
            self.len > max || self.len > RATIO_FREE.max(coded_len.saturating_mul(MAX_RATIO))
        });
        if bomb {
            return Err(io::Error::other(CapReached { len: self.len - n as u64, coded_len }));
        }
        Ok(n)
    }
}

/// An honest message has one, or two where a proxy added its own.
const MAX_CODINGS: usize = 3;

/// Text that people write reaches about 20, logs and JSON about 100; a bomb reaches 1000 with gzip and more with others.
const MAX_RATIO: u64 = 200;

/// Up to here the ratio does not matter: a page of zeros is no attack.
const RATIO_FREE: u64 = 1024 * 1024;

/// RFC 9659: the zstd content-coding has windows of at most 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The longest that four nibbles can say.
const STORED_BLOCK: usize = 1 << 16;

/// Arbitrary: a few pages.
const BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(plain, 3).expect("a Vec takes all")
    }

    fn read(body: &[u8], codings: &[Coding], caps: Caps) -> (Vec<u8>, io::Result<usize>) {
        let mut out = Vec::new();
        let result = undo(body, codings, caps).read_to_end(&mut out);
        (out, result)
    }

    #[test]
    fn stacked_codings_are_undone_from_the_last() {
        let headers: Headers =
            [("Content-Encoding", "deflate, X-GZIP"), ("content-encoding", "identity, zstd")]
                .into_iter()
                .collect();
        let codings = codings(&headers).expect("known codings");
        assert_eq!(codings, [Coding::Deflate, Coding::Gzip, Coding::Zstd]);
        let (plain, result) = read(&zstd(&gzip(&zlib(b"hello"))), &codings, Caps::default());
        assert_eq!((&plain[..], result.is_ok()), (&b"hello"[..], true));
    }

    #[test]
    fn bare_deflate_brotli_and_empty_bodies_are_read() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"hello").expect("a Vec takes all");
        let bare = encoder.finish().expect("a Vec takes all");
        assert_eq!(read(&bare, &[Coding::Deflate], Caps::default()).0, b"hello");
        // A brotli stream of one uncompressed meta-block, written by hand after RFC 7932 §9.2.
        let brotli = b"\x0b\x02\x80hello\x03";
        assert_eq!(read(brotli, &[Coding::Brotli], Caps::default()).0, b"hello");
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            let (plain, result) = read(b"", &[coding], Caps::default());
            assert!(plain.is_empty() && result.is_ok(), "{coding:?}");
        }
    }

    #[test]
    fn what_is_coded_here_is_undone_here() {
        for len in [0_u32, 1, 5, 65_536, 65_537, 300_000] {
            let plain: Vec<u8> = (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect();
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
                let mut coded = Vec::new();
                apply(Box::new(&plain[..]), coding).unwrap().read_to_end(&mut coded).unwrap();
                let (back, result) = read(&coded, &[coding], Caps { max_len: None });
                assert!(result.is_ok() && back == plain, "{coding:?} {len}");
            }
        }
    }

    #[test]
    fn what_came_before_the_damage_is_given() {
        let whole = gzip(&(0..9000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let (plain, result) = read(&whole[..whole.len() / 2], &[Coding::Gzip], Caps::default());
        assert!(plain.len() > 1000 && result.is_err());
    }

    #[test]
    fn bombs_stop_at_the_caps() {
        let bomb = gzip(&vec![0; 8 << 20]);
        let (plain, result) = read(&bomb, &[Coding::Gzip], Caps::default());
        let error = result.expect_err("the ratio is past the cap");
        assert!(error.get_ref().is_some_and(|e| e.is::<CapReached>()) && plain.len() < 3 << 20);
        let (_, by_len) = read(&gzip(b"hello"), &[Coding::Gzip], Caps { max_len: Some(4) });
        assert!(by_len.is_err());
        assert_eq!(read(&bomb, &[Coding::Gzip], Caps { max_len: None }).0.len(), 8 << 20);
    }

    #[test]
    fn unknown_and_too_many_codings_are_refused() {
        let named = |names: &str| codings(&[("Content-Encoding", names)].into_iter().collect());
        assert_eq!(named("gzip, compress"), Err(CodingError::Unknown { name: "compress".into() }));
        assert_eq!(named("gzip,gzip,gzip,gzip"), Err(CodingError::TooMany { count: 4 }));
        assert_eq!(named("identity"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>, which in 0usize..4) {
            let coding = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd][which];
            let _ = read(&bytes, &[coding, coding], Caps::default()); // only that it neither panics nor hangs
        }
    }
}
