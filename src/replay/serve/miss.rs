//! What is told of a request to which there is no answer: which recorded one came nearest, and in what it differed.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

use super::desk::Desk;
use super::key::{Field, HeadSum, Match, Parts};
use super::payload::{name_of, pairs};
use crate::flow::{Body, Content, Flow, Headers, Mid, Request, Response, Scheme};
use crate::http1::BodyLength;
use crate::proxy::{Answer, AnswerBody};
use crate::store::{Reader, Row, StoreError};

/// A request to which there is no answer.
#[derive(Debug)]
pub(super) struct Missed<'a> {
    pub(super) parts: Parts<'a>,
    pub(super) sums: &'a HeadSum,
    pub(super) key: Option<[u8; 16]>,
    pub(super) body: AskedBody<'a>,
}

/// What is known of its body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AskedBody<'a> {
    pub(super) len: u64,
    /// All of it, where it is short.
    pub(super) bytes: &'a [u8],
}

/// What came nearest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nearest {
    pub(super) mid: Mid,
    /// Its method and URL.
    pub(super) request: String,
    /// What is different, a line each; none where its answer has been given.
    pub(super) differences: Vec<String>,
}

/// Looks for what came nearest.
pub(super) fn nearest(
    desk: &Desk,
    reader: &Reader,
    missed: &Missed<'_>,
) -> Result<Option<Nearest>, StoreError> {
    if let Some(key) = &missed.key
        && let Some(&mid) = desk.index.oldest(key, Mid(0), 1)?.first()
        && let Some(flow) = reader.flow_alone(mid)?
    {
        return Ok(Some(Nearest { mid, request: told(&flow), differences: Vec::new() }));
    }
    let mut candidates = desk.index.with_path(missed.sums.path, CANDIDATES)?;
    if candidates.is_empty() {
        candidates = desk.index.with_host(missed.sums.host, CANDIDATES)?;
    }
    let matching = &desk.options.matching;
    let mut best: Option<(usize, Mid)> = None;
    for mid in candidates {
        let Some(row) = reader.row(mid)? else { continue };
        let distance = distance(&row, missed, matching);
        // Of several that are as near, the newest, which comes first.
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, mid));
        }
    }
    let Some((_, mid)) = best else { return Ok(None) };
    let Some(flow) = reader.flow_alone(mid)? else { return Ok(None) };
    let differences =
        flow.request.as_ref().map(|request| differences(&flow, request, reader, missed, matching));
    Ok(Some(Nearest { mid, request: told(&flow), differences: differences.unwrap_or_default() }))
}

/// The method and the URL of a request, as far as a line has room.
pub(super) fn request_line(method: &[u8], scheme: Scheme, authority: &str, target: &[u8]) -> String {
    format!("{} {}://{}{}", shown(method), scheme.as_str(), shown(authority.as_bytes()), shown(target))
}

/// What a person is told.
pub(super) fn page(request: &str, nearest: Option<&Nearest>) -> String {
    let mut page = format!("manent: no recorded answer to {request}\n");
    // Writing to a String cannot fail.
    let _ = match nearest {
        None => writeln!(page, "nothing is recorded of this host or path"),
        Some(nearest) if nearest.differences.is_empty() => writeln!(
            page,
            "all of its answers have been given (flow {} was the first); --reuse gives them again and again",
            nearest.mid
        ),
        Some(nearest) => writeln!(page, "nearest: flow {}, {}", nearest.mid, nearest.request),
    };
    for difference in nearest.iter().flat_map(|nearest| &nearest.differences) {
        let _ = writeln!(page, "  {difference}");
    }
    page
}

/// A page of our own as an answer.
pub(super) fn local(status: u16, is_head: bool, page: String) -> Answer {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let bodiless = status < 200 || matches!(status, 204 | 304);
    let length = page.len().to_string();
    let mut fields = vec![("Cache-Control", "no-store")];
    if !bodiless {
        fields.extend([
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", &length[..]),
            ("X-Content-Type-Options", "nosniff"),
        ]);
    }
    let response = Response {
        status,
        reason: Bytes::from_static(reason.unwrap_or_default().as_bytes()),
        headers: fields.into_iter().collect(),
        body: Body::default(),
        by_proxy: true,
        ..Response::default()
    };
    match bodiless || is_head {
        true => Answer::new(response, BodyLength::None, AnswerBody::Inline(Bytes::new())),
        false => Answer::inline(response, page.into()),
    }
}

fn told(flow: &Flow) -> String {
    let method = flow.request.as_ref().map_or(&b""[..], |request| &request.method);
    request_line(method, flow.target.scheme, &flow.target.authority(), flow.path())
}

