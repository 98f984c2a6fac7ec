//! Writes JSON piece by piece, without white space. Strings of any length are given in pieces.

use std::io::{self, Read, Write};

use base64::Engine as _;

use crate::format::base64::STANDARD;

/// Writes JSON to `out`, through a buffer: call [`Writer::flush`] at the end.
///
/// It sees to commas and escapes; that names stand in objects only, and that what was opened is closed, is up to the caller.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    buffer: &'a mut Vec<u8>,
    /// Whether the next value or name is preceded by a comma.
    needs_comma: bool,
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// Uses `buffer`, which is empty before and afterwards, so that it can be used again.
    #[must_use]
    pub(crate) fn new(out: &'a mut dyn Write, buffer: &'a mut Vec<u8>) -> Self {
        Self { out, buffer, needs_comma: false }
    }

    /// Opens an object as a value.
    pub(crate) fn open(&mut self) -> &mut Self {
        self.begin(b'{')
    }

    /// Closes it.
    pub(crate) fn close(&mut self) -> &mut Self {
        self.end(b'}')
    }

    /// Opens an array as a value.
    pub(crate) fn open_array(&mut self) -> &mut Self {
        self.begin(b'[')
    }

    /// Closes it.
    pub(crate) fn close_array(&mut self) -> &mut Self {
        self.end(b']')
    }

    /// The name of a member: the value comes next.
    pub(crate) fn name(&mut self, name: &str) -> &mut Self {
        self.text(name);
        self.buffer.push(b':');
        self.needs_comma = false;
        self
    }

    /// A string.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.buffer.push(b'"');
        escape(text, self.buffer);
        self.buffer.push(b'"');
        self
    }

    /// A whole number.
    pub(crate) fn int(&mut self, number: impl Into<i128>) -> &mut Self {
        self.comma();
        let number = number.into();
        // Nearly all; the formatting of 128 bits takes many times as long.
        match u64::try_from(number) {
            Ok(number) => self.digits(number),
            Err(_) => self.display(number),
        }
    }

    /// A number, `null` where JSON has none for it.
    pub(crate) fn float(&mut self, number: f64) -> &mut Self {
        self.comma();
        if number.is_finite() { self.display(format_args!("{number:?}")) } else { self.verbatim(b"null") }
    }

    /// Microseconds, as milliseconds with up to three decimals.
    pub(crate) fn millis(&mut self, us: u64) -> &mut Self {
        self.comma();
        self.digits(us / 1000);
        let rest = us % 1000;
        if rest > 0 {
            let digit = |n: u64| b'0' + (n % 10).to_le_bytes()[0];
            self.verbatim(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
        }
        self
    }

    /// `true` or `false`.
    pub(crate) fn bool(&mut self, is: bool) -> &mut Self {
        self.comma();
        self.verbatim(if is { b"true" } else { b"false" })
    }

    /// `null`.
    pub(crate) fn null(&mut self) -> &mut Self {
        self.comma();
        self.verbatim(b"null")
    }

    /// A value that is JSON already.
    pub(crate) fn json(&mut self, json: &[u8]) -> &mut Self {
        self.comma();
        self.verbatim(json)
    }

    /// White space or whatever else stands between values; no comma is owed behind it.
    pub(crate) fn verbatim(&mut self, text: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(text);
        self
    }

    /// A string that may be long.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn long_text(&mut self, mut text: &str) -> io::Result<()> {
        self.comma();
        self.buffer.push(b'"');
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.floor_char_boundary(LARGE));
            escape(piece, self.buffer);
            self.flush_if_large()?;
            text = rest;
        }
        self.buffer.push(b'"');
        Ok(())
    }

    /// A string in standard base64 (RFC 4648 §4) of bytes that may be many.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn long_base64(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.comma();
        self.buffer.push(b'"');
        for piece in bytes.chunks(BASE64_PIECE) {
            self.push_base64(piece);
            self.flush_if_large()?;
        }
        self.buffer.push(b'"');
        Ok(())
    }

    /// A string in standard base64 (RFC 4648 §4) of all that `bytes` gives; how many bytes that were, and the error that
    /// ended it early. The string is ended in any case.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn base64(&mut self, bytes: &mut dyn Read) -> io::Result<(u64, io::Result<()>)> {
        self.comma();
        self.buffer.push(b'"');
        let mut piece = vec![0; BASE64_PIECE];
        let mut len = 0;
        let result = loop {
            let (filled, result) = fill(bytes, &mut piece);
            len += filled as u64;
            self.push_base64(&piece[..filled]);
            self.flush_if_large()?;
            if filled < piece.len() {
                break result;
            }
        };
        self.buffer.push(b'"');
        Ok((len, result))
    }

    /// A string of all that `text` gives, which is UTF-8; as for [`Writer::base64`]. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn text_from(&mut self, text: &mut dyn Read) -> io::Result<(u64, io::Result<()>)> {
        self.comma();
        self.buffer.push(b'"');
        let mut piece = vec![0; 24 * 1024];
        let (mut len, mut kept) = (0, 0);
        let result = loop {
            let (filled, result) = fill(text, &mut piece[kept..]);
            len += filled as u64;
            let is_last = kept + filled < piece.len();
            kept = escape_lossy(&mut piece, kept + filled, is_last, self.buffer);
            self.flush_if_large()?;
            if is_last {
                break result;
            }
        };
        self.buffer.push(b'"');
        Ok((len, result))
    }

    /// Hands everything on to `out`.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// The same where enough has gathered.
    ///
    /// # Errors
    /// What `out` said.
    pub(crate) fn flush_if_large(&mut self) -> io::Result<()> {
        if self.buffer.len() >= LARGE { self.flush() } else { Ok(()) }
    }

    fn begin(&mut self, bracket: u8) -> &mut Self {
        self.comma();
        self.buffer.push(bracket);
        self.needs_comma = false;
        self
    }

    fn end(&mut self, bracket: u8) -> &mut Self {
        self.buffer.push(bracket);
        self.needs_comma = true;
        self
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.needs_comma, true) {
            self.buffer.push(b',');
        }
    }

    fn push_base64(&mut self, piece: &[u8]) {
        let at = self.buffer.len();
        self.buffer.resize(at + piece.len().div_ceil(3) * 4, 0);
        // It is as long as that.
        let _ = STANDARD.encode_slice(piece, &mut self.buffer[at..]);
    }

    fn digits(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (number % 10).to_le_bytes()[0];
            number /= 10;
            if number == 0 {
                return self.verbatim(&digits[from..]);
            }
        }
    }

    fn display(&mut self, value: impl std::fmt::Display) -> &mut Self {
        // A Vec takes everything.
        let _ = write!(self.buffer, "{value}");
        self
    }
}

