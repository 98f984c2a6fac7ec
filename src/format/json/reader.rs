//! An incremental reader of JSON: values are asked for as they stand, strings of any length are given in pieces.
//!
//! It takes what the grammar of RFC 8259 allows and two things besides, which tools write: control characters inside strings,
//! and bytes that are not UTF-8, which come out as they are. Depth, names and numbers are limited; the rest is up to the caller.

use std::io::{self, Read};

/// Reads JSON from `R`, which need not be buffered.
///
/// Values are taken in their order. After an error other than [`JsonError::Io`], [`Reader::find_object`] goes on behind it.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    pub(super) input: R,
    pub(super) buffer: Box<[u8]>,
    /// `buffer[at..end]` is still to be read; at ≤ end ≤ its length.
    pub(super) at: usize,
    pub(super) end: usize,
    /// Where `buffer[0]` stands in the input.
    pub(super) origin: u64,
    pub(super) frames: Vec<Frame>,
    /// The name of a member that was read ahead.
    pub(super) pending: Option<String>,
    pub(super) is_of_lines: bool,
}

/// What was open at a place in the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(pub(super) Vec<Frame>);

/// An object or an array that was entered and not yet left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) is_object: bool,
    pub(super) is_first: bool,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is not JSON, or past a limit.
    #[error("at byte {position}: {what}")]
    Syntax {
        /// Where, in bytes from the beginning.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// The input ends inside a value.
    #[error("at byte {position}: the file ends in the middle of a value")]
    End {
        /// Its length in bytes.
        position: u64,
    },
    /// The input cannot be read, or a piece not be taken.
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) type Result<T> = std::result::Result<T, JsonError>;

