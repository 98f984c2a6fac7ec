//! Values that are passed over or taken whole, and objects that are looked for behind damage.

use std::io::Read;

use super::reader::{Kind, Mark, Reader, Result};

impl<R: Read> Reader<R> {
    /// Reads any value and forgets it.
    ///
    /// # Errors
    /// If it is not JSON, or nested too deep.
    pub(crate) fn skip(&mut self) -> Result<()> {
        self.walk(&mut |_| {})
    }

    /// Puts any value into `raw` as JSON text without white space, at most `max` bytes of it; whether that is all.
    ///
    /// # Errors
    /// As [`Reader::skip`].
    pub(crate) fn raw(&mut self, max: usize, raw: &mut Vec<u8>) -> Result<bool> {
        raw.clear();
        let mut is_whole = true;
        self.walk(&mut |piece: &[u8]| {
            is_whole &= raw.len() + piece.len() <= max;
            if is_whole {
                raw.extend_from_slice(piece);
            }
        })?;
        Ok(is_whole)
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

    /// One value and all inside it, in pieces of JSON text. A stack of our own: a file cannot exhaust the thread's.
    fn walk(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let outer = self.frames.len();
        let mut text = String::new();
        loop {
            match self.peek()? {
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
    fn walk_string(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<()> {
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
}
