//! One flow of a file, read into a state while its bodies and messages go to the sink.
//!
//! A tnetstring tells its type behind its payload, and mitmproxy writes the version last. So what a value is, is told by where
//! it stands, and checked when its tag comes: bodies and lists of messages have their places in all versions.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use super::messages::{Entry, Messages, Stamp};
use super::node::{BodyNode, Dict, Node, word};
use super::rows::Rows;
use super::schema;
use super::seen::{ConnRead, Seen};
use super::source::{MAX_DIGITS, Source};
use super::value::{self, Budget};
use crate::flow::{ClientConn, Content, Message, Opcode, ServerConn, Value};
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
    seen: &'a Seen,
    budget: Budget,
    /// Where the flow's payload ends, once its length was read.
    pub(super) end: Option<u64>,
    pub(super) rows: Rows,
    /// Which directions of a stream have begun: from the client, from the server.
    streams: [Option<u64>; 2],
    has_messages: bool,
    pub(super) client: ConnRead<ClientConn>,
    pub(super) server: ConnRead<ServerConn>,
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
    pub(super) fn new(source: &'a mut Source, sink: &'a mut dyn Sink, seen: &'a Seen) -> Self {
        Self {
            source,
            sink,
            seen,
            budget: Budget::new(MAX_FIELDS),
            end: None,
            rows: Rows::default(),
            streams: [None; 2],
            has_messages: false,
            client: ConnRead::default(),
            server: ConnRead::default(),
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

    fn dict(&mut self, end: u64, place: Place) -> Result<Dict, Fault> {
        let mut dict = Dict::default();
        while self.source.position() < end {
            let at = self.source.position();
            let key = match self.known_key()? {
                Some(key) => Cow::Borrowed(key),
                None => {
                    let key = self.value(end)?;
                    let Some(key) = word(&key).map(schema::name) else {
                        return Err(Fault::Syntax { at, what: "a key that is no word".to_owned() });
                    };
                    key
                }
            };
            let node = self.field(end, place, &key)?;
            dict.set(&key, node);
            if dict.0.len() > MAX_KEYS {
                return Err(self.meaning("more fields than a flow has"));
            }
        }
        Ok(dict)
    }

    /// Takes the key that comes next, if all of it is at hand, and it is a known one.
    fn known_key(&mut self) -> Result<Option<&'static str>, Fault> {
        let at_hand = self.source.peek(1)?;
        let Some(colon) = at_hand.iter().take(3).position(|&byte| byte == b':') else { return Ok(None) };
        let len =
            at_hand[..colon].iter().fold(0, |len, byte| len * 10 + usize::from(byte.wrapping_sub(b'0')));
        let text = at_hand.get(colon + 1..).unwrap_or_default();
        let Some((key, [b';', ..])) = text.split_at_checked(len) else { return Ok(None) };
        let known = schema::known(key);
        if known.is_some() {
            self.source.take(colon + 1 + len + 1);
        }
        Ok(known)
    }

    fn field(&mut self, end: u64, place: Place, key: &str) -> Result<Node, Fault> {
        match (place, key) {
            (Place::Top, "request") => self.inner_dict(end, Place::Message(Part::Request)),
            (Place::Top, "response") => self.inner_dict(end, Place::Message(Part::Response)),
            (Place::Top, "websocket") => self.inner_dict(end, Place::WebSocket),
            (Place::Top | Place::WebSocket, "messages") => self.messages(end),
            (Place::Message(part), "content" | "body") => self.content(end, part),
            (Place::Top, "backup") => self.backup(end),
            (Place::Message(_), "headers" | "trailers") => {
                let (tag, payload, at) = self.raw(end)?;
                let fields = if tag == b']' { value::fields(&payload, &mut self.budget) } else { None };
                match fields {
                    Some(fields) => Ok(Node::Fields(fields)),
                    None => self.parsed(tag, &payload, at).map(Node::Value),
                }
            }
            (Place::Top, "client_conn") => {
                let (tag, payload, at) = self.raw(end)?;
                self.client = self.seen.client(&payload);
                self.conn(tag, payload, at, self.client.known.is_some())
            }
            (Place::Top, "server_conn") => {
                let (tag, payload, at) = self.raw(end)?;
                self.server = self.seen.server(&payload);
                self.conn(tag, payload, at, self.server.known.is_some())
            }
            (Place::Top, "error") => Ok(Node::open(self.value(end)?, 1)),
            _ => Ok(Node::Value(self.value(end)?)),
        }
    }

    /// A connection, left as it stands there if it is a known one.
    fn conn(&mut self, tag: u8, payload: Bytes, at: u64, is_known: bool) -> Result<Node, Fault> {
        match tag {
            b'}' if is_known => Ok(Node::Written(payload)),
            _ => Ok(Node::open(self.parsed(tag, &payload, at)?, 2)),
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
        let content = if len <= MOST_WHOLE {
            let bytes = self.bytes(len)?;
            self.sink.whole(part, bytes)?
        } else {
            self.sink.begin(part);
            self.pass_to_sink(len)?;
            self.sink.end()?
        };
        self.tag(b',')?;
        Ok(Node::Body(BodyNode { part, len, content }))
    }

    /// The next `len` bytes, which are not many.
    fn bytes(&mut self, len: u64) -> Result<Bytes, Fault> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let whole = self.source.pass(len, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        if whole { Ok(bytes.into()) } else { Err(self.truncated()) }
    }

    /// The flow before it was edited, which goes into the record whole; null if it is too large for that.
    fn backup(&mut self, end: u64) -> Result<Node, Fault> {
        let len = self.length(end)?;
        if len <= MAX_BACKUP {
            let (tag, payload, at) = self.raw_of(len)?;
            return self.parsed(tag, &payload, at).map(Node::Value);
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
        let entry = match self.value(end)? {
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
        let value = self.value(end)?;
        Stamp::of(&value).ok_or_else(|| self.meaning("a message whose time is no number"))
    }

    fn truth(&mut self, end: u64) -> Result<bool, Fault> {
        match self.value(end)? {
            Value::Bool(truth) => Ok(truth),
            _ => Err(self.meaning("a message without a direction")),
        }
    }

    /// A value that goes into memory.
    fn value(&mut self, end: u64) -> Result<Value, Fault> {
        let (tag, payload, at) = self.raw(end)?;
        self.parsed(tag, &payload, at)
    }

    /// The tag and the payload of a value, and where that begins.
    fn raw(&mut self, end: u64) -> Result<(u8, Bytes, u64), Fault> {
        let len = self.length(end)?;
        self.raw_of(len)
    }

    fn raw_of(&mut self, len: u64) -> Result<(u8, Bytes, u64), Fault> {
        let at = self.source.position();
        let fits = usize::try_from(len).ok().filter(|&len| len <= self.budget.left());
        let Some(known_len) = fits else { return Err(self.meaning(value::TOO_MUCH)) };
        // No more than a little is set aside for what only says that it is long.
        let mut payload = Vec::with_capacity(known_len.min(MOST_AT_ONCE));
        let whole = self.source.pass(len, |piece| {
            payload.extend_from_slice(piece);
            Ok(())
        })?;
        let (true, Some(tag)) = (whole, self.source.byte()?) else { return Err(self.truncated()) };
        Ok((tag, payload.into(), at))
    }

    fn parsed(&mut self, tag: u8, payload: &Bytes, at: u64) -> Result<Value, Fault> {
        value::read(tag, payload, 1, &mut self.budget).map_err(|bad| {
            let (at, what) = (at + bad.at as u64, bad.what.to_owned());
            // Too much of what is right ends where it says; of anything else nothing is sure.
            if bad.what == value::TOO_MUCH { Fault::Meaning { at, what } } else { Fault::Syntax { at, what } }
        })
    }

    /// The length of the value that begins here, which ends before `end` with its tag.
    fn length(&mut self, end: u64) -> Result<u64, Fault> {
        let at = self.source.position();
        let (mut digits, mut len) = (0, 0);
        // No byte is asked for before it is due: the file may be a pipe, and grow.
        'asking: loop {
            let at_hand = self.source.peek(digits + 1)?;
            if at_hand.len() == digits {
                return Err(self.truncated());
            }
            for byte in &at_hand[digits..] {
                match byte {
                    b'0'..=b'9' if digits < MAX_DIGITS => {
                        len = len * 10 + u64::from(byte - b'0');
                        digits += 1;
                    }
                    b':' if digits > 0 => break 'asking,
                    _ => return Err(Fault::Syntax { at, what: "no length of a value".to_owned() }),
                }
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

/// Bodies up to here are handed on in one piece, larger ones as they come.
const MOST_WHOLE: u64 = 256 << 10;

/// What is set aside for a value before its bytes have come.
const MOST_AT_ONCE: usize = 64 << 10;

/// Arbitrary: a flow has 16 at its top, a connection 19.
const MAX_KEYS: usize = 64;
