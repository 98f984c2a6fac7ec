//! The reader: the frame of an archive, entry by entry, and how it goes on behind a broken one.

use std::io::BufRead;

use serde_json::Value as Json;

use crate::format::json::{JsonError, Kind, Mark, Reader};
use crate::format::transfer::{DecodeError, Decoded, Decoder, Sink};

use super::build::{self, BuildError, File, Texts};
use super::entry;
use super::spool::Spool;

/// Reads an archive.
pub(super) struct HarDecoder {
    json: Reader<Box<dyn BufRead + Send>>,
    state: Place,
    /// What is open around the entries.
    around: Mark,
    /// How entries of this archive begin.
    first_names: Vec<String>,
    file: File,
    spool: Spool,
    records: Spool,
    has_entries: bool,
}

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first byte.
    Begin,
    /// Among the entries.
    Entries,
    /// Inside a broken entry, of which was told.
    Broken,
    /// Where nothing more is to be had.
    End,
}

/// What stands next among the entries.
enum Found {
    /// An entry, which was entered: where it begins.
    Entry(u64),
    /// Something else, which was passed over.
    Other(u64),
    /// Nothing more.
    End,
}

impl HarDecoder {
    /// Begins at the first byte of `file`.
    pub(super) fn new(file: Box<dyn BufRead + Send>) -> Self {
        Self {
            json: Reader::new(file),
            state: Place::Begin,
            around: Mark::default(),
            first_names: FIRST_NAMES.iter().map(|name| (*name).to_owned()).collect(),
            file: File::default(),
            spool: Spool::default(),
            records: Spool::default(),
            has_entries: false,
        }
    }
}

impl Decoder for HarDecoder {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        // Behind a broken entry, what has no request may be no entry at all, but something inside of one.
        let mut is_sure = true;
        loop {
            let begin = match self.next_entry(&mut is_sure) {
                Ok(Found::Entry(begin)) => begin,
                Ok(Found::Other(position)) => {
                    return Err(DecodeError::Flow { position, what: "an entry is an object".to_owned() });
                }
                Ok(Found::End) => {
                    self.state = Place::End;
                    return Ok(None);
                }
                Err(error) => return Err(self.failed(error)),
            };
            let conns = &mut self.file.conns;
            let entry = match entry::read(&mut self.json, &mut self.spool, &mut self.records, conns) {
                Ok(entry) => entry,
                Err(error) => return Err(self.failed(error)),
            };
            self.learn(&entry.first_name);
            if !is_sure && entry.request.is_none() {
                self.state = Place::Broken;
                continue;
            }
            let mut texts = Texts { spool: &mut self.spool, records: &mut self.records, sink };
            return match build::flow(entry, &mut texts, &mut self.file) {
                Ok(decoded) => Ok(Some(decoded)),
                Err(BuildError::Entry(what)) => Err(DecodeError::Flow { position: begin, what }),
                Err(BuildError::Io(error)) => {
                    self.state = Place::End;
                    Err(error.into())
                }
            };
        }
    }
}

impl HarDecoder {
    /// Enters the next entry.
    fn next_entry(&mut self, is_sure: &mut bool) -> Result<Found, JsonError> {
        loop {
            match self.state {
                Place::End => return Ok(Found::End),
                Place::Begin => {
                    self.json.skip_byte_order_mark()?;
                    if self.json.peek()? != Kind::Object {
                        return Err(self.wrong("an archive is an object"));
                    }
                    self.json.enter_object()?;
                    if !self.members()? {
                        return Err(self.wrong("there is no `log.entries`: this is no HAR"));
                    }
                }
                Place::Broken => {
                    *is_sure = false;
                    if !self.json.find_object(&self.first_names, &self.around)? {
                        return Ok(Found::End);
                    }
                    self.state = Place::Entries;
                    return Ok(Found::Entry(self.json.position()));
                }
                Place::Entries => {
                    if !self.json.next_value()? {
                        if self.members()? {
                            continue;
                        }
                        if !self.json.is_at_end()? {
                            return Err(self.wrong("something stands behind the end of the archive"));
                        }
                        return Ok(Found::End);
                    }
                    let begin = self.json.position();
                    if self.json.peek()? != Kind::Object {
                        self.json.skip()?;
                        return Ok(Found::Other(begin));
                    }
                    self.json.enter_object()?;
                    return Ok(Found::Entry(begin));
                }
            }
        }
    }

