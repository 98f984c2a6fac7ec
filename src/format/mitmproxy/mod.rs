//! mitmproxy's flow files: read in versions 0.11 to 21, written in version 21.
//!
//! A file is tnetstrings one after the other (`LENGTH:PAYLOAD TAG`), one a flow, without header, separator or index. A flow is
//! a dict of what mitmproxy's objects hold. Files are read and written in one pass and in little memory: bodies and messages
//! go by in pieces.
//!
//! What is written is always what mitmproxy's loader takes, which refuses a file for one key too many. What of a flow has
//! no field there goes into its free metadata (`mid`, `tags`, `manent`). What of a file has no field in our record is kept in
//! [`crate::flow::Imported`], so that a file of version 21 that is imported is exported as the same bytes.
//!
//! It deliberately does not keep: spellings that mitmproxy would not write (`007` for a number), the state before an edit
//! where that is larger than 8 MiB, and the borders of more than half a million messages of one TCP flow.

mod conns;
mod convert;
mod extras;
mod file;
mod frames;
mod messages;
mod moments;
mod node;
mod number;
mod pem;
mod reader;
mod record;
mod rows;
mod schema;
mod seen;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod uuid;
mod value;
mod writer;

use std::io::BufRead;

use super::transfer::{Decoder, EncodeOptions, Encoder, Format};

/// The format.
pub(super) const MITMPROXY: Format = Format {
    name: "mitmproxy",
    extensions: &["mitm", "flow", "flows"],
    about: "mitmproxy's flow files",
    is_text: false,
    redacts: false,
    asks_only: false,
    encoder: Some(encoder),
    decoder: Some(decoder),
    sniff: source::looks_like_flow,
};

fn encoder(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::<writer::FlowWriter>::default()
}

fn decoder(file: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    Box::new(file::FlowFile::new(file))
}
