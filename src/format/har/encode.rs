//! The writer: the frame of an archive, and an entry for each flow.

use std::collections::HashSet;
use std::io::{self, Write};

use crate::flow::{Content, Flow, Kind, Message, Opcode};
use crate::format::json::Writer;
use crate::format::transfer::{EncodeError, Encoder, Item, Part};

use super::content::Look;
use super::extra::{self, Bodies, Chains};
use super::{date, foreign, message};

/// Writes an archive.
#[derive(Debug, Default)]
pub(super) struct HarEncoder {
    has_begun: bool,
    buffer: Vec<u8>,
    /// Connections whose certificates were written.
    chains: Chains,
    /// Pages of the archives that flows were imported from, as JSON text in their order.
    pages: Vec<Vec<u8>>,
    /// Their ids.
    known_pages: HashSet<String>,
    /// Bytes of both.
    pages_len: usize,
}

impl Encoder for HarEncoder {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        let unsuitable = |why: &str| Err(EncodeError::Unsuitable(why.to_owned()));
        match &flow.request {
            None => return unsuitable("no request came, and an entry of an archive is one"),
            Some(request) if request.method.is_empty() => {
                return unsuitable("the request could not be parsed, and an entry has its method and URL");
            }
            Some(_) => {}
        }
        let looks = Looks::at(item)?;
        self.remember_page(flow);
        let mut json = Writer::new(out, &mut self.buffer);
        if std::mem::replace(&mut self.has_begun, true) {
            json.verbatim(b",\n");
        } else {
            begin(&mut json);
        }
        entry(&mut json, item, &looks, &mut self.chains)?;
        Ok(json.flush_if_large()?)
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut json = Writer::new(out, &mut self.buffer);
        if !self.has_begun {
            begin(&mut json);
        }
        json.verbatim(b"\n]");
        if !self.pages.is_empty() {
            json.verbatim(b",\"pages\":").open_array();
            for page in &self.pages {
                json.json(page);
            }
            json.close_array();
        }
        json.verbatim(b"}}\n");
        json.flush()
    }
}

impl HarEncoder {
    /// A page goes behind the entries: it is known when the first of them comes.
    fn remember_page(&mut self, flow: &Flow) {
        let Some((id, page)) = foreign::page(flow) else { return };
        if self.pages_len > MOST_PAGES_LEN || self.known_pages.contains(&id) {
            return;
        }
        let mut text = Vec::new();
        foreign::to_json(page, &mut text);
        self.pages_len += id.len() + text.len();
        self.known_pages.insert(id);
        self.pages.push(text);
    }
}

/// Up to the first entry.
fn begin(json: &mut Writer<'_>) {
    json.open().name("log").open().name("version").text("1.2").name("creator").open();
    json.name("name").text("manent").name("version").text(env!("CARGO_PKG_VERSION")).close();
    // One entry a line, so that an archive can be looked at and cut with tools for lines.
    json.name("entries").verbatim(b"[\n");
}

/// The two bodies.
pub(super) struct Looks<'a> {
    pub(super) request: Option<Look<'a>>,
    pub(super) response: Option<Look<'a>>,
}

impl<'a> Looks<'a> {
    fn at(item: &'a dyn Item) -> io::Result<Self> {
        let flow = item.flow();
        let request = flow.request.as_ref();
        let request = request.map(|m| Look::at(item, Part::Request, &m.headers, &m.body)).transpose()?;
        let response = flow.response.as_ref();
        let response = response.map(|m| Look::at(item, Part::Response, &m.headers, &m.body)).transpose()?;
        Ok(Self { request, response })
    }
}

fn entry(json: &mut Writer<'_>, item: &dyn Item, looks: &Looks<'_>, chains: &mut Chains) -> io::Result<()> {
    let flow = item.flow();
    json.open().name("startedDateTime").text(&date::iso(flow.timing.started_unix_ns));
    let url = url(flow);
    json.name("time").millis(total_us(flow)).name("request");
    let request_text = message::request(json, flow, &url, looks)?;
    json.name("response");
    let response_text = message::response(json, flow, looks)?;
    foreign::write_or(json, flow, "cache", b"{}");
    json.name("timings");
    timings(json, flow);
    if let Some(server) = &flow.server {
        if let Some(peer) = &server.peer {
            json.name("serverIPAddress").text(&peer.host);
        }
        if server.id.0 > 0 {
            json.name("connection").text(&server.id.0.to_string());
        }
    }
    if let Some(comment) = &item.note().comment {
        json.name("comment").text(comment);
    }
    if flow.websocket.is_some() {
        json.name("_resourceType").text("websocket").name("_webSocketMessages").open_array();
        item.messages(&mut |message| web_socket_message(json, item, message))?;
        json.close_array();
    }
    foreign::write_unknown(json, flow, "entry");
    json.name("_manent");
    let is_coded = |text: &message::BodyText| matches!(text, Some(written) if !written.is_exact);
    let bodies = Bodies { request: is_coded(&request_text), response: is_coded(&response_text) };
    extra::write(json, item, &url, &bodies, chains)?;
    json.close();
    Ok(())
}

