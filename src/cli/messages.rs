//! The messages of a WebSocket, for `show` and `cat`. They are read a page at a time: there may be millions.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::content::{self, StoredBodyFailed};
use super::output::Paint;
use super::{escape, text};
use crate::flow::{BodyEnd, Content, Message, MessageCoding, Mid, Opcode, WebSocket};
use crate::store::{BodyReader, Reader, StoreError};
use crate::websocket::{close_code_fault, close_status};

/// Which messages of a flow are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Those with higher numbers than this.
    pub(super) after: u64,
    /// At most so many.
    pub(super) limit: u64,
    /// Bytes of each payload.
    pub(super) max_len: u64,
}

/// Calls `each` for the wanted messages in their order; how many more there are.
pub(super) fn for_each(
    store: &Reader,
    mid: Mid,
    wanted: Wanted,
    mut each: impl FnMut(&Message) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut pages = Pages { store, mid, after: wanted.after, page: VecDeque::new() };
    let mut left = wanted.limit;
    while left > 0
        && let Some(message) = pages.next()?
    {
        each(&message)?;
        left -= 1;
    }
    Ok(store.last_message(mid)?.saturating_sub(pages.after))
}

/// All messages of a flow after a number.
struct Pages<'a> {
    store: &'a Reader,
    mid: Mid,
    /// The number of the last one that was given.
    after: u64,
    page: VecDeque<Message>,
}

impl Pages<'_> {
    fn next(&mut self) -> Result<Option<Message>, StoreError> {
        if self.page.is_empty() {
            self.page = self.store.messages(self.mid, self.after, PAGE)?.into();
        }
        let message = self.page.pop_front();
        if let Some(message) = &message {
            self.after = message.seq;
        }
        Ok(message)
    }
}

/// A message on one line: number, time after the flow's start, direction, what it is, size, the beginning of its payload.
pub(super) fn line(message: &Message, store: &Reader, max_len: u64, paint: Paint) -> anyhow::Result<String> {
    let arrow = if message.from_client { "→" } else { "←" };
    let time = text::duration_us(message.at_us);
    let (opcode, size) = (message.opcode.as_str(), text::size(message.len));
    let mut line = format!("{:>6}  {time:>7} {arrow} {opcode:<6} {size:>5}", message.seq);
    let (shown, fault) = payload(message, store, max_len)?;
    if !shown.is_empty() {
        line = format!("{line}  {shown}");
    }
    let mut notes = notes(message);
    notes.extend(fault.map(str::to_owned));
    if !notes.is_empty() {
        line = format!("{line}  {}", paint.dim(&format!("({})", notes.join(", "))));
    }
    Ok(line)
}

/// Text escaped, anything else as a little hexadecimal; of a close frame, code and reason. And what a receiver would find
/// wrong with it, as far as it is shown.
fn payload(
    message: &Message,
    store: &Reader,
    max_len: u64,
) -> anyhow::Result<(String, Option<&'static str>)> {
    let mut bytes = Vec::new();
    store.content(&message.content)?.take(max_len).read_to_end(&mut bytes)?;
    let more =
        if (bytes.len() as u64) < message.len && message.content != Content::Absent { "…" } else { "" };
    let is_all = bytes.len() as u64 == message.len;
    let fault = fault(message.opcode, &bytes, is_all);
    let shown = match message.opcode {
        Opcode::Close if bytes.is_empty() => "without a code".to_owned(),
        Opcode::Close => {
            let (code, reason) = close_status(&bytes);
            format!("{code} {}", escape::line(reason)).trim_end().to_owned()
        }
        Opcode::Text => format!("{}{more}", escape::line(&bytes)),
        Opcode::Ping | Opcode::Pong if !content::is_binary(&bytes) => {
            format!("{}{more}", escape::line(&bytes))
        }
        Opcode::Binary | Opcode::Ping | Opcode::Pong => {
            let shown = &bytes[..bytes.len().min(HEX_BYTES)];
            let hex: Vec<_> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{}", hex.join(" "), if shown.len() < bytes.len() { " …" } else { more })
        }
    };
    Ok((shown, fault))
}

/// What RFC 6455 §7.4 or §8.1 has against a payload, or the beginning of it.
fn fault(opcode: Opcode, bytes: &[u8], is_all: bool) -> Option<&'static str> {
    let broken =
        |text: &[u8]| std::str::from_utf8(text).is_err_and(|error| is_all || error.error_len().is_some());
    match opcode {
        Opcode::Text if broken(bytes) => Some(NOT_UTF8),
        Opcode::Close if bytes.len() >= 2 => {
            let (code, reason) = close_status(bytes);
            close_code_fault(code).or_else(|| broken(reason).then_some(NOT_UTF8))
        }
        _ => None,
    }
}

/// What is not ordinary about a message.
fn notes(message: &Message) -> Vec<String> {
    let mut notes = Vec::new();
    match message.coding {
        MessageCoding::Plain => {}
        MessageCoding::Deflate => notes.push(format!("{} deflated", text::size(message.wire_len))),
        MessageCoding::Unknown => notes.push("coded by an extension that is not known".to_owned()),
    }
    if message.fragments > 1 {
        notes.push(format!("{} fragments", message.fragments));
    }
    if message.injected {
        notes.push("injected".to_owned());
    }
    if message.dropped {
        notes.push("dropped".to_owned());
    }
    notes.extend(why_not_whole(message).map(str::to_owned));
    notes
}

