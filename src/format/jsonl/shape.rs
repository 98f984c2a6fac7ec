//! A flow as a JSON object, without the bytes of its bodies: the keys that `manent show --json` and JSON lines have in common.
//!
//! Nothing is lost on the way: text that is UTF-8 is a string, other bytes are `{"base64": …}`. Keys are stable; new ones may be
//! added. Keys that follow from others (`url`, `started`, `phases_us`, …) are for the reader's comfort.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::flow::{
    Addr, Applied, Body, ClientConn, Flow, FlowError, Headers, Imported, Interim, Mid, Note, Request,
    Response, ServerConn, Timing, TlsInfo, Value as Foreign, WebSocket,
};

/// The flow. Its bodies are objects that tell how long they are and how they ended, for the caller to put the bytes into:
/// `request.body`, `response.body`, `tunnel.from_client` and `tunnel.from_server`. `mid` stands in place of the flow's own.
#[must_use]
pub fn flow(flow: &Flow, mid: Option<Mid>, note: &Note) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("mid".to_owned(), json!(mid.map(|mid| mid.0)));
    put_flow(&mut object, flow, &facts, 0);
    object.insert("marker".to_owned(), json!(note.marker));
    object.insert("comment".to_owned(), json!(note.comment));
    object.insert("tags".to_owned(), json!(note.tags));
    object
}

/// Everything but the mid and the note, of a flow that is a backup within so many backups.
fn put_flow(object: &mut Map<String, Value>, flow: &Flow, body: &dyn Fn(&Body) -> Value, backups: usize) {
    let tunnel = flow.tunnel.as_ref().map(|tunnel| {
        json!({
            "reason": tunnel.reason,
            "from_client": body(&tunnel.from_client),
            "from_server": body(&tunnel.from_server),
        })
    });
    let members: [(&str, Value); 21] = [
        ("kind", flow.kind.as_str().into()),
        ("state", flow.state.as_str().into()),
        ("url", flow.url().into()),
        ("scheme", flow.target.scheme.as_str().into()),
        ("host", flow.target.host.as_str().into()),
        ("port", flow.target.port.into()),
        ("started", utc(flow.timing.started_unix_ns).into()),
        ("started_unix_ns", flow.timing.started_unix_ns.into()),
        ("duration_us", json!(flow.timing.end_us)),
        ("error", flow.error.as_ref().map_or(Value::Null, error)),
        ("request", flow.request.as_ref().map_or(Value::Null, |message| request(message, body))),
        ("interim", flow.interim.iter().map(interim).collect()),
        ("response", flow.response.as_ref().map_or(Value::Null, |message| response(message, body))),
        ("tunnel", json!(tunnel)),
        ("websocket", flow.websocket.as_deref().map_or(Value::Null, websocket)),
        ("timing", timing(&flow.timing, flow.server.as_deref().filter(|_| !flow.server_reused))),
        ("client", client(&flow.client)),
        ("server", flow.server.as_deref().map_or(Value::Null, server)),
        ("server_reused", flow.server_reused.into()),
        ("replay_of", json!(flow.replay_of.map(|mid| mid.0))),
        ("rules", flow.rules.iter().map(applied).collect()),
    ];
    object.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let imported = flow.imported.as_deref().map_or(Value::Null, |it| imported(it, backups));
    object.insert("imported".to_owned(), imported);
}

fn applied(applied: &Applied) -> Value {
    json!({"rule": applied.rule, "at_us": applied.at_us, "times": applied.times})
}

fn error(error: &FlowError) -> Value {
    json!({
        "side": error.side.as_str(), "stage": error.stage.as_str(), "message": error.message, "at_us": error.at_us,
    })
}

fn request(request: &Request, body: &dyn Fn(&Body) -> Value) -> Value {
    json!({
        "method": bytes(&request.method),
        "target": bytes(&request.target),
        "version": request.version.as_str(),
        "scheme": request.scheme.as_deref().map(bytes),
        "authority": request.authority.as_deref().map(bytes),
        "protocol": request.protocol.as_deref().map(bytes),
        "headers": headers(&request.headers),
        "raw_head": request.raw_head.as_deref().map(bytes),
        "head_len": request.head_len,
        "body": body(&request.body),
        "trailers": request.trailers.as_deref().map(headers),
        "changed": request.changed.as_deref().map(headers),
    })
}

fn response(response: &Response, body: &dyn Fn(&Body) -> Value) -> Value {
    json!({
        "status": response.status,
        "reason": bytes(&response.reason),
        "version": response.version.as_str(),
        "headers": headers(&response.headers),
        "raw_head": response.raw_head.as_deref().map(bytes),
        "head_len": response.head_len,
        "by_proxy": response.by_proxy,
        "body": body(&response.body),
        "trailers": response.trailers.as_deref().map(headers),
    })
}

