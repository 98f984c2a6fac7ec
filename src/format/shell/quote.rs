//! Quoting for POSIX shells: what is written here means the same bytes to `sh` (dash, busybox) and to bash, and runs nothing.
//!
//! `$'…'` is bash's alone, and in dash another string. So text that a person can see stands in `'…'`, in which a shell looks
//! for nothing but the closing quote, and all other bytes come from `printf` (POSIX XCU, "printf": `\ddd` in its format).
//! No control character is written as itself: a command that is pasted into a terminal would act on it there.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::format::visible::is_visible;

/// `bytes` in single quotes; `None` where that would hold a character that is not seen.
///
/// Line feeds are kept, unless there is an exclamation mark: interactive bash looks for one (history expansion) line by line.
pub(in crate::format) fn single_quoted(bytes: &[u8]) -> Option<String> {
    let lines = if bytes.contains(&b'!') { &[][..] } else { &['\n'] };
    if !is_visible(bytes, lines) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}

/// `bytes` as one word. `None` where no shell can pass them on: with a NUL, or with a line feed at the end of other bytes
/// that cannot be seen, which a command substitution takes off.
pub(crate) fn word(bytes: &[u8]) -> Option<String> {
    if let Some(quoted) = single_quoted(bytes) {
        return Some(quoted);
    }
    if bytes.contains(&0) || bytes.ends_with(b"\n") {
        return None;
    }
    Some(format!("\"$({})\"", printf(bytes)))
}

/// A command that writes `bytes` to its standard output, and the `|` behind it.
pub(in crate::format) fn piped(bytes: &[u8]) -> String {
    format!("{} | ", printf(bytes))
}

/// Writes what `body` holds behind a command that began with [`HEREDOC`], and the end of it.
///
/// # Errors
/// If `body` cannot be read or `out` not be written.
pub(in crate::format) fn heredoc(mut body: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let mut piece = Vec::new();
    loop {
        piece.clear();
        (&mut body).take(BASE64_LINE).read_to_end(&mut piece)?;
        if piece.is_empty() {
            // No line of base64 is three characters long.
            return out.write_all(b"EOF\n");
        }
        writeln!(out, "{}", STANDARD.encode(&piece))?;
    }
}

/// `printf` is built into each shell, so that no limit of the system holds for its arguments. It reads no options behind
/// a format that does not begin with a hyphen.
fn printf(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 10);
    out.push_str("printf '");
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => out.push_str("%%"),
            b'\n' => out.push_str("\\n"),
            b'\'' | b'\\' | b'!' => push_octal(&mut out, byte),
            b'-' if at == 0 => push_octal(&mut out, byte),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => push_octal(&mut out, byte),
        }
    }
    out.push('\'');
    out
}

/// Always three digits, so that a digit behind is another character.
fn push_octal(out: &mut String, byte: u8) {
    out.push('\\');
    for shift in [6, 3, 0] {
        out.push(char::from(b'0' + (byte >> shift & 7)));
    }
}

/// The beginning of a command whose standard input is what [`heredoc`] writes.
pub(in crate::format) const HEREDOC: &str = "base64 -d <<'EOF' | ";

/// 76 characters a line (RFC 2045 §6.8).
const BASE64_LINE: u64 = 57;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_text_is_quoted_as_it_is() {
        assert_eq!(single_quoted(b"a b$`\"*\\").as_deref(), Some("'a b$`\"*\\'"));
        assert_eq!(single_quoted("it's grün".as_bytes()).as_deref(), Some("'it'\\''s grün'"));
        assert_eq!(single_quoted(b"a\nb").as_deref(), Some("'a\nb'"));
        assert_eq!(single_quoted(b"").as_deref(), Some("''"));
        for hidden in [&b"a\nb!"[..], b"\t", b"\x1b[201~", b"\xff", "\u{202e}".as_bytes()] {
            assert_eq!(single_quoted(hidden), None);
        }
    }

    #[test]
    fn other_bytes_come_from_printf() {
        assert_eq!(word(b"-a\t%'\\!1").as_deref(), Some("\"$(printf '\\055a\\011%%\\047\\134\\0411')\""));
        assert_eq!(word(b"a\0"), None);
        assert_eq!(word(b"\x01\n"), None);
        assert_eq!(piped(b"\0\xff\n"), "printf '\\000\\377\\n' | ");
    }

    #[test]
    fn long_bodies_stand_behind_the_command() {
        let mut out = Vec::new();
        heredoc(&mut &[b'a'; 58][..], &mut out).unwrap();
        let expected = format!("{}\nYQ==\nEOF\n", "YWFh".repeat(19));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
