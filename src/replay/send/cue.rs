//! What the client of a recorded WebSocket said, read from its store a little at a time, with what it had heard before.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::prepare::Refusal;
use crate::flow::{BodyEnd, Message, MessageCoding, Mid, Opcode};
use crate::store::{Reader, StoreError};

/// A step of the client's part.
#[derive(Debug)]
pub(super) enum Cue {
    /// It says something.
    Begin(Begin),
    /// Some of its payload.
    Payload(Bytes),
    /// The payload is whole.
    End,
    /// It has said all.
    Over {
        /// Messages that its origin had sent by then.
        heard: u64,
        /// Who closed first, if anybody did: `true` for the client.
        closed_by_client: Option<bool>,
    },
}

/// How a message begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) opcode: Opcode,
    /// Bytes of payload that follow.
    pub(super) len: u64,
    /// Microseconds after the flow's start.
    pub(super) at_us: u64,
    /// Frames that it came in.
    pub(super) fragments: u32,
    /// Whether it was compressed.
    pub(super) is_deflated: bool,
    /// Messages that the origin had sent before.
    pub(super) heard: u64,
}

/// Looks whether all that the client said is on record as it was sent.
///
/// # Errors
/// Those of the store. A [`Refusal`] is no error.
pub(super) fn check(reader: &Reader, mid: Mid) -> Result<Option<Refusal>, StoreError> {
    let mut after = 0;
    loop {
        let page = reader.messages(mid, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(None) };
        after = last.seq;
        let whole = |m: &&Message| {
            !m.from_client
                || m.dropped
                || m.end == BodyEnd::Whole && kept(m) == m.len && m.coding != MessageCoding::Unknown
        };
        if let Some(message) = page.iter().find(|message| !whole(message)) {
            return Ok(Some(Refusal::Message { seq: message.seq }));
        }
    }
}

fn kept(message: &Message) -> u64 {
    let body = crate::flow::Body { content: message.content.clone(), ..crate::flow::Body::default() };
    body.recorded_len()
}

/// Reads the messages of a flow and gives the steps, as fast as they are taken. Ends early if nobody takes them.
///
/// # Errors
/// Those of the store, told in the channel too by its early end.
pub(super) fn read(
    reader: &Reader,
    mid: Mid,
    closed_by_client: Option<bool>,
    cues: &mpsc::Sender<Cue>,
) -> Result<(), StoreError> {
    let mut heard = 0;
    let mut pings: VecDeque<Bytes> = VecDeque::new();
    let mut after = 0;
    loop {
        let page = reader.messages(mid, after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        // As the origin saw it: of its own messages those that it sent, of the client's those that reached it.
        let seen = |m: &&Message| if m.from_client { !m.dropped } else { !m.injected };
        for message in page.iter().filter(seen) {
            if !message.from_client {
                heard += u64::from(message.opcode.is_data());
                if message.opcode == Opcode::Ping {
                    pings.push_back(payload(reader, message));
                    pings.truncate(MAX_PINGS);
                }
                continue;
            }
            let echoes = match message.opcode {
                // The origin's own pings are answered when they come.
                Opcode::Pong => {
                    let said = payload(reader, message);
                    let answered = pings.iter().position(|ping| *ping == said);
                    answered.map(|at| drop(pings.drain(..=at))).is_some()
                }
                Opcode::Close => closed_by_client == Some(false),
                _ => false,
            };
            if !echoes && say(reader, message, heard, cues)?.is_none() {
                return Ok(());
            }
        }
    }
    // A receiver that is gone has ended for reasons of its own.
    let _ = cues.blocking_send(Cue::Over { heard, closed_by_client });
    Ok(())
}

/// `None` if nobody listens any more.
fn say(
    reader: &Reader,
    message: &Message,
    heard: u64,
    cues: &mpsc::Sender<Cue>,
) -> Result<Option<()>, StoreError> {
    let begin = Begin {
        opcode: message.opcode,
        len: kept(message),
        at_us: message.at_us,
        fragments: message.fragments,
        is_deflated: message.coding == MessageCoding::Deflate,
        heard,
    };
    if cues.blocking_send(Cue::Begin(begin)).is_err() {
        return Ok(None);
    }
    let mut content = reader.content(&message.content)?;
    loop {
        // What cannot be read any more ends the part in the middle of a message, which its end shows.
        let Ok(data) = piece(&mut content) else { return Ok(None) };
        if data.is_empty() {
            break;
        }
        if cues.blocking_send(Cue::Payload(data)).is_err() {
            return Ok(None);
        }
    }
    Ok(cues.blocking_send(Cue::End).ok())
}

/// The next bytes of a body; none at its end.
///
/// # Errors
/// If what is stored is damaged or gone.
pub(super) fn piece(content: &mut impl Read) -> io::Result<Bytes> {
    let mut data = BytesMut::zeroed(PIECE);
    let mut filled = 0;
    while filled < data.len() {
        match content.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data.freeze())
}

/// Of a control frame: at most 125 bytes; nothing of what cannot be read.
fn payload(reader: &Reader, message: &Message) -> Bytes {
    let content = reader.content(&message.content).ok();
    content.and_then(|mut content| piece(&mut content).ok()).unwrap_or_default()
}

/// Messages in memory at a time, with small payloads.
const PAGE: usize = 64;

/// Pings that wait for their pongs; an end may answer only the last of several (RFC 6455 §5.5.3).
const MAX_PINGS: usize = 64;

/// Bytes of a body that are read at a time.
pub(super) const PIECE: usize = 64 * 1024;
