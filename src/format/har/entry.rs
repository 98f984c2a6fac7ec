//! An entry as it stands in an archive, read member by member in whatever order they come.
//!
//! What is short is kept, within a budget; texts of any length go to the spool. What is missing or of an odd kind is no error
//! here: tools differ. Only what is no JSON is.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::flow::Headers;
use crate::format::json::{JsonError, Kind, Reader};

use super::conns::Conns;
use super::fields::{Fields, NAME_BYTES, VALUE_BYTES};
use super::restore::Manent;
use super::spool::{Run, Spool};
use super::typed::{Memory, Typed};
use super::web_socket::{self, Ours, Record};

/// What an entry says.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The name of its first member: the next entries will begin alike.
    pub(super) first_name: String,
    pub(super) started: String,
    pub(super) time_ms: Option<f64>,
    pub(super) request: Option<Message>,
    pub(super) response: Option<Message>,
    /// By [`PHASES`]; negative ones, which say that there was no such phase, are left out.
    pub(super) phases_ms: [Option<f64>; 7],
    pub(super) server_ip: String,
    pub(super) connection: String,
    pub(super) comment: String,
    pub(super) resource_type: String,
    pub(super) error: String,
    /// How many messages wait in the spool for them.
    pub(super) messages: u64,
    /// Our own member, without what is in `bodies`.
    pub(super) manent: Option<Box<Manent>>,
    /// Recorded bodies, in base64, by their names in [`super::extra`].
    pub(super) bodies: Vec<(String, Run)>,
    /// Members that we have no field for: section, name, value.
    pub(super) unknown: Vec<(&'static str, String, Value)>,
    /// Names of those that were too large.
    pub(super) left_out: Vec<String>,
    /// What makes it unusable, though it is JSON: where, and what.
    pub(super) fault: Option<String>,
}

/// A request or a response as an entry has it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) version: String,
    pub(super) status: Option<f64>,
    pub(super) reason: String,
    pub(super) headers: Headers,
    pub(super) headers_size: Option<f64>,
    pub(super) body_size: Option<f64>,
    pub(super) transfer_size: Option<f64>,
    pub(super) media_type: String,
    /// `text` of the body, in the spool.
    pub(super) text: Option<Run>,
    pub(super) encoding: String,
    /// `content.size`: of the body with its codings undone.
    pub(super) size: Option<f64>,
    /// `content.compression`: that less what was on the wire.
    pub(super) compression: Option<f64>,
    pub(super) params: Vec<(String, String)>,
}

/// The phases of `timings` in the order in which they follow each other; `ssl` is part of `connect`.
pub(super) const PHASES: [&str; 7] = ["blocked", "dns", "connect", "ssl", "send", "wait", "receive"];

/// Reads an entry that was entered.
///
/// # Errors
/// If it is no JSON, or cannot be read.
pub(super) fn read<R: Read>(
    json: &mut Reader<R>,
    spool: &mut Spool,
    records: &mut Spool,
    conns: &mut Conns,
) -> Result<Entry, JsonError> {
    spool.clear();
    records.clear();
    let (entry, memory) = (Entry::default(), Memory::default());
    let mut parser = Parser { json, spool, records, conns, entry, memory, budget: BUDGET };
    parser.entry()?;
    Ok(parser.entry)
}

struct Parser<'a, R> {
    json: &'a mut Reader<R>,
    spool: &'a mut Spool,
    records: &'a mut Spool,
    conns: &'a mut Conns,
    entry: Entry,
    memory: Memory,
    /// Bytes that may still be kept.
    budget: usize,
}

