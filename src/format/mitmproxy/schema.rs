//! What mitmproxy's loader takes: the keys of each dict of version 21, in the order in which they are written, and their types.
//!
//! It refuses a whole file for one key too many or too few, or a value of another type. What is written here always fits.

use std::borrow::Cow;

use bytes::Bytes;

use super::node::{Dict, Node};
use super::pem;
use crate::flow::Value;

/// The keys of a dict with their types. mitmproxy writes the last one that it has first.
pub(super) type Keys = &'static [(&'static str, Kind)];

/// A type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Anything that can be written.
    Any,
    Bool,
    Int,
    /// Of either kind.
    Number,
    Text,
    Bytes,
    Word(&'static [&'static str]),
    /// A PEM certificate.
    Cert,
    /// How a client came in.
    Mode,
    Maybe(&'static Kind),
    List(&'static Kind),
    Tuple(&'static [Kind]),
    /// `[host, port]`, in IPv6 perhaps with flow info and scope.
    End,
    Dict(Keys),
    Body,
    Messages,
}

use Kind::{Any, Bool, Cert, End, Int, List, Maybe, Mode, Number, Text, Tuple, Word};

/// An HTTP flow.
pub(super) const HTTP: Keys = &[
    ("websocket", Maybe(&Kind::Dict(WEBSOCKET))),
    ("response", Maybe(&Kind::Dict(RESPONSE))),
    ("request", Kind::Dict(REQUEST)),
    BACKUP,
    CREATED,
    COMMENT,
    METADATA,
    MARKED,
    IS_REPLAY,
    INTERCEPTED,
    SERVER_CONN,
    CLIENT_CONN,
    ERROR,
    ID,
    TYPE,
    VERSION,
];

/// A TCP or UDP flow.
pub(super) const STREAM: Keys = &[
    ("messages", Kind::Messages),
    BACKUP,
    CREATED,
    COMMENT,
    METADATA,
    MARKED,
    IS_REPLAY,
    INTERCEPTED,
    SERVER_CONN,
    CLIENT_CONN,
    ERROR,
    ID,
    TYPE,
    VERSION,
];

/// A DNS flow.
pub(super) const DNS: Keys = &[
    ("response", Maybe(&Kind::Dict(DNS_MESSAGE))),
    ("request", Kind::Dict(DNS_MESSAGE)),
    BACKUP,
    CREATED,
    COMMENT,
    METADATA,
    MARKED,
    IS_REPLAY,
    INTERCEPTED,
    SERVER_CONN,
    CLIENT_CONN,
    ERROR,
    ID,
    TYPE,
    VERSION,
];

type Key = (&'static str, Kind);
const BACKUP: Key = ("backup", Any);
const CREATED: Key = ("timestamp_created", Number);
const COMMENT: Key = ("comment", Text);
const METADATA: Key = ("metadata", Any);
const MARKED: Key = ("marked", Text);
const IS_REPLAY: Key = ("is_replay", Maybe(&Text));
const INTERCEPTED: Key = ("intercepted", Bool);
const SERVER_CONN: Key = ("server_conn", Kind::Dict(SERVER));
const CLIENT_CONN: Key = ("client_conn", Kind::Dict(CLIENT));
const ERROR: Key = ("error", Maybe(&Kind::Dict(&[("timestamp", Number), ("msg", Text)])));
const ID: Key = ("id", Text);
const TYPE: Key = ("type", Word(&["http", "tcp", "udp", "dns"]));
const VERSION: Key = ("version", Int);

const REQUEST: Keys = &[
    ("path", Kind::Bytes),
    ("authority", Kind::Bytes),
    ("scheme", Kind::Bytes),
    ("method", Kind::Bytes),
    ("port", Int),
    ("host", Text),
    ("timestamp_end", Maybe(&Number)),
    ("timestamp_start", Number),
    ("trailers", Maybe(&FIELDS)),
    ("content", Maybe(&Kind::Body)),
    ("headers", FIELDS),
    ("http_version", Kind::Bytes),
];

const RESPONSE: Keys = &[
    ("reason", Kind::Bytes),
    ("status_code", Int),
    ("timestamp_end", Maybe(&Number)),
    ("timestamp_start", Number),
    ("trailers", Maybe(&FIELDS)),
    ("content", Maybe(&Kind::Body)),
    ("headers", FIELDS),
    ("http_version", Kind::Bytes),
];

const FIELDS: Kind = List(&Tuple(&[Kind::Bytes, Kind::Bytes]));

const WEBSOCKET: Keys = &[
    ("timestamp_end", Maybe(&Number)),
    ("close_reason", Maybe(&Text)),
    ("close_code", Maybe(&Int)),
    ("closed_by_client", Maybe(&Bool)),
    ("messages", Kind::Messages),
];

const CLIENT: Keys = &[
    ("proxy_mode", Mode),
    ("mitmcert", Maybe(&Cert)),
    ("timestamp_tls_setup", Maybe(&Number)),
    ("timestamp_end", Maybe(&Number)),
    ("timestamp_start", Number),
    ("sni", Maybe(&Text)),
    ("tls_version", TLS_VERSION),
    ("cipher_list", List(&Text)),
    ("cipher", Maybe(&Text)),
    ("alpn_offers", List(&Kind::Bytes)),
    ("alpn", Maybe(&Kind::Bytes)),
    ("certificate_list", List(&Cert)),
    ("tls", Bool),
    ("error", Maybe(&Text)),
    ("transport_protocol", TRANSPORT),
    ("id", Text),
    ("sockname", End),
    ("peername", End),
];

const SERVER: Keys = &[
    ("via", Maybe(&Tuple(&[Word(VIA_SCHEMES), Tuple(&[Text, Int])]))),
    ("timestamp_tcp_setup", Maybe(&Number)),
    ("address", Maybe(&Tuple(&[Text, Int]))),
    ("timestamp_tls_setup", Maybe(&Number)),
    ("timestamp_end", Maybe(&Number)),
    ("timestamp_start", Maybe(&Number)),
    ("sni", Maybe(&Text)),
    ("tls_version", TLS_VERSION),
    ("cipher_list", List(&Text)),
    ("cipher", Maybe(&Text)),
    ("alpn_offers", List(&Kind::Bytes)),
    ("alpn", Maybe(&Kind::Bytes)),
    ("certificate_list", List(&Cert)),
    ("tls", Bool),
    ("error", Maybe(&Text)),
    ("transport_protocol", TRANSPORT),
    ("id", Text),
    ("sockname", Maybe(&End)),
    ("peername", Maybe(&End)),
];

const TRANSPORT: Kind = Word(&["tcp", "udp"]);
const TLS_VERSION: Kind = Maybe(&Word(TLS_VERSIONS));

/// Versions of TLS that it knows.
pub(super) const TLS_VERSIONS: &[&str] =
    &["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "DTLSv0.9", "DTLSv1", "DTLSv1.2", "QUICv1"];

/// How it may speak to a proxy between it and an origin.
pub(super) const VIA_SCHEMES: &[&str] =
    &["http", "https", "http3", "tls", "dtls", "tcp", "udp", "dns", "quic"];

const DNS_MESSAGE: Keys = &[
    ("additionals", List(&Kind::Dict(RECORD))),
    ("authorities", List(&Kind::Dict(RECORD))),
    ("answers", List(&Kind::Dict(RECORD))),
    ("questions", List(&Kind::Dict(QUESTION))),
    ("response_code", Int),
    ("reserved", Int),
    ("recursion_available", Bool),
    ("recursion_desired", Bool),
    ("truncation", Bool),
    ("authoritative_answer", Bool),
    ("op_code", Int),
    ("query", Bool),
    ("id", Int),
    ("timestamp", Number),
];

const RECORD: Keys = &[("data", Kind::Bytes), ("ttl", Int), ("class_", Int), ("type", Int), ("name", Text)];
const QUESTION: Keys = &[("class_", Int), ("type", Int), ("name", Text)];

/// A key, without an allocation if it is a known one.
pub(super) fn name(key: &str) -> Cow<'static, str> {
    known(key.as_bytes()).map_or_else(|| Cow::Owned(key.to_owned()), Cow::Borrowed)
}

/// The key that it is, if it is a known one.
pub(super) fn known(key: &[u8]) -> Option<&'static str> {
    let all = [HTTP, STREAM, REQUEST, RESPONSE, CLIENT, SERVER, WEBSOCKET].into_iter().flatten();
    all.map(|(known, _)| *known).find(|known| known.as_bytes() == key)
}

/// The keys of a flow of this type.
pub(super) fn keys(kind: &str) -> Keys {
    match kind {
        "tcp" | "udp" => STREAM,
        "dns" => DNS,
        _ => HTTP,
    }
}

/// Gives text and bytes the type that is due where the other one stands, as in files of old versions.
pub(super) fn retype(state: &mut Dict) {
    if let Some(Value::Bytes(bytes)) = state.value("type") {
        let kind = String::from_utf8_lossy(bytes).into_owned();
        state.set("type", Node::text(kind));
    }
    let keys = keys(state.text("type").unwrap_or_default());
    retype_dict(state, keys);
}

fn retype_dict(dict: &mut Dict, keys: Keys) {
    for (key, node) in &mut dict.0 {
        let Some((_, kind)) = keys.iter().find(|(name, _)| name == key) else { continue };
        match (inner(*kind), node) {
            (Kind::Dict(keys), Node::Dict(dict)) => retype_dict(dict, keys),
            (kind, Node::Value(value)) => retype_value(value, kind),
            _ => {}
        }
    }
}

fn retype_value(value: &mut Value, kind: Kind) {
    match (inner(kind), &mut *value) {
        (Text | Word(_) | Mode, Value::Bytes(bytes)) => {
            *value = Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
        (Kind::Bytes | Cert, Value::Text(text)) => *value = Value::Bytes(Bytes::from(std::mem::take(text))),
        (List(kind), Value::List(members)) => {
            members.iter_mut().for_each(|member| retype_value(member, *kind))
        }
        (Tuple(kinds), Value::List(members)) => {
            members.iter_mut().zip(kinds).for_each(|(member, kind)| retype_value(member, *kind));
        }
        (End, Value::List(members)) => members.iter_mut().take(1).for_each(|host| retype_value(host, Text)),
        _ => {}
    }
}

/// The type of what may be null.
pub(super) fn inner(kind: Kind) -> Kind {
    if let Maybe(kind) = kind { *kind } else { kind }
}

/// Makes `dict` one that the loader takes: what it does not know is left out, and what does not fit or is not there is as
/// in `fallback`, which fits.
pub(super) fn mend(dict: &mut Dict, fallback: &Dict, keys: Keys) {
    dict.0.retain(|(key, _)| keys.iter().any(|(name, _)| name == key));
    for (key, kind) in keys {
        let spare = fallback.get(key);
        match (dict.get_mut(key), inner(*kind)) {
            (Some(Node::Dict(dict)), Kind::Dict(keys)) => {
                if let Some(Node::Dict(spare)) = spare {
                    mend(dict, spare, keys);
                    continue;
                }
                if fits_dict(dict, keys) {
                    continue;
                }
            }
            (Some(node), _) if fits(node, *kind) => continue,
            _ => {}
        }
        dict.set(key, spare.cloned().unwrap_or(Node::NULL));
    }
}

/// Whether the loader takes it.
fn fits(node: &Node, kind: Kind) -> bool {
    match (node, kind) {
        (node, Maybe(kind)) => node.is_null() || fits(node, *kind),
        (Node::Body(_), Kind::Body) | (Node::Messages(_), Kind::Messages) => true,
        (Node::Fields(_), List(Tuple([Kind::Bytes, Kind::Bytes])) | Any) => true,
        (Node::Dict(dict), Kind::Dict(keys)) => fits_dict(dict, keys),
        (Node::Dict(dict), Any) => dict.0.iter().all(|(_, node)| fits(node, Any)),
        (Node::Value(value), kind) => fits_value(value, kind),
        _ => false,
    }
}

fn fits_dict(dict: &Dict, keys: Keys) -> bool {
    dict.0.len() == keys.len()
        && keys.iter().all(|(key, kind)| dict.get(key).is_some_and(|node| fits(node, *kind)))
}

fn fits_value(value: &Value, kind: Kind) -> bool {
    match (value, kind) {
        (value, Maybe(kind)) => *value == Value::Null || fits_value(value, *kind),
        (Value::Bool(_), Bool) | (Value::Text(_), Text) | (Value::Bytes(_), Kind::Bytes | Kind::Body) => true,
        (Value::Float(_), Number) => true,
        (Value::Int(digits), Int | Number | Any) => digits.len() <= MAX_DIGITS,
        (Value::Text(text), Word(words)) => words.contains(&text.as_str()),
        (Value::Text(text), Mode) => is_mode(text),
        (Value::Bytes(text), Cert) => pem::is_certificate(text),
        (Value::List(members), List(kind)) => members.iter().all(|member| fits_value(member, *kind)),
        (Value::List(members), Tuple(kinds)) => {
            members.len() == kinds.len()
                && members.iter().zip(kinds).all(|(member, kind)| fits_value(member, *kind))
        }
        (Value::List(members), End) => {
            (2..=4).contains(&members.len())
                && members.iter().zip([Text, Int, Int, Int]).all(|(member, kind)| fits_value(member, kind))
        }
        (Value::Dict(pairs), Kind::Dict(keys)) => {
            let named = |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| matches!(key, Value::Text(key) if key == name))
                    .map(|(_, value)| value)
            };
            pairs.len() == keys.len()
                && keys.iter().all(|(key, kind)| named(key).is_some_and(|value| fits_value(value, *kind)))
        }
        (Value::List(members), Any) => members.iter().all(|member| fits_value(member, Any)),
        (Value::Dict(pairs), Any) => pairs.iter().all(|(_, value)| fits_value(value, Any)),
        (_, Any) => true,
        _ => false,
    }
}

/// Whether it is a dict that the loader takes as it is.
pub(super) fn is_metadata(value: &Value) -> bool {
    matches!(value, Value::Dict(_)) && fits_value(value, Any)
}

/// Whether it is a mode that mitmproxy can read.
pub(super) fn is_mode(text: &str) -> bool {
    // `mode:data@host:port`
    let (mode, _) = text.split_once('@').unwrap_or((text, ""));
    let (name, data) = mode.split_once(':').map_or((mode, None), |(name, data)| (name, Some(data)));
    match (name, data) {
        ("regular" | "transparent" | "socks5" | "dns", None) | ("wireguard" | "local" | "tun", _) => true,
        ("reverse" | "upstream", Some(data)) => {
            let (scheme, host) = data.split_once("://").unwrap_or(("https", data));
            let allowed = if name == "reverse" { VIA_SCHEMES } else { &["http", "https"] };
            let host = host.strip_suffix('/').unwrap_or(host);
            allowed.contains(&scheme) && !host.is_empty() && !host.contains(['/', '@', ' ', '\n'])
        }
        _ => false,
    }
}

/// Python reads whole numbers of up to 4300 digits, and makes floats of up to 308.
const MAX_DIGITS: usize = 300;
