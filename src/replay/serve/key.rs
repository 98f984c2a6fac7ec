//! What a request must have in common with a recorded one to be given its answer, as a sum.
//!
//! The sum is 16 bytes of BLAKE3 over the chosen fields, each with its length: nobody can make two requests with one sum, so
//! that a hit needs no second look. What is spelled differently and means the same by RFC 9110 (case of a host) is one; the
//! order of a query's pairs is not, as servers tell it apart.

use std::str::FromStr;

use super::payload::{name_of, pairs};
use crate::flow::{Flow, Headers, Request, Scheme};

/// The fields of a request that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Which of its parts.
    pub fields: Vec<Field>,
    /// Names of query parameters that do not count.
    pub ignored_params: Vec<String>,
    /// Names of a form's fields that do not count (`application/x-www-form-urlencoded`, `multipart/form-data`).
    pub ignored_payload_params: Vec<String>,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `http` or `https`.
    Scheme,
    /// The method.
    Method,
    /// The host of the origin.
    Host,
    /// Its port.
    Port,
    /// The path, up to the query, with `;parameters`.
    Path,
    /// The query.
    Query,
    /// The body. JSON counts by value, a multipart form by its parts.
    Body,
    /// All values of the header fields of this name, in their order.
    Header(String),
}

impl Match {
    /// Whether a field counts.
    #[must_use]
    pub fn has(&self, field: &Field) -> bool {
        self.fields.contains(field)
    }

    /// Takes a field out.
    pub fn ignore(&mut self, field: &Field) {
        self.fields.retain(|one| one != field);
    }

    /// The names of the header fields that count.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| match field {
            Field::Header(name) => Some(&name[..]),
            _ => None,
        })
    }

    pub(super) fn payload_params(&self) -> Vec<Vec<u8>> {
        self.ignored_payload_params.iter().map(|name| name.clone().into_bytes()).collect()
    }
}

impl Default for Match {
    /// mitmproxy's: everything but header fields.
    fn default() -> Self {
        use Field::{Body, Host, Method, Path, Port, Query, Scheme};
        Self {
            fields: vec![Scheme, Method, Host, Port, Path, Query, Body],
            ignored_params: Vec::new(),
            ignored_payload_params: Vec::new(),
        }
    }
}

/// Why a text names no part of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of scheme, method, host, port, path, query, body, header:NAME")]
pub struct FieldError(String);

impl FromStr for Field {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        Ok(match text {
            "scheme" => Self::Scheme,
            "method" => Self::Method,
            "host" => Self::Host,
            "port" => Self::Port,
            "path" => Self::Path,
            "query" => Self::Query,
            "body" => Self::Body,
            _ => match text.strip_prefix("header:").filter(|name| !name.is_empty()) {
                Some(name) => Self::Header(name.to_ascii_lowercase()),
                None => return Err(FieldError(text.to_owned())),
            },
        })
    }
}

/// The parts of a request's head that can count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) method: &'a [u8],
    /// Whether it asks for a WebSocket, whatever the protocol: that is another question than one for a page.
    pub(super) websocket: bool,
    pub(super) scheme: Scheme,
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// With the query.
    pub(super) target: &'a [u8],
    pub(super) headers: Option<&'a Headers>,
}

/// The sums of a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadSum {
    sum: [u8; 16],
    pub(super) head: i64,
    pub(super) path: i64,
    pub(super) host: i64,
}

impl<'a> Parts<'a> {
    /// Of a recorded request.
    pub(super) fn of(flow: &'a Flow, request: &'a Request) -> Self {
        Self {
            method: &request.method,
            websocket: asks_for_websocket(request),
            scheme: flow.target.scheme,
            host: &flow.target.host,
            port: flow.target.port,
            target: request.path(),
            headers: Some(&request.headers),
        }
    }

