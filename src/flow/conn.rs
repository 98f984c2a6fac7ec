//! The two connections of a flow, with the facts that are stored once for each of them.

use std::net::SocketAddr;

use bytes::Bytes;

use super::Headers;

/// The id of a connection in its store; 0 until a recorder gave it one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// An address: host text and port, with IPv6's flow info and scope where a file of another tool had them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Addr {
    /// IP literal without brackets, or a name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// IPv6 flow information.
    pub flowinfo: Option<u32>,
    /// IPv6 scope id.
    pub scope: Option<u32>,
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port(), flowinfo: None, scope: None }
    }
}

impl std::fmt::Display for Addr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A connection of a client to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientConn {
    /// Its id in the store.
    pub id: ConnId,
    /// Rises with each fact that is added; a store keeps the highest it saw.
    pub revision: u32,
    /// The client's end.
    pub peer: Option<Addr>,
    /// Our end.
    pub local: Option<Addr>,
    /// How the client came in: `explicit`, `reverse`, `socks5`, `transparent`.
    pub mode: String,
    /// When it was accepted: nanoseconds since 1970, UTC.
    pub started_unix_ns: i64,
    /// The `CONNECT` that opened the tunnel in which its requests came.
    pub connect: Option<ConnectHead>,
    /// TLS with the proxy itself, around all that the client sends: its proxy is an `https://` URL.
    pub proxy_tls: Option<TlsInfo>,
    /// TLS inside that tunnel. Its `chain` is what we presented.
    pub tls: Option<TlsInfo>,
    /// From accept to the ClientHello's first byte, and to the end of the handshake, in microseconds.
    pub tls_start_us: Option<u64>,
    /// See `tls_start_us`.
    pub tls_end_us: Option<u64>,
    /// From accept to the close, in microseconds; `None` while it is open.
    pub closed_us: Option<u64>,
    /// Bytes of the client's that we read, and bytes that we wrote to it, at the socket, as of this revision.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// What ended it, if not an ordinary close.
    pub error: Option<String>,
}

impl ClientConn {
    /// Whether what the client sends is in TLS, with the proxy itself or in a tunnel.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.proxy_tls.is_some() || self.tls.is_some()
    }
}

/// A `CONNECT` request's head, credentials for the proxy left out (RFC 9110 §9.3.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectHead {
    /// Its request-target, `host:port`.
    pub authority: Bytes,
    /// Its fields.
    pub headers: Headers,
}

/// A connection of ours to an origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerConn {
    /// Its id in the store.
    pub id: ConnId,
    /// Rises with each fact that is added; a store keeps the highest it saw.
    pub revision: u32,
    /// Name and port that were asked for.
    pub address: Addr,
    /// The address that was connected to.
    pub peer: Option<Addr>,
    /// Our end.
    pub local: Option<Addr>,
    /// The proxy between us and the origin, if there is one.
    pub via: Option<Via>,
    /// When work on it began: nanoseconds since 1970, UTC.
    pub started_unix_ns: i64,
    /// Microseconds that the name look-up took; `None` for an IP literal.
    pub dns_us: Option<u64>,
    /// Microseconds that the TCP connect took.
    pub connect_us: Option<u64>,
    /// Microseconds that the TLS handshake took.
    pub tls_us: Option<u64>,
    /// TLS, if it was begun. Its `chain` is what the origin presented.
    pub tls: Option<TlsInfo>,
    /// From `started_unix_ns` to the close, in microseconds; `None` while it is open.
    pub closed_us: Option<u64>,
    /// What ended it, if not an ordinary close.
    pub error: Option<String>,
}

/// A proxy between us and an origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Via {
    /// `http`, `https` or `socks5`.
    pub scheme: String,
    /// Where it listens.
    pub address: Addr,
}

/// What a TLS handshake settled, or how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsInfo {
    /// The name that the client side sent (RFC 6066 §3). `None` where it sent none.
    pub sni: Option<String>,
    /// The protocols that the client side offered, in its order (RFC 7301).
    pub alpn_offers: Vec<Bytes>,
    /// The cipher suites that the client side offered, as IANA numbers in its order.
    pub cipher_offers: Vec<u16>,
    /// `TLSv1.2` or `TLSv1.3`; `None` where the handshake did not come that far.
    pub version: Option<String>,
    /// The suite in IANA's spelling, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: Option<String>,
    /// The key exchange group, such as `X25519`.
    pub group: Option<String>,
    /// The protocol that was agreed; `None` where there was none.
    pub alpn: Option<Bytes>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The server side's certificates, DER, leaf first.
    pub chain: Vec<Bytes>,
    /// Whether the chain was checked; `false` under `--insecure`.
    pub verified: bool,
    /// Why the handshake failed.
    pub error: Option<String>,
    /// Whether the server side asked for a certificate of the client side's. A resumed session does not ask again.
    pub client_auth: ClientAuth,
}

/// What became of a server's wish for a client certificate (RFC 8446 §4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// It had none.
    #[default]
    NotAsked,
    /// It was sent none: there was none for it.
    Withheld,
    /// It was sent one.
    Presented,
}

impl ClientAuth {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [ClientAuth; 3] = [ClientAuth::NotAsked, ClientAuth::Withheld, ClientAuth::Presented];

    /// A word for it: `not asked`, `asked, none sent`, `presented`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not asked",
            Self::Withheld => "asked, none sent",
            Self::Presented => "presented",
        }
    }
}
