//! From a record to the state of a flow that mitmproxy loads.

use super::messages::{Log, Messages};
use super::moments::{maybe, node};
use super::node::{self, BodyNode, Dict, Node};
use super::schema::{self, Keys};
use super::{conns, extras, uuid};
use crate::flow::{Body, Content, Flow, Headers, Kind, Note, Request, Response, Value, Version};
use crate::format::transfer::Part;

/// What is written of a flow. Of a version 21 that was imported, it is what was read.
pub(super) fn of(flow: &Flow, note: &Note, messages: Messages, kind: &str, conns: &mut conns::Texts) -> Dict {
    let imported = flow.imported.as_ref().filter(|imported| is_ours_to_give_back(&imported.format));
    let Some(imported) = imported else {
        let [server, client] = [conns.server(flow), conns.client(flow)].map(Node::Written);
        // What is made of a record alone fits.
        return made_as(flow, note, messages, kind, [server, client]).1;
    };
    let conns = [conns::server_state(flow), conns::client_state(flow)].map(Node::Dict);
    let (keys, made) = made_as(flow, note, messages, kind, conns);
    let mut state = made.clone();
    let written_over = |path: &str| match path {
        "marked" => note.marker.is_some(),
        "comment" => note.comment.is_some(),
        _ => path == MESSAGES,
    };
    let exact = imported.exact.iter().filter(|(path, _)| !written_over(path));
    node::change(&mut state, exact);
    schema::mend(&mut state, &made, keys);
    state
}

/// What the log of an imported flow's messages is.
pub(super) fn log(flow: &Flow) -> Log {
    let exact = flow.imported.iter().flat_map(|imported| &imported.exact);
    exact
        .filter(|(path, _)| path == MESSAGES)
        .map(|(_, value)| Log::unpacked(value))
        .next()
        .unwrap_or_default()
}

/// Whether the imported part of a record is about such files.
pub(super) fn is_ours_to_give_back(format: &str) -> bool {
    format.starts_with("mitmproxy ")
}

