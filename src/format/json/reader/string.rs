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
        let Some(len) = self.mark_in(text).filter(|&len| text[len] == b'"' && len <= max) else {
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
        let mut plain = [0; BLOCK + WORD];
        let (mut at, mut len, mut calm) = (0, 0, 0);
        while len < BLOCK
            && calm < CALM
            && let Some(word) = rest[at..].first_chunk::<WORD>()
        {
            // All of it, of which what comes next may overwrite a part.
            plain[len..len + WORD].copy_from_slice(word);
            let before = self.plain_len(u128::from_le_bytes(*word));
            (at, len) = (at + before, len + before);
            if before == WORD {
                calm += 1;
                continue;
            }
            calm = 0;
            let Some([b'\\', letter]) = rest[at..].first_chunk::<2>() else { break };
            let Some(byte) = unescaped(*letter) else { break };
            plain[len] = byte;
            (at, len) = (at + 2, len + 1);
        }
        self.at += at;
        take(&plain[..len])?;
        Ok(at > 0)
    }

    /// How many bytes of a word, read in the order of the text, are plain text of a string.
    fn plain_len(&self, word: u128) -> usize {
        // The high bit of a byte is set where that is zero; by the borrow, surely only in the lowest that is.
        let zeros = |word: u128| word.wrapping_sub(ONES) & !word & (ONES << 7);
        let same = |byte: u8| zeros(word ^ (ONES * u128::from(byte)));
        let line = if self.is_of_lines { same(b'\n') } else { 0 };
        ((same(b'"') | same(b'\\') | line).trailing_zeros() / u8::BITS) as usize
    }

    /// Where a string is not plain text any more.
    pub(super) fn mark_in(&self, text: &[u8]) -> Option<usize> {
        match self.is_of_lines {
            true => memchr::memchr3(b'"', b'\\', b'\n', text),
            false => memchr::memchr2(b'"', b'\\', text),
        }
    }
}

/// Bytes of a string that are looked at in one step.
const WORD: usize = 16;

/// A one in each byte of a word.
const ONES: u128 = u128::MAX / 0xff;

/// Bytes that are given at once of text with escapes in it: few enough for the nearest cache.
const BLOCK: usize = 1024;

/// Words without an escape after which looking for the next goes by larger steps.
const CALM: usize = 4;
