//! Upstream proxies: origins that are reached through another proxy, and those that are not.
//!
//! An `http://` or `https://` proxy is asked for a tunnel (`CONNECT`, RFC 9110 §9.3.6), or, for a plain request to an
//! `http` URL, given the request with the whole URL in it (absolute-form, RFC 9112 §3.2.2): many allow tunnels to port 443
//! alone. A `socks5://` proxy connects to anything (RFC 1928). The proxy resolves the names; no look-up of ours tells where
//! a client goes. Credentials are written to the proxy and nowhere else: neither records nor messages have them.

mod http;
mod no_proxy;
mod proxy;
mod socks5;
#[cfg(test)]
mod tests;

pub use self::http::absolute_form;
pub use no_proxy::{NoProxy, NoProxyError};
pub use proxy::{UpstreamProxy, UpstreamProxyError, ViaScheme};

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

/// Which origins are reached through which proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    proxy: Arc<UpstreamProxy>,
    except: NoProxy,
}

impl Via {
    /// All through `proxy`, but for those in `except`.
    #[must_use]
    pub fn new(proxy: UpstreamProxy, except: NoProxy) -> Self {
        Self { proxy: Arc::new(proxy), except }
    }

    /// The proxy.
    #[must_use]
    pub fn proxy(&self) -> &UpstreamProxy {
        &self.proxy
    }

    /// The proxy for an origin called `host`; `None` if it is dialled directly.
    #[must_use]
    pub fn proxy_for(&self, host: &str) -> Option<&Arc<UpstreamProxy>> {
        (!self.except.covers(host)).then_some(&self.proxy)
    }
}

/// Asks the proxy at the other end of `stream` to connect to `host`, a name or an IP literal without brackets. What comes
/// back was read beyond the proxy's answer: the first bytes of a server that speaks first.
///
/// Sets no time limit. Dropping the future leaves a stream that is of no more use.
pub(super) async fn open_tunnel<S>(
    stream: &mut S,
    proxy: &UpstreamProxy,
    host: &str,
    port: u16,
) -> Result<BytesMut, TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match proxy.scheme() {
        ViaScheme::Http | ViaScheme::Https => http::connect(stream, proxy, host, port).await,
        ViaScheme::Socks5 => socks5::connect(stream, proxy, host, port).await.map(|()| BytesMut::new()),
    }
}

/// Why a proxy gave no tunnel: what it said, or did. Reads after "upstream proxy URL ".
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// It went away.
    #[error("closed the connection instead of an answer")]
    Closed,
    /// The connection broke.
    #[error("could not be talked to: {0}")]
    Io(#[source] io::Error),
    /// It wants credentials, or others.
    #[error("{0}")]
    Credentials(String),
    /// It said no.
    #[error("refused to connect to {target}: {answer}")]
    Refused {
        /// What it was asked for.
        target: String,
        /// In its words.
        answer: String,
    },
    /// It said something else than its protocol has.
    #[error("does not speak {protocol}: {what}")]
    Protocol {
        /// `HTTP` or `SOCKS5`.
        protocol: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The protocol has no form for what it was to be asked.
    #[error("cannot be asked for {0:?}: SOCKS5 takes names of at most 255 bytes")]
    NameTooLong(String),
}

impl From<io::Error> for TunnelError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
