//! Secrets masked on the way into a file that is made to be shown to others.
//!
//! What is masked, names kept and values replaced by `(redacted)`:
//! - fields: `Authorization` and `Proxy-Authorization` (the scheme stays), the values of `Cookie` and `Set-Cookie`, and fields
//!   with names like a secret's (they stand in `names.rs`), in requests, responses, 1xx, trailers, and the `CONNECT` before;
//! - URLs, in request targets, `Referer`, `Location` and `Content-Location`: user and password, and parameters of query and
//!   fragment with such names;
//! - bodies that are JSON or forms, and text messages of WebSockets that are JSON: members with such names. A body whose
//!   codings were undone for it is coded again. One of these kinds that is too large or too damaged to be looked through is left
//!   out, and so is what a tunnel carried.
//!
//! Heads in their raw form and what an imported file held besides are left out whole, but for numbers. **It is no promise**: a secret in a path, in
//! HTML, in binary messages or under a harmless name stays. What people wrote beside a flow stays, too.

mod body;
mod fields;
pub(crate) mod names;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::flow::{Body, BodyEnd, Content, Flow, Headers, Message, Note, Opcode, Value};

use super::coding::{self, Caps};
use super::transfer::{EncodeError, Encoder, Item, Part};

/// What stands in a secret's place.
pub const MASK: &str = "(redacted)";

/// An encoder that gives another one flows with their secrets masked.
pub struct Redacting {
    inner: Box<dyn Encoder>,
    masked: Masked,
}

impl std::fmt::Debug for Redacting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redacting").field("masked", &self.masked).finish_non_exhaustive()
    }
}

impl Redacting {
    /// In front of `inner`.
    #[must_use]
    pub fn new(inner: Box<dyn Encoder>) -> Self {
        Self { inner, masked: Masked::default() }
    }

    /// What was masked until now.
    #[must_use]
    pub fn masked(&self) -> &Masked {
        &self.masked
    }
}

impl Encoder for Redacting {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let mut masked = Masked::default();
        let redacted = Redacted::new(item, &mut masked)?;
        self.inner.flow(&redacted, out)?;
        masked.add(redacted.of_messages.into_inner());
        self.masked.add(masked);
        Ok(())
    }

    fn next_store(&mut self) {
        self.inner.next_store();
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.inner.finish(out)
    }
}

/// How often what was masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masked {
    /// Values by the name of their field, parameter or member, in lower case.
    pub by_name: BTreeMap<String, u64>,
    /// Bodies that could not be looked through, and were left out.
    pub bodies_left_out: u64,
}

impl Masked {
    /// How many values were masked.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.by_name.values().sum()
    }

    pub(super) fn count(&mut self, name: &str) {
        // Names come from peers: their number and length have bounds.
        let name = if name.len() <= LONGEST_NAME { name.to_ascii_lowercase() } else { OTHERS.to_owned() };
        let has_room = self.by_name.len() < MOST_NAMES || self.by_name.contains_key(&name);
        *self.by_name.entry(if has_room { name } else { OTHERS.to_owned() }).or_default() += 1;
    }

    fn add(&mut self, more: Self) {
        for (name, count) in more.by_name {
            let has_room = self.by_name.len() < MOST_NAMES || self.by_name.contains_key(&name);
            *self.by_name.entry(if has_room { name } else { OTHERS.to_owned() }).or_default() += count;
        }
        self.bodies_left_out += more.bodies_left_out;
    }
}

/// A flow with its secrets masked.
struct Redacted<'a> {
    inner: &'a dyn Item,
    flow: Flow,
    /// Messages are masked when they are asked for, possibly more than once; each is counted when it is given.
    of_messages: std::cell::RefCell<Masked>,
}

