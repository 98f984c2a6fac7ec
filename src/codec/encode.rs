//! From the plain data of a flow to the bytes of its record.

use prost::Message;

use super::{MAX_DEPTH, pb};
use crate::flow::{
    Addr, Body, BodyEnd, ClientConn, ConnectHead, Content, Extent, Flow, FlowError, Framing, Headers,
    Imported, Interim, Kind, Request, Response, Scheme, ServerConn, Side, Stage, State, Timing, TlsInfo,
    Tunnel, Value, Version, Via, WebSocket,
};

/// The record of a flow: all of it but its connections, which it names by their ids.
#[must_use]
pub fn encode_flow(flow: &Flow) -> Vec<u8> {
    flow_at(flow, 0).encode_to_vec()
}

/// As [`encode_flow`], into a buffer that is emptied first: a group of flows needs one allocation.
pub fn encode_flow_into(flow: &Flow, buffer: &mut Vec<u8>) {
    buffer.clear();
    // The only error is a buffer without room, and a Vec grows.
    let _ = flow_at(flow, 0).encode(buffer);
}

/// The record of a client's connection.
#[must_use]
pub fn encode_client_conn(conn: &ClientConn) -> Vec<u8> {
    client_conn(conn).encode_to_vec()
}

/// The record of a connection to an origin.
#[must_use]
pub fn encode_server_conn(conn: &ServerConn) -> Vec<u8> {
    server_conn(conn).encode_to_vec()
}

fn flow_at(flow: &Flow, depth: usize) -> pb::Flow {
    let backup = depth > 0;
    pb::Flow {
        mid: flow.mid.map(|mid| mid.0),
        kind: kind(flow.kind).into(),
        state: state(flow.state).into(),
        error: flow.error.as_ref().map(error),
        scheme: scheme(flow.target.scheme).into(),
        host: flow.target.host.clone(),
        port: flow.target.port.into(),
        request: flow.request.as_ref().map(request),
        interim: flow.interim.iter().map(interim).collect(),
        response: flow.response.as_ref().map(response),
        tunnel: flow.tunnel.as_ref().map(tunnel),
        websocket: flow.websocket.as_ref().map(websocket),
        client_conn: flow.client.id.0,
        server_conn: flow.server.as_ref().map(|server| server.id.0),
        server_reused: flow.server_reused,
        timing: Some(timing(&flow.timing)),
        replay_of: flow.replay_of.map(|mid| mid.0),
        imported: flow.imported.as_ref().map(|i| Box::new(imported(i, depth + 1))),
        client: backup.then(|| client_conn(&flow.client)),
        server: flow.server.as_ref().filter(|_| backup).map(|server| server_conn(server)),
    }
}

fn error(error: &FlowError) -> pb::FlowError {
    pb::FlowError {
        side: side(error.side).into(),
        stage: stage(error.stage).into(),
        message: error.message.clone(),
        at_us: error.at_us,
    }
}

fn fields(headers: &Headers) -> Vec<pb::Header> {
    headers.iter_shared().map(|(name, value)| pb::Header { name, value }).collect()
}

fn trailers(headers: &Headers) -> pb::Headers {
    pb::Headers { fields: fields(headers) }
}

fn request(request: &Request) -> pb::Request {
    pb::Request {
        method: request.method.clone(),
        target: request.target.clone(),
        version: version(request.version).into(),
        headers: fields(&request.headers),
        raw_head: request.raw_head.clone(),
        head_len: request.head_len,
        body: body(&request.body),
        trailers: request.trailers.as_ref().map(trailers),
    }
}

fn response(response: &Response) -> pb::Response {
    pb::Response {
        status: response.status.into(),
        reason: response.reason.clone(),
        version: version(response.version).into(),
        headers: fields(&response.headers),
        raw_head: response.raw_head.clone(),
        head_len: response.head_len,
        body: body(&response.body),
        trailers: response.trailers.as_ref().map(trailers),
        by_proxy: response.by_proxy,
    }
}

fn interim(interim: &Interim) -> pb::Interim {
    pb::Interim {
        status: interim.status.into(),
        reason: interim.reason.clone(),
        headers: fields(&interim.headers),
        at_us: interim.at_us,
    }
}

/// `None` for a default body, which costs no byte then.
fn body(body: &Body) -> Option<pb::Body> {
    if *body == Body::default() {
        return None;
    }
    let (inline, extents, in_segments) = match &body.content {
        Content::Absent => (None, Vec::new(), false),
        Content::Inline(bytes) => (Some(bytes.clone()), Vec::new(), false),
        Content::Extents(extents) => (None, extents.iter().map(extent).collect(), true),
    };
    Some(pb::Body {
        inline,
        extents,
        in_segments,
        len: body.len,
        // Wraps for a `wire_len` below `len`, and comes back by wrapping: lossless also for what should not be.
        framing_len: body.wire_len.wrapping_sub(body.len),
        framing: framing(body.framing).into(),
        end: body_end(body.end).into(),
    })
}

fn extent(extent: &Extent) -> pb::Extent {
    pb::Extent {
        segment: extent.segment,
        offset: extent.offset,
        stored_len: extent.stored_len,
        len: extent.len,
    }
}

