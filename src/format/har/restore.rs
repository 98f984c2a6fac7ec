//! The member `_manent`, read: what `extra.rs` wrote. What is missing or odd is left at its default; a person may have edited it.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::flow::{
    Applied, Body, BodyEnd, ClientConn, Content, Flow, FlowError, Framing, Imported, Interim, Kind, Mid,
    Note, Request, Response, Scheme, ServerConn, Side, Stage, State, Target, Timing, Tunnel, WebSocket,
};
use crate::format::json::JsonError;

use super::conns::Conns;
use super::typed::Typed;

type Result<T> = std::result::Result<T, JsonError>;

/// What an entry says in it, but for the recorded bodies.
#[derive(Debug, Default)]
pub(super) struct Manent {
    mid: Option<Mid>,
    state: State,
    kind: Kind,
    started_unix_ns: Option<i64>,
    target: Option<Target>,
    error: Option<FlowError>,
    /// Without the start.
    timing: Timing,
    request: Option<OfRequest>,
    interim: Vec<Interim>,
    response: Option<OfResponse>,
    tunnel: Option<Tunnel>,
    websocket: Option<WebSocket>,
    client: Option<Arc<ClientConn>>,
    server: Option<Arc<ServerConn>>,
    server_reused: bool,
    replay_of: Option<Mid>,
    rules: Vec<Applied>,
    marker: Option<String>,
    tags: Vec<String>,
    imported: Option<Box<Imported>>,
}

/// What it says of a request.
#[derive(Debug, Default)]
struct OfRequest {
    /// Where HAR's own members do not have it exactly.
    target: Option<Bytes>,
    /// The same.
    method: Option<Bytes>,
    /// All that HAR has no member for.
    rest: Request,
}

/// What it says of a response.
#[derive(Debug, Default)]
struct OfResponse {
    /// Where HAR's own members do not have it exactly.
    reason: Option<Bytes>,
    /// All that HAR has no member for.
    rest: Response,
}

impl Manent {
    /// Reads the value of the member `name`.
    ///
    /// # Errors
    /// If it is no JSON, or cannot be read.
    pub(super) fn member<R: Read>(
        &mut self,
        name: &str,
        typed: &mut Typed<'_, R>,
        conns: &mut Conns,
    ) -> Result<()> {
        match name {
            "mid" => self.mid = typed.int()?.map(Mid),
            "state" => self.state = typed.word(&State::ALL, State::as_str)?.unwrap_or_default(),
            "kind" => self.kind = typed.word(&Kind::ALL, Kind::as_str)?.unwrap_or_default(),
            "started_unix_ns" => self.started_unix_ns = typed.int()?,
            "target" => self.target = typed.whole(target)?,
            "error" => self.error = typed.whole(error)?,
            "timing" => self.timing = timing(typed)?,
            "request" => self.request = typed.whole(request)?,
            "interim" => self.interim = typed.whole(|typed| typed.list(interim))?.unwrap_or_default(),
            "response" => self.response = typed.whole(response)?,
            "tunnel" => self.tunnel = typed.whole(tunnel)?,
            "websocket" => self.websocket = typed.whole(web_socket)?,
            "client" => self.client = conns.client(typed)?,
            "server" => self.server = conns.server(typed)?,
            "server_reused" => self.server_reused = typed.flag()?.unwrap_or(false),
            "replay_of" => self.replay_of = typed.int()?.map(Mid),
            "rules" => self.rules = typed.whole(|typed| typed.list(applied))?.unwrap_or_default(),
            "marker" => self.marker = typed.whole(Typed::text)?.flatten(),
            "tags" => self.tags = typed.whole(|typed| typed.some(Typed::text))?.unwrap_or_default(),
            "imported" => self.imported = typed.whole(imported)?.map(Box::new),
            _ => typed.skip()?,
        }
        Ok(())
    }

