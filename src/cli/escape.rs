//! Captured text made fit for a terminal.
//!
//! Invariant: what [`line`] and [`text`] give holds no control character but the ones a caller asked to keep, nothing
//! that reorders or hides text, and is valid UTF-8. An origin can therefore neither move the cursor, nor set the
//! clipboard, nor make one URL look like another. It is for people: the notation cannot be read back.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use crate::format::shell;
use crate::format::visible::is_hidden;

/// Escapes everything that is not plain visible text, tabs and line ends too.
pub(super) fn line(bytes: impl AsRef<[u8]>) -> String {
    let mut out = String::with_capacity(bytes.as_ref().len());
    push(&mut out, bytes.as_ref(), false);
    out
}

/// Escapes everything that is not plain visible text, but keeps tabs and line feeds.
pub(super) fn text(bytes: impl AsRef<[u8]>) -> String {
    let mut out = String::with_capacity(bytes.as_ref().len());
    push(&mut out, bytes.as_ref(), true);
    out
}

/// A word as a shell takes it, with quotes where they are needed.
pub(super) fn shell_word(word: &OsStr) -> String {
    let bytes = word.as_encoded_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    match word.to_str() {
        Some(plain) if !bytes.is_empty() && bytes.iter().all(is_plain) => plain.to_owned(),
        // A word with a zero byte in it cannot be an argument at all.
        _ => shell::word(bytes).unwrap_or_else(|| line(bytes)),
    }
}

/// A path as [`shell_word`], with `~` for the home directory where that needs no quotes.
pub(super) fn shell_path(path: &Path) -> String {
    let short = super::text::path(path);
    let rest = short.strip_prefix("~/").map(|rest| shell_word(OsStr::new(rest)) == rest);
    if rest == Some(true) { short } else { shell_word(path.as_os_str()) }
}

/// Escapes a text that comes in pieces, as [`text`] does. A character that lies across two pieces stays whole.
#[derive(Debug, Default)]
pub(super) struct TextStream {
    /// The beginning of a character: at most 3 bytes.
    rest: Vec<u8>,
}

impl TextStream {
    /// The next piece, escaped.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let keep = match std::str::from_utf8(&self.rest) {
            Ok(_) => 0,
            // Only an error at the very end may still become a character.
            Err(_) => unfinished(&self.rest),
        };
        let whole = self.rest.len() - keep;
        let out = text(&self.rest[..whole]);
        self.rest.drain(..whole);
        out
    }

    /// What is left at the end.
    pub(super) fn end(self) -> String {
        text(&self.rest)
    }
}

/// How many bytes at the end are the beginning of a longer character.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&n| {
            let tail = &bytes[bytes.len() - n..];
            matches!(std::str::from_utf8(tail), Err(e) if e.valid_up_to() == 0 && e.error_len().is_none())
        })
        .unwrap_or(0)
}

fn push(out: &mut String, bytes: &[u8], keep_lines: bool) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' if keep_lines => out.push(c),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if c.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c)); // writing to a String cannot fail
                }
                c if is_hidden(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c)); // as above
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // as above
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_and_bad_utf8_are_shown() {
        assert_eq!(line("a\x1b[2Jb\r\n\tc\x7f\0"), "a\\x1b[2Jb\\r\\n\\tc\\x7f\\x00");
        assert_eq!(text("a\n\tb\r"), "a\n\tb\\r");
        assert_eq!(line(b"\xff\xc2\x9b\xe2\x80\xae"), "\\xff\\u{9b}\\u{202e}");
        assert_eq!(line("grüße 日本 😀"), "grüße 日本 😀");
    }

    #[test]
    fn a_character_across_two_pieces_stays_whole() {
        let mut stream = TextStream::default();
        let euro = "€".as_bytes();
        let shown = stream.piece(&euro[..1]) + &stream.piece(&euro[1..2]) + &stream.piece(&euro[2..]);
        assert_eq!(shown + &stream.piece(b"\xe2"), "€");
        assert_eq!(stream.end(), "\\xe2");
    }

    fn assert_plain(shown: &str, kept: &[char]) {
        let bad = |c: &char| (c.is_control() && !kept.contains(c)) || is_hidden(*c);
        assert_eq!(shown.chars().find(bad), None);
    }

    proptest! {
        #[test]
        fn nothing_but_plain_text_comes_out(bytes: Vec<u8>) {
            assert_plain(&line(&bytes), &[]);
            assert_plain(&text(&bytes), &['\n', '\t']);
        }

        #[test]
        fn no_unicode_text_gets_through_unescaped(chars: Vec<char>) {
            let string: String = chars.into_iter().collect();
            assert_plain(&line(&string), &[]);
            assert_plain(&text(&string), &['\n', '\t']);
        }

        #[test]
        fn pieces_show_what_the_whole_shows(bytes: Vec<u8>, chars: Vec<char>, cut in 1usize..9) {
            let mut all = chars.into_iter().collect::<String>().into_bytes();
            all.extend_from_slice(&bytes);
            let mut stream = TextStream::default();
            let mut shown: String = all.chunks(cut).map(|piece| stream.piece(piece)).collect();
            shown += &stream.end();
            prop_assert_eq!(shown, text(&all));
        }
    }
}
