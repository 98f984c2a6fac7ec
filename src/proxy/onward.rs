//! A recorded request as it went on: what a client inside a tunnel would have to send so that the origin sees, byte for
//! byte on HTTP/1 and field for field on HTTP/2, what it saw of the recorded one.
//!
//! The relay's own code makes it, so that what is sent again cannot drift from what was sent: what belonged to the client's
//! hop is gone, `Host` and `Max-Forwards` are as they were written, fields are as rules had made them.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::bridge;
use super::ends::h2 as ends_h2;
use super::error;
use super::judge::{count_down, replaced_host};
use super::mode::explicit::{self, Route};
use crate::flow::{Request, Target, Version};
use crate::http1::{
    BodyLength, HeadLimits, Parsed, RequestLine, is_hop_by_hop, parse_request, request_length,
    upgrade_tokens, write_request_head,
};
use crate::http2;

/// How a request is to go on.
#[derive(Debug, Clone, Copy)]
pub struct Onward<'a> {
    /// The origin, as the request names it.
    pub target: &'a Target,
    /// In which protocol: [`Version::Http2`], or any other for HTTP/1.1.
    pub spoken: Version,
    /// `Host` or `:authority` in place of the request's own.
    pub host: Option<&'a [u8]>,
    /// Whether it went out by [`super::Outbound`], so that it is as it goes on, and was counted by no hop.
    pub is_our_own: bool,
    /// Whether the request has payload or trailers; only asked where its head does not tell, in HTTP/2.
    pub has_body: bool,
}

/// Why a recorded request cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unsendable(String);

impl From<error::Error> for Unsendable {
    fn from(error: error::Error) -> Self {
        Self(error.message)
    }
}

/// The request as it goes on, without its body and trailers: origin-form, [`Version::Http11`] or [`Version::Http2`].
///
/// # Errors
/// If it is malformed, has no form in that protocol, or was for a proxy itself (`Max-Forwards: 0`).
pub fn onward(request: &Request, onward: &Onward<'_>) -> Result<Request, Unsendable> {
    match unchanged(request, onward) {
        Some(request) => Ok(request),
        None => rewritten(request, onward),
    }
}

/// The request itself, where nothing in it is for a hop, names its origin in other words, or would be read in another way than
/// it was written: most requests, which need not be written and read for that. `None` says nothing.
fn unchanged(request: &Request, onward: &Onward<'_>) -> Option<Request> {
    let is_version_1 = request.version == Version::Http11 && onward.spoken != Version::Http2;
    let is_as_parsed = request.raw_head.is_none() && request.changed.is_none();
    let is_target = |b: &u8| b.is_ascii_alphanumeric() || b"/?&=._-~%+:;,@!$'()*".contains(b);
    let is_plain = is_version_1
        && is_as_parsed
        && onward.host.is_none()
        && request.target.first() == Some(&b'/')
        && request.target.iter().all(is_target)
        && !request.method.is_empty()
        && request.method.iter().all(u8::is_ascii_uppercase)
        && request.method != b"CONNECT"[..];
    if !is_plain {
        return None;
    }
    let mut hosts = 0;
    let mut head_len = request.method.len() + request.target.len() + b"  HTTP/1.1\r\n\r\n".len();
    for (name, value) in request.headers.iter() {
        let is_ordinary = match name.len() {
            // Max-Forwards, HTTP2-Settings, Content-Length, Transfer-Encoding: and some others of their lengths.
            12 | 14 | 17 => false,
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                names(value, onward.target)
            }
            _ => !is_hop_by_hop(name),
        };
        if !is_ordinary || !is_plain_field(name, value) {
            return None;
        }
        head_len += name.len() + value.len() + b": \r\n".len();
    }
    (hosts == 1).then(|| Request {
        method: request.method.clone(),
        target: request.target.clone(),
        version: Version::Http11,
        headers: request.headers.clone(),
        head_len: head_len as u64,
        ..Request::default()
    })
}

/// Whether a field is read as it is written (RFC 9110 §5.1, §5.5).
fn is_plain_field(name: &[u8], value: &[u8]) -> bool {
    let is_visible = |b: &u8| (b'!'..=b'~').contains(b);
    // To the end also where one is not: so the compiler takes many at a time.
    let all = |bytes: &[u8], are: fn(u8) -> bool| bytes.iter().fold(true, |all, b| all & are(*b));
    !name.is_empty()
        && all(name, |b| b.is_ascii_alphanumeric() | (b == b'-'))
        && value.first().is_some_and(is_visible)
        && value.last().is_some_and(is_visible)
        && all(value, |b| (b' '..=b'~').contains(&b))
}

