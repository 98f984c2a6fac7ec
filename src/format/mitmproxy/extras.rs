//! What our record holds and a flow file has no field for: it goes into the free metadata, and comes back from there.

use std::sync::Arc;

use bytes::Bytes;

use super::schema;
use super::state::is_ours_to_give_back;
use crate::flow::{
    Applied, Body, BodyEnd, ConnectHead, Flow, FlowError, Headers, Interim, Kind, Mid, Note, Side, Stage,
    State, Timing, Value,
};

/// The metadata that is written: what was imported, or what is ours; tags in both. `cut` messages of the flow's WebSocket
/// are not recorded whole.
pub(super) fn metadata(flow: &Flow, note: &Note, cut: u64) -> Value {
    let imported = flow.imported.as_ref().filter(|imported| is_ours_to_give_back(&imported.format));
    let Some(imported) = imported else {
        let mut pairs = Vec::new();
        pairs.extend(flow.mid.map(|mid| pair(MID, int(mid.0))));
        if !note.tags.is_empty() {
            pairs.push(pair(TAGS, tag_list(note)));
        }
        pairs.push(pair(OURS, Value::Dict(ours(flow, cut))));
        return Value::Dict(pairs);
    };
    let metadata = imported.metadata.clone().filter(schema::is_metadata);
    let metadata = metadata.unwrap_or_else(|| Value::Dict(Vec::new()));
    let had = tags(&metadata).unwrap_or_default();
    match metadata {
        Value::Dict(mut pairs) if had != note.tags => {
            let place = pairs.iter_mut().find(|(key, _)| is_key(key, TAGS));
            match (place, note.tags.is_empty()) {
                (Some(place), false) => place.1 = tag_list(note),
                (Some(_), true) => pairs.retain(|(key, _)| !is_key(key, TAGS)),
                (None, false) => pairs.insert(0, pair(TAGS, tag_list(note))),
                (None, true) => {}
            }
            Value::Dict(pairs)
        }
        metadata => metadata,
    }
}

/// The tags in some metadata, if they can all be tags: in the order of their bytes.
pub(super) fn tags(metadata: &Value) -> Option<Vec<String>> {
    let Some(Value::List(members)) = get(metadata, TAGS) else { return None };
    let tag = |member: &Value| match member {
        Value::Text(tag) if !tag.is_empty() && tag.len() <= MAX_TAG && !tag.contains(is_no_tag_char) => {
            Some(tag.clone())
        }
        _ => None,
    };
    let mut tags = members.iter().map(tag).collect::<Option<Vec<_>>>()?;
    tags.sort_unstable();
    tags.dedup();
    Some(tags)
}

