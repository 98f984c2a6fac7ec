//! The member `_manent`, read: what `extra.rs` wrote. What is missing or odd is left at its default; a person may have edited it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;

use crate::flow::{
    Addr, Applied, Body, BodyEnd, ClientAuth, ClientConn, ConnId, ConnectHead, Content, Flow, FlowError,
    Framing, Headers, Imported, Interim, Kind, Mid, Note, Request, Response, Scheme, ServerConn, Side, Stage,
    State, Target, Timing, TlsInfo, Tunnel, Value, Via, WebSocket,
};

use super::entry::Entry;
use super::fields::{NAME_BYTES, VALUE_BYTES};
use super::foreign;
use super::seen::Seen;

/// Connections whose facts were read, by id, revision and beginning: flows of several stores may be in one archive, and each has
/// ids of its own.
#[derive(Debug, Default)]
pub(super) struct Conns {
    clients: Seen<(u64, u32, i64), Arc<ClientConn>>,
    servers: Seen<(u64, u32, i64), Arc<ServerConn>>,
    /// The same by how they stand in the archive.
    client_texts: Seen<Vec<u8>, Arc<ClientConn>>,
    server_texts: Seen<Vec<u8>, Arc<ServerConn>>,
}

/// Puts into a flow, which has what HAR's own members say, what `json` says besides, and its connections.
pub(super) fn flow(flow: &mut Flow, note: &mut Note, json: &Json, entry: &Entry, conns: &mut Conns) {
    flow.mid = int(json, "mid").map(Mid);
    flow.state = word(json, "state", &State::ALL, State::as_str).unwrap_or_default();
    flow.kind = word(json, "kind", &Kind::ALL, Kind::as_str).unwrap_or_default();
    if let Some(ns) = json.get("started_unix_ns").and_then(Json::as_i64) {
        flow.timing.started_unix_ns = ns;
    }
    if let Some(target) = json.get("target") {
        flow.target = Target {
            scheme: word(target, "scheme", &Scheme::ALL, Scheme::as_str).unwrap_or_default(),
            host: text(target, "host").unwrap_or_default(),
            port: small(target, "port"),
        };
    }
    flow.error = json.get("error").map(|error| FlowError {
        side: word(error, "side", &Side::ALL, Side::as_str).unwrap_or_default(),
        stage: word(error, "stage", &Stage::ALL, Stage::as_str).unwrap_or_default(),
        message: text(error, "message").unwrap_or_default(),
        at_us: int(error, "at_us").unwrap_or(0),
    });
    timing(&mut flow.timing, json.get("timing").unwrap_or(&Json::Null));
    if let (Some(message), Some(json)) = (&mut flow.request, json.get("request")) {
        request(message, json);
    }
    flow.interim = items(json, "interim").map(interim).collect();
    if let (Some(message), Some(json)) = (&mut flow.response, json.get("response")) {
        response(message, json);
    }
    flow.tunnel = json.get("tunnel").map(|tunnel| Tunnel {
        reason: text(tunnel, "reason").unwrap_or_default(),
        from_client: body_facts(tunnel.get("from_client")),
        from_server: body_facts(tunnel.get("from_server")),
    });
    flow.websocket = json.get("websocket").map(web_socket);
    flow.client = client(&entry.client, conns);
    flow.server = entry.server.as_deref().map(|json| server(json, conns));
    flow.server_reused = flag(json, "server_reused");
    flow.replay_of = int(json, "replay_of").map(Mid);
    flow.rules = items(json, "rules").map(applied).collect();
    note.marker = text(json, "marker").filter(|marker| !marker.is_empty());
    note.tags = items(json, "tags").filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
    flow.imported = json.get("imported").map(|json| Box::new(imported(json)));
}

fn applied(json: &Json) -> Applied {
    Applied {
        rule: text(json, "rule").unwrap_or_default(),
        at_us: int(json, "at_us").unwrap_or(0),
        times: int(json, "times").unwrap_or(1),
    }
}

fn request(request: &mut Request, json: &Json) {
    if let Some(target) = bytes(json, "target") {
        request.target = target;
    }
    if let Some(method) = bytes(json, "method") {
        request.method = method;
    }
    request.scheme = bytes(json, "scheme");
    request.authority = bytes(json, "authority");
    request.protocol = bytes(json, "protocol");
    request.raw_head = bytes(json, "raw_head");
    request.head_len = int(json, "head_len").unwrap_or(0);
    request.trailers = json.get("trailers").map(headers);
    request.changed = json.get("changed").map(headers);
    request.body = body_facts(json.get("body"));
}

fn response(response: &mut Response, json: &Json) {
    if let Some(reason) = bytes(json, "reason") {
        response.reason = reason;
    }
    response.by_proxy = flag(json, "by_proxy");
    response.raw_head = bytes(json, "raw_head");
    response.head_len = int(json, "head_len").unwrap_or(0);
    response.trailers = json.get("trailers").map(headers);
    response.body = body_facts(json.get("body"));
}