/// Whether a `Host` is the target in so many words.
fn names(host: &[u8], target: &Target) -> bool {
    let name = target.host.as_bytes();
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(b));
    let port = host.strip_prefix(name).filter(|_| is_name);
    match port.map(|port| port.split_first()) {
        Some(None) => target.port == target.scheme.default_port(),
        Some(Some((b':', digits))) => target.port != 0 && target.port.to_string().as_bytes() == digits,
        Some(Some(_)) | None => false,
    }
}

fn rewritten(request: &Request, onward: &Onward<'_>) -> Result<Request, Unsendable> {
    let Onward { target, spoken, host, is_our_own, has_body } = *onward;
    let changed = request.changed.as_deref().map(|headers| Request {
        headers: headers.clone(),
        changed: None,
        ..request.clone()
    });
    let request = changed.as_ref().unwrap_or(request);
    let names_host = request.headers.get("host").is_some() || request.authority.is_some();
    let mut route = if !names_host && request.target.starts_with(b"/") {
        Route { target: target.clone(), origin_form: request.target.clone(), authority: None }
    } else {
        explicit::route(request, target.scheme)?
    };
    route.target = target.clone();
    let host = host.map(Bytes::copy_from_slice).or_else(|| replaced_host(request, &route));
    let (max_forwards, own_answer) = if is_our_own { (None, None) } else { count_down(request) };
    if own_answer.is_some() {
        return Err(Unsendable("it was for the proxy itself (Max-Forwards: 0)".into()));
    }
    if spoken == Version::Http2 {
        return over_http2(request, &route, host.as_ref(), max_forwards);
    }
    let length = match request.version {
        Version::Http2 => ends_h2::request_length(request, !has_body),
        _ => request_length(request),
    };
    let length = length.map_err(|error| Unsendable(error.to_string()))?;
    over_http1(request, &route, host.as_deref(), max_forwards, length)
}

fn over_http1(
    request: &Request,
    route: &Route,
    host: Option<&[u8]>,
    max_forwards: Option<u64>,
    length: BodyLength,
) -> Result<Request, Unsendable> {
    let upgrade = upgrade_tokens(request).is_some();
    let line =
        RequestLine { target: &route.origin_form, host, upgrade, max_forwards, proxy_authorization: None };
    let mut head = BytesMut::new();
    write_request_head(&mut head, request, &line, length);
    // It was within the limits of its time, whatever those were.
    let limits = HeadLimits { max_bytes: usize::MAX, max_fields: request.headers.len() + ADDED_FIELDS };
    match parse_request(&head, &limits) {
        Ok(Parsed::Head(request, len)) if len == head.len() => Ok(request),
        Ok(_) => Err(Unsendable("its head is no whole one".into())),
        Err(error) => Err(Unsendable(error.to_string())),
    }
}

fn over_http2(
    request: &Request,
    route: &Route,
    host: Option<&Bytes>,
    max_forwards: Option<u64>,
) -> Result<Request, Unsendable> {
    let bridged = bridge::connect(request);
    let request = bridged.as_ref().unwrap_or(request);
    let named = || request.headers.get("host").map(Bytes::copy_from_slice);
    let authority = host.cloned().or_else(|| request.authority.clone()).or_else(named);
    let head = ends_h2::outgoing_request(
        request,
        route.target.scheme.as_str(),
        &authority.unwrap_or_default(),
        &route.origin_form,
        max_forwards,
        None,
    )?;
    let mut onward = http2::request(&head.into_parts().0);
    // The crate fills in `/` where `*` stood (RFC 9113 §8.3.1).
    onward.target = route.origin_form.clone();
    Ok(onward)
}

