//! The way back from [`super::shape`]: members of JSON objects into fields of a flow.
//!
//! What is missing is what a new flow has; what is there and cannot be right is an error that names it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::shape::parse_addr;
use crate::flow::{
    Addr, Applied, Body, BodyEnd, ClientAuth, ClientConn, ConnId, ConnectHead, Content, Flow, FlowError,
    Framing, Headers, Imported, Interim, Kind, Message, MessageCoding, Mid, Note, Opcode, Request, Response,
    Scheme, ServerConn, Side, Stage, State, Target, Timing, TlsInfo, Tunnel, Value as Foreign, Version, Via,
    WebSocket,
};

/// Why it is no flow: which member, and what is wrong with it.
pub(super) type Result<T> = std::result::Result<T, String>;

type Object = Map<String, Value>;

/// The contents of a flow's bodies, which are not in the object; `None`: none was there.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) request: Option<Content>,
    pub(super) response: Option<Content>,
    pub(super) from_client: Option<Content>,
    pub(super) from_server: Option<Content>,
}

/// The flow.
pub(super) fn flow(object: &Object, contents: Contents) -> Result<Flow> {
    let request = child(object, "request")?.map(|message| request(message, contents.request)).transpose();
    let response = child(object, "response")?.map(|message| response(message, contents.response)).transpose();
    let tunnel = child(object, "tunnel")?.map(|tunnel| {
        Ok::<_, String>(Tunnel {
            reason: text(tunnel, "reason")?.unwrap_or_default(),
            from_client: body(tunnel, "from_client", contents.from_client)?,
            from_server: body(tunnel, "from_server", contents.from_server)?,
        })
    });
    let host = text(object, "host")?.unwrap_or_default();
    let scheme = word(object, "scheme", &Scheme::ALL, Scheme::as_str)?;
    let websocket = child(object, "websocket")?.map(websocket).transpose();
    Ok(Flow {
        mid: number(object, "mid")?.map(Mid),
        kind: word(object, "kind", &Kind::ALL, Kind::as_str)?,
        state: word(object, "state", &State::ALL, State::as_str)?,
        error: child(object, "error")?.map(error).transpose().map_err(within("error"))?,
        target: Target { scheme, host, port: number(object, "port")?.unwrap_or_default() },
        request: request.map_err(within("request"))?,
        interim: list(object, "interim", interim)?,
        response: response.map_err(within("response"))?,
        tunnel: tunnel.transpose().map_err(within("tunnel"))?.map(Box::new),
        websocket: websocket.map_err(within("websocket"))?.map(Box::new),
        client: Arc::new(
            child(object, "client")?.map(client).transpose().map_err(within("client"))?.unwrap_or_default(),
        ),
        server: child(object, "server")?.map(server).transpose().map_err(within("server"))?.map(Arc::new),
        server_reused: flag(object, "server_reused")?,
        timing: timing(object)?,
        replay_of: number(object, "replay_of")?.map(Mid),
        rules: list(object, "rules", applied)?,
        imported: child(object, "imported")?
            .map(imported)
            .transpose()
            .map_err(within("imported"))?
            .map(Box::new),
    })
}

/// What people wrote beside it.
pub(super) fn note(object: &Object) -> Result<Note> {
    let mut tags =
        list(object, "tags", |tag| tag.as_str().map(str::to_owned).ok_or_else(|| "not text".to_owned()))?;
    tags.sort();
    tags.dedup();
    let written = |name| Ok::<_, String>(text(object, name)?.filter(|text| !text.is_empty()));
    Ok(Note { marker: written("marker")?, comment: written("comment")?, tags })
}

