//! A WebSocket between a client of HTTP/1.1 and an origin that speaks HTTP/2 alone: the client's `Upgrade` (RFC 6455 §4.1)
//! goes on as an extended `CONNECT`, and the origin's 2xx comes back as the 101 that the client waits for (RFC 8441 §5).
//! What passes then are the same frames on both sides.

use bytes::Bytes;

use crate::flow::{Headers, Request, Response, Version};
use crate::http1::upgrade_tokens;
use crate::websocket;

/// The key of a client's handshake; `None` if the request is none.
pub(super) fn key(request: &Request) -> Option<&[u8]> {
    let asks = request.version == Version::Http11
        && request.method == b"GET"[..]
        && upgrade_tokens(request).is_some_and(|tokens| tokens.eq_ignore_ascii_case(b"websocket"));
    request.headers.get(KEY).filter(|_| asks)
}

/// The handshake as it goes to the origin; `None` if the request is none.
pub(super) fn connect(request: &Request) -> Option<Request> {
    key(request)?;
    let fields = request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(KEY.as_bytes()));
    Some(Request {
        method: Bytes::from_static(b"CONNECT"),
        protocol: Some(Bytes::from_static(b"websocket")),
        headers: fields.collect(),
        ..request.clone()
    })
}

/// The answer to a handshake with this key as the client gets it.
pub(super) fn switching(response: &Response, key: &[u8]) -> Response {
    let accept = websocket::accept(key);
    let own = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", &accept)];
    let own = own.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    // A body that there is none of has no length, either (RFC 9110 §9.3.6).
    let dropped = ["connection", "upgrade", "sec-websocket-accept", "content-length"];
    let theirs = response.headers.iter();
    let theirs =
        theirs.filter(|(name, _)| !dropped.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes())));
    let headers: Headers = own.into_iter().chain(theirs).collect();
    Response {
        status: 101,
        reason: Bytes::from_static(b"Switching Protocols"),
        version: Version::Http11,
        headers,
        ..Response::default()
    }
}

const KEY: &str = "sec-websocket-key";
