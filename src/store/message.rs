//! The rows of WebSocket messages.

use std::ops::Range;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Segments;
use super::reader::{blob, integer};
use super::row::sqlite_int;
use crate::codec;
use crate::flow::{BodyEnd, Content, Extent, Message, MessageCoding, Mid, Opcode};

/// A message that waits to be written. A payload that belongs into its row is among the bytes of its group.
#[derive(Debug)]
pub(super) struct Queued {
    mid: Mid,
    /// Without the content.
    facts: Message,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Absent,
    Inline(Range<usize>),
    Extents(Vec<Extent>),
}

impl Queued {
    pub(super) fn mid(&self) -> Mid {
        self.mid
    }

    pub(super) fn new(mid: Mid, message: &Message, bytes: &mut Vec<u8>) -> Self {
        let payload = match &message.content {
            Content::Absent => Payload::Absent,
            Content::Inline(inline) => {
                let at = bytes.len();
                bytes.extend_from_slice(inline);
                Payload::Inline(at..bytes.len())
            }
            Content::Extents(extents) => Payload::Extents(extents.clone()),
        };
        Self { mid, facts: Message { content: Content::Absent, ..*message }, payload }
    }

    /// Bytes of memory that it takes, but for those in the group.
    pub(super) fn weight(&self) -> usize {
        let extents = if let Payload::Extents(extents) = &self.payload { extents.len() } else { 0 };
        size_of::<Self>() + extents * size_of::<Extent>()
    }
}

/// Replaces payloads that the disk could not take; how many there were.
pub(super) fn mark_lost(messages: &mut [Queued], segments: &Segments) -> u64 {
    let mut lost = 0;
    for message in messages {
        if let Payload::Extents(extents) = &message.payload
            && extents.iter().any(|extent| segments.is_lost(extent))
        {
            message.payload = Payload::Absent;
            message.facts.end = BodyEnd::Lost;
            lost += 1;
        }
    }
    lost
}

/// Writes rows; how many bytes of payload they hold. A number that is there already is replaced.
pub(super) fn insert(tx: &Transaction<'_>, messages: &[Queued], bytes: &[u8]) -> rusqlite::Result<u64> {
    let mut written = 0;
    if messages.is_empty() {
        return Ok(written);
    }
    let mut insert = tx.prepare_cached(INSERT)?;
    for Queued { mid, facts, payload } in messages {
        let (inline, extents) = match payload {
            Payload::Absent => (None, None),
            Payload::Inline(range) => (bytes.get(range.clone()), None),
            Payload::Extents(extents) => (None, Some(codec::encode_extents(extents))),
        };
        insert.execute(params![
            sqlite_int(mid.0),
            sqlite_int(facts.seq),
            facts.from_client,
            facts.opcode.number(),
            sqlite_int(facts.at_us),
            sqlite_int(facts.len),
            sqlite_int(facts.wire_len),
            coding_number(facts.coding),
            facts.fragments,
            facts.injected,
            end_number(facts.end),
            inline,
            extents,
            facts.dropped,
        ])?;
        written += inline.map_or(0, <[u8]>::len) as u64;
    }
    Ok(written)
}

