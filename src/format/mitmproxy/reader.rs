//! One flow of a file, read into a state while its bodies and messages go to the sink.
//!
//! A tnetstring tells its type behind its payload, and mitmproxy writes the version last. So what a value is, is told by where
//! it stands, and checked when its tag comes: bodies and lists of messages have their places in all versions.

use std::hash::{BuildHasher as _, RandomState};
use std::io;

use bytes::Bytes;

use super::messages::{Entry, Messages, Stamp};
use super::node::{BodyNode, Dict, Node, word};
use super::rows::Rows;
use super::source::{MAX_DIGITS, Source};
use super::value::{self, Budget};
use crate::flow::{Content, Message, Opcode, Value};
use crate::format::transfer::{Part, Sink};

/// Why a flow was not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes are no flow: where the next one begins is not known.
    Syntax {
        at: u64,
        what: String,
    },
    /// They are one that cannot be taken; the next begins behind it.
    Meaning {
        at: u64,
        what: String,
    },
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// Reads one flow.
pub(super) struct FlowReader<'a> {
    source: &'a mut Source,
    sink: &'a mut dyn Sink,
    hasher: &'a RandomState,
    budget: Budget,
    /// Where the flow's payload ends, once its length was read.
    pub(super) end: Option<u64>,
    pub(super) rows: Rows,
    /// Which directions of a stream have begun: from the client, from the server.
    streams: [Option<u64>; 2],
    has_messages: bool,
    /// Sums of the two connections as they stand in the file.
    pub(super) client_sum: u64,
    pub(super) server_sum: u64,
}

/// What a flow's stream of bytes held in one direction.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) content: Content,
    pub(super) len: u64,
}

/// Where a dict stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Message(Part),
    WebSocket,
}

impl<'a> FlowReader<'a> {
    pub(super) fn new(source: &'a mut Source, sink: &'a mut dyn Sink, hasher: &'a RandomState) -> Self {
        Self {
            source,
            sink,
            hasher,
            budget: Budget::new(MAX_FIELDS),
            end: None,
            rows: Rows::default(),
            streams: [None; 2],
            has_messages: false,
            client_sum: 0,
            server_sum: 0,
        }
    }

    /// The state that begins here.
    pub(super) fn read(&mut self) -> Result<Dict, Fault> {
        let len = self.length(u64::MAX)?;
        let end = self.source.position() + len;
        self.end = Some(end);
        let state = self.dict(end, Place::Top)?;
        match self.source.byte()? {
            Some(b'}') => Ok(state),
            Some(_) => Err(self.syntax_before("a value that is no flow")),
            None => Err(self.truncated()),
        }
    }

    /// Ends what came of a stream of bytes: from the client, from the server.
    pub(super) fn end_streams(&mut self) -> io::Result<[Side; 2]> {
        let mut sides = [Side::default(), Side::default()];
        for ((part, side), len) in
            [Part::FromClient, Part::FromServer].into_iter().zip(&mut sides).zip(self.streams)
        {
            self.sink.begin(part);
            *side = Side { content: self.sink.end()?, len: len.unwrap_or(0) };
        }
        Ok(sides)
    }

    /// Hands the messages over that wait for the flow's start.
    pub(super) fn end_rows(&mut self, started_unix_ns: i64) -> io::Result<()> {
        self.rows.finish(started_unix_ns, self.sink)
    }

    fn dict(&mut self, end: u64, place: Place) -> Result<Dict, Fault> {
        let mut dict = Dict::default();
        while self.source.position() < end {
            let at = self.source.position();
            let key = self.value(end)?.0;
            let Some(key) = word(&key).map(str::to_owned) else {
                return Err(Fault::Syntax { at, what: "a key that is no word".to_owned() });
            };
            let node = self.field(end, place, &key)?;
            dict.set(&key, node);
            if dict.0.len() > MAX_KEYS {
                return Err(self.meaning("more fields than a flow has"));
            }
        }
        Ok(dict)
    }

    fn field(&mut self, end: u64, place: Place, key: &str) -> Result<Node, Fault> {
        match (place, key) {
            (Place::Top, "request") => self.inner_dict(end, Place::Message(Part::Request)),
            (Place::Top, "response") => self.inner_dict(end, Place::Message(Part::Response)),
            (Place::Top, "websocket") => self.inner_dict(end, Place::WebSocket),
            (Place::Top | Place::WebSocket, "messages") => self.messages(end),
            (Place::Message(part), "content" | "body") => self.content(end, part),
            (Place::Top, "backup") => self.backup(end),
            (Place::Top, "client_conn" | "server_conn") => {
                let (value, raw) = self.value(end)?;
                let sum = if key == "client_conn" { &mut self.client_sum } else { &mut self.server_sum };
                *sum = self.hasher.hash_one(&raw[..]);
                Ok(Node::open(value, 2))
            }
            (Place::Top, "error") => Ok(Node::open(self.value(end)?.0, 1)),
            _ => Ok(Node::Value(self.value(end)?.0)),
        }
    }