fn interim(interim: &Interim) -> Value {
    json!({
        "status": interim.status, "reason": bytes(&interim.reason), "headers": headers(&interim.headers),
        "at_us": interim.at_us,
    })
}

fn websocket(ws: &WebSocket) -> Value {
    json!({
        "closed_by_client": ws.closed_by_client, "close_code": ws.close_code, "close_reason": ws.close_reason,
        "messages_from_client": ws.messages_from_client, "messages_from_server": ws.messages_from_server,
        "len_from_client": ws.len_from_client, "len_from_server": ws.len_from_server,
        "bad_text_from_client": ws.bad_text_from_client, "bad_text_from_server": ws.bad_text_from_server,
    })
}

/// What there is to say about a body beside its bytes.
fn facts(body: &Body) -> Value {
    json!({
        "len": body.len, "recorded_len": body.recorded_len(), "truncated": body.is_truncated(),
        "wire_len": body.wire_len, "framing": body.framing.as_str(), "end": body.end.as_str(),
    })
}

/// The facts of a body, and the bytes if they are in place.
fn inline(body: &Body) -> Value {
    let mut object = facts(body);
    match body.as_inline().map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        Some((Ok(text), _)) => object["text"] = text.into(),
        Some((Err(_), bytes)) => object["base64"] = STANDARD.encode(bytes).into(),
        None => object["left_out"] = "not recorded".into(),
    }
    object
}

fn timing(timing: &Timing, new_server: Option<&ServerConn>) -> Value {
    let har = timing.har(new_server);
    json!({
        "request_head_us": timing.request_head_us,
        "request_end_us": timing.request_end_us,
        "connected_us": timing.connected_us,
        "send_start_us": timing.send_start_us,
        "send_end_us": timing.send_end_us,
        "response_head_us": timing.response_head_us,
        "response_end_us": timing.response_end_us,
        "end_us": timing.end_us,
        "phases_us": {
            "blocked": har.blocked, "dns": har.dns, "connect": har.connect, "ssl": har.ssl,
            "send": har.send, "wait": har.wait, "receive": har.receive,
        },
    })
}

fn client(conn: &ClientConn) -> Value {
    let connect = conn
        .connect
        .as_ref()
        .map(|head| json!({"authority": bytes(&head.authority), "headers": headers(&head.headers)}));
    let mut object = json!({
        "id": conn.id.0,
        "revision": conn.revision,
        "peer": conn.peer.as_ref().map(Addr::to_string),
        "local": conn.local.as_ref().map(Addr::to_string),
        "mode": conn.mode,
        "started_unix_ns": conn.started_unix_ns,
        "proxy_tls": conn.proxy_tls.as_ref().map(tls),
        "connect": connect,
        "tls": conn.tls.as_ref().map(tls),
        "tls_start_us": conn.tls_start_us,
        "tls_end_us": conn.tls_end_us,
        "closed_us": conn.closed_us,
        "bytes_in": conn.bytes_in,
        "bytes_out": conn.bytes_out,
        "error": conn.error,
    });
    put_exact(&mut object, "peer", conn.peer.as_ref());
    put_exact(&mut object, "local", conn.local.as_ref());
    object
}

fn server(conn: &ServerConn) -> Value {
    let via = conn.via.as_ref().map(|via| {
        let mut object = json!({"scheme": via.scheme, "address": via.address.to_string()});
        put_exact(&mut object, "address", Some(&via.address));
        object
    });
    let mut object = json!({
        "id": conn.id.0,
        "revision": conn.revision,
        "address": conn.address.to_string(),
        "peer": conn.peer.as_ref().map(Addr::to_string),
        "local": conn.local.as_ref().map(Addr::to_string),
        "via": via,
        "started_unix_ns": conn.started_unix_ns,
        "dns_us": conn.dns_us,
        "connect_us": conn.connect_us,
        "tls_us": conn.tls_us,
        "tls": conn.tls.as_ref().map(tls),
        "closed_us": conn.closed_us,
        "error": conn.error,
    });
    put_exact(&mut object, "address", Some(&conn.address));
    put_exact(&mut object, "peer", conn.peer.as_ref());
    put_exact(&mut object, "local", conn.local.as_ref());
    object
}

