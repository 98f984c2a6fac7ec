//! Recorded requests as programs to paste: Python with requests, JavaScript with fetch. Written only.
//!
//! They send the method, the target, the fields and the body that were recorded, as far as these libraries let a program say:
//! which version of HTTP is spoken, and the fields of the connection, are theirs. Fields of one name are joined, which means
//! the same (RFC 9110 §5.3). Where a library would change a URL or a method that it is given, nothing is written.

mod fetch;
mod python;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::transfer::Format;

/// The rows in the table of formats.
pub(super) const PYTHON: Format = Format {
    name: "python",
    extensions: &["py"],
    about: "Python with requests",
    is_text: true,
    redacts: true,
    asks_only: true,
    encoder: Some(python::make),
    decoder: None,
    sniff: |_| false,
};

/// See [`PYTHON`].
pub(super) const FETCH: Format = Format {
    name: "fetch",
    extensions: &["js", "mjs"],
    about: "JavaScript with fetch, for Node.js and browsers",
    is_text: true,
    redacts: true,
    asks_only: true,
    encoder: Some(fetch::make),
    decoder: None,
    sniff: |_| false,
};

/// All of `body` in base64, in lines, as both languages take it within quotes that may span lines.
fn base64_lines(mut body: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let mut piece = Vec::new();
    loop {
        piece.clear();
        (&mut body).take(LINE).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(());
        }
        writeln!(out, "{}", STANDARD.encode(&piece))?;
    }
}

/// 76 characters (RFC 2045 §6.8).
const LINE: u64 = 57;