/// How far a recorded request is from one that was asked, by its row. What weighs most is what is least likely to be meant
/// alike.
fn distance(row: &Row, missed: &Missed<'_>, matching: &Match) -> usize {
    let asked = &missed.parts;
    let recorded = Parts {
        method: row.method.as_bytes(),
        websocket: false,
        scheme: row.scheme,
        host: &row.host,
        port: row.port,
        target: row.path.as_bytes(),
        headers: None,
    };
    let ((path, query), (asked_path, asked_query)) = (recorded.path_and_query(), asked.path_and_query());
    let mut distance = 0;
    if path != asked_path {
        let common = path.iter().zip(asked_path).take_while(|(one, other)| one == other).count();
        distance += 1000 + path.len().max(asked_path.len()) - common;
    }
    let differs = |field, differs: bool| differs && matching.has(&field);
    distance += 400 * usize::from(differs(Field::Host, !row.host.eq_ignore_ascii_case(asked.host)));
    distance += 200 * usize::from(differs(Field::Method, recorded.method != asked.method));
    distance += 50 * usize::from(differs(Field::Port, row.port != asked.port));
    distance += 50 * usize::from(differs(Field::Scheme, row.scheme != asked.scheme));
    if matching.has(&Field::Query) {
        let missing = pairs(query).filter(|pair| !pairs(asked_query).any(|other| other == *pair)).count();
        let more = pairs(asked_query).filter(|pair| !pairs(query).any(|other| other == *pair)).count();
        distance += (missing + more).min(40);
    }
    distance
}

fn differences(
    flow: &Flow,
    request: &Request,
    reader: &Reader,
    missed: &Missed<'_>,
    matching: &Match,
) -> Vec<String> {
    let (recorded, asked) = (Parts::of(flow, request), &missed.parts);
    let mut lines = Vec::new();
    let mut differ = |field: &str, recorded: &[u8], asked: &[u8]| {
        lines.push(format!("{field}: recorded {}, asked {}", shown(recorded), shown(asked)));
    };
    if recorded.websocket != asked.websocket {
        let kind = |websocket| if websocket { &b"a WebSocket"[..] } else { b"no WebSocket" };
        differ("upgrade", kind(recorded.websocket), kind(asked.websocket));
    }
    let ((path, query), (asked_path, asked_query)) = (recorded.path_and_query(), asked.path_and_query());
    let (port, asked_port) = (recorded.port.to_string(), asked.port.to_string());
    let host = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let (host, asked_host) = (host(recorded.host), host(asked.host));
    for (field, name, one, other) in [
        (Field::Method, "method", recorded.method, asked.method),
        (Field::Scheme, "scheme", recorded.scheme.as_str().as_bytes(), asked.scheme.as_str().as_bytes()),
        (Field::Host, "host", host.as_bytes(), asked_host.as_bytes()),
        (Field::Port, "port", port.as_bytes(), asked_port.as_bytes()),
        (Field::Path, "path", path, asked_path),
    ] {
        if matching.has(&field) && one != other {
            differ(name, one, other);
        }
    }
    if matching.has(&Field::Query) {
        query_differences(query, asked_query, matching, &mut lines);
    }
    for name in matching.headers() {
        let values = |headers: Option<&Headers>| -> Option<Vec<u8>> {
            let values: Vec<&[u8]> = headers?.get_all(name).collect();
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        };
        let (one, other) = (values(recorded.headers), values(asked.headers));
        if one != other {
            let value = |value: Option<Vec<u8>>| value.map_or("none".to_owned(), |value| shown(&value));
            lines.push(format!("header {name}: recorded {}, asked {}", value(one), value(other)));
        }
    }
    // Nothing else is left that could be different.
    if matching.has(&Field::Body) && (lines.is_empty() || request.body.len != missed.body.len) {
        lines.push(body_difference(request, reader, missed.body));
    }
    lines.truncate(MAX_LINES);
    lines
}

