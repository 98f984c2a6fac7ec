//! `config.toml`: its keys and values, each with its line. Which keys there are, and what they take, `layers` knows.
//!
//! A file is flat: `key = value`, where the value is a text, a whole number, `true` or `false`, or a list of texts.

use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::filter::caret;

/// A file that could be read as TOML.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    text: String,
    pub(crate) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Its line, from 1.
    pub(crate) line: usize,
    key_span: Range<usize>,
    value_span: Range<usize>,
}

/// A value as TOML has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// In decimal digits.
    Integer(String),
    Bool(bool),
    List(Vec<Value>),
    /// What no key takes: its name, with the article.
    Other(&'static str),
}

/// Why a file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {what}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
        /// The line, and carets under the place.
        quote: Box<[String; 2]>,
        /// What would be right, if that can be guessed.
        hint: Option<String>,
    },
}

/// What an error points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key. Its value is not quoted: nobody knows what it is.
    Key,
    Value,
    /// The key, whose value is a secret.
    SecretValue,
    /// A place that is no TOML: nobody knows what stands there, which may be a secret without its closing quote.
    Syntax,
}

impl File {
    /// Reads `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read, is larger than 1 MiB, or is not TOML.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
            if text.len() as u64 > MAX_BYTES {
                return Err(std::io::Error::other("it is larger than 1 MiB"));
            }
            Ok(text)
        };
        match read() {
            Ok(text) => Self::parse(path, text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: String) -> Result<Self, FileError> {
        let entries = match DeTable::parse(&text) {
            Ok(table) => table.get_ref().iter().map(|(key, value)| Entry::new(&text, key, value)).collect(),
            Err(error) => {
                let span = error.span().unwrap_or(text.len()..text.len());
                let what = error.message().lines().collect::<Vec<_>>().join(", ");
                return Err(wrong(path, &text, &span, Part::Syntax, what, None));
            }
        };
        let mut file = Self { path: path.to_owned(), text, entries };
        // The parser sorts them.
        file.entries.sort_by_key(|entry| entry.key_span.start);
        Ok(file)
    }

    /// What is wrong with an entry.
    pub(crate) fn wrong(&self, entry: &Entry, part: Part, what: String, hint: Option<String>) -> FileError {
        let span = if part == Part::Value { &entry.value_span } else { &entry.key_span };
        wrong(&self.path, &self.text, span, part, what, hint)
    }
}

impl Entry {
    fn new(text: &str, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Self {
        Self {
            key: key.get_ref().to_string(),
            value: Value::of(value.get_ref()),
            line: line_at(text, key.span().start),
            key_span: key.span(),
            value_span: value.span(),
        }
    }
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Self::Integer(number.to_string()),
                Err(_) => Self::Other("a number that is too large"),
            },
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect()),
            DeValue::Float(_) => Self::Other("a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// What it is, with the article.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

fn wrong(
    path: &Path,
    text: &str,
    span: &Range<usize>,
    part: Part,
    what: String,
    hint: Option<String>,
) -> FileError {
    let begin = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let line = text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let within = span.start.saturating_sub(begin)..span.end.saturating_sub(begin).min(line.len());
    let (shown, within) = match (part, line.split_once('=')) {
        (Part::Syntax, _) => {
            let known = up_to_value(line);
            match known.len() {
                whole if whole == line.len() => (line.to_owned(), within),
                // What is wrong is in the part that is left out.
                end if within.start >= end => (format!("{known} …"), end + 1..end + 1 + '…'.len_utf8()),
                end => (format!("{known} …"), within.start..within.end.min(end)),
            }
        }
        (Part::Key | Part::SecretValue, Some((key, _))) => (format!("{key}= …"), within),
        _ => (line.to_owned(), within),
    };
    let what = what.trim().to_owned();
    let quote = Box::new(caret(&shown, &within));
    FileError::Wrong { path: path.to_owned(), line: line_at(text, span.start), what, quote, hint }
}

/// The key that a line begins with, if that is what it does, and the `=`.
fn up_to_value(line: &str) -> &str {
    let blank = |c: char| c == ' ' || c == '\t';
    let rest = line.trim_start_matches(blank);
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let behind = rest.trim_start_matches(blank);
    let rest = behind.strip_prefix('=').unwrap_or(rest);
    &line[..line.len() - rest.len()]
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// Far more than all keys with long lists take.
const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, FileError> {
        File::parse(Path::new("c.toml"), text.to_owned())
    }

    #[test]
    fn entries_come_in_their_order_with_their_lines() {
        let file =
            parse("# a comment\nport = 0x1F90\n\nlisten = [\"1\",\n \"2\"] # two\njson = true\n").unwrap();
        let entries: Vec<_> =
            file.entries.iter().map(|e| (e.line, e.key.as_str(), e.value.clone())).collect();
        let list = Value::List(vec![Value::Text("1".into()), Value::Text("2".into())]);
        assert_eq!(
            entries,
            [(2, "port", Value::Integer("8080".into())), (4, "listen", list), (6, "json", Value::Bool(true))]
        );
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        for (text, at) in [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("\n\n= 3", 3), ("a = \"x", 1)] {
            let Err(FileError::Wrong { line, .. }) = parse(text) else { panic!("{text}") };
            assert_eq!(line, at, "{text}");
        }
    }

    #[test]
    fn a_value_that_nobody_knows_is_not_quoted() {
        let file = parse("proxy-aut = \"me:secret\"\n").unwrap();
        let error = file.wrong(&file.entries[0], Part::Key, "unknown".into(), None);
        let FileError::Wrong { quote, .. } = error else { panic!("{error}") };
        assert_eq!(*quote, ["proxy-aut = …", "^^^^^^^^^"]);
    }

    #[test]
    fn a_line_that_is_no_toml_is_quoted_up_to_its_value() {
        for (text, shown) in [
            ("proxy-auth = \"me:secret", "proxy-auth = …"),
            ("proxy-auth \"me:secret\"", "proxy-auth …"),
            ("grace", "grace"),
        ] {
            let Err(FileError::Wrong { quote, .. }) = parse(text) else { panic!("{text}") };
            assert_eq!(quote[0], shown, "{text}");
        }
        assert_eq!(up_to_value(" \"Authorization: Basic secret==\","), " ");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-b=\\[\\]\"'\\n #.{},0-9é-]{0,40}") {
            if let Err(error) = parse(&text) {
                proptest::prop_assert!(error.to_string().starts_with("c.toml:"));
            }
        }
    }
}
