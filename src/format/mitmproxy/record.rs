//! From a flow's state to its record. What the record alone would not give back is kept beside it.

use std::sync::Arc;

use bytes::Bytes;

use super::moments::{unix_ns, us_after};
use super::node::{self, Dict, Node};
use super::reader::Side;
use super::rows::after_us;
use super::seen::{ConnRead, Seen};
use super::{conns, extras, schema, state};
use crate::flow::{
    Body, BodyEnd, ClientConn, Content, Flow, FlowError, Framing, Headers, Imported, Kind, Note, Request,
    Response, Scheme, ServerConn, Side as ErrorSide, Stage, State, Target, Timing, Tunnel, Value, Version,
    WebSocket,
};
use crate::format::transfer::Decoded;

/// What was read of a flow beside its state.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Its connections as they stand in the file.
    pub(super) client: ConnRead<ClientConn>,
    pub(super) server: ConnRead<ServerConn>,
    /// Whether an earlier flow of the file had the same connection to the server.
    pub(super) server_reused: bool,
    /// What a stream held from the client and from the server.
    pub(super) sides: [Side; 2],
    /// What messages of a WebSocket come to.
    pub(super) sums: WebSocket,
    /// What the times of messages were told from, if that was settled before the flow's start was known.
    pub(super) base: Option<i64>,
}

/// The flow with this state, of that version.
///
/// # Errors
/// If something is missing without which there is no flow, in words.
pub(super) fn decoded(
    mut state: Dict,
    version: &str,
    mut beside: Beside,
    seen: &mut Seen,
) -> Result<Decoded, String> {
    let kind = state.text("type").unwrap_or("http").to_owned();
    if !matches!(kind.as_str(), "http" | "tcp" | "udp" | "dns") {
        return Err(format!("a flow of a kind that is not known: {}", kind.escape_debug()));
    }
    let unknown = take_unknown(&mut state, schema::keys(&kind));
    let (client, server) = conns(&state, &beside)?;
    let mut flow = Flow { client, server, server_reused: beside.server_reused, ..Flow::default() };
    let own = (Arc::clone(&flow.client), flow.server.clone());
    match kind.as_str() {
        "http" => http(&mut flow, &state, &beside)?,
        _ => stream(&mut flow, &state, &kind, std::mem::take(&mut beside.sides)),
    }
    error(&mut flow, &state);
    let metadata = state.value("metadata").cloned().unwrap_or(Value::Null);
    let note = note(&state, &metadata);
    extras::restore(&mut flow, &metadata);
    let in_conn = |(path, _): &(Value, Value)| matches!(path, Value::Text(path) if path.starts_with("client_conn.") || path.starts_with("server_conn."));
    let unknown_in_conns = unknown.iter().any(in_conn);
    flow.imported = Some(Box::new(Imported {
        format: format!("mitmproxy {version}"),
        id: state.text("id").unwrap_or_default().to_owned(),
        metadata: Some(metadata),
        unknown: (!unknown.is_empty()).then_some(Value::Dict(unknown)),
        exact: vec![("type".to_owned(), Value::Text(kind))],
        backup: None,
    }));
    let of_conns = exact_of_conns(&flow, &state, &beside, own, unknown_in_conns, seen);
    for side in [SERVER, CLIENT] {
        if let Some(conn) = state.get_mut(side) {
            *conn = Node::NULL;
        }
    }
    let mut exact = node::differences(&state::made(&flow, &note), &state);
    exact.extend(of_conns);
    let messages = state.get("messages").or_else(|| state.dict("websocket")?.get("messages"));
    if let Some(Node::Messages(messages)) = messages {
        exact.extend(messages.log.packed().map(|log| (state::MESSAGES.to_owned(), log)));
    }
    let told = state::natural_kind(&flow) == state::kind(&flow);
    if let Some(imported) = &mut flow.imported {
        if told {
            imported.exact.clear();
        }
        imported.exact.extend(exact);
    }
    Ok(Decoded { flow, note })
}