/// What is said of a body. Its content is [`Content::Absent`], or to be put in its place.
fn body_facts(json: Option<&Json>) -> Body {
    let Some(json) = json else { return Body::default() };
    let is_recorded = json.get("recorded").and_then(Json::as_bool).unwrap_or(true);
    Body {
        content: if is_recorded { Content::Inline(Bytes::new()) } else { Content::Absent },
        len: int(json, "len").unwrap_or(0),
        wire_len: int(json, "wire_len").unwrap_or(0),
        framing: word(json, "framing", &Framing::ALL, Framing::as_str).unwrap_or_default(),
        end: body_end(json.get("end")),
    }
}

/// How a body ended; whole where it is not said.
pub(super) fn body_end(json: Option<&Json>) -> BodyEnd {
    let word = json.and_then(Json::as_str);
    BodyEnd::ALL.into_iter().find(|end| word == Some(end.as_str())).unwrap_or(BodyEnd::Whole)
}

fn interim(json: &Json) -> Interim {
    Interim {
        status: small(json, "status"),
        reason: bytes(json, "reason").unwrap_or_default(),
        headers: json.get("headers").map(headers).unwrap_or_default(),
        at_us: int(json, "at_us").unwrap_or(0),
    }
}

fn web_socket(json: &Json) -> WebSocket {
    let count = |name| int(json, name).unwrap_or(0);
    WebSocket {
        closed_by_client: json.get("closed_by_client").and_then(Json::as_bool),
        close_code: int(json, "close_code").and_then(|code| code.try_into().ok()),
        close_reason: text(json, "close_reason"),
        messages_from_client: count("messages_from_client"),
        messages_from_server: count("messages_from_server"),
        len_from_client: count("len_from_client"),
        len_from_server: count("len_from_server"),
        bad_text_from_client: count("bad_text_from_client"),
        bad_text_from_server: count("bad_text_from_server"),
    }
}

fn timing(timing: &mut Timing, json: &Json) {
    timing.request_head_us = int(json, "request_head_us");
    timing.request_end_us = int(json, "request_end_us");
    timing.connected_us = int(json, "connected_us");
    timing.send_start_us = int(json, "send_start_us");
    timing.send_end_us = int(json, "send_end_us");
    timing.response_head_us = int(json, "response_head_us");
    timing.response_end_us = int(json, "response_end_us");
    timing.end_us = int(json, "end_us");
}

fn client(text: &[u8], conns: &mut Conns) -> Arc<ClientConn> {
    if let Some(known) = conns.client_texts.get(text) {
        return Arc::clone(known);
    }
    let conn = client_of(&serde_json::from_slice(text).unwrap_or_default(), text.len(), conns);
    if conn.id.0 > 0 {
        conns.client_texts.insert(text.to_vec(), Arc::clone(&conn), text.len());
    }
    conn
}

/// The same of what is JSON, `len` bytes of it.
fn client_of(json: &Json, len: usize, conns: &mut Conns) -> Arc<ClientConn> {
    let key = (int(json, "id").unwrap_or(0), small(json, "revision"), started(json));
    if let Some(known) = conns.clients.get(&key) {
        return Arc::clone(known);
    }
    let connect = json.get("connect").map(|connect| ConnectHead {
        authority: bytes(connect, "authority").unwrap_or_default(),
        headers: connect.get("headers").map(headers).unwrap_or_default(),
    });
    let conn = Arc::new(ClientConn {
        id: ConnId(key.0),
        revision: key.1,
        peer: json.get("peer").map(addr),
        local: json.get("local").map(addr),
        mode: text(json, "mode").unwrap_or_default(),
        started_unix_ns: key.2,
        connect,
        proxy_tls: json.get("proxy_tls").map(tls),
        tls: json.get("tls").map(tls),
        tls_start_us: int(json, "tls_start_us"),
        tls_end_us: int(json, "tls_end_us"),
        closed_us: int(json, "closed_us"),
        bytes_in: int(json, "bytes_in").unwrap_or(0),
        bytes_out: int(json, "bytes_out").unwrap_or(0),
        error: text(json, "error"),
    });
    if key.0 > 0 {
        conns.clients.insert(key, Arc::clone(&conn), len);
    }
    conn
}

fn started(json: &Json) -> i64 {
    json.get("started_unix_ns").and_then(Json::as_i64).unwrap_or(0)
}

fn server(text: &[u8], conns: &mut Conns) -> Arc<ServerConn> {
    if let Some(known) = conns.server_texts.get(text) {
        return Arc::clone(known);
    }
    let conn = server_of(&serde_json::from_slice(text).unwrap_or_default(), text.len(), conns);
    if conn.id.0 > 0 {
        conns.server_texts.insert(text.to_vec(), Arc::clone(&conn), text.len());
    }
    conn
}

