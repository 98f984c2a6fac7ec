//! Header fields as an archive has them: names and values as text, and the bytes beside them where they are no UTF-8.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::flow::Headers;
use crate::format::json::Writer;

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
