//! The seam for a page of our own: what is answered to who asks for the name that stands for the proxy, or opens its port as
//! if it were a web server.
//!
//! Nothing is dialled for such a request, and it is no flow: it goes to no origin, and a list of flows is to show the traffic
//! of a client, not how it was set up. Only exact names count, on the default ports: an IP address of a listener,
//! `localhost`, or the one name that was chosen. A name that merely leads to us, as a page on the web can make one do, gets
//! the refusal that it has always got.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Error, Kind};
use super::mode::explicit::Route;
use super::serve::{Scope, Tunneled};
use super::shared::Shared;
use crate::flow::{ClientConn, Request, Response, Scheme, Side, Stage, Target, Version};

/// Answers for the proxy itself. One of these serves all connections at the same time.
pub trait Site: fmt::Debug + Send + Sync {
    /// The name that stands for the proxy: `http://NAME/` and `https://NAME/`, through it.
    fn host(&self) -> &str;

    /// Answers a request; with a whole body, kept in place.
    fn answer(&self, visit: &Visit<'_>) -> Response;
}

/// A request for the proxy itself, found to be well formed.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// As the client sent it.
    pub request: &'a Request,
    /// Path and query, or `*`.
    pub path: &'a [u8],
    /// What the client takes us for.
    pub target: &'a Target,
    /// How it came to ask us.
    pub way: Way,
    /// Its connection.
    pub client: &'a ClientConn,
    /// Where explicit clients are accepted.
    pub listeners: &'a [SocketAddr],
    /// Whether clients of the proxy are asked who they are.
    pub asks: bool,
}

/// How a client comes to ask for the proxy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the proxy, by the name that stands for it.
    Named,
    /// It has opened a listener as it would an origin: nothing goes through the proxy, which it may know nothing of.
    Opened,
}

/// Clients that a listener has shown its page just now. The page looks whether they trust us, by TLS at the same listener: if
/// that fails, it is no more of a flow than the page is.
#[derive(Debug, Default)]
pub(super) struct Checks {
    shown: Mutex<Vec<(IpAddr, Instant)>>,
}

impl Checks {
    fn expect(&self, client: IpAddr) {
        let now = Instant::now();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|(known, at)| *known != client && now.duration_since(*at) < CHECK_TIME);
        if shown.len() == MAX_CHECKS {
            shown.remove(0);
        }
        shown.push((client, now));
    }

    /// Whether a handshake of this client may be the page's.
    pub(super) fn are_due(&self, client: IpAddr) -> bool {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().any(|(known, at)| *known == client && at.elapsed() < CHECK_TIME)
    }
}

/// Whether a request is for the proxy itself. Where it is not opened, this compares the lengths of two names.
pub(super) fn way(
    shared: &Shared,
    scope: &Scope,
    request: &Request,
    route: &Route,
    client: &ClientConn,
) -> Option<Way> {
    let site = shared.site.as_deref()?;
    let target = &route.target;
    if let Scope::Tunnel(tunneled) = scope
        && tunneled.reverse.is_some()
    {
        // Everything there is its origin's.
        return None;
    }
    if target.port == target.scheme.default_port() && is_name(site, &target.host) {
        return Some(Way::Named);
    }
    // HTTP/2 writes to an origin what it writes to a proxy; in clear, no browser speaks it.
    let as_origin = request.version != Version::Http2 && route.authority.is_none();
    (as_origin && matches!(scope, Scope::Explicit) && is_listener(shared, target, client))
        .then_some(Way::Opened)
}

/// What we answer to it.
pub(super) fn answer(
    shared: &Shared,
    way: Way,
    request: &Request,
    route: &Route,
    client: &ClientConn,
) -> Option<Response> {
    if let (Way::Opened, Some(peer)) = (way, &client.peer)
        && let Ok(peer) = peer.host.parse()
    {
        shared.checks.expect(peer);
    }
    let visit = Visit {
        request,
        path: &route.origin_form,
        target: &route.target,
        way,
        client,
        listeners: &shared.explicit,
        asks: shared.access.asks(),
    };
    shared.site.as_deref().map(|site| site.answer(&visit))
}

/// Whether a tunnel leads to the proxy itself, so that nothing is to be dialled for it.
pub(super) fn is_target(shared: &Shared, target: &Target) -> bool {
    let is_default = [Scheme::Http, Scheme::Https].iter().any(|scheme| scheme.default_port() == target.port);
    is_default && shared.site.as_deref().is_some_and(|site| is_name(site, &target.host))
}

/// Refuses a tunnel for TLS with the proxy itself where the authority may not sign for its name: there is nothing that a client
/// could be shown and would take. It is told before TLS, where it can be told at all.
///
/// # Errors
/// So it is.
pub(super) fn can_be_shown(shared: &Shared, target: &Target) -> Result<(), Error> {
    if target.port != Scheme::Https.default_port() || shared.leaves.can_be_accepted(&target.host) {
        return Ok(());
    }
    let only = shared.leaves.ca().constraints_text();
    let message = format!(
        "{} is this proxy itself, and its CA may sign for {only} alone{}",
        target.host,
        pointer(shared)
    );
    Err(Error::new(Kind::Loop, Side::Proxy, Stage::Target, message))
}

/// Why a request in a tunnel to the proxy itself goes nowhere, if it is not for our page: a name that stands for us is none to
/// look up and dial. `None` for tunnels to others.
pub(super) fn own_tunnel(shared: &Shared, tunneled: &Tunneled) -> Option<Error> {
    let target = tunneled.target();
    if tunneled.reverse.is_some() || !is_target(shared, target) {
        return None;
    }
    let message = format!("{} is this proxy itself{}", target.host_port(), pointer(shared));
    Some(Error::new(Kind::Loop, Side::Proxy, Stage::Target, message))
}

/// Where to look instead, for who has asked the proxy for itself; empty where there is no such place.
pub(super) fn pointer(shared: &Shared) -> String {
    match shared.site.as_deref() {
        Some(site) if !shared.explicit.is_empty() => format!("; its own page is http://{}/", site.host()),
        _ => String::new(),
    }
}

fn is_name(site: &dyn Site, host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(site.host())
}

/// Whether a target is one of our listeners, spelled as an address or as `localhost`.
fn is_listener(shared: &Shared, target: &Target, client: &ClientConn) -> bool {
    let is_own = |ip: IpAddr| {
        let local = client.local.as_ref().and_then(|local| local.host.parse().ok());
        shared.is_own(SocketAddr::new(ip, target.port), local)
    };
    match target.host.parse() {
        Ok(ip) => is_own(ip),
        Err(_) if target.host.eq_ignore_ascii_case("localhost") => {
            is_own(Ipv4Addr::LOCALHOST.into()) || is_own(Ipv6Addr::LOCALHOST.into())
        }
        Err(_) => false,
    }
}

/// A browser looks as soon as it has the page, and may try more than once.
const CHECK_TIME: Duration = Duration::from_secs(10);
/// The oldest go first: what is lost is that a failed handshake is recorded.
const MAX_CHECKS: usize = 256;
