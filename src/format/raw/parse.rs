//! Heads in text that people may have written: more lenient than what is taken from the wire, where two readings of one line are
//! a hole. Here lines may end in LF alone; what came is kept as the raw head.

use bytes::Bytes;

use super::super::ask::token;
use super::super::asked::{Url, host_port_of};
use crate::flow::{Headers, Request, Response, Scheme, Target, Version};

/// Whether the first line is a request line or a status line.
pub(super) fn sniff(beginning: &[u8]) -> bool {
    let line =
        beginning.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    if line.starts_with(b"HTTP/1.") || line.starts_with(b"HTTP/2 ") {
        return true;
    }
    let mut words = line.split(|&byte| byte == b' ');
    let method = words.next().is_some_and(|word| token(word).is_some());
    method && words.next().is_some() && words.next_back().and_then(version).is_some()
}

/// A request from its head, which ends with the empty line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn request(head: &[u8]) -> Result<Request, String> {
    let (line, rest) = first_line(head);
    let mut words = line.splitn(2, |&byte| byte == b' ');
    let method = words.next().unwrap_or_default();
    let rest_of_line = words.next().ok_or("neither a request line nor a status line")?;
    let at = rest_of_line.iter().rposition(|&byte| byte == b' ').ok_or("the request line has no version")?;
    let version = version(&rest_of_line[at + 1..])
        .ok_or("the request line does not end in HTTP/1.0, HTTP/1.1 or HTTP/2")?;
    if token(method).is_none() {
        return Err("the method is no token (RFC 9110 §9.1)".to_owned());
    }
    let mut request = Request {
        method: Bytes::copy_from_slice(method),
        target: Bytes::copy_from_slice(rest_of_line[..at].trim_ascii()),
        version,
        headers: fields(rest)?,
        head_len: head.len() as u64,
        ..Request::default()
    };
    if version == Version::Http2 {
        request.authority = request.headers.get("host").map(Bytes::copy_from_slice);
        request.headers =
            request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")).collect();
    } else if super::super::head::request(&request).0 != head {
        request.raw_head = Some(Bytes::copy_from_slice(head));
    }
    Ok(request)
}

/// A response from its head.
///
/// # Errors
/// What is wrong with it.
pub(super) fn response(head: &[u8]) -> Result<Response, String> {
    let (line, rest) = first_line(head);
    let wrong = "this is no status line: HTTP/1.1 200 OK";
    let (version_text, line) = split(line, b' ').ok_or(wrong)?;
    let (status, reason) = split(line, b' ').unwrap_or((line, b""));
    let status = std::str::from_utf8(status)
        .ok()
        .filter(|digits| digits.len() == 3)
        .and_then(|digits| digits.parse().ok());
    let mut response = Response {
        status: status.filter(|status| *status >= 100).ok_or(wrong)?,
        reason: Bytes::copy_from_slice(reason),
        version: version(version_text).ok_or(wrong)?,
        headers: fields(rest)?,
        head_len: head.len() as u64,
        ..Response::default()
    };
    if response.version < Version::Http2 && super::super::head::response(&response, b"").0 != head {
        response.raw_head = Some(Bytes::copy_from_slice(head));
    }
    Ok(response)
}

/// Where a request was aimed. The text does not say whether it went over TLS, unless its target or port does.
pub(super) fn target(request: &Request) -> Target {
    if request.target.windows(3).any(|at| at == b"://")
        && let Ok(url) = Url::parse(&request.target, Scheme::Http)
    {
        return url.target;
    }
    let is_connect = &request.method[..] == b"CONNECT";
    let host = if is_connect { Some(&request.target) } else { request.authority.as_ref() };
    let Some((host, port)) =
        host.map(|host| &host[..]).or(request.headers.get("host")).and_then(host_port_of)
    else {
        return Target::default();
    };
    let is_tls = matches!(port, Some(443)) || request.version == Version::Http2 && port.is_none();
    let scheme = if is_tls { Scheme::Https } else { Scheme::Http };
    Target { scheme, host, port: port.unwrap_or(scheme.default_port()) }
}

/// Fields up to the empty line.
///
/// # Errors
/// The line that is none.
pub(super) fn fields(text: &[u8]) -> Result<Headers, String> {
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if let (true, Some((_, value))) = (matches!(line[0], b' ' | b'\t'), fields.last_mut()) {
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let shown = || line.escape_ascii().to_string().chars().take(60).collect::<String>();
        let (name, value) =
            split(line, b':').ok_or_else(|| format!("`{}` is no header field: it has no colon", shown()))?;
        if token(name.trim_ascii_end()).is_none() {
            return Err(format!("`{}` does not begin with the name of a header field", shown()));
        }
        fields.push((name.trim_ascii_end(), value.trim_ascii().to_vec()));
        if fields.len() > MAX_FIELDS {
            return Err(format!("a head with more than {MAX_FIELDS} fields"));
        }
    }
    Ok(fields.into_iter().collect())
}

fn version(text: &[u8]) -> Option<Version> {
    Some(match text {
        b"HTTP/1.0" => Version::Http10,
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/2" | b"HTTP/2.0" => Version::Http2,
        _ => return None,
    })
}

fn first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = split(head, b'\n').unwrap_or((head, b""));
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// What stands before and behind the first such byte.
fn split(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&have| have == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// As on the wire.
const MAX_FIELDS: usize = 1000;
