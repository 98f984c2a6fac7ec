//! Recorded messages in the shapes of other tools and for people's eyes.

mod ask;
mod asked;
mod base64;
pub mod charset;
pub mod coding;
mod curl;
mod formats;
pub mod grpc;
mod har;
mod head;
mod httpie;
mod json;
pub mod jsonl;
mod mitmproxy;
mod pcapng;
mod raw;
pub mod redact;
#[cfg(test)]
mod sample;
pub(crate) mod shell;
mod snippet;
pub mod transfer;
pub mod visible;

pub use formats::{FORMATS, SNIFFED_BYTES, by_extension, by_name, sniff};