/// A message of a WebSocket.
pub(super) fn message(object: &Object, content: Option<Content>) -> Result<Message> {
    Ok(Message {
        seq: number(object, "seq")?.unwrap_or_default(),
        from_client: flag(object, "from_client")?,
        opcode: word(object, "opcode", &OPCODES, Opcode::as_str)?,
        at_us: number(object, "at_us")?.unwrap_or_default(),
        len: number(object, "len")?.unwrap_or_default(),
        wire_len: number(object, "wire_len")?.unwrap_or_default(),
        coding: word(object, "coding", &CODINGS, MessageCoding::as_str)?,
        fragments: number(object, "fragments")?.unwrap_or(1),
        injected: flag(object, "injected")?,
        dropped: flag(object, "dropped")?,
        end: end(object, content.is_some())?,
        content: content.unwrap_or_default(),
    })
}

fn applied(value: &Value) -> Result<Applied> {
    let object = value.as_object().ok_or("not an object")?;
    Ok(Applied {
        rule: text(object, "rule")?.unwrap_or_default(),
        at_us: number(object, "at_us")?.unwrap_or_default(),
        times: number(object, "times")?.unwrap_or(1),
    })
}

fn request(object: &Object, content: Option<Content>) -> Result<Request> {
    Ok(Request {
        method: bytes(object, "method")?.unwrap_or_default(),
        target: bytes(object, "target")?.unwrap_or_default(),
        version: version(object)?,
        headers: headers(object, "headers")?.unwrap_or_default(),
        raw_head: bytes(object, "raw_head")?,
        head_len: number(object, "head_len")?.unwrap_or_default(),
        body: body(object, "body", content)?,
        trailers: headers(object, "trailers")?.map(Box::new),
        scheme: bytes(object, "scheme")?,
        authority: bytes(object, "authority")?,
        protocol: bytes(object, "protocol")?,
        changed: headers(object, "changed")?.map(Box::new),
    })
}

fn response(object: &Object, content: Option<Content>) -> Result<Response> {
    Ok(Response {
        status: number(object, "status")?.unwrap_or_default(),
        reason: bytes(object, "reason")?.unwrap_or_default(),
        version: version(object)?,
        headers: headers(object, "headers")?.unwrap_or_default(),
        raw_head: bytes(object, "raw_head")?,
        head_len: number(object, "head_len")?.unwrap_or_default(),
        body: body(object, "body", content)?,
        trailers: headers(object, "trailers")?.map(Box::new),
        by_proxy: flag(object, "by_proxy")?,
    })
}

fn interim(value: &Value) -> Result<Interim> {
    let object = value.as_object().ok_or("not an object")?;
    Ok(Interim {
        status: number(object, "status")?.unwrap_or_default(),
        reason: bytes(object, "reason")?.unwrap_or_default(),
        headers: headers(object, "headers")?.unwrap_or_default(),
        at_us: number(object, "at_us")?.unwrap_or_default(),
    })
}

fn body(object: &Object, name: &str, content: Option<Content>) -> Result<Body> {
    let Some(object) = child(object, name)? else { return Ok(Body::default()) };
    Ok(Body {
        len: number(object, "len")?.unwrap_or_default(),
        wire_len: number(object, "wire_len")?.unwrap_or_default(),
        framing: word(object, "framing", &Framing::ALL, Framing::as_str)?,
        end: end(object, content.is_some())?,
        content: content.unwrap_or_default(),
    })
}

/// How a body ended, as far as the line has it: `show` leaves out what is long, and a damaged store ends early.
fn end(object: &Object, is_there: bool) -> Result<BodyEnd> {
    let end = word(object, "end", &BodyEnd::ALL, BodyEnd::as_str)?;
    let left_out = object.get("left_out").and_then(Value::as_str).is_some_and(|why| why != "not recorded");
    Ok(match end {
        _ if object.contains_key("damaged") => BodyEnd::Lost,
        BodyEnd::Whole if left_out && !is_there => BodyEnd::Capped,
        end => end,
    })
}

fn error(object: &Object) -> Result<FlowError> {
    Ok(FlowError {
        side: word(object, "side", &Side::ALL, Side::as_str)?,
        stage: word(object, "stage", &Stage::ALL, Stage::as_str)?,
        message: text(object, "message")?.unwrap_or_default(),
        at_us: number(object, "at_us")?.unwrap_or_default(),
    })
}

