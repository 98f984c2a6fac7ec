//! Why a text is no filter: where, and what was expected there, with a caret for people.

use std::fmt;
use std::ops::Range;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FilterError {
    /// The filter as it was given.
    pub text: String,
    /// The bytes of `text` that are wrong; empty at a place where something is missing.
    pub span: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
    /// What would be right, if that can be guessed.
    pub hint: Option<String>,
}

/// What is wrong in a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is nothing but blanks.
    Empty,
    /// Something else was expected at the place.
    Expected {
        /// What was expected: a noun with its article.
        expected: String,
        /// What stands there, as written; empty at the end.
        found: String,
    },
    /// No operator is called so.
    UnknownOperator(String),
    /// No field is called so.
    UnknownField(String),
    /// Nothing is called so after `is:`.
    UnknownProperty(String),
    /// The comparison makes no sense for the field.
    Comparison {
        /// The field.
        field: String,
        /// Those that do.
        allowed: &'static str,
    },
    /// A value is not what its field takes.
    Value {
        /// What is wrong with it, or what was expected.
        why: String,
    },
    /// A word that could be taken for an operator.
    Ambiguous(String),
    /// It cannot be asked: why.
    Refused(String),
    /// A quotation mark has no counterpart.
    OpenQuote,
    /// A parenthesis has no counterpart.
    OpenParenthesis,
    /// A regular expression is malformed: how.
    Regex(String),
    /// A regular expression wants what cannot be had in linear time.
    RegexNotLinear,
    /// A regular expression becomes too large.
    RegexTooLarge,
    /// Parentheses and `!` are nested too deeply.
    TooDeep,
    /// The text is too long, or asks too many questions.
    TooLong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Empty => f.write_str("the filter is empty"),
            Problem::Expected { expected, found } if found.is_empty() => {
                write!(f, "{expected} was expected, and the filter ends")
            }
            Problem::Expected { expected, found } if found.trim().is_empty() => {
                write!(f, "{expected} was expected right here, not a blank")
            }
            Problem::Expected { expected, found } => write!(f, "{expected} was expected, not `{found}`"),
            Problem::UnknownOperator(name) => write!(f, "there is no operator `~{name}`"),
            Problem::UnknownField(name) => write!(f, "there is no field `{name}`"),
            Problem::UnknownProperty(name) => write!(f, "there is no property `is:{name}`"),
            Problem::Comparison { field, allowed } => write!(f, "`{field}` is compared with {allowed}"),
            Problem::Value { why } | Problem::Refused(why) => f.write_str(why),
            Problem::Ambiguous(word) => write!(f, "`{word}` could mean two things"),
            Problem::OpenQuote => f.write_str("this quotation mark is not closed"),
            Problem::OpenParenthesis => f.write_str("this parenthesis is not closed"),
            Problem::Regex(why) => write!(f, "this is no regular expression: {why}"),
            Problem::RegexNotLinear => f.write_str(
                "look-around and back-references are not supported: a search must take linear time, whatever the pattern",
            ),
            Problem::RegexTooLarge => f.write_str("this regular expression becomes too large"),
            Problem::TooDeep => write!(f, "more than {MAX_DEPTH} levels are nested"),
            Problem::TooLong => {
                write!(f, "a filter has at most {MAX_TEXT} bytes and {MAX_TESTS} terms")
            }
        }
    }
}

impl FilterError {
    pub(super) fn new(text: &str, span: Range<usize>, problem: Problem) -> Self {
        Self { text: text.to_owned(), span, problem, hint: None }
    }

    /// The filter, and below it carets under the place. A long filter is shown around the place alone. No control characters.
    #[must_use]
    pub fn caret(&self) -> [String; 2] {
        caret(&self.text, &self.span)
    }
}

/// `text`, one line, and below it carets under the bytes in `span`. A long text is shown around the place alone. No control characters.
pub(crate) fn caret(text: &str, span: &Range<usize>) -> [String; 2] {
    let place = |at: usize| text.get(..at).map_or(0, |before| before.chars().count());
    let (start, end) = (place(span.start), place(span.end));
    let first = start.saturating_sub(SHOWN / 2);
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().skip(first).take(SHOWN).map(shown).collect();
    let total = text.chars().count();
    if first > 0 {
        line.insert(0, '…');
    }
    if total > first + SHOWN {
        line.push('…');
    }
    let indent = start - first + usize::from(first > 0);
    let width = end.saturating_sub(start).clamp(1, SHOWN.saturating_sub(start - first).max(1));
    [line, format!("{}{}", " ".repeat(indent), "^".repeat(width))]
}

/// The name among `known` that is nearest to `name`, if it is near enough to be meant: one slip, or two in a long one.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let allowed = if name.chars().count() >= 6 { 2 } else { 1 };
    let near = known.map(|known| (distance(&name, known), known));
    near.filter(|&(slips, known)| slips <= allowed && slips < known.len()).min().map(|(_, known)| known)
}

/// How many characters must be put in, left out, changed or swapped with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONGEST_NAME).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            rows[i][j] = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

/// Nobody types more; a page of the same length that makes a filter of clicks neither.
pub(super) const MAX_TEXT: usize = 8192;

/// Each may hold a compiled pattern.
pub(super) const MAX_TESTS: usize = 128;

/// Reading, printing and asking a filter are recursive.
pub(super) const MAX_DEPTH: usize = 64;

/// Characters of a filter around the place.
const SHOWN: usize = 72;

/// No name is longer.
const LONGEST_NAME: usize = 32;
