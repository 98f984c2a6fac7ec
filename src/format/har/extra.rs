//! The member `_manent`, written: what the record holds and HAR 1.2 has no room for. `restore.rs` reads it.
//!
//! Its names are those of `manent show --json`. Bytes that are no UTF-8 stand as `{"base64": …}`.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::flow::{
    Addr, Body, BodyEnd, ClientConn, Content, Flow, Headers, Imported, Kind, Message, MessageCoding, Note,
    Request, Response, ServerConn, Timing, TlsInfo, Value, WebSocket,
};
use crate::format::json::Writer;
use crate::format::transfer::{Item, Part};

use super::seen::Seen;
use super::url::Url;
use super::{encode, fields, foreign};

/// Which of the bodies did not come out exactly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bodies {
    pub(super) request: bool,
    pub(super) response: bool,
}

/// Connections, by id and revision, whose certificates were written.
#[derive(Debug, Default)]
pub(super) struct Chains {
    clients: Seen<(u64, u32, i64), ()>,
    servers: Seen<(u64, u32, i64), ()>,
}

/// Writes the object.
///
/// # Errors
/// What the output said, and if the store cannot be read.
pub(super) fn write(
    json: &mut Writer<'_>,
    item: &dyn Item,
    url: &str,
    bodies: &Bodies,
    chains: &mut Chains,
) -> io::Result<()> {
    let flow = item.flow();
    json.open();
    int(json, "mid", flow.mid.map(|mid| mid.0));
    json.name("state").text(flow.state.as_str());
    json.name("started_unix_ns").int(flow.timing.started_unix_ns);
    if flow.kind != Kind::Http {
        json.name("kind").text(flow.kind.as_str());
    }
    let derived = Url::parse(url).ok();
    if derived.as_ref().is_none_or(|derived| derived.target != flow.target) {
        json.name("target").open().name("scheme").text(flow.target.scheme.as_str());
        json.name("host").text(&flow.target.host).name("port").int(flow.target.port).close();
    }
    if let Some(error) = &flow.error {
        json.name("error")
            .open()
            .name("side")
            .text(error.side.as_str())
            .name("stage")
            .text(error.stage.as_str());
        json.name("message").text(&error.message).name("at_us").int(error.at_us).close();
    }
    timing(json, &flow.timing);
    if let Some(message) = &flow.request {
        let is_derived = derived.is_some_and(|derived| derived.path.as_bytes() == message.target);
        request(json, message, (!is_derived).then_some(&message.target[..]));
    }
    interim(json, flow);
    if let Some(message) = &flow.response {
        response(json, message);
    }
    if let Some(ws) = &flow.websocket {
        web_socket(json, ws);
    }
    json.name("client");
    client(json, &flow.client, chains);
    if let Some(conn) = &flow.server {
        json.name("server");
        server(json, conn, chains);
        json.name("server_reused").bool(flow.server_reused);
    }
    int(json, "replay_of", flow.replay_of.map(|mid| mid.0));
    list(json, "rules", &flow.rules, |json, applied| {
        json.open().name("rule").text(&applied.rule).name("at_us").int(applied.at_us);
        json.name("times").int(applied.times).close();
    });
    note(json, item.note());
    if let Some(of_file) = &flow.imported {
        imported(json, of_file);
    }
    recorded(json, item, bodies)?;
    json.close();
    Ok(())
}

