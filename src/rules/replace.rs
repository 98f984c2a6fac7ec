//! `ws-replace`: text in messages of WebSockets is changed.

use regex::Regex;

use super::error::Problem;
use super::messages::{Who, bad_pattern};
use super::spec;
use crate::filter::Filter;

/// A change to texts.
#[derive(Debug, Clone)]
pub(super) struct Replace {
    pattern: Regex,
    by: String,
}

/// `/FILTER/WHO/REGEX/TEXT`: whose messages, what is looked for, and what each of it becomes (`$1` is what the first
/// parentheses found, `$$` a dollar).
pub(super) fn parse(text: &str) -> Result<(Option<Filter>, Who, Replace), Problem> {
    let [filter, who, pattern, by] = spec::parts(text, "/FILTER/client|server|any/REGEX/TEXT")?;
    let regex = Regex::new(pattern).map_err(|error| bad_pattern(pattern, &error))?;
    Ok((spec::filter(filter)?, Who::parse(who)?, Replace { pattern: regex, by: by.to_owned() }))
}

impl Replace {
    /// The changed text; `None` where nothing is found, nothing or too much comes of it, or it is no text.
    pub(super) fn apply(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(payload).ok()?;
        let (mut changed, mut at) = (String::new(), 0);
        for found in self.pattern.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            changed.push_str(&text[at..whole.start()]);
            found.expand(&self.by, &mut changed);
            at = whole.end();
            if changed.len() > MOST_MADE {
                return None;
            }
        }
        changed.push_str(&text[at..]);
        (changed.len() <= MOST_MADE && changed != text).then(|| changed.into_bytes())
    }
}

/// Bytes of text that are made of a message. A short text for each of many matches is soon a thousand times as long as what
/// came, and the peer says how many there are; four times the longest message that is held is arbitrary.
const MOST_MADE: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_in_and_what_is_not_found_stays() {
        let (_, _, replace) = parse("//any/(a)(b?)/[$2$$$1]").unwrap();
        assert_eq!(replace.apply("xaby a é".as_bytes()).unwrap(), "x[b$a]y [$a] é".as_bytes());
        assert_eq!(replace.apply(b"xyz"), None);
        let (_, _, nothing) = parse("//any/x*/-").unwrap();
        assert_eq!(nothing.apply(b"axb").unwrap(), b"-a-b-");
    }

    #[test]
    fn a_text_does_not_grow_without_end() {
        let (_, _, replace) = parse(&format!("//any/a/{}", "b".repeat(1000))).unwrap();
        assert_eq!(replace.apply(&[b'a'; 10_000]).unwrap().len(), 10_000_000);
        assert_eq!(replace.apply(&[b'a'; 20_000]), None);
    }
}