/// Puts back what [`metadata`] had put there.
pub(super) fn restore(flow: &mut Flow, metadata: &Value) {
    let Some(ours) = get(metadata, OURS) else { return };
    flow.mid = get(metadata, MID).and_then(number).filter(|mid| *mid > 0).map(Mid);
    flow.replay_of = get(ours, "replay_of").and_then(number).map(Mid);
    if let Some(Value::List(rules)) = get(ours, "rules") {
        flow.rules = rules.iter().filter_map(applied_of).collect();
    }
    if let Some(kind) = named(ours, "kind", &Kind::ALL, Kind::as_str) {
        // One that the flow's own fields could be.
        let fits = match kind {
            Kind::Tunnel => flow.tunnel.is_some() && flow.response.is_none(),
            Kind::Http => true,
            Kind::Connect | Kind::Tls => {
                flow.tunnel.as_ref().is_none_or(|t| t.from_client.len == 0 && t.from_server.len == 0)
            }
        };
        if fits {
            flow.kind = kind;
            flow.tunnel = flow.tunnel.take().filter(|_| kind == Kind::Tunnel);
        }
    }
    if let Some(state) = named(ours, "state", &State::ALL, State::as_str) {
        flow.state = state;
    }
    if let Some(error) = &mut flow.error {
        let at_us = get(ours, "error_at_us").and_then(number).unwrap_or(error.at_us);
        *error = FlowError {
            side: named(ours, "error_side", &Side::ALL, Side::as_str).unwrap_or(error.side),
            stage: named(ours, "error_stage", &Stage::ALL, Stage::as_str).unwrap_or(error.stage),
            message: std::mem::take(&mut error.message),
            at_us,
        };
    }
    for (name, at) in timing(&mut flow.timing) {
        *at = get(ours, name).and_then(number).or(*at);
    }
    if let Some(tunnel) = &mut flow.tunnel {
        if let Some(Value::Text(reason)) = get(ours, "tunnel") {
            tunnel.reason.clone_from(reason);
        }
        restore_body(&mut tunnel.from_client, get(ours, "from_client"));
        restore_body(&mut tunnel.from_server, get(ours, "from_server"));
    }
    if let Some(request) = &mut flow.request {
        request.raw_head = get(ours, "request_head").and_then(bytes);
        request.protocol = get(ours, "protocol").and_then(bytes);
        request.changed = get(ours, "changed").map(headers_of).map(Box::new);
        restore_body(&mut request.body, get(ours, "request_body"));
    }
    if let Some(response) = &mut flow.response {
        response.raw_head = get(ours, "response_head").and_then(bytes);
        response.by_proxy = get(ours, "by_proxy") == Some(&Value::Bool(true));
        restore_body(&mut response.body, get(ours, "response_body"));
    }
    if let Some(Value::List(interim)) = get(ours, "interim") {
        flow.interim = interim.iter().filter_map(interim_of).collect();
    }
    if let Some(Value::List(connect)) = get(ours, "connect")
        && let [Value::Bytes(authority), fields] = &connect[..]
    {
        let connect = ConnectHead { authority: authority.clone(), headers: headers_of(fields) };
        Arc::make_mut(&mut flow.client).connect = Some(connect);
    }
}

/// What is ours alone, as far as it says something.
fn ours(flow: &Flow, cut: u64) -> Vec<(Value, Value)> {
    let mut pairs = vec![pair("state", text(flow.state.as_str()))];
    if flow.kind != Kind::Http || flow.request.is_none() {
        pairs.push(pair("kind", text(flow.kind.as_str())));
    }
    pairs.extend(flow.replay_of.map(|mid| pair("replay_of", int(mid.0))));
    if !flow.rules.is_empty() {
        pairs.push(pair("rules", Value::List(flow.rules.iter().map(applied).collect())));
    }
    if let Some(error) = &flow.error {
        pairs.push(pair("error_side", text(error.side.as_str())));
        pairs.push(pair("error_stage", text(error.stage.as_str())));
        pairs.push(pair("error_at_us", int(error.at_us)));
    }
    for (name, at) in timing(&mut flow.timing.clone()) {
        pairs.extend(at.map(|at| pair(name, int(at))));
    }
    let mut body = |name: &str, body: &Body| {
        if body.end != BodyEnd::Whole || body.recorded_len() != body.len {
            pairs.push(pair(name, Value::List(vec![text(body.end.as_str()), int(body.len)])));
        }
    };
    if let Some(request) = &flow.request {
        body("request_body", &request.body);
    }
    if let Some(response) = &flow.response {
        body("response_body", &response.body);
    }
    if let Some(tunnel) = &flow.tunnel {
        body("from_client", &tunnel.from_client);
        body("from_server", &tunnel.from_server);
        pairs.push(pair("tunnel", text(&tunnel.reason)));
    }
    if let Some(request) = &flow.request {
        pairs.extend(request.raw_head.clone().map(|head| pair("request_head", Value::Bytes(head))));
        pairs.extend(request.protocol.clone().map(|protocol| pair("protocol", Value::Bytes(protocol))));
        pairs.extend(request.changed.as_ref().map(|changed| pair("changed", headers(changed))));
    }
    if let Some(response) = &flow.response {
        pairs.extend(response.raw_head.clone().map(|head| pair("response_head", Value::Bytes(head))));
        if response.by_proxy {
            pairs.push(pair("by_proxy", Value::Bool(true)));
        }
    }
    if !flow.interim.is_empty() {
        pairs.push(pair("interim", Value::List(flow.interim.iter().map(interim).collect())));
    }
    if let Some(connect) = &flow.client.connect {
        let head = vec![Value::Bytes(connect.authority.clone()), headers(&connect.headers)];
        pairs.push(pair("connect", Value::List(head)));
    }
    if cut > 0 {
        pairs.push(pair("cut_messages", int(cut)));
    }
    pairs
}

