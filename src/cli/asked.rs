//! Flows without their answers, for formats that write what was asked and nothing else: who counts what was masked must not
//! count what no such file has.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::flow::{Flow, Message, Note};
use crate::format::redact::Redacting;
use crate::format::transfer::{EncodeError, Encoder, Item, Part};

/// A masking encoder that is given requests alone.
#[derive(Debug)]
pub(super) struct Asking(pub(super) Redacting);

impl Encoder for Asking {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        self.0.flow(&Asked::of(item), out)
    }

    fn next_store(&mut self) {
        self.0.next_store();
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.0.finish(out)
    }
}

/// A flow of which nothing but the request is left.
struct Asked<'a> {
    whole: &'a dyn Item,
    flow: Flow,
}

impl<'a> Asked<'a> {
    fn of(whole: &'a dyn Item) -> Self {
        let mut flow = Flow { response: None, interim: Vec::new(), ..whole.flow().clone() };
        if flow.client.connect.is_some() {
            Arc::make_mut(&mut flow.client).connect = None;
        }
        Self { whole, flow }
    }
}

impl Item for Asked<'_> {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        self.whole.note()
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        if part == Part::Request { self.whole.body(part) } else { Ok(None) }
    }

    fn messages(&self, _: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        Ok(())
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        self.whole.payload(message)
    }
}
