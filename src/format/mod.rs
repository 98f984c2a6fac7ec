//! Recorded messages in the shapes of other tools and for people's eyes.

pub mod charset;
pub mod coding;
mod formats;
pub mod grpc;
mod har;
mod json;
pub mod redact;
pub mod transfer;

pub use formats::{FORMATS, SNIFFED_BYTES, by_extension, by_name, sniff};
