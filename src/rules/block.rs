//! `block`: a request is not sent on.

use super::error::Problem;
use super::spec;
use crate::filter::Filter;

/// What the client of a blocked request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// An answer with this status, 200 to 599.
    Answer(u16),
    /// None: its connection is cut, or in HTTP/2 its stream reset.
    Kill,
}

/// `FILTER`, which is answered with 403, or `/FILTER/STATUS`, or `/FILTER/kill`. 444 is `kill`, too: so it is in mitmproxy.
pub(super) fn parse(text: &str) -> Result<(Option<Filter>, Block), Problem> {
    if !spec::is_split(text) {
        // Blocking everything has to be said.
        let filter =
            if text.trim().is_empty() { Err(Problem::Form { form: FORM }) } else { spec::filter(text) };
        return Ok((filter?, Block::Answer(403)));
    }
    let [filter, answer] = spec::parts(text, FORM)?;
    let block = match answer {
        "kill" | "444" => Block::Kill,
        status => match status.parse() {
            Ok(status @ 200..=599) => Block::Answer(status),
            _ => return Err(Problem::Answer(status.to_owned())),
        },
    };
    Ok((spec::filter(filter)?, block))
}

const FORM: &str = "FILTER, /FILTER/STATUS or /FILTER/kill";
