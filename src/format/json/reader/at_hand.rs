//! What lies in the buffer whole, as nearly all small values do: made by serde_json's parser, or known as it stands.

use std::io::Read;

use serde_json::Value;

use super::{MAX_DEPTH, Reader};

impl<R: Read> Reader<R> {
    /// The value that stands next, with the length of its text, if all of it is at hand, and serde_json takes it; else it stays
    /// to be read. Quicker than to make it of what [`Reader::raw`] gives.
    pub(crate) fn value_at_hand(&mut self) -> Option<(Value, usize)> {
        let rest = self.rest();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let len = values.byte_offset();
        // What ends with the buffer may go on behind it.
        let is_whole = len < rest.len() && self.frames.len() + depth(&value) <= MAX_DEPTH;
        is_whole.then(|| {
            self.at += len;
            (value, len)
        })
    }

    /// The text that follows, as far as it was read.
    #[must_use]
    pub(crate) fn at_hand(&self) -> &[u8] {
        self.rest()
    }

    /// Passes over `text`, an object or an array that was read before, if it stands next; whether it did.
    pub(crate) fn pass(&mut self, text: &[u8]) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// The text from `position` up to here; `None` if its beginning is not in the buffer any more.
    #[must_use]
    pub(crate) fn text_since(&self, position: u64) -> Option<&[u8]> {
        let begin = usize::try_from(position.checked_sub(self.origin)?).ok()?;
        self.buffer.get(begin..self.at)
    }
}

/// How deep objects and arrays are nested; serde_json has a limit of its own.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
