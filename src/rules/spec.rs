//! How rules are spelled: as mitmproxy's are, with parts between signs of which the first one is any.
//!
//! `/FILTER/404` and `|FILTER|404` are the same, so a filter with a slash in it needs no escape. A filter that is empty is
//! one of every flow. Unlike mitmproxy's, no part can be left out: what `/a/b` means depends on nothing but the flag.

use super::error::Problem;
use crate::filter::Filter;

/// The parts of a rule in this `form`, the last of which may hold the sign.
pub(super) fn parts<'a, const N: usize>(text: &'a str, form: &'static str) -> Result<[&'a str; N], Problem> {
    let wrong = || Problem::Form { form };
    let sign = text.chars().next().filter(|&c| is_sign(c)).ok_or_else(wrong)?;
    let parts: Vec<&str> = text[sign.len_utf8()..].splitn(N, sign).collect();
    parts.try_into().map_err(|_| wrong())
}

/// Whether a text begins with a sign that separates, and is no plain filter, time or field.
pub(super) fn is_split(text: &str) -> bool {
    text.chars().next().is_some_and(is_sign)
}

/// What begins neither a name, a number nor a filter.
fn is_sign(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace() && !c.is_control() && !"~!(\"'*._-".contains(c)
}

/// The filter of a rule; `None` for every flow.
pub(super) fn filter(text: &str) -> Result<Option<Filter>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(text).map_err(|error| Problem::Filter(Box::new(error)))?;
    let filter = filter.at_request().map_err(|(test, why)| Problem::TooEarly { test, why })?;
    Ok(Some(filter))
}
