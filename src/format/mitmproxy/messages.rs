//! The messages of a flow: what a file says of each beside its bytes, kept in a log, and the lists that are written of them.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::number;
use super::value::{framed_len, write_scalar};
use crate::flow::{Content, Message, Value};
use crate::format::transfer::{Item, Part};

/// A list of messages.
#[derive(Debug, Clone, Default)]
pub(super) struct Messages {
    /// What the list holds, in bytes of a file.
    pub(super) payload_len: u64,
    pub(super) form: Form,
    pub(super) log: Log,
    /// Messages of a WebSocket that are not recorded whole.
    pub(super) cut: u64,
}

/// How a list is made of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// Messages of a WebSocket, with what the log says of them.
    Logged,
    /// Messages of a WebSocket without its control frames, which mitmproxy does not record.
    #[default]
    Data,
    /// What two directions hold, cut as the log says.
    LoggedStream,
    /// What two directions hold, each as one message.
    Stream,
}

impl PartialEq for Messages {
    /// They are compared by nobody: the log says what a record would not give back.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// When a message came, as the file spells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stamp {
    Int(i64),
    Float(f64),
}

/// What a file says of one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) from_client: bool,
    pub(super) dropped: bool,
    pub(super) stamp: Stamp,
    pub(super) len: u64,
}

/// What a file says of each message, packed: it is a part of the flow's record. Empty for more than [`MAX_LOGGED`].
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    packed: Vec<u8>,
    count: u64,
}

impl Stamp {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(text) => text.parse().ok().map(Stamp::Int),
            Value::Float(float) => Some(Stamp::Float(*float)),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Python rounds alike")]
    pub(super) fn seconds(self) -> f64 {
        match self {
            Stamp::Int(int) => int as f64,
            Stamp::Float(float) => float,
        }
    }

    fn spelled(self) -> (String, u8) {
        match self {
            Stamp::Int(int) => (int.to_string(), b'#'),
            Stamp::Float(float) => (number::repr(float), b'^'),
        }
    }
}

