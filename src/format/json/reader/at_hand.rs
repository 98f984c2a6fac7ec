//! Small values, by the parser that makes them: nearly all lie in the buffer whole.

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
}

/// How deep objects and arrays are nested; serde_json has a limit of its own.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