/// Adds an address in its parts where its text does not tell them all.
fn put_exact(object: &mut Value, name: &str, addr: Option<&Addr>) {
    let Some(addr) = addr.filter(|addr| parse_addr(&addr.to_string()).as_ref() != Some(addr)) else { return };
    object[format!("{name}_exact")] =
        json!({"host": addr.host, "port": addr.port, "flowinfo": addr.flowinfo, "scope": addr.scope});
}

/// An address from its text, as `Display` writes it.
pub(super) fn parse_addr(text: &str) -> Option<Addr> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.contains(':') => inner,
        _ if host.contains(':') => return None,
        _ => host,
    };
    Some(Addr { host: host.to_owned(), port: port.parse().ok()?, flowinfo: None, scope: None })
}

fn tls(tls: &TlsInfo) -> Value {
    json!({
        "sni": tls.sni,
        "alpn_offers": tls.alpn_offers.iter().map(|name| bytes(name)).collect::<Vec<_>>(),
        "cipher_offers": tls.cipher_offers,
        "version": tls.version,
        "cipher": tls.cipher,
        "group": tls.group,
        "alpn": tls.alpn.as_deref().map(bytes),
        "resumed": tls.resumed,
        "verified": tls.verified,
        "chain_der": tls.chain.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>(),
        "error": tls.error,
        "client_auth": tls.client_auth.as_str(),
    })
}

fn imported(imported: &Imported, backups: usize) -> Value {
    let backup = imported.backup.as_deref().map(|backup| {
        // The mid stands last: by an object that begins with it a reader finds the next line.
        let mut object = Map::new();
        put_flow(&mut object, backup, &inline, backups + 1);
        object.insert("mid".to_owned(), json!(backup.mid.map(|mid| mid.0)));
        let object = Value::Object(object);
        if backups > 0 { json!({"json": object.to_string()}) } else { object }
    });
    let exact = imported.exact.iter();
    json!({
        "format": imported.format,
        "id": imported.id,
        "metadata": imported.metadata.as_ref().map(|value| foreign(value, 0)),
        "unknown": imported.unknown.as_ref().map(|value| foreign(value, 0)),
        "exact": exact.map(|(path, value)| json!({"path": path, "value": foreign(value, 0)})).collect::<Vec<_>>(),
        "backup": backup,
    })
}

/// A value of another tool: true and false and strings are themselves; all else says what it is, because JSON has one kind of
/// number, no bytes, and only strings as names. What lies deep is JSON in a string, because readers bound the depth.
fn foreign(value: &Foreign, depth: usize) -> Value {
    match value {
        Foreign::List(_) | Foreign::Dict(_) if depth == MAX_DEPTH => {
            json!({"json": foreign(value, 0).to_string()})
        }
        Foreign::Null => json!({"null": true}),
        Foreign::Bool(bool) => (*bool).into(),
        Foreign::Text(text) => text.as_str().into(),
        Foreign::Int(digits) => json!({"int": digits}),
        // As a string, because not every reader gives back a double to the last bit, and JSON has no NaN.
        Foreign::Float(float) => json!({"float": float.to_string()}),
        Foreign::Bytes(bytes) => json!({"base64": STANDARD.encode(bytes)}),
        Foreign::List(items) => items.iter().map(|item| foreign(item, depth + 1)).collect(),
        Foreign::Dict(pairs) => {
            let flat = pairs.iter().flat_map(|(key, value)| [key, value]);
            json!({"dict": flat.map(|item| foreign(item, depth + 1)).collect::<Vec<_>>()})
        }
    }
}

/// A list of fields, in their order.
#[must_use]
pub fn headers(headers: &Headers) -> Value {
    headers.iter().map(|(name, value)| json!({"name": bytes(name), "value": bytes(value)})).collect()
}

/// A string where the bytes are UTF-8, else `{"base64": …}`.
#[must_use]
pub fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

/// RFC 3339 in UTC with microseconds: `2026-11-22T10:00:04.123456Z`.
#[must_use]
pub fn utc(unix_ns: i64) -> String {
    // The range of 64-bit nanoseconds (to 2262) lies inside of what a timestamp can be.
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Two levels of JSON each, of the 128 that serde_json reads.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64_and_never_lossy() {
        assert_eq!(bytes(b"gr\xc3\xbc"), json!("grü"));
        assert_eq!(bytes(b"\xff\0"), json!({"base64": "/wA="}));
        let fields: Headers = [(&b"A"[..], &b"1"[..]), (b"a", b"\xe9")].into_iter().collect();
        let expected = json!([{"name": "A", "value": "1"}, {"name": "a", "value": {"base64": "6Q=="}}]);
        assert_eq!(headers(&fields), expected);
    }
}