    /// A dict, or null.
    fn inner_dict(&mut self, end: u64, place: Place) -> Result<Node, Fault> {
        let len = self.length(end)?;
        let inner_end = self.source.position() + len;
        let dict = self.dict(inner_end, place)?;
        match self.source.byte()? {
            Some(b'}') => Ok(Node::Dict(dict)),
            Some(b'~') if len == 0 => Ok(Node::NULL),
            Some(_) => Err(self.syntax_before("another type than is due here")),
            None => Err(self.truncated()),
        }
    }

    fn content(&mut self, end: u64, part: Part) -> Result<Node, Fault> {
        let len = self.length(end)?;
        if len == 0 && self.source.peek(1)?.first() == Some(&b'~') {
            self.source.take(1);
            return Ok(Node::NULL);
        }
        self.sink.begin(part);
        self.pass_to_sink(len)?;
        let content = self.sink.end()?;
        self.tag(b',')?;
        Ok(Node::Body(BodyNode { part, len, content }))
    }

    /// The flow before it was edited, which goes into the record whole; null if it is too large for that.
    fn backup(&mut self, end: u64) -> Result<Node, Fault> {
        let len = self.length(end)?;
        if len <= MAX_BACKUP {
            return Ok(Node::Value(self.payload(len)?.0));
        }
        if !self.source.pass(len, |_| Ok(()))? {
            return Err(self.truncated());
        }
        self.tag(b'}')?;
        Ok(Node::NULL)
    }

    fn messages(&mut self, end: u64) -> Result<Node, Fault> {
        if std::mem::replace(&mut self.has_messages, true) {
            return Err(self.meaning("messages, twice"));
        }
        let len = self.length(end)?;
        let list_end = self.source.position() + len;
        let mut messages = Messages::default();
        while self.source.position() < list_end {
            let len = self.length(list_end)?;
            let message_end = self.source.position() + len;
            // What is read of a message does not stay in memory.
            let budget = self.budget;
            let entry = self.message(message_end)?;
            self.budget = budget;
            messages.log.push(entry);
            self.tag(b']')?;
        }
        self.tag(b']')?;
        Ok(Node::Messages(messages))
    }

    /// One message: `[opcode, from_client, content, time, dropped, injected]` of a WebSocket, where old versions have no more
    /// than the first four or five; else `[from_client, content, time]`.
    fn message(&mut self, end: u64) -> Result<Entry, Fault> {
        let entry = match self.value(end)?.0 {
            Value::Bool(from_client) => {
                let len = self.stream_content(end, from_client)?;
                Entry { from_client, dropped: false, stamp: self.stamp(end)?, len }
            }
            Value::Int(opcode) => {
                let opcode = opcode.parse().ok().and_then(Opcode::from_number);
                let opcode = opcode.ok_or_else(|| self.meaning("a message of a kind that is not known"))?;
                let from_client = self.truth(end)?;
                let Node::Body(body) = self.content(end, Part::Message(from_client))? else {
                    return Err(self.meaning("a message without bytes"));
                };
                let stamp = self.stamp(end)?;
                let more = |reader: &mut Self| {
                    if reader.source.position() < end { reader.truth(end) } else { Ok(false) }
                };
                let (dropped, injected) = (more(self)?, more(self)?);
                let message = Message {
                    from_client,
                    opcode,
                    len: body.len,
                    wire_len: body.len,
                    fragments: 1,
                    injected,
                    dropped,
                    end: crate::flow::BodyEnd::Whole,
                    content: body.content,
                    ..Message::default()
                };
                self.rows.push(message, stamp.seconds(), self.sink)?;
                Entry { from_client, dropped, stamp, len: body.len }
            }
            _ => return Err(self.meaning("a message that begins with neither a kind nor a direction")),
        };
        if self.source.position() != end {
            return Err(self.meaning("a message with more than a message has"));
        }
        Ok(entry)
    }

    fn stream_content(&mut self, end: u64, from_client: bool) -> Result<u64, Fault> {
        let len = self.length(end)?;
        let side = usize::from(!from_client);
        self.sink.begin([Part::FromClient, Part::FromServer][side]);
        self.pass_to_sink(len)?;
        self.streams[side] = Some(self.streams[side].unwrap_or(0) + len);
        self.tag(b',')?;
        Ok(len)
    }

