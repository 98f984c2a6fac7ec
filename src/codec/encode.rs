//! From the plain data of a flow to the bytes of its record.
//!
//! Each function writes one message of `proto/flow.proto`, line for line, in the order of the fields' numbers. It
//! reads the flow in place: building prost's structs first meant a reference count for each header name and value, a
//! `Vec` for each message, and every length computed twice.

use super::wire::Out;
use super::{MAX_DEPTH, pb};
use crate::flow::{
    Addr, Applied, Body, BodyEnd, ClientAuth, ClientConn, ConnectHead, Content, Extent, Flow, FlowError,
    Framing, Headers, Imported, Interim, Kind, Request, Response, Scheme, ServerConn, Side, Stage, State,
    Timing, TlsInfo, Tunnel, Value, Version, Via, WebSocket,
};

/// The record of a flow: all of it but its connections, which it names by their ids.
#[must_use]
pub fn encode_flow(flow: &Flow) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(RECORD);
    encode_flow_into(flow, &mut buffer);
    buffer
}

/// As [`encode_flow`], into a buffer that is emptied first: a group of flows needs one allocation.
pub fn encode_flow_into(flow: &Flow, buffer: &mut Vec<u8>) {
    buffer.clear();
    let mut out = Out::new(std::mem::take(buffer));
    flow_at(&mut out, flow, 0);
    *buffer = out.into_bytes();
}

/// The record of a client's connection.
#[must_use]
pub fn encode_client_conn(conn: &ClientConn) -> Vec<u8> {
    let mut out = Out::new(Vec::with_capacity(RECORD));
    client_conn(&mut out, conn);
    out.into_bytes()
}

/// The record of a connection to an origin.
#[must_use]
pub fn encode_server_conn(conn: &ServerConn) -> Vec<u8> {
    let mut out = Out::new(Vec::with_capacity(RECORD));
    server_conn(&mut out, conn);
    out.into_bytes()
}

/// Where a payload that is not kept in its row lies.
#[must_use]
pub fn encode_extents(extents: &[Extent]) -> Vec<u8> {
    let mut out = Out::new(Vec::with_capacity(SMALL * extents.len()));
    for e in extents {
        out.message(1, SMALL, |out| extent(out, e));
    }
    out.into_bytes()
}

fn flow_at(out: &mut Out, flow: &Flow, depth: usize) {
    out.optional_number(1, flow.mid.map(|mid| mid.0));
    out.choice(2, kind(flow.kind));
    out.choice(3, state(flow.state));
    if let Some(e) = &flow.error {
        out.message(4, SMALL, |out| error(out, e));
    }
    out.choice(5, scheme(flow.target.scheme));
    out.bytes(6, &flow.target.host);
    out.number(7, flow.target.port);
    if let Some(r) = &flow.request {
        out.message(8, MEDIUM, |out| request(out, r));
    }
    for i in &flow.interim {
        out.message(9, SMALL, |out| interim(out, i));
    }
    if let Some(r) = &flow.response {
        out.message(10, MEDIUM, |out| response(out, r));
    }
    if let Some(t) = &flow.tunnel {
        out.message(11, SMALL, |out| tunnel(out, t));
    }
    if let Some(w) = &flow.websocket {
        out.message(12, SMALL, |out| websocket(out, w));
    }
    out.number(13, flow.client.id.0);
    out.optional_number(14, flow.server.as_ref().map(|server| server.id.0));
    out.number(15, flow.server_reused);
    out.message(16, SMALL, |out| timing(out, &flow.timing));
    out.optional_number(17, flow.replay_of.map(|mid| mid.0));
    if let Some(i) = &flow.imported {
        out.message(18, MEDIUM, |out| imported(out, i, depth + 1));
    }
    // What is below the first level is a backup: no other row has its connections.
    if depth > 0 {
        out.message(19, MEDIUM, |out| client_conn(out, &flow.client));
        if let Some(server) = &flow.server {
            out.message(20, MEDIUM, |out| server_conn(out, server));
        }
    }
    for a in &flow.rules {
        out.message(21, SMALL, |out| applied(out, a));
    }
}

fn applied(out: &mut Out, applied: &Applied) {
    out.bytes(1, &applied.rule);
    out.number(2, applied.at_us);
    out.number(3, applied.times);
}