/// Puts text into `out` with all escaped that has to be (RFC 8259 §7).
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) {
    if text.len() < BLOCK / 8 {
        return escape_few(text.as_bytes(), out);
    }
    let mut spelled = [0; 6 * BLOCK + WORD];
    for block in text.as_bytes().chunks(BLOCK) {
        let (mut at, mut len) = (0, 0);
        while let Some(word) = block[at..].first_chunk::<WORD>() {
            // All of it, of which what comes next may overwrite a part.
            spelled[len..len + WORD].copy_from_slice(word);
            let plain = plain_in(u128::from_le_bytes(*word));
            (at, len) = (at + plain, len + plain);
            if plain < WORD {
                spell(block[at], &mut spelled, &mut len);
                at += 1;
            }
        }
        block[at..].iter().for_each(|&byte| spell(byte, &mut spelled, &mut len));
        out.extend_from_slice(&spelled[..len]);
    }
}

/// The same of a short text.
fn escape_few(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (plain, odd) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = odd.split_first() else { return };
        let (mut spelled, mut len) = ([0; 6], 0);
        spell(byte, &mut spelled, &mut len);
        out.extend_from_slice(&spelled[..len]);
        rest = after;
    }
}

/// Puts one byte, escaped if it has to be, where `len` is in `spelled`, and moves that on.
fn spell(byte: u8, spelled: &mut [u8], len: &mut usize) {
    let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
    // Each of a length that is known here: copying so many as a number says is a call.
    match ESCAPES[usize::from(byte)] {
        PLAIN => {
            spelled[*len] = byte;
            *len += 1;
        }
        CONTROL => {
            let text = [b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)];
            spelled[*len..*len + 6].copy_from_slice(&text);
            *len += 6;
        }
        letter => {
            spelled[*len..*len + 2].copy_from_slice(&[b'\\', letter]);
            *len += 2;
        }
    }
}

/// How many bytes of a word, read in the order of the text, stand before the first that has to be escaped.
fn plain_in(word: u128) -> usize {
    const ONES: u128 = u128::MAX / 0xff;
    // The high bit of a byte is set where that is zero, or less than the other: by the borrow, and only for the lowest of
    // them surely, which is all that is asked here.
    let is_zero = |bytes: u128| bytes.wrapping_sub(ONES) & !bytes;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    let odd = is_control
        | is_zero(word ^ (ONES * 0x22))
        | is_zero(word ^ (ONES * 0x5c))
        | is_zero(word ^ (ONES * 0x7f));
    ((odd & (ONES * 0x80)).trailing_zeros() / u8::BITS) as usize
}

/// How many bytes stand before the first that has to be escaped.
fn plain_len(bytes: &[u8]) -> usize {
    let is_odd = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f);
    // All of a chunk are asked without a branch, for which a processor has instructions: by far the most of a body is plain.
    let is_plain = |chunk: &&[u8; 32]| !chunk.iter().fold(false, |any, &byte| any | is_odd(byte));
    let whole = bytes.as_chunks().0.iter().take_while(is_plain).count() * 32;
    bytes[whole..].iter().position(|&byte| is_odd(byte)).map_or(bytes.len(), |at| whole + at)
}

/// Escapes `piece[..len]`, and moves a character that is cut at its end to the beginning; how many bytes that are.
fn escape_lossy(piece: &mut [u8], len: usize, is_last: bool, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&piece[at..len]) {
            Ok(text) => {
                escape(text, out);
                return 0;
            }
            Err(error) => {
                let valid = at + error.valid_up_to();
                // What was found valid stays valid.
                escape(std::str::from_utf8(&piece[at..valid]).unwrap_or_default(), out);
                if error.error_len().is_none() && !is_last {
                    piece.copy_within(valid..len, 0);
                    return len - valid;
                }
                out.extend_from_slice("\u{fffd}".as_bytes());
                at = valid + error.error_len().unwrap_or(len - valid);
            }
        }
    }
}

/// Reads until `buffer` is full or the end: how many bytes, and what ended it early.
pub(crate) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

/// What is written of a byte: itself, its number, or this letter behind a backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = CONTROL;
        byte += 1;
    }
    table[0x7f] = CONTROL;
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[0x22] = b'"';
    table[0x5c] = b'\\';
    table
};
const PLAIN: u8 = 0;
const CONTROL: u8 = 1;

/// Bytes that are looked at in one step.
const WORD: usize = 16;

/// Bytes that are escaped before they are put where they go: few enough for the nearest cache.
const BLOCK: usize = 512;

/// Arbitrary: large enough that calls of `write` do not show.
const LARGE: usize = 64 * 1024;

/// A multiple of three, so that no piece but the last is padded.
const BASE64_PIECE: usize = 3 * 8 * 1024;
