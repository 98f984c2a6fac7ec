//! A flow of a store, as formats see it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use crate::flow::{BodyEnd, Content, Flow, Message, Mid, Note};
use crate::format::transfer::{Item, Part};
use crate::store::{BodyReader, Reader, StoreError};

/// A flow of a store. Bodies up to 1 MiB are in memory, larger ones are read as they are asked for.
#[derive(Debug)]
pub struct StoredItem<'a> {
    reader: &'a Reader,
    mid: Mid,
    flow: Flow,
    note: Note,
    /// Which message was the first that could not be read when they were last gone through, and how many there were.
    lost: Cell<Option<(u64, u64)>>,
}

impl<'a> StoredItem<'a> {
    /// Reads the flow with this mid, and reads through its bodies once, so that what is damaged is known before anything of it
    /// is written elsewhere. Bodies of more than `max_body` bytes are left out, as if a cap had kept them out of the
    /// record. `None` if there is no such flow.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the record or a body is not what was written; else what the store said.
    pub fn read(reader: &'a Reader, mid: Mid, max_body: u64) -> Result<Option<Self>, StoreError> {
        let Some(flow) = reader.load(mid, IN_MEMORY.min(max_body))? else { return Ok(None) };
        let note = reader.notes(&[mid])?.remove(&mid).unwrap_or_default();
        Self::of(reader, mid, flow, note, max_body).map(Some)
    }

    fn of(
        reader: &'a Reader,
        mid: Mid,
        mut flow: Flow,
        note: Note,
        max_body: u64,
    ) -> Result<Self, StoreError> {
        each_body(&mut flow, |body| {
            if body.recorded_len() > max_body {
                body.content = Content::Absent;
                if body.end == BodyEnd::Whole {
                    body.end = BodyEnd::Capped;
                }
            }
        });
        let item = Self { reader, mid, flow, note, lost: Cell::new(None) };
        for part in PARTS {
            if let Some(Content::Extents(_)) = part.content(&item.flow) {
                let passed =
                    item.stream(Place::Body(part)).and_then(|mut r| io::copy(&mut r, &mut io::sink()));
                passed.map_err(|e| StoreError::Damaged {
                    path: reader.path().to_owned(),
                    detail: format!("a body of flow {mid}: {e}"),
                })?;
            }
        }
        Ok(item)
    }

    /// What of it could not be read, though the rest could: messages, where [`Item::messages`] has come upon them.
    #[must_use]
    pub fn what_is_lost(&self) -> Option<String> {
        self.lost.get().map(|(first, count)| match count {
            1 => format!("message {first} is damaged in the store"),
            _ => format!("{count} messages are damaged in the store, the first of them is {first}"),
        })
    }

    /// The message, without its payload where that is damaged.
    fn sound(&self, message: Message) -> Message {
        if !matches!(message.content, Content::Extents(_)) {
            return message;
        }
        let stream = self.stream(Place::Message(message.clone()));
        if stream.and_then(|mut stream| io::copy(&mut stream, &mut io::sink())).is_ok() {
            return message;
        }
        let (first, count) = self.lost.get().unwrap_or((message.seq, 0));
        self.lost.set(Some((first, count + 1)));
        Message { content: Content::Absent, end: BodyEnd::Lost, ..message }
    }

    fn stream(&self, place: Place) -> io::Result<Stream<'_>> {
        let content = match &place {
            Place::Body(part) => part.content(&self.flow).cloned().unwrap_or_default(),
            Place::Message(message) => message.content.clone(),
        };
        let open = self.reader.content(&content).map_err(io::Error::other)?;
        Ok(Stream { item: self, place, content, open, passed: 0 })
    }
}

impl Item for StoredItem<'_> {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        &self.note
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        match part.content(&self.flow) {
            None | Some(Content::Absent) => Ok(None),
            Some(Content::Inline(bytes)) => Ok(Some(Box::new(&bytes[..]))),
            Some(Content::Extents(_)) => Ok(Some(Box::new(self.stream(Place::Body(part))?))),
        }
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.lost.set(None);
        let mut after = 0;
        loop {
            let page = self.reader.messages(self.mid, after, PAGE).map_err(io::Error::other)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            // That a payload is damaged has to be known before anything of it is written elsewhere, as with bodies.
            page.into_iter().try_for_each(|message| each(&self.sound(message)))?;
        }
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.stream(Place::Message(message.clone()))?))
    }
}

