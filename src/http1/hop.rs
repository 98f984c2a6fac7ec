//! What belongs to one hop only and is not sent on (RFC 9110 §7.6.1).

use crate::flow::{Headers, Request, Version};

/// The fields of a message that go on to the next hop, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    headers: &'a Headers,
    names_options: bool,
}

impl<'a> Forwarded<'a> {
    /// The fields of `headers` without those of this hop.
    #[must_use]
    pub fn new(headers: &'a Headers) -> Self {
        let ordinary = |option: &[u8]| {
            [&b"close"[..], b"keep-alive", b"upgrade", b"te"].iter().any(|o| option.eq_ignore_ascii_case(o))
        };
        Self { headers, names_options: !headers.tokens("connection").all(ordinary) }
    }

    /// Whether a field called `name` goes on.
    #[must_use]
    pub fn keeps(&self, name: &[u8]) -> bool {
        !(is_hop_by_hop(name) || self.names_options && self.is_named(name))
    }

    /// Whether `Connection` names the field. A client could otherwise erase what the origin relies on, so the fields that
    /// frame, route, authorise or describe a message stay, whatever it says.
    fn is_named(&self, name: &[u8]) -> bool {
        const STAY: [&[u8]; 8] = [
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"authorization",
            b"cookie",
            b"set-cookie",
            b"content-type",
            b"content-encoding",
        ];
        self.headers.tokens("connection").any(|option| option.eq_ignore_ascii_case(name))
            && !STAY.iter().any(|stay| name.eq_ignore_ascii_case(stay))
    }
}

/// Whether a field belongs to one hop whatever `Connection` says. `Transfer-Encoding` does too, but is written with the
/// framing of the next hop.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    let known: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 => &[b"upgrade"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        18 => &[b"proxy-authenticate"],
        19 => &[b"proxy-authorization"],
        25 => &[b"proxy-authentication-info"],
        _ => return false,
    };
    known.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// Whether the peer that sent a message with these fields wants the connection kept after it (RFC 9112 §9.3).
/// `Proxy-Connection` counts for an HTTP/1.0 client, which may know nothing else.
#[must_use]
pub fn keeps_alive(version: Version, headers: &Headers) -> bool {
    if headers.has_token("connection", "close") {
        return false;
    }
    version != Version::Http10
        || headers.has_token("connection", "keep-alive")
        || headers.has_token("proxy-connection", "keep-alive")
}

/// The protocols that a request asks to change to, if it does so properly (RFC 9110 §7.8). `h2c` is left out: it would
/// need `HTTP2-Settings`, which RFC 9113 has withdrawn.
#[must_use]
pub fn upgrade_tokens(request: &Request) -> Option<&[u8]> {
    if request.version == Version::Http10 || !request.headers.has_token("connection", "upgrade") {
        return None;
    }
    let upgrade = request.headers.get("upgrade")?;
    (!request.headers.has_token("upgrade", "h2c")).then_some(upgrade)
}