/// As browsers write it: absolute, of a WebSocket `ws` or `wss`. A `CONNECT` has none; the origin's stands for it.
pub(super) fn url(flow: &Flow) -> String {
    let url = flow.url();
    if flow.kind != Kind::Http || !url.contains("://") {
        return format!("https://{}", flow.target.host_port());
    }
    match url.strip_prefix("http") {
        Some(rest) if flow.websocket.is_some() => format!("ws{rest}"),
        _ => url,
    }
}

/// HAR 1.2: `time` is the sum of the phases that are not -1, TLS being part of the connect.
fn total_us(flow: &Flow) -> u64 {
    let phases = flow.timing.har(flow.server.as_deref().filter(|_| !flow.server_reused));
    let before = [phases.blocked, phases.dns, phases.connect].into_iter().flatten();
    // A file of strangers may have had any numbers.
    before.chain([phases.send, phases.wait, phases.receive]).fold(0, u64::saturating_add)
}

fn timings(json: &mut Writer<'_>, flow: &Flow) {
    let phases = flow.timing.har(flow.server.as_deref().filter(|_| !flow.server_reused));
    json.open();
    let all = [
        ("blocked", phases.blocked),
        ("dns", phases.dns),
        ("connect", phases.connect),
        ("ssl", phases.ssl),
        ("send", Some(phases.send)),
        ("wait", Some(phases.wait)),
        ("receive", Some(phases.receive)),
    ];
    for (name, us) in all {
        json.name(name);
        match us {
            Some(us) => json.millis(us),
            None => json.int(-1),
        };
    }
    foreign::write_unknown(json, flow, "timings");
    json.close();
}

/// As Chrome writes it: text as it is, anything else in base64. Control frames, which it leaves out, stand among them.
fn web_socket_message(json: &mut Writer<'_>, item: &dyn Item, message: &Message) -> io::Result<()> {
    let flow = item.flow();
    json.open().name("type").text(if message.from_client { "send" } else { "receive" });
    json.name("time");
    seconds(json, i128::from(flow.timing.started_unix_ns) + i128::from(message.at_us) * 1000);
    json.name("opcode").int(message.opcode.number()).name("data");
    let is_text = message.opcode == Opcode::Text && is_utf8(&mut *item.payload(message)?);
    let (len, result) = if is_text {
        json.text_from(&mut *item.payload(message)?)?
    } else if message.opcode == Opcode::Text {
        // Others take it for text: they get what a browser would show.
        let _ = json.text_from(&mut *item.payload(message)?)?; // what fails here, fails below
        json.name("_base64").base64(&mut *item.payload(message)?)?
    } else {
        json.base64(&mut *item.payload(message)?)?
    };
    result.or_else(|error| if super::content::is_damage(&error) { Ok(()) } else { Err(error) })?;
    extra::message(json, message, len);
    json.close();
    json.flush_if_large()
}

fn is_utf8(payload: &mut dyn io::Read) -> bool {
    let mut piece = vec![0; 16 * 1024];
    let mut kept = 0;
    loop {
        let (filled, result) = crate::format::json::fill(payload, &mut piece[kept..]);
        let len = kept + filled;
        match std::str::from_utf8(&piece[..len]) {
            Ok(_) => kept = 0,
            Err(error) if error.error_len().is_none() && len == piece.len() => {
                piece.copy_within(error.valid_up_to()..len, 0);
                kept = len - error.valid_up_to();
            }
            Err(_) => return false,
        }
        if len < piece.len() {
            return result.is_ok();
        }
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(json: &mut Writer<'_>, ns: i128) {
    let sign = if ns < 0 { "-" } else { "" };
    let (whole, rest) = (ns.unsigned_abs() / 1_000_000_000, ns.unsigned_abs() % 1_000_000_000);
    let number = format!("{sign}{whole}.{rest:09}");
    json.json(number.trim_end_matches('0').trim_end_matches('.').as_bytes());
}

/// Whether bytes of a message were recorded at all.
pub(super) fn is_recorded(message: &Message) -> bool {
    message.content != Content::Absent
}

/// A page has some hundred bytes, and an archive a few pages.
const MOST_PAGES_LEN: usize = 4 << 20;
