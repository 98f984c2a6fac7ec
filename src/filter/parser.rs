//! From text to tree.
//!
//! The grammar is mitmproxy's (blanks between terms bind loosest, then `|`, then `&`, then `!`), without its traps: a word that
//! ends in `|` or `&`, which it takes for part of a regular expression, is refused with the place. A word is a field
//! only if its name is one, so that `localhost:8080` stays a part of a URL.

use std::ops::Range;

use super::atoms::{self, Arg, Atom, Meaning};
use super::error::{FilterError, MAX_DEPTH, MAX_TESTS, MAX_TEXT, Problem, nearest};
use super::pattern::NOT_LINEAR;
use super::{Clock, Expr, How, Number, Pattern, Ranges, Test, Text, units};

/// Reads a filter.
pub(super) fn parse(text: &str, clock: &Clock) -> Result<Expr, FilterError> {
    let mut parser = Parser { text, at: 0, depth: 0, tests: 0, clock };
    if text.len() > MAX_TEXT {
        return Err(FilterError::new(text.get(..80).unwrap_or_default(), 0..0, Problem::TooLong));
    }
    parser.skip_blanks();
    if parser.peek().is_none() {
        return Err(parser.error(0..text.len(), Problem::Empty));
    }
    let expr = parser.sequence()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.expected("an operator or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    tests: usize,
    clock: &'a Clock,
}

/// A comparison between a field and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Colon,
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Longer spellings first.
const COMPARISONS: [(&str, Comparison); 7] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("!=", Comparison::Unequal),
    (">", Comparison::More),
    ("<", Comparison::Less),
    ("=", Comparison::Equal),
    (":", Comparison::Colon),
];

impl<'a> Parser<'a> {
    /// Terms with blanks between them.
    fn sequence(&mut self) -> Result<Expr, FilterError> {
        self.skip_blanks();
        let mut parts = vec![self.either()?];
        loop {
            self.skip_blanks();
            if matches!(self.peek(), None | Some(')')) {
                return Ok(Expr::all(parts));
            }
            parts.push(self.either()?);
        }
    }

