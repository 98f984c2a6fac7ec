//! What stands behind a backslash in a string (RFC 8259 §7).

use std::io::{self, Read};

use super::{Reader, Result};

impl<R: Read> Reader<R> {
    /// Undoes what stands behind a backslash.
    pub(super) fn escape(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        let letter = self.byte()?;
        match unescaped(letter) {
            Some(plain) => Ok(take(&[plain])?),
            None if letter == b'u' => self.unicode_escape(take),
            None => Err(self.wrong_before("no such escape in JSON")),
        }
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
}

/// The byte that a letter behind a backslash stands for; `None` for `u`, and where there is no such escape.
#[inline]
pub(super) fn unescaped(letter: u8) -> Option<u8> {
    // By a table: which letter comes next, no processor foresees.
    Some(UNESCAPED[usize::from(letter)]).filter(|&byte| byte != NONE)
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

/// By letters.
const UNESCAPED: [u8; 256] = {
    let mut table = [NONE; 256];
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

/// None of these letters stands for it.
const NONE: u8 = 0;
