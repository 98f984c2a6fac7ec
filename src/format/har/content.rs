//! How a body stands in an archive: as text, as base64, or not at all; and whether that gives the recorded bytes back.

use std::io::{self, Read};

use bytes::Bytes;

use crate::flow::{Body, Content, Headers};
use crate::format::charset::Charset;
use crate::format::coding::{self, Caps, Coding};
use crate::format::json::Writer;
use crate::format::transfer::{Item, Part};

/// A body that was looked at, and can be written.
pub(super) struct Look<'a> {
    item: &'a dyn Item,
    part: Part,
    codings: Vec<Coding>,
    shape: Shape,
    /// Bytes with codings undone, as far as it was read.
    len: u64,
    /// All of them, where they are in memory.
    whole: Option<Bytes>,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Nothing: it is not recorded.
    Absent,
    /// Text in UTF-8.
    Text,
    /// Text in another charset, which is small.
    Charset(Charset),
    /// Any bytes.
    Binary,
    /// Bytes in a content-coding that cannot be undone.
    Coded,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of the body with codings undone.
    pub(super) len: u64,
    /// Whether codings were undone.
    pub(super) is_decoded: bool,
    /// Whether a reader can make the recorded bytes of it, and of nothing else.
    pub(super) is_exact: bool,
    /// What a person should know of it.
    pub(super) remark: Option<&'static str>,
}

impl<'a> Look<'a> {
    /// Reads the body once, unless its beginning says enough.
    ///
    /// # Errors
    /// If the store cannot be read; damage is found here or when it is written, and is no error.
    pub(super) fn at(item: &'a dyn Item, part: Part, headers: &Headers, body: &Body) -> io::Result<Look<'a>> {
        let mut look =
            Look { item, part, codings: Vec::new(), shape: Shape::Absent, len: body.len, whole: None };
        if body.content == Content::Absent {
            return Ok(look);
        }
        let Ok(codings) = coding::codings(headers) else {
            look.shape = Shape::Coded;
            return Ok(look);
        };
        look.codings = codings;
        if look.codings.is_empty()
            && let Some(bytes) = item.in_memory(part)
        {
            look.shape = Ahead::of(bytes).shape(Charset::of(headers));
            (look.len, look.whole) = (bytes.len() as u64, Some(bytes.clone()));
            return Ok(look);
        }
        let Some(recorded) = item.body(part)? else { return Ok(look) };
        let mut decoded = coding::undo(recorded, &look.codings, Caps::default());
        match read_ahead(&mut *decoded, look.codings.is_empty()) {
            Ok(ahead) => {
                look.shape = ahead.shape(Charset::of(headers));
                look.len = ahead.len;
                look.whole = ahead.is_whole.then_some(ahead.beginning);
            }
            // Of a damaged store, or not what its coding says: as it is recorded, then.
            Err(error) if is_damage(&error) => look.shape = Shape::Coded,
            Err(error) => return Err(error),
        }
        Ok(look)
    }

    /// All of it where it is short.
    pub(super) fn short(&self) -> Option<&[u8]> {
        self.whole.as_deref().filter(|whole| whole.len() as u64 <= SHORT)
    }

    /// Writes the members `text` and `encoding`.
    ///
    /// # Errors
    /// What the output said, and if the store cannot be read.
    pub(super) fn write(&self, json: &mut Writer<'_>) -> io::Result<Written> {
        let is_decoded = !self.codings.is_empty();
        let mut written = Written { len: self.len, is_decoded, is_exact: !is_decoded, remark: None };
        match self.shape {
            Shape::Absent => {
                written.remark = (self.len > 0).then_some("the body was not recorded");
                return Ok(Written { is_decoded: false, is_exact: true, ..written });
            }
            Shape::Text => {
                json.name("text");
                match self.whole.as_deref().map(std::str::from_utf8) {
                    Some(Ok(whole)) => json.long_text(whole)?,
                    _ => {
                        let (len, result) = json.text_from(&mut *self.decoded()?)?;
                        written.len = len;
                        written.set_end(result)?;
                    }
                }
            }
            Shape::Charset(charset) => {
                let mut text = String::new();
                charset.decode(self.whole.as_deref().unwrap_or_default(), usize::MAX, &mut text);
                json.name("text").text(&text);
                written.is_exact = false;
            }
            Shape::Binary => {
                json.name("text");
                match &self.whole {
                    Some(whole) => json.long_base64(whole)?,
                    None => {
                        let (len, result) = json.base64(&mut *self.decoded()?)?;
                        written.len = len;
                        written.set_end(result)?;
                    }
                }
                json.name("encoding").text("base64");
            }
            Shape::Coded => {
                let recorded = self.item.body(self.part)?;
                let (len, result) =
                    json.name("text").base64(&mut *recorded.unwrap_or_else(|| Box::new(io::empty())))?;
                json.name("encoding").text("base64");
                written = Written { len, is_decoded: false, is_exact: true, remark: Some(CODED) };
                written.set_end(result)?;
            }
        }
        Ok(written)
    }

    fn decoded(&self) -> io::Result<Box<dyn Read + '_>> {
        let recorded = self.item.body(self.part)?.unwrap_or_else(|| Box::new(io::empty()));
        Ok(coding::undo(recorded, &self.codings, Caps::default()))
    }
}

