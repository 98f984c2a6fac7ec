//! Bodies of foreign archives as they may have been on the wire: base64 undone, text in the charset, content-codings applied.
//!
//! An archive has a body decoded, while its fields go on saying how it was coded. A record has to be of one piece, so that
//! what reads, searches or sends it can believe the fields. The coded bytes are not those of the origin; that they are not, the
//! record says (see [`super::foreign`]).

use std::io::{self, Read};

use base64::Engine as _;
use base64::read::DecoderReader;

use crate::flow::Headers;
use crate::format::base64::LENIENT;
use crate::format::charset::{Charset, Encoder};
use crate::format::coding::{self, Coding};

/// What base64 gives, white space in it passed over. It fails with [`io::ErrorKind::InvalidData`] where it is none.
pub(super) fn from_base64<'a>(text: Box<dyn Read + 'a>) -> Box<dyn Read + 'a> {
    Box::new(DecoderReader::new(WithoutBlanks(text), &*LENIENT))
}

/// The same of text in memory; `None` if it is none, or has white space in it.
pub(super) fn of_base64(text: &[u8]) -> Option<Vec<u8>> {
    LENIENT.decode(text).ok()
}

/// `text` in the charset of the fields.
pub(super) fn in_charset<'a>(text: Box<dyn Read + 'a>, headers: &Headers) -> Box<dyn Read + 'a> {
    match Charset::of(headers).and_then(Charset::encoder) {
        Some(encoder) => Box::new(InCharset { text, encoder, out: Vec::new(), at: 0, kept: Vec::new() }),
        None => text,
    }
}

/// `text`, which has no character above U+00FF, in ISO 8859-1.
pub(super) fn in_latin<'a>(text: Box<dyn Read + 'a>) -> Box<dyn Read + 'a> {
    Box::new(InLatin { text, lead: 0 })
}

/// `body` in the content-codings of the fields, unless its beginning shows that it is; and whether it was coded here.
///
/// # Errors
/// If its beginning cannot be read.
pub(super) fn in_codings<'a>(
    mut body: Box<dyn Read + 'a>,
    headers: &Headers,
) -> io::Result<(Box<dyn Read + 'a>, bool)> {
    let Ok(codings) = coding::codings(headers) else { return Ok((body, false)) };
    let Some(outer) = codings.last() else { return Ok((body, false)) };
    let mut beginning = [0; 4];
    let (len, result) = crate::format::json::fill(&mut *body, &mut beginning);
    result?;
    let beginning = beginning[..len].to_vec();
    let is_coded = match outer {
        Coding::Gzip => beginning.starts_with(&[0x1f, 0x8b]),
        Coding::Zstd => beginning.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        Coding::Deflate | Coding::Brotli => false,
    };
    let is_empty = beginning.is_empty();
    let mut body: Box<dyn Read + 'a> = Box::new(io::Cursor::new(beginning).chain(body));
    if is_coded || is_empty {
        return Ok((body, false));
    }
    for coding in codings {
        body = coding::apply(body, coding)?;
    }
    Ok((body, true))
}

struct WithoutBlanks<R>(R);

impl<R: Read> Read for WithoutBlanks<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.0.read(buf)?;
            if n == 0 || !buf[..n].iter().any(u8::is_ascii_whitespace) {
                return Ok(n);
            }
            let mut kept = 0;
            for at in 0..n {
                if !buf[at].is_ascii_whitespace() {
                    buf[kept] = buf[at];
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

struct InLatin<R> {
    text: R,
    /// The two bits that the first byte of a character gave to its second.
    lead: u8,
}

impl<R: Read> Read for InLatin<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.text.read(buf)?;
            let mut kept = 0;
            for at in 0..n {
                match buf[at] {
                    lead @ 0xc0.. => self.lead = lead << 6,
                    next => {
                        buf[kept] = if next < 0x80 { next } else { self.lead | next & 0x3f };
                        kept += 1;
                    }
                }
            }
            if kept > 0 || n == 0 {
                return Ok(kept);
            }
        }
    }
}

/// Text in UTF-8, piece by piece in another charset. What the charset has not, becomes `&#…;`, as in browsers' forms.
struct InCharset<'a> {
    text: Box<dyn Read + 'a>,
    encoder: Encoder,
    out: Vec<u8>,
    at: usize,
    /// A character that was cut at the end of a piece.
    kept: Vec<u8>,
}

impl Read for InCharset<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            let mut piece = std::mem::take(&mut self.kept);
            let kept = piece.len();
            piece.resize(PIECE, 0);
            let (filled, result) = crate::format::json::fill(&mut *self.text, &mut piece[kept..]);
            result?;
            let is_last = kept + filled < PIECE;
            piece.truncate(kept + filled);
            if is_last && self.encoder.is_finished() {
                return Ok(0);
            }
            if let Err(error) = std::str::from_utf8(&piece)
                && error.error_len().is_none()
                && !is_last
            {
                self.kept = piece.split_off(error.valid_up_to());
            }
            self.out.clear();
            self.at = 0;
            self.encoder.encode(&String::from_utf8_lossy(&piece), is_last, &mut self.out);
        }
        let len = buf.len().min(self.out.len() - self.at);
        buf[..len].copy_from_slice(&self.out[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Arbitrary: a few pages.
const PIECE: usize = 16 * 1024;