fn tunnel(tunnel: &Tunnel) -> pb::Tunnel {
    pb::Tunnel {
        reason: tunnel.reason.clone(),
        from_client: body(&tunnel.from_client),
        from_server: body(&tunnel.from_server),
    }
}

fn websocket(websocket: &WebSocket) -> pb::WebSocket {
    pb::WebSocket {
        closed_by_client: websocket.closed_by_client,
        close_code: websocket.close_code.map(u32::from),
        close_reason: websocket.close_reason.clone(),
    }
}

fn timing(timing: &Timing) -> pb::Timing {
    pb::Timing {
        started_unix_ns: timing.started_unix_ns,
        request_head_us: timing.request_head_us,
        request_end_us: timing.request_end_us,
        connected_us: timing.connected_us,
        send_start_us: timing.send_start_us,
        send_end_us: timing.send_end_us,
        response_head_us: timing.response_head_us,
        response_end_us: timing.response_end_us,
        end_us: timing.end_us,
    }
}

fn addr(addr: &Addr) -> pb::Addr {
    pb::Addr { host: addr.host.clone(), port: addr.port.into(), flowinfo: addr.flowinfo, scope: addr.scope }
}

fn client_conn(conn: &ClientConn) -> pb::ClientConn {
    pb::ClientConn {
        id: conn.id.0,
        revision: conn.revision,
        peer: conn.peer.as_ref().map(addr),
        local: conn.local.as_ref().map(addr),
        mode: conn.mode.clone(),
        started_unix_ns: conn.started_unix_ns,
        connect: conn.connect.as_ref().map(connect_head),
        tls: conn.tls.as_ref().map(tls_info),
        tls_start_us: conn.tls_start_us,
        tls_end_us: conn.tls_end_us,
        closed_us: conn.closed_us,
        bytes_in: conn.bytes_in,
        bytes_out: conn.bytes_out,
        error: conn.error.clone(),
    }
}

fn connect_head(head: &ConnectHead) -> pb::ConnectHead {
    pb::ConnectHead { authority: head.authority.clone(), headers: fields(&head.headers) }
}

fn server_conn(conn: &ServerConn) -> pb::ServerConn {
    pb::ServerConn {
        id: conn.id.0,
        revision: conn.revision,
        address: Some(addr(&conn.address)),
        peer: conn.peer.as_ref().map(addr),
        local: conn.local.as_ref().map(addr),
        via: conn.via.as_ref().map(via),
        started_unix_ns: conn.started_unix_ns,
        dns_us: conn.dns_us,
        connect_us: conn.connect_us,
        tls_us: conn.tls_us,
        tls: conn.tls.as_ref().map(tls_info),
        closed_us: conn.closed_us,
        error: conn.error.clone(),
    }
}

fn via(via: &Via) -> pb::Via {
    pb::Via { scheme: via.scheme.clone(), address: Some(addr(&via.address)) }
}

fn tls_info(tls: &TlsInfo) -> pb::TlsInfo {
    pb::TlsInfo {
        sni: tls.sni.clone(),
        alpn_offers: tls.alpn_offers.clone(),
        cipher_offers: tls.cipher_offers.iter().copied().map(u32::from).collect(),
        version: tls.version.clone(),
        cipher: tls.cipher.clone(),
        group: tls.group.clone(),
        alpn: tls.alpn.clone(),
        resumed: tls.resumed,
        chain: tls.chain.clone(),
        verified: tls.verified,
        error: tls.error.clone(),
    }
}

fn imported(imported: &Imported, depth: usize) -> pb::Imported {
    let exact = |(path, v): &(String, Value)| pb::ExactValue {
        path: path.clone(),
        value: Some(value_at(v, depth + 2)),
    };
    pb::Imported {
        format: imported.format.clone(),
        id: imported.id.clone(),
        metadata: imported.metadata.as_ref().map(|v| value_at(v, depth + 1)),
        unknown: imported.unknown.as_ref().map(|v| value_at(v, depth + 1)),
        exact: imported.exact.iter().map(exact).collect(),
        backup: imported
            .backup
            .as_ref()
            .filter(|_| depth < MAX_DEPTH)
            .map(|flow| Box::new(flow_at(flow, depth + 1))),
    }
}

fn value_at(value: &Value, depth: usize) -> pb::Value {
    use pb::value::Scalar;
    let scalar = |scalar| pb::Value { scalar: Some(scalar), ..pb::Value::default() };
    let nested = |shape: pb::Shape, items| pb::Value { scalar: None, shape: shape.into(), items };
    match value {
        Value::Null => pb::Value::default(),
        Value::Bool(v) => scalar(Scalar::Bool(*v)),
        Value::Int(v) => scalar(Scalar::Int(v.clone())),
        Value::Float(v) => scalar(Scalar::Float(*v)),
        Value::Bytes(v) => scalar(Scalar::Bytes(v.clone())),
        Value::Text(v) => scalar(Scalar::Text(v.clone())),
        Value::List(_) | Value::Dict(_) if depth >= MAX_DEPTH => pb::Value::default(),
        Value::List(members) => {
            nested(pb::Shape::List, members.iter().map(|v| value_at(v, depth + 1)).collect())
        }
        Value::Dict(pairs) => {
            let items = pairs.iter().flat_map(|(k, v)| [value_at(k, depth + 1), value_at(v, depth + 1)]);
            nested(pb::Shape::Dict, items.collect())
        }
    }
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