    /// Puts it into a flow, which has what HAR's own members say.
    pub(super) fn put_into(self, flow: &mut Flow, note: &mut Note) {
        flow.mid = self.mid;
        flow.state = self.state;
        flow.kind = self.kind;
        let started_unix_ns = self.started_unix_ns.unwrap_or(flow.timing.started_unix_ns);
        flow.timing = Timing { started_unix_ns, ..self.timing };
        if let Some(target) = self.target {
            flow.target = target;
        }
        flow.error = self.error;
        if let (Some(request), Some(of)) = (&mut flow.request, self.request) {
            let all = std::mem::take(request);
            *request = Request {
                method: of.method.unwrap_or(all.method),
                target: of.target.unwrap_or(all.target),
                version: all.version,
                headers: all.headers,
                ..of.rest
            };
        }
        flow.interim = self.interim;
        if let (Some(response), Some(of)) = (&mut flow.response, self.response) {
            let all = std::mem::take(response);
            *response = Response {
                status: all.status,
                reason: of.reason.unwrap_or(all.reason),
                version: all.version,
                headers: all.headers,
                ..of.rest
            };
        }
        flow.tunnel = self.tunnel.map(Box::new);
        flow.websocket = self.websocket.map(Box::new);
        flow.client = self.client.unwrap_or_default();
        flow.server = self.server;
        flow.server_reused = self.server_reused;
        flow.replay_of = self.replay_of;
        flow.rules = self.rules;
        note.marker = self.marker.filter(|marker| !marker.is_empty());
        note.tags = self.tags;
        flow.imported = self.imported;
    }
}