fn error(out: &mut Out, error: &FlowError) {
    out.choice(1, side(error.side));
    out.choice(2, stage(error.stage));
    out.bytes(3, &error.message);
    out.number(4, error.at_us);
}

/// `repeated Header`, which is field `field` of the message that it stands in.
fn headers(out: &mut Out, field: u32, headers: &Headers) {
    for (name, value) in headers.iter() {
        // Right where both have 1 to 127 bytes: a byte of key and one of length for each.
        let likely_len = 4 + name.len() + value.len();
        out.message(field, likely_len, |out| {
            out.bytes(1, name);
            out.bytes(2, value);
        });
    }
}

/// `optional Headers`.
fn optional_headers(out: &mut Out, field: u32, list: Option<&Headers>) {
    if let Some(list) = list {
        out.message(field, SMALL, |out| headers(out, 1, list));
    }
}

fn request(out: &mut Out, request: &Request) {
    out.bytes(1, &request.method);
    out.bytes(2, &request.target);
    out.choice(3, version(request.version));
    headers(out, 4, &request.headers);
    out.optional_bytes(5, request.raw_head.as_ref());
    out.number(6, request.head_len);
    body(out, 7, &request.body);
    optional_headers(out, 8, request.trailers.as_deref());
    out.optional_bytes(9, request.scheme.as_ref());
    out.optional_bytes(10, request.authority.as_ref());
    out.optional_bytes(11, request.protocol.as_ref());
    optional_headers(out, 12, request.changed.as_deref());
}

fn response(out: &mut Out, response: &Response) {
    out.number(1, response.status);
    out.bytes(2, &response.reason);
    out.choice(3, version(response.version));
    headers(out, 4, &response.headers);
    out.optional_bytes(5, response.raw_head.as_ref());
    out.number(6, response.head_len);
    body(out, 7, &response.body);
    optional_headers(out, 8, response.trailers.as_deref());
    out.number(9, response.by_proxy);
}

fn interim(out: &mut Out, interim: &Interim) {
    out.number(1, interim.status);
    out.bytes(2, &interim.reason);
    headers(out, 3, &interim.headers);
    out.number(4, interim.at_us);
}

/// Field `field` of the message that it stands in. A default body is left out, so it costs no byte.
fn body(out: &mut Out, field: u32, body: &Body) {
    if *body == Body::default() {
        return;
    }
    let likely_len = match &body.content {
        Content::Inline(bytes) => SMALL + bytes.len(),
        Content::Absent | Content::Extents(_) => SMALL,
    };
    out.message(field, likely_len, |out| {
        match &body.content {
            Content::Absent => {}
            Content::Inline(bytes) => out.optional_bytes(1, Some(bytes)),
            Content::Extents(extents) => {
                for e in extents {
                    out.message(2, SMALL, |out| extent(out, e));
                }
                out.number(3, true);
            }
        }
        out.number(4, body.len);
        // Wraps for a `wire_len` below `len`, and comes back by wrapping: lossless also for what should not be.
        out.number(5, body.wire_len.wrapping_sub(body.len));
        out.choice(6, framing(body.framing));
        out.choice(7, body_end(body.end));
    });
}

fn extent(out: &mut Out, extent: &Extent) {
    out.number(1, extent.segment);
    out.number(2, extent.offset);
    out.number(3, extent.stored_len);
    out.number(4, extent.len);
}

fn tunnel(out: &mut Out, tunnel: &Tunnel) {
    out.bytes(1, &tunnel.reason);
    body(out, 2, &tunnel.from_client);
    body(out, 3, &tunnel.from_server);
}

fn websocket(out: &mut Out, websocket: &WebSocket) {
    out.optional_number(1, websocket.closed_by_client);
    out.optional_number(2, websocket.close_code);
    out.optional_bytes(3, websocket.close_reason.as_ref());
    out.number(4, websocket.messages_from_client);
    out.number(5, websocket.messages_from_server);
    out.number(6, websocket.len_from_client);
    out.number(7, websocket.len_from_server);
    out.number(8, websocket.bad_text_from_client);
    out.number(9, websocket.bad_text_from_server);
}

fn timing(out: &mut Out, timing: &Timing) {
    out.sfixed64(1, timing.started_unix_ns);
    out.optional_number(2, timing.request_head_us);
    out.optional_number(3, timing.request_end_us);
    out.optional_number(4, timing.connected_us);
    out.optional_number(5, timing.send_start_us);
    out.optional_number(6, timing.send_end_us);
    out.optional_number(7, timing.response_head_us);
    out.optional_number(8, timing.response_end_us);
    out.optional_number(9, timing.end_us);
}

