//! Who may use the proxy: addresses, and credentials (RFC 9110 §11.7, RFC 7617).
//!
//! Credentials are compared in constant time, never recorded and never sent on. What they open is this proxy alone: inside a
//! tunnel, and to a reverse or transparent proxy, whose clients know of no proxy, nobody is asked for any.

mod credentials;
mod htpasswd;
#[cfg(test)]
mod tests;

pub use credentials::{ProxyAuth, ProxyAuthError};
pub use htpasswd::HtpasswdError;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures_util::future::BoxFuture;

use super::error::{Error, Kind};
use crate::flow::{Headers, Network, Side, Stage};

/// Who may use a proxy. By default everybody who reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessOptions {
    /// Who has to say who they are; `None`: nobody has to.
    pub auth: Option<ProxyAuth>,
    /// From where; empty is from anywhere. This machine's loopback addresses are always let in.
    pub allow: Vec<Network>,
    /// Whether neither is needed for listeners that other machines reach.
    pub open: bool,
}

/// The same at work.
#[derive(Debug)]
pub(super) struct Access {
    options: ArcSwap<AccessOptions>,
    /// Addresses that were turned away, so that the log tells each once.
    turned_away: Mutex<HashSet<IpAddr>>,
}

impl Access {
    pub(super) fn new(options: AccessOptions) -> Self {
        Self { options: ArcSwap::from_pointee(options), turned_away: Mutex::default() }
    }

    /// Lets those in from now on whom these let in. Whoever is in stays, until the next request is asked who it is from.
    pub(super) fn change(&self, options: AccessOptions) {
        self.options.store(Arc::new(options));
        self.turned_away.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether clients at this address are served. One that is not is named in the log, once.
    pub(super) fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let options = self.options.load();
        let allow = &options.allow;
        let admitted =
            allow.is_empty() || peer.is_loopback() || allow.iter().any(|network| network.contains(peer));
        if !admitted {
            let mut known = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < MAX_TURNED_AWAY && known.insert(peer) {
                tracing::warn!(client = %peer, "turned away: --allow does not name its address");
            }
        }
        admitted
    }

    /// Whether clients that know of a proxy have to say who they are.
    pub(super) fn asks(&self) -> bool {
        self.options.load().auth.is_some()
    }

    /// Whether user and password are those of somebody who may come in.
    pub(super) async fn knows(&self, user: &[u8], password: &[u8]) -> bool {
        // Held over an await, so no guard of the swap: those are few.
        let options = self.options.load_full();
        match &options.auth {
            Some(auth) => auth.verify(user, password).await,
            None => true,
        }
    }

    /// Checks what a request to an explicit proxy says of who it is from (RFC 9110 §11.7.2).
    ///
    /// # Errors
    /// If that is nothing, nothing that can be understood, or nobody who may come in.
    pub(super) async fn check(&self, headers: &Headers) -> Result<(), Error> {
        if self.asks() { self.asked(headers).await } else { Ok(()) }
    }

    /// On the heap: nearly nobody is asked, and the room would be in the future of each request.
    fn asked<'a>(&'a self, headers: &'a Headers) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let unknown = |message: &str| {
                Err(Error::new(Kind::Unauthorized, Side::Client, Stage::RequestHead, message.to_owned()))
            };
            let mut given = headers.get_all("proxy-authorization");
            let (value, more) = (given.next(), given.next());
            let Some(value) = value else {
                return unknown("this proxy wants user and password (Proxy-Authorization: Basic)");
            };
            if more.is_some() {
                return unknown("more than one Proxy-Authorization field");
            }
            let Some((user, password)) = basic(value) else {
                return unknown("Proxy-Authorization has no user and password of the Basic scheme");
            };
            match self.knows(&user, &password).await {
                true => Ok(()),
                false => unknown("this proxy does not know that user with that password"),
            }
        })
    }
}

/// User and password of the Basic scheme (RFC 7617 §2): cut at the first colon.
fn basic(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked(BASIC.len())?;
    if !scheme.eq_ignore_ascii_case(BASIC) || rest.first() != Some(&b' ') {
        return None;
    }
    let pair = LENIENT.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

const BASIC: &[u8] = b"Basic";
/// With or without `=` at the end: some clients leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// A scan of a network must not fill the memory.
const MAX_TURNED_AWAY: usize = 1024;
