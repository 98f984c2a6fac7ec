//! `ws-drop`: messages of WebSockets are not sent on.

use regex::bytes::Regex;

use super::error::Problem;
use super::messages::{Who, pattern};
use super::spec;
use crate::filter::Filter;

/// `/FILTER/WHO/REGEX`: whose messages, text or binary, and what is found in them.
pub(super) fn parse(text: &str) -> Result<(Option<Filter>, Who, Regex), Problem> {
    let [filter, who, regex] = spec::parts(text, "/FILTER/client|server|any/REGEX")?;
    Ok((spec::filter(filter)?, Who::parse(who)?, pattern(regex)?))
}
