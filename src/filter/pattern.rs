//! A pattern of text: a regular expression, or text that is looked for as it stands.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

use super::required::{self, Required};
use super::{Problem, Text};

/// A pattern, ready to be searched for. Two are equal if they were written alike.
#[derive(Debug, Clone)]
pub struct Pattern {
    how: How,
    text: String,
    of: Text,
    regex: Regex,
    matches_empty: bool,
}

/// How the text of a pattern is meant. Case is ignored always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A regular expression that matches somewhere.
    Regex,
    /// It occurs somewhere.
    Contains,
    /// The whole text, `*` standing for anything.
    Glob,
    /// The whole text.
    Equals,
}

impl Pattern {
    /// Compiles `text` for texts of the kind `of`.
    ///
    /// `.` matches a line's end in bodies, `^` and `$` match at each line of heads and comments, as in mitmproxy. A pattern of
    /// ASCII alone is one of bytes, so that `.` matches any byte of a binary body.
    pub(super) fn new(how: How, text: &str, of: Text) -> Result<Self, Problem> {
        let source = match how {
            How::Regex => text.to_owned(),
            How::Contains => regex::escape(text),
            How::Equals => format!(r"\A(?:{})\z", regex::escape(text)),
            How::Glob => format!(r"\A(?s:{})\z", glob(text, ".*")),
        };
        let regex = builder(&source, how, text, of).build().map_err(|error| refused(text, &error))?;
        let matches_empty = regex.is_match(b"");
        Ok(Self { how, text: text.to_owned(), of, regex, matches_empty })
    }

    /// What it was compiled with, for those who search many texts at once.
    #[must_use]
    pub fn builder(&self) -> RegexBuilder {
        builder(self.regex.as_str(), self.how, &self.text, self.of)
    }

    /// One that finds every line that as a whole matches, in a text of many, where this pattern is one of whole texts. It has
    /// to be set to many lines ([`RegexBuilder::multi_line`]).
    #[must_use]
    pub fn line_builder(&self) -> Option<RegexBuilder> {
        let source = match self.how {
            How::Regex | How::Contains => return None,
            How::Equals => format!("^(?:{})$", regex::escape(&self.text)),
            How::Glob => format!("^(?:{})$", glob(&self.text, "[^\n]*")),
        };
        Some(builder(&source, self.how, &self.text, self.of))
    }

    /// How its text is meant.
    #[must_use]
    pub fn how(&self) -> How {
        self.how
    }

    /// Its text, as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// Whether the empty text matches. If not, there is no need to look where there is nothing.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches_empty
    }

    /// What a text must have in it for the pattern to match.
    #[must_use]
    pub fn required(&self) -> Required {
        // What `builder` says, in the words of the crate that reads the syntax.
        let Flags { unicode, dot_matches_new_line, lines } = Flags::of(self.how, &self.text, self.of);
        let mut syntax = regex_syntax::ParserBuilder::new();
        syntax
            .utf8(false)
            .case_insensitive(true)
            .unicode(unicode)
            .dot_matches_new_line(dot_matches_new_line)
            .multi_line(lines)
            .crlf(lines)
            .nest_limit(REGEX_NESTING);
        required::required(self.regex.as_str(), &syntax)
    }

    /// Writes it as an argument of the operator `tilde`, or where that is empty or cannot say it, of `field`.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, tilde: &str, field: &str) -> fmt::Result {
        match self.how {
            How::Regex if tilde.is_empty() => write!(f, "{field}~")?,
            How::Regex => write!(f, "~{tilde} ")?,
            How::Contains | How::Glob => write!(f, "{field}:")?,
            How::Equals => write!(f, "{field}=")?,
        }
        f.write_str("\"")?;
        for c in self.text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A regular expression for a text in which `*` is anything.
fn glob(text: &str, anything: &str) -> String {
    text.split('*').map(regex::escape).collect::<Vec<_>>().join(anything)
}

/// What is said of a pattern beside its text.
struct Flags {
    unicode: bool,
    dot_matches_new_line: bool,
    /// `^` and `$` match at each line.
    lines: bool,
}

impl Flags {
    fn of(how: How, text: &str, of: Text) -> Self {
        let is_text = matches!(of, Text::Marker | Text::Comment | Text::Tag);
        Self {
            unicode: is_text || !text.is_ascii(),
            dot_matches_new_line: matches!(of, Text::Body(_)),
            lines: how == How::Regex && matches!(of, Text::Header(_) | Text::Comment),
        }
    }
}

fn builder(source: &str, how: How, text: &str, of: Text) -> RegexBuilder {
    let Flags { unicode, dot_matches_new_line, lines } = Flags::of(how, text, of);
    let mut builder = RegexBuilder::new(source);
    builder
        .case_insensitive(true)
        .unicode(unicode)
        .dot_matches_new_line(dot_matches_new_line)
        .multi_line(lines)
        .crlf(lines)
        .size_limit(COMPILED_BYTES)
        .dfa_size_limit(COMPILED_BYTES)
        .nest_limit(REGEX_NESTING);
    builder
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.how, &self.text) == (other.how, &other.text)
    }
}

impl Eq for Pattern {}

fn refused(text: &str, error: &regex::Error) -> Problem {
    let python = NOT_LINEAR.iter().any(|look| text.contains(look));
    let reference = text.as_bytes().windows(2).any(|w| w[0] == b'\\' && matches!(w[1], b'1'..=b'9'));
    match error {
        regex::Error::CompiledTooBig(_) => Problem::RegexTooLarge,
        _ if python || reference => Problem::RegexNotLinear,
        // The crate's message draws its own caret; its last line says what is wrong.
        other => {
            let message = other.to_string();
            let last = message.lines().last().unwrap_or_default();
            Problem::Regex(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        }
    }
}

/// What Python's patterns have and ours have not: looking around, and asking for what was found before.
pub(super) const NOT_LINEAR: [&str; 6] = ["(?=", "(?!", "(?<=", "(?<!", "(?P=", "(?("];

/// What a compiled pattern may take, and what its search may keep besides: far beyond what people write.
const COMPILED_BYTES: usize = 1 << 20;

/// Parentheses inside of one another in one pattern.
const REGEX_NESTING: u32 = 64;
