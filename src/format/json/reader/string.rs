//! Strings of any length, escapes undone, in pieces of some size: also where escapes stand close together.

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
        // What comes before and behind escapes, which may stand close together, is handed on together.
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        let result = self.rest_of_string(&mut gathered, &mut take);
        self.gathered = gathered;
        result
    }

    fn rest_of_string(
        &mut self,
        gathered: &mut Vec<u8>,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        loop {
            if self.at == self.end && !self.refill()? {
                return Err(self.ended());
            }
            let rest = &self.buffer[self.at..self.end];
            let mark = self.mark_in(rest);
            let len = mark.unwrap_or(rest.len());
            let found =
                mark.map(|at| (rest[at], rest.get(at + 1).map_or(0, |&next| UNESCAPED[usize::from(next)])));
            let is_all = gathered.is_empty() && matches!(found, Some((b'"', _)));
            if gathered.len() + len > GATHERED && !gathered.is_empty() {
                take(gathered)?;
                gathered.clear();
            }
            match len {
                0 => {}
                len if is_all || len > GATHERED => take(&rest[..len])?,
                len => gathered.extend_from_slice(&rest[..len]),
            }
            self.at += len;
            match found {
                None => {}
                Some((b'"', _)) => {
                    self.at += 1;
                    return if gathered.is_empty() { Ok(()) } else { Ok(take(gathered)?) };
                }
                Some((b'\n', _)) => return Err(self.wrong("the line ends in the middle of a string")),
                Some((_, 0)) => {
                    self.at += 1;
                    self.escape(&mut |piece: &[u8]| {
                        gathered.extend_from_slice(piece);
                        Ok(())
                    })?;
                }
                Some((_, byte)) => {
                    self.at += 2;
                    gathered.push(byte);
                }
            }
        }
    }

    /// Where a string is not plain text any more.
    pub(super) fn mark_in(&self, text: &[u8]) -> Option<usize> {
        // Where marks stand close together, calling for help takes longer than looking.
        let is_mark = |byte: &u8| matches!(byte, b'"' | b'\\') || (*byte == b'\n' && self.is_of_lines);
        if let Some(near) = text.iter().take(NEAR).position(is_mark) {
            return Some(near);
        }
        let (near, text) = text.split_at(text.len().min(NEAR));
        let far = self.far_mark_in(text)?;
        Some(near.len() + far)
    }

    fn far_mark_in(&self, text: &[u8]) -> Option<usize> {
        match self.is_of_lines {
            true => memchr::memchr3(b'"', b'\\', b'\n', text),
            false => memchr::memchr2(b'"', b'\\', text),
        }
    }
}

/// What a letter behind a backslash stands for; 0 for what is no such letter, or is more than a letter.
const UNESCAPED: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 8;
    table[b'f' as usize] = 12;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

/// How far is looked for a mark byte by byte.
const NEAR: usize = 16;

/// Bytes of a string that are gathered before they are handed on.
const GATHERED: usize = 8 * 1024;
