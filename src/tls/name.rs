//! The name that a certificate stands for, from whatever spelling a client used.

use std::net::IpAddr;

use rustls::pki_types::{DnsName, ServerName};

/// Why a text is not a name that a certificate can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Clients send names of other scripts as A-labels (RFC 5891 §4.4). Mapping raw text to one is the business of
    /// who typed it: a mapping of ours that differs from the client's would reach another host.
    #[error("host name {0:?} has characters outside ASCII; it has to come in its xn-- form")]
    NotAscii(String),
    /// Not of the grammar of host names or addresses.
    #[error("{0:?} is neither a host name nor an IP address")]
    Malformed(String),
}

/// Reads a host as it stands in a CONNECT target, a `Host` field or an SNI: brackets and zone of an IPv6 literal and
/// the dot of a rooted name are taken off, letters become small.
///
/// # Errors
/// When it is neither a host name in ASCII (underscores allowed) nor an IP literal.
pub fn server_name(host: &str) -> Result<ServerName<'static>, NameError> {
    if !host.is_ascii() {
        return Err(NameError::NotAscii(clip(host)));
    }
    if let Some(ip) = ip_literal(host) {
        return Ok(ServerName::from(ip));
    }
    let rooted = host.strip_suffix('.').unwrap_or(host);
    DnsName::try_from(rooted.to_ascii_lowercase())
        .map(ServerName::DnsName)
        .map_err(|_| NameError::Malformed(clip(host)))
}

/// The address that `host` spells, with or without brackets and zone. Only the canonical dotted form of IPv4: the
/// resolver may read `127.1` or `0x7f000001` as one, a certificate cannot.
pub(crate) fn ip_literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Some((address, _zone)) = bare.split_once('%') {
        return address.parse().ok().map(IpAddr::V6);
    }
    bare.parse().ok()
}

/// Enough of a peer's text for a message.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(host: &str) -> Result<String, NameError> {
        server_name(host).map(|name| name.to_str().into_owned())
    }

    #[test]
    fn spellings_of_one_name_are_one_name() {
        for host in ["Example.COM", "example.com", "example.com."] {
            assert_eq!(text(host), Ok("example.com".into()));
        }
        for host in ["::1", "[::1]", "[0:0::1]", "::1%lo", "[::1%25lo]"] {
            assert_eq!(server_name(host), Ok(ServerName::from(IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1]))));
        }
        assert_eq!(text("a_b.example.com"), Ok("a_b.example.com".into()));
        assert_eq!(text("xn--mnchen-3ya.example"), Ok("xn--mnchen-3ya.example".into()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(text("münchen.example"), Err(NameError::NotAscii("münchen.example".into())));
        let long = "a".repeat(64) + ".example";
        for host in
            ["", ".", "..", "a b", "a\0b", "a/b", "[::1", "1.2.3", "127.1", "-", &long, "*.example.com"]
        {
            assert!(matches!(text(host), Err(NameError::Malformed(_))), "{host:?}: {:?}", text(host));
        }
    }
}
