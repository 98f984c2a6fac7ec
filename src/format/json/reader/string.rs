//! Strings of any length, in pieces, escapes undone.

use std::io::{self, Read};

use super::{Reader, Result};

impl<R: Read> Reader<R> {
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
}