/// A row of [`SELECT`], and the extents of its payload as they are stored. Lenient, as [`super::Row`] is.
pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Message, Option<Bytes>)> {
    use rusqlite::types::Type::Null;
    let number = |at| integer(row, at).map(|n| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
    let small = |at| number(at).map(|n| u8::try_from(n).unwrap_or(u8::MAX));
    let optional = |at| match row.get_ref(at)?.data_type() {
        Null => Ok(None),
        _ => blob(row, at).map(Some),
    };
    let message = Message {
        seq: number(0)?,
        from_client: number(1)? != 0,
        opcode: Opcode::from_number(small(2)?).unwrap_or_default(),
        at_us: number(3)?,
        len: number(4)?,
        wire_len: number(5)?,
        coding: coding(small(6)?),
        fragments: u32::try_from(number(7)?).unwrap_or(u32::MAX),
        injected: number(8)? != 0,
        end: body_end(small(9)?),
        content: optional(10)?.map_or(Content::Absent, Content::Inline),
        dropped: number(12)? != 0,
    };
    Ok((message, optional(11)?))
}

/// The first message behind this one whose payload is not in its row: its flow, its number, whether it is the client's, and
/// where the payload is.
pub(super) fn next_outside(
    conn: &Connection,
    mid: Mid,
    seq: u64,
) -> rusqlite::Result<Option<(Mid, u64, bool, Bytes)>> {
    let number = |row: &rusqlite::Row<'_>, at| integer(row, at).map(|n| n.unwrap_or(0).cast_unsigned());
    let read = |row: &rusqlite::Row<'_>| {
        Ok((Mid(number(row, 0)?), number(row, 1)?, number(row, 2)? != 0, blob(row, 3)?))
    };
    conn.prepare_cached(NEXT_OUTSIDE)?.query_row(params![sqlite_int(mid.0), sqlite_int(seq)], read).optional()
}

/// Tells a message where its payload is now, or that some of it is lost.
pub(super) fn move_payload(
    conn: &Connection,
    mid: Mid,
    seq: u64,
    extents: &[Extent],
    whole: bool,
) -> rusqlite::Result<()> {
    let lost = (!whole).then(|| end_number(BodyEnd::Lost));
    let extents = codec::encode_extents(extents);
    conn.prepare_cached(MOVE)?.execute(params![sqlite_int(mid.0), sqlite_int(seq), extents, lost])?;
    Ok(())
}

fn coding_number(coding: MessageCoding) -> u8 {
    match coding {
        MessageCoding::Plain => 0,
        MessageCoding::Deflate => 1,
        MessageCoding::Unknown => 2,
    }
}

fn coding(number: u8) -> MessageCoding {
    match number {
        0 => MessageCoding::Plain,
        1 => MessageCoding::Deflate,
        _ => MessageCoding::Unknown,
    }
}

/// The numbers of `BodyEnd` in proto/flow.proto.
fn end_number(end: BodyEnd) -> u8 {
    match end {
        BodyEnd::Open => 0,
        BodyEnd::Whole => 1,
        BodyEnd::CutOff => 2,
        BodyEnd::Capped => 3,
        BodyEnd::Lost => 4,
    }
}

fn body_end(number: u8) -> BodyEnd {
    match number {
        0 => BodyEnd::Open,
        1 => BodyEnd::Whole,
        3 => BodyEnd::Capped,
        4 => BodyEnd::Lost,
        _ => BodyEnd::CutOff,
    }
}

const INSERT: &str = "INSERT OR REPLACE INTO message (mid, seq, from_client, opcode, at_us, len, wire_len, coding, \
     fragments, injected, body_end, payload, extents, dropped) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

const NEXT_OUTSIDE: &str = "SELECT mid, seq, from_client, extents FROM message \
     WHERE (mid, seq) > (?1, ?2) AND extents IS NOT NULL ORDER BY mid, seq LIMIT 1";

const MOVE: &str =
    "UPDATE message SET extents = ?3, body_end = coalesce(?4, body_end) WHERE mid = ?1 AND seq = ?2";

pub(super) const SELECT: &str = "SELECT seq, from_client, opcode, at_us, len, wire_len, coding, fragments, injected, \
     body_end, payload, extents, dropped FROM message WHERE mid = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";

/// The same before version 11.
pub(super) const SELECT_10: &str = "SELECT seq, from_client, opcode, at_us, len, wire_len, coding, fragments, injected, \
     body_end, payload, extents, 0 FROM message WHERE mid = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";

pub(super) const LAST: &str = "SELECT max(seq) FROM message WHERE mid = ?1";

pub(super) const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'message'";
