//! From the bytes of a record back to a flow, whoever wrote them.
//!
//! A number out of an enum's range or too large for its field comes from a newer writer or a damaged file; it becomes
//! the nearest thing that is known and never claims more than that (an unknown end of a body is not `Whole`).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{CodecError, pb, plain};
use crate::flow::{
    Addr, Applied, Body, BodyEnd, ClientAuth, ClientConn, ConnId, ConnectHead, Content, Extent, Flow,
    FlowError, Framing, Headers, Imported, Interim, Kind, Mid, Request, Response, Scheme, ServerConn, Side,
    Stage, State, Target, Timing, TlsInfo, Tunnel, Value, Version, Via, WebSocket,
};

/// Connections of a flow that are at hand.
#[derive(Debug, Clone, Default)]
pub struct KnownConns {
    /// The client's.
    pub client: Option<Arc<ClientConn>>,
    /// That to the origin.
    pub server: Option<Arc<ServerConn>>,
}

impl KnownConns {
    /// The client's connection, if it is the one of this id; else one of which nothing but the id is there.
    pub(super) fn client(&self, id: ConnId) -> Arc<ClientConn> {
        let bare = || Arc::new(ClientConn { id, ..ClientConn::default() });
        self.client.as_ref().filter(|conn| conn.id == id).map_or_else(bare, Arc::clone)
    }

    /// The connection to the origin, in the same way.
    pub(super) fn server(&self, id: ConnId) -> Arc<ServerConn> {
        let bare = || Arc::new(ServerConn { id, ..ServerConn::default() });
        self.server.as_ref().filter(|conn| conn.id == id).map_or_else(bare, Arc::clone)
    }
}

/// Reads the record of a flow. Header fields and bodies share the memory of `record`. Of its connections, only the ids are there.
///
/// # Errors
/// If the bytes are not a protobuf message of this shape, or are nested too deeply.
pub fn decode_flow(record: &Bytes) -> Result<Flow, CodecError> {
    decode_flow_knowing(record, &KnownConns::default())
}

/// As [`decode_flow`]; of its connections, those that are known are there.
///
/// # Errors
/// As [`decode_flow`].
pub fn decode_flow_knowing(record: &Bytes, known: &KnownConns) -> Result<Flow, CodecError> {
    match plain::flow(record, known) {
        Some(flow) => Ok(flow),
        None => {
            let flow = by_prost(record)?;
            let client = known.client(flow.client.id);
            let server = flow.server.map(|server| known.server(server.id));
            Ok(Flow { client, server, ..flow })
        }
    }
}

/// As [`decode_flow`], whatever is in the record.
pub(super) fn by_prost(record: &Bytes) -> Result<Flow, CodecError> {
    Ok(flow(pb::Flow::decode(record.clone())?))
}

/// Reads the record of a client's connection.
///
/// # Errors
/// As [`decode_flow`].
pub fn decode_client_conn(record: &Bytes) -> Result<ClientConn, CodecError> {
    Ok(client_conn(pb::ClientConn::decode(record.clone())?))
}

/// Reads the record of a connection to an origin.
///
/// # Errors
/// As [`decode_flow`].
pub fn decode_server_conn(record: &Bytes) -> Result<ServerConn, CodecError> {
    Ok(server_conn(pb::ServerConn::decode(record.clone())?))
}

/// Reads where a payload lies.
///
/// # Errors
/// As [`decode_flow`].
pub fn decode_extents(record: &Bytes) -> Result<Vec<Extent>, CodecError> {
    Ok(pb::Extents::decode(record.clone())?.extents.into_iter().map(extent).collect())
}

