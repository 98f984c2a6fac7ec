//! Connections to origins: dialled, verified, and kept between exchanges.

mod dial;
mod origin;
mod pool;
mod race;
#[cfg(test)]
mod tests;

pub use dial::{DialError, DialOptions, Dialed, Dialer};
pub use origin::{BoxIo, Io, Key, OnClose, Origin, Prefixed};
pub use pool::Pool;
