//! Requests and responses as they were on the wire, one behind the other, both ways.
//!
//! Messages of HTTP/1 are written to the byte, but for the borders of chunks, which are not on record; those of HTTP/2 as a gateway
//! would send them on by HTTP/1.1. A message that ends where its connection closed, or of which bytes are missing, has no end of
//! its own: behind it nothing can be told apart, so nothing is written behind it.

mod decode;
mod encode;
mod parse;
#[cfg(test)]
mod tests;

use super::transfer::Format;

/// The row in the table of formats.
pub(super) const FORMAT: Format = Format {
    name: "raw",
    extensions: &["raw", "http"],
    about: "requests and responses as on the wire, in HTTP/1 syntax",
    is_text: true,
    redacts: false,
    asks_only: false,
    encoder: Some(encode::make),
    decoder: Some(decode::make),
    sniff: parse::sniff,
};
