//! The reverse proxy: clients take us for the origin, in clear or in TLS, and all that they ask for goes to one origin.
//!
//! `Host` (and `:authority`) becomes the origin's, unless it is to be kept. What comes back passes as it is: `Location`,
//! `Set-Cookie` and `Alt-Svc` still name the origin.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;

use super::ListenError;
use super::explicit::{self, Route};
use crate::flow::{Request, Scheme, Target};
use crate::proxy::client::{Client, Stream};
use crate::proxy::detect;
use crate::proxy::error::Error;
use crate::proxy::forward::{HTTP2, Wanted};
use crate::proxy::intercept::{self, Opener};
use crate::proxy::serve::{self, End, Scope, Tunneled};
use crate::upstream::{Key, Passage};

/// Where a reverse proxy leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverse {
    /// The origin.
    pub target: Target,
    /// Whether it sees the client's `Host` rather than its own name.
    pub keep_host: bool,
}

impl FromStr for Reverse {
    type Err = ListenError;

    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let bad = |why: &str| ListenError::Target(why.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("the scheme is missing"))?;
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(bad("no other scheme is known")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(bad("paths stay as the client wrote them, so none can stand here"));
        }
        let authority = explicit::authority(rest.as_bytes(), Some(scheme.default_port()));
        let (host, port) = authority.map_err(|error| bad(&error.message))?;
        Ok(Self { target: Target { scheme, host, port }, keep_host: false })
    }
}

impl std::fmt::Display for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.target.scheme.as_str(), self.target.authority())
    }
}

impl Reverse {
    /// The route of a request: its path at the origin, whatever host it names.
    ///
    /// # Errors
    /// If its target has no form that an origin knows.
    pub(in crate::proxy) fn route(&self, request: &Request) -> Result<Route, Error> {
        let names_host = request.headers.get("host").is_some() || request.authority.is_some();
        let mut route = if !names_host && request.target.starts_with(b"/") {
            Route { target: self.target.clone(), origin_form: request.target.clone(), authority: None }
        } else {
            explicit::route(request, self.target.scheme)?
        };
        route.target = self.target.clone();
        if !self.keep_host {
            route.authority = Some(self.target.authority().into());
        }
        Ok(route)
    }

    fn wanted(&self, offers: Vec<Bytes>, prior_knowledge: bool) -> Wanted {
        let is_https = self.target.scheme == Scheme::Https;
        let name = if is_https { self.target.host.clone() } else { String::new() };
        Wanted {
            key: Key { target: self.target.clone(), name },
            offers: if is_https { offers } else { Vec::new() },
            prior_knowledge: prior_knowledge && !is_https,
            passage: if is_https || prior_knowledge { Passage::Tunnel } else { Passage::Forwarded },
        }
    }

    fn scope(&self, wanted: Wanted, broken: Option<Error>, opened_by: Option<Opener>) -> Scope {
        Scope::Tunnel(Box::new(Tunneled {
            wanted,
            identity: None,
            reverse: Some(self.clone()),
            by_address: false,
            broken: Mutex::new(broken),
            opened_by,
            first: Mutex::default(),
        }))
    }
}

/// Serves a connection to its end.
pub(in crate::proxy) async fn run(client: &mut Client, mut stream: Stream, reverse: &Reverse) {
    let limit = client.shared.limits.idle_timeout;
    let stop = client.entry.token();
    let arrived = tokio::select! {
        biased;
        arrived = client.ticker.within(limit, stream.reader.wait_for_message()) => arrived,
        () = stop.cancelled() => return,
    };
    if !matches!(arrived, Ok(Ok(true))) {
        return;
    }
    if detect::is_tls(client, &stream) {
        // On the heap, and gone before the first request: handshakes are large, connections many.
        let Some((stream, scope)) = Box::pin(tls(client, stream, reverse)).await else { return };
        return client.serve_as_agreed(stream, scope).await;
    }
    let scope = reverse.scope(reverse.wanted(Vec::new(), false), None, None);
    match serve::run(client, &mut stream, &scope).await {
        End::Http2 => {
            let scope = reach_http2(client, reverse).await;
            client.serve_http2(stream, scope).await;
        }
        End::Reset => stream.reset(),
        End::Close | End::Connect(_) | End::Tls => {}
    }
}

/// A client that speaks HTTP/2 in clear: its origin is asked for that, too, as its limits are the client's.
async fn reach_http2(client: &Client, reverse: &Reverse) -> Scope {
    let wanted = reverse.wanted(vec![Bytes::from_static(HTTP2)], true);
    let broken = match intercept::reach_if_due(client, &wanted).await {
        Ok(Some(connection)) => {
            client.origins.keep(connection);
            None
        }
        Ok(None) => None,
        Err(error) => Some(error),
    };
    reverse.scope(wanted, broken, None)
}

/// Ends the client's TLS with a leaf for the name that it asks for, else for the address that it came to. An `https` origin
/// is asked first, so that the client is offered what that chose; if it cannot be used, the client is told so inside its
/// TLS. `None`: the client's handshake failed, and is recorded.
async fn tls(client: &mut Client, stream: Stream, reverse: &Reverse) -> Option<(Stream, Scope)> {
    let opener = Opener { request: None, started: Instant::now(), target: reverse.target.clone() };
    let hello = intercept::hello(client, stream, &opener).await?;
    let name = hello.offered.sni.clone().unwrap_or_else(|| client.local.ip().to_canonical().to_string());
    let offers = intercept::known_offers(&hello.offered.alpn_offers);
    let wanted = reverse.wanted(offers.clone(), false);
    let reached = match reverse.target.scheme {
        Scheme::Https => intercept::reach_if_due(client, &wanted).await,
        // There is nothing to mirror: the client has its choice, and HTTP/2 becomes HTTP/1.1.
        Scheme::Http | Scheme::Tcp => Ok(None),
    };
    let alpn = intercept::mirrored(&offers, reached.as_ref().ok().and_then(Option::as_ref));
    let (origin, broken) = match reached {
        Ok(origin) => (origin, None),
        Err(error) => (None, Some(error)),
    };
    let stream = intercept::accept(client, hello, &opener, &name, alpn, origin).await?;
    Some((stream, reverse.scope(wanted, broken, Some(opener))))
}
