//! HTTP/1 on the wire: heads, framing, bodies, and what a hop must change.
//!
//! The core is sans-I/O: bytes in, [`crate::flow`] types out, so that it is tested and fuzzed without sockets;
//! [`Reader`] and [`Writer`] put it on a stream. Parsing is strict (RFC 9112 §6 and §11): where a message can be
//! read in two ways it is refused, never repaired. What goes on is written anew from the parsed form, with exactly
//! one framing field, so that we and the next hop cannot disagree about where a message ends.

mod body;
mod field;
mod framing;
mod head;
mod hop;
mod io;
#[cfg(test)]
mod tests;
mod write;

pub use body::{BodyError, Decoded, Decoder};
pub use field::{BadField, removable_field, remove_field, set_field, settable_field};
pub use framing::{BodyLength, FramingError, request_length, response_length};
pub use head::{HeadError, HeadLimits, Parsed, find_head_end, parse_request, parse_response, parse_trailers};
pub use hop::{Forwarded, is_hop_by_hop, keeps_alive, upgrade_tokens};
pub use io::{ReadError, Reader, Writer};
pub use write::{
    RequestLine, may_trail, received_head, write_fields, write_interim, write_request_head,
    write_response_head,
};