/// `Host`, `Transfer-Encoding` and `Connection`, where the relay adds them.
const ADDED_FIELDS: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::flow::{Headers, Scheme};

    const NAMES: &[&str] = &[
        "Connection",
        "connection",
        "TE",
        "Upgrade",
        "X-A",
        "x-a",
        "Cookie",
        "Max-Forwards",
        "Keep-Alive",
        "Proxy-Connection",
        "HTTP2-Settings",
        "Expect",
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
    ];
    const VALUES: &[&str] = &[
        "",
        "1",
        "x-a",
        "close",
        "keep-alive, X-A",
        "Upgrade",
        "upgrade, te",
        "TE",
        "trailers",
        "websocket",
        "chunked",
        "7",
    ];

    /// One of `good` mostly, one of `odd` now and then: of many parts that are each odd half the time, none is ever whole.
    fn mostly(
        good: &'static [&'static str],
        odd: &'static [&'static str],
    ) -> impl Strategy<Value = &'static str> {
        prop_oneof![19 => select(good), 1 => select(odd)]
    }

    /// A request that is whole as a rule, and where it goes.
    fn nearly_plain() -> impl Strategy<Value = (Request, Target)> {
        let name = || mostly(&["Accept", "X-A", "cookie", "Referer"], &["Content-Type", "X_a", "", "a b"]);
        let value = || {
            let odd = &["\u{e9}", " a", "a\t", "\ta", "", "a\r\nb: c", "a\nb", "\0", "\u{7f}"];
            mostly(&["a", "a  b;q=1", "\"<>{}|\\^`", "~"], odd)
        };
        let odd_targets = &["/a#b", "/a b", "/\u{e9}", "/\"<>", "*", "http://h/", "", "/\r\n"];
        let line = (
            mostly(&["GET", "POST", "OPTIONS", "TRACE", "DELETE", "X"], &["M-SEARCH", "get", "CONNECT", ""]),
            mostly(&["/", "/a?b=c&d=%20(e)", "//h", "/a/../%", "/?"], odd_targets),
            prop_oneof![19 => Just(Version::Http11), 1 => select(&[Version::Http10, Version::Http2][..])],
        );
        let host = (
            mostly(&["h", "h.test", "127.0.0.1", "..", "-"], &["::1", "", "a@h", "H\u{e9}"]),
            select(&[80_u16, 80, 81, 0][..]),
            mostly(&[""], &[":", ":080", ":81", "x", " ", "@b"]),
        );
        let fields = proptest::collection::vec((name(), value()), 0..4);
        let others = prop_oneof![
            9 => Just(Vec::new()),
            1 => proptest::collection::vec((select(NAMES), select(VALUES)), 0..3),
        ];
        let flags = (proptest::bool::weighted(0.05), proptest::bool::ANY);
        (line, host, fields, others, flags).prop_map(
            |((method, target, version), (named, port, more), fields, others, (raw, spelled))| {
                let digits = if spelled || port != 80 { format!(":{port}") } else { String::new() };
                let host = format!("{named}{digits}{more}");
                let fields = fields.into_iter().chain(others);
                let headers: Headers = [("Host", &host[..])].into_iter().chain(fields).collect();
                let raw_head = raw.then(|| "GET /other HTTP/1.1\r\n\r\n".into());
                let (method, target) = (method.into(), target.into());
                let request =
                    Request { method, target, version, headers, raw_head, head_len: 7, ..Request::default() };
                (request, Target { scheme: Scheme::Http, host: named.to_owned(), port })
            },
        )
    }

    fn inside(target: &Target, is_our_own: bool) -> Onward<'_> {
        Onward { target, spoken: Version::Http11, host: None, is_our_own, has_body: false }
    }

    #[test]
    fn a_browsers_request_is_unchanged() {
        let headers = [("Host", "h.test:8080"), ("User-Agent", "A/1 (X; Y) Z"), ("Cookie", "a=b; c=\"d\"")];
        let request = Request {
            method: "GET".into(),
            target: "/a?b=c".into(),
            version: Version::Http11,
            headers: headers.into_iter().collect(),
            ..Request::default()
        };
        let target = Target { scheme: Scheme::Https, host: "h.test".into(), port: 8080 };
        let same = unchanged(&request, &inside(&target, false)).unwrap();
        assert_eq!((&same.headers, same.head_len), (&request.headers, 88));
        assert_eq!(Ok(same), rewritten(&request, &inside(&target, false)));
    }

    proptest! {
        /// What is taken for unchanged is what comes of writing and reading it. About half of these are.
        #[test]
        fn what_is_unchanged_would_not_be_rewritten((request, target) in nearly_plain(), own in proptest::bool::ANY) {
            let how = inside(&target, own);
            if let Some(same) = unchanged(&request, &how) {
                prop_assert_eq!(Ok(same), rewritten(&request, &how));
            }
        }

        /// What was sent on can be sent on again: nothing more is taken away, added or counted down.
        #[test]
        fn what_went_on_goes_on_as_it_is(
            method in select(&["GET", "POST", "OPTIONS", "M-SEARCH"][..]),
            target in select(&["/", "/a?b=c", "http://h/a#f", "http://o.test", "*"][..]),
            version in select(&[Version::Http10, Version::Http11, Version::Http2][..]),
            host in select(&[None, Some("h"), Some("o.test:81")][..]),
            fields in proptest::collection::vec((select(NAMES), select(VALUES)), 0..6),
            spoken in select(&[Version::Http11, Version::Http2][..]),
        ) {
            let is_http2 = version == Version::Http2;
            let headers: Headers = host.iter().map(|host| ("Host", *host)).chain(fields).collect();
            let request = Request {
                method: method.into(),
                target: target.into(),
                version,
                headers,
                authority: is_http2.then(|| "h".into()),
                scheme: is_http2.then(|| "http".into()),
                ..Request::default()
            };
            let target = Target { scheme: Scheme::Http, host: "h".into(), port: 80 };
            let how = Onward { target: &target, spoken, host: None, is_our_own: false, has_body: false };
            if let Ok(once) = onward(&request, &how) {
                let again = onward(&once, &Onward { is_our_own: true, ..how }).unwrap();
                prop_assert_eq!(&again, &once);
                prop_assert_eq!(once.raw_head, None);
            }
        }
    }
}
