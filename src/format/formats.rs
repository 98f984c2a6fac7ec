//! The table of formats: which there are, and which one a file is in.

use super::transfer::Format;
use super::{curl, har, httpie, jsonl, mitmproxy, pcapng, raw, snippet};

/// All formats, in the order in which a file is tried for them: those that are told with certainty first.
pub const FORMATS: &[Format] = &[
    mitmproxy::MITMPROXY,
    har::FORMAT,
    jsonl::FORMAT,
    curl::FORMAT,
    httpie::FORMAT,
    raw::FORMAT,
    snippet::PYTHON,
    snippet::FETCH,
    pcapng::FORMAT,
];

/// How many bytes at the beginning of a file tell its format.
pub const SNIFFED_BYTES: usize = 64 << 10;

/// The format of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The format that a file's name means by its ending, in any case; that of a compressed one by the ending before.
#[must_use]
pub fn by_extension(name: &str) -> Option<&'static Format> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let (_, ending) = name.rsplit_once('.')?;
    FORMATS.iter().find(|format| format.extensions.contains(&ending))
}

/// The format that a file is in by its first bytes, decompressed; the first [`SNIFFED_BYTES`] are enough.
#[must_use]
pub fn sniff(beginning: &[u8]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.decoder.is_some() && (format.sniff)(beginning))
}
