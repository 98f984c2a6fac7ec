//! HAR 1.2, the HTTP archive of browsers' developer tools, written and read in constant memory.
//!
//! What is written is made for other tools first: `content.text` is the body as browsers write it, its content-codings undone,
//! as text in UTF-8 or else in base64; WebSockets are written as Chrome writes them. What HAR has no room for stands in one
//! member `_manent` of each entry, which others skip, so that an archive of ours comes back as it was: where `content.text` does
//! not give the recorded bytes back (they were compressed, or in another charset), `_manent.bodies` has them as they were. That
//! costs a third more than the compressed body; the other way round, the coded body in `content.text`, no tool could read. Facts
//! of a connection stand in each entry, so that entries can be picked out and still be whole, but for its certificates: in its
//! first entry alone.
//!
//! What is read is what browsers and proxies write, with their faults; a broken entry costs that entry.
//!
//! Standard: HAR 1.2 (the draft of the W3C's web performance group, and the text by Jan Odvarko that it was made from).

mod build;
mod build_messages;
mod conns;
mod content;
mod cookie;
mod date;
mod decode;
mod encode;
mod entry;
mod extra;
mod fields;
mod foreign;
mod message;
mod param;
mod recode;
mod restore;
mod seen;
mod spool;
mod theirs;
mod typed;
mod url;
mod web_socket;

#[cfg(test)]
mod tests;

use std::io::BufRead;

use super::transfer::{Decoder, EncodeOptions, Encoder, Format};

/// Its row in the table of formats.
pub(crate) const FORMAT: Format = Format {
    name: "har",
    extensions: &["har", "zhar"],
    about: "HTTP archive of browsers and proxies (HAR 1.2)",
    is_text: true,
    redacts: true,
    asks_only: false,
    encoder: Some(encoder),
    decoder: Some(decoder),
    sniff,
};

fn encoder(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(encode::HarEncoder::default())
}

fn decoder(file: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    Box::new(decode::HarDecoder::new(file))
}

/// Whether it is an object that begins with `log`, or has entries before long.
fn sniff(beginning: &[u8]) -> bool {
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
    let Some(inside) = text.strip_prefix(b"{") else { return false };
    let inside = inside.trim_ascii_start();
    inside.starts_with(b"\"log\"") || inside.starts_with(b"\"entries\"")
}
