//! Writing heads: the fields as they came, in their case and order, less those of the other hop, with this hop's framing.

use std::io::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::framing::BodyLength;
use super::hop::Forwarded;
use crate::flow::{Headers, Interim, Request, Response, Version};

/// How a request goes to the next hop.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The request-target for that hop: origin-form to an origin, absolute-form to a proxy.
    pub target: &'a [u8],
    /// The value of `Host` where the client's is to be replaced or supplied (RFC 9112 §3.2.2).
    pub host: Option<&'a [u8]>,
    /// Whether the client's wish to upgrade goes on.
    pub upgrade: bool,
    /// Value for `Max-Forwards`, where it was counted down.
    pub max_forwards: Option<u64>,
    /// Value for `Proxy-Authorization`: credentials of ours for the proxy that the request goes to. The client's own never
    /// go on.
    pub proxy_authorization: Option<&'a [u8]>,
}

/// Writes a request's head as HTTP/1.1, whatever version the client spoke: the version is this hop's own.
pub fn write_request_head(out: &mut BytesMut, request: &Request, line: &RequestLine<'_>, length: BodyLength) {
    out.reserve(usize::try_from(request.head_len).unwrap_or(0) + 128);
    out.put_slice(&request.method);
    out.put_u8(b' ');
    out.put_slice(line.target);
    out.put_slice(b" HTTP/1.1\r\n");

    let forwarded = Forwarded::new(&request.headers);
    let trailers = request.headers.has_token("te", "trailers");
    let mut connection = match (line.upgrade, trailers) {
        (true, true) => Some(&b"Upgrade, TE"[..]),
        (true, false) => Some(&b"Upgrade"[..]),
        (false, true) => Some(&b"TE"[..]),
        (false, false) => None,
    };
    let mut te = trailers.then_some(&b"trailers"[..]);
    let mut host = line.host;
    let mut chunked = length == BodyLength::Chunked;
    // HTTP/2 splits the cookies into several fields, which HTTP/1 does not allow (RFC 9113 §8.2.3).
    let mut crumbs = request.version == Version::Http2 && request.headers.get_all("cookie").nth(1).is_some();
    let had_crumbs = crumbs;
    // A client's `Host` stays where it stood; one that is supplied comes first (RFC 9110 §7.2).
    if request.headers.get("host").is_none()
        && let Some(host) = host.take()
    {
        put_field(out, b"Host", host);
    }
    for (name, value) in request.headers.iter() {
        let is = |what: &[u8]| name.eq_ignore_ascii_case(what);
        if is(b"transfer-encoding") {
            if std::mem::take(&mut chunked) {
                put_field(out, name, value);
            }
        } else if is(b"host") {
            put_field(out, name, host.unwrap_or(value));
        } else if is(b"connection") {
            if let Some(options) = connection.take() {
                put_field(out, name, options);
            }
        } else if is(b"te") {
            if let Some(te) = te.take() {
                put_field(out, name, te);
            }
        } else if is(b"upgrade") {
            if line.upgrade {
                put_field(out, name, value);
            }
        } else if is(b"http2-settings") && request.headers.get("upgrade").is_some() {
            // Belongs to an upgrade to h2c, which does not go on.
        } else if is(b"max-forwards")
            && let Some(left) = line.max_forwards
        {
            put_field(out, name, left.to_string().as_bytes());
        } else if had_crumbs && is(b"cookie") {
            if std::mem::take(&mut crumbs) {
                // An empty one says nothing, and would leave a blank that is no part of the value (RFC 9110 §5.5).
                let crumbs = request.headers.get_all("cookie").filter(|crumb| !crumb.is_empty());
                put_joined(out, name, crumbs, b"; ");
            }
        } else if forwarded.keeps(name) {
            put_field(out, name, value);
        }
    }
    if chunked {
        put_field(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(options) = connection {
        put_field(out, b"Connection", options);
    }
    if let Some(credentials) = line.proxy_authorization {
        put_field(out, b"Proxy-Authorization", credentials);
    }
    out.put_slice(b"\r\n");
}

/// Writes a final response's head for a client that speaks `client`; `close` says that we shall close after it.
/// `101` keeps its `Connection` and `Upgrade` fields.
pub fn write_response_head(
    out: &mut BytesMut,
    response: &Response,
    client: Version,
    length: BodyLength,
    close: bool,
) {
    out.reserve(usize::try_from(response.head_len).unwrap_or(0) + 64);
    let reason = match response.version {
        // HTTP/2 has none; HTTP/1 clients show it to people.
        Version::Http2 => canonical_reason(response.status),
        _ => &response.reason,
    };
    status_line(out, response.status, reason);
    let switching = response.status == 101;
    let forwarded = Forwarded::new(&response.headers);
    let mut connection = match (close, client) {
        (true, _) => Some(&b"close"[..]),
        (false, Version::Http10) => Some(&b"keep-alive"[..]),
        (false, _) => None,
    };
    let mut chunked = length == BodyLength::Chunked;
    // Without a body (HEAD, 304) the field is a statement about a GET's answer and goes on unless the client knows no
    // codings.
    let keeps_coding = match length {
        BodyLength::None => client != Version::Http10,
        BodyLength::Chunked | BodyLength::Length(_) => false,
        // Other codings, to the close; but `chunked` is taken off on the way to an HTTP/1.0 client.
        BodyLength::Close => client != Version::Http10,
    };
    let mut sized = true;
    for (name, value) in response.headers.iter() {
        let is = |what: &[u8]| name.eq_ignore_ascii_case(what);
        if is(b"transfer-encoding") {
            if length == BodyLength::Chunked {
                // Several fields are one list (RFC 9110 §5.3): the first goes on with all of it.
                if std::mem::take(&mut chunked) {
                    put_joined(out, name, response.headers.get_all("transfer-encoding"), b", ");
                }
            } else if keeps_coding {
                put_field(out, name, value);
            }
        } else if is(b"content-length") && matches!(length, BodyLength::Length(_)) {
            // Equal lengths that came repeated go on as one.
            if std::mem::take(&mut sized) {
                put_field(out, name, value);
            }
        } else if switching && (is(b"connection") || is(b"upgrade")) {
            put_field(out, name, value);
        } else if is(b"connection") {
            if let Some(options) = connection.take() {
                put_field(out, name, options);
            }
        } else if forwarded.keeps(name) || response.by_proxy && is(b"proxy-authenticate") {
            // A question of ours is for this hop. An origin's, or another proxy's, never is.
            put_field(out, name, value);
        }
    }
    if chunked {
        put_field(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(options) = connection.filter(|_| !switching) {
        put_field(out, b"Connection", options);
    }
    out.put_slice(b"\r\n");
}

/// Writes a 1xx response.
pub fn write_interim(out: &mut BytesMut, interim: &Interim) {
    status_line(out, interim.status, &interim.reason);
    let forwarded = Forwarded::new(&interim.headers);
    for (name, value) in interim.headers.iter().filter(|(name, _)| forwarded.keeps(name)) {
        put_field(out, name, value);
    }
    out.put_slice(b"\r\n");
}

/// Writes trailer fields and the empty line after them; fields that frame, route or authorise are left out, since a
/// recipient may merge trailers into the head (RFC 9110 §6.5.1).
pub fn write_fields(out: &mut BytesMut, trailers: &Headers) {
    let forwarded = Forwarded::new(trailers);
    for (name, value) in trailers.iter() {
        if forwarded.keeps(name) && may_trail(name) {
            put_field(out, name, value);
        }
    }
    out.put_slice(b"\r\n");
}

/// Whether a field of this name may stand in trailers: one that frames, routes or authorises a message may not
/// (RFC 9110 §6.5.1).
#[must_use]
pub fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 5] =
        [b"content-length", b"transfer-encoding", b"host", b"authorization", b"trailer"];
    !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// The bytes of a response's head as they came from the origin.
#[must_use]
pub fn received_head(response: &Response) -> Bytes {
    if let Some(raw) = &response.raw_head {
        return raw.clone();
    }
    let mut out = BytesMut::new();
    out.put_slice(response.version.as_str().as_bytes());
    // Writing to memory cannot fail.
    let _ = write!((&mut out).writer(), " {:03} ", response.status);
    out.put_slice(&response.reason);
    out.put_slice(b"\r\n");
    for (name, value) in response.headers.iter() {
        put_field(&mut out, name, value);
    }
    out.put_slice(b"\r\n");
    out.freeze()
}

fn canonical_reason(status: u16) -> &'static [u8] {
    let status = http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or_default().as_bytes()
}

fn status_line(out: &mut BytesMut, status: u16, reason: &[u8]) {
    // Writing to memory cannot fail.
    let _ = write!(out.writer(), "HTTP/1.1 {status:03} ");
    put_clean(out, reason);
    out.put_slice(b"\r\n");
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    put_clean(out, value);
    out.put_slice(b"\r\n");
}

fn put_joined<'a>(out: &mut BytesMut, name: &[u8], values: impl Iterator<Item = &'a [u8]>, between: &[u8]) {
    put_field(out, name, &values.collect::<Vec<_>>().join(between));
}

/// Writes text in which no line can end: a folded value's line ends become blanks (RFC 9112 §5.2), and nothing that came
/// by another way than our own parser can split a message.
fn put_clean(out: &mut BytesMut, text: &[u8]) {
    if memchr::memchr3(b'\r', b'\n', 0, text).is_none() {
        out.put_slice(text);
    } else {
        out.extend(text.iter().map(|&b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b }));
    }
}
