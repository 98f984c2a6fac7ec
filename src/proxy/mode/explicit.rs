//! The explicit proxy: the client knows us and names its origin in the request-target (RFC 9112 §3.2).

use bytes::Bytes;

use crate::flow::{Request, Scheme, Stage, Target, Version};
use crate::proxy::error::Error;

/// Where a request goes, and how its line is written for the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct Route {
    /// The origin.
    pub(in crate::proxy) target: Target,
    /// Origin-form, or `*`.
    pub(in crate::proxy) origin_form: Bytes,
    /// The authority in an absolute-form target, as spelled: it overrules `Host` (RFC 9112 §3.2.2).
    pub(in crate::proxy) authority: Option<Bytes>,
}

/// Finds the route of a request other than `CONNECT`: from an absolute-form target, else from `Host`.
///
/// # Errors
/// If the target has no form that a proxy knows, or names no origin.
pub(in crate::proxy) fn route(request: &Request, default_scheme: Scheme) -> Result<Route, Error> {
    let target = &request.target[..];
    if request.version == Version::Http2 {
        return http2_route(request, default_scheme);
    }
    if target.starts_with(b"/") || target == b"*" {
        if target == b"*" && request.method != b"OPTIONS"[..] {
            return Err(bad("only OPTIONS may ask for *"));
        }
        let Some(host) = request.headers.get("host").filter(|host| !host.is_empty()) else {
            return Err(bad("the request names no destination: no absolute URL and no Host field"));
        };
        let (host, port) = authority(host, Some(default_scheme.default_port()))?;
        let target_ = Target { scheme: default_scheme, host, port };
        return Ok(Route { target: target_, origin_form: request.target.clone(), authority: None });
    }
    let (scheme, rest) = if let Some(rest) = strip_ignoring_case(target, b"http://") {
        (Scheme::Http, rest)
    } else if let Some(rest) = strip_ignoring_case(target, b"https://") {
        (Scheme::Https, rest)
    } else {
        return Err(bad("the request-target is neither an http(s) URL nor a path"));
    };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (spelled, path) = rest.split_at(end);
    let (host, port) = authority(spelled, Some(scheme.default_port()))?;
    // A fragment is the client's own affair and never sent (RFC 9110 §4.2.5).
    let path = path.split(|&b| b == b'#').next().unwrap_or_default();
    let origin_form = match path.first() {
        // `OPTIONS http://host` without a path asks for the server as a whole (RFC 9112 §3.2.4).
        None if request.method == b"OPTIONS"[..] => Bytes::from_static(b"*"),
        None => Bytes::from_static(b"/"),
        Some(b'/') => request.target.slice_ref(path),
        Some(_) => [b"/", path].concat().into(),
    };
    let target = Target { scheme, host, port };
    Ok(Route { target, origin_form, authority: Some(request.target.slice_ref(spelled)) })
}

/// The route of a request in HTTP/2, which names its parts (RFC 9113 §8.3.1).
fn http2_route(request: &Request, default_scheme: Scheme) -> Result<Route, Error> {
    let path = &request.target[..];
    if !(path.starts_with(b"/") || path == b"*" && request.method == b"OPTIONS"[..]) {
        return Err(bad("the :path is neither a path nor the * of OPTIONS"));
    }
    let scheme = match request.scheme.as_deref() {
        Some(b"http") => Scheme::Http,
        Some(b"https") => Scheme::Https,
        None => default_scheme,
        Some(_) => return Err(bad("the :scheme is neither http nor https")),
    };
    let host = || request.headers.get("host").map(Bytes::copy_from_slice);
    let Some(spelled) = request.authority.clone().or_else(host).filter(|spelled| !spelled.is_empty()) else {
        return Err(bad("the request names no destination: neither :authority nor a Host field"));
    };
    let (host, port) = authority(&spelled, Some(scheme.default_port()))?;
    let target = Target { scheme, host, port };
    Ok(Route { target, origin_form: request.target.clone(), authority: Some(spelled) })
}

/// The target of a `CONNECT`: `host:port`, both there (RFC 9110 §9.3.6).
///
/// # Errors
/// If it is anything else.
pub(in crate::proxy) fn connect_target(request: &Request) -> Result<Target, Error> {
    let (host, port) = authority(&request.target, None)?;
    Ok(Target { scheme: Scheme::Tcp, host, port })
}

/// Splits `host[:port]` (RFC 3986 §3.2): host without brackets. Without a default the port must be there.
///
/// # Errors
/// If there is user information, an empty host, or a port that is no port.
pub(in crate::proxy) fn authority(text: &[u8], default_port: Option<u16>) -> Result<(String, u16), Error> {
    let Ok(text) = std::str::from_utf8(text) else { return Err(bad("the host is not UTF-8")) };
    if text.contains('@') {
        return Err(bad("user information in the authority"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(bad("unclosed [ in the host"));
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad("no IPv6 address between the brackets of the host"));
            }
            match after {
                "" => (address, None),
                _ => match after.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None => return Err(bad("text after the ] of the host")),
                },
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let in_name = |c: char| !c.is_control() && !c.is_whitespace() && !"/?#\\<>\"{}|^`%:[]@,;()".contains(c);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_name = || host.bytes().all(is_plain) || host.chars().all(in_name);
    if host.is_empty() || host.len() > 255 || !(text.starts_with('[') || is_name()) {
        return Err(bad("invalid host name"));
    }
    let port = match (port, default_port) {
        // `host:` means the default port (RFC 3986 §3.2.3).
        (None | Some(""), Some(default)) => default,
        (None | Some(""), None) => return Err(bad("the target has no port")),
        (Some(digits), _) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => return Err(bad("invalid port")),
        },
    };
    Ok((host.to_owned(), port))
}

fn strip_ignoring_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    (text.len() >= prefix.len() && text[..prefix.len()].eq_ignore_ascii_case(prefix))
        .then(|| &text[prefix.len()..])
}

fn bad(message: &str) -> Error {
    Error::bad_request(Stage::Target, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let ok = |text: &str, default| authority(text.as_bytes(), default).map_err(|e| e.message);
        assert_eq!(ok("h:42", None), Ok(("h".into(), 42)));
        assert_eq!(ok("[2001:db8::1]:443", None), Ok(("2001:db8::1".into(), 443)));
        assert_eq!(ok("h", Some(80)), Ok(("h".into(), 80)));
        assert_eq!(ok("h:", Some(80)), Ok(("h".into(), 80)));
        for bad in [
            "", ":80", "h", "h:", "h:0", "h:65536", "h:+1", "u@h:1", "[::1", "[x]:1", "[::1]x:1", "a b:1",
            "a/b:1",
        ] {
            assert!(ok(bad, None).is_err(), "{bad}");
        }
    }
}