    fn stamp(&mut self, end: u64) -> Result<Stamp, Fault> {
        let value = self.value(end)?.0;
        Stamp::of(&value).ok_or_else(|| self.meaning("a message whose time is no number"))
    }

    fn truth(&mut self, end: u64) -> Result<bool, Fault> {
        match self.value(end)?.0 {
            Value::Bool(truth) => Ok(truth),
            _ => Err(self.meaning("a message without a direction")),
        }
    }

    /// A value that goes into memory, with its payload.
    fn value(&mut self, end: u64) -> Result<(Value, Bytes), Fault> {
        let len = self.length(end)?;
        self.payload(len)
    }

    fn payload(&mut self, len: u64) -> Result<(Value, Bytes), Fault> {
        let at = self.source.position();
        if usize::try_from(len).unwrap_or(usize::MAX) > self.budget.left() {
            return Err(self.meaning(value::TOO_MUCH));
        }
        let mut payload = Vec::new();
        let whole = self.source.pass(len, |piece| {
            payload.extend_from_slice(piece);
            Ok(())
        })?;
        let (true, Some(tag)) = (whole, self.source.byte()?) else { return Err(self.truncated()) };
        let payload = Bytes::from(payload);
        match value::read(tag, &payload, 1, &mut self.budget) {
            Ok(value) => Ok((value, payload)),
            Err(bad) => {
                let (at, what) = (at + bad.at as u64, bad.what.to_owned());
                // Too much of what is right ends where it says; of anything else nothing is sure.
                Err(if bad.what == value::TOO_MUCH {
                    Fault::Meaning { at, what }
                } else {
                    Fault::Syntax { at, what }
                })
            }
        }
    }

    /// The length of the value that begins here, which ends before `end` with its tag.
    fn length(&mut self, end: u64) -> Result<u64, Fault> {
        let at = self.source.position();
        let (mut digits, mut len) = (0, 0);
        // No byte is asked for before it is due: the file may be a pipe, and grow.
        loop {
            match self.source.peek(digits + 1)?.get(digits) {
                None => return Err(self.truncated()),
                Some(byte) if byte.is_ascii_digit() && digits < MAX_DIGITS => {
                    len = len * 10 + u64::from(byte - b'0');
                    digits += 1;
                }
                Some(b':') if digits > 0 => break,
                Some(_) => return Err(Fault::Syntax { at, what: "no length of a value".to_owned() }),
            }
        }
        self.source.take(digits + 1);
        match self.source.position().checked_add(len + 1) {
            Some(after) if after <= end => Ok(len),
            _ => Err(Fault::Syntax {
                at,
                what: format!("a value of {len} bytes, which is more than it stands in"),
            }),
        }
    }

    fn pass_to_sink(&mut self, len: u64) -> Result<(), Fault> {
        let sink = &mut *self.sink;
        let whole = self.source.pass(len, |piece| sink.write(piece))?;
        if whole { Ok(()) } else { Err(self.truncated()) }
    }

    fn tag(&mut self, due: u8) -> Result<(), Fault> {
        match self.source.byte()? {
            Some(tag) if tag == due => Ok(()),
            Some(_) => Err(self.syntax_before("another type than is due here")),
            None => Err(self.truncated()),
        }
    }

    /// What is wrong is the byte that was taken last.
    fn syntax_before(&self, what: &str) -> Fault {
        Fault::Syntax { at: self.source.position().saturating_sub(1), what: what.to_owned() }
    }

    fn meaning(&self, what: &str) -> Fault {
        Fault::Meaning { at: self.source.position(), what: what.to_owned() }
    }

    fn truncated(&self) -> Fault {
        let at = self.source.position();
        let missing = self.end.map_or(0, |end| (end + 1).saturating_sub(at));
        let what = match missing {
            0 => "the file ends inside of a flow".to_owned(),
            _ => format!("the file ends inside of a flow, {missing} bytes before its end"),
        };
        Fault::Syntax { at, what }
    }
}

/// What the fields of a flow may take in memory, bodies and messages not counted: far more than a real one has. A header of
/// a few MiB is refused by any server.
const MAX_FIELDS: usize = 16 << 20;

/// Of an edited flow, what it was before goes into its record, bodies included. A larger one is left out.
const MAX_BACKUP: u64 = 8 << 20;

/// Arbitrary: a flow has 16 at its top, a connection 19.
const MAX_KEYS: usize = 64;