/// The connections of a state: the client's, and the server's.
fn conns(state: &Dict, beside: &Beside) -> Result<(Arc<ClientConn>, Option<Arc<ServerConn>>), String> {
    let client = match (&beside.client.known, state.get(CLIENT)) {
        (Some(known), Some(Node::Written(_))) => Arc::clone(&known.conn),
        (_, Some(Node::Dict(client))) => Arc::new(conns::client_of(client, beside.client.sum)),
        _ => return Err("a flow without a client's connection".to_owned()),
    };
    let server = match (&beside.server.known, state.get(SERVER)) {
        (Some(known), Some(Node::Written(_))) => Some(Arc::clone(&known.conn)),
        (_, Some(Node::Dict(server))) => conns::server_of(server, beside.server.sum).map(Arc::new),
        _ => None,
    };
    Ok((client, server))
}

/// What of its connections a record alone would not give back. The ids that are made of a record are those of another store,
/// so they are always among it. `own` are the connections before something else of the flow went into them.
fn exact_of_conns(
    flow: &Flow,
    state: &Dict,
    beside: &Beside,
    own: (Arc<ClientConn>, Option<Arc<ServerConn>>),
    is_unknown: bool,
    seen: &mut Seen,
) -> Vec<(String, Value)> {
    let exact = |side: &str, made: Dict| {
        let Some(wanted) = state.dict(side) else { return Vec::new() };
        let mut exact = node::differences_at(&format!("{side}."), &made, wanted);
        let path = format!("{side}.id");
        if let Some(id) = wanted.value("id")
            && !exact.iter().any(|(told, _)| *told == path)
        {
            exact.push((path, id.clone()));
        }
        exact
    };
    // What is made of one depends on nothing else then.
    let may_learn = !is_unknown && conns::is_by_itself(&flow.client);
    let mut all = match (&beside.server.known, state.get(SERVER)) {
        (Some(known), Some(Node::Written(_))) => known.exact.clone(),
        _ => {
            let exact = exact(SERVER, conns::server_state(flow));
            if let Some(server) = own.1.filter(|_| may_learn) {
                seen.learn_server(&beside.server, server, exact.clone());
            }
            exact
        }
    };
    all.extend(match (&beside.client.known, state.get(CLIENT)) {
        (Some(known), Some(Node::Written(_))) => known.exact.clone(),
        _ => {
            let exact = exact(CLIENT, conns::client_state(flow));
            if may_learn {
                seen.learn_client(&beside.client, own.0, exact.clone());
            }
            exact
        }
    });
    all
}

fn http(flow: &mut Flow, state: &Dict, beside: &Beside) -> Result<(), String> {
    let sent = state.dict("request").ok_or("an HTTP flow without a request")?;
    let base = beside.base.or_else(|| unix_ns(sent, "timestamp_start")).unwrap_or(0);
    let request = request(sent);
    flow.target = Target {
        scheme: if sent.bytes("scheme").is_some_and(|scheme| scheme == "https") {
            Scheme::Https
        } else {
            Scheme::Http
        },
        host: sent.text("host").unwrap_or_default().to_owned(),
        port: sent.int("port").unwrap_or(0),
    };
    flow.timing = Timing {
        started_unix_ns: base,
        request_end_us: us_after(base, sent, "timestamp_end"),
        ..Timing::default()
    };
    flow.state = State::Interrupted;
    if let Some(answer) = state.dict("response") {
        flow.response = Some(response(answer, &request));
        flow.state = State::Complete;
        flow.timing.response_head_us = us_after(base, answer, "timestamp_start");
        flow.timing.response_end_us = us_after(base, answer, "timestamp_end");
    }
    if request.method == "CONNECT" && flow.response.as_ref().is_none_or(|response| response.status >= 300) {
        flow.kind = Kind::Connect;
    }
    flow.request = Some(request);
    flow.timing.end_us = flow.timing.response_end_us.or(flow.timing.request_end_us);
    if let Some(websocket) = state.dict("websocket") {
        flow.websocket = Some(Box::new(WebSocket {
            closed_by_client: websocket.truth("closed_by_client"),
            close_code: websocket.int("close_code"),
            close_reason: websocket.text("close_reason").map(str::to_owned),
            ..beside.sums.clone()
        }));
        flow.timing.end_us = us_after(base, websocket, "timestamp_end").or(flow.timing.end_us);
    }
    Ok(())
}