/// The same of what is JSON, `len` bytes of it.
fn server_of(json: &Json, len: usize, conns: &mut Conns) -> Arc<ServerConn> {
    let key = (int(json, "id").unwrap_or(0), small(json, "revision"), started(json));
    if let Some(known) = conns.servers.get(&key) {
        return Arc::clone(known);
    }
    let via = json.get("via").map(|via| Via {
        scheme: text(via, "scheme").unwrap_or_default(),
        address: via.get("address").map(addr).unwrap_or_default(),
    });
    let conn = Arc::new(ServerConn {
        id: ConnId(key.0),
        revision: key.1,
        address: json.get("address").map(addr).unwrap_or_default(),
        peer: json.get("peer").map(addr),
        local: json.get("local").map(addr),
        via,
        started_unix_ns: key.2,
        dns_us: int(json, "dns_us"),
        connect_us: int(json, "connect_us"),
        tls_us: int(json, "tls_us"),
        tls: json.get("tls").map(tls),
        closed_us: int(json, "closed_us"),
        error: text(json, "error"),
    });
    if key.0 > 0 {
        conns.servers.insert(key, Arc::clone(&conn), len);
    }
    conn
}

fn tls(json: &Json) -> TlsInfo {
    let offers = items(json, "cipher_offers").filter_map(Json::as_u64);
    TlsInfo {
        sni: text(json, "sni"),
        alpn_offers: items(json, "alpn_offers").filter_map(to_bytes).collect(),
        cipher_offers: offers.filter_map(|number| number.try_into().ok()).collect(),
        version: text(json, "version"),
        cipher: text(json, "cipher"),
        group: text(json, "group"),
        alpn: bytes(json, "alpn"),
        resumed: flag(json, "resumed"),
        chain: items(json, "chain_der").filter_map(|der| decoded(der.as_str()?)).collect(),
        verified: flag(json, "verified"),
        error: text(json, "error"),
        client_auth: word(json, "client_auth", &ClientAuth::ALL, ClientAuth::as_str).unwrap_or_default(),
    }
}

fn addr(json: &Json) -> Addr {
    Addr {
        host: text(json, "host").unwrap_or_default(),
        port: small(json, "port"),
        flowinfo: int(json, "flowinfo").and_then(|n| n.try_into().ok()),
        scope: int(json, "scope").and_then(|n| n.try_into().ok()),
    }
}

fn imported(json: &Json) -> Imported {
    let exact = items(json, "exact")
        .filter_map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), value(pair.get(1)?))));
    Imported {
        format: text(json, "format").unwrap_or_default(),
        id: text(json, "id").unwrap_or_default(),
        metadata: json.get("metadata").map(value),
        unknown: json.get("unknown").map(value),
        exact: exact.collect(),
        backup: None,
    }
}

/// As `extra.rs` writes it. serde_json limits the depth.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => Value::Bool(*is),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or_default()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Json::as_str);
            if let Some(digits) = text("int").filter(|digits| foreign::is_int(digits)) {
                return Value::Int(digits.to_owned());
            }
            if let Some(number) = text("float").and_then(|number| number.parse().ok()) {
                return Value::Float(number);
            }
            if let Some(bytes) = text("base64").and_then(decoded) {
                return Value::Bytes(bytes);
            }
            let pairs = members.get("dict").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
            let pairs = pairs.as_chunks::<2>().0;
            Value::Dict(pairs.iter().map(|[key, of]| (value(key), value(of))).collect())
        }
    }
}

fn headers(json: &Json) -> Headers {
    let text = |field: &Json, exact: &str, name: &str| match field
        .get(exact)
        .and_then(Json::as_str)
        .and_then(decoded)
    {
        Some(bytes) => bytes,
        None => field
            .get(name)
            .and_then(Json::as_str)
            .map(|text| Bytes::from(text.to_owned()))
            .unwrap_or_default(),
    };
    let fields = json.as_array().into_iter().flatten();
    fields.map(|field| (text(field, NAME_BYTES, "name"), text(field, VALUE_BYTES, "value"))).collect()
}

/// A whole number; `None` if there is none.
pub(super) fn int(json: &Json, name: &str) -> Option<u64> {
    json.get(name).and_then(Json::as_u64)
}

fn small<T: TryFrom<u64> + Default>(json: &Json, name: &str) -> T {
    int(json, name).and_then(|number| number.try_into().ok()).unwrap_or_default()
}

fn text(json: &Json, name: &str) -> Option<String> {
    json.get(name).and_then(Json::as_str).map(str::to_owned)
}

fn flag(json: &Json, name: &str) -> bool {
    json.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn items<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> + use<'a> {
    json.get(name).and_then(Json::as_array).into_iter().flatten()
}

/// That of `all` which is called as the member says.
fn word<T: Copy>(json: &Json, name: &str, all: &[T], as_str: impl Fn(T) -> &'static str) -> Option<T> {
    let word = json.get(name).and_then(Json::as_str)?;
    all.iter().copied().find(|one| as_str(*one) == word)
}

fn bytes(json: &Json, name: &str) -> Option<Bytes> {
    json.get(name).and_then(to_bytes)
}

fn to_bytes(json: &Json) -> Option<Bytes> {
    match json {
        Json::String(text) => Some(Bytes::from(text.clone())),
        other => decoded(other.get("base64")?.as_str()?),
    }
}

fn decoded(base64: &str) -> Option<Bytes> {
    STANDARD.decode(base64).ok().map(Bytes::from)
}
