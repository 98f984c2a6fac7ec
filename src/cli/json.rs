//! A whole flow as one JSON object, for `show --json`.
//!
//! Nothing is lost on the way: text that is UTF-8 is a string, other bytes are `{"base64": …}`. A body is an object
//! with either `text` or `base64`, and says so where it was left out. Keys are stable; new ones may be added.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::content::{self, Message};
use super::{grpc, text};
use crate::flow::{
    Addr, Body, BodyEnd, ClientConn, Flow, Framing, Headers, Interim, Mid, Request, Response, ServerConn,
    Timing, TlsInfo,
};
use crate::format::coding::Caps;
use crate::store::Reader;

/// The flow with its bodies, each up to `max_body` bytes.
///
/// # Errors
/// If a body cannot be read from the store.
pub(super) fn flow(flow: &Flow, mid: Mid, store: &Reader, max_body: u64) -> anyhow::Result<Value> {
    let bodies = Bodies { store, max_body };
    let error = flow.error.as_ref().map(|e| {
        json!({"side": e.side.as_str(), "stage": e.stage.as_str(), "message": e.message, "at_us": e.at_us})
    });
    let tunnel = match &flow.tunnel {
        None => Value::Null,
        Some(tunnel) => json!({
            "reason": tunnel.reason,
            "from_client": bodies.json(Message { body: &tunnel.from_client, headers: None })?,
            "from_server": bodies.json(Message { body: &tunnel.from_server, headers: None })?,
        }),
    };
    let websocket = flow.websocket.as_ref().map(|ws| {
        json!({
            "closed_by_client": ws.closed_by_client, "close_code": ws.close_code, "close_reason": ws.close_reason,
            "messages_from_client": ws.messages_from_client, "messages_from_server": ws.messages_from_server,
            "len_from_client": ws.len_from_client, "len_from_server": ws.len_from_server,
            "bad_text_from_client": ws.bad_text_from_client, "bad_text_from_server": ws.bad_text_from_server,
        })
    });
    Ok(json!({
        "mid": mid.0,
        "kind": flow.kind.as_str(),
        "state": flow.state.as_str(),
        "url": flow.url(),
        "scheme": flow.target.scheme.as_str(),
        "host": flow.target.host,
        "port": flow.target.port,
        "started": text::utc(flow.timing.started_unix_ns),
        "started_unix_ns": flow.timing.started_unix_ns,
        "duration_us": flow.timing.end_us,
        "error": error,
        "request": flow.request.as_ref().map(|m| request(m, &bodies)).transpose()?,
        "interim": flow.interim.iter().map(interim).collect::<Vec<_>>(),
        "response": flow.response.as_ref().map(|m| response(m, &bodies)).transpose()?,
        "tunnel": tunnel,
        "websocket": websocket,
        "grpc": grpc::json(flow, store),
        "timing": timing(&flow.timing, flow.server.as_deref().filter(|_| !flow.server_reused)),
        "client": client(&flow.client),
        "server": flow.server.as_deref().map(server),
        "server_reused": flow.server_reused,
        "replay_of": flow.replay_of.map(|mid| mid.0),
    }))
}

fn request(request: &Request, bodies: &Bodies<'_>) -> anyhow::Result<Value> {
    Ok(json!({
        "method": bytes(&request.method),
        "target": bytes(&request.target),
        "version": request.version.as_str(),
        "scheme": request.scheme.as_deref().map(bytes),
        "authority": request.authority.as_deref().map(bytes),
        "protocol": request.protocol.as_deref().map(bytes),
        "headers": headers(&request.headers),
        "raw_head": request.raw_head.as_deref().map(bytes),
        "head_len": request.head_len,
        "body": bodies.json(Message { body: &request.body, headers: Some(&request.headers) })?,
        "trailers": request.trailers.as_ref().map(headers),
    }))
}

fn response(response: &Response, bodies: &Bodies<'_>) -> anyhow::Result<Value> {
    Ok(json!({
        "status": response.status,
        "reason": bytes(&response.reason),
        "version": response.version.as_str(),
        "headers": headers(&response.headers),
        "raw_head": response.raw_head.as_deref().map(bytes),
        "head_len": response.head_len,
        "by_proxy": response.by_proxy,
        "body": bodies.json(Message { body: &response.body, headers: Some(&response.headers) })?,
        "trailers": response.trailers.as_ref().map(headers),
    }))
}

fn interim(interim: &Interim) -> Value {
    json!({
        "status": interim.status, "reason": bytes(&interim.reason), "headers": headers(&interim.headers),
        "at_us": interim.at_us,
    })
}

/// Where bodies come from, and how much of them is wanted.
struct Bodies<'a> {
    store: &'a Reader,
    max_body: u64,
}

impl Bodies<'_> {
    /// The body as it was on the wire, and `decoded` beside it where it has a content-coding that can be undone.
    fn json(&self, message: Message<'_>) -> anyhow::Result<Value> {
        let body = message.body;
        let mut object = body_facts(body);
        if content::is_absent(body) {
            object["left_out"] = "not recorded".into();
            return Ok(object);
        }
        if body.recorded_len() > self.max_body {
            object["left_out"] = "longer than --max-body".into();
            return Ok(object);
        }
        let mut wire = Vec::new();
        content::wire(self.store, body)?.read_to_end(&mut wire)?;
        put_bytes(&mut object, &wire);
        let coded = message.headers.is_some_and(|headers| headers.get("content-encoding").is_some());
        if coded && !wire.is_empty() {
            object["decoded"] = self.decoded(message);
        }
        Ok(object)
    }

    /// `null` where it cannot be decoded: the bytes of the wire are there all the same.
    fn decoded(&self, message: Message<'_>) -> Value {
        let mut plain = Vec::new();
        let caps = Caps { max_len: Some(self.max_body) };
        let read = content::decoded(self.store, message, caps).map(|mut body| body.read_to_end(&mut plain));
        let Ok(Ok(_)) = read else { return Value::Null };
        let mut object = json!({"len": plain.len()});
        put_bytes(&mut object, &plain);
        object
    }
}

fn body_facts(body: &Body) -> Value {
    let framing = match body.framing {
        Framing::None => "none",
        Framing::Length => "length",
        Framing::Chunked => "chunked",
        Framing::Close => "close",
        Framing::Stream => "stream",
    };
    let end = match body.end {
        BodyEnd::Open => "open",
        BodyEnd::Whole => "whole",
        BodyEnd::CutOff => "cut-off",
        BodyEnd::Capped => "capped",
        BodyEnd::Lost => "lost",
    };
    json!({
        "len": body.len, "recorded_len": body.recorded_len(), "truncated": body.is_truncated(),
        "wire_len": body.wire_len, "framing": framing, "end": end,
    })
}

fn put_bytes(object: &mut Value, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["base64"] = STANDARD.encode(bytes).into(),
    }
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
    json!({
        "id": conn.id.0,
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
    })
}

fn server(conn: &ServerConn) -> Value {
    let via = conn.via.as_ref().map(|via| json!({"scheme": via.scheme, "address": via.address.to_string()}));
    json!({
        "id": conn.id.0,
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
    })
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

/// A list of fields, in their order.
pub(super) fn headers(headers: &Headers) -> Value {
    headers.iter().map(|(name, value)| json!({"name": bytes(name), "value": bytes(value)})).collect()
}

/// A string where the bytes are UTF-8, else `{"base64": …}`.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

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
