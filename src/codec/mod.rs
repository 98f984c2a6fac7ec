//! A flow and its connections to and from the stored record (`proto/flow.proto`).
//!
//! Everything in [`crate::flow`] survives the way there and back, with two limits: a flow's connections and the messages
//! of a WebSocket are stored beside it, so of connections only the ids come back (a backup's come back whole); and what
//! is nested deeper than [`MAX_DEPTH`] is cut off, values as null. Decoding never panics, whatever the bytes.

mod decode;
mod encode;
mod plain;
mod wire;

#[cfg(test)]
mod tests;

pub use decode::{
    KnownConns, decode_client_conn, decode_extents, decode_flow, decode_flow_knowing, decode_server_conn,
};
pub use encode::{encode_client_conn, encode_extents, encode_flow, encode_flow_into, encode_server_conn};

/// Levels of nesting that are encoded: values within values, backups within backups. The decoder of prost refuses
/// more than 100 levels of messages, so that a hostile record cannot exhaust the stack.
pub const MAX_DEPTH: usize = 64;

/// Why a stored record could not be read.
#[derive(Debug, thiserror::Error)]
#[error("not a valid record: {}", shortened(&source.to_string()))]
pub struct CodecError {
    #[from]
    source: prost::DecodeError,
}

/// Without its middle if it is long: of a record that is nested deeply, prost names each level.
fn shortened(message: &str) -> String {
    const END: usize = 80;
    let cut = |at: usize| message.char_indices().map(|(i, _)| i).find(|&i| i >= at).unwrap_or(message.len());
    if message.len() <= 3 * END {
        return message.to_owned();
    }
    format!("{} … {}", &message[..cut(END)], &message[cut(message.len() - END)..])
}

/// What prost makes of `proto/flow.proto`.
#[expect(unreachable_pub, reason = "generated; the fields are documented in proto/flow.proto")]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/manent.rs"));
}