/// `http`, `tcp`, `udp` or `dns`: what the flow is there.
pub(super) fn kind(flow: &Flow) -> &str {
    let imported = flow.imported.as_ref().filter(|imported| is_ours_to_give_back(&imported.format));
    let exact = imported.into_iter().flat_map(|imported| &imported.exact);
    let kind = exact.filter(|(path, _)| path == "type").find_map(|(_, value)| match value {
        Value::Text(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.filter(|kind| matches!(*kind, "http" | "tcp" | "udp" | "dns")).unwrap_or_else(|| natural_kind(flow))
}

/// As [`kind`], by the record's own fields.
pub(super) fn natural_kind(flow: &Flow) -> &'static str {
    match flow.kind {
        Kind::Tunnel => "tcp",
        // There an HTTP flow has a request.
        _ if flow.request.is_none() => "tcp",
        Kind::Http | Kind::Connect | Kind::Tls => "http",
    }
}

/// What the record gives by itself, of connections and messages nothing.
pub(super) fn made(flow: &Flow, note: &Note) -> Dict {
    made_as(flow, note, Messages::default(), kind(flow), [Node::NULL, Node::NULL]).1
}

/// What the record gives, with these connections: the server's and the client's. And the keys that are due.
fn made_as(
    flow: &Flow,
    note: &Note,
    messages: Messages,
    kind: &str,
    [server, client]: [Node; 2],
) -> (Keys, Dict) {
    let keys = schema::keys(kind);
    let started = flow.timing.started_unix_ns;
    let mut state = Dict::default();
    match kind {
        "http" => {
            let cut = messages.cut;
            state.set("websocket", websocket(flow, messages));
            state.set("response", Node::or_null(flow.response.as_ref(), |it| Node::Dict(response(flow, it))));
            let none = Request::default();
            state.set("request", Node::Dict(request(flow, flow.request.as_ref().unwrap_or(&none))));
            head(flow, note, cut, &mut state);
        }
        "dns" => {
            // The messages are not the record's: they were imported.
            state.set("response", Node::NULL);
            state.set("request", Node::NULL);
            head(flow, note, 0, &mut state);
        }
        _ => {
            state.set("messages", Node::Messages(messages));
            head(flow, note, 0, &mut state);
        }
    }
    state.set("server_conn", server);
    state.set("client_conn", client);
    state.set(
        "error",
        Node::or_null(flow.error.as_ref(), |error| {
            let timestamp = node(started, error.at_us);
            Node::Dict(Dict::of([("timestamp", timestamp), ("msg", Node::text(error.message.as_str()))]))
        }),
    );
    state.set("id", Node::text(flow_id(flow, kind)));
    state.set("type", Node::text(kind));
    state.set("version", Node::int(super::convert::NEWEST));
    (keys, state)
}

/// What every flow has before its connections.
fn head(flow: &Flow, note: &Note, cut: u64, state: &mut Dict) {
    state.set("backup", Node::NULL);
    state.set("timestamp_created", node(flow.timing.started_unix_ns, 0));
    state.set("comment", Node::text(note.comment.clone().unwrap_or_default()));
    state.set("metadata", Node::Value(extras::metadata(flow, note, cut)));
    state.set("marked", Node::text(note.marker.clone().unwrap_or_default()));
    state.set("is_replay", Node::or_null(flow.replay_of, |_| Node::text("request")));
    state.set("intercepted", Node::bool(false));
}

fn request(flow: &Flow, request: &Request) -> Dict {
    let started = flow.timing.started_unix_ns;
    let connect = request.method == "CONNECT" && request.protocol.is_none();
    let path = if connect { Vec::new() } else { request.path().to_vec() };
    let scheme = match &request.scheme {
        Some(scheme) => scheme.to_vec(),
        None if connect => Vec::new(),
        None => flow.target.scheme.as_str().as_bytes().to_vec(),
    };
    Dict::of([
        ("path", Node::bytes(path)),
        ("authority", Node::bytes(authority(request))),
        ("scheme", Node::bytes(scheme)),
        ("method", Node::bytes(request.method.clone())),
        ("port", Node::int(flow.target.port)),
        ("host", Node::text(flow.target.host.as_str())),
        ("timestamp_end", maybe(started, flow.timing.request_end_us)),
        ("timestamp_start", node(started, 0)),
        ("trailers", Node::or_null(request.trailers.as_deref(), fields)),
        ("content", content(Part::Request, &request.body)),
        ("headers", fields(&request.headers)),
        ("http_version", Node::bytes(version(request.version))),
    ])
}

/// The authority, where the request-target has one.
fn authority(request: &Request) -> Vec<u8> {
    if let Some(authority) = &request.authority {
        return authority.to_vec();
    }
    let target = &request.target[..];
    if request.version >= Version::Http2 || target.starts_with(b"/") {
        return Vec::new();
    }
    if request.method == "CONNECT" {
        return target.to_vec();
    }
    let Some(at) = target.windows(3).position(|window| window == b"://") else { return Vec::new() };
    let rest = &target[at + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    rest[..end].to_vec()
}

fn response(flow: &Flow, response: &Response) -> Dict {
    let timing = &flow.timing;
    let began = timing.response_head_us.or(timing.response_end_us).or(timing.end_us).unwrap_or(0);
    Dict::of([
        ("reason", Node::bytes(response.reason.clone())),
        ("status_code", Node::int(response.status)),
        ("timestamp_end", maybe(timing.started_unix_ns, timing.response_end_us)),
        ("timestamp_start", node(timing.started_unix_ns, began)),
        ("trailers", Node::or_null(response.trailers.as_deref(), fields)),
        ("content", content(Part::Response, &response.body)),
        ("headers", fields(&response.headers)),
        ("http_version", Node::bytes(version(response.version))),
    ])
}

fn websocket(flow: &Flow, messages: Messages) -> Node {
    Node::or_null(flow.websocket.as_ref(), |websocket| {
        Node::Dict(Dict::of([
            ("timestamp_end", maybe(flow.timing.started_unix_ns, flow.timing.end_us)),
            ("close_reason", Node::or_null(websocket.close_reason.as_ref(), Node::text)),
            ("close_code", Node::or_null(websocket.close_code, Node::int)),
            ("closed_by_client", Node::or_null(websocket.closed_by_client, Node::bool)),
            ("messages", Node::Messages(messages)),
        ]))
    })
}

/// What is recorded of a body; null where nothing was, which is not the same as an empty one.
fn content(part: Part, body: &Body) -> Node {
    match body.content {
        Content::Absent => Node::NULL,
        _ => Node::Body(BodyNode { part, len: body.recorded_len(), content: Content::Absent }),
    }
}

fn fields(headers: &Headers) -> Node {
    Node::Fields(headers.clone())
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http3 => "HTTP/3",
        version => version.as_str(),
    }
}

/// The id that the flow had in its file, or one that no other flow has.
fn flow_id(flow: &Flow, kind: &str) -> String {
    match &flow.imported {
        Some(imported) if is_ours_to_give_back(&imported.format) => imported.id.clone(),
        // A flow whose upgraded connection is a flow of its own there.
        _ => {
            let mid = flow.mid.map_or(0, |mid| mid.0);
            let own = u64::from(kind != natural_kind(flow));
            uuid::text(flow.timing.started_unix_ns.cast_unsigned(), mid << 2 | 2 | own)
        }
    }
}

/// Where the log of the messages stands among the exact values.
pub(super) const MESSAGES: &str = "#messages";
