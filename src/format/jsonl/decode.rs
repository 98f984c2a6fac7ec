//! Reading flows from JSON lines. White space does not matter: what a formatter has spread over lines is read as well.

use std::io::{self, BufRead};

use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::base64::STANDARD;
use super::super::json::{JsonError, Kind, Mark, Reader};
use super::super::transfer::{DecodeError, Decoded, Decoder, Part, Sink};
use super::parse::{self, Contents};
use crate::flow::Content;

/// Makes the decoder.
pub(super) fn make(reader: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    let json = Reader::new(reader).of_lines();
    Box::new(Lines { json, name: String::new(), raw: Vec::new(), place: Place::Beginning })
}

struct Lines {
    json: Reader<Box<dyn BufRead + Send>>,
    name: String,
    /// The text of a value, used again.
    raw: Vec<u8>,
    place: Place,
}

/// Where reading is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    Between,
    /// In a flow that is damaged.
    Damage,
    End,
}

/// What is wrong with a flow: its JSON, or what that says.
enum Wrong {
    Json(JsonError),
    Meaning { position: u64, what: String },
}

impl From<JsonError> for Wrong {
    fn from(error: JsonError) -> Self {
        Wrong::Json(error)
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Wrong::Json(error.into())
    }
}

impl Decoder for Lines {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        let place = std::mem::replace(&mut self.place, Place::Damage);
        match self.read(place, sink) {
            Ok(Some(decoded)) => {
                self.place = Place::Between;
                Ok(Some(decoded))
            }
            Ok(None) => {
                self.place = Place::End;
                Ok(None)
            }
            Err(Wrong::Meaning { position, what } | Wrong::Json(JsonError::Syntax { position, what })) => {
                Err(DecodeError::Flow { position, what })
            }
            Err(Wrong::Json(JsonError::End { position })) => {
                self.place = Place::End;
                Err(DecodeError::File { position, what: "the file ends in the middle of a flow".to_owned() })
            }
            Err(Wrong::Json(JsonError::Io(error))) => {
                self.place = Place::End;
                Err(error.into())
            }
        }
    }
}

impl Lines {
    fn read(&mut self, place: Place, sink: &mut dyn Sink) -> Result<Option<Decoded>, Wrong> {
        match place {
            Place::End => return Ok(None),
            Place::Damage => {
                // Each of our lines begins with the mid, and nothing inside of a line does.
                if !self.json.find_object(&["mid".to_owned()], &Mark::default())? {
                    return Ok(None);
                }
            }
            Place::Beginning | Place::Between => {
                if place == Place::Beginning {
                    self.json.skip_byte_order_mark()?;
                }
                if self.json.is_at_end()? {
                    return Ok(None);
                }
                self.json.enter_object()?;
            }
        }
        let begin = self.json.position();
        let meaning = |what| Wrong::Meaning { position: begin, what };
        let (object, contents) = self.members(sink)?;
        let flow = parse::flow(&object, contents).map_err(meaning)?;
        let note = parse::note(&object).map_err(meaning)?;
        Ok(Some(Decoded { flow, note }))
    }

    /// The members of a flow; bodies and messages go to the sink.
    fn members(&mut self, sink: &mut dyn Sink) -> Result<(Map<String, Value>, Contents), Wrong> {
        let mut object = Map::new();
        let mut contents = Contents::default();
        let mut budget = MAX_BESIDE;
        while self.json.next_member(&mut self.name)? {
            let name = self.name.clone();
            let value = match (name.as_str(), self.json.peek()?) {
                ("request", Kind::Object) => {
                    self.message(&mut [("body", Part::Request, &mut contents.request)], sink, &mut budget)?
                }
                ("response", Kind::Object) => {
                    self.message(&mut [("body", Part::Response, &mut contents.response)], sink, &mut budget)?
                }
                ("tunnel", Kind::Object) => {
                    let from_client = ("from_client", Part::FromClient, &mut contents.from_client);
                    let from_server = ("from_server", Part::FromServer, &mut contents.from_server);
                    self.message(&mut [from_client, from_server], sink, &mut budget)?
                }
                ("messages", Kind::Array) => {
                    self.messages(sink)?;
                    continue;
                }
                _ => self.value(&mut budget)?,
            };
            object.insert(name, value);
        }
        Ok((object, contents))
    }

