//! A flow: one request with its answer, or what came in place of it, as plain data in the field's words.
//!
//! Nothing here does I/O. Whatever is recorded, stored, shown, exported or replayed is one of these types.

mod applied;
#[cfg(test)]
pub(crate) mod arbitrary;
mod body;
mod conn;
mod error;
mod headers;
mod message;
mod mid;
mod network;
mod note;
mod timing;
mod value;
mod websocket;

pub use applied::Applied;
pub use body::{Body, BodyEnd, Content, Extent, Framing};
pub use conn::{Addr, ClientAuth, ClientConn, ConnId, ConnectHead, ServerConn, TlsInfo, Via};
pub use error::{FlowError, Side, Stage};
pub use headers::Headers;
pub use message::{Interim, Request, Response, Tunnel, Version};
pub use mid::Mid;
pub use network::{Network, NetworkError};
pub use note::Note;
pub use timing::{HarTimings, Timing};
pub use value::{Imported, Value};
pub use websocket::{Message, MessageCoding, Opcode, WebSocket};

use std::sync::Arc;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// An HTTP request, also one that could not be parsed or was answered by the proxy itself.
    #[default]
    Http,
    /// A `CONNECT` that led to nothing: refused, malformed, or its origin could not be reached.
    Connect,
    /// Bytes relayed unread after a `CONNECT`: neither TLS nor HTTP, or left alone on purpose.
    Tunnel,
    /// A TLS handshake that failed and was followed by no request: with the client, or with the origin of a client that
    /// then left.
    Tls,
}

impl Kind {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [Kind; 4] = [Kind::Http, Kind::Connect, Kind::Tunnel, Kind::Tls];

    /// `http`, `connect`, `tunnel` or `tls`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::Connect => "connect",
            Kind::Tunnel => "tunnel",
            Kind::Tls => "tls",
        }
    }
}

/// How far a flow came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Still going on; what is stored is what was known when it was written.
    #[default]
    Open,
    /// Everything that was due passed, both ways.
    Complete,
    /// The client went away before the end, or broke the protocol of a WebSocket.
    ClientAborted,
    /// The origin went away, or broke the protocol, after its answer had begun.
    ServerAborted,
    /// We refused it: malformed, against a rule, or aimed at ourselves.
    Refused,
    /// It could not be done: no address, no connection, no trust, no answer in time.
    Failed,
    /// The proxy ended first. Only a store that is opened again gives this state, and a file that has no more than a request.
    Interrupted,
}

impl State {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [State; 7] = [
        State::Open,
        State::Complete,
        State::ClientAborted,
        State::ServerAborted,
        State::Refused,
        State::Failed,
        State::Interrupted,
    ];

    /// `open`, `complete`, `client-aborted` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Complete => "complete",
            State::ClientAborted => "client-aborted",
            State::ServerAborted => "server-aborted",
            State::Refused => "refused",
            State::Failed => "failed",
            State::Interrupted => "interrupted",
        }
    }
}

/// The scheme of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In clear.
    #[default]
    Http,
    /// Inside TLS.
    Https,
    /// Unknown bytes: the payload of an opaque tunnel.
    Tcp,
}

impl Scheme {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [Scheme; 3] = [Scheme::Http, Scheme::Https, Scheme::Tcp];

    /// The scheme as it stands in a URL: `http`, `https` or `tcp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
        }
    }

    /// The port that a URL of this scheme means when it names none (RFC 9110 §4.2); 0 for `tcp`.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
            Scheme::Tcp => 0,
        }
    }
}

/// Where a request was aimed: the origin that was dialled, or would have been.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Host name in the spelling received, or an IP literal without brackets. Empty when unknown.
    pub host: String,
    /// Port; 0 when unknown.
    pub port: u16,
}

impl Target {
    /// `host` or `host:port`, brackets around IPv6, the port left out where it is the scheme's own (RFC 3986 §3.2).
    #[must_use]
    pub fn authority(&self) -> String {
        let mut authority = String::with_capacity(self.host.len() + 8);
        self.put_authority(&mut authority);
        authority
    }

    fn put_authority(&self, out: &mut String) {
        match self.host.contains(':') {
            true => out.extend(["[", &self.host, "]"]),
            false => out.push_str(&self.host),
        }
        if self.port != self.scheme.default_port() {
            out.push(':');
            out.push_str(&self.port.to_string());
        }
    }