impl Log {
    pub(super) fn push(&mut self, entry: Entry) {
        self.count += 1;
        if self.count > MAX_LOGGED {
            self.packed = Vec::new();
            return;
        }
        let (kind, bits) = match entry.stamp {
            Stamp::Int(int) => (INT, int.to_le_bytes()),
            Stamp::Float(float) => (0, float.to_le_bytes()),
        };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        self.packed.push(kind | flag(entry.from_client, FROM_CLIENT) | flag(entry.dropped, DROPPED));
        self.packed.extend_from_slice(&bits);
        let mut left = entry.len;
        while left > 0x7f {
            self.packed.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        self.packed.push(left.to_le_bytes()[0]);
    }

    /// The log as it stands in a record; `None` if there is nothing in it.
    pub(super) fn packed(&self) -> Option<Value> {
        (!self.packed.is_empty()).then(|| Value::Bytes(Bytes::from(self.packed.clone())))
    }

    /// The log that stands in a record.
    pub(super) fn unpacked(value: &Value) -> Self {
        let packed = if let Value::Bytes(bytes) = value { bytes.to_vec() } else { Vec::new() };
        let mut log = Self { packed, count: 0 };
        log.count = log.entries().count() as u64;
        log
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut rest = &self.packed[..];
        std::iter::from_fn(move || {
            let (&flags, after) = rest.split_first()?;
            let (bits, mut after) = after.split_first_chunk::<8>()?;
            let mut len = 0u64;
            for shift in (0..63).step_by(7) {
                let (&byte, more) = after.split_first()?;
                after = more;
                len |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            rest = after;
            let stamp = if flags & INT != 0 {
                Stamp::Int(i64::from_le_bytes(*bits))
            } else {
                Stamp::Float(f64::from_le_bytes(*bits))
            };
            Some(Entry { from_client: flags & FROM_CLIENT != 0, dropped: flags & DROPPED != 0, stamp, len })
        })
    }
}

impl Messages {
    /// The messages of a WebSocket. The log counts if it is about just these.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn of_websocket(item: &dyn Item, log: Log) -> io::Result<Self> {
        let (mut logged, mut data, mut cut, mut fits) = (0, 0, 0, true);
        {
            let mut entries = log.entries();
            item.messages(&mut |message| {
                let len = content_len(&message.content);
                cut += u64::from(len < message.len);
                match entries.next() {
                    Some(entry) if entry.len == len && entry.from_client == message.from_client => {
                        logged += framed_len(list_len(message, entry));
                    }
                    _ => fits = false,
                }
                if message.opcode.is_data() {
                    data += framed_len(list_len(message, plain_entry(item, message)));
                }
                Ok(())
            })?;
            fits &= entries.next().is_none();
        }
        Ok(match fits {
            true => Self { payload_len: logged, form: Form::Logged, log, cut },
            false => Self { payload_len: data, form: Form::Data, log: Log::default(), cut },
        })
    }

    /// What two directions hold, in bytes. The log counts if it is about just that many.
    pub(super) fn of_stream(from_client: u64, from_server: u64, at: [f64; 2], log: Log) -> Self {
        let mut sums = [0u64; 2];
        for entry in log.entries() {
            let sum = &mut sums[usize::from(entry.from_client)];
            *sum = sum.saturating_add(entry.len);
        }
        if sums == [from_server, from_client] {
            // Of lengths that are true: those of a file of strangers need not be.
            let payload_len = log.entries().map(|entry| framed_len(stream_list_len(entry))).sum();
            return Self { payload_len, form: Form::LoggedStream, log, cut: 0 };
        }
        let mut log = Log::default();
        for (from_client, len, at) in [(true, from_client, at[0]), (false, from_server, at[1])] {
            if len > 0 {
                log.push(Entry { from_client, dropped: false, stamp: Stamp::Float(at), len });
            }
        }
        let payload_len = log.entries().map(|entry| framed_len(stream_list_len(entry))).sum();
        Self { payload_len, form: Form::Stream, log, cut: 0 }
    }

    /// Writes what is in the list.
    ///
    /// # Errors
    /// If the store is damaged or cannot be read, and what `out` said.
    pub(super) fn write(&self, item: &dyn Item, out: &mut dyn Write) -> io::Result<()> {
        match self.form {
            Form::Logged | Form::Data => {
                let mut entries = self.log.entries();
                item.messages(&mut |message| {
                    let entry = match self.form {
                        Form::Logged => entries.next().ok_or_else(changed)?,
                        _ if message.opcode.is_data() => plain_entry(item, message),
                        _ => return Ok(()),
                    };
                    write_message(item, message, entry, out)
                })
            }
            Form::LoggedStream | Form::Stream => {
                let open =
                    |part| Ok::<_, io::Error>(item.body(part)?.unwrap_or_else(|| Box::new(io::empty())));
                let mut sides = [open(Part::FromServer)?, open(Part::FromClient)?];
                for entry in self.log.entries() {
                    let (stamp, tag) = entry.stamp.spelled();
                    write!(out, "{}:", stream_list_len(entry))?;
                    write_bool(entry.from_client, out)?;
                    write!(out, "{}:", entry.len)?;
                    copy(&mut sides[usize::from(entry.from_client)], entry.len, out)?;
                    out.write_all(b",")?;
                    write_scalar(stamp.as_bytes(), tag, out)?;
                    out.write_all(b"]")?;
                }
                Ok(())
            }
        }
    }
}

fn write_message(item: &dyn Item, message: &Message, entry: Entry, out: &mut dyn Write) -> io::Result<()> {
    let (stamp, tag) = entry.stamp.spelled();
    write!(out, "{}:", list_len(message, entry))?;
    write_scalar(message.opcode.number().to_string().as_bytes(), b'#', out)?;
    write_bool(message.from_client, out)?;
    write!(out, "{}:", entry.len)?;
    if entry.len > 0 {
        copy(&mut item.payload(message)?, entry.len, out)?;
    }
    out.write_all(b",")?;
    write_scalar(stamp.as_bytes(), tag, out)?;
    write_bool(entry.dropped, out)?;
    write_bool(message.injected, out)?;
    out.write_all(b"]")
}

/// What is said of a message of which only the record is known.
fn plain_entry(item: &dyn Item, message: &Message) -> Entry {
    let after = i64::try_from(message.at_us).unwrap_or(i64::MAX).saturating_mul(1000);
    let at = number::seconds(item.flow().timing.started_unix_ns.saturating_add(after));
    Entry {
        from_client: message.from_client,
        dropped: message.dropped,
        stamp: Stamp::Float(at),
        len: content_len(&message.content),
    }
}

fn list_len(message: &Message, entry: Entry) -> u64 {
    let opcode = if message.opcode.number() < 10 { 1 } else { 2 };
    framed_len(opcode)
        + bool_len(message.from_client)
        + framed_len(entry.len)
        + framed_len(entry.stamp.spelled().0.len() as u64)
        + bool_len(entry.dropped)
        + bool_len(message.injected)
}

fn stream_list_len(entry: Entry) -> u64 {
    bool_len(entry.from_client) + framed_len(entry.len) + framed_len(entry.stamp.spelled().0.len() as u64)
}

fn bool_len(truth: bool) -> u64 {
    if truth { 7 } else { 8 }
}

fn write_bool(truth: bool, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(if truth { b"4:true!" } else { b"5:false!" })
}

/// Bytes of it that are recorded.
pub(super) fn content_len(content: &Content) -> u64 {
    match content {
        Content::Absent => 0,
        Content::Inline(bytes) => bytes.len() as u64,
        Content::Extents(extents) => extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.len)),
    }
}

/// Copies just `len` bytes: that many were promised.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if there are fewer; what the reader and `out` said.
pub(super) fn copy(from: &mut dyn Read, len: u64, out: &mut dyn Write) -> io::Result<()> {
    if io::copy(&mut from.take(len), out)? != len {
        let message = "a recorded body has fewer bytes than its record says";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
}

fn changed() -> io::Error {
    io::Error::other("the flow was changed while it was written")
}

/// Messages of which is kept what a file says beside their bytes: with more, a record would be too large. Their bytes are all
/// kept; what they came in as (TCP), and times to less than a microsecond are not.
const MAX_LOGGED: u64 = 1 << 19;

const FROM_CLIENT: u8 = 1;
const DROPPED: u8 = 2;
const INT: u8 = 4;
