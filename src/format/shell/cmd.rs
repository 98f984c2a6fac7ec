//! Command lines of Windows' `cmd.exe`, split into words as cmd and then a program's start-up code do.
//!
//! Two layers lie over each other: cmd takes its carets off, outside of its own quotes; the C runtime splits what remains
//! into arguments ("Parsing C command-line arguments" in its manual). Variables (`%name%`) are left as they stand.

use std::io::{self, BufRead};

use super::bytes::{MAX_COMMAND, syntax};
use super::words::{Command, Input, MAX_WORDS, NOT_CLOSED, ShellError, Word};

/// Reads commands one after the other.
pub(in crate::format) struct Cmd<R> {
    reader: R,
    position: u64,
}

/// A byte after cmd has seen it, and where it stood.
#[derive(Clone, Copy)]
struct Seen {
    byte: u8,
    position: u64,
}

impl<R: BufRead> Cmd<R> {
    pub(in crate::format) fn new(reader: R) -> Self {
        Self { reader, position: 0 }
    }

    /// The next command; `None` at the end.
    pub(in crate::format) fn next(&mut self) -> Result<Option<Command>, ShellError> {
        loop {
            let (seen, is_end) = self.line()?;
            let words = split(&seen)?;
            if !words.is_empty() {
                return Ok(Some(Command { words, input: Input::Inherited }));
            }
            if is_end {
                return Ok(None);
            }
        }
    }

    /// Up to an unescaped line end or `&`, without carets. Whether the file ended.
    fn line(&mut self) -> Result<(Vec<Seen>, bool), ShellError> {
        let mut seen = Vec::new();
        let mut in_quotes = false;
        let began = self.position;
        loop {
            let position = self.position;
            if position - began > MAX_COMMAND {
                return Err(syntax(position, &format!("a command of more than {MAX_COMMAND} bytes")));
            }
            let Some(byte) = self.byte()? else { return Ok((seen, true)) };
            match byte {
                b'\n' => return Ok((seen, false)),
                b'&' if !in_quotes => return Ok((seen, false)),
                b'|' | b'<' | b'>' if !in_quotes => {
                    return Err(syntax(position, "pipes and redirections are not read: quote it"));
                }
                b'^' if !in_quotes => {
                    let Some(mut byte) = self.byte()? else { return Ok((seen, true)) };
                    if byte == b'\r' {
                        byte = self.byte()?.unwrap_or(b'\n');
                    }
                    // Behind a line end that was escaped the next character is, too.
                    if byte == b'\n' {
                        let Some(mut next) = self.byte()? else { return Ok((seen, true)) };
                        if next == b'\r' {
                            next = self.byte()?.unwrap_or(b'\n');
                        }
                        byte = next;
                    }
                    seen.push(Seen { byte, position });
                }
                b'\r' => {}
                byte => {
                    in_quotes ^= byte == b'"';
                    seen.push(Seen { byte, position });
                }
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = loop {
            match self.reader.fill_buf() {
                Ok(bytes) => break bytes.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if byte.is_some() {
            self.reader.consume(1);
            self.position += 1;
        }
        Ok(byte)
    }
}

/// Arguments: blanks between them, quotes around them, and backslashes that count only before a quote.
fn split(seen: &[Seen]) -> Result<Vec<Word>, ShellError> {
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<u64> = None;
    let mut at = 0;
    while let Some(&Seen { byte, position }) = seen.get(at) {
        if quote.is_none() && matches!(byte, b' ' | b'\t' | b'\n') {
            words.extend(word.take());
            at += 1;
            continue;
        }
        if words.len() >= MAX_WORDS {
            return Err(syntax(position, &format!("a command of more than {MAX_WORDS} words")));
        }
        let bytes = &mut word.get_or_insert_with(|| Word { position, bytes: Vec::new() }).bytes;
        let backslashes = seen[at..].iter().take_while(|seen| seen.byte == b'\\').count();
        let is_quote = |at: usize| seen.get(at).is_some_and(|seen| seen.byte == b'"');
        at += backslashes;
        if !is_quote(at) {
            bytes.extend(std::iter::repeat_n(b'\\', backslashes));
            if backslashes == 0 {
                bytes.push(byte);
                at += 1;
            }
            continue;
        }
        bytes.extend(std::iter::repeat_n(b'\\', backslashes / 2));
        if backslashes % 2 == 1 {
            bytes.push(b'"');
        } else if quote.is_some() && is_quote(at + 1) {
            bytes.push(b'"');
            at += 1;
        } else {
            quote = if quote.is_some() { None } else { Some(position) };
        }
        at += 1;
    }
    if let Some(position) = quote {
        return Err(syntax(position, NOT_CLOSED));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let command = Cmd::new(text.as_bytes()).next().unwrap().unwrap();
        command.words.into_iter().map(|word| String::from_utf8(word.bytes).unwrap()).collect()
    }

    #[test]
    fn what_browsers_copy_is_read() {
        let chrome = "curl ^\"https://x.test/?a=1^&b=^%^20^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  --data-raw ^\"^{^\\^\"a^\\^\":1,^\r\n\r\nb\\c^}^\"";
        let expected =
            ["curl", "https://x.test/?a=1&b=%20", "-H", "accept: */*", "--data-raw", "{\"a\":1,\nb\\c}"];
        assert_eq!(words(chrome), expected);
        assert_eq!(
            words("curl \"a b^c\" \"x \"\"y\"\" z\" \"d\\\\\""),
            ["curl", "a b^c", "x \"y\" z", "d\\"]
        );
    }

    #[test]
    fn commands_end_with_the_line_or_an_ampersand() {
        let mut cmd = Cmd::new(&b"curl a &\r\ncurl b\r\n\r\ncurl ^\n c"[..]);
        let mut seen = Vec::new();
        while let Some(command) = cmd.next().unwrap() {
            seen.push((command.words[0].position, command.words[1].bytes.clone()));
        }
        assert_eq!(seen, [(0, b"a".to_vec()), (10, b"b".to_vec()), (20, b"c".to_vec())]);
        for bad in ["curl \"a", "curl a > b", "a | b"] {
            assert!(Cmd::new(bad.as_bytes()).next().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[a ^\"\\\\&|\r\n]*", bytes: Vec<u8>) {
            for bytes in [text.as_bytes(), &bytes] {
                let mut cmd = Cmd::new(bytes);
                while let Ok(Some(_)) = cmd.next() {}
            }
        }
    }
}
