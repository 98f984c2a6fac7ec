//! The narrow row of a flow: what lists show and filters ask for.

use std::sync::Arc;

use rusqlite::CachedStatement;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::draft::{Draft, Parts};
use super::record::RecordAt;
use crate::flow::{Body, ConnId, Flow, FlowError, Headers, Kind, Mid, Scheme, State};

/// A flow as a list shows it, read without its record.
///
/// Text is what the peer sent with bytes that are not UTF-8 replaced; the record has the bytes themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its ticket.
    pub mid: Mid,
    /// What kind of thing happened.
    pub kind: Kind,
    /// How far it came.
    pub state: State,
    /// Method; empty without a request that could be parsed.
    pub method: String,
    /// Scheme of the target.
    pub scheme: Scheme,
    /// Host of the target, without brackets.
    pub host: String,
    /// Port of the target.
    pub port: u16,
    /// Path and query, or what stood in their place; at most 8 KiB of it.
    pub path: String,
    /// Status of the final response.
    pub status: Option<u16>,
    /// When it began: nanoseconds since 1970, UTC.
    pub started_unix_ns: i64,
    /// How long it took, in microseconds; `None` while it is open.
    pub duration_us: Option<u64>,
    /// `Content-Type` of the request.
    pub request_type: Option<String>,
    /// `Content-Type` of the response.
    pub response_type: Option<String>,
    /// Payload bytes of the request, and of a tunnel or a WebSocket those from the client.
    pub request_len: u64,
    /// Payload bytes of the response, and of a tunnel or a WebSocket those from the origin.
    pub response_len: u64,
    /// Side, stage and message of its error in one text. May quote a peer.
    pub error: Option<String>,
    /// The client's connection.
    pub client_conn: ConnId,
    /// The connection to the origin.
    pub server_conn: Option<ConnId>,
    /// The flow that this one is a replay of.
    pub replay_of: Option<Mid>,
    /// Whether a cap kept some of the request's body, or of a tunnel's from the client, out of the record.
    pub request_truncated: bool,
    /// The same of the response's, or of a tunnel's from the origin.
    pub response_truncated: bool,
}

/// Which rows a list gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListQuery {
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Only mids below this one.
    pub before: Option<Mid>,
    /// Only mids above this one.
    pub after: Option<Mid>,
    /// From which end.
    pub order: Order,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Highest mid first.
    #[default]
    NewestFirst,
    /// Lowest mid first.
    OldestFirst,
}

impl Row {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        // Lenient: a file from elsewhere may hold anything, and one bad field must not end a list.
        let int = |at| row.get_ref(at).map(|v| if let ValueRef::Integer(n) = v { Some(n) } else { None });
        let text = |at| {
            row.get_ref(at).map(|v| match v {
                ValueRef::Text(t) | ValueRef::Blob(t) => Some(String::from_utf8_lossy(t).into_owned()),
                _ => None,
            })
        };
        let number = |at| int(at).map(|n| n.and_then(|n| u64::try_from(n).ok()));
        let small = |at| int(at).map(|n| n.and_then(|n| u16::try_from(n).ok()));
        Ok(Self {
            mid: Mid(number(0)?.unwrap_or(0)),
            started_unix_ns: int(1)?.unwrap_or(0),
            duration_us: number(2)?,
            kind: kind(int(3)?),
            state: state(int(4)?),
            method: text(5)?.unwrap_or_default(),
            scheme: scheme(int(6)?),
            host: text(7)?.unwrap_or_default(),
            port: small(8)?.unwrap_or(0),
            path: text(9)?.unwrap_or_default(),
            status: small(10)?,
            request_type: text(11)?,
            response_type: text(12)?,
            request_len: number(13)?.unwrap_or(0),
            response_len: number(14)?.unwrap_or(0),
            error: text(15)?,
            client_conn: ConnId(number(16)?.unwrap_or(0)),
            server_conn: number(17)?.map(ConnId),
            replay_of: number(18)?.map(Mid),
            request_truncated: int(19)?.unwrap_or(0) & REQUEST_TRUNCATED != 0,
            response_truncated: int(19)?.unwrap_or(0) & RESPONSE_TRUNCATED != 0,
        })
    }
}

/// What [`Row::read`] reads, in its order, of tables of this version.
pub(super) fn columns(version: u32) -> String {
    format!("{COLUMNS}, {}", if version < 3 { "0" } else { "truncated" })
}

const COLUMNS: &str = "flow.mid, flow.started_unix_ns, duration_us, kind, state, method, scheme, \
     host.name, port, path, status, request_type, response_type, request_len, response_len, error, client_conn, \
     server_conn, replay_of";

pub(super) const INSERT: &str = "INSERT INTO flow (mid, session, started_unix_ns, duration_us, kind, state, method, \
     scheme, host, port, path, status, request_type, response_type, request_len, response_len, error, client_conn, \
     server_conn, replay_of, truncated, record_segment, record_offset, record_len) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24)";