fn websocket(object: &Object) -> Result<WebSocket> {
    let count = |name| Ok::<_, String>(number(object, name)?.unwrap_or_default());
    Ok(WebSocket {
        closed_by_client: optional_flag(object, "closed_by_client")?,
        close_code: number(object, "close_code")?,
        close_reason: text(object, "close_reason")?,
        messages_from_client: count("messages_from_client")?,
        messages_from_server: count("messages_from_server")?,
        len_from_client: count("len_from_client")?,
        len_from_server: count("len_from_server")?,
        bad_text_from_client: count("bad_text_from_client")?,
        bad_text_from_server: count("bad_text_from_server")?,
    })
}

fn timing(object: &Object) -> Result<Timing> {
    let empty = Object::new();
    let times = child(object, "timing")?.unwrap_or(&empty);
    Ok(Timing {
        started_unix_ns: number(object, "started_unix_ns")?.unwrap_or_default(),
        request_head_us: number(times, "request_head_us")?,
        request_end_us: number(times, "request_end_us")?,
        connected_us: number(times, "connected_us")?,
        send_start_us: number(times, "send_start_us")?,
        send_end_us: number(times, "send_end_us")?,
        response_head_us: number(times, "response_head_us")?,
        response_end_us: number(times, "response_end_us")?,
        end_us: number(times, "end_us")?,
    })
}

fn client(object: &Object) -> Result<ClientConn> {
    let connect = child(object, "connect")?.map(|head| {
        Ok::<_, String>(ConnectHead {
            authority: bytes(head, "authority")?.unwrap_or_default(),
            headers: headers(head, "headers")?.unwrap_or_default(),
        })
    });
    Ok(ClientConn {
        id: ConnId(number(object, "id")?.unwrap_or_default()),
        revision: number(object, "revision")?.unwrap_or_default(),
        peer: addr(object, "peer")?,
        local: addr(object, "local")?,
        mode: text(object, "mode")?.unwrap_or_default(),
        started_unix_ns: number(object, "started_unix_ns")?.unwrap_or_default(),
        connect: connect.transpose()?,
        proxy_tls: child(object, "proxy_tls")?.map(tls).transpose()?,
        tls: child(object, "tls")?.map(tls).transpose()?,
        tls_start_us: number(object, "tls_start_us")?,
        tls_end_us: number(object, "tls_end_us")?,
        closed_us: number(object, "closed_us")?,
        bytes_in: number(object, "bytes_in")?.unwrap_or_default(),
        bytes_out: number(object, "bytes_out")?.unwrap_or_default(),
        error: text(object, "error")?,
    })
}

fn server(object: &Object) -> Result<ServerConn> {
    let via = child(object, "via")?.map(|via| {
        Ok::<_, String>(Via {
            scheme: text(via, "scheme")?.unwrap_or_default(),
            address: addr(via, "address")?.unwrap_or_default(),
        })
    });
    Ok(ServerConn {
        id: ConnId(number(object, "id")?.unwrap_or_default()),
        revision: number(object, "revision")?.unwrap_or_default(),
        address: addr(object, "address")?.unwrap_or_default(),
        peer: addr(object, "peer")?,
        local: addr(object, "local")?,
        via: via.transpose()?,
        started_unix_ns: number(object, "started_unix_ns")?.unwrap_or_default(),
        dns_us: number(object, "dns_us")?,
        connect_us: number(object, "connect_us")?,
        tls_us: number(object, "tls_us")?,
        tls: child(object, "tls")?.map(tls).transpose()?,
        closed_us: number(object, "closed_us")?,
        error: text(object, "error")?,
    })
}

