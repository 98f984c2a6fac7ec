//! Entries of other tools: what browsers and proxies mean, with what they get wrong.

use std::io::{self, Read as _};

use bytes::Bytes;

use crate::flow::{
    Addr, Body, BodyEnd, ConnId, Flow, Framing, Headers, Imported, Kind, Request, Response, ServerConn,
    State, Value, Version,
};
use crate::format::charset::Charset;
use crate::format::transfer::Part;

use super::build::{self, BuildError, File, Texts};
use super::entry::{Entry, Message, PHASES};
use super::spool::{Run, Spool};
use super::url::Url;
use super::{foreign, recode};

/// Puts into `flow`, which has its start, what the entry says.
///
/// # Errors
/// As [`build::flow`].
pub(super) fn flow(
    flow: &mut Flow,
    entry: &mut Entry,
    request: Message,
    response: Option<Message>,
    texts: &mut Texts<'_>,
    file: &mut File,
) -> Result<(), BuildError> {
    let url = Url::parse(&request.url).map_err(BuildError::Entry)?;
    flow.kind = build::kind(&request.method);
    flow.target = url.target;
    flow.state = State::Complete;
    imported(flow, entry, &request, response.as_ref(), file);
    flow.request = Some(their_request(flow, &request, url.path, texts)?);
    if let Some(response) = &response
        && let Some(status) = build::status(response)
    {
        flow.response = Some(their_response(flow, status, response, texts)?);
    }
    timing(flow, entry);
    server(flow, entry, file);
    if flow.response.is_none() || !entry.error.is_empty() {
        build::error(flow, &entry.error);
    }
    let is_web_socket = entry.resource_type.eq_ignore_ascii_case("websocket") || entry.messages > 0;
    if is_web_socket && flow.response.is_some() {
        flow.websocket = Some(Box::default());
    }
    Ok(())
}

fn their_request(
    flow: &mut Flow,
    message: &Message,
    path: String,
    texts: &mut Texts<'_>,
) -> Result<Request, BuildError> {
    let version = foreign::parse_version(&message.version);
    let (headers, mut pseudo) = fields(&message.headers);
    let target = match flow.kind {
        Kind::Http => pseudo.take(":path").unwrap_or_else(|| Bytes::from(path)),
        _ => Bytes::from(flow.target.host_port()),
    };
    let is_binary = build::is_multiplexed(version);
    let authority = pseudo.take(":authority");
    let scheme = pseudo.take(":scheme");
    let body = body(flow, Part::Request, message, &headers, version, texts)?;
    Ok(Request {
        method: Bytes::from(message.method.clone()),
        target,
        version,
        head_len: whole(message.headers_size),
        body,
        scheme: is_binary.then(|| scheme.unwrap_or_else(|| Bytes::from(flow.target.scheme.as_str()))),
        authority: authority.or_else(|| {
            // What does not stand among the fields stood there, or nowhere.
            (is_binary && headers.get("host").is_none()).then(|| Bytes::from(flow.target.authority()))
        }),
        protocol: pseudo.take(":protocol"),
        headers,
        ..Request::default()
    })
}

fn their_response(
    flow: &mut Flow,
    status: u16,
    message: &Message,
    texts: &mut Texts<'_>,
) -> Result<Response, BuildError> {
    let version = foreign::parse_version(&message.version);
    let (headers, _) = fields(&message.headers);
    let mut body = body(flow, Part::Response, message, &headers, version, texts)?;
    let is_head = flow.request.as_ref().is_some_and(|request| request.method == "HEAD"[..]);
    if body.len == 0 && (is_head || status < 200 || matches!(status, 204 | 304)) {
        body.framing = Framing::None;
    }
    Ok(Response {
        status,
        reason: Bytes::from(message.reason.clone()),
        version,
        headers,
        head_len: whole(message.headers_size),
        body,
        ..Response::default()
    })
}