    /// Reads what stands around the entries, up to the first of them; `false` at the end.
    fn members(&mut self) -> Result<bool, JsonError> {
        let mut name = String::new();
        while self.json.depth() > 0 {
            if !self.json.next_member(&mut name)? {
                continue;
            }
            let kind = self.json.peek()?;
            match name.as_str() {
                "log" if self.json.depth() == 1 && kind == Kind::Object => self.json.enter_object()?,
                "entries" if kind == Kind::Array => {
                    self.json.enter_array()?;
                    self.around = self.json.mark();
                    self.state = Place::Entries;
                    self.has_entries = true;
                    return Ok(true);
                }
                "creator" => self.file.creator = self.program()?,
                "browser" => self.file.browser = self.program()?,
                "pages" if kind == Kind::Array => self.pages()?,
                _ => self.json.skip()?,
            }
        }
        Ok(false)
    }

    /// Name and version of a program.
    fn program(&mut self) -> Result<String, JsonError> {
        let program = entry::small_value(&mut self.json)?.unwrap_or_default();
        let text = |name: &str| program.get(name).and_then(Json::as_str).unwrap_or_default();
        Ok(format!("{} {}", text("name"), text("version")).trim().to_owned())
    }

    fn pages(&mut self) -> Result<(), JsonError> {
        self.json.enter_array()?;
        while self.json.next_value()? {
            let begin = self.json.position();
            let page = entry::small_value(&mut self.json)?.unwrap_or_default();
            let len = self.json.position() - begin;
            let Some(id) = page.get("id").and_then(Json::as_str).map(str::to_owned) else { continue };
            self.file.pages_len += len;
            if self.file.pages_len <= MOST_PAGES_LEN {
                self.file.pages.insert(id, page);
            } else {
                self.file.lacks_pages = true;
            }
        }
        Ok(())
    }

    fn learn(&mut self, first_name: &str) {
        if self.first_names.len() < MOST_FIRST_NAMES
            && !self.first_names.iter().any(|known| known == first_name)
        {
            self.first_names.push(first_name.to_owned());
        }
    }

    /// What to say of an error, and where to go on: among the entries, with the next of them.
    fn failed(&mut self, error: JsonError) -> DecodeError {
        let may_go_on = self.has_entries && matches!(error, JsonError::Syntax { .. });
        self.state = if may_go_on { Place::Broken } else { Place::End };
        match error {
            JsonError::Syntax { position, what } if may_go_on => DecodeError::Flow { position, what },
            JsonError::Syntax { position, what } => DecodeError::File { position, what },
            JsonError::End { position } => DecodeError::File {
                position,
                what: "the file ends too early: what came before is whole, the rest is missing".to_owned(),
            },
            JsonError::Io(error) => DecodeError::Io(error),
        }
    }

    fn wrong(&self, what: &str) -> JsonError {
        JsonError::Syntax { position: self.json.position(), what: what.to_owned() }
    }
}

/// How entries begin in the archives of browsers and proxies; the archive's own way is learnt with its first entry.
const FIRST_NAMES: &[&str] = &[
    "startedDateTime",
    "pageref",
    "_connectionId",
    "_initiator",
    "_initiator_type",
    "_priority",
    "_resourceType",
    "_fromCache",
    "_webSocketMessages",
    "_request_id",
    "serverIPAddress",
];

/// Arbitrary: entries of one archive begin in one or two ways.
const MOST_FIRST_NAMES: usize = 32;

/// Bytes of all pages that are kept, as they stand in the archive; as values in memory they take several times as much. A
/// page has some hundred, and an archive a few pages.
const MOST_PAGES_LEN: u64 = 1 << 20;
