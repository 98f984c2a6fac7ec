//! Heads: what the `h2` crate decodes into [`crate::flow`]'s types, and back.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode, Uri};
use thiserror::Error;

use crate::flow::{Headers, Interim, Request, Response, Version};

/// Why a head cannot be sent over HTTP/2, though it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The method is no token.
    #[error("the method cannot be sent over HTTP/2")]
    Method,
    /// The path or the authority has bytes that the `http` crate takes for none of a URI.
    #[error("the request-target cannot be sent over HTTP/2")]
    Target,
    /// A field's name is no token.
    #[error("a field name cannot be sent over HTTP/2")]
    FieldName,
    /// The status is below 100 or above 999.
    #[error("the status cannot be sent over HTTP/2")]
    Status,
}

/// The line of a request as it is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `:authority`; without it, a `Host` field among the fields has to tell.
    pub authority: Option<&'a Bytes>,
    /// `:path`: origin-form or `*`.
    pub path: &'a Bytes,
    /// `:protocol` of an extended `CONNECT` (RFC 8441 §4).
    pub protocol: Option<&'a [u8]>,
}

/// A request that came, body and trailers left out.
#[must_use]
pub fn request(parts: &http::request::Parts) -> Request {
    let uri = &parts.uri;
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map(Authority::as_str);
    // One buffer for all texts, of which each copy that is kept is but a count.
    let (text, ranges) = fields_behind([path, authority.unwrap_or_default()], &parts.headers);
    let headers = Headers::from_ranges(text.clone(), ranges);
    let authority = authority.map(|authority| text.slice(path.len()..path.len() + authority.len()));
    let target = match path {
        // A plain CONNECT has none (RFC 9113 §8.5).
        "" => authority.clone().unwrap_or_default(),
        _ => text.slice(..path.len()),
    };
    Request {
        method: method(&parts.method),
        target,
        version: Version::Http2,
        headers,
        scheme: uri.scheme_str().map(scheme),
        authority,
        protocol: protocol.map(|protocol| Bytes::copy_from_slice(protocol.as_ref())),
        ..Request::default()
    }
}

/// A final response that came, body and trailers left out.
#[must_use]
pub fn response(parts: &http::response::Parts) -> Response {
    Response {
        status: parts.status.as_u16(),
        version: Version::Http2,
        headers: fields(&parts.headers),
        ..Response::default()
    }
}

/// An interim response that came, `at_us` after its flow's start.
#[must_use]
pub fn interim(response: &http::Response<()>, at_us: u64) -> Interim {
    Interim {
        status: response.status().as_u16(),
        reason: Bytes::new(),
        headers: fields(response.headers()),
        at_us,
    }
}

/// The fields of a head or of trailers, in the order in which the crate gives them: those of one name together.
#[must_use]
pub fn fields(map: &HeaderMap) -> Headers {
    let (text, ranges) = fields_behind([], map);
    Headers::from_ranges(text, ranges)
}

/// The fields behind other texts of the head, in one buffer, and where names and values lie in it.
fn fields_behind<'a, const N: usize>(
    texts: [&str; N],
    map: &'a HeaderMap,
) -> (Bytes, impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a) {
    let before: usize = texts.iter().map(|text| text.len()).sum();
    let len: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut text = Vec::with_capacity(before + len);
    texts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
    for (name, value) in map {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(value.as_bytes());
    }
    let mut at = before;
    let ranges = map.iter().map(move |(name, value)| {
        let (start, middle) = (at, at + name.as_str().len());
        at = middle + value.len();
        (start..middle, middle..at)
    });
    (Bytes::from(text), ranges)
}

/// A request to be sent, with these fields; names are written in lower case (RFC 9113 §8.2.1).
///
/// # Errors
/// If a part of it has no form in HTTP/2, or none that the `http` crate takes.
pub fn request_head<'a>(
    head: &RequestHead<'_>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<http::Request<()>, HeadError> {
    request_with(head, header_map(fields)?)
}

/// The same, with fields that came over HTTP/2.
///
/// # Errors
/// As [`request_head`].
pub fn request_with(head: &RequestHead<'_>, fields: HeaderMap) -> Result<http::Request<()>, HeadError> {
    let mut uri = http::uri::Parts::default();
    // The crate writes the scheme of a URI without authority, too, but such a URI cannot be built.
    if let Some(authority) = head.authority {
        uri.authority = Some(Authority::from_maybe_shared(authority.clone()).map_err(|_| HeadError::Target)?);
        uri.scheme = Some(head.scheme.parse().map_err(|_| HeadError::Target)?);
    }
    uri.path_and_query =
        Some(PathAndQuery::from_maybe_shared(head.path.clone()).map_err(|_| HeadError::Target)?);
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(head.method).map_err(|_| HeadError::Method)?;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| HeadError::Target)?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields;
    if let Some(protocol) = head.protocol {
        let protocol = std::str::from_utf8(protocol).map_err(|_| HeadError::Target)?;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    Ok(request)
}

/// Whether a URI is that of the request line: scheme, authority and path.
#[must_use]
pub fn names(uri: &Uri, head: &RequestHead<'_>) -> bool {
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let path = uri.path_and_query().map(|path| path.as_str().as_bytes());
    uri.scheme_str() == Some(head.scheme)
        && authority == head.authority.map(|authority| &authority[..])
        && path == Some(&head.path[..])
}

/// A final or interim response to be sent, with these fields.
///
/// # Errors
/// As [`request_head`].
pub fn response_head<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<http::Response<()>, HeadError> {
    response_with(status, header_map(fields)?)
}