    fn either(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.both()?];
        while self.take('|') {
            self.skip_blanks();
            parts.push(self.both()?);
        }
        Ok(Expr::any(parts))
    }

    fn both(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.not()?];
        while self.take('&') {
            self.skip_blanks();
            parts.push(self.not()?);
        }
        Ok(Expr::all(parts))
    }

    fn not(&mut self) -> Result<Expr, FilterError> {
        if !self.take('!') {
            return self.primary();
        }
        self.skip_blanks();
        self.deeper()?;
        let inner = self.not()?;
        self.depth -= 1;
        Ok(Expr::negated(inner))
    }

    fn primary(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        match self.peek() {
            Some('(') => {
                self.at += 1;
                self.deeper()?;
                self.skip_blanks();
                if self.peek() == Some(')') {
                    return Err(self.expected("a term"));
                }
                let inner = match self.sequence() {
                    // What is missing is rather the other parenthesis.
                    Err(error) if error.span.start >= self.text.len() && error.problem.is_end() => {
                        return Err(self.error(start..start + 1, Problem::OpenParenthesis));
                    }
                    inner => inner?,
                };
                self.depth -= 1;
                match self.take(')') {
                    true => Ok(inner),
                    false => Err(self.error(start..start + 1, Problem::OpenParenthesis)),
                }
            }
            Some('~') => self.operator(),
            Some('"' | '\'') => {
                let text = self.quoted()?;
                self.pattern(How::Regex, &text, start..self.at, Text::Url)
            }
            None | Some(')' | '&' | '|') => Err(self.expected("a term")),
            Some(_) => self.word_or_field(),
        }
    }

    /// `~u regex` and so on.
    fn operator(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        self.at += 1;
        let rest = &self.text[self.at..];
        let name_len = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..name_len];
        self.at += name_len;
        let Some(atom) = atoms::by_tilde(name) else {
            let digits = name.find(|c: char| c.is_ascii_digit()).map(|at| name.split_at(at));
            let hint = match digits {
                Some((known, digits)) if atoms::by_tilde(known).is_some() => {
                    Some(format!("~{known} {digits}"))
                }
                _ => nearest(name, atoms::tildes()).map(|known| format!("~{known}")),
            };
            let error = self.error(start..self.at, Problem::UnknownOperator(name.to_owned()));
            return Err(error.or_hint(hint));
        };
        match atom.meaning {
            Meaning::Refused(why) => Err(self.error(start..self.at, Problem::Refused(why.to_owned()))),
            Meaning::Text(text) => {
                self.skip_blanks();
                let (value, span) = self.value("a regular expression")?;
                self.pattern(How::Regex, &value, span, text)
            }
            Meaning::Number(number) => {
                self.skip_blanks();
                let (value, span) = self.value("a number")?;
                let ranges = units::ranges(number, &value);
                self.test(span, ranges.map(|ranges| Test::Number(number, ranges)))
            }
            _ => self.plain(atom, start..self.at),
        }
    }

    /// A word for the URL, or a field with its value.
    fn word_or_field(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        let word = self.word()?;
        let name_len = word.find(|c: char| !is_name(c)).unwrap_or(word.len());
        let (name, rest) = word.split_at(name_len);
        let comparison = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign));
        let known = name.eq_ignore_ascii_case("is") || atoms::by_field(name).is_some();
        if let Some(&(sign, comparison)) = comparison
            && known
        {
            return self.field(start, name, sign, comparison);
        }
        if rest.is_empty()
            && self.peek() == Some('~')
            && let Some(Atom { meaning: Meaning::Text(text), .. }) = atoms::by_field(name)
        {
            self.at += 1;
            let (value, span) = self.value("a regular expression")?;
            return self.pattern(How::Regex, &value, span, *text);
        }
        self.check_word(word, start)?;
        if let Some(&(sign, _)) = comparison
            && let Some(error) = self.unknown_field(start, name, sign, &rest[sign.len()..])
        {
            return Err(error);
        }
        self.pattern(How::Regex, word, start..self.at, Text::Url)
    }

    /// Refuses words that look like something else than a part of a URL.
    fn check_word(&self, word: &str, start: usize) -> Result<(), FilterError> {
        let ambiguous = |hint: String| {
            let error = self.error(start..start + word.len(), Problem::Ambiguous(word.to_owned()));
            Err(error.or_hint(Some(hint)))
        };
        match word.to_ascii_lowercase().as_str() {
            "and" => return ambiguous(format!("& for both, \"{word}\" for a URL with it")),
            "or" => return ambiguous(format!("| for at least one, \"{word}\" for a URL with it")),
            "not" => return ambiguous(format!("! for not, \"{word}\" for a URL with it")),
            _ => {}
        }
        if let Some(rest) = word.strip_prefix('-')
            && let name_len = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())
            && atoms::by_field(&rest[..name_len]).is_some()
            && COMPARISONS.iter().any(|(sign, _)| rest[name_len..].starts_with(sign))
        {
            return ambiguous(format!("!{rest} for not, \"{word}\" for a URL with it"));
        }
        Ok(())
    }

    /// The error for a word like a comparison whose name is no field; `None` where the word may well be part of a URL.
    fn unknown_field(&self, start: usize, name: &str, sign: &str, value: &str) -> Option<FilterError> {
        let near = nearest(name, atoms::fields().chain(["is"])).filter(|near| near.len() > 2);
        let number = value.bytes().all(|b| b.is_ascii_digit());
        let meant = match sign {
            ":" => near.is_some() && !value.starts_with('/') && !(number && value.len() > 3),
            "=" | "!=" => false,
            _ => !name.is_empty(),
        };
        let hint = match near {
            Some(near) => format!("{near}{sign}{value}, or in quotes for a URL with it"),
            None => "in quotes for a URL with it; `manent filter` lists the fields".to_owned(),
        };
        meant.then(|| {
            let error = self.error(start..start + name.len(), Problem::UnknownField(name.to_owned()));
            error.or_hint(Some(hint))
        })
    }

    /// The value of a field whose name and comparison are at `start`.
    fn field(
        &mut self,
        start: usize,
        name: &str,
        sign: &str,
        comparison: Comparison,
    ) -> Result<Expr, FilterError> {
        self.at = start + name.len() + sign.len();
        let atom = atoms::by_field(name);
        let meaning = atom.map(|atom| atom.meaning);
        let allowed = match meaning {
            None | Some(Meaning::After | Meaning::Before) => ":",
            Some(Meaning::Text(_)) => ": = != ~",
            _ => "",
        };
        if !allowed.is_empty() && !allowed.split(' ').any(|one| one == sign) {
            let problem = Problem::Comparison { field: name.to_owned(), allowed };
            return Err(self.error(self.at - sign.len()..self.at, problem));
        }
        let (value, span) = self.value(match meaning {
            Some(Meaning::Text(_)) => "a text",
            Some(Meaning::Number(_)) => "a number",
            Some(Meaning::After | Meaning::Before) => "a time",
            _ => "a property",
        })?;
        match meaning {
            None => match atoms::by_is(&value) {
                Some(atom) => self.plain(atom, span),
                None => {
                    let hint = match nearest(&value, atoms::ises()) {
                        Some(near) => format!("is:{near}"),
                        None => atoms::ises().map(|is| format!("is:{is}")).collect::<Vec<_>>().join(" "),
                    };
                    Err(self.error(span, Problem::UnknownProperty(value)).or_hint(Some(hint)))
                }
            },
            Some(Meaning::Text(text)) => {
                let how = match comparison {
                    Comparison::Colon if value.contains('*') => How::Glob,
                    Comparison::Colon if !text.is_name() => How::Contains,
                    _ => How::Equals,
                };
                let expr = self.pattern(how, &value, span, text)?;
                Ok(if comparison == Comparison::Unequal { Expr::negated(expr) } else { expr })
            }
            Some(Meaning::Number(number)) => {
                let expr = self.test(span, compared(number, comparison, &value))?;
                Ok(if comparison == Comparison::Unequal { Expr::negated(expr) } else { expr })
            }
            Some(Meaning::After | Meaning::Before) => {
                let clock = self.clock;
                let ranges = clock.read(&value).and_then(|at| {
                    let ranges = match meaning {
                        Some(Meaning::After) => Ranges::one(at, i64::MAX),
                        _ => at.checked_sub(1).and_then(|last| Ranges::one(i64::MIN, last)),
                    };
                    ranges.ok_or_else(|| format!("`{value}` is out of range"))
                });
                self.test(span, ranges.map(|ranges| Test::Number(Number::Started, ranges)))
            }
            Some(_) => Err(self.error(span, Problem::UnknownField(name.to_owned()))),
        }
    }

    /// An atom without an argument.
    fn plain(&mut self, atom: &Atom, span: Range<usize>) -> Result<Expr, FilterError> {
        debug_assert_eq!(atom.meaning.arg(), Arg::Nothing);
        let test = match atom.meaning {
            Meaning::Flag(flag) => Test::Flag(flag),
            Meaning::Nothing(what) => Test::Nothing(what),
            _ => Test::Everything,
        };
        self.test(span, Ok(test))
    }

    fn pattern(&mut self, how: How, value: &str, span: Range<usize>, of: Text) -> Result<Expr, FilterError> {
        match Pattern::new(how, value, of) {
            Ok(pattern) => self.test(span, Ok(Test::Text(of, pattern))),
            Err(Problem::RegexNotLinear) => Err(self.not_linear(value, span)),
            Err(problem) => Err(self.error(span, problem)),
        }
    }

    /// Shows the look-around, and says how to do without, where that is `this, and not that behind it`.
    fn not_linear(&self, value: &str, span: Range<usize>) -> FilterError {
        let Some(look) = NOT_LINEAR.iter().find(|look| self.text[span.clone()].contains(**look)) else {
            return self.error(span, Problem::RegexNotLinear);
        };
        let at = span.start + self.text[span.clone()].find(look).unwrap_or(0);
        let mut error = self.error(at..at + look.len(), Problem::RegexNotLinear);
        let parts = value.strip_suffix(')').and_then(|value| value.split_once("(?!"));
        let is_plain = |text: &str| {
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "()'\"&|!".contains(c))
        };
        if let Some((first, then)) = parts.filter(|(first, then)| is_plain(first) && is_plain(then)) {
            let operator =
                self.text[..span.start].split_whitespace().next_back().filter(|word| word.starts_with('~'));
            let operator = operator.map(|operator| format!("{operator} ")).unwrap_or_default();
            error.hint = Some(format!("write it as two terms: {operator}{first} & !{operator}{first}{then}"));
        }
        error
    }

    fn test(&mut self, span: Range<usize>, test: Result<Test, String>) -> Result<Expr, FilterError> {
        self.tests += 1;
        if self.tests > MAX_TESTS {
            return Err(self.error(span, Problem::TooLong));
        }
        match test {
            Ok(test) => Ok(Expr::Test(test)),
            Err(why) => Err(self.error(span, Problem::Value { why })),
        }
    }

    /// A word or a quoted text, with where it stands.
    fn value(&mut self, expected: &str) -> Result<(String, Range<usize>), FilterError> {
        let start = self.at;
        let value = match self.peek() {
            Some('"' | '\'') => self.quoted()?,
            Some('(') => {
                let error = self.expected(expected);
                return Err(error.or_hint(Some("text with parentheses in quotes: \"(a|b)\"".to_owned())));
            }
            None | Some(')' | '~') => return Err(self.expected(expected)),
            Some(c) if c.is_whitespace() => return Err(self.expected(expected)),
            Some(_) => self.word()?.to_owned(),
        };
        Ok((value, start..self.at))
    }

    /// Characters up to a blank or one that must be quoted. Not empty.
    fn word(&mut self) -> Result<&'a str, FilterError> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| c.is_whitespace() || "()~'\"".contains(c)).unwrap_or(rest.len());
        let word = &rest[..len];
        let start = self.at;
        self.at += len;
        if let Some(last) = word.chars().last().filter(|last| matches!(last, '&' | '|')) {
            let place = self.at - 1..self.at;
            let before = &self.text[start..self.at - 1];
            let hint = format!("{before} {last} as an operator, \"{word}\" as a part of the text");
            return Err(self.error(place, Problem::Ambiguous(word.to_owned())).or_hint(Some(hint)));
        }
        Ok(word)
    }

    /// A text in quotation marks. A backslash takes a quotation mark or another backslash as it is, and stands for itself else,
    /// so that `"\d"` and `"\\d"` are the same.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.text[start..].char_indices().peekable();
        let Some((_, quote)) = chars.next() else { return Err(self.expected("a text")) };
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next_if(|&(_, next)| matches!(next, '"' | '\'' | '\\')) {
                    Some((_, escaped)) => text.push(escaped),
                    None => text.push('\\'),
                },
                _ => text.push(c),
            }
        }
        Err(self.error(start..start + 1, Problem::OpenQuote))
    }

    fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(self.error(self.at..self.at, Problem::TooDeep)),
            false => Ok(()),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Skips blanks and then `c`, if it stands there; else nothing.
    fn take(&mut self, c: char) -> bool {
        let rest = self.text[self.at..].trim_start();
        let found = rest.starts_with(c);
        if found {
            self.at = self.text.len() - rest.len() + c.len_utf8();
        }
        found
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    fn error(&self, span: Range<usize>, problem: Problem) -> FilterError {
        FilterError::new(self.text, span, problem)
    }

    /// The error that something else was expected here.
    fn expected(&self, what: &str) -> FilterError {
        let rest = &self.text[self.at..];
        let len = match rest.chars().next() {
            Some(c) if c.is_whitespace() || "()&|!".contains(c) => c.len_utf8(),
            _ => rest.find(|c: char| c.is_whitespace() || "()".contains(c)).unwrap_or(rest.len()),
        };
        let problem = Problem::Expected { expected: what.to_owned(), found: rest[..len].to_owned() };
        self.error(self.at..self.at + len, problem)
    }
}

impl FilterError {
    fn or_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl Problem {
    /// Whether something is missing at the end.
    fn is_end(&self) -> bool {
        matches!(self, Problem::Expected { found, .. } if found.is_empty())
    }
}

/// The numbers that compare so with a value. `!=` gives those that are equal.
fn compared(number: Number, comparison: Comparison, text: &str) -> Result<Test, String> {
    if matches!(comparison, Comparison::Colon | Comparison::Equal | Comparison::Unequal) {
        return units::ranges(number, text).map(|ranges| Test::Number(number, ranges));
    }
    let value = units::value(number, text)?;
    let ranges = match comparison {
        Comparison::Less => Ranges::one(0, value - 1),
        Comparison::AtMost => Ranges::one(0, value),
        Comparison::More => Ranges::one(value.saturating_add(1), i64::MAX),
        _ => Ranges::one(value, i64::MAX),
    };
    ranges.map(|ranges| Test::Number(number, ranges)).ok_or_else(|| format!("nothing is less than `{text}`"))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}
