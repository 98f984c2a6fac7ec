//! Steps from version 7 to 21 of the format.

use super::{Handshakes, conns, messages, rename, set_new};
use crate::flow::Value;
use crate::format::mitmproxy::node::{Dict, Node};

/// 8: trailers.
pub(super) fn trailers(state: &mut Dict, _: &mut Handshakes) {
    messages(state, |message| set_new(message, "trailers", Node::NULL));
}

/// 9: the authority of a request; whether a flow is a replay is said of the flow.
pub(super) fn authority_and_replay(state: &mut Dict, _: &mut Handshakes) {
    let mut replayed = None;
    for side in ["request", "response"] {
        let Some(message) = state.dict_mut(side) else { continue };
        if let Some(Node::Value(Value::Bool(true))) = message.remove("is_replay") {
            replayed.get_or_insert(side);
        }
    }
    if let Some(request) = state.dict_mut("request") {
        set_new(request, "authority", Node::bytes(""));
    }
    set_new(state, "is_replay", Node::or_null(replayed, Node::text));
}

/// 10: lists of certificates, protocols and ciphers.
pub(super) fn certificates_and_offers(state: &mut Dict, _: &mut Handshakes) {
    let list = |node: Option<Node>| match node {
        Some(Node::Value(value)) if !is_empty(&value) => Node::Value(Value::List(vec![value])),
        _ => Node::Value(Value::List(Vec::new())),
    };
    for (side, cert) in [("client_conn", "clientcert"), ("server_conn", "cert")] {
        let Some(conn) = state.dict_mut(side) else { continue };
        let certificates = list(conn.remove(cert));
        set_new(conn, "certificate_list", certificates);
        set_new(conn, "error", Node::NULL);
        let tls = conn.get("tls_established").cloned().unwrap_or(Node::bool(false));
        set_new(conn, "tls", tls);
        let (alpn, cipher) = (conn.get("alpn_proto_negotiated").cloned(), conn.get("cipher_name").cloned());
        set_new(conn, "alpn_offers", list(alpn));
        set_new(conn, "cipher_list", list(cipher));
    }
    if let Some(client) = state.dict_mut("client_conn") {
        let nowhere = vec![Value::Text(String::new()), Value::Int("0".to_owned())];
        set_new(client, "sockname", Node::Value(Value::List(nowhere)));
    }
}

/// 11: another name for the protocol that was agreed on.
pub(super) fn alpn_and_sni(state: &mut Dict, _: &mut Handshakes) {
    conns(state, |conn| {
        rename(conn, "alpn_proto_negotiated", "alpn");
        for key in ["alpn_offers", "cipher_list"] {
            set_new(conn, key, Node::Value(Value::List(Vec::new())));
        }
    });
}

/// 12: a WebSocket is a part of its handshake, and no flow of its own. As mitmproxy does, the handshake stays a flow too.
pub(super) fn websocket_in_handshake(state: &mut Dict, handshakes: &mut Handshakes) {
    let metadata = |key: &str| {
        let Some(Value::Dict(pairs)) = state.value("metadata") else { return None };
        let found = pairs.iter().find(|(name, _)| super::super::node::word(name) == Some(key));
        found.map(|(_, value)| value.clone())
    };
    if metadata("websocket").is_some() {
        handshakes.keep(state);
    }
    let Some(id) = metadata("websocket_handshake") else { return set_new(state, "websocket", Node::NULL) };
    let mut websocket = Dict::default();
    let (client, mut take) = (Value::Text("client".to_owned()), |key| state.remove(key));
    let by_client = take("close_sender").is_some_and(|sender| match sender {
        Node::Value(Value::Bytes(bytes)) => bytes == "client",
        sender => sender.as_value() == Some(&client),
    });
    websocket.set("messages", take("messages").unwrap_or(Node::Value(Value::List(Vec::new()))));
    websocket.set("closed_by_client", Node::bool(by_client));
    websocket.set("close_code", take("close_code").unwrap_or(Node::NULL));
    websocket.set("close_reason", take("close_reason").unwrap_or(Node::NULL));
    let mut joined = handshakes.take(&id).unwrap_or_else(|| without_handshake(state));
    let ended = joined.dict("server_conn").and_then(|server| server.get("timestamp_end")).cloned();
    websocket.set("timestamp_end", ended.unwrap_or(Node::NULL));
    joined.set("websocket", Node::Dict(websocket));
    let told =
        "This WebSocket flow has been migrated from an old file format version and may appear duplicated.";
    if let Some(Node::Value(Value::Dict(pairs))) = joined.get_mut("metadata") {
        pairs.push((Value::Text("duplicated".to_owned()), Value::Text(told.to_owned())));
    }
    *state = joined;
}