/// Bodies as they are recorded, where the archive has them otherwise; and what a tunnel carried.
fn recorded(json: &mut Writer<'_>, item: &dyn Item, bodies: &Bodies) -> io::Result<()> {
    let mut parts = Vec::new();
    if bodies.request {
        parts.push(("request", Part::Request));
    }
    if bodies.response {
        parts.push(("response", Part::Response));
    }
    if let Some(tunnel) = &item.flow().tunnel {
        json.name("tunnel").open().name("reason").text(&tunnel.reason).name("from_client");
        body(json, &tunnel.from_client);
        json.name("from_server");
        body(json, &tunnel.from_server);
        json.close();
        parts.extend([("from_client", Part::FromClient), ("from_server", Part::FromServer)]);
    }
    if parts.is_empty() {
        return Ok(());
    }
    json.name("bodies").open();
    for (name, part) in parts {
        if let Some(bytes) = item.in_memory(part) {
            json.name(name).long_base64(bytes)?;
        } else if let Some(mut bytes) = item.body(part)? {
            let (_, result) = json.name(name).base64(&mut *bytes)?;
            result.or_else(|error| if super::content::is_damage(&error) { Ok(()) } else { Err(error) })?;
        }
    }
    json.close();
    Ok(())
}

/// Writes what Chrome's form of a message has no room for, into its object. `len` bytes of it were written.
pub(super) fn message(json: &mut Writer<'_>, message: &Message, len: u64) {
    let plain = Message {
        seq: message.seq,
        len,
        wire_len: len,
        fragments: 1,
        end: BodyEnd::Whole,
        ..message.clone()
    };
    let plain = Message { coding: MessageCoding::Plain, injected: false, dropped: false, ..plain };
    if plain == *message && encode::is_recorded(message) {
        return;
    }
    json.name("_manent").open();
    json.name("len").int(message.len).name("wire_len").int(message.wire_len);
    json.name("coding").text(message.coding.as_str()).name("fragments").int(message.fragments);
    json.name("injected").bool(message.injected).name("dropped").bool(message.dropped);
    json.name("end").text(message.end.as_str());
    json.name("recorded").bool(encode::is_recorded(message)).close();
}

fn request(json: &mut Writer<'_>, request: &Request, target: Option<&[u8]>) {
    json.name("request").open();
    opt_bytes(json, "target", target);
    if std::str::from_utf8(&request.method).is_err() {
        opt_bytes(json, "method", Some(&request.method));
    }
    opt_bytes(json, "scheme", request.scheme.as_deref());
    opt_bytes(json, "authority", request.authority.as_deref());
    opt_bytes(json, "protocol", request.protocol.as_deref());
    head(json, request.raw_head.as_deref(), request.head_len, request.trailers.as_deref());
    if let Some(changed) = &request.changed {
        json.name("changed");
        fields::write(json, changed);
    }
    json.name("body");
    body(json, &request.body);
    json.close();
}

fn response(json: &mut Writer<'_>, response: &Response) {
    json.name("response").open();
    if std::str::from_utf8(&response.reason).is_err() {
        opt_bytes(json, "reason", Some(&response.reason));
    }
    if response.by_proxy {
        json.name("by_proxy").bool(true);
    }
    head(json, response.raw_head.as_deref(), response.head_len, response.trailers.as_deref());
    json.name("body");
    body(json, &response.body);
    json.close();
}

fn head(json: &mut Writer<'_>, raw: Option<&[u8]>, len: u64, trailers: Option<&Headers>) {
    opt_bytes(json, "raw_head", raw);
    json.name("head_len").int(len);
    if let Some(trailers) = trailers {
        json.name("trailers");
        fields::write(json, trailers);
    }
}

fn body(json: &mut Writer<'_>, body: &Body) {
    json.open().name("len").int(body.len).name("wire_len").int(body.wire_len);
    json.name("framing").text(body.framing.as_str()).name("end").text(body.end.as_str());
    if body.content == Content::Absent {
        json.name("recorded").bool(false);
    }
    json.close();
}

fn interim(json: &mut Writer<'_>, flow: &Flow) {
    if flow.interim.is_empty() {
        return;
    }
    json.name("interim").open_array();
    for one in &flow.interim {
        json.open().name("status").int(one.status);
        opt_bytes(json, "reason", Some(&one.reason));
        json.name("headers");
        fields::write(json, &one.headers);
        json.name("at_us").int(one.at_us).close();
    }
    json.close_array();
}