/// How many values a row has.
const VALUES: usize = 24;

/// As [`INSERT`], for a flow that was written while it was open.
pub(super) const REPLACE: &str = "INSERT OR REPLACE INTO flow (mid, session, started_unix_ns, duration_us, kind, \
     state, method, scheme, host, port, path, status, request_type, response_type, request_len, response_len, error, \
     client_conn, server_conn, replay_of, truncated, record_segment, record_offset, record_len) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24)";

/// The values of a row that are numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) started_unix_ns: i64,
    pub(super) duration_us: Option<i64>,
    pub(super) kind: i64,
    pub(super) state: i64,
    pub(super) scheme: i64,
    pub(super) port: u16,
    pub(super) status: Option<u16>,
    pub(super) request_len: i64,
    pub(super) response_len: i64,
    pub(super) client_conn: i64,
    pub(super) server_conn: Option<i64>,
    pub(super) replay_of: Option<i64>,
    pub(super) truncated: i64,
}

impl Numbers {
    pub(super) fn of(flow: &Flow) -> Self {
        let (request, response, tunnel) =
            (flow.request.as_ref(), flow.response.as_ref(), flow.tunnel.as_ref());
        let len = |body: Option<&Body>, tunnel: Option<&Body>, messages: Option<u64>| {
            let bodies = body.map_or(0, |b| b.len).saturating_add(tunnel.map_or(0, |b| b.len));
            sqlite_int(bodies.saturating_add(messages.unwrap_or(0)))
        };
        let (from_client, from_server) = (tunnel.map(|t| &t.from_client), tunnel.map(|t| &t.from_server));
        let truncated = |body: Option<&Body>, tunnel: Option<&Body>, bit| {
            if [body, tunnel].into_iter().flatten().any(Body::is_truncated) { bit } else { 0 }
        };
        let websocket = flow.websocket.as_ref();
        Self {
            started_unix_ns: flow.timing.started_unix_ns,
            duration_us: flow.timing.end_us.map(sqlite_int),
            kind: kind_number(flow.kind),
            state: state_number(flow.state),
            scheme: scheme_number(flow.target.scheme),
            port: flow.target.port,
            status: response.map(|r| r.status),
            request_len: len(request.map(|r| &r.body), from_client, websocket.map(|w| w.len_from_client)),
            response_len: len(response.map(|r| &r.body), from_server, websocket.map(|w| w.len_from_server)),
            client_conn: sqlite_int(flow.client.id.0),
            server_conn: flow.server.as_ref().map(|s: &Arc<_>| sqlite_int(s.id.0)),
            replay_of: flow.replay_of.map(|mid| sqlite_int(mid.0)),
            truncated: truncated(request.map(|r| &r.body), from_client, REQUEST_TRUNCATED)
                | truncated(response.map(|r| &r.body), from_server, RESPONSE_TRUNCATED),
        }
    }
}

/// Appends the texts of a row, and notes their lengths.
pub(super) fn put_texts(flow: &Flow, bytes: &mut Vec<u8>, parts: &mut Parts) {
    let mut put = |text: &[u8]| {
        let before = bytes.len();
        if std::str::from_utf8(text).is_ok() {
            bytes.extend_from_slice(text);
            return text.len();
        }
        for chunk in text.utf8_chunks() {
            bytes.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                bytes.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        bytes.len() - before
    };
    fn content_type(headers: &Headers) -> Option<&[u8]> {
        headers.get("content-type").map(|t| cap(t, TYPE_BYTES))
    }
    let (request, response) = (flow.request.as_ref(), flow.response.as_ref());
    parts.host = put(flow.target.host.as_bytes());
    parts.method = put(request.map_or(&[], |r| cap(&r.method, TYPE_BYTES)));
    parts.path = put(cap(flow.path(), PATH_BYTES));
    parts.request_type = request.and_then(|r| content_type(&r.headers)).map(&mut put);
    parts.response_type = response.and_then(|r| content_type(&r.headers)).map(&mut put);
    parts.error = flow.error.as_ref().map(|error| put(error_text(error).as_bytes()));
}

/// The texts of a draft's row.
pub(super) struct Texts<'a> {
    pub(super) host: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) request_type: Option<&'a str>,
    pub(super) response_type: Option<&'a str>,
    pub(super) error: Option<&'a str>,
}

impl<'a> Texts<'a> {
    pub(super) fn of(draft: &Draft, bytes: &'a [u8]) -> Self {
        // Only put_texts writes them, whole characters each.
        let mut rest = std::str::from_utf8(&bytes[draft.texts()]).unwrap_or_default();
        let mut next = |len: usize| {
            let (text, after) = rest.split_at_checked(len).unwrap_or_default();
            rest = after;
            text
        };
        let parts = &draft.parts;
        Self {
            host: next(parts.host),
            method: next(parts.method),
            path: next(parts.path),
            request_type: parts.request_type.map(&mut next),
            response_type: parts.response_type.map(&mut next),
            error: parts.error.map(&mut next),
        }
    }
}

