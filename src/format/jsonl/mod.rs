//! JSON lines, our own: a flow is one object, with everything that the record holds. `proto/flow.schema.json` tells its shape.
//!
//! The keys are those of `manent show --json`, which is made of the same [`flow`]. Bodies and messages are in it whole, piece by
//! piece, so that a line may be longer than memory. Written and read again, a flow is equal to what it was, but for the places
//! where its bodies lie.

mod decode;
mod encode;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use super::transfer::Format;

pub use shape::{bytes, flow, headers, utc};

/// The row in the table of formats.
pub(super) const FORMAT: Format = Format {
    name: "jsonl",
    extensions: &["jsonl", "ndjson"],
    about: "JSON lines, one flow a line, with everything that is on record (proto/flow.schema.json)",
    is_text: true,
    redacts: false,
    asks_only: false,
    encoder: Some(encode::make),
    decoder: Some(decode::make),
    sniff,
};

/// The first key of each line is the mid, which is no key of other formats.
fn sniff(beginning: &[u8]) -> bool {
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
    let Some(object) = text.strip_prefix(b"{") else { return false };
    let Some(rest) = object.trim_ascii_start().strip_prefix(b"\"mid\"") else { return false };
    rest.windows(6).any(|at| at == b"\"kind\"")
}
