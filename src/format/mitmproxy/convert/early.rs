//! Steps from version 0.11 (the program's) to 7 (the format's).

use std::hash::{DefaultHasher, Hasher as _};

use super::{Handshakes, conns, messages, rename, set_new};
use crate::flow::Value;
use crate::format::mitmproxy::frames::Frames;
use crate::format::mitmproxy::node::{Dict, Node};
use crate::format::mitmproxy::uuid;
use crate::format::mitmproxy::value;

/// 0.14: the version of a message as text, other names in responses.
pub(super) fn http_version(state: &mut Dict, _: &mut Handshakes) {
    messages(state, |message| {
        if let Some(Node::Value(Value::List(parts))) = message.remove("httpversion") {
            let part =
                |value: &Value| if let Value::Int(text) = value { text.clone() } else { String::new() };
            let dotted = parts.iter().map(part).collect::<Vec<_>>().join(".");
            message.set("http_version", Node::bytes(format!("HTTP/{dotted}")));
        }
        rename(message, "code", "status_code");
    });
}

/// 0.16: bodies are called `content`, as they had been, and reason phrases `reason`.
pub(super) fn content_and_reason(state: &mut Dict, _: &mut Handshakes) {
    messages(state, |message| {
        rename(message, "body", "content");
        rename(message, "msg", "reason");
    });
}

/// 0.17: the address that was connected to.
pub(super) fn peer_address(state: &mut Dict, _: &mut Handshakes) {
    if let Some(server) = state.dict_mut("server_conn") {
        set_new(server, "peer_address", Node::NULL);
    }
}

/// 0.18: marks; names are text from here on, as they are read here anyway.
pub(super) fn marked(state: &mut Dict, _: &mut Handshakes) {
    if let Some(server) = state.dict_mut("server_conn") {
        rename(server, "peer_address", "ip_address");
    }
    set_new(state, "marked", Node::bool(false));
}

/// 0.19: what TLS agreed on, and metadata.
pub(super) fn tls_names(state: &mut Dict, _: &mut Handshakes) {
    conns(state, |conn| {
        for key in ["sni", "alpn_proto_negotiated", "cipher_name", "tls_version"] {
            set_new(conn, key, Node::NULL);
        }
    });
    set_new(state, "metadata", Node::Value(Value::Dict(Vec::new())));
}

/// 2.0: addresses are lists, and not dicts with lists in them.
pub(super) fn plain_addresses(state: &mut Dict, _: &mut Handshakes) {
    conns(state, |conn| {
        for key in ["address", "source_address", "ip_address"] {
            if let Some(inner) = conn.dict_mut(key).and_then(|address| address.remove("address")) {
                conn.set(key, inner);
            }
        }
    });
}

/// 3.0: the certificate that the client was shown.
pub(super) fn certificate_of_ours(state: &mut Dict, _: &mut Handshakes) {
    if let Some(client) = state.dict_mut("client_conn") {
        set_new(client, "mitmcert", Node::NULL);
    }
}

/// 5: connections have ids; one that began at the same time from the same address is the same.
pub(super) fn connection_ids(state: &mut Dict, _: &mut Handshakes) {
    for (side, address) in [("client_conn", "address"), ("server_conn", "source_address")] {
        let Some(conn) = state.dict_mut(side) else { continue };
        let mut key = Frames::default();
        key.bytes.extend_from_slice(side.as_bytes());
        for part in ["timestamp_start", address] {
            match conn.value(part) {
                Some(value) => value::write(value, &mut key),
                None => key.bytes.push(b'~'),
            }
        }
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(seed);
            hasher.write(&key.bytes);
            hasher.finish()
        };
        set_new(conn, "id", Node::text(uuid::text(half(0), half(1))));
    }
}

/// 6: what was called SSL is called TLS.
pub(super) fn ssl_to_tls(state: &mut Dict, _: &mut Handshakes) {
    conns(state, |conn| {
        rename(conn, "ssl_established", "tls_established");
        rename(conn, "timestamp_ssl_setup", "timestamp_tls_setup");
    });
}