/// The same, with fields that came over HTTP/2.
///
/// # Errors
/// As [`request_head`].
pub fn response_with(status: u16, fields: HeaderMap) -> Result<http::Response<()>, HeadError> {
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| HeadError::Status)?;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = fields;
    Ok(response)
}

pub(super) fn header_map<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<HeaderMap, HeadError> {
    let mut map = HeaderMap::with_capacity(fields.size_hint().0.min(MAX_ROOM));
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name).map_err(|_| HeadError::FieldName)?;
        // A map that is full has 24,576 fields; heads are limited to far fewer.
        map.try_append(name, clean(value)).map_err(|_| HeadError::FieldName)?;
    }
    Ok(map)
}

/// A value without what cannot stand in one: the line ends of a folded HTTP/1 field become blanks (RFC 9112 §5.2).
fn clean(value: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(value).unwrap_or_else(|_| {
        let cleaned: Vec<u8> =
            value.iter().map(|&b| if b < 0x20 && b != b'\t' || b == 0x7f { b' ' } else { b }).collect();
        // Nothing is left that the check could refuse; an empty value is no worse than a panic.
        HeaderValue::from_bytes(&cleaned).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// A method's text, without a copy for the common ones.
fn method(method: &Method) -> Bytes {
    match *method {
        Method::GET => Bytes::from_static(b"GET"),
        Method::POST => Bytes::from_static(b"POST"),
        Method::PUT => Bytes::from_static(b"PUT"),
        Method::HEAD => Bytes::from_static(b"HEAD"),
        Method::DELETE => Bytes::from_static(b"DELETE"),
        Method::OPTIONS => Bytes::from_static(b"OPTIONS"),
        Method::PATCH => Bytes::from_static(b"PATCH"),
        Method::CONNECT => Bytes::from_static(b"CONNECT"),
        _ => Bytes::copy_from_slice(method.as_str().as_bytes()),
    }
}

fn scheme(scheme: &str) -> Bytes {
    match scheme {
        "https" => Bytes::from_static(b"https"),
        "http" => Bytes::from_static(b"http"),
        _ => Bytes::copy_from_slice(scheme.as_bytes()),
    }
}

/// Fields for which room is made at once.
const MAX_ROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn of(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
        fields.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    #[test]
    fn a_request_survives_the_way_through_the_crates_types() {
        let head = RequestHead {
            method: b"PROPFIND",
            scheme: "https",
            authority: Some(&Bytes::from_static(b"h.example:8443")),
            path: &Bytes::from_static(b"/a?b=c"),
            protocol: None,
        };
        let fields: Fields = vec![
            (b"X-One".to_vec(), b"1".to_vec()),
            (b"cookie".to_vec(), b"a=1".to_vec()),
            (b"cookie".to_vec(), b"b=\xff".to_vec()),
        ];
        let (parts, ()) = request_head(&head, of(&fields)).unwrap().into_parts();
        let request = request(&parts);
        assert_eq!((&request.method[..], &request.target[..]), (&b"PROPFIND"[..], &b"/a?b=c"[..]));
        assert_eq!(request.authority.as_deref(), Some(&b"h.example:8443"[..]));
        assert_eq!(request.scheme.as_deref(), Some(&b"https"[..]));
        let seen: Vec<_> = request.headers.iter().collect();
        assert_eq!(seen, [(&b"x-one"[..], &b"1"[..]), (b"cookie", b"a=1"), (b"cookie", b"b=\xff")]);
    }

    #[test]
    fn what_has_no_form_in_http2_is_refused() {
        let host = Bytes::from_static(b"h");
        let [root, bad_path] = [&b"/"[..], b"/\x01"].map(Bytes::from_static);
        let head = |method, path| RequestHead {
            method,
            scheme: "http",
            authority: Some(&host),
            path,
            protocol: None,
        };
        let refused = |head: &RequestHead<'_>| request_head(head, of(&vec![])).unwrap_err();
        assert_eq!(refused(&head(b"G T", &root)), HeadError::Method);
        assert_eq!(refused(&head(b"GET", &bad_path)), HeadError::Target);
        let bad: Fields = vec![(b"a b".to_vec(), vec![])];
        assert_eq!(request_head(&head(b"GET", &root), of(&bad)).unwrap_err(), HeadError::FieldName);
        assert_eq!(response_head(1000, of(&vec![])).unwrap_err(), HeadError::Status);
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_sent_without_line_ends(value in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let fields = vec![(b"x".to_vec(), value.clone())];
            let response = response_head(200, of(&fields)).unwrap();
            let sent = response.headers()["x"].as_bytes();
            proptest::prop_assert_eq!(sent.len(), value.len());
            proptest::prop_assert!(!sent.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        }

        #[test]
        fn any_head_is_built_or_refused(
            method in proptest::collection::vec(proptest::num::u8::ANY, 0..8),
            path in proptest::collection::vec(proptest::num::u8::ANY, 0..20),
            authority in proptest::collection::vec(proptest::num::u8::ANY, 0..20),
            name in proptest::collection::vec(proptest::num::u8::ANY, 0..8),
        ) {
            let (authority, path) = (Bytes::from(authority), Bytes::from(path));
            let head = RequestHead {
                method: &method, scheme: "https", authority: Some(&authority), path: &path, protocol: Some(&name),
            };
            let fields = vec![(name.clone(), vec![])];
            let _ = request_head(&head, of(&fields)); // only that it does not panic
        }
    }
}
