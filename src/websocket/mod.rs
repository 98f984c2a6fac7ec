//! WebSocket on the wire (RFC 6455): what passes in one direction, followed frame by frame.
//!
//! Sans-I/O: [`Tap`] takes the bytes of one direction in any cut and gives [`Event`]s. It looks on and has no say:
//! whatever it thinks of a frame, the bytes go on as they came, so masking keys, fragments, pings and the handshake of
//! the close stay the two ends' own. It does not check that text is UTF-8, nor that pongs answer pings.
//!
//! Payload is given out in pieces as it comes and never put together here: memory does not depend on the length of a
//! message, nor on what it inflates to.

mod extensions;
mod frame;
mod inflate;
mod tap;
#[cfg(test)]
mod tests;

pub use extensions::{Deflate, Extensions};
pub use tap::{Ended, Event, Tap, Violation};

/// Code and reason of a close frame's payload (RFC 6455 §5.5.1): 1005 and nothing if it has none.
#[must_use]
pub fn close_status(payload: &[u8]) -> (u16, &[u8]) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (u16::from_be_bytes(*code), reason),
        None => (NO_STATUS, &[]),
    }
}

/// What is recorded as the code of a close frame without one (RFC 6455 §7.1.5).
pub const NO_STATUS: u16 = 1005;

/// What is recorded as the code where the connection ended without a close frame (RFC 6455 §7.1.5).
pub const ABNORMAL: u16 = 1006;
