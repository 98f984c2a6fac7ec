//! An incremental reader of JSON: values are asked for as they stand, strings of any length are given in pieces.
//!
//! It takes what the grammar of RFC 8259 allows and two things besides, which tools write: control characters inside strings,
//! and bytes that are not UTF-8, which come out as they are. Depth, names and numbers are limited; the rest is up to the caller.

mod at_hand;
mod escape;
mod string;

use std::cell::Cell;
use std::io::{self, Read};

/// Reads JSON from `R`, which need not be buffered.
///
/// Values are taken in their order. After an error other than [`JsonError::Io`], [`Reader::find_object`] goes on behind it.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    buffer: Box<[u8]>,
    /// `buffer[at..end]` is still to be read; at ≤ end ≤ its length.
    at: usize,
    end: usize,
    /// Where `buffer[0]` stands in the input.
    origin: u64,
    frames: Vec<Frame>,
    /// The name of a member that was read ahead.
    pending: Option<String>,
    is_of_lines: bool,
}

/// What was open at a place in the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(Vec<Frame>);

/// An object or an array that was entered and not yet left.
#[derive(Debug, Clone, Copy)]
struct Frame {
    is_object: bool,
    is_first: bool,
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

type Result<T> = std::result::Result<T, JsonError>;

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
        let mut is_whole = true;
        while let Some(byte) = self.glance()? {
            if !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                break;
            }
            if text.len() == MAX_NUMBER {
                return Err(self.wrong("a number with more digits than any needs"));
            }
            is_whole &= byte.is_ascii_digit();
            text.push(char::from(byte));
            self.at += 1;
        }
        // Nearly all numbers are digits alone.
        if !is_whole && text.parse::<f64>().is_err() {
            return Err(self.wrong_before("this is no number"));
        }
        Ok(())
    }

    /// Reads any value and forgets it.
    ///
    /// # Errors
    /// If it is not JSON, or nested too deep.
    pub(crate) fn skip(&mut self) -> Result<()> {
        self.walk(&mut |_| {}, &mut |_| {})
    }

    /// Puts any value into `raw` as JSON text without white space, at most `max` bytes of it; whether that is all.
    ///
    /// # Errors
    /// As [`Reader::skip`].
    pub(crate) fn raw(&mut self, max: usize, raw: &mut Vec<u8>) -> Result<bool> {
        let mut max = max;
        self.raw_within(&mut max, |_| 0, raw)
    }

    /// As [`Reader::raw`], with a budget of which each byte of the text takes one, and each value in it what `cost` says.
    /// Nothing is left of it where it did not suffice.
    ///
    /// # Errors
    /// As [`Reader::skip`].
    pub(crate) fn raw_within(
        &mut self,
        budget: &mut usize,
        cost: impl Fn(Kind) -> usize,
        raw: &mut Vec<u8>,
    ) -> Result<bool> {
        raw.clear();
        let left = Cell::new(Some(*budget));
        let spend = |cost: usize| left.set(left.get().and_then(|left| left.checked_sub(cost)));
        self.walk(
            &mut |piece| {
                spend(piece.len());
                if left.get().is_some() {
                    raw.extend_from_slice(piece);
                }
            },
            &mut |kind| spend(cost(kind)),
        )?;
        *budget = left.get().unwrap_or(0);
        Ok(left.get().is_some())
    }

    /// What is open here, to come back to.
    #[must_use]
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.frames.clone())
    }

    /// Looks, from here on and whatever stands here, for the beginning of an object whose first member has one of these
    /// names, and enters it as a value in what was open at `mark`. `false` if there is none up to the end.
    ///
    /// Quotes inside strings are escaped, so what is found is not inside one, unless the file was never JSON.
    ///
    /// # Errors
    /// If the input cannot be read, or `mark` is as deep as can be.
    pub(crate) fn find_object(&mut self, names: &[String], mark: &Mark) -> Result<bool> {
        self.pending = None;
        let mut found = String::new();
        'search: loop {
            let rest = &self.buffer[self.at..self.end];
            let Some(len) = memchr::memchr(b'{', rest) else {
                self.at = self.end;
                if !self.refill()? {
                    return Ok(false);
                }
                continue;
            };
            self.at += len + 1;
            if self.skip_blanks()? != Some(b'"') {
                continue;
            }
            self.at += 1;
            found.clear();
            loop {
                match self.glance()? {
                    Some(byte @ (b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9')) if found.len() < 64 => {
                        found.push(char::from(byte));
                    }
                    Some(b'"') => break,
                    _ => continue 'search,
                }
                self.at += 1;
            }
            self.at += 1;
            if names.contains(&found) && self.skip_blanks()? == Some(b':') {
                self.at += 1;
                break;
            }
        }
        self.frames.clone_from(&mark.0);
        self.push(true)?;
        self.frames.iter_mut().for_each(|frame| frame.is_first = false);
        self.pending = Some(found);
        Ok(true)
    }

    /// One value and all inside it, in pieces of JSON text; `begin` is told of each value before. A stack of our own: a file
    /// cannot exhaust the thread's.
    fn walk(&mut self, take: &mut impl FnMut(&[u8]), begin: &mut impl FnMut(Kind)) -> Result<()> {
        let outer = self.frames.len();
        let mut text = String::new();
        loop {
            let kind = self.peek()?;
            begin(kind);
            match kind {
                Kind::Null | Kind::Bool => take(match self.literal()? {
                    None => b"null",
                    Some(true) => b"true",
                    Some(false) => b"false",
                }),
                Kind::Number => {
                    self.number(&mut text)?;
                    take(text.as_bytes());
                }
                Kind::String => self.walk_string(take)?,
                Kind::Array => {
                    self.enter_array()?;
                    take(b"[");
                }
                Kind::Object => {
                    self.enter_object()?;
                    take(b"{");
                }
            }
            // Up to where the next value begins.
            loop {
                if self.frames.len() == outer {
                    return Ok(());
                }
                let Some(frame) = self.frames.last().copied() else { return Ok(()) };
                let (close, end): (u8, &[u8]) = if frame.is_object { (b'}', b"}") } else { (b']', b"]") };
                if !self.next_in_frame(close)? {
                    take(end);
                    continue;
                }
                if !frame.is_first {
                    take(b",");
                }
                if frame.is_object {
                    self.walk_string(take)?;
                    self.expect(b':', "`:`")?;
                    take(b":");
                }
                break;
            }
        }
    }

    /// A string as it stands, escapes left in it.
    fn walk_string(&mut self, take: &mut impl FnMut(&[u8])) -> Result<()> {
        self.expect(b'"', "a string")?;
        take(b"\"");
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
                    take(rest);
                    self.at = self.end;
                }
                Some(len) if rest[len] == b'"' => {
                    take(&rest[..=len]);
                    self.at += len + 1;
                    return Ok(());
                }
                Some(len) => {
                    take(&rest[..=len]);
                    self.at += len + 1;
                    let escaped = self.byte()?;
                    take(&[escaped]);
                }
            }
        }
    }

    /// Whether something follows in what was entered last; leaves it at its end.
    fn next_in_frame(&mut self, close: u8) -> Result<bool> {
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

    fn push(&mut self, is_object: bool) -> Result<()> {
        if self.frames.len() == MAX_DEPTH {
            return Err(self.wrong_before("this is nested too deep"));
        }
        self.frames.push(Frame { is_object, is_first: true });
        Ok(())
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
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
    fn skip_blanks(&mut self) -> Result<Option<u8>> {
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

    fn byte(&mut self) -> Result<u8> {
        let byte = self.glance()?.ok_or_else(|| self.ended())?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte, which stays to be read; `None` at the end.
    fn glance(&mut self) -> Result<Option<u8>> {
        if self.at == self.end && !self.refill()? {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.at]))
    }

    /// Reads on behind what is there; `false` at the end. Only while less than all of the buffer is to be read.
    fn refill(&mut self) -> io::Result<bool> {
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

    fn wrong(&self, what: &str) -> JsonError {
        JsonError::Syntax { position: self.position(), what: what.to_owned() }
    }

    /// Of the byte that was read last.
    fn wrong_before(&self, what: &str) -> JsonError {
        JsonError::Syntax { position: self.position().saturating_sub(1), what: what.to_owned() }
    }

    fn ended(&self) -> JsonError {
        JsonError::End { position: self.position() }
    }
}

/// As serde_json's: what is deeper was made to exhaust somebody's stack.
const MAX_DEPTH: usize = 120;

/// Arbitrary: names are words.
pub(crate) const MAX_NAME: usize = 256;

/// Arbitrary: a double needs at most 24 characters, Python writes some more.
const MAX_NUMBER: usize = 400;

/// Arbitrary: large enough that calls of `read` do not show.
const BUFFER: usize = 64 * 1024;
