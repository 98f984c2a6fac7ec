//! What the columns of a row answer, read where SQLite has them, without copies; and what is looked up beside them.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension as _, params};

use super::super::index::Ask;
use super::super::row;
use super::super::{Reader, StoreError};
use crate::filter::{Expr, Flag, Notes, Number, Part, Pattern, Ranges, Subject, Test, Text, is_asset, url};
use crate::flow::{Kind, Mid, Side, Stage, State};

pub(super) use row::TYPE_BYTES;

/// The columns that a filter asks for.
#[derive(Debug)]
pub(super) struct Columns {
    /// Where each of [`NAMES`] stands in a row; `None` if it is not read.
    places: [Option<usize>; NAMES.len()],
    version: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Mid,
    Started,
    Duration,
    Kind,
    State,
    Method,
    Scheme,
    Host,
    Port,
    Path,
    Status,
    RequestType,
    ResponseType,
    RequestLen,
    ResponseLen,
    Error,
    ClientConn,
    ServerConn,
    ReplayOf,
    Truncated,
}

/// By their number as [`Column`].
const NAMES: [&str; 20] = [
    "flow.mid",
    "flow.started_unix_ns",
    "duration_us",
    "kind",
    "state",
    "method",
    "scheme",
    "flow.host",
    "port",
    "path",
    "status",
    "request_type",
    "response_type",
    "request_len",
    "response_len",
    "error",
    "client_conn",
    "server_conn",
    "replay_of",
    "truncated",
];

impl Columns {
    pub(super) fn of(expr: &Expr, version: u32) -> Self {
        let mut wanted = [false; NAMES.len()];
        wanted[Column::Mid as usize] = true;
        expr.each_test(&mut |test| {
            columns_of(test).iter().for_each(|&column| wanted[column as usize] = true)
        });
        let mut next = 0;
        let places = wanted.map(|wanted| {
            next += usize::from(wanted);
            wanted.then(|| next - 1)
        });
        Self { places, version }
    }