    /// `host:port`, brackets around IPv6, always with the port.
    #[must_use]
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// One flow, from its first byte to its end. What most have not is in a box: a flow is moved, and memory for it is asked for,
/// some times on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Its ticket; `None` until a recorder admitted it.
    pub mid: Option<Mid>,
    /// What kind of thing happened.
    pub kind: Kind,
    /// How far it came.
    pub state: State,
    /// What went wrong, if anything did.
    pub error: Option<FlowError>,
    /// Where it was aimed.
    pub target: Target,
    /// The request as the client sent it; `None` only where no byte of one came.
    /// Of a [`Kind::Connect`], [`Kind::Tunnel`] or [`Kind::Tls`] it is the `CONNECT`.
    pub request: Option<Request>,
    /// The 1xx responses before the final one, in order (RFC 9110 §15.2). A `101` is the final response.
    pub interim: Vec<Interim>,
    /// The final response as the origin sent it, or as we made it (then `error` tells why).
    pub response: Option<Response>,
    /// Bytes relayed unread: after a `CONNECT`, or after a `101` to anything but a WebSocket.
    pub tunnel: Option<Box<Tunnel>>,
    /// What passed and how it ended, of a WebSocket. Its messages are stored beside the flow.
    pub websocket: Option<Box<WebSocket>>,
    /// Who asked.
    pub client: Arc<ClientConn>,
    /// Who was asked; `None` if no connection to an origin was begun.
    pub server: Option<Arc<ServerConn>>,
    /// Whether `server` had carried an earlier flow (then its set-up times are not part of this flow's).
    pub server_reused: bool,
    /// When.
    pub timing: Timing,
    /// The flow that this one is a replay of.
    pub replay_of: Option<Mid>,
    /// What rules did to it, in the order in which they first did.
    pub rules: Vec<Applied>,
    /// What other tools' files hold and we have no field for.
    pub imported: Option<Box<Imported>>,
}

impl Default for Flow {
    fn default() -> Self {
        thread_local! {
            // A client's connection is large, and most flows get theirs right afterwards. One for all threads would be counted
            // by all at the same place.
            static NOBODY: Arc<ClientConn> = Arc::default();
        }
        Self::of(NOBODY.try_with(Arc::clone).unwrap_or_default())
    }
}

impl Flow {
    /// A flow of a client's connection, of which nothing else is known.
    #[must_use]
    pub fn of(client: Arc<ClientConn>) -> Self {
        Self {
            mid: None,
            kind: Kind::default(),
            state: State::default(),
            error: None,
            target: Target::default(),
            request: None,
            interim: Vec::new(),
            response: None,
            tunnel: None,
            websocket: None,
            client,
            server: None,
            server_reused: false,
            timing: Timing::default(),
            replay_of: None,
            rules: Vec::new(),
            imported: None,
        }
    }

    /// The URL as a person would write it: absolute-form targets as they came, else scheme, authority and target.
    /// Bytes that are not UTF-8 are replaced; not for sending.
    #[must_use]
    pub fn url(&self) -> String {
        let Some(request) = &self.request else {
            return format!("{}://{}", self.target.scheme.as_str(), self.target.authority());
        };
        let target = String::from_utf8_lossy(&request.target);
        match self.kind {
            Kind::Http if target.contains("://") && !target.starts_with('/') => target.into_owned(),
            Kind::Http if self.target.host.is_empty() => target.into_owned(),
            // Once for each flow that is told of, so by hand: formatting costs three times as much.
            Kind::Http => {
                let mut url = String::with_capacity(self.target.host.len() + target.len() + 16);
                url.push_str(self.target.scheme.as_str());
                url.push_str("://");
                self.target.put_authority(&mut url);
                if !(target.starts_with('/') || target.is_empty()) {
                    url.push('/');
                }
                url.push_str(&target);
                url
            }
            _ if self.target.host.is_empty() => target.into_owned(),
            _ => self.target.host_port(),
        }
    }

    /// Path and query: the request-target without scheme and authority. Empty without a request.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.request.as_ref().map_or(&[], Request::path)
    }
}
