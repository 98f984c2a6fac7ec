//! Flow files there and back, through a sink and items in memory; and damaged and hostile ones.

mod codec;
mod damage;
mod files;
mod hostile;
mod recorded;

use std::io::{self, BufReader, Read};

use bytes::Bytes;

use super::{decoder, encoder};
use crate::flow::{Content, Flow, Message, Note, Value};
use crate::format::transfer::{DecodeError, Decoded, EncodeError, EncodeOptions, Item, Part, Sink};

/// A flow with its messages, all in memory.
#[derive(Debug, Clone, Default)]
struct Stored {
    flow: Flow,
    note: Note,
    messages: Vec<Message>,
}

/// Takes a flow's bodies in turns, as a store's does.
#[derive(Debug, Default)]
struct Memory {
    open: Vec<(Part, Vec<u8>)>,
    messages: Vec<Message>,
    /// The longest piece.
    longest: usize,
    /// Bytes that came; they are thrown away where a test wants only that.
    passed: u64,
    forgetful: bool,
}

impl Sink for Memory {
    fn begin(&mut self, part: Part) {
        match self.open.iter().position(|(open, _)| *open == part) {
            Some(at) => {
                let open = self.open.remove(at);
                self.open.push(open);
            }
            None => self.open.push((part, Vec::new())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.longest = self.longest.max(bytes.len());
        self.passed += bytes.len() as u64;
        if !self.forgetful {
            self.open.last_mut().expect("a body was begun").1.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        Ok(Content::Inline(Bytes::from(self.open.pop().expect("a body was begun").1)))
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        assert_eq!(message.seq, self.messages.len() as u64 + 1);
        self.messages.push(message.clone());
        Ok(())
    }
}

impl Item for Stored {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        &self.note
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        let content = match part {
            Part::Request => self.flow.request.as_ref().map(|it| &it.body.content),
            Part::Response => self.flow.response.as_ref().map(|it| &it.body.content),
            Part::FromClient => self.flow.tunnel.as_ref().map(|it| &it.from_client.content),
            Part::FromServer => self.flow.tunnel.as_ref().map(|it| &it.from_server.content),
            Part::Message(_) => None,
        };
        Ok(content.and_then(inline).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>))
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.messages.iter().try_for_each(each)
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        // They are numbered from 1, and a hundred thousand are not searched through for each.
        let at = usize::try_from(message.seq).expect("some") - 1;
        let message = self.messages.get(at).filter(|it| it.seq == message.seq).expect("one of ours");
        Ok(Box::new(inline(&message.content).map_or(&[][..], |bytes| &bytes[..])))
    }
}

fn inline(content: &Content) -> Option<&Bytes> {
    if let Content::Inline(bytes) = content { Some(bytes) } else { None }
}

/// Reads a file to its end: flows, and what is wrong.
fn read(file: &[u8]) -> (Vec<Stored>, Vec<DecodeError>) {
    read_from(io::Cursor::new(file.to_vec()))
}

fn read_from(file: impl Read + Send + 'static) -> (Vec<Stored>, Vec<DecodeError>) {
    let mut decoder = decoder(Box::new(BufReader::with_capacity(97, file)));
    let (mut flows, mut errors) = (Vec::new(), Vec::new());
    loop {
        let mut sink = Memory::default();
        match decoder.next(&mut sink) {
            Ok(None) => return (flows, errors),
            Ok(Some(Decoded { flow, note })) => {
                assert!(sink.open.is_empty(), "a body was not ended");
                flows.push(Stored { flow: through_the_codec(flow), note, messages: sink.messages });
            }
            Err(error) => {
                let go_on = matches!(error, DecodeError::Flow { .. });
                errors.push(error);
                if !go_on {
                    return (flows, errors);
                }
            }
        }
    }
}

/// As a store gives it back. The codec is a neighbour, so what it keeps is said here: all, but for ids of connections.
fn through_the_codec(mut flow: Flow) -> Flow {
    std::sync::Arc::make_mut(&mut flow.client).id.0 = 7;
    if let Some(server) = &mut flow.server {
        std::sync::Arc::make_mut(server).id.0 = 9;
    }
    flow.mid = Some(crate::flow::Mid(99));
    flow
}

/// Reads a file that is whole.
fn read_whole(file: &[u8]) -> Vec<Stored> {
    let (flows, errors) = read(file);
    assert!(errors.is_empty(), "{errors:?}");
    flows
}

fn written(flows: &[Stored]) -> Vec<u8> {
    try_written(flows).expect("they can be written")
}

fn try_written(flows: &[Stored]) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = encoder(&EncodeOptions::default());
    let mut out = Vec::new();
    flows.iter().try_for_each(|flow| encoder.flow(flow, &mut out))?;
    encoder.finish(&mut out)?;
    Ok(out)
}

/// A value as a tnetstring.
fn tnet(value: &Value) -> Vec<u8> {
    let mut out = super::frames::Frames::default();
    super::value::write(value, &mut out);
    out.bytes
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn raw(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

fn int(number: i64) -> Value {
    Value::Int(number.to_string())
}

fn dict<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Dict(pairs.into_iter().map(|(key, value)| (text(key), value)).collect())
}

/// A value in a dict of dicts.
fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, step| match value {
        Value::Dict(pairs) => {
            let found = pairs.iter_mut().find(|(key, _)| *key == text(step));
            &mut found.unwrap_or_else(|| panic!("no {path}")).1
        }
        other => panic!("{other:?} has no {step}"),
    })
}