    /// For a SELECT.
    pub(super) fn list(&self) -> String {
        let names = NAMES.iter().zip(&self.places).filter(|(_, place)| place.is_some());
        let names = names.map(|(&name, _)| match name {
            "truncated" if self.version < 3 => "0",
            // SQLite copies a text to put a zero behind it before it gives it out, and not a blob.
            "path" => "CAST(path AS BLOB)",
            name => name,
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

fn columns_of(test: &Test) -> &'static [Column] {
    use Column as C;
    match test {
        Test::Everything | Test::Nothing(_) => &[],
        Test::Flag(flag) => match flag {
            Flag::Http | Flag::Tunnel => &[C::Kind],
            Flag::WebSocket => &[C::Kind, C::Status, C::Method],
            Flag::Pending | Flag::Answered => &[C::Kind, C::Status],
            Flag::Error => &[C::Error],
            Flag::Marked => &[],
            Flag::Replay => &[C::ReplayOf],
            Flag::Asset => &[C::ResponseType],
            Flag::Truncated => &[C::Truncated],
            Flag::TlsFailed => &[C::Kind, C::Error],
            Flag::Open => &[C::State],
        },
        Test::Number(number, _) => match number {
            Number::Status => &[C::Status],
            Number::Size(_) => &[C::RequestLen, C::ResponseLen],
            Number::Duration => &[C::Duration],
            Number::Started => &[C::Started],
            Number::Mid => &[],
            Number::Port => &[C::Port],
        },
        Test::Text(text, _) => match text {
            Text::Url => &[C::Kind, C::Scheme, C::Host, C::Port, C::Path],
            Text::Host => &[C::Host],
            Text::Path => &[C::Path],
            Text::Method => &[C::Method],
            Text::Scheme => &[C::Scheme],
            Text::Type(_) => &[C::RequestType, C::ResponseType],
            Text::Body(_) => &[C::State, C::RequestLen, C::ResponseLen],
            Text::Client => &[C::ClientConn],
            Text::Server => &[C::ServerConn],
            Text::Header(_) | Text::Marker | Text::Comment | Text::Tag => &[],
        },
    }
}

/// A row that is asked.
pub(super) struct RowSubject<'a, 'b> {
    row: &'a rusqlite::Row<'a>,
    columns: &'a Columns,
    lookups: &'a mut Lookups<'b>,
}

impl<'a, 'b> RowSubject<'a, 'b> {
    pub(super) fn new(
        row: &'a rusqlite::Row<'a>,
        columns: &'a Columns,
        lookups: &'a mut Lookups<'b>,
    ) -> Self {
        Self { row, columns, lookups }
    }

    pub(super) fn mid(&self) -> i64 {
        self.int(Column::Mid).unwrap_or(0)
    }

    fn value(&self, column: Column) -> ValueRef<'a> {
        let place = self.columns.places[column as usize];
        place.and_then(|place| self.row.get_ref(place).ok()).unwrap_or(ValueRef::Null)
    }

    fn int(&self, column: Column) -> Option<i64> {
        if let ValueRef::Integer(n) = self.value(column) { Some(n) } else { None }
    }

    fn text(&self, column: Column) -> Option<&'a [u8]> {
        match self.value(column) {
            ValueRef::Text(text) | ValueRef::Blob(text) => Some(text),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        row::kind(self.int(Column::Kind))
    }

    fn flag(&mut self, flag: Flag) -> Result<Option<bool>, StoreError> {
        let http = matches!(self.kind(), Kind::Http | Kind::Connect);
        let status = self.int(Column::Status);
        Ok(Some(match flag {
            Flag::Http => http,
            Flag::Tunnel => self.kind() == Kind::Tunnel,
            // An upgrade may be to something else.
            Flag::WebSocket => {
                let method = self.text(Column::Method);
                let may = self.kind() == Kind::Http && (status == Some(101) || method == Some(b"CONNECT"));
                return Ok(if may { None } else { Some(false) });
            }
            Flag::Pending => http && status.is_none(),
            Flag::Answered => http && status.is_some(),
            Flag::Error => self.text(Column::Error).is_some(),
            Flag::Marked => !self.lookups.notes(self.mid())?.marker.is_empty(),
            Flag::Replay => self.int(Column::ReplayOf).is_some(),
            Flag::Asset => match self.text(Column::ResponseType) {
                Some(media_type) if media_type.len() >= TYPE_BYTES => return Ok(None),
                media_type => media_type.is_some_and(is_asset),
            },
            Flag::Truncated => self.int(Column::Truncated).unwrap_or(0) != 0,
            Flag::TlsFailed => self.kind() == Kind::Tls || self.text(Column::Error).is_some_and(is_of_tls),
            Flag::Open => row::state(self.int(Column::State)) == State::Open,
        }))
    }

    fn number(&self, number: Number, ranges: &Ranges) -> bool {
        let number = match number {
            Number::Status => self.int(Column::Status),
            Number::Size(part) => {
                let request = self.int(Column::RequestLen).unwrap_or(0);
                let response = self.int(Column::ResponseLen).unwrap_or(0);
                Some(match part {
                    Part::Request => request,
                    Part::Response => response,
                    Part::Either => request.saturating_add(response),
                })
            }
            Number::Duration => self.int(Column::Duration),
            Number::Started => self.int(Column::Started),
            Number::Mid => self.int(Column::Mid),
            Number::Port => self.int(Column::Port),
        };
        number.is_some_and(|number| ranges.contains(number))
    }

    /// A text of the row; not known if it may have been cut when it was written.
    fn matches(&self, column: Column, cut_at: usize, pattern: &Pattern) -> Option<bool> {
        match self.text(column) {
            None => Some(false),
            Some(text) if text.len() >= cut_at => None,
            Some(text) => Some(pattern.is_match(text)),
        }
    }

    fn matches_url(&mut self, pattern: &Pattern) -> Result<Option<bool>, StoreError> {
        let path = self.text(Column::Path).unwrap_or_default();
        if path.len() >= row::PATH_BYTES {
            return Ok(None);
        }
        let path = std::str::from_utf8(path).map_or_else(|_| String::from_utf8_lossy(path), Cow::Borrowed);
        let (kind, scheme) = (self.kind(), row::scheme(self.int(Column::Scheme)));
        let port = self.int(Column::Port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let id = self.int(Column::Host).unwrap_or(0);
        let mut buffer = std::mem::take(&mut self.lookups.buffer);
        let host = self.lookups.host(id)?;
        let answer = pattern.is_match(url(kind, (scheme, host, port), &path, &mut buffer).as_bytes());
        self.lookups.buffer = buffer;
        Ok(Some(answer))
    }
}

impl Subject for RowSubject<'_, '_> {
    type Error = StoreError;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, StoreError> {
        let (text, pattern) = match test {
            Test::Everything => return Ok(Some(true)),
            Test::Nothing(_) => return Ok(Some(false)),
            Test::Flag(flag) => return self.flag(*flag),
            Test::Number(number, ranges) => return Ok(Some(self.number(*number, ranges))),
            Test::Text(text, pattern) => (*text, pattern),
        };
        Ok(match text {
            Text::Url => self.matches_url(pattern)?,
            Text::Host => {
                let id = self.int(Column::Host).unwrap_or(0);
                Some(pattern.is_match(self.lookups.host(id)?.as_bytes()))
            }
            Text::Path => self.matches(Column::Path, row::PATH_BYTES, pattern),
            Text::Method => self.matches(Column::Method, TYPE_BYTES, pattern),
            Text::Scheme => Some(pattern.is_match(row::scheme(self.int(Column::Scheme)).as_str().as_bytes())),
            Text::Type(part) => {
                let request = || self.matches(Column::RequestType, TYPE_BYTES, pattern);
                let response = || self.matches(Column::ResponseType, TYPE_BYTES, pattern);
                match part {
                    Part::Request => request(),
                    Part::Response => response(),
                    Part::Either => match (request(), response()) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    },
                }
            }
            Text::Header(_) => None,
            Text::Body(part) => {
                let lens = [(Part::Response, Column::RequestLen), (Part::Request, Column::ResponseLen)];
                let mut lens = lens.into_iter().filter(|&(other, _)| part != other);
                let nothing = lens.all(|(_, column)| self.int(column) == Some(0));
                // The lengths of a flow that was not seen to end may be those of its beginning.
                let ended = !matches!(row::state(self.int(Column::State)), State::Open | State::Interrupted);
                if pattern.matches_empty() {
                    return Ok(None);
                }
                if nothing && ended {
                    return Ok(Some(false));
                }
                match self.lookups.bodies.may_match(Mid(self.mid().cast_unsigned()), part, pattern)? {
                    true => None,
                    false => Some(false),
                }
            }
            Text::Client => self
                .lookups
                .conn(self.int(Column::ClientConn).unwrap_or(0), Side::Client)?
                .map(|addresses| addresses.iter().any(|address| pattern.is_match(address.as_bytes()))),
            Text::Server => match self.int(Column::ServerConn) {
                None => Some(false),
                Some(id) => self
                    .lookups
                    .conn(id, Side::Server)?
                    .map(|addresses| addresses.iter().any(|address| pattern.is_match(address.as_bytes()))),
            },
            Text::Marker => Some(pattern.is_match(self.lookups.notes(self.mid())?.marker.as_bytes())),
            Text::Comment => Some(pattern.is_match(self.lookups.notes(self.mid())?.comment.as_bytes())),
            Text::Tag => {
                let tags = &self.lookups.notes(self.mid())?.tags;
                Some(tags.iter().any(|tag| pattern.is_match(tag.as_bytes())))
            }
        })
    }
}

/// Whether an error's text, as a row has it, is of a TLS handshake.
fn is_of_tls(error: &[u8]) -> bool {
    [Side::Client, Side::Server, Side::Proxy].iter().any(|side| {
        let rest = error.strip_prefix(side.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
        let rest = rest.and_then(|rest| rest.strip_prefix(Stage::Tls.as_str().as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b": "))
    })
}

/// What stands beside a row, read when it is asked for and remembered: the next rows are often of the same host and
/// connections.
#[derive(Debug)]
pub(super) struct Lookups<'a> {
    reader: &'a Reader,
    has_notes: bool,
    has_tags: bool,
    hosts: HashMap<i64, Box<str>>,
    conns: HashMap<(i64, bool), Option<Vec<String>>>,
    notes: (Option<i64>, Notes),
    bodies: Ask<'a>,
    /// Where URLs are put together.
    buffer: String,
}

impl<'a> Lookups<'a> {
    pub(super) fn new(reader: &'a Reader, has_notes: bool, has_tags: bool, bodies: Ask<'a>) -> Self {
        Self {
            reader,
            has_notes,
            has_tags,
            bodies,
            hosts: HashMap::new(),
            conns: HashMap::new(),
            notes: (None, Notes::default()),
            buffer: String::new(),
        }
    }

    /// The name of a host; empty if there is no such.
    fn host(&mut self, id: i64) -> Result<&str, StoreError> {
        if !self.hosts.contains_key(&id) {
            let fail = |e| StoreError::sqlite(&self.reader.paths.db, "reading a host", e);
            let mut statement = self.reader.conn.prepare_cached(HOST).map_err(fail)?;
            let name = statement.query_row([id], |row| text(row, 0)).optional().map_err(fail)?;
            if self.hosts.len() >= REMEMBERED {
                self.hosts.clear();
            }
            self.hosts.insert(id, name.unwrap_or_default().into());
        }
        Ok(self.hosts.get(&id).map_or("", |name| name))
    }

    /// The addresses of a connection's other end; `None` if there is no row of it, so that the record has to tell.
    fn conn(&mut self, id: i64, side: Side) -> Result<Option<&[String]>, StoreError> {
        let key = (id, side == Side::Client);
        if !self.conns.contains_key(&key) {
            let id = id.cast_unsigned();
            let addresses = match side {
                _ if id == 0 => None,
                Side::Client => {
                    let conn = self.reader.client_conn(id);
                    conn.map(|conn| conn.map(|c| c.peer.iter().map(ToString::to_string).collect()))
                        .or_else(unless_damaged)?
                }
                Side::Server | Side::Proxy => {
                    let conn = self.reader.server_conn(id);
                    conn.map(|conn| {
                        conn.map(|c| {
                            std::iter::once(&c.address).chain(&c.peer).map(ToString::to_string).collect()
                        })
                    })
                    .or_else(unless_damaged)?
                }
            };
            if self.conns.len() >= REMEMBERED {
                self.conns.clear();
            }
            self.conns.insert(key, addresses);
        }
        Ok(self.conns.get(&key).and_then(|addresses| addresses.as_deref()))
    }

    /// What was noted about a flow.
    fn notes(&mut self, mid: i64) -> Result<&Notes, StoreError> {
        if self.notes.0 != Some(mid) {
            let fail = |e| StoreError::sqlite(&self.reader.paths.db, "reading notes", e);
            let mut notes = Notes::default();
            if self.has_notes {
                let mut statement = self.reader.conn.prepare_cached(NOTE).map_err(fail)?;
                let note = statement.query_row([mid], |row| Ok((text(row, 0)?, text(row, 1)?))).optional();
                (notes.marker, notes.comment) = note.map_err(fail)?.unwrap_or_default();
            }
            if self.has_tags {
                let mut statement = self.reader.conn.prepare_cached(TAGS).map_err(fail)?;
                let tags = statement.query_map(params![mid, MAX_TAGS], |row| text(row, 0)).map_err(fail)?;
                notes.tags = tags.collect::<Result<_, _>>().map_err(fail)?;
            }
            self.notes = (Some(mid), notes);
        }
        Ok(&self.notes.1)
    }
}

/// A connection whose record is damaged is one of which nothing is known.
fn unless_damaged<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    match error {
        StoreError::Damaged { .. } => Ok(None),
        error => Err(error),
    }
}

/// Lenient, as [`super::super::Row`] is.
fn text(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    })
}

/// Hosts, and connections, that are remembered; beyond that, all are forgotten and looked up anew.
const REMEMBERED: usize = 4096;

/// A file from elsewhere may hold any number.
const MAX_TAGS: i64 = 1000;

const HOST: &str = "SELECT name FROM host WHERE id = ?1";
const NOTE: &str = "SELECT marker, comment FROM note WHERE mid = ?1";
const TAGS: &str = "SELECT name FROM tag WHERE mid = ?1 ORDER BY name LIMIT ?2";
