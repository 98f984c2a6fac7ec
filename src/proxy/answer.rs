//! What a client is told when there is no answer to relay: the one table from failure to status.
//!
//! Plain text that names side and stage. It never quotes the request's fields, and says `nosniff`, so that no browser
//! takes a quoted host name for markup.

use bytes::Bytes;

use super::error::{Error, Kind};
use crate::flow::{Body, Headers, Response, Version};
use crate::tls::{self, CERTIFICATE_REFUSED};

/// The status for a failure; `None` where nobody is there to be told.
pub(super) fn status(kind: Kind) -> Option<(u16, &'static str)> {
    Some(match kind {
        Kind::BadRequest | Kind::Loop => (400, "Bad Request"),
        Kind::Unauthorized => (407, "Proxy Authentication Required"),
        Kind::ClientTimeout => (408, "Request Timeout"),
        Kind::Misdirected => (421, "Misdirected Request"),
        Kind::HeadTooLarge => (431, "Request Header Fields Too Large"),
        Kind::BadGateway => (502, "Bad Gateway"),
        Kind::NotRecording => (503, "Service Unavailable"),
        Kind::GatewayTimeout => (504, "Gateway Timeout"),
        Kind::Blocked(status) => (status, canonical_reason(status)),
        Kind::ClientGone | Kind::Ended | Kind::Cut => return None,
    })
}

/// The response for a failure, as it is sent and recorded. After it the connection is closed, but after
/// [`Kind::Unauthorized`], so that the client can say on it who it is, and after [`Kind::Blocked`], which is no failure of its.
pub(super) fn response(error: &Error) -> Option<Response> {
    let (status, reason) = status(error.kind)?;
    if matches!(status, 204 | 205 | 304) {
        // They have no body (RFC 9110 §15.3.5, §15.3.6, §15.4.5), and only 205 says so by a length.
        let empty = local(status, reason, "text/plain; charset=utf-8", Bytes::new());
        let tells =
            |name: &[u8]| !name.starts_with(b"Content-") || status == 205 && name == b"Content-Length";
        let headers = empty.headers.iter().filter(|(name, _)| tells(name)).collect();
        return Some(Response { headers, ..empty });
    }
    let more = if error.message.starts_with(CERTIFICATE_REFUSED) { untrusted(error) } else { String::new() };
    let text = format!("manent: {error}\n{more}");
    let mut response = local(status, reason, "text/plain; charset=utf-8", Bytes::from(text));
    if error.kind == Kind::Unauthorized {
        // RFC 9110 §11.7.1, RFC 7617 §2.1.
        response.headers.push("Proxy-Authenticate", "Basic realm=\"manent\", charset=\"UTF-8\"");
    }
    Some(response)
}

fn canonical_reason(status: u16) -> &'static str {
    let status = http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// A response of our own.
pub(super) fn local(status: u16, reason: &'static str, content_type: &str, body: Bytes) -> Response {
    let length = body.len().to_string();
    let headers: Headers = [
        ("Content-Type", content_type),
        ("Content-Length", &length),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]
    .into_iter()
    .collect();
    Response {
        status,
        reason: Bytes::from_static(reason.as_bytes()),
        version: Version::Http11,
        headers,
        body: Body::inline(body),
        by_proxy: true,
        ..Response::default()
    }
}

/// Of an origin whose certificate was refused: which it was, what it presented, and what to do.
fn untrusted(error: &Error) -> String {
    let mut text = String::new();
    if let Some(server) = &error.server
        && let Some((issuer, names)) = server.tls.as_ref().and_then(|tls| tls::presented(&tls.chain))
    {
        text += &format!("origin: {}    issuer: {issuer}    presented for: {names}\n", server.address);
    }
    text + "hint: --upstream-ca FILE trusts the issuer in FILE as well; --insecure checks no certificate\n"
}