/// A statement that writes rows. What is as in the row before stays bound, which is most of it where rows of one client or host
/// stand together: binding all of it anew took almost as long as the insertion.
pub(super) struct Insertion<'c, 'a> {
    statement: CachedStatement<'c>,
    bound: [Option<ValueRef<'a>>; VALUES],
}

impl<'c, 'a> Insertion<'c, 'a> {
    /// Of [`INSERT`] or [`REPLACE`].
    pub(super) fn new(statement: CachedStatement<'c>) -> Self {
        Self { statement, bound: [None; VALUES] }
    }

    /// Writes the row of a flow.
    pub(super) fn write(
        &mut self,
        mid: Mid,
        session: i64,
        host: i64,
        numbers: &Numbers,
        texts: &Texts<'a>,
        record: Option<RecordAt>,
    ) -> rusqlite::Result<()> {
        let values = [
            number(Some(sqlite_int(mid.0))),
            number(Some(session)),
            number(Some(numbers.started_unix_ns)),
            number(numbers.duration_us),
            number(Some(numbers.kind)),
            number(Some(numbers.state)),
            text(Some(texts.method)),
            number(Some(numbers.scheme)),
            number(Some(host)),
            number(Some(numbers.port)),
            text(Some(texts.path)),
            number(numbers.status),
            text(texts.request_type),
            text(texts.response_type),
            number(Some(numbers.request_len)),
            number(Some(numbers.response_len)),
            text(texts.error),
            number(Some(numbers.client_conn)),
            number(numbers.server_conn),
            number(numbers.replay_of),
            number(Some(numbers.truncated)),
            number(record.map(|at| at.segment)),
            number(record.map(|at| sqlite_int(at.offset))),
            number(record.map(|at| sqlite_int(at.stored_len))),
        ];
        for (at, (bound, value)) in self.bound.iter_mut().zip(values).enumerate() {
            if *bound != Some(value) {
                self.statement.raw_bind_parameter(at + 1, ToSqlOutput::Borrowed(value))?;
                *bound = Some(value);
            }
        }
        self.statement.raw_execute()?;
        Ok(())
    }
}

fn text(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

fn number<'a>(number: Option<impl Into<i64>>) -> ValueRef<'a> {
    number.map_or(ValueRef::Null, |number| ValueRef::Integer(number.into()))
}

/// Side, stage and message as one text.
fn error_text(error: &FlowError) -> String {
    format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message)
}

pub(super) fn cap(text: &[u8], len: usize) -> &[u8] {
    text.get(..len).unwrap_or(text)
}

/// What of a path is worth having in each row; almost every server refuses longer ones.
pub(super) const PATH_BYTES: usize = 8 << 10;

/// Longer methods and types are somebody's joke.
pub(super) const TYPE_BYTES: usize = 256;

/// SQLite's integers are signed; nothing that we count comes near 2^63.
pub(super) fn sqlite_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bits of the column `truncated`.
pub(super) const REQUEST_TRUNCATED: i64 = 1;
pub(super) const RESPONSE_TRUNCATED: i64 = 2;

/// State of a row whose flow the proxy did not see end.
pub(super) const INTERRUPTED: i64 = 6;

fn state_number(state: State) -> i64 {
    match state {
        State::Open => 0,
        State::Complete => 1,
        State::ClientAborted => 2,
        State::ServerAborted => 3,
        State::Refused => 4,
        State::Failed => 5,
        State::Interrupted => INTERRUPTED,
    }
}

pub(super) fn state(number: Option<i64>) -> State {
    match number {
        Some(0) => State::Open,
        Some(1) => State::Complete,
        Some(2) => State::ClientAborted,
        Some(3) => State::ServerAborted,
        Some(4) => State::Refused,
        Some(INTERRUPTED) => State::Interrupted,
        _ => State::Failed,
    }
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Http => 0,
        Kind::Connect => 1,
        Kind::Tunnel => 2,
        Kind::Tls => 3,
    }
}

pub(super) fn kind(number: Option<i64>) -> Kind {
    match number {
        Some(1) => Kind::Connect,
        Some(2) => Kind::Tunnel,
        Some(3) => Kind::Tls,
        _ => Kind::Http,
    }
}

fn scheme_number(scheme: Scheme) -> i64 {
    match scheme {
        Scheme::Http => 0,
        Scheme::Https => 1,
        Scheme::Tcp => 2,
    }
}

pub(super) fn scheme(number: Option<i64>) -> Scheme {
    match number {
        Some(0) => Scheme::Http,
        Some(1) => Scheme::Https,
        _ => Scheme::Tcp,
    }
}
