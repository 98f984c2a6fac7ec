//! curl's command line, both ways: a command that sends the recorded request again, and commands that browsers copy.

mod decode;
mod encode;
mod options;
#[cfg(test)]
mod tests;

use super::transfer::Format;

/// The row in the table of formats.
pub(super) const FORMAT: Format = Format {
    name: "curl",
    extensions: &["curl", "sh"],
    about: "curl commands for sh and bash; reads those that browsers copy (bash and cmd)",
    is_text: true,
    redacts: true,
    asks_only: true,
    encoder: Some(encode::make),
    decoder: Some(decode::make),
    sniff: decode::sniff,
};