fn flow(m: pb::Flow) -> Flow {
    let client = m
        .client
        .map_or_else(|| ClientConn { id: ConnId(m.client_conn), ..ClientConn::default() }, client_conn);
    let server = m.server_conn.map(|id| {
        m.server.map_or_else(|| ServerConn { id: ConnId(id), ..ServerConn::default() }, server_conn)
    });
    Flow {
        mid: m.mid.map(Mid),
        kind: kind(m.kind),
        state: state(m.state),
        error: m.error.map(error),
        target: Target { scheme: scheme(m.scheme), host: m.host, port: narrow(m.port) },
        request: m.request.map(request),
        interim: m.interim.into_iter().map(interim).collect(),
        response: m.response.map(response),
        tunnel: m.tunnel.map(tunnel).map(Box::new),
        websocket: m.websocket.map(websocket).map(Box::new),
        client: Arc::new(client),
        server: server.map(Arc::new),
        server_reused: m.server_reused,
        timing: m.timing.map(timing).unwrap_or_default(),
        replay_of: m.replay_of.map(Mid),
        rules: m.rules.into_iter().map(applied).collect(),
        imported: m.imported.map(|i| Box::new(imported(*i))),
    }
}

pub(super) fn applied(m: pb::Applied) -> Applied {
    Applied { rule: m.rule, at_us: m.at_us, times: m.times }
}