/// Moments of a record that a flow file does not have.
fn timing(timing: &mut Timing) -> [(&'static str, &mut Option<u64>); 5] {
    [
        ("request_head_us", &mut timing.request_head_us),
        ("connected_us", &mut timing.connected_us),
        ("send_start_us", &mut timing.send_start_us),
        ("send_end_us", &mut timing.send_end_us),
        ("end_us", &mut timing.end_us),
    ]
}

fn restore_body(body: &mut Body, told: Option<&Value>) {
    let Some(Value::List(told)) = told else { return };
    let [Value::Text(end), len] = &told[..] else { return };
    if let Some(end) = BodyEnd::ALL.into_iter().find(|it| it.as_str() == end) {
        body.end = end;
        body.len = number(len).unwrap_or(0).max(body.recorded_len());
        body.wire_len = body.wire_len.max(body.len);
    }
}

fn applied(applied: &Applied) -> Value {
    Value::List(vec![text(&applied.rule), int(applied.at_us), int(applied.times)])
}

fn applied_of(value: &Value) -> Option<Applied> {
    let Value::List(parts) = value else { return None };
    let [Value::Text(rule), at_us, times] = &parts[..] else { return None };
    Some(Applied { rule: rule.clone(), at_us: number(at_us)?, times: number(times)? })
}

fn interim(interim: &Interim) -> Value {
    let reason = Value::Bytes(interim.reason.clone());
    Value::List(vec![int(interim.status.into()), reason, headers(&interim.headers), int(interim.at_us)])
}

fn interim_of(value: &Value) -> Option<Interim> {
    let Value::List(parts) = value else { return None };
    let [status, Value::Bytes(reason), fields, at] = &parts[..] else { return None };
    let status = u16::try_from(number(status)?).ok()?;
    Some(Interim { status, reason: reason.clone(), headers: headers_of(fields), at_us: number(at)? })
}

fn headers(headers: &Headers) -> Value {
    let bytes = |text: &[u8]| Value::Bytes(Bytes::copy_from_slice(text));
    Value::List(headers.iter().map(|(name, value)| Value::List(vec![bytes(name), bytes(value)])).collect())
}

fn headers_of(value: &Value) -> Headers {
    super::record::fields(Some(value))
}

fn get<'a>(dict: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Dict(pairs) = dict else { return None };
    pairs.iter().find(|(key, _)| is_key(key, name)).map(|(_, value)| value)
}

fn is_key(key: &Value, name: &str) -> bool {
    matches!(key, Value::Text(key) if key == name)
}

fn named<T: Copy>(dict: &Value, name: &str, all: &[T], word: fn(T) -> &'static str) -> Option<T> {
    let Some(Value::Text(found)) = get(dict, name) else { return None };
    all.iter().copied().find(|it| word(*it) == found)
}

fn number(value: &Value) -> Option<u64> {
    if let Value::Int(text) = value { text.parse().ok() } else { None }
}

fn bytes(value: &Value) -> Option<Bytes> {
    if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
}

fn pair(key: &str, value: Value) -> (Value, Value) {
    (Value::Text(key.to_owned()), value)
}

fn int(number: u64) -> Value {
    Value::Int(number.to_string())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn tag_list(note: &Note) -> Value {
    Value::List(note.tags.iter().map(|tag| text(tag)).collect())
}

/// As `store::Change` has it.
fn is_no_tag_char(c: char) -> bool {
    c.is_control() || c.is_whitespace() || c == ','
}

const MID: &str = "mid";
const TAGS: &str = "tags";
const OURS: &str = "manent";

/// Bytes of a tag: as `store::Change` has it.
const MAX_TAG: usize = 100;
