//! Command lines of POSIX shells and bash, split into words as a shell would, with nothing expanded and nothing run.
//!
//! Understood are the quotes, `$'…'`, comments, continued lines, and of input what our own commands have: `printf '…' |`,
//! `"$(printf '…')"`, and here-documents with a quoted delimiter. Whatever a shell would look up or run besides is an error.

use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes::{Bytes, printed, simple_escape, syntax};

/// A word, its quotes undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) struct Word {
    /// Where it begins, in bytes from the beginning of the file.
    pub(in crate::format) position: u64,
    pub(in crate::format) bytes: Vec<u8>,
}

/// A command: its name and arguments, at least one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) struct Command {
    pub(in crate::format) words: Vec<Word>,
    pub(in crate::format) input: Input,
}

/// What a command gets on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) enum Input {
    /// Whatever its caller has.
    Inherited,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A here-document, which is read next: see [`Posix::heredoc`].
    Document,
}

/// Why a command line cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::format) enum ShellError {
    #[error("at byte {position}: {what}")]
    Syntax { position: u64, what: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads commands one after the other.
pub(in crate::format) struct Posix<R> {
    bytes: Bytes<R>,
    document: Option<Document>,
}

/// A here-document that follows.
struct Document {
    delimiter: Vec<u8>,
    is_base64: bool,
}

/// What stands behind a word.
#[derive(PartialEq, Eq)]
enum End {
    Command,
    Pipe,
}

impl<R: BufRead> Posix<R> {
    pub(in crate::format) fn new(reader: R) -> Self {
        Self { bytes: Bytes::new(reader), document: None }
    }

    /// The next command; `None` at the end. A here-document that was not read is passed over.
    pub(in crate::format) fn next(&mut self) -> Result<Option<Command>, ShellError> {
        self.heredoc(&mut |_| Ok(()))?;
        self.bytes.begin();
        let mut input = Input::Inherited;
        loop {
            let (words, end) = self.simple_command()?;
            if self.document.is_some() {
                input = Input::Document;
            }
            match (words.is_empty(), end) {
                (false, End::Command) => return Ok(Some(Command { words, input })),
                (true, End::Command) if self.bytes.peek()?.is_none() => return Ok(None),
                (true, End::Command) => self.bytes.begin(),
                (true, End::Pipe) => return Err(self.bytes.error("there is no command before this `|`")),
                (false, End::Pipe) => match self.source(&words)? {
                    Some(bytes) => input = Input::Bytes(bytes),
                    None => input = Input::Document,
                },
            }
        }
    }

    /// Gives what the here-document of the last command holds, piece by piece; nothing if it has none.
    pub(in crate::format) fn heredoc(
        &mut self,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ShellError> {
        let Some(document) = self.document.take() else { return Ok(()) };
        let mut line = Vec::new();
        loop {
            let position = self.bytes.position;
            line.clear();
            self.bytes.begin();
            if !self.bytes.line(&mut line)? {
                return Err(syntax(position, "the here-document is not ended"));
            }
            if line.strip_suffix(b"\n").unwrap_or(&line) == document.delimiter {
                return Ok(());
            }
            if document.is_base64 {
                let decoded = STANDARD.decode(line.trim_ascii());
                each(&decoded.map_err(|_| syntax(position, "this line is not base64"))?)?;
            } else {
                each(&line)?;
            }
        }
    }

    /// What a command before a `|` writes; `None`: the here-document.
    fn source(&mut self, words: &[Word]) -> Result<Option<Vec<u8>>, ShellError> {
        let texts: Vec<&[u8]> = words.iter().map(|word| &word.bytes[..]).collect();
        let position = words.first().map_or(self.bytes.position, |word| word.position);
        match (&texts[..], &mut self.document) {
            ([b"printf", format], None) => Ok(Some(printed(format, position)?)),
            ([b"cat"], Some(_)) => Ok(None),
            ([b"base64", b"-d" | b"--decode" | b"-D"], Some(document)) => {
                document.is_base64 = true;
                Ok(None)
            }
            _ => Err(syntax(
                position,
                "only `printf FORMAT`, `cat <<'EOF'` and `base64 -d <<'EOF'` may stand before a `|`",
            )),
        }
    }

    fn simple_command(&mut self) -> Result<(Vec<Word>, End), ShellError> {
        let mut words = Vec::new();
        loop {
            let Some(byte) = self.bytes.peek()? else { return Ok((words, End::Command)) };
            match byte {
                b' ' | b'\t' | b'\r' => self.bytes.skip()?,
                b'\n' | b';' | b'&' => {
                    self.bytes.skip()?;
                    return Ok((words, End::Command));
                }
                b'|' => {
                    self.bytes.skip()?;
                    return Ok((words, End::Pipe));
                }
                b'#' => self.comment()?,
                b'<' => self.here()?,
                b'\\' if self.continues()? => {}
                _ => words.push(self.word()?),
            }
            if words.len() > MAX_WORDS {
                return Err(self.bytes.error(&format!("a command of more than {MAX_WORDS} words")));
            }
        }
    }

    fn comment(&mut self) -> Result<(), ShellError> {
        while self.bytes.peek()?.is_some_and(|byte| byte != b'\n') {
            self.bytes.skip()?;
        }
        Ok(())
    }

    /// Whether the line goes on behind a backslash at its end; passes it if so, and only the backslash if not.
    fn continues(&mut self) -> Result<bool, ShellError> {
        self.bytes.skip()?;
        match self.bytes.peek()? {
            Some(b'\n') => self.bytes.skip()?,
            Some(b'\r') => {
                self.bytes.skip()?;
                if self.bytes.peek()? == Some(b'\n') {
                    self.bytes.skip()?;
                }
            }
            _ => {
                self.bytes.pending = Some(b'\\');
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `<<'EOF'`
    fn here(&mut self) -> Result<(), ShellError> {
        let position = self.bytes.position;
        self.bytes.skip()?;
        let quoted = "only here-documents with a quoted delimiter, `<<'EOF'`, are read";
        if self.bytes.next()? != Some(b'<') || self.bytes.peek()? != Some(b'\'') {
            return Err(syntax(position, quoted));
        }
        let delimiter = self.word()?.bytes;
        if self.document.is_some() || delimiter.contains(&b'\n') {
            return Err(syntax(position, "a second here-document, or one whose delimiter is no line"));
        }
        self.document = Some(Document { delimiter, is_base64: false });
        Ok(())
    }

    fn word(&mut self) -> Result<Word, ShellError> {
        let position = self.bytes.position();
        let mut bytes = Vec::new();
        while let Some(byte) = self.bytes.peek()? {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'<' => break,
                b'\'' => self.single(&mut bytes)?,
                b'"' => self.double(&mut bytes)?,
                b'\\' => {
                    if !self.continues()? {
                        self.bytes.skip()?;
                        match self.bytes.next()? {
                            Some(byte) => bytes.push(byte),
                            None => return Err(syntax(position, "a backslash at the end")),
                        }
                    }
                }
                b'$' => {
                    self.bytes.skip()?;
                    match self.bytes.peek()? {
                        Some(b'\'') => self.ansi_c(&mut bytes)?,
                        Some(b'"') => {}
                        _ => return Err(syntax(position, EXPANSION)),
                    }
                }
                b'`' | b'(' | b')' | b'>' => return Err(syntax(position, EXPANSION)),
                _ => {
                    self.bytes.skip()?;
                    bytes.push(byte);
                }
            }
        }
        Ok(Word { position, bytes })
    }

    fn single(&mut self, out: &mut Vec<u8>) -> Result<(), ShellError> {
        let position = self.bytes.position;
        self.bytes.skip()?;
        loop {
            match self.bytes.next()? {
                Some(b'\'') => return Ok(()),
                Some(byte) => out.push(byte),
                None => return Err(syntax(position, NOT_CLOSED)),
            }
        }
    }

    fn double(&mut self, out: &mut Vec<u8>) -> Result<(), ShellError> {
        let position = self.bytes.position;
        self.bytes.skip()?;
        loop {
            match self.bytes.next()? {
                Some(b'"') => return Ok(()),
                Some(b'\\') => match self.bytes.next()? {
                    Some(b'\n') => {}
                    Some(byte @ (b'$' | b'`' | b'"' | b'\\')) => out.push(byte),
                    Some(byte) => out.extend([b'\\', byte]),
                    None => return Err(syntax(position, NOT_CLOSED)),
                },
                Some(b'$') => match self.bytes.peek()? {
                    Some(b'(') => self.substitution(out)?,
                    Some(
                        b'{'
                        | b'_'
                        | b'a'..=b'z'
                        | b'A'..=b'Z'
                        | b'0'..=b'9'
                        | b'@'
                        | b'*'
                        | b'?'
                        | b'!'
                        | b'#'
                        | b'-'
                        | b'$',
                    ) => {
                        return Err(syntax(position, EXPANSION));
                    }
                    _ => out.push(b'$'),
                },
                Some(b'`') => return Err(syntax(position, EXPANSION)),
                Some(byte) => out.push(byte),
                None => return Err(syntax(position, NOT_CLOSED)),
            }
        }
    }

    /// `$(printf '…')`, of which `$` is passed already. Line feeds at its end are taken off.
    fn substitution(&mut self, out: &mut Vec<u8>) -> Result<(), ShellError> {
        let position = self.bytes.position;
        for expected in b"(printf " {
            if self.bytes.next()? != Some(*expected) {
                return Err(syntax(position, EXPANSION));
            }
        }
        let mut format = Vec::new();
        if self.bytes.peek()? != Some(b'\'') {
            return Err(syntax(position, EXPANSION));
        }
        self.single(&mut format)?;
        if self.bytes.next()? != Some(b')') {
            return Err(syntax(position, EXPANSION));
        }
        let mut printed = printed(&format, position)?;
        while printed.ends_with(b"\n") {
            printed.pop();
        }
        out.extend(printed);
        Ok(())
    }

    /// `'…'` behind a `$`: bash manual, "ANSI-C Quoting".
    fn ansi_c(&mut self, out: &mut Vec<u8>) -> Result<(), ShellError> {
        let position = self.bytes.position;
        self.bytes.skip()?;
        loop {
            let byte = match self.bytes.next()? {
                None => return Err(syntax(position, NOT_CLOSED)),
                Some(b'\'') => return Ok(()),
                Some(b'\\') => self.bytes.next()?.ok_or_else(|| syntax(position, NOT_CLOSED))?,
                Some(byte) => {
                    out.push(byte);
                    continue;
                }
            };
            match byte {
                b'x' => self.bytes.code(16, 2, out, b"\\x", false)?,
                b'u' => self.bytes.code(16, 4, out, b"\\u", true)?,
                b'U' => self.bytes.code(16, 8, out, b"\\U", true)?,
                b'0'..=b'7' => {
                    self.bytes.pending = Some(byte);
                    self.bytes.code(8, 3, out, b"", false)?;
                }
                b'c' => match self.bytes.next()? {
                    Some(byte) => out.push(byte & 0x1f),
                    None => return Err(syntax(position, NOT_CLOSED)),
                },
                _ => match simple_escape(byte) {
                    Some(byte) => out.push(byte),
                    None => out.extend([b'\\', byte]),
                },
            }
        }
    }
}

/// Arbitrary; a header field takes two.
pub(super) const MAX_WORDS: usize = 10_000;

const EXPANSION: &str =
    "here a shell would look something up or run something, which an import does not do: quote it";

pub(super) const NOT_CLOSED: &str = "this quote is not closed";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quote::{HEREDOC, heredoc, piped, word};
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        let command = Posix::new(text.as_bytes()).next().unwrap().unwrap();
        command.words.into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn quotes_are_undone_as_bash_does() {
        assert_eq!(
            words("curl 'a b' \\\n  \"c\\\"$\\$d\\e\" f\\ g # no"),
            [&b"curl"[..], b"a b", b"c\"$$d\\e", b"f g"]
        );
        assert_eq!(words(r"$'\u0021\x41\101\n\'\\\e\cA\q'x"), [&b"!AA\n'\\\x1b\x01\\qx"[..]]);
        assert_eq!(words(r#"a'b'"c"''"#), [b"abc"]);
        assert_eq!(words("curl \\\r\n a\r\n"), [&b"curl"[..], b"a"]);
    }

    #[test]
    fn commands_follow_each_other() {
        let mut shell = Posix::new(&b"\n\na b;\nc &\n\n# d\n'e\nf'"[..]);
        let mut seen = Vec::new();
        while let Some(command) = shell.next().unwrap() {
            seen.push((command.words[0].position, command.words.len()));
        }
        assert_eq!(seen, [(2, 2), (7, 1), (16, 1)]);
    }

    #[test]
    fn nothing_is_looked_up_or_run() {
        for text in [
            "a $HOME",
            "a \"$HOME\"",
            "a `id`",
            "a \"`id`\"",
            "a $(id)",
            "a \"$(id)\"",
            "a > b",
            "id | a",
            "a <b",
            "a <<E",
            "a 'b",
            "a \"b",
            "a $'b",
            "a\\",
            "\"$(printf '%s')\"",
        ] {
            assert!(matches!(Posix::new(text.as_bytes()).next(), Err(ShellError::Syntax { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_quoted_comes_back(bytes: Vec<u8>, text in "\\PC*", body: Vec<u8>) {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Some(word) = word(bytes) {
                    let mut shell = Posix::new(word.as_bytes());
                    prop_assert_eq!(&shell.next().unwrap().unwrap().words[0].bytes, bytes);
                    prop_assert!(shell.next().unwrap().is_none());
                } else {
                    prop_assert!(bytes.contains(&0) || bytes.ends_with(b"\n"));
                }
            }
            let line = piped(&body) + "curl";
            let command = Posix::new(line.as_bytes()).next().unwrap().unwrap();
            prop_assert_eq!(command.input, Input::Bytes(body.clone()));
            let mut file = format!("{HEREDOC}curl \\\n -d @-\n").into_bytes();
            heredoc(&mut &body[..], &mut file).unwrap();
            let mut shell = Posix::new(&file[..]);
            prop_assert_eq!(shell.next().unwrap().unwrap().input, Input::Document);
            let mut read: Vec<u8> = Vec::new();
            shell.heredoc(&mut |piece| { read.extend(piece); Ok(()) }).unwrap();
            prop_assert_eq!(read, body);
            prop_assert!(shell.next().unwrap().is_none());
        }

        #[test]
        fn nothing_makes_it_panic(text in "[-a '\"\\\\$(){}<>|;&\n\r\t`#^EOFprintbase64]*", bytes: Vec<u8>) {
            for bytes in [text.as_bytes(), &bytes] {
                let mut shell = Posix::new(bytes);
                while let Ok(Some(_)) = shell.next() {}
            }
        }
    }
}
