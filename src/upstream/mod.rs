//! Connections to origins: dialled, directly or through an upstream proxy, verified, and kept between exchanges.

mod carrier;
mod dial;
mod link;
mod lookup;
mod memo;
mod multiplexed;
mod origin;
mod pool;
mod race;
mod stream;
#[cfg(test)]
mod tests;
mod via;

pub use carrier::Adopted;
pub use dial::{DialError, DialOptions, Dialed, Dialer, Passage};
pub use link::Link;
pub use memo::{Memo, Spoken};
pub use multiplexed::{Allowed, Multiplexed, MultiplexedOptions};
pub use origin::{Connection, Key, OnClose, Origin};
pub use pool::Pool;
pub use stream::{BoxIo, Io, ReadAhead};
pub use via::{NoProxy, NoProxyError, UpstreamProxy, UpstreamProxyError, Via, ViaScheme, absolute_form};
