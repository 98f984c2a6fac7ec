//! What a text must have in it for a pattern to match: runs of bytes that an index can be asked for.
//!
//! Read from the pattern as the crate `regex` reads it, so classes, alternatives, repetitions and the letters that are equal
//! when case is ignored (`k` and the Kelvin sign) are what they are there.
//!
//! Invariant: a text in which the pattern matches, its ASCII letters made small ([`fold`]), has in it what
//! [`Required`] says. The reverse does not hold: a text that has it may not match.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// A condition on a text whose ASCII letters are small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// None that one could use.
    Nothing,
    /// These bytes occur in it, three at least.
    Bytes(Vec<u8>),
    /// All of these.
    All(Vec<Required>),
    /// At least one of these; without any, no text matches.
    Any(Vec<Required>),
}

/// The bytes of `text` with ASCII letters made small; all others stay, whatever the text's language.
#[must_use]
pub fn fold(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

/// What `source` requires, compiled as `syntax` says. Nothing, for what cannot be read.
pub(super) fn required(source: &str, syntax: &ParserBuilder) -> Required {
    match syntax.build().parse(source) {
        Ok(hir) => part(&hir).required(),
        Err(_) => Required::Nothing,
    }
}

/// What is known of a part of a pattern.
enum Known {
    /// It matches these texts, and no others.
    Texts(Vec<Vec<u8>>),
    /// What it matches has this in it.
    Has(Required),
}

impl Known {
    fn required(self) -> Required {
        match self {
            Self::Has(required) => required,
            // Where one of them is too short, an index cannot leave it out.
            Self::Texts(texts) if texts.iter().any(|text| text.len() < LEAST) => Required::Nothing,
            Self::Texts(texts) => one_of(texts.into_iter().map(Required::Bytes).collect()),
        }
    }
}

fn part(hir: &Hir) -> Known {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Known::Texts(vec![Vec::new()]),
        HirKind::Literal(literal) => Known::Texts(vec![literal.0.iter().map(|&b| fold(b)).collect()]),
        HirKind::Class(class) => texts_of(class).map_or(Known::Has(Required::Nothing), Known::Texts),
        HirKind::Capture(capture) => part(&capture.sub),
        HirKind::Repetition(repetition) => repeated(repetition),
        HirKind::Concat(parts) => in_a_row(parts.iter().map(part)),
        HirKind::Alternation(parts) => alternatives(parts.iter().map(part).collect()),
    }
}

/// The members of a class, if they are few.
fn texts_of(class: &Class) -> Option<Vec<Vec<u8>>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut add = |text: &[u8]| {
        let text: Vec<u8> = text.iter().map(|&b| fold(b)).collect();
        if !texts.contains(&text) {
            texts.push(text);
        }
        (texts.len() <= MOST_TEXTS).then_some(())
    };
    match class {
        Class::Bytes(class) => {
            for range in class.ranges() {
                (range.start()..=range.end()).try_for_each(|byte| add(&[byte]))?;
            }
        }
        Class::Unicode(class) => {
            for range in class.ranges() {
                (range.start()..=range.end())
                    .try_for_each(|char| add(char.encode_utf8(&mut [0; 4]).as_bytes()))?;
            }
        }
    }
    Some(texts)
}

fn repeated(repetition: &Repetition) -> Known {
    let Repetition { min, max, sub, .. } = repetition;
    match (*min, *max) {
        (_, Some(0)) => Known::Texts(vec![Vec::new()]),
        (0, Some(1)) => match part(sub) {
            Known::Texts(mut texts) if texts.len() < MOST_TEXTS => {
                if !texts.iter().any(Vec::is_empty) {
                    texts.push(Vec::new());
                }
                Known::Texts(texts)
            }
            _ => Known::Has(Required::Nothing),
        },
        (0, _) => Known::Has(Required::Nothing),
        (min, max) => match part(sub) {
            Known::Texts(texts) => {
                let copies = (0..min.min(MOST_COPIES)).map(|_| Known::Texts(texts.clone()));
                let more = max != Some(min) || min > MOST_COPIES;
                in_a_row(copies.chain(more.then_some(Known::Has(Required::Nothing))))
            }
            // Several of the same kind say no more than one.
            has => has,
        },
    }
}

fn in_a_row(parts: impl Iterator<Item = Known>) -> Known {
    let mut all = Vec::new();
    let mut whole = true;
    // What the last parts match, if that is known: one text runs over all of them.
    let mut texts = vec![Vec::new()];
    for part in parts {
        match part {
            Known::Texts(next) if fits(&texts, &next) => {
                texts = texts.iter().flat_map(|text| next.iter().map(|n| [&text[..], n].concat())).collect();
            }
            Known::Texts(next) => {
                whole = false;
                all.push(Known::Texts(std::mem::replace(&mut texts, next)).required());
            }
            Known::Has(required) => {
                whole = false;
                all.push(Known::Texts(std::mem::replace(&mut texts, vec![Vec::new()])).required());
                all.push(required);
            }
        }
    }
    if whole {
        return Known::Texts(texts);
    }
    all.push(Known::Texts(texts).required());
    all.retain(|required| *required != Required::Nothing);
    Known::Has(match all.len() {
        0 => Required::Nothing,
        1 => all.remove(0),
        _ => Required::All(all),
    })
}

/// Whether what both match in a row is no more than one wants to write down.
fn fits(texts: &[Vec<u8>], next: &[Vec<u8>]) -> bool {
    let longest = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).max().unwrap_or(0);
    texts.len() * next.len() <= MOST_TEXTS && longest(texts) + longest(next) <= LONGEST_TEXT
}