impl<R: Read> Parser<'_, R> {
    fn entry(&mut self) -> Result<(), JsonError> {
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            if self.entry.first_name.is_empty() {
                self.entry.first_name.clone_from(&name);
            }
            match name.as_str() {
                "startedDateTime" => self.entry.started = self.short()?,
                "time" => self.entry.time_ms = self.number()?,
                "request" => self.entry.request = self.message("request", "postData")?,
                "response" => self.entry.response = self.message("response", "content")?,
                "timings" => self.timings()?,
                "serverIPAddress" => self.entry.server_ip = self.short()?,
                "connection" => self.entry.connection = self.short()?,
                "comment" => self.entry.comment = self.short()?,
                "_resourceType" => {
                    self.entry.resource_type = self.short()?;
                    let word = &self.entry.resource_type;
                    // That of a WebSocket, the record says again.
                    if !word.is_empty() && !word.eq_ignore_ascii_case("websocket") {
                        self.entry.unknown.push(("entry", name.clone(), Value::String(word.clone())));
                    }
                }
                "_error" => self.entry.error = self.short()?,
                "_webSocketMessages" => self.web_socket_messages()?,
                "_manent" => self.manent()?,
                _ => self.unknown("entry", &name)?,
            }
        }
        Ok(())
    }

    fn message(&mut self, section: &'static str, body: &str) -> Result<Option<Message>, JsonError> {
        if !self.enter_object()? {
            return Ok(None);
        }
        let mut message = Message::default();
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            match name.as_str() {
                "method" => message.method = self.short()?,
                "url" => message.url = self.short()?,
                "httpVersion" => message.version = self.short()?,
                "status" => message.status = self.number()?,
                "statusText" => message.reason = self.short()?,
                "headers" => message.headers = self.headers()?,
                "headersSize" => message.headers_size = self.number()?,
                "bodySize" => message.body_size = self.number()?,
                "_transferSize" => message.transfer_size = self.number()?,
                "_error" => self.entry.error = self.short()?,
                // They say again what the fields and the URL say.
                "cookies" | "queryString" | "redirectURL" => self.json.skip()?,
                other if other == body => {
                    self.body(&mut message, if body == "content" { "content" } else { "postData" })?
                }
                _ => self.unknown(section, &name)?,
            }
        }
        Ok(Some(message))
    }

    fn body(&mut self, message: &mut Message, section: &'static str) -> Result<(), JsonError> {
        if !self.enter_object()? {
            return Ok(());
        }
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            match name.as_str() {
                "mimeType" => message.media_type = self.short()?,
                "size" => message.size = self.number()?,
                "text" => message.text = self.spooled()?,
                "encoding" | "_encoding" => message.encoding = self.short()?,
                "params" => message.params = self.params()?,
                "compression" => message.compression = self.number()?,
                _ => self.unknown(section, &name)?,
            }
        }
        Ok(())
    }

    /// Fields as `{"name": …, "value": …}`, as `[name, value]`, or as members of one object.
    fn headers(&mut self) -> Result<Headers, JsonError> {
        let mut fields = Fields::new();
        let mut name = String::new();
        match self.json.peek()? {
            Kind::Array => self.json.enter_array()?,
            Kind::Object => {
                self.json.enter_object()?;
                let mut value = String::new();
                while self.json.next_member(&mut name)? {
                    self.short_into(&mut value)?;
                    self.spend(name.len() + PER_FIELD);
                    // Empty values cost nothing by themselves.
                    if self.budget > 0 {
                        fields.push(name.as_bytes(), value.as_bytes());
                    }
                }
                return Ok(fields.into());
            }
            _ => {
                self.json.skip()?;
                return Ok(fields.into());
            }
        }
        let mut field = (String::new(), String::new());
        while self.json.next_value()? {
            field.0.clear();
            field.1.clear();
            let mut exact = (None, None);
            match self.json.peek()? {
                Kind::Object => {
                    self.json.enter_object()?;
                    exact = self.field(&mut field, &mut name)?;
                }
                Kind::Array => {
                    self.json.enter_array()?;
                    let mut at = 0;
                    while self.json.next_value()? {
                        match at {
                            0 => self.short_into(&mut field.0)?,
                            1 => self.short_into(&mut field.1)?,
                            _ => self.short_into(&mut name)?,
                        }
                        at += 1;
                    }
                }
                _ => self.json.skip()?,
            }
            let name = exact.0.as_deref().unwrap_or(field.0.as_bytes());
            let value = exact.1.as_deref().unwrap_or(field.1.as_bytes());
            if !name.is_empty() || !value.is_empty() {
                fields.push(name, value);
                self.spend(PER_FIELD);
            }
        }
        Ok(fields.into())
    }

    /// Name and value of a field as text, and as bytes where they stand beside it.
    fn field(&mut self, field: &mut (String, String), name: &mut String) -> Result<Exact, JsonError> {
        let mut exact = (None, None);
        while self.json.next_member(name)? {
            match name.as_str() {
                "name" => self.short_into(&mut field.0)?,
                "value" => self.short_into(&mut field.1)?,
                NAME_BYTES => exact.0 = STANDARD.decode(self.short()?).ok(),
                VALUE_BYTES => exact.1 = STANDARD.decode(self.short()?).ok(),
                _ => self.json.skip()?,
            }
        }
        Ok(exact)
    }

    fn params(&mut self) -> Result<Vec<(String, String)>, JsonError> {
        let mut params = Vec::new();
        if self.json.peek()? != Kind::Array {
            self.json.skip()?;
            return Ok(params);
        }
        self.json.enter_array()?;
        let mut name = String::new();
        while self.json.next_value()? {
            if !self.enter_object()? {
                continue;
            }
            let mut param = (String::new(), String::new());
            while self.json.next_member(&mut name)? {
                match name.as_str() {
                    "name" => param.0 = self.short()?,
                    "value" => param.1 = self.short()?,
                    _ => self.json.skip()?,
                }
            }
            self.spend(PER_FIELD);
            if self.budget > 0 {
                params.push(param);
            }
        }
        Ok(params)
    }

    fn timings(&mut self) -> Result<(), JsonError> {
        if !self.enter_object()? {
            return Ok(());
        }
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            match PHASES.iter().position(|phase| *phase == name) {
                Some(at) => self.entry.phases_ms[at] = self.number()?.filter(|ms| *ms >= 0.0),
                None => self.unknown("timings", &name)?,
            }
        }
        Ok(())
    }

    fn web_socket_messages(&mut self) -> Result<(), JsonError> {
        if self.json.peek()? != Kind::Array {
            return self.json.skip();
        }
        self.json.enter_array()?;
        while self.json.next_value()? {
            if !self.enter_object()? {
                continue;
            }
            let record = self.web_socket_message()?;
            self.entry.messages += 1;
            self.records.put(&record.to_bytes())?;
        }
        Ok(())
    }

    fn web_socket_message(&mut self) -> Result<Record, JsonError> {
        let mut record = Record::default();
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            match name.as_str() {
                "type" => record.kind = web_socket::kind(&self.small_text()?),
                "time" => record.unix_ns = web_socket::unix_ns(&self.small_text()?),
                "opcode" => record.opcode = self.small_text()?.parse().unwrap_or(web_socket::NO_OPCODE),
                "data" => record.data = self.spooled()?.unwrap_or_default(),
                "_base64" => record.exact = self.spooled()?,
                "_manent" => {
                    // Of all that is kept of it, nothing has a length.
                    record.ours =
                        Some(Ours::read(&mut Typed::new(self.json, &mut self.memory, &mut self.budget))?);
                }
                _ => self.json.skip()?,
            }
        }
        Ok(record)
    }

    fn manent(&mut self) -> Result<(), JsonError> {
        if !self.enter_object()? {
            return Ok(());
        }
        let mut manent = Manent::default();
        let mut name = String::new();
        while self.json.next_member(&mut name)? {
            if name == "bodies" && self.json.peek()? == Kind::Object {
                self.json.enter_object()?;
                while self.json.next_member(&mut name)? {
                    if let Some(run) = self.spooled()?
                        && self.entry.bodies.len() < MOST_BODIES
                    {
                        self.entry.bodies.push((name.clone(), run));
                    }
                }
            } else {
                let mut room = self.budget / VALUE_COST;
                let mut typed = Typed::new(self.json, &mut self.memory, &mut room);
                manent.member(&name, &mut typed, self.conns)?;
                self.budget = self.budget.min(room.saturating_mul(VALUE_COST));
            }
        }
        self.entry.manent = Some(Box::new(manent));
        Ok(())
    }

    fn unknown(&mut self, section: &'static str, name: &str) -> Result<(), JsonError> {
        match self.value()? {
            Some(value) => {
                let says_nothing = match &value {
                    Value::Null => true,
                    Value::String(text) => text.is_empty(),
                    Value::Object(members) => members.is_empty(),
                    _ => false,
                };
                if !says_nothing {
                    self.entry.unknown.push((section, name.to_owned(), value));
                }
            }
            None => self.left_out(name),
        }
        Ok(())
    }

    fn left_out(&mut self, name: &str) {
        if self.entry.left_out.len() < MOST_LEFT_OUT {
            self.entry.left_out.push(name.to_owned());
        }
    }

    /// Any value, if the budget has room for it.
    fn value(&mut self) -> Result<Option<Value>, JsonError> {
        if let Some((value, len)) = self.json.value_at_hand() {
            let is_within = len <= self.budget / VALUE_COST;
            self.budget = if is_within { self.budget - len * VALUE_COST } else { self.budget };
            return Ok(is_within.then_some(value));
        }
        let mut raw = Vec::new();
        if !self.raw_value(&mut raw)? {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&raw).ok().or(Some(Value::Null)))
    }

    /// The text of any value, if the budget has room for the value; whether it has.
    fn raw_value(&mut self, raw: &mut Vec<u8>) -> Result<bool, JsonError> {
        let is_whole = self.json.raw(self.budget / VALUE_COST, raw)?;
        if is_whole {
            self.spend(raw.len() * VALUE_COST);
        }
        Ok(is_whole)
    }

    /// Enters an object; passes over any other value, and says so.
    fn enter_object(&mut self) -> Result<bool, JsonError> {
        if self.json.peek()? != Kind::Object {
            self.json.skip()?;
            return Ok(false);
        }
        self.json.enter_object()?;
        Ok(true)
    }

    /// A string that is kept, or a number's text; empty for anything else.
    fn short(&mut self) -> Result<String, JsonError> {
        let mut text = String::new();
        self.short_into(&mut text)?;
        Ok(text)
    }

    /// The same in place of what `text` holds.
    fn short_into(&mut self, text: &mut String) -> Result<(), JsonError> {
        self.kept_text(self.budget, text)?;
        self.spend(text.len());
        Ok(())
    }

    /// The same of one that is a word or a number.
    fn small_text(&mut self) -> Result<String, JsonError> {
        let mut text = String::new();
        self.kept_text(MAX_SMALL, &mut text)?;
        Ok(text)
    }

    fn kept_text(&mut self, max: usize, text: &mut String) -> Result<(), JsonError> {
        text.clear();
        match self.json.peek()? {
            Kind::String => {
                if !self.json.text(max, text)? {
                    self.fault("its head is larger than 16 MiB");
                }
            }
            Kind::Number => self.json.number(text)?,
            _ => self.json.skip()?,
        }
        Ok(())
    }

    /// A number, also one in quotes; `None` for anything else.
    fn number(&mut self) -> Result<Option<f64>, JsonError> {
        Ok(self.small_text()?.trim().parse::<f64>().ok().filter(|number| number.is_finite()))
    }

    /// A string of any length, into the spool; `None` if it is none.
    fn spooled(&mut self) -> Result<Option<Run>, JsonError> {
        if self.json.peek()? != Kind::String {
            self.json.skip()?;
            return Ok(None);
        }
        let at = self.spool.len();
        let spool = &mut *self.spool;
        self.json.string(|piece| spool.put(piece))?;
        Ok(Some(self.spool.since(at)))
    }

    fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
        if self.budget == 0 {
            self.fault("its head is larger than 16 MiB");
        }
    }

    fn fault(&mut self, what: &str) {
        self.entry.fault.get_or_insert_with(|| what.to_owned());
    }
}

/// Puts any small value that stands next into `raw` and gives it; `None` where it is larger than 64 KiB.
///
/// # Errors
/// If it is no JSON, or cannot be read.
pub(super) fn small_value<R: Read>(json: &mut Reader<R>) -> Result<Option<Value>, JsonError> {
    let mut raw = Vec::new();
    let is_whole = json.raw(MAX_VALUE, &mut raw)?;
    Ok(serde_json::from_slice(&raw).ok().filter(|_| is_whole))
}

/// What is kept of an entry: far more than any server takes as a head, and than a browser writes about one.
const BUDGET: usize = 16 * 1024 * 1024;

/// What a field costs beside its text.
const PER_FIELD: usize = 64;

/// A value takes several times the room of its text.
const VALUE_COST: usize = 8;

/// Words and numbers.
const MAX_SMALL: usize = 4096;

/// Of pages and creators.
const MAX_VALUE: usize = 64 * 1024;

/// There are four kinds of them.
const MOST_BODIES: usize = 8;

/// Arbitrary: it is for people.
const MOST_LEFT_OUT: usize = 100;

/// Name and value of a field, where they are no text.
type Exact = (Option<Vec<u8>>, Option<Vec<u8>>);