impl<'a> Redacted<'a> {
    fn new(inner: &'a dyn Item, masked: &mut Masked) -> io::Result<Self> {
        let mut flow = inner.flow().clone();
        if let Some(request) = &mut flow.request {
            redact_body(inner, Part::Request, &request.headers, &mut request.body, masked)?;
            request.target = fields::url(&request.target, masked);
            request.headers = fields::headers(&request.headers, masked);
            request.trailers =
                request.trailers.as_deref().map(|list| Box::new(fields::headers(list, masked)));
            // Names that occur in both are counted once.
            let mut uncounted = Masked::default();
            let changed = request.changed.as_deref();
            request.changed = changed.map(|list| Box::new(fields::headers(list, &mut uncounted)));
            request.raw_head = None;
        }
        if let Some(response) = &mut flow.response {
            redact_body(inner, Part::Response, &response.headers, &mut response.body, masked)?;
            response.headers = fields::headers(&response.headers, masked);
            response.trailers =
                response.trailers.as_deref().map(|list| Box::new(fields::headers(list, masked)));
            response.raw_head = None;
        }
        for interim in &mut flow.interim {
            interim.headers = fields::headers(&interim.headers, masked);
        }
        if let Some(tunnel) = &mut flow.tunnel {
            for body in [&mut tunnel.from_client, &mut tunnel.from_server] {
                leave_out(body, masked);
            }
        }
        if let Some(connect) = &flow.client.connect {
            let headers = fields::headers(&connect.headers, masked);
            if headers != connect.headers {
                let client = Arc::make_mut(&mut flow.client);
                client.connect.iter_mut().for_each(|connect| connect.headers = headers.clone());
            }
        }
        for applied in &mut flow.rules {
            // What a rule looks for, or puts in, may be what is masked elsewhere.
            let kind_len = applied.rule.find(' ').unwrap_or(applied.rule.len());
            applied.rule.truncate(kind_len);
        }
        if let Some(imported) = &mut flow.imported {
            imported.metadata = None;
            imported.unknown = None;
            imported.backup = None;
            // What stood in the file where the record has it otherwise would be written over what is masked.
            imported.exact.retain(|(path, value)| match value {
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => true,
                Value::Text(_) => path == KIND_OF_FLOW,
                Value::Bytes(_) | Value::List(_) | Value::Dict(_) => false,
            });
        }
        Ok(Self { inner, flow, of_messages: std::cell::RefCell::default() })
    }

    /// What is told of a message.
    fn message(&self, message: &Message, masked: &mut Masked) -> io::Result<Told> {
        if message.opcode != Opcode::Text || message.content == Content::Absent {
            return Ok(Told::AsItIs);
        }
        let is_large = message.len > MOST_BYTES;
        let mut text = Vec::new();
        let looked_at = if is_large { BEGINNING_BYTES } else { MOST_BYTES };
        self.inner.payload(message)?.take(looked_at).read_to_end(&mut text)?;
        Ok(match body::Shape::of_text(&text) {
            Some(body::Shape::Json) if is_large => Told::LeftOut,
            Some(shape) if !is_large => {
                shape.redact(&text, masked).map_or(Told::AsItIs, |text| Told::Masked(text.into()))
            }
            _ => Told::AsItIs,
        })
    }
}

/// What becomes of a message.
enum Told {
    AsItIs,
    Masked(Bytes),
    /// It is too large to be looked through.
    LeftOut,
}

