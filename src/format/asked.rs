//! Requests that files of commands ask for: what is known of them as a flow, which is no more than the request.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::ask::{is_url_host, token};
use super::transfer::{Decoded, Part, Sink};
use crate::flow::{
    Body, BodyEnd, Content, Flow, FlowError, Framing, Headers, Imported, Request, Scheme, Side, Stage, State,
    Target, Timing, Version,
};

/// A request that is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: Vec<u8>,
    pub(super) url: Url,
    pub(super) version: Version,
    /// With `Host`, on HTTP/1.
    pub(super) headers: Headers,
    pub(super) content: Content,
    pub(super) len: u64,
    /// Whether the body goes in chunks.
    pub(super) is_chunked: bool,
}

impl Asked {
    /// The flow. `format` is the name of the format that it came from.
    ///
    /// # Errors
    /// If what was asked for is no request: why.
    pub(super) fn decoded(self, format: &str) -> Result<Decoded, String> {
        if token(&self.method).is_none() {
            return Err("the method is no token (RFC 9110 §9.1)".to_owned());
        }
        let is_line = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if let Some((name, _)) =
            self.headers.iter().find(|(name, value)| token(name).is_none() || !is_line(value))
        {
            return Err(format!("the header field `{}` is none that HTTP allows", name.escape_ascii()));
        }
        if self.url.path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err("the URL holds blanks or control characters: escape them (%20)".to_owned());
        }
        let framing = match self.len {
            _ if self.version >= Version::Http2 => Framing::Stream,
            _ if self.is_chunked => Framing::Chunked,
            0 if self.headers.get("content-length").is_none() => Framing::None,
            _ => Framing::Length,
        };
        let body =
            Body { content: self.content, len: self.len, wire_len: self.len, framing, end: BodyEnd::Whole };
        let is_http2 = self.version >= Version::Http2;
        let authority = self.headers.get("host").map(Bytes::copy_from_slice);
        let headers = if is_http2 { without_host(&self.headers) } else { self.headers };
        let mut request = Request {
            method: self.method.into(),
            target: self.url.path.into(),
            version: self.version,
            headers,
            body,
            ..Request::default()
        };
        if is_http2 {
            request.scheme = Some(Bytes::from_static(self.url.target.scheme.as_str().as_bytes()));
            request.authority = authority;
        }
        request.head_len = head_len(&request);
        Ok(Decoded { flow: request_only(self.url.target, request, format), ..Decoded::default() })
    }
}

/// A flow that is no more than this request.
pub(super) fn request_only(target: Target, request: Request, format: &str) -> Flow {
    Flow {
        state: State::Interrupted,
        error: Some(FlowError {
            side: Side::Proxy,
            stage: Stage::ResponseHead,
            message: format!("imported from {format}, which has a request only"),
            at_us: 0,
        }),
        target,
        request: Some(request),
        timing: now(),
        imported: imported(format),
        ..Flow::default()
    }
}

/// Where a flow came from.
pub(super) fn imported(format: &str) -> Option<Box<Imported>> {
    Some(Box::new(Imported { format: format.to_owned(), ..Imported::default() }))
}

/// For a file that says nothing of times: when it is read.
pub(super) fn now() -> Timing {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timing { started_unix_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), ..Timing::default() }
}

/// Hands a body over that is at hand.
///
/// # Errors
/// If it cannot be stored.
pub(super) fn put_body(sink: &mut dyn Sink, part: Part, bytes: &[u8]) -> std::io::Result<Content> {
    sink.begin(part);
    sink.write(bytes)?;
    sink.end()
}

/// The length of the head in HTTP/1's canonical form.
fn head_len(request: &Request) -> u64 {
    let line = request.method.len() + request.target.len() + "  HTTP/1.1\r\n".len();
    let fields = request.headers.text_len() + request.headers.len() * ": \r\n".len();
    (line + fields + "\r\n".len()) as u64
}

fn without_host(headers: &Headers) -> Headers {
    headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")).collect()
}

/// An http or https URL in parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Url {
    pub(super) target: Target,
    /// Path and query, without the fragment; begins with `/`.
    pub(super) path: Vec<u8>,
    /// What stands before an `@`, escapes undone.
    pub(super) user: Option<Vec<u8>>,
}

impl Url {
    /// Parses a URL as command-line clients take it: without a scheme it is `scheme`'s.
    ///
    /// # Errors
    /// If it is none: why.
    pub(super) fn parse(url: &[u8], scheme: Scheme) -> Result<Self, String> {
        let shown = || url.escape_ascii().to_string();
        let (scheme, rest) = match url.windows(3).position(|at| at == b"://") {
            Some(at) if !url[..at].contains(&b'/') && !url[..at].contains(&b'?') => {
                let scheme = match &url[..at].to_ascii_lowercase()[..] {
                    b"http" | b"ws" => Scheme::Http,
                    b"https" | b"wss" => Scheme::Https,
                    _ => return Err(format!("`{}` is no http or https URL", shown())),
                };
                (scheme, &url[at + 3..])
            }
            _ => (scheme, url),
        };
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host_port) = match authority.iter().rposition(|&byte| byte == b'@') {
            Some(at) => (Some(unescaped(&authority[..at])), &authority[at + 1..]),
            None => (None, authority),
        };
        let (host, port) =
            host_port_of(host_port).ok_or_else(|| format!("`{}` has no host and port", shown()))?;
        let path = path.split(|&byte| byte == b'#').next().unwrap_or_default();
        let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
        let port = port.unwrap_or(scheme.default_port());
        Ok(Self { target: Target { scheme, host, port }, path, user })
    }
}

/// `host`, `host:port`, `[v6]:port`.
pub(super) fn host_port_of(text: &[u8]) -> Option<(String, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok()?),
    };
    is_url_host(host).then(|| (host.to_owned(), port))
}

/// With `%XX` undone (RFC 3986 §2.1).
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| text[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// `bytes` with all but unreserved characters escaped (RFC 3986 §2.3).
pub(super) fn percent_encoded(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a String takes everything
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parse = |url: &str| {
            let url = Url::parse(url.as_bytes(), Scheme::Http).unwrap();
            (url.target.host_port(), String::from_utf8(url.path).unwrap(), url.user)
        };
        assert_eq!(parse("HTTPS://a.test"), ("a.test:443".to_owned(), "/".to_owned(), None));
        assert_eq!(parse("a.test:81?q=://#f"), ("a.test:81".to_owned(), "/?q=://".to_owned(), None));
        assert_eq!(
            parse("http://u%3a:p@[::1]:8/x"),
            ("[::1]:8".to_owned(), "/x".to_owned(), Some(b"u::p".to_vec()))
        );
        for bad in ["ftp://a", "", "http://", "http://a b/", "http://a:x/", "http://[::1/", "http://-a"] {
            assert!(Url::parse(bad.as_bytes(), Scheme::Http).is_err(), "{bad}");
        }
    }
}
