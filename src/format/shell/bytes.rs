//! A file of commands byte by byte, with the escapes that shells share.

use std::io::{self, BufRead};

use super::words::ShellError;

/// Bytes of a file, one at a time, counted.
pub(super) struct Bytes<R> {
    pub(super) reader: R,
    /// Of the next byte of `reader`.
    pub(super) position: u64,
    /// Where the command began.
    pub(super) began: u64,
    /// A byte that was put back: it comes next.
    pub(super) pending: Option<u8>,
}

impl<R: BufRead> Bytes<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, position: 0, began: 0, pending: None }
    }

    pub(super) fn begin(&mut self) {
        self.began = self.position;
    }

    /// Of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position - u64::from(self.pending.is_some())
    }

    pub(super) fn error(&self, what: &str) -> ShellError {
        syntax(self.position(), what)
    }

    pub(super) fn peek(&mut self) -> Result<Option<u8>, ShellError> {
        if self.pending.is_some() {
            return Ok(self.pending);
        }
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<u8>, ShellError> {
        let byte = self.peek()?;
        if self.pending.take().is_none() && byte.is_some() {
            if self.position - self.began >= MAX_COMMAND {
                return Err(self.error(&format!("a command of more than {MAX_COMMAND} bytes")));
            }
            self.reader.consume(1);
            self.position += 1;
        }
        Ok(byte)
    }

    pub(super) fn skip(&mut self) -> Result<(), ShellError> {
        self.next().map(drop)
    }

    /// Up to the line feed, which is kept; `false` at the end of the file.
    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> Result<bool, ShellError> {
        while let Some(byte) = self.next()? {
            line.push(byte);
            if byte == b'\n' {
                return Ok(true);
            }
        }
        Ok(!line.is_empty())
    }

    /// Up to `digits` digits as a byte, or as a character in UTF-8; `otherwise` if there is none.
    pub(super) fn code(
        &mut self,
        radix: u32,
        digits: u32,
        out: &mut Vec<u8>,
        otherwise: &[u8],
        is_char: bool,
    ) -> Result<(), ShellError> {
        let (mut value, mut count) = (0u32, 0);
        while count < digits {
            let Some(digit) = self.peek()?.and_then(|byte| char::from(byte).to_digit(radix)) else { break };
            self.skip()?;
            value = value.wrapping_mul(radix) | digit;
            count += 1;
        }
        if count == 0 {
            out.extend(otherwise);
        } else if is_char {
            let c = char::from_u32(value).ok_or_else(|| self.error("not a character of Unicode"))?;
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
        } else {
            out.push(value.to_le_bytes()[0]);
        }
        Ok(())
    }
}

/// What `printf` makes of a format without conversions.
pub(super) fn printed(format: &[u8], position: u64) -> Result<Vec<u8>, ShellError> {
    let mut out = Vec::with_capacity(format.len());
    let mut bytes = Bytes::new(format);
    while let Some(byte) = bytes.next()? {
        match byte {
            b'%' => match bytes.next()? {
                Some(b'%') => out.push(b'%'),
                _ => return Err(syntax(position, "`printf` with a conversion")),
            },
            b'\\' => match bytes.next()? {
                Some(digit @ b'0'..=b'7') => {
                    bytes.pending = Some(digit);
                    bytes.code(8, 3, &mut out, b"", false)?;
                }
                Some(byte) => match simple_escape(byte) {
                    Some(byte) => out.push(byte),
                    None => return Err(syntax(position, "`printf` with an escape that is not POSIX's")),
                },
                None => out.push(b'\\'),
            },
            byte => out.push(byte),
        }
    }
    Ok(out)
}

/// What one letter behind a backslash means.
pub(super) fn simple_escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        b'e' | b'E' => 27,
        b'\\' | b'\'' | b'"' | b'?' => byte,
        _ => return None,
    })
}

pub(super) fn syntax(position: u64, what: &str) -> ShellError {
    ShellError::Syntax { position, what: what.to_owned() }
}

/// Far above what systems let a command have (2 MiB on Linux), small enough to be held.
pub(super) const MAX_COMMAND: u64 = 16 << 20;