/// Why what is there of a payload is not all of it; `None` if it is.
pub(super) fn why_not_whole(message: &Message) -> Option<&'static str> {
    match message.end {
        BodyEnd::Whole => None,
        BodyEnd::Open | BodyEnd::CutOff => Some("cut off on the wire"),
        BodyEnd::Capped => Some("inflates to more than is recorded"),
        BodyEnd::Lost => Some("the store could not take it"),
    }
}

/// How a WebSocket ended, in words.
pub(super) fn ending(websocket: &WebSocket) -> Option<String> {
    let code = websocket.close_code?;
    let who = match websocket.closed_by_client {
        Some(true) => "closed by the client",
        Some(false) => "closed by the origin",
        None => return Some(format!("ended without a close frame ({code})")),
    };
    let reason = websocket.close_reason.as_deref().unwrap_or_default();
    Some(format!("{who}: {code} {reason}").trim_end().to_owned())
}

/// How many text messages of either end are none, in words.
pub(super) fn bad_text(websocket: &WebSocket) -> Option<String> {
    let parts: Vec<_> =
        [(websocket.bad_text_from_client, "client"), (websocket.bad_text_from_server, "origin")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, who)| format!("{} of the {who}'s", text::count(count, "text message")))
            .collect();
    (!parts.is_empty()).then(|| format!("{} {NOT_UTF8}", parts.join(" and ")))
}

/// Writes `"messages": […], "messages_left": n` into an object that has other members: a message at a time.
///
/// # Errors
/// If a message cannot be read or the writer fails.
pub(super) fn write_json(
    out: &mut impl Write,
    object: &Value,
    store: &Reader,
    mid: Mid,
    wanted: Wanted,
) -> anyhow::Result<()> {
    let head = object.to_string();
    write!(out, "{},\"messages\":[", head.strip_suffix('}').unwrap_or(&head))?;
    let mut first = true;
    let left = for_each(store, mid, wanted, |message| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        write!(out, "{comma}{}", to_json(message, store, wanted.max_len)?)?;
        Ok(())
    })?;
    writeln!(out, "],\"messages_left\":{left}}}")?;
    Ok(())
}

fn to_json(message: &Message, store: &Reader, max_len: u64) -> anyhow::Result<Value> {
    let mut object = json!({
        "seq": message.seq,
        "from_client": message.from_client,
        "opcode": message.opcode.as_str(),
        "at_us": message.at_us,
        "len": message.len,
        "wire_len": message.wire_len,
        "coding": message.coding.as_str(),
        "fragments": message.fragments,
        "injected": message.injected,
        "dropped": message.dropped,
        "end": message.end.as_str(),
    });
    if message.content == Content::Absent {
        object["left_out"] = "not recorded".into();
        return Ok(object);
    }
    if message.len > max_len {
        object["left_out"] = "longer than --max-body".into();
        return Ok(object);
    }
    let mut payload = Vec::new();
    store.content(&message.content)?.read_to_end(&mut payload)?;
    match String::from_utf8(payload) {
        Ok(text) => object["text"] = text.into(),
        Err(error) => object["base64"] = STANDARD.encode(error.as_bytes()).into(),
    }
    Ok(object)
}

/// The message with this number; `None` if there is none.
pub(super) fn one(store: &Reader, mid: Mid, seq: u64) -> Result<Option<Message>, StoreError> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let found = store.messages(mid, before, 1)?.pop();
    Ok(found.filter(|message| message.seq == seq))
}

/// The payloads of the messages that one end sent, control frames left out, one behind the other.
pub(super) struct Payloads<'a> {
    pages: Pages<'a>,
    from_client: bool,
    current: Option<BodyReader>,
    /// Why one of them is not whole, if one is not.
    pub(super) not_whole: Option<&'static str>,
}

impl<'a> Payloads<'a> {
    pub(super) fn new(store: &'a Reader, mid: Mid, from_client: bool) -> Self {
        let pages = Pages { store, mid, after: 0, page: VecDeque::new() };
        Self { pages, from_client, current: None, not_whole: None }
    }
}

impl Read for Payloads<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let failed = |error: io::Error| io::Error::new(error.kind(), StoredBodyFailed(error));
        loop {
            if let Some(current) = &mut self.current {
                let len = current.read(buf).map_err(failed)?;
                if len > 0 || buf.is_empty() {
                    return Ok(len);
                }
            }
            self.current = None;
            let Some(message) = self.pages.next().map_err(|e| failed(io::Error::other(e)))? else {
                return Ok(0);
            };
            if message.from_client == self.from_client && message.opcode.is_data() {
                self.not_whole = self.not_whole.or(why_not_whole(&message));
                let reader = self.pages.store.content(&message.content);
                self.current = Some(reader.map_err(|e| failed(io::Error::other(e)))?);
            }
        }
    }
}

const NOT_UTF8: &str = "not UTF-8";

/// Messages in memory at a time; their payloads are small or stay where they are.
const PAGE: usize = 500;

/// Bytes shown of what is no text: enough to tell formats apart.
const HEX_BYTES: usize = 24;