fn web_socket(json: &mut Writer<'_>, ws: &WebSocket) {
    json.name("websocket").open();
    if let Some(by_client) = ws.closed_by_client {
        json.name("closed_by_client").bool(by_client);
    }
    int(json, "close_code", ws.close_code.map(u64::from));
    opt_text(json, "close_reason", ws.close_reason.as_deref());
    for (name, count) in [
        ("messages_from_client", ws.messages_from_client),
        ("messages_from_server", ws.messages_from_server),
        ("len_from_client", ws.len_from_client),
        ("len_from_server", ws.len_from_server),
        ("bad_text_from_client", ws.bad_text_from_client),
        ("bad_text_from_server", ws.bad_text_from_server),
    ] {
        json.name(name).int(count);
    }
    json.close();
}

fn timing(json: &mut Writer<'_>, timing: &Timing) {
    json.name("timing").open();
    for (name, us) in [
        ("request_head_us", timing.request_head_us),
        ("request_end_us", timing.request_end_us),
        ("connected_us", timing.connected_us),
        ("send_start_us", timing.send_start_us),
        ("send_end_us", timing.send_end_us),
        ("response_head_us", timing.response_head_us),
        ("response_end_us", timing.response_end_us),
        ("end_us", timing.end_us),
    ] {
        int(json, name, us);
    }
    json.close();
}

fn client(json: &mut Writer<'_>, conn: &ClientConn, chains: &mut Chains) {
    let is_new =
        conn.id.0 == 0 || chains.clients.insert((conn.id.0, conn.revision, conn.started_unix_ns), (), 0);
    json.open().name("id").int(conn.id.0).name("revision").int(conn.revision);
    addr(json, "peer", conn.peer.as_ref());
    addr(json, "local", conn.local.as_ref());
    json.name("mode").text(&conn.mode).name("started_unix_ns").int(conn.started_unix_ns);
    if let Some(connect) = &conn.connect {
        json.name("connect").open();
        opt_bytes(json, "authority", Some(&connect.authority));
        json.name("headers");
        fields::write(json, &connect.headers);
        json.close();
    }
    tls(json, "proxy_tls", conn.proxy_tls.as_ref(), is_new);
    tls(json, "tls", conn.tls.as_ref(), is_new);
    int(json, "tls_start_us", conn.tls_start_us);
    int(json, "tls_end_us", conn.tls_end_us);
    int(json, "closed_us", conn.closed_us);
    json.name("bytes_in").int(conn.bytes_in).name("bytes_out").int(conn.bytes_out);
    opt_text(json, "error", conn.error.as_deref());
    json.close();
}

fn server(json: &mut Writer<'_>, conn: &ServerConn, chains: &mut Chains) {
    let is_new =
        conn.id.0 == 0 || chains.servers.insert((conn.id.0, conn.revision, conn.started_unix_ns), (), 0);
    json.open().name("id").int(conn.id.0).name("revision").int(conn.revision);
    addr(json, "address", Some(&conn.address));
    addr(json, "peer", conn.peer.as_ref());
    addr(json, "local", conn.local.as_ref());
    if let Some(via) = &conn.via {
        json.name("via").open().name("scheme").text(&via.scheme);
        addr(json, "address", Some(&via.address));
        json.close();
    }
    json.name("started_unix_ns").int(conn.started_unix_ns);
    int(json, "dns_us", conn.dns_us);
    int(json, "connect_us", conn.connect_us);
    int(json, "tls_us", conn.tls_us);
    tls(json, "tls", conn.tls.as_ref(), is_new);
    int(json, "closed_us", conn.closed_us);
    opt_text(json, "error", conn.error.as_deref());
    json.close();
}