/// What stands for a handshake that is not in the file.
fn without_handshake(state: &mut Dict) -> Dict {
    let zero = || Node::int(0);
    let list = || Node::Value(Value::List(Vec::new()));
    let request = [
        ("authority", Node::bytes("")),
        ("content", Node::NULL),
        ("headers", list()),
        ("host", Node::text("unknown")),
        ("http_version", Node::bytes("HTTP/1.1")),
        ("method", Node::bytes("GET")),
        ("path", Node::bytes("/")),
        ("port", Node::int(80)),
        ("scheme", Node::bytes("http")),
        ("timestamp_end", zero()),
        ("timestamp_start", zero()),
        ("trailers", Node::NULL),
    ];
    let mut made = std::mem::take(state);
    made.set("request", Node::Dict(Dict::of(request)));
    made.set("response", Node::NULL);
    made.set("metadata", Node::Value(Value::Dict(Vec::new())));
    made.set("type", Node::text("http"));
    made
}

/// 13: marks have a sign.
pub(super) fn marker(state: &mut Dict, _: &mut Handshakes) {
    let marked = state.truth("marked").unwrap_or(false);
    if !matches!(state.value("marked"), Some(Value::Text(_))) {
        state.set("marked", Node::text(if marked { ":default:" } else { "" }));
    }
}

/// 14: comments; and responses without a beginning, which mitmproxy once wrote, get one.
pub(super) fn comment(state: &mut Dict, _: &mut Handshakes) {
    set_new(state, "comment", Node::text(""));
    let Some(sent) = state.dict("request").and_then(|request| request.number("timestamp_end")) else {
        return;
    };
    if let Some(response) = state.dict_mut("response")
        && response.get("timestamp_start").is_some_and(Node::is_null)
    {
        response.set("timestamp_start", Node::Value(Value::Float(sent)));
        response.set("timestamp_end", Node::Value(Value::Float(sent + 1.0)));
    }
}

/// 16: when the flow began.
pub(super) fn created(state: &mut Dict, _: &mut Handshakes) {
    let from = state.dict("request").or_else(|| state.dict("client_conn"));
    let began = from.and_then(|from| from.get("timestamp_start")).cloned().unwrap_or(Node::int(0));
    set_new(state, "timestamp_created", began);
}

/// 18: how the client came in.
pub(super) fn proxy_mode(state: &mut Dict, _: &mut Handshakes) {
    if let Some(client) = state.dict_mut("client_conn") {
        set_new(client, "proxy_mode", Node::text("regular"));
    }
}

/// 19: the ends of connections have the names of the socket interface.
pub(super) fn names_of_ends(state: &mut Dict, _: &mut Handshakes) {
    if let Some(client) = state.dict_mut("client_conn") {
        rename(client, "address", "peername");
        set_new(client, "timestamp_start", Node::Value(Value::Float(0.0)));
    }
    if let Some(server) = state.dict_mut("server_conn") {
        rename(server, "ip_address", "peername");
        rename(server, "source_address", "sockname");
        rename(server, "via", "via_conn");
        rename(server, "via2", "via");
        set_new(server, "via", Node::NULL);
        // `true` stood for the name in the address.
        if server.truth("sni") == Some(true) {
            let name = match server.value("address") {
                Some(Value::List(parts)) => parts.first().cloned(),
                _ => None,
            };
            server.set("sni", Node::or_null(name, Node::Value));
        }
    }
    conns(state, |conn| {
        rename(conn, "cipher_name", "cipher");
        set_new(conn, "transport_protocol", Node::text("tcp"));
    });
}

/// 21: QUIC has a version.
pub(super) fn quic(state: &mut Dict, _: &mut Handshakes) {
    conns(state, |conn| {
        if conn.text("tls_version") == Some("QUIC") {
            conn.set("tls_version", Node::text("QUICv1"));
        }
    });
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Text(text) => text.is_empty(),
        _ => false,
    }
}