fn alternatives(parts: Vec<Known>) -> Known {
    let count =
        parts.iter().map(|part| if let Known::Texts(texts) = part { texts.len() } else { MOST_TEXTS });
    if count.sum::<usize>() <= MOST_TEXTS
        && let Some(texts) = parts.iter().map(texts).collect::<Option<Vec<_>>>()
    {
        return Known::Texts(texts.into_iter().flatten().cloned().collect());
    }
    Known::Has(one_of(parts.into_iter().map(Known::required).collect()))
}

fn texts(known: &Known) -> Option<&Vec<Vec<u8>>> {
    if let Known::Texts(texts) = known { Some(texts) } else { None }
}

fn one_of(mut parts: Vec<Required>) -> Required {
    match parts.len() {
        _ if parts.contains(&Required::Nothing) => Required::Nothing,
        1 => parts.remove(0),
        _ => Required::Any(parts),
    }
}

/// In words, for people: `"secret" and ("a.b" or "a,b")`.
impl std::fmt::Display for Required {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |f: &mut std::fmt::Formatter<'_>, parts: &[Required], between: &str| {
            for (i, part) in parts.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { between })?;
                match part {
                    Required::All(_) | Required::Any(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Bytes(bytes) => write!(f, "\"{}\"", String::from_utf8_lossy(bytes)),
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) if parts.is_empty() => f.write_str("what no text has"),
            Self::Any(parts) => joined(f, parts, " or "),
        }
    }
}

/// Shorter runs of bytes are in no index.
const LEAST: usize = 3;

/// Texts that a part of a pattern may match and still be taken as each of them: `[0-9]{2}` is none, `(a|b)c` is.
const MOST_TEXTS: usize = 48;

/// Bytes of such a text. What is longer is taken in pieces.
const LONGEST_TEXT: usize = 256;

/// Copies of a part that has to occur several times.
const MOST_COPIES: u32 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{How, Part, Pattern, Text};
    use super::*;

    fn pattern(how: How, text: &str) -> Pattern {
        Pattern::new(how, text, Text::Body(Part::Either)).unwrap()
    }

    fn told(text: &str) -> String {
        pattern(How::Regex, text).required().to_string()
    }

    #[test]
    fn what_must_occur_is_found() {
        for (text, required) in [
            ("Secret", "\"secret\""),
            ("user=.*token", "\"user=\" and \"token\""),
            ("^GET /(a|b)x$", "\"get /ax\" or \"get /bx\""),
            ("colou?r", "\"colour\" or \"color\""),
            ("(abc|de)f", "\"abcf\" or \"def\""),
            ("(abcd|efg.h)", "\"abcd\" or \"efg\""),
            ("(abc)+", "\"abc\""),
            ("x{3,}", "\"xxx\""),
            ("(ab){2}", "\"abab\""),
            ("[a-z]+ing", "\"ing\""),
            ("id=[0-9]{4}&x=1", "\"id=\" and \"&x=1\""),
            ("ab", "nothing"),
            ("abc|", "nothing"),
            ("abc|d", "nothing"),
            ("a.c", "nothing"),
            (".*", "nothing"),
            ("(abc)*", "nothing"),
            ("(abc){0}", "nothing"),
            ("[^\\s\\S]", "what no text has"),
        ] {
            assert_eq!(told(text), required, "{text}");
        }
        assert_eq!(pattern(How::Contains, "a.b*c").required().to_string(), "\"a.b*c\"");
        // Letters with a third form, outside of ASCII, once the pattern is one of characters.
        assert_eq!(told("ké!"), "\"kÉ!\" or \"ké!\" or \"\u{212a}É!\" or \"\u{212a}é!\"");
    }

    fn has(text: &[u8], required: &Required) -> bool {
        match required {
            Required::Nothing => true,
            Required::Bytes(bytes) => text.windows(bytes.len()).any(|window| window == bytes),
            Required::All(parts) => parts.iter().all(|part| has(text, part)),
            Required::Any(parts) => parts.iter().any(|part| has(text, part)),
        }
    }

    /// Patterns of all that the syntax has, over few letters, so that they match now and then.
    fn any_regex() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(
            &[
                "a", "B", "k", "s", "é", "ß", "ab", "[ab]", "[^a]", ".", "\\w", "\\x61", "^", "$", "\\b",
                "(?i-u:K)", "(?-i:A)", "abc", "Sk",
            ][..],
        );
        leaf.prop_map(str::to_owned).prop_recursive(5, 40, 4, |inner| {
            let many = prop::collection::vec(inner.clone(), 1..4);
            let repeat = prop::sample::select(&["*", "+", "?", "{2}", "{1,3}", "{3,}", "{0}", "+?"][..]);
            prop_oneof![
                many.clone().prop_map(|parts| parts.concat()),
                many.prop_map(|parts| format!("({})", parts.join("|"))),
                (inner, repeat).prop_map(|(part, repeat)| format!("(?:{part}){repeat}")),
            ]
        })
    }

    fn any_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(
            &["a", "b", "A", "B", "k", "K", "\u{212a}", "s", "ſ", "é", "É", "ß", "ẞ", "c", "\n", "ab", "abc"]
                [..],
        );
        let noise = any::<u8>().prop_map(|byte| vec![byte]);
        let piece = prop_oneof![9 => piece.prop_map(|text| text.as_bytes().to_vec()), 1 => noise];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

        #[test]
        fn a_text_that_matches_has_what_is_required(regex in any_regex(), text in any_text()) {
            let Ok(pattern) = Pattern::new(How::Regex, &regex, Text::Body(Part::Either)) else { return Ok(()) };
            let folded: Vec<u8> = text.iter().map(|&b| fold(b)).collect();
            if pattern.is_match(&text) {
                prop_assert!(has(&folded, &pattern.required()), "{}: {}", regex, pattern.required());
            }
        }
    }
}
