//! HTTP/2 as raw frames, for both roles: what no library would send, and what none would show.

mod conn;
mod either;
mod frame;
pub(crate) mod hpack;
mod huffman;
mod legs;
mod static_table;
#[cfg(test)]
mod tests;
mod wait;

pub(crate) use conn::{Event, H2, PREFACE};
pub(crate) use either::{End, Got, Say};
pub(crate) use frame::{ACK, END_HEADERS, END_STREAM, Frame, MORE, PADDED, code, setting};
pub(crate) use legs::{COMBINATIONS, NAME, Speaks};
pub(crate) use wait::Refusal;

/// Types of frames.
pub(crate) mod kind {
    pub(crate) use super::frame::{
        DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    };
}
