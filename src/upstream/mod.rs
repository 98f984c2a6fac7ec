//! Connections to origins.

mod dial;
mod race;

pub use dial::{DialError, DialOptions, Dialed, Dialer};