/// The body by its text, or by the parts of its form; else how long it was.
fn body(
    flow: &mut Flow,
    part: Part,
    message: &Message,
    headers: &Headers,
    version: Version,
    texts: &mut Texts<'_>,
) -> Result<Body, BuildError> {
    let size = whole(message.body_size).max(whole(message.size));
    let is_form = message.media_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    let mut is_recoded = false;
    let has_text = message.text.is_some_and(|run| run.len > 0);
    let (content, len) = if let Some(run) = message.text.filter(|_| has_text || size == 0) {
        let is_base64 = message.encoding.eq_ignore_ascii_case("base64");
        let is_latin = !is_base64 && Charset::of(headers).is_none() && is_latin(texts.spool, run, message)?;
        let decoded =
            texts.spool.in_memory(run).filter(|_| is_base64).and_then(recode::of_base64).map(io::Cursor::new);
        let plain: Box<dyn io::Read> = match (decoded, is_base64, is_latin) {
            (Some(decoded), ..) => Box::new(decoded),
            (None, true, _) => recode::from_base64(texts.spool.read(run)?),
            (None, _, true) => recode::in_latin(texts.spool.read(run)?),
            (None, ..) => recode::in_charset(texts.spool.read(run)?, headers),
        };
        let coded = recode::in_codings(plain, headers).map_err(not_base64)?;
        is_recoded = coded.1;
        build::hand_over(texts.sink, part, coded.0)?
    } else if is_form && !message.params.is_empty() {
        let form = form(&message.params);
        build::hand_over(texts.sink, part, Box::new(form.as_bytes()))?
    } else if size > 0 {
        return Ok(build::absent(size));
    } else {
        return Ok(Body { end: BodyEnd::Whole, ..Body::inline(Bytes::new()) });
    };
    if is_recoded && let Some(imported) = &mut flow.imported {
        let path = if part == Part::Request { "request.postData.text" } else { "response.content.text" };
        imported
            .exact
            .push((path.to_owned(), Value::Text("decoded in the archive, coded again at import".to_owned())));
    }
    let framing = match version {
        _ if build::is_multiplexed(version) => Framing::Stream,
        _ if headers.has_token("transfer-encoding", "chunked") => Framing::Chunked,
        _ if headers.get("content-length").is_some() => Framing::Length,
        _ if len == 0 => Framing::None,
        _ if part == Part::Request => Framing::Length,
        _ => Framing::Close,
    };
    Ok(Body { content, len, wire_len: len, framing, end: BodyEnd::Whole })
}

/// Whether text in no charset was made of bytes by taking each for a character of ISO 8859-1, as mitmproxy does: then it has
/// as many characters as the archive says that the body has bytes, and in UTF-8 it has more.
fn is_latin(spool: &mut Spool, run: Run, message: &Message) -> io::Result<bool> {
    let size = message.size.or(message.body_size);
    // mitmproxy's size is that on the wire.
    let sizes = [size, size.zip(message.compression).map(|(size, compression)| size + compression)];
    let is_size =
        |len: u64| sizes.iter().any(|size| size.is_some_and(|size| size > 0.0 && whole(Some(size)) == len));
    if is_size(run.len) || sizes[0].is_none_or(|size| size <= 0.0) {
        return Ok(false);
    }
    let (mut text, mut piece, mut characters) = (spool.read(run)?, [0; 16 * 1024], 0);
    loop {
        let len = text.read(&mut piece)?;
        if len == 0 {
            return Ok(is_size(characters));
        }
        if piece[..len].iter().any(|&byte| byte > 0xc3) {
            return Ok(false);
        }
        characters += piece[..len].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u64;
    }
}

fn not_base64(error: io::Error) -> BuildError {
    if error.kind() == io::ErrorKind::InvalidData {
        return BuildError::Entry(format!("a body is not the base64 that it should be: {error}"));
    }
    BuildError::Io(error)
}

/// A form's body, of which the archive has the parts alone, as HAR 1.2 wants it.
fn form(params: &[(String, String)]) -> String {
    let mut form = String::new();
    for (name, value) in params {
        if !form.is_empty() {
            form.push('&');
        }
        percent_encode(name, &mut form);
        form.push('=');
        percent_encode(value, &mut form);
    }
    form
}

/// As the URL Standard's application/x-www-form-urlencoded serializer. What is encoded already, as some tools have it, stays.
fn percent_encode(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let is_encoded =
            || bytes.get(at + 1..at + 3).is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit));
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b'%' if is_encoded() => out.push('%'),
            b' ' | b'+' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Pseudo-header fields, which are no fields of a record.
struct Pseudo(Vec<(Vec<u8>, Vec<u8>)>);

impl Pseudo {
    fn take(&mut self, name: &str) -> Option<Bytes> {
        let at = self.0.iter().position(|(known, _)| known == name.as_bytes())?;
        Some(Bytes::from(self.0.swap_remove(at).1))
    }
}

/// The fields without pseudo-headers. Chrome joins fields of one name with line feeds; carriage returns are left-overs.
fn fields(all: &Headers) -> (Headers, Pseudo) {
    let (pseudo, fields): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| name.starts_with(b":"));
    let lines = fields.iter().flat_map(|(name, value)| {
        value.split(|&b| b == b'\n').map(move |line| {
            let line: Vec<u8> = line.iter().copied().filter(|b| !matches!(b, b'\r' | 0)).collect();
            (name, line.trim_ascii().to_vec())
        })
    });
    let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    (lines.collect(), Pseudo(pseudo.into_iter().map(owned).collect()))
}

/// The moments by the phases, one after the other from the start.
fn timing(flow: &mut Flow, entry: &Entry) {
    let us = |phase: &str| {
        let at = PHASES.iter().position(|known| *known == phase)?;
        entry.phases_ms[at].map(to_us)
    };
    let timing = &mut flow.timing;
    let connected = us("blocked").unwrap_or(0) + us("dns").unwrap_or(0) + us("connect").unwrap_or(0);
    let sent = connected + us("send").unwrap_or(0);
    let head = sent + us("wait").unwrap_or(0);
    let end = head + us("receive").unwrap_or(0);
    let has_phases = entry.phases_ms.iter().any(Option::is_some);
    if has_phases {
        timing.connected_us = Some(connected);
        timing.send_start_us = Some(connected);
        timing.send_end_us = Some(sent);
    }
    if flow.response.is_some() {
        timing.response_head_us = has_phases.then_some(head);
        timing.response_end_us = Some(if has_phases { end } else { entry.time_ms.map_or(0, to_us) });
    }
    timing.end_us = Some(end.max(entry.time_ms.map_or(0, to_us)));
}

