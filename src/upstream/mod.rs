//! Connections to origins.

mod dial;
mod race;
#[cfg(test)]
mod tests;

pub use dial::{DialError, DialOptions, Dialed, Dialer};