    /// Path and query, without a fragment.
    pub(super) fn path_and_query(&self) -> (&'a [u8], &'a [u8]) {
        let end = self.target.iter().position(|&byte| byte == b'#').unwrap_or(self.target.len());
        let target = &self.target[..end];
        let (path, query) = match target.iter().position(|&byte| byte == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &[][..]),
        };
        (if path.is_empty() { b"/" } else { path }, query)
    }

    /// The sums of what counts.
    pub(super) fn sum(&self, matching: &Match) -> HeadSum {
        let mut hasher = begin(b"request");
        let (path, query) = self.path_and_query();
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        let method: &[u8] = if self.websocket { b"websocket" } else { self.method };
        // Whatever else counts.
        put(&mut hasher, &[u8::from(self.websocket)]);
        for (field, value) in [
            (Field::Scheme, self.scheme.as_str().as_bytes()),
            (Field::Method, method),
            (Field::Host, host.as_bytes()),
            (Field::Port, &self.port.to_be_bytes()),
            (Field::Path, path),
        ] {
            put(&mut hasher, if matching.has(&field) { value } else { b"" });
        }
        if matching.has(&Field::Query) {
            let ignored = &matching.ignored_params;
            let is_ignored = |pair: &&[u8]| {
                !ignored.is_empty() && {
                    let name = name_of(pair);
                    ignored.iter().any(|one| one.as_bytes() == name)
                }
            };
            pairs(query).filter(|pair| !is_ignored(pair)).for_each(|pair| put(&mut hasher, pair));
        }
        for name in matching.headers() {
            put(&mut hasher, name.as_bytes());
            let values = self.headers.into_iter().flat_map(|headers| headers.get_all(name));
            values.for_each(|value| put(&mut hasher, value));
        }
        let sum = sum_of(&hasher);
        let one = |tag: &[u8], text: &[u8]| {
            let mut hasher = begin(tag);
            put(&mut hasher, text);
            short(sum_of(&hasher))
        };
        HeadSum { sum, head: short(sum), path: one(b"path", path), host: one(b"host", host.as_bytes()) }
    }
}

impl HeadSum {
    /// The key of a request with this head and body.
    pub(super) fn key(&self, body: BodySum) -> [u8; 16] {
        let mut hasher = begin(b"key");
        hasher.update(&self.sum).update(&body.0);
        sum_of(&hasher)
    }
}

/// The sum of a body, or that there is none, or that it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodySum([u8; 16]);

impl BodySum {
    pub(super) const NONE: Self = Self([0; 16]);

    /// Of bytes that were given to this hasher, which is [`BodySum::hasher`]'s.
    pub(super) fn of_bytes(hasher: &blake3::Hasher) -> Self {
        match hasher.count() {
            BEGUN => Self::NONE,
            _ => Self(sum_of(hasher)),
        }
    }

    /// Of a value.
    pub(super) fn of_value(sum: [u8; 16]) -> Self {
        Self(sum)
    }

    /// What bytes are to be given to.
    pub(super) fn hasher() -> blake3::Hasher {
        begin(b"bytes")
    }
}

/// Bytes that a hasher has seen before the first of a body.
const BEGUN: u64 = 8 + 5;

/// Whether a request begins a WebSocket: by an upgrade (RFC 6455 §4.1), or by an extended `CONNECT` (RFC 8441 §5).
pub(super) fn asks_for_websocket(request: &Request) -> bool {
    match &request.protocol {
        Some(protocol) => protocol.eq_ignore_ascii_case(b"websocket"),
        None => request.method == b"GET"[..] && request.headers.has_token("upgrade", "websocket"),
    }
}

pub(super) fn begin(tag: &[u8]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    put(&mut hasher, tag);
    hasher
}

pub(super) fn put(hasher: &mut blake3::Hasher, text: &[u8]) {
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
}

