//! What an exchange needs of the connection that its request came on, whatever protocol that speaks.

use std::net::IpAddr;
use std::sync::Arc;

use super::origins::Origins;
use super::shared::Shared;
use crate::exchange::Ticker;

/// See the module. The ticker is the exchange's own while it lasts.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) ticker: &'a mut Ticker,
    pub(super) shared: &'a Arc<Shared>,
    /// Our end of it.
    pub(super) local: IpAddr,
    pub(super) origins: &'a Origins,
}
