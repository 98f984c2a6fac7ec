//! A recorded request as another client has to send it, for formats that are commands and programs.
//!
//! Everything that could be taken for syntax is checked here, before the first byte is written: what leaves in an [`Ask`] is a
//! method and names that are tokens (RFC 9110 §5.6.2), a host that stands in a URL, and values without line ends.

use std::borrow::Cow;
use std::io::Read;

use super::transfer::{EncodeError, Item, Part};
use crate::flow::{Body, BodyEnd, Content, Flow, Framing, Kind, Request, Scheme, Target, Version};

/// What is to be sent.
pub(super) struct Ask<'a> {
    /// A token.
    pub(super) method: &'a str,
    /// Of the origin; not empty, of ASCII that needs no escape in a URL.
    pub(super) target: &'a Target,
    /// Request-target in origin-form, or `*`; without control characters and blanks.
    pub(super) path: Cow<'a, [u8]>,
    pub(super) version: Version,
    /// Names are tokens; no value has a control character but tabs. Fields for a proxy are not among them. A
    /// `Content-Length` tells the body's length.
    pub(super) fields: Vec<(&'a str, Cow<'a, [u8]>)>,
    pub(super) body: AskBody,
    /// Whether the body is sent in chunks.
    pub(super) is_chunked: bool,
}

/// A body to be sent.
pub(super) enum AskBody {
    /// None, and no framing that would tell of an empty one.
    None,
    /// In memory: at most [`MAX_IN_MEMORY`].
    Bytes(Vec<u8>),
    /// To be read by [`Ask::open`].
    Long,
}

/// A field's name and value.
pub(super) type Field<'a> = (&'a str, Cow<'a, [u8]>);

impl<'a> Ask<'a> {
    /// The request of `item`.
    ///
    /// # Errors
    /// [`EncodeError::Unsuitable`] if no client could send it, or its body is not recorded whole.
    pub(super) fn of(item: &'a dyn Item) -> Result<Self, EncodeError> {
        let flow = item.flow();
        let request = request(flow)?;
        let method = token(&request.method).ok_or_else(|| unsuitable("its method is no token"))?;
        if !is_url_host(&flow.target.host) {
            return unsuitable_result("its host cannot stand in a URL");
        }
        if flow.target.scheme == Scheme::Tcp {
            return unsuitable_result("it was not sent to a web server");
        }
        let path = origin_form(request);
        if path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return unsuitable_result("its target holds blanks or control characters");
        }
        if request.trailers.as_ref().is_some_and(|trailers| !trailers.is_empty()) {
            return unsuitable_result("its body is followed by trailers, which these clients cannot send");
        }
        let len = whole_len(&request.body)?;
        let is_chunked = is_chunked(request)?;
        let body = match len {
            0 if is_chunked => AskBody::Bytes(Vec::new()),
            0 => AskBody::None,
            1..=MAX_IN_MEMORY => {
                let mut bytes = Vec::new();
                open(item)?.take(MAX_IN_MEMORY).read_to_end(&mut bytes)?;
                AskBody::Bytes(bytes)
            }
            _ => AskBody::Long,
        };
        let (target, version) = (&flow.target, request.version);
        let mut fields = fields(request, len)?;
        if let Some(authority) = &request.authority
            && *authority != target.authority()
            && request.headers.get("host").is_none()
        {
            fields.insert(0, ("host", Cow::Borrowed(authority)));
        }
        Ok(Self { method, target, path, version, fields, body, is_chunked })
    }

    /// The body's bytes from the beginning.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn open(item: &'a dyn Item) -> Result<Box<dyn Read + 'a>, EncodeError> {
        open(item)
    }

    /// `https://host:port`
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.target.scheme.as_str(), self.target.authority())
    }

    /// The value of the first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }

    /// The fields with those of one name joined where the first of them stands (RFC 9110 §5.3; RFC 9113 §8.2.3 for cookies),
    /// for clients that take each name once; and whether any was.
    pub(super) fn joined_fields(&self) -> (Vec<Field<'a>>, bool) {
        let mut joined: Vec<(&str, Cow<'_, [u8]>)> = Vec::new();
        for (name, value) in &self.fields {
            match joined.iter_mut().find(|(have, _)| have.eq_ignore_ascii_case(name)) {
                Some((_, list)) => {
                    let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
                    let list = list.to_mut();
                    list.extend_from_slice(separator);
                    list.extend_from_slice(value);
                }
                None => joined.push((name, value.clone())),
            }
        }
        let is_joined = joined.len() < self.fields.len();
        (joined, is_joined)
    }

    /// The path if it is text in which each client leaves every character as it is: those that a URL may have (RFC 3986),
    /// escapes in upper case, and nothing that is resolved.
    pub(super) fn plain_path(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.path).ok()?;
        let bytes = text.as_bytes();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/?%".contains(&byte);
        let escape_ok = |at: usize| match bytes.get(at + 1..at + 3) {
            Some(digits) => digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')),
            None => false,
        };
        let plain =
            bytes.iter().enumerate().all(|(at, &byte)| allowed(byte) && (byte != b'%' || escape_ok(at)));
        let simple = text.starts_with('/') && !text.starts_with("//") && !text.ends_with('?');
        (plain && simple && !self.has_dot_segment()).then_some(text)
    }

    /// Whether a client that resolves `.` and `..` (RFC 3986 §5.2.4) would change the path.
    pub(super) fn has_dot_segment(&self) -> bool {
        let path = self.path.split(|&byte| byte == b'?').next().unwrap_or_default();
        path.split(|&byte| byte == b'/').any(|segment| {
            let dots = segment.to_ascii_lowercase();
            let dots = String::from_utf8_lossy(&dots).replace("%2e", ".");
            dots == "." || dots == ".."
        })
    }
}