pub(super) fn sum_of(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut sum = [0; 16];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Half of a sum, for what is looked at once more.
fn short(sum: [u8; 16]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = sum;
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(change: impl FnOnce(&mut Parts<'_>), matching: &Match) -> [u8; 16] {
        let mut parts = Parts {
            method: b"GET",
            websocket: false,
            scheme: Scheme::Https,
            host: "a.test",
            port: 443,
            target: b"/p;x?a=1&b=2",
            headers: None,
        };
        change(&mut parts);
        parts.sum(matching).key(BodySum::NONE)
    }

    #[test]
    fn every_field_counts_unless_it_is_taken_out() {
        let all = Match::default();
        let same = key(|_| {}, &all);
        assert_eq!(key(|parts| parts.host = "A.test.", &all), same);
        assert_eq!(key(|parts| parts.target = b"/p;x?a=1&&b=2#c", &all), same);
        type Change = fn(&mut Parts<'_>);
        let changes: [(Change, Field); 6] = [
            (|parts| parts.method = b"POST", Field::Method),
            (|parts| parts.scheme = Scheme::Http, Field::Scheme),
            (|parts| parts.host = "b.test", Field::Host),
            (|parts| parts.port = 1, Field::Port),
            (|parts| parts.target = b"/p;y?a=1&b=2", Field::Path),
            (|parts| parts.target = b"/p;x?b=2&a=1", Field::Query),
        ];
        for (change, field) in changes {
            assert_ne!(key(change, &all), same, "{field:?}");
            let mut without = all.clone();
            without.ignore(&field);
            assert_eq!(key(change, &without), key(|_| {}, &without), "{field:?}");
        }
        assert_ne!(key(|parts| parts.websocket = true, &all), same);
    }

    #[test]
    fn parameters_are_ignored_by_name_and_blank_ones_count() {
        let target = |target: &'static [u8], matching: &Match| key(|parts| parts.target = target, matching);
        let ignoring = Match { ignored_params: vec!["p1".into(), "p2".into()], ..Match::default() };
        let none = target(b"/", &ignoring);
        for same in [&b"/?p1=1"[..], b"/?p1=2&p2", b"/?", b"/?%701=3"] {
            assert_eq!(key(|parts| parts.target = same, &ignoring), none);
        }
        assert_ne!(target(b"/?p3=2", &ignoring), none);
        assert_ne!(target(b"/?blank", &Match::default()), target(b"/?", &Match::default()));
    }

    #[test]
    fn header_fields_count_when_they_are_named() {
        let foo = |value: &str| -> Headers { [("Other", "x"), ("FOO", value)].into_iter().collect() };
        let (one, two, none): (_, _, Headers) = (foo("1"), foo("2"), Headers::new());
        let matching = Match {
            fields: [Match::default().fields, vec!["header:Foo".parse().unwrap()]].concat(),
            ..Match::default()
        };
        let with = |headers, matching: &Match| {
            let parts = Parts {
                method: b"GET",
                websocket: false,
                scheme: Scheme::Http,
                host: "h",
                port: 80,
                target: b"/",
                headers: Some(headers),
            };
            parts.sum(matching).key(BodySum::NONE)
        };
        let (again, empty) = (foo("1"), foo(""));
        assert_eq!(with(&one, &matching), with(&again, &matching));
        assert_ne!(with(&one, &matching), with(&two, &matching));
        assert_ne!(with(&one, &matching), with(&none, &matching));
        assert_ne!(with(&empty, &matching), with(&none, &matching));
        assert_eq!(with(&one, &Match::default()), with(&none, &Match::default()));
    }

    #[test]
    fn a_body_counts_and_an_empty_one_is_none() {
        let sum = |body: &[u8]| {
            let mut hasher = BodySum::hasher();
            hasher.update(body);
            BodySum::of_bytes(&hasher)
        };
        assert_eq!(sum(b""), BodySum::NONE);
        assert!(sum(b"a") == sum(b"a") && sum(b"a") != sum(b"b") && sum(b"a") != BodySum::NONE);
    }
}