fn tls(json: &mut Writer<'_>, name: &str, tls: Option<&TlsInfo>, with_chain: bool) {
    let Some(tls) = tls else { return };
    json.name(name).open();
    opt_text(json, "sni", tls.sni.as_deref());
    list(json, "alpn_offers", &tls.alpn_offers, |json, name| bytes(json, name));
    list(json, "cipher_offers", &tls.cipher_offers, |json, number| {
        json.int(*number);
    });
    opt_text(json, "version", tls.version.as_deref());
    opt_text(json, "cipher", tls.cipher.as_deref());
    opt_text(json, "group", tls.group.as_deref());
    opt_bytes(json, "alpn", tls.alpn.as_deref());
    json.name("resumed").bool(tls.resumed).name("verified").bool(tls.verified);
    if with_chain {
        list(json, "chain_der", &tls.chain, |json, der| {
            json.text(&STANDARD.encode(der));
        });
    }
    opt_text(json, "error", tls.error.as_deref());
    json.name("client_auth").text(tls.client_auth.as_str()).close();
}

fn note(json: &mut Writer<'_>, note: &Note) {
    opt_text(json, "marker", note.marker.as_deref());
    list(json, "tags", &note.tags, |json, tag| {
        json.text(tag);
    });
}

/// What an archive had besides, its entry has again; of the rest what it was edited from is left out.
fn imported(json: &mut Writer<'_>, imported: &Imported) {
    json.name("imported").open().name("format").text(&imported.format).name("id").text(&imported.id);
    if let Some(metadata) = &imported.metadata {
        json.name("metadata");
        value(json, metadata);
    }
    if let Some(unknown) = imported.unknown.as_ref().filter(|_| imported.format != foreign::FORMAT_NAME) {
        json.name("unknown");
        value(json, unknown);
    }
    list(json, "exact", &imported.exact, |json, (path, exact)| {
        json.open_array().text(path);
        value(json, exact);
        json.close_array();
    });
    json.close();
}

/// A value so that it can be told from all others: an object has one member, which says what it is.
fn value(json: &mut Writer<'_>, of: &Value) {
    match of {
        Value::Null => {
            json.null();
        }
        Value::Bool(is) => {
            json.bool(*is);
        }
        Value::Int(digits) => {
            json.open().name("int").text(digits).close();
        }
        // As text: readers round numbers.
        Value::Float(number) => {
            json.open().name("float").text(&number.to_string()).close();
        }
        Value::Bytes(of) => {
            json.open().name("base64").text(&STANDARD.encode(of)).close();
        }
        Value::Text(text) => {
            json.text(text);
        }
        Value::List(items) => {
            json.open_array();
            items.iter().for_each(|item| value(json, item));
            json.close_array();
        }
        Value::Dict(members) => {
            json.open().name("dict").open_array();
            for (key, of) in members {
                value(json, key);
                value(json, of);
            }
            json.close_array().close();
        }
    }
}

fn addr(json: &mut Writer<'_>, name: &str, addr: Option<&Addr>) {
    let Some(addr) = addr else { return };
    json.name(name).open().name("host").text(&addr.host).name("port").int(addr.port);
    int(json, "flowinfo", addr.flowinfo.map(u64::from));
    int(json, "scope", addr.scope.map(u64::from));
    json.close();
}

fn list<T>(json: &mut Writer<'_>, name: &str, items: &[T], each: impl Fn(&mut Writer<'_>, &T)) {
    if items.is_empty() {
        return;
    }
    json.name(name).open_array();
    items.iter().for_each(|item| each(json, item));
    json.close_array();
}

fn int(json: &mut Writer<'_>, name: &str, number: Option<u64>) {
    if let Some(number) = number {
        json.name(name).int(number);
    }
}

fn opt_text(json: &mut Writer<'_>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        json.name(name).text(text);
    }
}

fn opt_bytes(json: &mut Writer<'_>, name: &str, of: Option<&[u8]>) {
    if let Some(of) = of {
        json.name(name);
        bytes(json, of);
    }
}

fn bytes(json: &mut Writer<'_>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            json.text(text);
        }
        Err(_) => {
            json.open().name("base64").text(&STANDARD.encode(bytes)).close();
        }
    }
}
