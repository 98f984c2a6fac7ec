//! `ws-inject`: messages of ours on WebSockets, at their beginning or as an answer.

use bytes::Bytes;
use regex::bytes::Regex;

use super::error::Problem;
use super::messages::{End, Injection, pattern};
use super::spec;
use crate::filter::Filter;

/// A message to be made.
#[derive(Debug, Clone)]
pub(super) struct Inject {
    to: End,
    /// After which messages; `None`: as soon as the WebSocket is open.
    after: Option<Regex>,
    text: Bytes,
}

/// `/FILTER/TO/REGEX/TEXT`: who gets it, after which messages of either end (as soon as it is open, if that is empty), and
/// the text.
pub(super) fn parse(text: &str) -> Result<(Option<Filter>, Inject), Problem> {
    let [filter, to, after, text] = spec::parts(text, "/FILTER/client|server/REGEX/TEXT")?;
    let to = match to {
        "client" => End::Client,
        "server" => End::Server,
        _ => return Err(Problem::End(to.to_owned(), "client, server")),
    };
    let after = if after.is_empty() { None } else { Some(pattern(after)?) };
    Ok((spec::filter(filter)?, Inject { to, after, text: Bytes::copy_from_slice(text.as_bytes()) }))
}

impl Inject {
    pub(super) fn at_open(&self, rule: usize) -> Option<Injection> {
        self.after.is_none().then(|| self.injection(rule))
    }

    pub(super) fn after(&self, rule: usize, payload: &[u8]) -> Option<Injection> {
        let is_due = self.after.as_ref().is_some_and(|pattern| pattern.is_match(payload));
        is_due.then(|| self.injection(rule))
    }

    fn injection(&self, rule: usize) -> Injection {
        Injection { to: self.to, text: self.text.clone(), rule }
    }
}