/// A number that our own writer never makes larger than `u16`.
pub(super) fn narrow(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

pub(super) fn error(m: pb::FlowError) -> FlowError {
    FlowError { side: side(m.side), stage: stage(m.stage), message: m.message, at_us: m.at_us }
}

fn fields(list: Vec<pb::Header>) -> Headers {
    list.into_iter().map(|h| (h.name, h.value)).collect()
}

fn request(m: pb::Request) -> Request {
    Request {
        method: m.method,
        target: m.target,
        version: version(m.version),
        headers: fields(m.headers),
        raw_head: m.raw_head,
        head_len: m.head_len,
        body: m.body.map(body).unwrap_or_default(),
        trailers: m.trailers.map(|t| Box::new(fields(t.fields))),
        scheme: m.scheme,
        authority: m.authority,
        protocol: m.protocol,
        changed: m.changed.map(|list| Box::new(fields(list.fields))),
    }
}

fn response(m: pb::Response) -> Response {
    Response {
        status: narrow(m.status),
        reason: m.reason,
        version: version(m.version),
        headers: fields(m.headers),
        raw_head: m.raw_head,
        head_len: m.head_len,
        body: m.body.map(body).unwrap_or_default(),
        trailers: m.trailers.map(|t| Box::new(fields(t.fields))),
        by_proxy: m.by_proxy,
    }
}

pub(super) fn interim(m: pb::Interim) -> Interim {
    Interim { status: narrow(m.status), reason: m.reason, headers: fields(m.headers), at_us: m.at_us }
}

fn body(m: pb::Body) -> Body {
    let content = match m.inline {
        Some(bytes) => Content::Inline(bytes),
        None if m.in_segments => Content::Extents(m.extents.into_iter().map(extent).collect()),
        None => Content::Absent,
    };
    Body {
        content,
        len: m.len,
        wire_len: m.len.wrapping_add(m.framing_len),
        framing: framing(m.framing),
        end: body_end(m.end),
    }
}

fn extent(m: pb::Extent) -> Extent {
    Extent { segment: m.segment, offset: m.offset, stored_len: m.stored_len, len: m.len }
}

pub(super) fn tunnel(m: pb::Tunnel) -> Tunnel {
    Tunnel {
        reason: m.reason,
        from_client: m.from_client.map(body).unwrap_or_default(),
        from_server: m.from_server.map(body).unwrap_or_default(),
    }
}

pub(super) fn websocket(m: pb::WebSocket) -> WebSocket {
    WebSocket {
        closed_by_client: m.closed_by_client,
        close_code: m.close_code.map(narrow),
        close_reason: m.close_reason,
        messages_from_client: m.messages_from_client,
        messages_from_server: m.messages_from_server,
        len_from_client: m.len_from_client,
        len_from_server: m.len_from_server,
        bad_text_from_client: m.bad_text_from_client,
        bad_text_from_server: m.bad_text_from_server,
    }
}

fn timing(m: pb::Timing) -> Timing {
    Timing {
        started_unix_ns: m.started_unix_ns,
        request_head_us: m.request_head_us,
        request_end_us: m.request_end_us,
        connected_us: m.connected_us,
        send_start_us: m.send_start_us,
        send_end_us: m.send_end_us,
        response_head_us: m.response_head_us,
        response_end_us: m.response_end_us,
        end_us: m.end_us,
    }
}

fn addr(m: pb::Addr) -> Addr {
    Addr { host: m.host, port: narrow(m.port), flowinfo: m.flowinfo, scope: m.scope }
}

fn client_conn(m: pb::ClientConn) -> ClientConn {
    ClientConn {
        id: ConnId(m.id),
        revision: m.revision,
        peer: m.peer.map(addr),
        local: m.local.map(addr),
        mode: m.mode,
        started_unix_ns: m.started_unix_ns,
        connect: m.connect.map(|c| ConnectHead { authority: c.authority, headers: fields(c.headers) }),
        proxy_tls: m.proxy_tls.map(tls_info),
        tls: m.tls.map(tls_info),
        tls_start_us: m.tls_start_us,
        tls_end_us: m.tls_end_us,
        closed_us: m.closed_us,
        bytes_in: m.bytes_in,
        bytes_out: m.bytes_out,
        error: m.error,
    }
}

fn server_conn(m: pb::ServerConn) -> ServerConn {
    ServerConn {
        id: ConnId(m.id),
        revision: m.revision,
        address: m.address.map(addr).unwrap_or_default(),
        peer: m.peer.map(addr),
        local: m.local.map(addr),
        via: m.via.map(|v| Via { scheme: v.scheme, address: v.address.map(addr).unwrap_or_default() }),
        started_unix_ns: m.started_unix_ns,
        dns_us: m.dns_us,
        connect_us: m.connect_us,
        tls_us: m.tls_us,
        tls: m.tls.map(tls_info),
        closed_us: m.closed_us,
        error: m.error,
    }
}

fn tls_info(m: pb::TlsInfo) -> TlsInfo {
    TlsInfo {
        sni: m.sni,
        alpn_offers: m.alpn_offers,
        cipher_offers: m.cipher_offers.into_iter().map(narrow).collect(),
        version: m.version,
        cipher: m.cipher,
        group: m.group,
        alpn: m.alpn,
        resumed: m.resumed,
        chain: m.chain,
        verified: m.verified,
        error: m.error,
        client_auth: match pb::ClientAuth::try_from(m.client_auth) {
            Ok(pb::ClientAuth::NotAsked) | Err(_) => ClientAuth::NotAsked,
            Ok(pb::ClientAuth::Withheld) => ClientAuth::Withheld,
            Ok(pb::ClientAuth::Presented) => ClientAuth::Presented,
        },
    }
}

pub(super) fn imported(m: pb::Imported) -> Imported {
    Imported {
        format: m.format,
        id: m.id,
        metadata: m.metadata.map(value),
        unknown: m.unknown.map(value),
        exact: m.exact.into_iter().map(|e| (e.path, e.value.map_or(Value::Null, value))).collect(),
        backup: m.backup.map(|b| Box::new(flow(*b))),
    }
}

/// Recursion is bounded by the depth that prost lets through.
fn value(m: pb::Value) -> Value {
    use pb::value::Scalar;
    match (m.scalar, pb::Shape::try_from(m.shape)) {
        (Some(Scalar::Bool(v)), _) => Value::Bool(v),
        (Some(Scalar::Int(v)), _) => Value::Int(v),
        (Some(Scalar::Float(v)), _) => Value::Float(v),
        (Some(Scalar::Bytes(v)), _) => Value::Bytes(v),
        (Some(Scalar::Text(v)), _) => Value::Text(v),
        (None, Ok(pb::Shape::List)) => Value::List(m.items.into_iter().map(value).collect()),
        (None, Ok(pb::Shape::Dict)) => Value::Dict(pairs(m.items)),
        (None, Ok(pb::Shape::Scalar) | Err(_)) => Value::Null,
    }
}

/// Keys and values by turns; a last key without a value gets null.
fn pairs(items: Vec<pb::Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter().map(value);
    let mut pairs = Vec::new();
    while let Some(key) = items.next() {
        pairs.push((key, items.next().unwrap_or(Value::Null)));
    }
    pairs
}

pub(super) fn kind(number: i32) -> Kind {
    match pb::Kind::try_from(number) {
        Ok(pb::Kind::Http) | Err(_) => Kind::Http,
        Ok(pb::Kind::Connect) => Kind::Connect,
        Ok(pb::Kind::Tunnel) => Kind::Tunnel,
        Ok(pb::Kind::Tls) => Kind::Tls,
    }
}

pub(super) fn state(number: i32) -> State {
    match pb::State::try_from(number) {
        Ok(pb::State::Open) => State::Open,
        Ok(pb::State::Complete) => State::Complete,
        Ok(pb::State::ClientAborted) => State::ClientAborted,
        Ok(pb::State::ServerAborted) => State::ServerAborted,
        Ok(pb::State::Refused) => State::Refused,
        Ok(pb::State::Failed) | Err(_) => State::Failed,
        Ok(pb::State::Interrupted) => State::Interrupted,
    }
}

pub(super) fn scheme(number: i32) -> Scheme {
    match pb::Scheme::try_from(number) {
        Ok(pb::Scheme::Http) => Scheme::Http,
        Ok(pb::Scheme::Https) => Scheme::Https,
        Ok(pb::Scheme::Tcp) | Err(_) => Scheme::Tcp,
    }
}

pub(super) fn version(number: i32) -> Version {
    match pb::Version::try_from(number) {
        Ok(pb::Version::Http11) => Version::Http11,
        Ok(pb::Version::Http10) => Version::Http10,
        Ok(pb::Version::Http2) => Version::Http2,
        Ok(pb::Version::Http3) | Err(_) => Version::Http3,
    }
}

fn side(number: i32) -> Side {
    match pb::Side::try_from(number) {
        Ok(pb::Side::Client) => Side::Client,
        Ok(pb::Side::Server) => Side::Server,
        Ok(pb::Side::Proxy) | Err(_) => Side::Proxy,
    }
}

fn stage(number: i32) -> Stage {
    match pb::Stage::try_from(number) {
        Ok(pb::Stage::RequestHead) | Err(_) => Stage::RequestHead,
        Ok(pb::Stage::RequestBody) => Stage::RequestBody,
        Ok(pb::Stage::Target) => Stage::Target,
        Ok(pb::Stage::Dns) => Stage::Dns,
        Ok(pb::Stage::Connect) => Stage::Connect,
        Ok(pb::Stage::Tls) => Stage::Tls,
        Ok(pb::Stage::ResponseHead) => Stage::ResponseHead,
        Ok(pb::Stage::ResponseBody) => Stage::ResponseBody,
        Ok(pb::Stage::Tunnel) => Stage::Tunnel,
        Ok(pb::Stage::Shutdown) => Stage::Shutdown,
    }
}

pub(super) fn framing(number: i32) -> Framing {
    match pb::Framing::try_from(number) {
        Ok(pb::Framing::None) | Err(_) => Framing::None,
        Ok(pb::Framing::Length) => Framing::Length,
        Ok(pb::Framing::Chunked) => Framing::Chunked,
        Ok(pb::Framing::Close) => Framing::Close,
        Ok(pb::Framing::Stream) => Framing::Stream,
    }
}

pub(super) fn body_end(number: i32) -> BodyEnd {
    match pb::BodyEnd::try_from(number) {
        Ok(pb::BodyEnd::Open) => BodyEnd::Open,
        Ok(pb::BodyEnd::Whole) => BodyEnd::Whole,
        Ok(pb::BodyEnd::CutOff) | Err(_) => BodyEnd::CutOff,
        Ok(pb::BodyEnd::Capped) => BodyEnd::Capped,
        Ok(pb::BodyEnd::Lost) => BodyEnd::Lost,
    }
}
