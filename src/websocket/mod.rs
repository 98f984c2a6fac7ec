//! WebSocket on the wire (RFC 6455): what passes in one direction, followed frame by frame.
//!
//! Sans-I/O: [`Tap`] takes the bytes of one direction in any cut and gives [`Event`]s. It looks on and has no say:
//! whatever it thinks of a frame, the bytes go on as they came, so masking keys, fragments, pings and the handshake of
//! the close stay the two ends' own. Text that is not UTF-8 is told at its end, but breaks no rule of the frames; that pongs
//! answer pings is not checked.
//!
//! Payload is given out in pieces as it comes and never put together here: memory does not depend on the length of a
//! message, nor on what it inflates to.

mod assemble;
mod deflate;
mod extensions;
mod frame;
mod inflate;
mod tap;
#[cfg(test)]
mod tests;
mod utf8;
mod write;

use base64::Engine as _;

pub use assemble::{Assembler, Piece};
pub use deflate::Deflater;
pub use extensions::{Deflate, Extensions};
pub use tap::{Ended, Event, Tap, Violation};
pub use write::{FrameWriter, put_message, unmasked_head};

/// Code and reason of a close frame's payload (RFC 6455 §5.5.1): 1005 and nothing if it has none.
#[must_use]
pub fn close_status(payload: &[u8]) -> (u16, &[u8]) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (u16::from_be_bytes(*code), reason),
        None => (NO_STATUS, &[]),
    }
}

/// The proof that a handshake with this key was understood (RFC 6455 §4.2.2).
#[must_use]
pub fn accept(key: &[u8]) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finish())
}

/// What is wrong with the code in a close frame; `None` where it may be sent (RFC 6455 §7.4 and its registry at IANA).
#[must_use]
pub fn close_code_fault(code: u16) -> Option<&'static str> {
    match code {
        0..=999 => Some("no code below 1000 is used"),
        NO_STATUS | ABNORMAL | 1015 => Some("a code that is never to be sent"),
        1004 | 1016..=2999 => Some("a code that has no meaning yet"),
        1000..=1015 | 3000..=4999 => None,
        5000.. => Some("no code above 4999 is used"),
    }
}

/// What is recorded as the code of a close frame without one (RFC 6455 §7.1.5).
pub const NO_STATUS: u16 = 1005;

/// What is recorded as the code where the connection ended without a close frame (RFC 6455 §7.1.5).
pub const ABNORMAL: u16 = 1006;
