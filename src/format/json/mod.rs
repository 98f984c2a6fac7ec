//! JSON as a stream, read and written piece by piece (RFC 8259): for files that are larger than memory.
//!
//! For values that are known to be small there is serde_json.

mod reader;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use reader::{JsonError, Kind, Mark, Reader};
pub(crate) use writer::Writer;
pub(crate) use writer::fill;