/// Field `field` of the message that it stands in, left out for `None`.
fn addr(out: &mut Out, field: u32, addr: Option<&Addr>) {
    if let Some(addr) = addr {
        out.message(field, SMALL, |out| {
            out.bytes(1, &addr.host);
            out.number(2, addr.port);
            out.optional_number(3, addr.flowinfo);
            out.optional_number(4, addr.scope);
        });
    }
}

fn client_conn(out: &mut Out, conn: &ClientConn) {
    out.number(1, conn.id.0);
    out.number(2, conn.revision);
    addr(out, 3, conn.peer.as_ref());
    addr(out, 4, conn.local.as_ref());
    out.bytes(5, &conn.mode);
    out.sfixed64(6, conn.started_unix_ns);
    if let Some(head) = &conn.connect {
        out.message(7, MEDIUM, |out| connect_head(out, head));
    }
    if let Some(tls) = &conn.tls {
        out.message(8, MEDIUM, |out| tls_info(out, tls));
    }
    out.optional_number(9, conn.tls_start_us);
    out.optional_number(10, conn.tls_end_us);
    out.optional_number(11, conn.closed_us);
    out.number(12, conn.bytes_in);
    out.number(13, conn.bytes_out);
    out.optional_bytes(14, conn.error.as_ref());
    if let Some(tls) = &conn.proxy_tls {
        out.message(15, MEDIUM, |out| tls_info(out, tls));
    }
}

fn connect_head(out: &mut Out, head: &ConnectHead) {
    out.bytes(1, &head.authority);
    headers(out, 2, &head.headers);
}

fn server_conn(out: &mut Out, conn: &ServerConn) {
    out.number(1, conn.id.0);
    out.number(2, conn.revision);
    addr(out, 3, Some(&conn.address));
    addr(out, 4, conn.peer.as_ref());
    addr(out, 5, conn.local.as_ref());
    if let Some(v) = &conn.via {
        out.message(6, SMALL, |out| via(out, v));
    }
    out.sfixed64(7, conn.started_unix_ns);
    out.optional_number(8, conn.dns_us);
    out.optional_number(9, conn.connect_us);
    out.optional_number(10, conn.tls_us);
    if let Some(tls) = &conn.tls {
        out.message(11, MEDIUM, |out| tls_info(out, tls));
    }
    out.optional_number(12, conn.closed_us);
    out.optional_bytes(13, conn.error.as_ref());
}

fn via(out: &mut Out, via: &Via) {
    out.bytes(1, &via.scheme);
    addr(out, 2, Some(&via.address));
}

fn tls_info(out: &mut Out, tls: &TlsInfo) {
    out.optional_bytes(1, tls.sni.as_ref());
    for protocol in &tls.alpn_offers {
        out.optional_bytes(2, Some(protocol));
    }
    out.numbers(3, tls.cipher_offers.iter().copied());
    out.optional_bytes(4, tls.version.as_ref());
    out.optional_bytes(5, tls.cipher.as_ref());
    out.optional_bytes(6, tls.group.as_ref());
    out.optional_bytes(7, tls.alpn.as_ref());
    out.number(8, tls.resumed);
    for certificate in &tls.chain {
        out.optional_bytes(9, Some(certificate));
    }
    out.number(10, tls.verified);
    out.optional_bytes(11, tls.error.as_ref());
    let client_auth = match tls.client_auth {
        ClientAuth::NotAsked => pb::ClientAuth::NotAsked,
        ClientAuth::Withheld => pb::ClientAuth::Withheld,
        ClientAuth::Presented => pb::ClientAuth::Presented,
    };
    out.choice(12, client_auth);
}

fn imported(out: &mut Out, imported: &Imported, depth: usize) {
    out.bytes(1, &imported.format);
    out.bytes(2, &imported.id);
    if let Some(metadata) = &imported.metadata {
        value_at(out, 3, metadata, depth + 1);
    }
    if let Some(unknown) = &imported.unknown {
        value_at(out, 4, unknown, depth + 1);
    }
    for (path, value) in &imported.exact {
        out.message(5, SMALL, |out| {
            out.bytes(1, path);
            value_at(out, 2, value, depth + 2);
        });
    }
    if let Some(backup) = &imported.backup
        && depth < MAX_DEPTH
    {
        out.message(6, MEDIUM, |out| flow_at(out, backup, depth + 1));
    }
}

