//! The messages of a WebSocket that waited, handed over in their order.

use std::io::{BufReader, Read as _};

use crate::flow::{BodyEnd, Flow, FlowError, Message, Opcode, Side, Stage};
use crate::format::transfer::Part;

use super::build::{self, BuildError, Texts};
use super::entry::Entry;
use super::recode;
use super::spool::Run;
use super::web_socket::{MessageKind, NO_OPCODE, RECORD_LEN, Record};

/// Hands all messages of the entry over, and counts them where nothing is known of them yet.
///
/// # Errors
/// If one cannot be read or taken.
pub(super) fn hand_over(flow: &mut Flow, entry: &Entry, texts: &mut Texts<'_>) -> Result<(), BuildError> {
    if entry.messages == 0 || flow.websocket.is_none() {
        return Ok(());
    }
    let all = Run { at: 0, len: entry.messages * RECORD_LEN as u64 };
    let mut records = BufReader::new(texts.records.read(all)?);
    let counts_are_known = flow.websocket.as_ref().is_some_and(|ws| ws.messages() > 0);
    let mut seq = 0;
    for _ in 0..entry.messages {
        let mut bytes = [0; RECORD_LEN];
        records.read_exact(&mut bytes)?;
        let record = Record::from_bytes(&bytes);
        if record.kind == MessageKind::Error {
            flow.error.get_or_insert_with(|| FlowError {
                side: Side::Server,
                stage: Stage::Tunnel,
                message: "the WebSocket failed".to_owned(),
                at_us: at_us(flow.timing.started_unix_ns, record.unix_ns),
            });
            continue;
        }
        seq += 1;
        let message = message(flow, &record, seq, texts.spool, texts.sink)?;
        if !counts_are_known {
            count(flow, &message);
        }
        texts.sink.message(&message)?;
    }
    Ok(())
}

fn message(
    flow: &Flow,
    record: &Record,
    seq: u64,
    spool: &mut super::spool::Spool,
    sink: &mut dyn crate::format::transfer::Sink,
) -> Result<Message, BuildError> {
    let from_client = record.kind == MessageKind::FromClient;
    let opcode = match record.opcode {
        NO_OPCODE => Opcode::Text,
        other => Opcode::from_number(other).unwrap_or_default(),
    };
    let part = Part::Message(from_client);
    let (run, is_base64) = match record.exact {
        Some(run) => (run, true),
        None => (record.data, opcode != Opcode::Text),
    };
    let text = spool.read(run)?;
    let bytes = if is_base64 { recode::from_base64(text) } else { text };
    let (content, recorded_len) = match build::hand_over(sink, part, bytes) {
        // Some tools write any message as text.
        Err(BuildError::Entry(_)) => build::hand_over(sink, part, spool.read(record.data)?)?,
        other => other?,
    };
    let mut message = Message {
        seq,
        from_client,
        opcode,
        at_us: at_us(flow.timing.started_unix_ns, record.unix_ns),
        len: recorded_len,
        wire_len: recorded_len,
        fragments: 1,
        end: BodyEnd::Whole,
        content,
        ..Message::default()
    };
    if let Some(ours) = record.ours {
        message.len = ours.len.max(recorded_len);
        message.wire_len = ours.wire_len;
        message.coding = ours.coding;
        message.fragments = ours.fragments;
        message.injected = ours.injected;
        message.dropped = ours.dropped;
        message.end = ours.end;
        if !ours.recorded {
            message.content = crate::flow::Content::Absent;
        }
    }
    Ok(message)
}

fn count(flow: &mut Flow, message: &Message) {
    let Some(ws) = &mut flow.websocket else { return };
    let (messages, len) = if message.from_client {
        (&mut ws.messages_from_client, &mut ws.len_from_client)
    } else {
        (&mut ws.messages_from_server, &mut ws.len_from_server)
    };
    *messages += 1;
    *len = len.saturating_add(message.len);
}

fn at_us(started_unix_ns: i64, unix_ns: i64) -> u64 {
    u64::try_from(unix_ns.saturating_sub(started_unix_ns) / 1000).unwrap_or(0)
}
