//! Strings of any length, in pieces, escapes undone.

use std::io::{self, Read};

use super::escape::unescaped;
use super::{Reader, Result};

impl<R: Read> Reader<R> {
    /// Puts a string into `text`, at most `max` bytes of it; whether that is all. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn text(&mut self, max: usize, text: &mut String) -> Result<bool> {
        text.clear();
        if let Some(whole) = self.plain_string(max)? {
            text.push_str(whole);
            return Ok(true);
        }
        let mut bytes = std::mem::take(text).into_bytes();
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

    /// A string as it stands, if all of it is at hand, it is not longer than `max`, and needs nothing done: most do not.
    fn plain_string(&mut self, max: usize) -> Result<Option<&str>> {
        if self.significant()? != b'"' {
            return Ok(None);
        }
        let text = &self.buffer[self.at + 1..self.end];
        let mark = self.near_mark_in(text).or_else(|| self.mark_in(text));
        let Some(len) = mark.filter(|&len| text[len] == b'"' && len <= max) else {
            return Ok(None);
        };
        let begin = self.at + 1;
        let Ok(whole) = std::str::from_utf8(&self.buffer[begin..begin + len]) else { return Ok(None) };
        self.at = begin + len + 1;
        Ok(Some(whole))
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
                    self.at += len;
                    if is_end {
                        self.at += 1;
                        return Ok(());
                    }
                    if !self.escapes(&mut take)? {
                        self.at += 1;
                        self.escape(&mut take)?;
                    }
                }
            }
        }
    }

    /// Undoes escapes of one letter as long as they stand close together, as in JSON inside of a string, and gives them with
    /// what stands between them: a call for each would take several times as long. `false` if there is none here.
    fn escapes(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> Result<bool> {
        let rest = &self.buffer[self.at..self.end];
        let mut plain = [0; BLOCK + LOOKED_AT + WORD];
        let (mut at, mut len) = (0, 0);
        'text: while len < BLOCK
            && let Some(text) = rest[at..].first_chunk::<{ LOOKED_AT + WORD }>()
        {
            // All marks first: none of them has to be waited for then until the one before is undone.
            let mut marks = self.marks_of(text);
            let is_calm = marks == 0;
            let mut from = 0;
            while from < LOOKED_AT {
                let mark = marks.trailing_zeros() as usize;
                let (mut read, mut written) = (from, len);
                while let (Some(to), Some(word)) =
                    (plain[written..].first_chunk_mut::<WORD>(), text[read..].first_chunk())
                {
                    // All of a word, of which what comes next may overwrite a part.
                    *to = *word;
                    (read, written) = (read + WORD, written + WORD);
                    if read >= mark {
                        break;
                    }
                }
                len += mark - from;
                from = mark;
                if mark == LOOKED_AT {
                    break;
                }
                let byte = if text[mark] == b'\\' { unescaped(text[mark + 1]) } else { None };
                let Some(byte) = byte else {
                    at += mark;
                    break 'text;
                };
                plain[len] = byte;
                (from, len) = (mark + 2, len + 1);
                marks &= !(0b11 << mark);
            }
            at += from;
            if is_calm {
                break;
            }
        }
        self.at += at;
        take(&plain[..len])?;
        Ok(at > 0)
    }

    /// Which of the first bytes are not plain text of a string: a bit each, from the lowest on.
    #[inline]
    fn marks_of(&self, text: &[u8; LOOKED_AT + WORD]) -> u64 {
        // In this form, compilers make it a few instructions for many bytes each.
        let mut is_mark = [0; LOOKED_AT];
        for (is_mark, &byte) in is_mark.iter_mut().zip(text) {
            let is_line = (byte == b'\n') & self.is_of_lines;
            *is_mark = u8::from((byte == b'"') | (byte == b'\\') | is_line);
        }
        let eights = is_mark.as_chunks::<8>().0.iter().zip((0..).step_by(8));
        eights.fold(0, |marks, (eight, at)| {
            // The product has the lowest bit of each byte in its highest byte, in their order.
            marks | u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << at
        })
    }

    /// The same as [`Reader::mark_in`], if it is near: names and nearly all values are short, and what is made for long texts has
    /// to be called, and to get ready, for each of them.
    #[inline]
    fn near_mark_in(&self, text: &[u8]) -> Option<usize> {
        const ONES: u128 = u128::MAX / 0xff;
        // The high bit of a byte is set where that is zero: by the borrow, and only for the lowest of them surely.
        let is_zero = |bytes: u128| bytes.wrapping_sub(ONES) & !bytes;
        for (word, at) in text.as_chunks::<16>().0.iter().zip((0..NEAR).step_by(16)) {
            let word = u128::from_le_bytes(*word);
            let line = if self.is_of_lines { is_zero(word ^ (ONES * 0x0a)) } else { 0 };
            let marks = is_zero(word ^ (ONES * 0x22)) | is_zero(word ^ (ONES * 0x5c)) | line;
            let marks = marks & (ONES * 0x80);
            if marks != 0 {
                return Some(at + (marks.trailing_zeros() / u8::BITS) as usize);
            }
        }
        None
    }

    /// Where a string is not plain text any more.
    pub(super) fn mark_in(&self, text: &[u8]) -> Option<usize> {
        match self.is_of_lines {
            true => memchr::memchr3(b'"', b'\\', b'\n', text),
            false => memchr::memchr2(b'"', b'\\', text),
        }
    }
}

/// How far a string's end is looked for in small steps.
const NEAR: usize = 48;

/// Bytes of a string that are looked at in one step, a bit of a mark each.
const LOOKED_AT: usize = u64::BITS as usize;

/// Bytes that are copied in one step: few escapes are farther from each other where there are many.
const WORD: usize = 32;

/// Bytes that are given at once of text with escapes in it: few enough for the nearest cache.
const BLOCK: usize = 1024;