    /// An object with some members that are bodies.
    fn message(
        &mut self,
        bodies: &mut [(&str, Part, &mut Option<Content>)],
        sink: &mut dyn Sink,
        budget: &mut usize,
    ) -> Result<Value, Wrong> {
        let mut object = Map::new();
        self.json.enter_object()?;
        while self.json.next_member(&mut self.name)? {
            let name = self.name.clone();
            let value = match bodies.iter_mut().find(|(body, ..)| *body == name) {
                Some((_, part, content)) if self.json.peek()? == Kind::Object => {
                    let (facts, bytes) = self.body(Some(*part), sink, budget)?;
                    **content = bytes;
                    Value::Object(facts)
                }
                _ => self.value(budget)?,
            };
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }

    fn messages(&mut self, sink: &mut dyn Sink) -> Result<(), Wrong> {
        self.json.enter_array()?;
        while self.json.next_value()? {
            let begin = self.json.position();
            let (facts, content) = self.body(None, sink, &mut { MAX_BESIDE_MESSAGE })?;
            let message = parse::message(&facts, content);
            sink.message(
                &message
                    .map_err(|what| Wrong::Meaning { position: begin, what: format!("messages: {what}") })?,
            )?;
        }
        Ok(())
    }

    /// The facts of a body, and its bytes if they are there. Without `part` it is a message, which says who sent it before.
    fn body(
        &mut self,
        part: Option<Part>,
        sink: &mut dyn Sink,
        budget: &mut usize,
    ) -> Result<(Map<String, Value>, Option<Content>), Wrong> {
        let mut facts: Map<String, Value> = Map::new();
        let mut content = None;
        self.json.enter_object()?;
        while self.json.next_member(&mut self.name)? {
            let name = self.name.clone();
            let is_base64 = name == "base64";
            if (is_base64 || name == "text") && self.json.peek()? == Kind::String {
                let position = self.json.position();
                let from_client = facts.get("from_client").and_then(Value::as_bool).map(Part::Message);
                let Some(part) = part.or(from_client).filter(|_| content.is_none()) else {
                    let what =
                        "messages: `from_client` has to stand before the payload, which stands there once";
                    return Err(Wrong::Meaning { position, what: what.to_owned() });
                };
                sink.begin(part);
                self.bytes(is_base64, sink)?;
                content = Some(sink.end()?);
            } else if name == "decoded" {
                // Of `show`: it follows from the body.
                self.json.skip()?;
            } else {
                facts.insert(name, self.value(budget)?);
            }
        }
        Ok((facts, content))
    }

    /// A string, or what it is the base64 of, into the sink.
    fn bytes(&mut self, is_base64: bool, sink: &mut dyn Sink) -> Result<(), Wrong> {
        if !is_base64 {
            return Ok(self.json.string(|piece| sink.write(piece))?);
        }
        let begin = self.json.position();
        let mut rest = Vec::new();
        let mut bytes = Vec::new();
        let mut is_wrong = false;
        let mut decode = |text: &[u8], sink: &mut dyn Sink| {
            bytes.clear();
            is_wrong |= STANDARD.decode_vec(text, &mut bytes).is_err();
            // Padding ends it: what stands behind is decoded by itself, and refused here.
            if is_wrong { Ok(()) } else { sink.write(&bytes) }
        };
        let mut is_padded = false;
        self.json.string(|piece| {
            rest.extend_from_slice(piece);
            let whole = rest.len() / 4 * 4;
            if whole > 0 {
                let text: Vec<u8> = rest.drain(..whole).collect();
                let text = if is_padded { &b"="[..] } else { &text };
                is_padded = text.ends_with(b"=");
                decode(text, sink)?;
            }
            Ok(())
        })?;
        if !rest.is_empty() {
            let text = if is_padded { &b"="[..] } else { &rest };
            decode(text, sink)?;
        }
        if is_wrong {
            return Err(Wrong::Meaning { position: begin, what: "this string is not base64".to_owned() });
        }
        Ok(())
    }

    /// Any other value, in memory.
    fn value(&mut self, budget: &mut usize) -> Result<Value, Wrong> {
        let position = self.json.position();
        let wrong = |what: String| Wrong::Meaning { position, what };
        let is_whole = self.json.raw_within(budget, value_cost, &mut self.raw)?;
        if !is_whole {
            return Err(wrong("more beside the bodies of a flow than fits into memory".to_owned()));
        }
        // Lone surrogates are JSON by its grammar, and no text.
        let value = serde_json::from_slice(&self.raw).map_err(|error| wrong(error.to_string()));
        self.raw.clear();
        self.raw.shrink_to(KEPT_BYTES);
        value
    }
}

/// What a value may take in memory beside its text: as one of few in a list or an object, in which there is room for more.
fn value_cost(kind: Kind) -> usize {
    match kind {
        Kind::Array | Kind::Object => 512,
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => 192,
    }
}

/// What of a flow may be in memory beside its bodies, as JSON and as values of it. Heads have at most 256 KiB each where they
/// are ours, chains of certificates less; another tool's data may be long.
const MAX_BESIDE: usize = 24 << 20;

/// What is kept of the memory for a value's text.
const KEPT_BYTES: usize = 64 << 10;

/// The same of a message of a WebSocket, of which each stands by itself.
const MAX_BESIDE_MESSAGE: usize = 1 << 20;
