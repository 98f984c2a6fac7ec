//! Looking into bodies: as bytes, and as text of their charset.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::super::texts::{KEPT_BYTES, Seen, Texts};
use super::super::{Reader, StoreError};
use crate::filter::{Part, Pattern};
use crate::flow::{Flow, Mid};

/// Searches bodies of a store.
#[derive(Debug)]
pub(super) struct Bodies<'a> {
    texts: Texts<'a>,
    /// The text, where its charset is not UTF-8.
    decoded: String,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(reader: &'a Reader, max: u64) -> Self {
        Self { texts: Texts::new(reader, max), decoded: String::new() }
    }

    /// Whether a body of the flow, or the payload of a message of its WebSocket, matches. What was not recorded does not.
    /// Sets `damaged` if something could not be read; what could be read of it is searched.
    pub(super) fn contain(
        &mut self,
        flow: &Flow,
        mid: Mid,
        part: Part,
        pattern: &Pattern,
        damaged: &Cell<bool>,
    ) -> Result<bool, StoreError> {
        let (max, decoded) = (self.texts.max(), &mut self.decoded);
        let mut see = |seen: Seen<'_>| match matches(&seen, max, pattern, decoded) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        Ok(self.texts.each(flow, mid, part, damaged, &mut see)?.is_break())
    }
}

/// Searches a body as bytes, and where those would not show what is meant, as text.
fn matches(seen: &Seen<'_>, max: usize, pattern: &Pattern, decoded: &mut String) -> bool {
    if pattern.is_match(seen.bytes) {
        return true;
    }
    // A pattern of ASCII finds in Latin-1, Shift JIS and their like what it finds in UTF-8.
    let charset = seen.charset.filter(|charset| !charset.is_ascii_compatible() || !pattern.text().is_ascii());
    let Some(charset) = charset else { return false };
    charset.decode(seen.bytes, max, decoded);
    let answer = pattern.is_match(decoded.as_bytes());
    decoded.clear();
    decoded.shrink_to(KEPT_BYTES);
    answer
}
