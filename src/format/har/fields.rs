//! Header fields as an archive has them: names and values as text, and the bytes beside them where they are no UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::flow::Headers;
use crate::format::json::Writer;

/// Fields on their way to be [`Headers`].
pub(super) struct Fields {
    text: Vec<u8>,
    ranges: Vec<(Range<usize>, Range<usize>)>,
}

impl Fields {
    /// With room for a usual head.
    pub(super) fn new() -> Self {
        Self { text: Vec::with_capacity(1024), ranges: Vec::with_capacity(16) }
    }

    /// Adds one at the end.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        let begin = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.ranges.push((begin..middle, middle..self.text.len()));
    }
}

impl From<Fields> for Headers {
    fn from(Fields { text, ranges }: Fields) -> Self {
        Headers::from_ranges(text.into(), ranges.into_iter())
    }
}

/// Writes an array of `{"name": …, "value": …}`.
pub(super) fn write(json: &mut Writer<'_>, headers: &Headers) {
    json.open_array();
    for (name, value) in headers.iter() {
        json.open();
        text_or_bytes(json, "name", NAME_BYTES, name);
        text_or_bytes(json, "value", VALUE_BYTES, value);
        json.close();
    }
    json.close_array();
}

/// Writes a member as text, and beside it `exact`, in base64, where that would lose something.
pub(super) fn text_or_bytes(json: &mut Writer<'_>, name: &str, exact: &str, bytes: &[u8]) {
    let text = text(bytes);
    json.name(name).text(&text);
    if matches!(text, Cow::Owned(_)) {
        json.name(exact).text(&STANDARD.encode(bytes));
    }
}

/// Bytes of a head as text: UTF-8, else ISO 8859-1, as browsers show them. Borrowed only where it loses nothing.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// Beside `name`: its bytes in base64, where they are no UTF-8.
pub(super) const NAME_BYTES: &str = "_nameBytes";

/// The same of `value`.
pub(super) const VALUE_BYTES: &str = "_valueBytes";
