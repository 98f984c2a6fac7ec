//! Recorded messages as HTTP/1 text: as they came, and those of HTTP/2 as the HTTP/1.1 messages that a gateway would make of
//! them (RFC 9113 §8.3): `Host` from `:authority`, one `Cookie` field, and framing where they need one.

use std::io::{self, Read, Write};

use crate::flow::{Body, BodyEnd, Content, Framing, Headers, Interim, Request, Response, Version};

/// How the end of a body is told in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// There is no body.
    None,
    /// By the head.
    Length,
    /// By a last chunk.
    Chunked,
    /// It has no end of its own: the connection's close was one, or bytes are missing.
    End,
}

/// The head of a request, and how its body goes on.
pub(super) fn request(request: &Request) -> (Vec<u8>, Delimiter) {
    let mut framing = framing(&request.body, &request.headers);
    if let Some(raw) = &request.raw_head {
        return (raw.to_vec(), framing);
    }
    let mut head = Vec::new();
    push(
        &mut head,
        &[&request.method, b" ", &request.target, b" ", version(request.version).as_bytes(), b"\r\n"],
    );
    if request.version < Version::Http2 {
        fields(&mut head, &request.headers);
    } else {
        if let Some(authority) = request.authority.as_ref().filter(|_| request.headers.get("host").is_none())
        {
            push(&mut head, &[b"Host: ", authority, b"\r\n"]);
        }
        translated(&mut head, &request.headers, &mut framing, request.body.len > 0);
    }
    head.extend_from_slice(b"\r\n");
    (head, framing)
}

/// The same of a response, to a request with `method`.
pub(super) fn response(response: &Response, method: &[u8]) -> (Vec<u8>, Delimiter) {
    let has_body = response.status >= 200 && !matches!(response.status, 204 | 304) && method != b"HEAD";
    let mut framing = if has_body { framing(&response.body, &response.headers) } else { Delimiter::None };
    // Of an answer of ours it is what came in its place.
    if let Some(raw) = response.raw_head.as_ref().filter(|_| !response.by_proxy) {
        return (raw.to_vec(), framing);
    }
    let mut head = Vec::new();
    status_line(&mut head, response.version, response.status, &response.reason);
    if response.version < Version::Http2 {
        fields(&mut head, &response.headers);
    } else {
        translated(&mut head, &response.headers, &mut framing, has_body);
    }
    head.extend_from_slice(b"\r\n");
    (head, framing)
}

/// A 1xx response, whole.
pub(super) fn interim(interim: &Interim) -> Vec<u8> {
    let mut head = Vec::new();
    status_line(&mut head, Version::Http11, interim.status, &interim.reason);
    fields(&mut head, &interim.headers);
    head.extend_from_slice(b"\r\n");
    head
}

/// Writes a body behind its head. `trailers` only where the body is chunked.
///
/// # Errors
/// If it cannot be read or `out` not be written.
pub(super) fn body(
    body: &mut dyn Read,
    framing: Delimiter,
    is_whole: bool,
    trailers: Option<&Headers>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if framing != Delimiter::Chunked {
        return io::copy(body, out).map(drop);
    }
    let mut piece = vec![0; CHUNK];
    loop {
        let (len, result) = super::json::fill(body, &mut piece);
        result?;
        if len > 0 {
            write!(out, "{len:x}\r\n")?;
            out.write_all(&piece[..len])?;
            out.write_all(b"\r\n")?;
        }
        if len < piece.len() {
            break;
        }
    }
    if !is_whole {
        return Ok(());
    }
    let mut end = b"0\r\n".to_vec();
    fields(&mut end, trailers.unwrap_or(&Headers::new()));
    end.extend_from_slice(b"\r\n");
    out.write_all(&end)
}

/// Whether all that passed of it, and all that was due, is on record.
pub(super) fn is_whole(body: &Body) -> bool {
    let nothing = body.len == 0 && body.framing == Framing::None;
    let whole = body.end == BodyEnd::Whole && body.recorded_len() == body.len;
    nothing || whole && (body.content != Content::Absent || body.len == 0)
}

fn framing(body: &Body, headers: &Headers) -> Delimiter {
    match body.framing {
        Framing::None => Delimiter::None,
        Framing::Close => Delimiter::End,
        Framing::Chunked => Delimiter::Chunked,
        Framing::Length => Delimiter::Length,
        Framing::Stream if headers.get("content-length").is_some() => Delimiter::Length,
        Framing::Stream => Delimiter::Chunked,
    }
}

/// The fields of an HTTP/2 message; `framing` is what HTTP/1 needs.
fn translated(head: &mut Vec<u8>, headers: &Headers, framing: &mut Delimiter, may_have_body: bool) {
    let mut cookies = headers.get_all("cookie");
    for (name, value) in headers.iter() {
        if name.eq_ignore_ascii_case(b"cookie") {
            let crumbs: Vec<&[u8]> = cookies.by_ref().collect();
            if !crumbs.is_empty() {
                push(head, &[name, b": ", &crumbs.join(&b"; "[..]), b"\r\n"]);
            }
        } else {
            push(head, &[name, b": ", value, b"\r\n"]);
        }
    }
    if *framing == Delimiter::Chunked {
        if may_have_body {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        } else {
            *framing = Delimiter::None;
        }
    }
}

fn fields(head: &mut Vec<u8>, headers: &Headers) {
    for (name, value) in headers.iter() {
        push(head, &[name, b": ", value, b"\r\n"]);
    }
}

fn status_line(head: &mut Vec<u8>, of: Version, status: u16, reason: &[u8]) {
    // HTTP/2 has no phrases, and people read them.
    let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let reason = if of >= Version::Http2 { known.unwrap_or_default().as_bytes() } else { reason };
    push(head, &[version(of).as_bytes(), b" ", status.to_string().as_bytes(), b" ", reason, b"\r\n"]);
}

fn version(version: Version) -> &'static str {
    if version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

fn push(head: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| head.extend_from_slice(part));
}

/// Arbitrary: the sizes that passed are not on record.
const CHUNK: usize = 16 << 10;