fn tls(object: &Object) -> Result<TlsInfo> {
    let der = |value: &Value| match value.as_str().map(|text| STANDARD.decode(text)) {
        Some(Ok(der)) => Ok(der.into()),
        _ => Err("not base64".to_owned()),
    };
    let suite = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| "not a suite's number".to_owned())
    };
    Ok(TlsInfo {
        sni: text(object, "sni")?,
        alpn_offers: list(object, "alpn_offers", bytes_of)?,
        cipher_offers: list(object, "cipher_offers", suite)?,
        version: text(object, "version")?,
        cipher: text(object, "cipher")?,
        group: text(object, "group")?,
        alpn: bytes(object, "alpn")?,
        resumed: flag(object, "resumed")?,
        chain: list(object, "chain_der", der)?,
        verified: flag(object, "verified")?,
        error: text(object, "error")?,
        client_auth: word(object, "client_auth", &ClientAuth::ALL, ClientAuth::as_str)?,
    })
}

fn imported(object: &Object) -> Result<Imported> {
    let exact = |value: &Value| {
        let object = value.as_object().ok_or("not an object")?;
        let value = object.get("value").ok_or("`value` is missing")?;
        Ok((text(object, "path")?.unwrap_or_default(), foreign(value)?))
    };
    Ok(Imported {
        format: text(object, "format")?.unwrap_or_default(),
        id: text(object, "id")?.unwrap_or_default(),
        metadata: present(object, "metadata").map(foreign).transpose()?,
        unknown: present(object, "unknown").map(foreign).transpose()?,
        exact: list(object, "exact", exact)?,
        backup: child(object, "backup")?.map(backup).transpose().map_err(within("backup"))?.map(Box::new),
    })
}

/// A flow with its bodies inside.
fn backup(object: &Object) -> Result<Flow> {
    if let Some(Value::String(json)) = object.get("json") {
        return backup(&serde_json::from_str(json).map_err(|error| error.to_string())?);
    }
    let content = |message: &str, body: &str| {
        let Some(message) = child(object, message)? else { return Ok(None) };
        let Some(body) = child(message, body)? else { return Ok(None) };
        Ok::<_, String>(match (body.get("text"), body.get("base64")) {
            (Some(text), _) => Some(Content::Inline(bytes_of(text)?)),
            (None, Some(_)) => Some(Content::Inline(bytes_of(&Value::Object(body.clone()))?)),
            (None, None) => None,
        })
    };
    let contents = Contents {
        request: content("request", "body")?,
        response: content("response", "body")?,
        from_client: content("tunnel", "from_client")?,
        from_server: content("tunnel", "from_server")?,
    };
    flow(object, contents)
}

/// A value of another tool. The depth was bounded by the reader; a string of JSON halves with each level.
fn foreign(value: &Value) -> Result<Foreign> {
    let wrong = || "not a value of another tool".to_owned();
    Ok(match value {
        Value::Bool(bool) => Foreign::Bool(*bool),
        Value::String(text) => Foreign::Text(text.clone()),
        Value::Array(items) => Foreign::List(items.iter().map(foreign).collect::<Result<_>>()?),
        Value::Object(object) => match object.iter().next() {
            Some((name, Value::String(digits))) if name == "int" => Foreign::Int(digits.clone()),
            Some((name, Value::String(float))) if name == "float" => {
                Foreign::Float(float.parse().map_err(|_| wrong())?)
            }
            Some((name, Value::String(json))) if name == "json" => {
                foreign(&serde_json::from_str(json).map_err(|error| error.to_string())?)?
            }
            Some((name, Value::String(_))) if name == "base64" => Foreign::Bytes(bytes_of(value)?),
            Some((name, Value::Array(flat))) if name == "dict" && flat.len() % 2 == 0 => {
                let pairs = flat.chunks_exact(2).map(|pair| Ok((foreign(&pair[0])?, foreign(&pair[1])?)));
                Foreign::Dict(pairs.collect::<Result<_>>()?)
            }
            Some((name, Value::Bool(true))) if name == "null" => Foreign::Null,
            _ => return Err(wrong()),
        },
        Value::Null | Value::Number(_) => return Err(wrong()),
    })
}