fn request(state: &Dict) -> Request {
    let bytes = |key: &str| state.bytes(key).cloned().unwrap_or_default();
    let (method, path, authority) = (bytes("method"), bytes("path"), bytes("authority"));
    let version = version(state);
    let headers = headers_at(state, "headers").unwrap_or_default();
    let (mut scheme, mut of_h2) = (None, None);
    let target = if version >= Version::Http2 {
        scheme = Some(bytes("scheme")).filter(|scheme| !scheme.is_empty());
        of_h2 = Some(authority.clone()).filter(|authority| !authority.is_empty());
        if method == "CONNECT" && path.is_empty() { authority } else { path }
    } else if method == "CONNECT" {
        authority
    } else if authority.is_empty() {
        path
    } else {
        // Only absolute-form has an authority.
        Bytes::from([&bytes("scheme")[..], b"://", &authority, &path].concat())
    };
    Request {
        body: body(state, &headers, version, Framing::None),
        trailers: headers_at(state, "trailers").map(Box::new),
        method,
        target,
        version,
        headers,
        scheme,
        authority: of_h2,
        ..Request::default()
    }
}

fn response(state: &Dict, request: &Request) -> Response {
    let version = version(state);
    let headers = headers_at(state, "headers").unwrap_or_default();
    let status = state.int("status_code").unwrap_or(0);
    let bodiless = request.method == "HEAD" || matches!(status, 100..200 | 204 | 304);
    let default = if bodiless { Framing::None } else { Framing::Close };
    Response {
        status,
        reason: state.bytes("reason").cloned().unwrap_or_default(),
        body: body(state, &headers, version, default),
        trailers: headers_at(state, "trailers").map(Box::new),
        version,
        headers,
        ..Response::default()
    }
}

fn body(state: &Dict, headers: &Headers, version: Version, default: Framing) -> Body {
    let framing = if version >= Version::Http2 {
        Framing::Stream
    } else if headers.has_token("transfer-encoding", "chunked") {
        Framing::Chunked
    } else if headers.get("content-length").is_some() {
        Framing::Length
    } else {
        default
    };
    match state.get("content") {
        Some(Node::Body(body)) => Body {
            content: body.content.clone(),
            len: body.len,
            wire_len: body.len,
            framing: if body.len == 0 && framing == Framing::Close { Framing::None } else { framing },
            end: BodyEnd::Whole,
        },
        // mitmproxy let it pass without keeping it.
        _ => Body { content: Content::Absent, len: 0, wire_len: 0, framing, end: BodyEnd::Capped },
    }
}

fn version(state: &Dict) -> Version {
    match state.bytes("http_version").map(|version| &version[..]) {
        Some(b"HTTP/1.0") => Version::Http10,
        Some(b"HTTP/2.0" | b"HTTP/2") => Version::Http2,
        Some(b"HTTP/3" | b"HTTP/3.0") => Version::Http3,
        _ => Version::Http11,
    }
}

/// Header fields of a message; `None` for null.
fn headers_at(state: &Dict, key: &str) -> Option<Headers> {
    match state.get(key)? {
        Node::Fields(headers) => Some(headers.clone()),
        Node::Value(Value::Null) => None,
        other => Some(fields(other.as_value())),
    }
}

/// What of a list is pairs of bytes.
pub(super) fn fields(value: Option<&Value>) -> Headers {
    let Some(Value::List(fields)) = value else { return Headers::new() };
    let pair = |field: &Value| match field {
        Value::List(pair) => match &pair[..] {
            [Value::Bytes(name), Value::Bytes(value)] => Some((name.clone(), value.clone())),
            _ => None,
        },
        _ => None,
    };
    fields.iter().filter_map(pair).collect()
}

