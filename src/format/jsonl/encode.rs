//! Writing flows as JSON lines.

use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};

use super::super::json::Writer;
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item, Part};
use super::shape;
use crate::flow::{Content, Message};

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Lines { buffer: Vec::new() })
}

struct Lines {
    buffer: Vec<u8>,
}

impl Encoder for Lines {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        // What an error left.
        self.buffer.clear();
        let mut json = Writer::new(out, &mut self.buffer);
        json.open();
        for (name, value) in shape::flow(flow, flow.mid, item.note()) {
            json.name(&name);
            match (name.as_str(), value) {
                ("request", Value::Object(message)) => {
                    with_body(&mut json, message, item, &[("body", Part::Request)])?
                }
                ("response", Value::Object(message)) => {
                    with_body(&mut json, message, item, &[("body", Part::Response)])?;
                }
                ("tunnel", Value::Object(tunnel)) => {
                    let bodies = [("from_client", Part::FromClient), ("from_server", Part::FromServer)];
                    with_body(&mut json, tunnel, item, &bodies)?;
                }
                (_, value) => {
                    json.json(value.to_string().as_bytes());
                }
            }
            json.flush_if_large()?;
        }
        if flow.websocket.is_some() {
            json.name("messages").open_array();
            item.messages(&mut |message| put_message(&mut json, message, item))?;
            json.close_array();
        }
        json.close().verbatim(b"\n");
        json.flush()?;
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// An object, with bytes in those of its members that are bodies.
fn with_body(
    json: &mut Writer<'_>,
    object: Map<String, Value>,
    item: &dyn Item,
    bodies: &[(&str, Part)],
) -> io::Result<()> {
    json.open();
    for (name, value) in object {
        json.name(&name);
        match (bodies.iter().find(|(have, _)| *have == name), value) {
            (Some((_, part)), Value::Object(facts)) => {
                json.open();
                put_members(json, facts);
                if let Some(bytes) = item.in_memory(*part) {
                    match std::str::from_utf8(bytes) {
                        Ok(text) => json.name("text").long_text(text)?,
                        Err(_) => json.name("base64").long_base64(bytes)?,
                    }
                } else if item.body(*part)?.is_some() {
                    let open = || Ok(item.body(*part)?.unwrap_or_else(|| Box::new(io::empty())));
                    put_bytes(json, &open)?;
                } else {
                    json.name("left_out").text(NOT_RECORDED);
                }
                json.close();
            }
            (_, value) => {
                json.json(value.to_string().as_bytes());
            }
        }
    }
    json.close();
    Ok(())
}

fn put_message(json: &mut Writer<'_>, message: &Message, item: &dyn Item) -> io::Result<()> {
    let facts = json!({
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
    json.open();
    if let Value::Object(facts) = facts {
        put_members(json, facts);
    }
    if message.content == Content::Absent {
        json.name("left_out").text(NOT_RECORDED);
    } else {
        put_bytes(json, &|| item.payload(message))?;
    }
    json.close();
    json.flush_if_large()
}

fn put_members(json: &mut Writer<'_>, members: Map<String, Value>) {
    for (name, value) in members {
        json.name(&name).json(value.to_string().as_bytes());
    }
}

/// `"text": …` if all of it is UTF-8, else `"base64": …`. It is read twice, unless it shows early that it is no text.
fn put_bytes<'a>(json: &mut Writer<'_>, open: &dyn Fn() -> io::Result<Box<dyn Read + 'a>>) -> io::Result<()> {
    let (_, result) = if is_text(&mut open()?) {
        json.name("text").text_from(&mut open()?)?
    } else {
        json.name("base64").base64(&mut open()?)?
    };
    match result {
        Ok(()) => Ok(()),
        // The store is damaged here: what was read before is worth having, and so are the flows behind.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            json.name("damaged").text(&error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Whether it is all UTF-8. What cannot be read is not.
fn is_text(bytes: &mut dyn Read) -> bool {
    let mut piece = [0; 16 << 10];
    let mut kept = 0;
    loop {
        let len = match bytes.read(&mut piece[kept..]) {
            Ok(0) => return kept == 0,
            Ok(n) => kept + n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        kept = match std::str::from_utf8(&piece[..len]) {
            Ok(_) => 0,
            // A character that is cut at the end of the piece.
            Err(error) if error.error_len().is_none() => {
                piece.copy_within(error.valid_up_to()..len, 0);
                len - error.valid_up_to()
            }
            Err(_) => return false,
        };
    }
}

const NOT_RECORDED: &str = "not recorded";