impl Item for Redacted<'_> {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        self.inner.note()
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        let own = |flow: &'_ Flow| match part {
            Part::Request => flow.request.as_ref().map(|message| message.body.content.clone()),
            Part::Response => flow.response.as_ref().map(|message| message.body.content.clone()),
            Part::FromClient | Part::FromServer | Part::Message(_) => None,
        };
        match own(&self.flow) {
            // It was masked, or was here all the time.
            Some(Content::Inline(bytes)) => Ok(Some(Box::new(Cursor::new(bytes)))),
            Some(Content::Extents(_)) => self.inner.body(part),
            Some(Content::Absent) | None => Ok(None),
        }
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.inner.messages(&mut |message| {
            let told = self.message(message, &mut self.of_messages.borrow_mut())?;
            match told {
                Told::AsItIs => each(message),
                Told::Masked(bytes) => {
                    let len = bytes.len() as u64;
                    each(&Message { content: Content::Inline(bytes), len, wire_len: len, ..message.clone() })
                }
                Told::LeftOut => {
                    self.of_messages.borrow_mut().bodies_left_out += 1;
                    each(&Message { content: Content::Absent, end: BodyEnd::Capped, ..message.clone() })
                }
            }
        })
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        match self.message(message, &mut Masked::default())? {
            Told::AsItIs => self.inner.payload(message),
            Told::Masked(bytes) => Ok(Box::new(Cursor::new(bytes))),
            Told::LeftOut => Ok(Box::new(io::empty())),
        }
    }
}

/// Masks what is secret in a body of a kind that is known, and leaves it out if that cannot be done.
fn redact_body(
    item: &dyn Item,
    part: Part,
    headers: &Headers,
    body: &mut Body,
    masked: &mut Masked,
) -> io::Result<()> {
    if body.content == Content::Absent || body.recorded_len() == 0 {
        return Ok(());
    }
    let media_type = headers.get("content-type").unwrap_or_default();
    let by_type = body::Shape::of_type(media_type);
    if by_type.is_none() && !media_type.is_empty() {
        return Ok(());
    }
    if by_type.as_ref().is_some_and(|shape| *shape == body::Shape::Parts(Vec::new())) {
        // Nobody can tell its parts.
        leave_out(body, masked);
        return Ok(());
    }
    let Some(recorded) = item.body(part)? else { return Ok(()) };
    let codings = coding::codings(headers);
    let Ok(codings) = codings else {
        if by_type.is_some() {
            leave_out(body, masked);
        }
        return Ok(());
    };
    let caps = Caps { max_len: Some(MOST_BYTES) };
    let mut plain = Vec::new();
    let read = coding::undo(recorded, &codings, caps).take(MOST_BYTES + 1).read_to_end(&mut plain);
    let is_whole = read.is_ok() && plain.len() as u64 <= MOST_BYTES;
    // What says nothing of its type may be JSON all the same.
    let shape = by_type.or_else(|| body::Shape::of_text(&plain));
    let Some(shape) = shape else { return Ok(()) };
    if !is_whole {
        leave_out(body, masked);
        return Ok(());
    }
    let Some(redacted) = shape.redact(&plain, masked) else { return Ok(()) };
    let mut coded: Box<dyn Read> = Box::new(Cursor::new(redacted));
    for coding in codings {
        coded = coding::apply(coded, coding)?;
    }
    let mut bytes = Vec::new();
    coded.read_to_end(&mut bytes)?;
    let framing_len = body.wire_len.saturating_sub(body.len);
    body.len = bytes.len() as u64;
    body.wire_len = body.len + framing_len;
    body.content = Content::Inline(bytes.into());
    Ok(())
}

/// As if a cap had kept it out of the record.
fn leave_out(body: &mut Body, masked: &mut Masked) {
    if body.content == Content::Absent || body.recorded_len() == 0 {
        return;
    }
    body.content = Content::Absent;
    if body.end == BodyEnd::Whole {
        body.end = BodyEnd::Capped;
    }
    masked.bodies_left_out += 1;
}

/// What is looked through has to be in memory.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// What is looked at of a larger message, to tell whether it is JSON.
const BEGINNING_BYTES: u64 = 1024;

/// The path in a flow file of mitmproxy's under which a flow says what it is: `http`, `tcp`, ….
const KIND_OF_FLOW: &str = "type";

/// The name under which more names than are kept are counted.
const OTHERS: &str = "others";

/// Arbitrary: they are printed in one line.
const MOST_NAMES: usize = 100;

/// Arbitrary: a longer name says nothing in a report.
const LONGEST_NAME: usize = 60;

#[cfg(test)]
mod tests;
