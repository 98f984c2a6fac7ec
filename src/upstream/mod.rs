//! Connections to origins: dialled, verified, and kept between exchanges.

mod dial;
mod origin;
mod pool;
mod race;
mod stream;
#[cfg(test)]
mod tests;

pub use dial::{DialError, DialOptions, Dialed, Dialer};
pub use origin::{Key, OnClose, Origin};
pub use pool::Pool;
pub use stream::{BoxIo, Io, ReadAhead};
