//! HTTP/2 on the wire (RFC 9113), as the record and the relay need it.
//!
//! Frames, HPACK and flow control are those of the `h2` crate, which is hyper's HTTP/2: used without hyper on top of it,
//! since hyper relays no 1xx and gives back flow-control credit before we have passed the bytes on. Here are the heads in
//! [`crate::flow`]'s types, the two ends of a body, a stream as plain bytes for what is tunnelled in one, errors in words,
//! and a look at the frames that are sent, since the crate refuses some requests without telling.
//!
//! What it cannot keep, and the record therefore normalises: fields of one name stand together, at the place of the
//! first; the order of the pseudo-header fields, padding, priorities and what HPACK chose are lost.

mod body;
mod cork;
mod duplex;
mod error;
mod gather;
mod head;
mod watch;

pub use body::{BodyReader, BodyWriter, Part, Refused};
pub use cork::{Cork, Corked};
pub use duplex::Duplex;
pub use error::{code, explain, is_unprocessed};
pub use gather::{Active, Entered, Gather};
pub use head::{
    HeadError, RequestHead, fields, interim, names, request, request_head, request_with, response,
    response_head, response_with,
};
pub use watch::{Verdict, Verdicts, Watch};

/// What every HTTP/2 connection begins with on the client's side (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer may send on one stream before we have passed it on: enough for 80 Mbit/s at a round trip of 100 ms.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all streams of a connection: it takes 16 stalled ones to stall the others.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// Streams of one connection at a time, where the origin does not allow fewer: what RFC 9113 §6.5.2 recommends at least.
pub const MAX_STREAMS: u32 = 100;

/// Bytes of one stream that may wait in the connection for being sent.
pub const SEND_BUFFER: usize = 256 * 1024;
