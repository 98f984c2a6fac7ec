//! Which proxy, and with which credentials: `http|https|socks5://[user:pass@]host[:port]`.

use std::net::Ipv6Addr;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::flow::{self, Addr, Response};

/// A proxy that is asked for origins. Neither `Debug` nor `Display` shows its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    scheme: ViaScheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViaScheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/1.1 in TLS.
    Https,
    /// SOCKS version 5 (RFC 1928).
    Socks5,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
    /// As `Proxy-Authorization` has them (RFC 7617).
    basic: String,
}

/// Why a text names no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamProxyError {
    /// Another scheme, or none.
    #[error("it must begin with http://, https:// or socks5://")]
    Scheme,
    /// No host, or none that can be one.
    #[error("a host name or an IP address was expected after the scheme (IPv6 in brackets)")]
    Host,
    /// No port.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Something behind the port.
    #[error("nothing may follow the port")]
    Path,
    /// Credentials that cannot be sent.
    #[error("the credentials must be user:pass, with %XX for what has a meaning in a URL{0}")]
    Credentials(&'static str),
}

impl ViaScheme {
    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ViaScheme::Http => "http",
            ViaScheme::Https => "https",
            ViaScheme::Socks5 => "socks5",
        }
    }

    /// The port where none is named: that of the URL's scheme, and of SOCKS with IANA.
    fn default_port(self) -> u16 {
        match self {
            ViaScheme::Http => 80,
            ViaScheme::Https => 443,
            ViaScheme::Socks5 => 1080,
        }
    }
}

impl UpstreamProxy {
    /// What it speaks.
    #[must_use]
    pub fn scheme(&self) -> ViaScheme {
        self.scheme
    }

    /// Where it is: a name, or an IP literal without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Proxy-Authorization` for it (RFC 7617), if it has credentials.
    #[must_use]
    pub fn authorization(&self) -> Option<&[u8]> {
        self.credentials.as_ref().map(|credentials| credentials.basic.as_bytes())
    }

    /// What an answer of it with status 407 comes to, in words.
    #[must_use]
    pub fn wants_credentials(&self, response: &Response) -> String {
        format!("upstream proxy {self} {}", super::http::wants_credentials(response, self))
    }

    /// User and password, for SOCKS (RFC 1929).
    pub(super) fn user_and_password(&self) -> Option<(&[u8], &[u8])> {
        self.credentials.as_ref().map(|it| (&it.user[..], &it.password[..]))
    }

    /// As it is recorded.
    #[must_use]
    pub fn to_record(&self) -> flow::Via {
        let address = Addr { host: self.host.clone(), port: self.port, ..Addr::default() };
        flow::Via { scheme: self.scheme.as_str().to_owned(), address }
    }
}

impl FromStr for UpstreamProxy {
    type Err = UpstreamProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(UpstreamProxyError::Scheme)?;
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => ViaScheme::Http,
            "https" => ViaScheme::Https,
            // curl's `socks5h` says that the proxy resolves the names, which is so here in any case.
            "socks5" | "socks5h" => ViaScheme::Socks5,
            _ => return Err(UpstreamProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(UpstreamProxyError::Path);
        }
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((userinfo, address)) => (Some(Credentials::parse(userinfo, scheme)?), address),
            None => (None, rest),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(inner) => {
                let (ip, after) = inner.split_once(']').ok_or(UpstreamProxyError::Host)?;
                ip.parse::<Ipv6Addr>().map_err(|_| UpstreamProxyError::Host)?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or(UpstreamProxyError::Path)?),
                };
                (ip, port)
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let is_ipv6 = address.starts_with('[');
        if host.is_empty() || host.len() > 254 || !is_ipv6 && host.bytes().any(odd) {
            return Err(UpstreamProxyError::Host);
        }
        let port = match port {
            None => scheme.default_port(),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or(UpstreamProxyError::Port)?
            }
            Some(_) => return Err(UpstreamProxyError::Port),
        };
        Ok(Self { scheme, host: host.to_owned(), port, credentials })
    }
}

impl Credentials {
    fn parse(userinfo: &str, scheme: ViaScheme) -> Result<Self, UpstreamProxyError> {
        let bad = UpstreamProxyError::Credentials;
        let (user, password) = userinfo.split_once(':').ok_or(bad(""))?;
        let decode = |text: &str| percent_decoded(text).ok_or(bad(""));
        let (user, password) = (decode(user)?, decode(password)?);
        let lengths = 1..=255;
        if scheme == ViaScheme::Socks5
            && !(lengths.contains(&user.len()) && lengths.contains(&password.len()))
        {
            // RFC 1929 §2.
            return Err(bad("; with SOCKS5 each has 1 to 255 bytes"));
        }
        if user.contains(&b':') {
            // RFC 7617 §2: the other side would cut at the first colon.
            return Err(bad("; the user cannot have a colon in it"));
        }
        if user.iter().chain(&password).any(u8::is_ascii_control) {
            return Err(bad("; control characters cannot be in them"));
        }
        let pair = [&user[..], b":", &password].concat();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
        Ok(Self { user, password, basic })
    }
}

/// `%XX` as the byte that it means; `None` if something else follows a `%`.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

impl std::fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flow::Via { scheme, address } = self.to_record();
        write!(f, "{scheme}://{address}")
    }
}

impl std::fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamProxy({self}")?;
        f.write_str(if self.credentials.is_some() { ", with credentials)" } else { ")" })
    }
}