/// A TCP, UDP or DNS flow. Of the last, nothing but its ends is in the record's own fields.
fn stream(flow: &mut Flow, state: &Dict, kind: &str, sides: [Side; 2]) {
    let base = unix_ns(state, "timestamp_created").unwrap_or(flow.client.started_unix_ns);
    let address = flow.server.as_ref().map(|server| match server.address.host.is_empty() {
        false => server.address.clone(),
        true => server.peer.clone().unwrap_or_default(),
    });
    let address = address.unwrap_or_default();
    let [from_client, from_server] = sides.map(|side| Body {
        content: if side.len == 0 { Content::Inline(Bytes::new()) } else { side.content },
        len: side.len,
        wire_len: side.len,
        framing: if side.len == 0 { Framing::None } else { Framing::Close },
        end: BodyEnd::Whole,
    });
    flow.kind = Kind::Tunnel;
    flow.state = State::Complete;
    flow.target = Target { scheme: Scheme::Tcp, host: address.host, port: address.port };
    flow.tunnel = Some(Box::new(Tunnel { reason: kind.to_owned(), from_client, from_server }));
    let last = ["server_conn", "client_conn"]
        .into_iter()
        .filter_map(|conn| unix_ns(state.dict(conn)?, "timestamp_end"));
    flow.timing = Timing {
        started_unix_ns: base,
        end_us: last.max().map(|at| after_us(base, at)),
        ..Timing::default()
    };
}

fn error(flow: &mut Flow, state: &Dict) {
    let Some(error) = state.dict("error") else { return };
    let message = error.text("msg").unwrap_or_default();
    let at_us = us_after(flow.timing.started_unix_ns, error, "timestamp").unwrap_or(0);
    let by_client = message.to_ascii_lowercase().contains("client disconnect");
    let (side, stage) = match (by_client, &flow.response) {
        (true, _) => (ErrorSide::Client, Stage::ResponseBody),
        (false, None) if flow.tunnel.is_some() => (ErrorSide::Server, Stage::Tunnel),
        (false, None) => (ErrorSide::Server, Stage::ResponseHead),
        (false, Some(_)) => (ErrorSide::Server, Stage::ResponseBody),
    };
    flow.state = match (by_client, stage) {
        (true, _) => State::ClientAborted,
        (false, Stage::ResponseHead) => State::Failed,
        (false, _) => State::ServerAborted,
    };
    flow.error = Some(FlowError { side, stage, message: message.to_owned(), at_us });
    flow.timing.end_us = flow.timing.end_us.max(Some(at_us));
}

/// What of a flow's state is a note. A text that cannot be one stays with the state.
fn note(state: &Dict, metadata: &Value) -> Note {
    let text = |key: &str, max: usize, bad: fn(char) -> bool| {
        let text =
            state.text(key).filter(|text| !text.is_empty() && text.len() <= max && !text.contains(bad))?;
        Some(text.to_owned())
    };
    Note {
        marker: text("marked", MAX_MARKER, char::is_control),
        comment: text("comment", MAX_COMMENT, |c| c == '\0'),
        tags: extras::tags(metadata).unwrap_or_default(),
    }
}

/// Takes out what version 21 does not know: by path.
fn take_unknown(state: &mut Dict, keys: schema::Keys) -> Vec<(Value, Value)> {
    fn take(prefix: &str, dict: &mut Dict, keys: schema::Keys, taken: &mut Vec<(Value, Value)>) {
        for (key, mut node) in std::mem::take(&mut dict.0) {
            let known = keys.iter().find(|(name, _)| *name == key);
            match (known.map(|(_, kind)| schema::inner(*kind)), &mut node) {
                (Some(schema::Kind::Dict(keys)), Node::Dict(dict)) => {
                    take(&format!("{prefix}{key}."), dict, keys, taken);
                }
                (Some(_), _) => {}
                (None, node) => {
                    taken.extend(node.closed().map(|value| (Value::Text(format!("{prefix}{key}")), value)));
                    continue;
                }
            }
            dict.0.push((key, node));
        }
    }
    let mut taken = Vec::new();
    take("", state, keys, &mut taken);
    taken
}

const CLIENT: &str = "client_conn";
const SERVER: &str = "server_conn";

/// What a store takes as a marker and as a comment, in bytes: see `store::Change`.
const MAX_MARKER: usize = 100;
const MAX_COMMENT: usize = 64 << 10;
