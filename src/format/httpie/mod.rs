//! Command lines of HTTPie (`http`, `https`) and xh, both ways.
//!
//! HTTPie sends the fields that it is given in their case, and the body to the byte; those that it has a value of its own for
//! (`User-Agent`, `Accept`, `Content-Length`, …) it puts first, the others follow in their order. It speaks HTTP/1.1 only, so requests of HTTP/2 are sent as that. xh takes the same
//! command, but writes names in its own case.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use super::transfer::Format;

/// The row in the table of formats.
pub(super) const FORMAT: Format = Format {
    name: "httpie",
    extensions: &["httpie"],
    about: "HTTPie and xh commands for sh and bash",
    is_text: true,
    redacts: true,
    asks_only: true,
    encoder: Some(encode::make),
    decoder: Some(decode::make),
    sniff: decode::sniff,
};