impl Written {
    /// A string ends where its source is damaged, and the archive goes on.
    fn set_end(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if is_damage(&error) => {
                self.remark = Some("the rest of the body is damaged in the store");
                Ok(())
            }
            other => other,
        }
    }
}

/// Whether an error tells of what was read, and not that nothing can be read at all.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput)
        || error.get_ref().is_some_and(|inner| inner.is::<coding::CapReached>())
        // What the decoder of zstd says of bytes that are none of its.
        || error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none()
}

/// A body that was read through, with its beginning kept.
#[derive(Default)]
struct Ahead {
    beginning: Bytes,
    /// Whether the beginning is all.
    is_whole: bool,
    is_utf8: bool,
    is_ascii: bool,
    has_nul: bool,
    len: u64,
}

impl Ahead {
    /// Of one that is in memory.
    fn of(bytes: &Bytes) -> Self {
        let is_whole = bytes.len() as u64 <= SHORT;
        let is_ascii = bytes.is_ascii();
        Self {
            is_whole,
            is_ascii,
            is_utf8: is_ascii || std::str::from_utf8(bytes).is_ok(),
            has_nul: memchr::memchr(0, bytes).is_some(),
            len: bytes.len() as u64,
            beginning: if is_whole { bytes.clone() } else { Bytes::new() },
        }
    }

    fn shape(&self, charset: Option<Charset>) -> Shape {
        if self.has_nul && charset.is_none_or(Charset::is_ascii_compatible) {
            return Shape::Binary;
        }
        match charset {
            Some(charset) if !(self.is_ascii && charset.is_ascii_compatible()) => {
                let mut text = String::new();
                if self.is_whole {
                    charset.decode(&self.beginning, usize::MAX, &mut text);
                }
                let is_text = self.is_whole && !text.contains(['\u{fffd}', '\0']);
                if is_text { Shape::Charset(charset) } else { Shape::Binary }
            }
            _ if self.is_utf8 => Shape::Text,
            _ => Shape::Binary,
        }
    }
}

/// Reads to the end, or, where that `may_stop`, up to where it is no text.
fn read_ahead(reader: &mut dyn Read, may_stop: bool) -> io::Result<Ahead> {
    let mut ahead = Ahead { is_utf8: true, is_ascii: true, ..Ahead::default() };
    let mut piece = Vec::new();
    reader.take(SHORT + 1).read_to_end(&mut piece)?;
    ahead.len = piece.len() as u64;
    ahead.is_whole = ahead.len <= SHORT;
    let mut len = piece.len();
    let mut cut = Vec::new();
    let mut is_beginning = true;
    loop {
        ahead.see(&piece[..len], &mut cut);
        if std::mem::take(&mut is_beginning) && ahead.is_whole {
            ahead.is_utf8 &= cut.is_empty();
            ahead.beginning = piece.into();
            return Ok(ahead);
        }
        if may_stop && (ahead.has_nul || !ahead.is_utf8) {
            return Ok(ahead);
        }
        let (filled, result) = crate::format::json::fill(reader, &mut piece);
        result?;
        if filled == 0 {
            ahead.is_utf8 &= cut.is_empty();
            return Ok(ahead);
        }
        len = filled;
        ahead.len += filled as u64;
    }
}

impl Ahead {
    /// Looks at a piece; a character that is cut at its end goes into `cut`, and is looked at with the next.
    fn see(&mut self, piece: &[u8], cut: &mut Vec<u8>) {
        self.has_nul |= memchr::memchr(0, piece).is_some();
        self.is_ascii &= piece.is_ascii();
        if !self.is_utf8 {
            return;
        }
        let mut piece = piece;
        while !cut.is_empty() {
            let Some((first, rest)) = piece.split_first() else { return };
            cut.push(*first);
            piece = rest;
            match std::str::from_utf8(cut) {
                Ok(_) => cut.clear(),
                Err(error) if error.error_len().is_some() => {
                    self.is_utf8 = false;
                    return;
                }
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            self.is_utf8 = error.error_len().is_none();
            cut.extend_from_slice(&piece[error.valid_up_to()..]);
        }
    }
}

/// Bodies up to here are read once, and their forms taken apart. More than nine in ten are.
const SHORT: u64 = 256 * 1024;

const CODED: &str = "the body is in its content-coding, which could not be undone";
