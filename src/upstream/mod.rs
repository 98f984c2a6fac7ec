//! Connections to origins: dialled, verified, and kept between exchanges.

mod carrier;
mod dial;
mod memo;
mod multiplexed;
mod origin;
mod pool;
mod race;
mod stream;
#[cfg(test)]
mod tests;

pub use carrier::Adopted;
pub use dial::{DialError, DialOptions, Dialed, Dialer};
pub use memo::{Memo, Spoken};
pub use multiplexed::{Allowed, Multiplexed, MultiplexedOptions};
pub use origin::{Connection, Key, OnClose, Origin};
pub use pool::Pool;
pub use stream::{BoxIo, Io, ReadAhead};