impl<R: Read> Reader<R> {
    /// Begins at the first byte of `input`.
    #[must_use]
    pub(crate) fn new(input: R) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self {
            input,
            buffer,
            at: 0,
            end: 0,
            origin: 0,
            frames: Vec::new(),
            pending: None,
            is_of_lines: false,
        }
    }

    /// Takes no line feed inside a string, as the grammar has it: in a file of lines it is where a line was torn off.
    #[must_use]
    pub(crate) fn of_lines(self) -> Self {
        Self { is_of_lines: true, ..self }
    }

    /// How many bytes were read.
    #[must_use]
    pub(crate) fn position(&self) -> u64 {
        self.origin + self.at as u64
    }

    /// How many objects and arrays are open.
    #[must_use]
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Skips a byte order mark, which RFC 8259 §8.1 lets a reader do.
    ///
    /// # Errors
    /// If the text is in UTF-16 or UTF-32, or cannot be read.
    pub(crate) fn skip_byte_order_mark(&mut self) -> Result<()> {
        while self.end - self.at < 3 && self.refill()? {}
        match self.rest() {
            [0xef, 0xbb, 0xbf, ..] => self.at += 3,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
                return Err(self.wrong("this is UTF-16 or UTF-32; convert it to UTF-8 (iconv -t UTF-8)"));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the next value is. It stays to be read.
    ///
    /// # Errors
    /// If no value begins here.
    pub(crate) fn peek(&mut self) -> Result<Kind> {
        Ok(match self.significant()? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'-' | b'0'..=b'9' => Kind::Number,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            other => return Err(self.unexpected(other, "a value")),
        })
    }

    /// Enters an object: its members come from [`Reader::next_member`].
    ///
    /// # Errors
    /// If the next value is not one, or the nesting is too deep.
    pub(crate) fn enter_object(&mut self) -> Result<()> {
        self.expect(b'{', "an object")?;
        self.push(true)
    }

    /// Enters an array: its values come one for each `true` of [`Reader::next_value`].
    ///
    /// # Errors
    /// If the next value is not one, or the nesting is too deep.
    pub(crate) fn enter_array(&mut self) -> Result<()> {
        self.expect(b'[', "an array")?;
        self.push(false)
    }

    /// Puts the next member's name into `name`, the value is next; `false` at the object's end, which is left then.
    /// Of a name longer than [`MAX_NAME`] the beginning is given.
    ///
    /// # Errors
    /// If neither a member nor the end stands here.
    pub(crate) fn next_member(&mut self, name: &mut String) -> Result<bool> {
        if let Some(pending) = self.pending.take() {
            *name = pending;
            return Ok(true);
        }
        if !self.next_in_frame(b'}')? {
            return Ok(false);
        }
        self.text(MAX_NAME, name)?;
        self.expect(b':', "`:`")?;
        Ok(true)
    }

    /// Whether another value follows in the array, which is next then; `false` at its end, which is left then.
    ///
    /// # Errors
    /// If neither a value nor the end stands here.
    pub(crate) fn next_value(&mut self) -> Result<bool> {
        self.next_in_frame(b']')
    }

    /// Reads `null`, `true` or `false`.
    ///
    /// # Errors
    /// If none of them stands here.
    pub(crate) fn literal(&mut self) -> Result<Option<bool>> {
        let (word, value): (&[u8], _) = match self.significant()? {
            b'n' => (b"null", None),
            b't' => (b"true", Some(true)),
            b'f' => (b"false", Some(false)),
            other => return Err(self.unexpected(other, "null, true or false")),
        };
        for expected in word {
            let byte = self.byte()?;
            if byte != *expected {
                return Err(self.wrong_before("this is no word of JSON's"));
            }
        }
        Ok(value)
    }

    /// Puts the text of a number into `text`.
    ///
    /// # Errors
    /// If there is none, or it is longer than [`MAX_NUMBER`].
    pub(crate) fn number(&mut self, text: &mut String) -> Result<()> {
        text.clear();
        let first = self.significant()?;
        if !matches!(first, b'-' | b'0'..=b'9') {
            return Err(self.unexpected(first, "a number"));
        }
        while let Some(byte) = self.glance()? {
            if !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                break;
            }
            if text.len() == MAX_NUMBER {
                return Err(self.wrong("a number with more digits than any needs"));
            }
            text.push(char::from(byte));
            self.at += 1;
        }
        if text.parse::<f64>().is_err() {
            return Err(self.wrong_before("this is no number"));
        }
        Ok(())
    }

    /// Puts a string into `text`, at most `max` bytes of it; whether that is all. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn text(&mut self, max: usize, text: &mut String) -> Result<bool> {
        let mut bytes = std::mem::take(text).into_bytes();
        bytes.clear();
        let mut is_whole = true;
        self.string(|piece| {
            let room = max - bytes.len();
            is_whole &= piece.len() <= room;
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            Ok(())
        })?;
        *text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        Ok(is_whole)
    }

    /// Gives a string of any length to `take`, piece by piece, escapes undone.
    ///
    /// A lone surrogate becomes U+FFFD, but for those by which Python writes bytes that are not UTF-8 (PEP 383): they become
    /// these bytes again.
    ///
    /// # Errors
    /// If there is none, and what `take` said.
    pub(crate) fn string(&mut self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        self.expect(b'"', "a string")?;
        loop {
            if self.at == self.end && !self.refill()? {
                return Err(self.ended());
            }
            let rest = &self.buffer[self.at..self.end];
            match self.mark_in(rest) {
                Some(len) if rest[len] == b'\n' => {
                    self.at += len;
                    return Err(self.wrong("the line ends in the middle of a string"));
                }
                None => {
                    take(rest)?;
                    self.at = self.end;
                }
                Some(len) => {
                    let is_end = rest[len] == b'"';
                    if len > 0 {
                        take(&rest[..len])?;
                    }
                    self.at += len + 1;
                    if is_end {
                        return Ok(());
                    }
                    self.escape(&mut take)?;
                }
            }
        }
    }

    /// Where a string is not plain text any more.
    pub(super) fn mark_in(&self, text: &[u8]) -> Option<usize> {
        match self.is_of_lines {
            true => memchr::memchr3(b'"', b'\\', b'\n', text),
            false => memchr::memchr2(b'"', b'\\', text),
        }
    }

    /// Undoes what stands behind a backslash.
    fn escape(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        let plain = match self.byte()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(take),
            _ => return Err(self.wrong_before("no such escape in JSON")),
        };
        Ok(take(&[plain])?)
    }

    /// Undoes `\uXXXX`, and the one behind it where both are a pair of surrogates.
    fn unicode_escape(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        let mut unit = self.hex4()?;
        while (0xd800..0xdc00).contains(&unit) {
            if self.glance()? != Some(b'\\') {
                return put(take, unit);
            }
            self.at += 1;
            if self.glance()? != Some(b'u') {
                put(take, unit)?;
                return self.escape(take);
            }
            self.at += 1;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return put(take, 0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00));
            }
            put(take, unit)?;
            unit = second;
        }
        put(take, unit)
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = self.byte()?;
            let Some(digit) = char::from(byte).to_digit(16) else {
                return Err(self.wrong_before("`\\u` needs four hexadecimal digits"));
            };
            value = value << 4 | digit;
        }
        Ok(value)
    }

    /// Whether something follows in what was entered last; leaves it at its end.
    pub(super) fn next_in_frame(&mut self, close: u8) -> Result<bool> {
        let byte = self.significant()?;
        let Some(frame) = self.frames.last_mut() else { return Err(self.wrong("nothing is open here")) };
        let is_first = std::mem::replace(&mut frame.is_first, false);
        if byte == close {
            self.at += 1;
            self.frames.pop();
            return Ok(false);
        }
        if !is_first {
            self.expect(b',', if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })?;
        }
        Ok(true)
    }

    pub(super) fn push(&mut self, is_object: bool) -> Result<()> {
        if self.frames.len() == MAX_DEPTH {
            return Err(self.wrong_before("this is nested too deep"));
        }
        self.frames.push(Frame { is_object, is_first: true });
        Ok(())
    }

    pub(super) fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        let found = self.significant()?;
        if found != byte {
            return Err(self.unexpected(found, what));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no white space. It stays to be read.
    fn significant(&mut self) -> Result<u8> {
        self.skip_blanks()?.ok_or_else(|| self.ended())
    }

    /// The same; `None` at the end.
    pub(super) fn skip_blanks(&mut self) -> Result<Option<u8>> {
        loop {
            while self.at < self.end {
                let byte = self.buffer[self.at];
                if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                    return Ok(Some(byte));
                }
                self.at += 1;
            }
            if !self.refill()? {
                return Ok(None);
            }
        }
    }

    /// Whether nothing but white space is left.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub(crate) fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.skip_blanks()?.is_none())
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let byte = self.glance()?.ok_or_else(|| self.ended())?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte, which stays to be read; `None` at the end.
    pub(super) fn glance(&mut self) -> Result<Option<u8>> {
        if self.at == self.end && !self.refill()? {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.at]))
    }

    /// Reads on behind what is there; `false` at the end. Only while less than all of the buffer is to be read.
    pub(super) fn refill(&mut self) -> io::Result<bool> {
        self.origin += self.at as u64;
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    fn unexpected(&self, found: u8, wanted: &str) -> JsonError {
        self.wrong(&format!("expected {wanted}, found `{}`", found.escape_ascii()))
    }

    pub(super) fn wrong(&self, what: &str) -> JsonError {
        JsonError::Syntax { position: self.position(), what: what.to_owned() }
    }

    /// Of the byte that was read last.
    fn wrong_before(&self, what: &str) -> JsonError {
        JsonError::Syntax { position: self.position().saturating_sub(1), what: what.to_owned() }
    }

    pub(super) fn ended(&self) -> JsonError {
        JsonError::End { position: self.position() }
    }
}

/// Gives a code point in UTF-8.
fn put(take: &mut impl FnMut(&[u8]) -> io::Result<()>, unit: u32) -> Result<()> {
    match (char::from_u32(unit), u8::try_from(unit.wrapping_sub(0xdc00))) {
        (Some(c), _) => take(c.encode_utf8(&mut [0; 4]).as_bytes())?,
        (None, Ok(byte @ 0x80..)) => take(&[byte])?,
        (None, _) => take("\u{fffd}".as_bytes())?,
    }
    Ok(())
}

/// As serde_json's: what is deeper was made to exhaust somebody's stack.
const MAX_DEPTH: usize = 120;

/// Arbitrary: names are words.
pub(crate) const MAX_NAME: usize = 256;

/// Arbitrary: a double needs at most 24 characters, Python writes some more.
const MAX_NUMBER: usize = 400;

/// Arbitrary: large enough that calls of `read` do not show.
const BUFFER: usize = 64 * 1024;