fn query_differences(recorded: &[u8], asked: &[u8], matching: &Match, lines: &mut Vec<String>) {
    let counts = |pair: &&[u8]| {
        let name = name_of(pair);
        !matching.ignored_params.iter().any(|ignored| ignored.as_bytes() == name)
    };
    let of = |query| pairs(query).filter(counts).collect::<Vec<_>>();
    let (recorded, asked) = (of(recorded), of(asked));
    let value = |pairs: &[&[u8]], name: &[u8]| {
        pairs.iter().find(|pair| name_of(pair) == name).map(|pair| shown(pair))
    };
    let before = lines.len();
    for pair in recorded.iter().chain(&asked).take(MAX_PAIRS) {
        let name = name_of(pair);
        let (one, other) = (value(&recorded, &name), value(&asked, &name));
        if one != other {
            let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            let line = format!("query {}: recorded {}, asked {}", shown(&name), or_none(one), or_none(other));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if lines.len() == before && recorded != asked {
        lines.push(format!(
            "query: recorded {}, asked {}",
            shown(&recorded.join(&b"&"[..])),
            shown(&asked.join(&b"&"[..]))
        ));
    }
}

fn body_difference(request: &Request, reader: &Reader, asked: AskedBody<'_>) -> String {
    let sizes = format!("body: recorded {} bytes, asked {} bytes", request.body.len, asked.len);
    let recorded = match &request.body.content {
        Content::Inline(bytes) => bytes.clone(),
        Content::Extents(_) if request.body.len <= MAX_COMPARED => {
            let mut bytes = Vec::new();
            let read =
                reader.body(&request.body).map(|mut body| std::io::Read::read_to_end(&mut body, &mut bytes));
            if !matches!(read, Ok(Ok(_))) {
                return sizes;
            }
            bytes.into()
        }
        Content::Extents(_) | Content::Absent => return sizes,
    };
    if asked.bytes.len() as u64 != asked.len {
        return sizes;
    }
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    if let (Some(one), Some(other)) = (json(&recorded), json(asked.bytes))
        && let Some(place) = json_difference(&one, &other, "$")
    {
        return format!("body: {place}");
    }
    let at = recorded.iter().zip(asked.bytes).take_while(|(one, other)| one == other).count();
    format!("{sizes}, different from byte {at} on")
}

/// The first place at which two values differ, and how.
fn json_difference(recorded: &Value, asked: &Value, path: &str) -> Option<String> {
    let missing = |path: &str, who: &str| Some(format!("{} is not {who}", shown(path.as_bytes())));
    match (recorded, asked) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                let path = format!("{path}.{name}");
                match other.get(name) {
                    None => return missing(&path, "asked"),
                    Some(asked) => {
                        if let Some(found) = json_difference(value, asked, &path) {
                            return Some(found);
                        }
                    }
                }
            }
            let new = other.keys().find(|name| !one.contains_key(*name))?;
            missing(&format!("{path}.{new}"), "recorded")
        }
        (Value::Array(one), Value::Array(other)) => {
            let found = one
                .iter()
                .zip(other)
                .enumerate()
                .find_map(|(at, (one, other))| json_difference(one, other, &format!("{path}[{at}]")));
            let lengths = || {
                let (one, other) = (one.len(), other.len());
                (one != other)
                    .then(|| format!("{} has {one} elements recorded, {other} asked", shown(path.as_bytes())))
            };
            found.or_else(lengths)
        }
        (one, other) if one == other => None,
        (one, other) => {
            let text = |value: &Value| shown(value.to_string().as_bytes());
            Some(format!("{}: recorded {}, asked {}", shown(path.as_bytes()), text(one), text(other)))
        }
    }
}

/// Text of a peer's on a line of ours: no control characters, and not too long.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            shown.push('…');
            break;
        }
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Flows that are looked at for each miss: rows, and a record at the end.
const CANDIDATES: usize = 64;

/// Characters of a value that are shown.
const MAX_SHOWN: usize = 120;

/// Differences that are told of one request.
const MAX_LINES: usize = 8;

/// Pairs of a query that are compared one by one.
const MAX_PAIRS: usize = 100;

/// Bytes of a body that are compared.
const MAX_COMPARED: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_differ_by_name() {
        let lines = |one: &str, other: &str| {
            let mut lines = Vec::new();
            let matching = Match { ignored_params: vec!["t".into()], ..Match::default() };
            query_differences(one.as_bytes(), other.as_bytes(), &matching, &mut lines);
            lines
        };
        assert_eq!(
            lines("a=1&b=2&t=1", "a=2&c=3&t=2"),
            [
                "query a: recorded a=1, asked a=2",
                "query b: recorded b=2, asked none",
                "query c: recorded none, asked c=3",
            ]
        );
        assert_eq!(lines("a=1&b=2", "b=2&a=1"), ["query: recorded a=1&b=2, asked b=2&a=1"]);
        assert!(lines("a=1&t=2", "t=3&a=1").is_empty());
    }

    #[test]
    fn values_differ_at_a_place() {
        let place = |one: &str, other: &str| {
            let value = |text| serde_json::from_str::<Value>(text).unwrap();
            json_difference(&value(one), &value(other), "$")
        };
        assert_eq!(place("{\"a\":[1,2]}", "{\"a\":[1,3]}").unwrap(), "$.a[1]: recorded 2, asked 3");
        assert_eq!(place("{\"a\":1}", "{}").unwrap(), "$.a is not asked");
        assert_eq!(place("{}", "{\"a\":1}").unwrap(), "$.a is not recorded");
        assert_eq!(place("[1]", "[1,2]").unwrap(), "$ has 1 elements recorded, 2 asked");
        assert_eq!(place("[1,{}]", "[1,{}]"), None);
    }

    #[test]
    fn what_is_shown_is_short_and_has_no_control_characters() {
        assert_eq!(shown(b"a\x1b[31m\r\n\xff"), "a\\u{1b}[31m\\r\\n\u{fffd}");
        assert_eq!(shown(&[b'x'; 500]).chars().count(), MAX_SHOWN + 1);
    }
}