/// Field `field` of the message that it stands in.
fn value_at(out: &mut Out, field: u32, value: &Value, depth: usize) {
    out.message(field, SMALL, |out| match value {
        Value::Null => {}
        Value::Bool(v) => out.optional_number(1, Some(*v)),
        Value::Int(v) => out.optional_bytes(2, Some(v)),
        Value::Float(v) => out.double(3, *v),
        Value::Bytes(v) => out.optional_bytes(4, Some(v)),
        Value::Text(v) => out.optional_bytes(5, Some(v)),
        Value::List(_) | Value::Dict(_) if depth >= MAX_DEPTH => {}
        Value::List(members) => {
            out.choice(6, pb::Shape::List);
            members.iter().for_each(|member| value_at(out, 7, member, depth + 1));
        }
        Value::Dict(pairs) => {
            out.choice(6, pb::Shape::Dict);
            for item in pairs.iter().flat_map(|(k, v)| [k, v]) {
                value_at(out, 7, item, depth + 1);
            }
        }
    });
}

fn kind(kind: Kind) -> pb::Kind {
    match kind {
        Kind::Http => pb::Kind::Http,
        Kind::Connect => pb::Kind::Connect,
        Kind::Tunnel => pb::Kind::Tunnel,
        Kind::Tls => pb::Kind::Tls,
    }
}

fn state(state: State) -> pb::State {
    match state {
        State::Open => pb::State::Open,
        State::Complete => pb::State::Complete,
        State::ClientAborted => pb::State::ClientAborted,
        State::ServerAborted => pb::State::ServerAborted,
        State::Refused => pb::State::Refused,
        State::Failed => pb::State::Failed,
        State::Interrupted => pb::State::Interrupted,
    }
}

fn scheme(scheme: Scheme) -> pb::Scheme {
    match scheme {
        Scheme::Http => pb::Scheme::Http,
        Scheme::Https => pb::Scheme::Https,
        Scheme::Tcp => pb::Scheme::Tcp,
    }
}

fn version(version: Version) -> pb::Version {
    match version {
        Version::Http10 => pb::Version::Http10,
        Version::Http11 => pb::Version::Http11,
        Version::Http2 => pb::Version::Http2,
        Version::Http3 => pb::Version::Http3,
    }
}

fn side(side: Side) -> pb::Side {
    match side {
        Side::Client => pb::Side::Client,
        Side::Server => pb::Side::Server,
        Side::Proxy => pb::Side::Proxy,
    }
}

fn stage(stage: Stage) -> pb::Stage {
    match stage {
        Stage::RequestHead => pb::Stage::RequestHead,
        Stage::RequestBody => pb::Stage::RequestBody,
        Stage::Target => pb::Stage::Target,
        Stage::Dns => pb::Stage::Dns,
        Stage::Connect => pb::Stage::Connect,
        Stage::Tls => pb::Stage::Tls,
        Stage::ResponseHead => pb::Stage::ResponseHead,
        Stage::ResponseBody => pb::Stage::ResponseBody,
        Stage::Tunnel => pb::Stage::Tunnel,
        Stage::Shutdown => pb::Stage::Shutdown,
    }
}

fn framing(framing: Framing) -> pb::Framing {
    match framing {
        Framing::None => pb::Framing::None,
        Framing::Length => pb::Framing::Length,
        Framing::Chunked => pb::Framing::Chunked,
        Framing::Close => pb::Framing::Close,
        Framing::Stream => pb::Framing::Stream,
    }
}

fn body_end(end: BodyEnd) -> pb::BodyEnd {
    match end {
        BodyEnd::Open => pb::BodyEnd::Open,
        BodyEnd::Whole => pb::BodyEnd::Whole,
        BodyEnd::CutOff => pb::BodyEnd::CutOff,
        BodyEnd::Capped => pb::BodyEnd::Capped,
        BodyEnd::Lost => pb::BodyEnd::Lost,
    }
}

/// What most records fit in, an inline body of 2 KiB included.
const RECORD: usize = 4096;

/// A likely length of a nested message, where it mostly takes one byte on the wire.
const SMALL: usize = 16;

/// The same for two bytes: 128 bytes to 16 KiB.
const MEDIUM: usize = 512;