/// Why it is not written.
pub(super) fn unsuitable(why: &str) -> EncodeError {
    EncodeError::Unsuitable(why.to_owned())
}

fn unsuitable_result<T>(why: &str) -> Result<T, EncodeError> {
    Err(unsuitable(why))
}

fn request(flow: &Flow) -> Result<&Request, EncodeError> {
    let Some(request) = &flow.request else { return unsuitable_result("it has no request") };
    if flow.kind != Kind::Http
        || request.protocol.is_some()
        || request.method.eq_ignore_ascii_case(b"CONNECT")
    {
        return unsuitable_result("a tunnel is no request");
    }
    if request.method.is_empty() {
        return unsuitable_result("its request could not be parsed");
    }
    Ok(request)
}

/// The target that an origin gets (RFC 9112 §3.2.1, §3.2.4).
fn origin_form(request: &Request) -> Cow<'_, [u8]> {
    match request.path() {
        path if path.starts_with(b"/") || path == b"*" => Cow::Borrowed(path),
        path => Cow::Owned([b"/", path].concat()),
    }
}

/// How long the body is, if it is all there.
pub(super) fn whole_len(body: &Body) -> Result<u64, EncodeError> {
    let none = body.len == 0 && body.framing == Framing::None && body.end != BodyEnd::Lost;
    let whole = body.end == BodyEnd::Whole && body.recorded_len() == body.len;
    match (none || whole, &body.content) {
        (true, _) => Ok(body.len),
        (false, Content::Absent) => unsuitable_result("its body was not recorded"),
        (false, _) => unsuitable_result("its body was not recorded whole"),
    }
}

fn is_chunked(request: &Request) -> Result<bool, EncodeError> {
    let mut codings = request.headers.tokens("transfer-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked") && request.version == Version::Http11 =>
        {
            Ok(true)
        }
        _ => unsuitable_result("its Transfer-Encoding is not plain `chunked`"),
    }
}

fn fields(request: &Request, len: u64) -> Result<Vec<Field<'_>>, EncodeError> {
    let mut fields = Vec::with_capacity(request.headers.len());
    let mut has_length = false;
    for (name, value) in request.headers.iter() {
        let Some(name) = token(name) else {
            return unsuitable_result("it has a field name that is no token");
        };
        if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return unsuitable_result("it has a field value with control characters");
        }
        if is_for_proxy(name) {
            continue;
        }
        let mut value = Cow::Borrowed(value);
        if name.eq_ignore_ascii_case("content-length") {
            // It differs where something was masked, or a file of another tool was wrong.
            if std::mem::replace(&mut has_length, true) {
                continue;
            }
            value = Cow::Owned(len.to_string().into_bytes());
        }
        fields.push((name, value));
    }
    Ok(fields)
}

/// Whether a field is meant for the proxy that recorded it.
fn is_for_proxy(name: &str) -> bool {
    name.eq_ignore_ascii_case("proxy-connection") || name.eq_ignore_ascii_case("proxy-authorization")
}

fn open(item: &dyn Item) -> Result<Box<dyn Read + '_>, EncodeError> {
    Ok(item.body(Part::Request)?.unwrap_or_else(|| Box::new(std::io::empty())))
}

/// `bytes` as text if they are a token.
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if bytes.is_empty() || !bytes.iter().all(is_token) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Whether it is a name or an address in which no client finds anything else.
pub(super) fn is_url_host(host: &str) -> bool {
    let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    is_address || (is_name && !host.is_empty() && !host.starts_with('-'))
}

/// Arbitrary: enough for what people look at.
pub(super) const MAX_IN_MEMORY: u64 = 64 << 10;