fn target<R: Read>(typed: &mut Typed<'_, R>) -> Result<Target> {
    let mut target = Target::default();
    typed.object(|typed, name| {
        match name {
            "scheme" => target.scheme = typed.word(&Scheme::ALL, Scheme::as_str)?.unwrap_or_default(),
            "host" => target.host = typed.text()?.unwrap_or_default(),
            "port" => target.port = typed.count()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(target)
}

fn error<R: Read>(typed: &mut Typed<'_, R>) -> Result<FlowError> {
    let mut error =
        FlowError { side: Side::default(), stage: Stage::default(), message: String::new(), at_us: 0 };
    typed.object(|typed, name| {
        match name {
            "side" => error.side = typed.word(&Side::ALL, Side::as_str)?.unwrap_or_default(),
            "stage" => error.stage = typed.word(&Stage::ALL, Stage::as_str)?.unwrap_or_default(),
            "message" => error.message = typed.text()?.unwrap_or_default(),
            "at_us" => error.at_us = typed.count()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(error)
}

fn timing<R: Read>(typed: &mut Typed<'_, R>) -> Result<Timing> {
    let mut timing = Timing::default();
    typed.object(|typed, name| {
        match name {
            "request_head_us" => timing.request_head_us = typed.int()?,
            "request_end_us" => timing.request_end_us = typed.int()?,
            "connected_us" => timing.connected_us = typed.int()?,
            "send_start_us" => timing.send_start_us = typed.int()?,
            "send_end_us" => timing.send_end_us = typed.int()?,
            "response_head_us" => timing.response_head_us = typed.int()?,
            "response_end_us" => timing.response_end_us = typed.int()?,
            "end_us" => timing.end_us = typed.int()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(timing)
}

fn request<R: Read>(typed: &mut Typed<'_, R>) -> Result<OfRequest> {
    let mut of = OfRequest::default();
    let rest = &mut of.rest;
    typed.object(|typed, name| {
        match name {
            "target" => of.target = typed.bytes()?,
            "method" => of.method = typed.bytes()?,
            "scheme" => rest.scheme = typed.bytes()?,
            "authority" => rest.authority = typed.bytes()?,
            "protocol" => rest.protocol = typed.bytes()?,
            "raw_head" => rest.raw_head = typed.bytes()?,
            "head_len" => rest.head_len = typed.count()?,
            "trailers" => rest.trailers = Some(Box::new(typed.headers()?)),
            "changed" => rest.changed = Some(Box::new(typed.headers()?)),
            "body" => rest.body = body_facts(typed)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(of)
}

fn response<R: Read>(typed: &mut Typed<'_, R>) -> Result<OfResponse> {
    let mut of = OfResponse::default();
    let rest = &mut of.rest;
    typed.object(|typed, name| {
        match name {
            "reason" => of.reason = typed.bytes()?,
            "by_proxy" => rest.by_proxy = typed.flag()?.unwrap_or(false),
            "raw_head" => rest.raw_head = typed.bytes()?,
            "head_len" => rest.head_len = typed.count()?,
            "trailers" => rest.trailers = Some(Box::new(typed.headers()?)),
            "body" => rest.body = body_facts(typed)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(of)
}

/// What is said of a body. Its content is [`Content::Absent`], or to be put in its place.
fn body_facts<R: Read>(typed: &mut Typed<'_, R>) -> Result<Body> {
    let mut body = Body { content: Content::Inline(Bytes::new()), end: BodyEnd::Whole, ..Body::default() };
    typed.object(|typed, name| {
        match name {
            "recorded" => {
                let is_recorded = typed.flag()?.unwrap_or(true);
                body.content = if is_recorded { Content::Inline(Bytes::new()) } else { Content::Absent };
            }
            "len" => body.len = typed.count()?,
            "wire_len" => body.wire_len = typed.count()?,
            "framing" => body.framing = typed.word(&Framing::ALL, Framing::as_str)?.unwrap_or_default(),
            "end" => body.end = body_end(typed)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(body)
}

/// How a body ended; whole where it is not said.
///
/// # Errors
/// If no JSON stands there, or it cannot be read.
pub(super) fn body_end<R: Read>(typed: &mut Typed<'_, R>) -> Result<BodyEnd> {
    Ok(typed.word(&BodyEnd::ALL, BodyEnd::as_str)?.unwrap_or(BodyEnd::Whole))
}

fn interim<R: Read>(typed: &mut Typed<'_, R>) -> Result<Interim> {
    let mut interim = Interim::default();
    typed.object(|typed, name| {
        match name {
            "status" => interim.status = typed.count()?,
            "reason" => interim.reason = typed.bytes()?.unwrap_or_default(),
            "headers" => interim.headers = typed.headers()?,
            "at_us" => interim.at_us = typed.count()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(interim)
}

fn tunnel<R: Read>(typed: &mut Typed<'_, R>) -> Result<Tunnel> {
    let mut tunnel = Tunnel::default();
    typed.object(|typed, name| {
        match name {
            "reason" => tunnel.reason = typed.text()?.unwrap_or_default(),
            "from_client" => tunnel.from_client = body_facts(typed)?,
            "from_server" => tunnel.from_server = body_facts(typed)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(tunnel)
}

fn web_socket<R: Read>(typed: &mut Typed<'_, R>) -> Result<WebSocket> {
    let mut ws = WebSocket::default();
    typed.object(|typed, name| {
        match name {
            "closed_by_client" => ws.closed_by_client = typed.flag()?,
            "close_code" => ws.close_code = typed.int()?,
            "close_reason" => ws.close_reason = typed.text()?,
            "messages_from_client" => ws.messages_from_client = typed.count()?,
            "messages_from_server" => ws.messages_from_server = typed.count()?,
            "len_from_client" => ws.len_from_client = typed.count()?,
            "len_from_server" => ws.len_from_server = typed.count()?,
            "bad_text_from_client" => ws.bad_text_from_client = typed.count()?,
            "bad_text_from_server" => ws.bad_text_from_server = typed.count()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(ws)
}

fn applied<R: Read>(typed: &mut Typed<'_, R>) -> Result<Applied> {
    let mut applied = Applied { rule: String::new(), at_us: 0, times: 1 };
    typed.object(|typed, name| {
        match name {
            "rule" => applied.rule = typed.text()?.unwrap_or_default(),
            "at_us" => applied.at_us = typed.count()?,
            "times" => applied.times = typed.int()?.unwrap_or(1),
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(applied)
}

fn imported<R: Read>(typed: &mut Typed<'_, R>) -> Result<Imported> {
    let mut imported = Imported::default();
    typed.object(|typed, name| {
        match name {
            "format" => imported.format = typed.text()?.unwrap_or_default(),
            "id" => imported.id = typed.text()?.unwrap_or_default(),
            "metadata" => imported.metadata = Some(typed.value()?),
            "unknown" => imported.unknown = Some(typed.value()?),
            "exact" => imported.exact = typed.some(pair)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(imported)
}

/// Where a value was, and the value.
fn pair<R: Read>(typed: &mut Typed<'_, R>) -> Result<Option<(String, crate::flow::Value)>> {
    let (mut path, mut value, mut at) = (None, None, 0);
    typed.each(|typed| {
        match at {
            0 => path = typed.text()?,
            1 => value = Some(typed.value()?),
            _ => typed.skip()?,
        }
        at += 1;
        Ok(())
    })?;
    Ok(path.zip(value))
}