/// What an archive says of the connection to the origin: its address, and what set it up.
fn server(flow: &mut Flow, entry: &Entry, file: &mut File) {
    let us = |at: usize| entry.phases_ms[at].map(to_us);
    let (dns, connect, ssl) = (us(1), us(2), us(3));
    let ip = entry.server_ip.trim_start_matches('[').trim_end_matches(']').trim();
    let is_new = dns.is_some_and(|us| us > 0) || connect.is_some_and(|us| us > 0);
    if ip.is_empty() && entry.connection.is_empty() && !is_new {
        return;
    }
    let address = Addr { host: flow.target.host.clone(), port: flow.target.port, ..Addr::default() };
    // Firefox has the origin's port here, which is no connection's name.
    let is_name = !entry.connection.is_empty() && entry.connection != address.port.to_string();
    let id = if is_name { file.conn_id(format!("{} {ip} {address}", entry.connection)) } else { 0 };
    let server = ServerConn {
        id: ConnId(id),
        peer: (!ip.is_empty()).then(|| Addr { host: ip.to_owned(), port: address.port, ..Addr::default() }),
        address,
        started_unix_ns: flow.timing.started_unix_ns,
        dns_us: dns,
        connect_us: connect.map(|connect| connect.saturating_sub(ssl.unwrap_or(0))),
        tls_us: ssl,
        ..ServerConn::default()
    };
    flow.server = Some(std::sync::Arc::new(server));
    flow.server_reused = !is_new;
}

impl File {
    /// The same id for the same name, while it is remembered.
    fn conn_id(&mut self, name: String) -> u64 {
        if let Some(id) = self.ids.get(&name) {
            return *id;
        }
        self.last_id += 1;
        let len = name.len();
        self.ids.insert(name, self.last_id, len);
        self.last_id
    }
}

/// What the record has no field for.
fn imported(flow: &mut Flow, entry: &Entry, request: &Message, response: Option<&Message>, file: &File) {
    let mut imported = Imported { format: foreign::FORMAT_NAME.to_owned(), ..Imported::default() };
    let mut metadata = Vec::new();
    let text = |name: &str, text: &str| (Value::Text(name.to_owned()), Value::Text(text.to_owned()));
    for (name, what) in [("creator", &file.creator), ("browser", &file.browser)] {
        if !what.is_empty() {
            metadata.push(text(name, what));
        }
    }
    let page = entry.unknown.iter().find(|(section, name, _)| *section == "entry" && name == "pageref");
    let found = page.and_then(|(_, _, id)| file.pages.get(id.as_str()?));
    if let Some(page) = found {
        metadata.push((Value::Text("page".to_owned()), foreign::from_json(page.clone())));
    }
    let mut left_out: Vec<Value> = entry.left_out.iter().cloned().map(Value::Text).collect();
    if page.is_some() && found.is_none() && file.lacks_pages {
        left_out.push(Value::Text("page".to_owned()));
    }
    if !left_out.is_empty() {
        metadata.push((Value::Text("left_out".to_owned()), Value::List(left_out)));
    }
    imported.metadata = (!metadata.is_empty()).then_some(Value::Dict(metadata));
    let spelling = |path: &str, message: &Message| {
        let is_ours = foreign::parse_version(&message.version).as_str() == message.version;
        (!is_ours && !message.version.is_empty())
            .then(|| (path.to_owned(), Value::Text(message.version.clone())))
    };
    imported.exact.extend(spelling("request.httpVersion", request));
    imported.exact.extend(response.and_then(|response| spelling("response.httpVersion", response)));
    let sizes = [
        ("request.bodySize", request.body_size),
        ("response.bodySize", response.and_then(|response| response.body_size)),
        ("response.content.size", response.and_then(|response| response.size)),
        ("response._transferSize", response.and_then(|response| response.transfer_size)),
    ];
    for (path, size) in sizes {
        if let Some(size) = size.filter(|size| *size >= 0.0) {
            imported.exact.push((path.to_owned(), Value::Int(whole(Some(size)).to_string())));
        }
    }
    flow.imported = Some(Box::new(imported));
    build::take_unknown(flow, entry);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is too large becomes the largest"
)]
fn to_us(ms: f64) -> u64 {
    (ms * 1000.0).round().min(MAX_US) as u64
}

/// A size; 0 where it is not known.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is too large becomes the largest"
)]
fn whole(size: Option<f64>) -> u64 {
    size.map_or(0, |size| size as u64)
}

/// A phase that is longer than a century is none, and sums of a few of them stay far from the end of their type.
const MAX_US: f64 = 3.2e15;