/// Records of some flows, read at one moment with the connections that they share: a quarter of the work of reading each by
/// itself. Bodies follow with each flow, for all of them together may be more than fits into the memory.
#[derive(Debug)]
pub(super) struct Few<'a> {
    reader: &'a Reader,
    max_body: u64,
    flows: HashMap<Mid, Flow>,
    notes: BTreeMap<Mid, Note>,
}

impl<'a> Few<'a> {
    /// Records in memory at a time.
    pub(super) const MOST: usize = 32;

    /// Reads what can be read; the rest is tried again by itself, and told then.
    pub(super) fn read(reader: &'a Reader, mids: &[Mid], max_body: u64) -> Self {
        let (flows, notes) = match (reader.flows(mids), reader.notes(mids)) {
            (Ok(flows), Ok(notes)) => (flows, notes),
            _ => (Vec::new(), BTreeMap::new()),
        };
        let flows = flows.into_iter().filter_map(|flow| Some((flow.mid?, flow))).collect();
        Self { reader, max_body, flows, notes }
    }

    /// As [`StoredItem::read`].
    ///
    /// # Errors
    /// As [`StoredItem::read`].
    pub(super) fn item(&mut self, mid: Mid) -> Result<Option<StoredItem<'a>>, StoreError> {
        let Self { reader, max_body, .. } = *self;
        if let Some(mut flow) = self.flows.remove(&mid)
            && reader.load_bodies(&mut flow, IN_MEMORY.min(max_body)).is_ok()
        {
            let note = self.notes.remove(&mid).unwrap_or_default();
            return StoredItem::of(reader, mid, flow, note, max_body).map(Some);
        }
        // Its bytes may have been moved meanwhile, or it is named twice, or damaged, or not there.
        StoredItem::read(reader, mid, max_body)
    }
}

/// What of the flow is read.
enum Place {
    Body(Part),
    Message(Message),
}

/// Reads on where a writer has moved the bytes meanwhile.
struct Stream<'a> {
    item: &'a StoredItem<'a>,
    place: Place,
    content: Content,
    open: BodyReader,
    passed: u64,
}

impl Stream<'_> {
    /// Where the bytes are by now, if that is not where they were.
    fn moved(&self) -> Option<Content> {
        let (reader, mid) = (self.item.reader, self.item.mid);
        let now = match &self.place {
            Place::Body(part) => part.content(&reader.flow(mid).ok()??)?.clone(),
            Place::Message(message) => {
                let before = message.seq.checked_sub(1)?;
                let found = reader.messages(mid, before, 1).ok()?.pop()?;
                (found.seq == message.seq).then_some(found.content)?
            }
        };
        (now != self.content).then_some(now)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failed = match self.open.read(buffer) {
                Ok(len) => {
                    self.passed += len as u64;
                    return Ok(len);
                }
                Err(error) => error,
            };
            let Some(now) = self.moved() else { return Err(failed) };
            let mut open = self.item.reader.content(&now).map_err(io::Error::other)?;
            // The same bytes, wherever they lie.
            io::copy(&mut (&mut open).take(self.passed), &mut io::sink())?;
            (self.content, self.open) = (now, open);
        }
    }
}

/// As [`Part::content`], to be changed.
pub(super) fn content_mut(flow: &mut Flow, part: Part) -> Option<&mut Content> {
    Some(match part {
        Part::Request => &mut flow.request.as_mut()?.body.content,
        Part::Response => &mut flow.response.as_mut()?.body.content,
        Part::FromClient => &mut flow.tunnel.as_mut()?.from_client.content,
        Part::FromServer => &mut flow.tunnel.as_mut()?.from_server.content,
        Part::Message(_) => return None,
    })
}

/// Changes all bodies of a flow.
pub(super) fn each_body(flow: &mut Flow, mut change: impl FnMut(&mut crate::flow::Body)) {
    let tunnel = flow.tunnel.as_mut().map(|tunnel| [&mut tunnel.from_client, &mut tunnel.from_server]);
    let request = flow.request.as_mut().map(|request| &mut request.body);
    let response = flow.response.as_mut().map(|response| &mut response.body);
    request.into_iter().chain(response).chain(tunnel.into_iter().flatten()).for_each(&mut change);
}

/// All bodies that a flow may have.
pub(super) const PARTS: [Part; 4] = [Part::Request, Part::Response, Part::FromClient, Part::FromServer];

/// Reading a body of this size at once costs less than opening its segment twice.
const IN_MEMORY: u64 = 1 << 20;

/// Messages of a WebSocket that are read at once.
const PAGE: usize = 256;