/// Adds where an error lies.
fn within(name: &'static str) -> impl Fn(String) -> String {
    move |what| format!("{name}: {what}")
}

/// A member that is there and not null.
fn present<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn child<'a>(object: &'a Object, name: &str) -> Result<Option<&'a Object>> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_object().map(Some).ok_or_else(|| format!("`{name}` is not an object"))
}

fn list<T>(object: &Object, name: &str, item: impl Fn(&Value) -> Result<T>) -> Result<Vec<T>> {
    let Some(value) = present(object, name) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(|| format!("`{name}` is not an array"))?;
    items.iter().map(item).collect::<Result<_>>().map_err(|what| format!("`{name}`: {what}"))
}

fn text(object: &Object, name: &str) -> Result<Option<String>> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| format!("`{name}` is not a string"))
}

fn flag(object: &Object, name: &str) -> Result<bool> {
    Ok(optional_flag(object, name)?.unwrap_or_default())
}

fn optional_flag(object: &Object, name: &str) -> Result<Option<bool>> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| format!("`{name}` is neither true nor false"))
}

/// A whole number in the range of `T`.
fn number<T: TryFrom<i128>>(object: &Object, name: &str) -> Result<Option<T>> {
    let Some(value) = present(object, name) else { return Ok(None) };
    let number = value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("`{name}` is not a number of its range"))
}

fn bytes(object: &Object, name: &str) -> Result<Option<Bytes>> {
    present(object, name).map(bytes_of).transpose().map_err(|what| format!("`{name}` is {what}"))
}

/// A string, or `{"base64": …}`.
fn bytes_of(value: &Value) -> Result<Bytes> {
    let wrong = || "neither a string nor {\"base64\": …}".to_owned();
    match value {
        Value::String(text) => Ok(text.clone().into()),
        Value::Object(object) => {
            let text = object.get("base64").and_then(Value::as_str).ok_or_else(wrong)?;
            STANDARD.decode(text).map(Bytes::from).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn headers(object: &Object, name: &str) -> Result<Option<Headers>> {
    if present(object, name).is_none() {
        return Ok(None);
    }
    let fields = list(object, name, |field| {
        let field = field.as_object().ok_or("not an object")?;
        let part = |name| bytes(field, name)?.ok_or_else(|| format!("`{name}` is missing"));
        Ok((part("name")?, part("value")?))
    })?;
    Ok(Some(fields.into_iter().collect()))
}

fn addr(object: &Object, name: &str) -> Result<Option<Addr>> {
    if let Some(parts) = child(object, &format!("{name}_exact"))? {
        return Ok(Some(Addr {
            host: text(parts, "host")?.unwrap_or_default(),
            port: number(parts, "port")?.unwrap_or_default(),
            flowinfo: number(parts, "flowinfo")?,
            scope: number(parts, "scope")?,
        }));
    }
    let Some(text) = text(object, name)? else { return Ok(None) };
    parse_addr(&text).map(Some).ok_or_else(|| format!("`{name}` is no address with a port"))
}

fn version(object: &Object) -> Result<Version> {
    word(object, "version", &VERSIONS, Version::as_str)
}

/// One of the words for `all`; the default where it is missing.
fn word<T: Copy + Default>(
    object: &Object,
    name: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<T> {
    let Some(value) = present(object, name) else { return Ok(T::default()) };
    let found = value.as_str().and_then(|word| all.iter().copied().find(|one| as_str(*one) == word));
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| as_str(*one)).collect();
        format!("`{name}` is none of {}", words.join(", "))
    })
}

const VERSIONS: [Version; 4] = [Version::Http10, Version::Http11, Version::Http2, Version::Http3];
const OPCODES: [Opcode; 5] = [Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];
const CODINGS: [MessageCoding; 3] = [MessageCoding::Plain, MessageCoding::Deflate, MessageCoding::Unknown];
