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
    /// The changed text; `None` where nothing is found, nothing comes of it, or it is no text.
    pub(super) fn apply(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(payload).ok()?;
        let changed = self.pattern.replace_all(text, self.by.as_str());
        (changed != text).then(|| changed.into_owned().into_bytes())
    }
}
