//! Reading a store: any number at a time, beside a writer, none of them in its way.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::body::BodyReader;
use super::db_file::DbFile;
use super::flows::Conns;
use super::message;
use super::paths::Paths;
use super::record::{Found, RecordFiles};
use super::row::{self, sqlite_int};
use super::schema::{self, Contents};
use super::source::{Source, packed};
use super::{Blocks, HostSet, ListQuery, Order, Row, StoreError, Urls};
use crate::codec::{self, KnownConns};
use crate::flow::{Body, ClientConn, Content, Flow, Message, Mid, ServerConn};

/// A read-only connection to a store, with the segment files beside it.
#[derive(Debug)]
pub struct Reader {
    pub(super) conn: Connection,
    pub(super) paths: Paths,
    pub(super) source: Arc<Source>,
    pub(super) records: RecordFiles,
    /// The version of its tables: an older one lacks columns. A writer may come and upgrade it.
    version: Cell<u32>,
    /// Of [`Reader::stored`], for its next call.
    pub(super) conns: RefCell<Conns>,
    /// Behind the connection, which it outlives.
    _file: DbFile,
}

impl Reader {
    /// Opens the store at `path`, which may have a writer, also in another process.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotAStore`], [`StoreError::NewerSchema`] and [`StoreError::UnreadableLog`] as
    /// they say; else what the system or SQLite said.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        let Some(file) = DbFile::find(&paths.db)? else {
            return Err(StoreError::NotFound { path: paths.db });
        };
        match file.inspect(&paths.db)? {
            Contents::Store => {}
            Contents::Empty => return Err(StoreError::NotAStore { path: paths.db }),
        }
        let conn = schema::open_reader(&paths.db)?;
        let version = schema::version(&conn)
            .map_err(|e| StoreError::sqlite(&paths.db, "reading the version of the tables", e))?;
        let packed =
            packed(&conn).map_err(|e| StoreError::sqlite(&paths.db, "asking whether it is packed", e))?;
        let source = Arc::new(Source::new(paths.clone(), packed));
        let records = RecordFiles::new(Arc::clone(&source));
        let (version, conns) = (Cell::new(version), RefCell::default());
        Ok(Self { conn, paths, source, records, version, conns, _file: file })
    }

    /// The database, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.paths.db
    }

    /// Does `work`, all of whose reads then see one state of the store. That is looked for once, rather than for each: in a
    /// WAL it takes several system calls (sqlite.org/wal.html). Not to be called in `work`.
    pub fn at_once<T>(&self, work: impl FnOnce() -> T) -> T {
        let run = |sql| self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        // Where it cannot begin, each read looks for itself, and tells why it cannot.
        let begun = run("BEGIN").is_ok();
        let done = work();
        if begun && let Err(error) = run("COMMIT") {
            tracing::debug!(%error, "a read did not end well");
        }
        done
    }

    /// Whether it is one file that holds everything, as `manent store pack` makes it.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.source.packed().is_some()
    }

    /// Its connection, its segments and the records in them, for a copy.
    pub(super) fn parts(&self) -> (&Connection, &Paths, &Source, &RecordFiles) {
        (&self.conn, &self.paths, &self.source, &self.records)
    }

    /// The flow with this mid, with its connections; `None` if there is none. Bodies in segments are left there: see
    /// [`Reader::body`] and [`Reader::load`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if its record cannot be decoded; else what SQLite said.
    pub fn flow(&self, mid: Mid) -> Result<Option<Flow>, StoreError> {
        let Some(mut flow) = self.flow_alone(mid)? else { return Ok(None) };
        self.add_conns(&mut flow)?;
        Ok(Some(flow))
    }

    /// As [`Reader::flow`], of its connections nothing but their ids: for whoever wants many flows quickly.
    ///
    /// # Errors
    /// As [`Reader::flow`].
    pub fn flow_alone(&self, mid: Mid) -> Result<Option<Flow>, StoreError> {
        let Some((state, record)) = self.record(mid)? else { return Ok(None) };
        self.decoded(mid, state, &record, &KnownConns::default()).map(Some)
    }

    pub(super) fn decoded(
        &self,
        mid: Mid,
        state: Option<i64>,
        record: &Bytes,
        known: &KnownConns,
    ) -> Result<Flow, StoreError> {
        let flow = codec::decode_flow_knowing(record, known);
        let mut flow = flow.map_err(|e| self.damaged(format!("flow {mid}: {e}")))?;
        flow.mid = Some(mid);
        flow.state = row::state(state);
        Ok(flow)
    }

    /// As [`Reader::flow`], with bodies of up to `limit` bytes brought in from their segments.
    ///
    /// # Errors
    /// As [`Reader::flow`]; [`StoreError::Damaged`] also if a body is not what was written.
    pub fn load(&self, mid: Mid, limit: u64) -> Result<Option<Flow>, StoreError> {
        let mut tried: Option<Flow> = None;
        loop {
            let Some(flow) = self.flow(mid)? else { return Ok(None) };
            let mut loaded = flow.clone();
            match self.load_bodies(&mut loaded, limit) {
                Ok(()) => return Ok(Some(loaded)),
                // Its bytes may have been moved meanwhile: then its record names other places now.
                Err(_) if tried.as_ref().is_none_or(|tried| *tried != flow) => tried = Some(flow),
                Err(error) => return Err(self.damaged(format!("a body of flow {mid}: {error}"))),
            }
        }
    }

    /// Brings bodies of up to `limit` bytes in from their segments.
    ///
    /// # Errors
    /// If a body is not what was written; also if its bytes were moved since the record was read.
    pub fn load_bodies(&self, flow: &mut Flow, limit: u64) -> io::Result<()> {
        let request = flow.request.as_mut().map(|r| &mut r.body);
        let response = flow.response.as_mut().map(|r| &mut r.body);
        let tunnel = flow.tunnel.as_mut().map(|t| [&mut t.from_client, &mut t.from_server]);
        for body in request.into_iter().chain(response).chain(tunnel.into_iter().flatten()) {
            let Content::Extents(extents) = &body.content else { continue };
            let len = extents.iter().fold(0_u64, |sum, e| sum.saturating_add(e.len));
            if len > limit {
                continue;
            }
            body.content = Content::Inline(
                self.content(&body.content).map_err(io::Error::other)?.into_bytes(len, limit)?,
            );
        }
        Ok(())
    }

    /// A page of flows.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn list(&self, query: &ListQuery) -> Result<Vec<Row>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "listing flows", e);
        let direction = match query.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let columns = row::columns(self.version()?);
        let sql = format!(
            "SELECT {columns} FROM flow LEFT JOIN host ON host.id = flow.host
             WHERE flow.mid > ?1 AND flow.mid < ?2 ORDER BY flow.mid {direction} LIMIT ?3"
        );
        let after = query.after.map_or(0, |mid| sqlite_int(mid.0));
        let before = query.before.map_or(i64::MAX, |mid| sqlite_int(mid.0));
        let limit = query.limit.map_or(-1, |n| i64::try_from(n).unwrap_or(-1));
        let mut statement = self.conn.prepare_cached(&sql).map_err(fail)?;
        let rows = statement.query_map(params![after, before, limit], Row::read).map_err(fail)?;
        rows.collect::<Result<_, _>>().map_err(fail)
    }

    /// The mids from `first` to `last`, both within, in blocks with what each holds: what a filter leaves out is not read.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn blocks(&self, first: Mid, last: Mid, order: Order) -> Result<Blocks<'_>, StoreError> {
        Blocks::new((&self.conn, &self.paths.db), (first, last), order)
    }

    /// Loads the URLs of the block that `mid` is in, of a block with a zone; `false` if there are none, so that any may
    /// match.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn urls(&self, mid: Mid, urls: &mut Urls) -> Result<bool, StoreError> {
        urls.load(&self.conn, mid).map_err(|e| StoreError::sqlite(&self.paths.db, "reading URLs", e))
    }

    /// The hosts whose names pass `test`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn hosts(&self, test: impl FnMut(&[u8]) -> bool) -> Result<HostSet, StoreError> {
        HostSet::read(&self.conn, test).map_err(|e| StoreError::sqlite(&self.paths.db, "reading hosts", e))
    }

    /// Lowest mid, highest mid and how many there are; `None` for a store without flows.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn bounds(&self) -> Result<Option<(Mid, Mid, u64)>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "counting flows", e);
        // Two queries: SQLite takes min and max from the ends of the tree only when each is asked for alone.
        let sql =
            "SELECT (SELECT min(mid) FROM flow), (SELECT max(mid) FROM flow), (SELECT count(*) FROM flow)";
        let read = |row: &rusqlite::Row<'_>| Ok((integer(row, 0)?, integer(row, 1)?, integer(row, 2)?));
        let (low, high, count) = self.conn.query_row(sql, [], read).map_err(fail)?;
        let mid = |n: i64| Mid(n.cast_unsigned());
        Ok(low.zip(high).map(|(low, high)| (mid(low), mid(high), count.unwrap_or(0).cast_unsigned())))
    }

    /// The highest mid that has a row; `None` for a store without flows. Quick, however many there are.
    pub(super) fn highest_mid(&self) -> Result<Option<Mid>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "looking for new flows", e);
        let mut statement = self.conn.prepare_cached(HIGHEST).map_err(fail)?;
        let highest = statement.query_row([], |row| integer(row, 0)).map_err(fail)?;
        Ok(highest.and_then(|mid| u64::try_from(mid).ok()).map(Mid))
    }

    /// Another number when another connection has committed since (sqlite.org/pragma.html#pragma_data_version). It says
    /// nothing of what was committed, and costs microseconds.
    pub(super) fn data_version(&self) -> Result<i64, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "looking for changes", e);
        let mut statement = self.conn.prepare_cached("PRAGMA data_version").map_err(fail)?;
        statement.query_row([], |row| row.get(0)).map_err(fail)
    }

    /// Flows that have not ended, the newest `limit` of them, rising.
    pub(super) fn open_mids(&self, limit: usize) -> Result<Vec<Mid>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "looking for open flows", e);
        let mut statement = self.conn.prepare_cached(OPEN).map_err(fail)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| integer(row, 0)).map_err(fail)?;
        let mids = rows.map(|mid| mid.map(|mid| Mid(mid.unwrap_or(0).cast_unsigned())));
        let mut mids: Vec<Mid> = mids.collect::<Result<_, _>>().map_err(fail)?;
        mids.reverse();
        Ok(mids)
    }

    /// Calls `each` with each mid from `low` to `high` that has a row, rising.
    pub(super) fn each_mid(&self, low: Mid, high: Mid, each: &mut dyn FnMut(Mid)) -> Result<(), StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "looking for gaps", e);
        let mut statement = self.conn.prepare_cached(MIDS).map_err(fail)?;
        let mut rows = statement.query(params![sqlite_int(low.0), sqlite_int(high.0)]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            each(Mid(integer(row, 0).map_err(fail)?.unwrap_or(0).cast_unsigned()));
        }
        Ok(())
    }

    /// The bytes of a body of this store, read as they are asked for. Nothing for a body that was not recorded.
    ///
    /// # Errors
    /// None today; opening the first segment may come to be one.
    pub fn body(&self, body: &Body) -> Result<BodyReader, StoreError> {
        self.content(&body.content)
    }

    /// As [`Reader::body`], of a body's or a message's content.
    ///
    /// # Errors
    /// As [`Reader::body`].
    pub fn content(&self, content: &Content) -> Result<BodyReader, StoreError> {
        let source = Arc::clone(&self.source);
        Ok(match content {
            Content::Absent => BodyReader::inline(source, Bytes::new()),
            Content::Inline(bytes) => BodyReader::inline(source, bytes.clone()),
            Content::Extents(extents) => BodyReader::extents(source, extents.clone()),
        })
    }

    /// A page of the messages of a WebSocket, in the order in which they ended: up to `limit` of those after `after`, which
    /// is 0 for the first page. Large payloads are left in their segments: see [`Reader::content`]. None for a flow that
    /// is no WebSocket.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row cannot be decoded; else what SQLite said.
    pub fn messages(&self, mid: Mid, after: u64, limit: usize) -> Result<Vec<Message>, StoreError> {
        if !self.has_messages()? {
            return Ok(Vec::new());
        }
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading messages", e);
        let sql = if self.version()? < 11 { message::SELECT_10 } else { message::SELECT };
        let mut statement = self.conn.prepare_cached(sql).map_err(fail)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![sqlite_int(mid.0), sqlite_int(after), limit]).map_err(fail)?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let (mut message, extents) = message::read(row).map_err(fail)?;
            if let Some(extents) = extents {
                let extents = codec::decode_extents(&extents)
                    .map_err(|e| self.damaged(format!("message {} of flow {mid}: {e}", message.seq)))?;
                message.content = Content::Extents(extents);
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// The number of the last message of a WebSocket that is stored, which is how many there are if none was lost; 0 for a
    /// flow without messages. Quick, however many there are.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn last_message(&self, mid: Mid) -> Result<u64, StoreError> {
        if !self.has_messages()? {
            return Ok(0);
        }
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading messages", e);
        let mut statement = self.conn.prepare_cached(message::LAST).map_err(fail)?;
        let last = statement.query_row([sqlite_int(mid.0)], |row| integer(row, 0)).map_err(fail)?;
        Ok(last.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }

    /// A store of version 1 has no such table, until a writer opens it.
    pub(super) fn has_messages(&self) -> Result<bool, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading the schema", e);
        let mut statement = self.conn.prepare_cached(message::EXISTS).map_err(fail)?;
        statement.exists([]).map_err(fail)
    }

    /// The version of the tables, now.
    pub(super) fn version(&self) -> Result<u32, StoreError> {
        if self.version.get() < schema::VERSION {
            let fail = |e| StoreError::sqlite(&self.paths.db, "reading the version of the tables", e);
            self.version.set(schema::version(&self.conn).map_err(fail)?);
        }
        Ok(self.version.get())
    }

    /// State and record of a flow.
    pub(super) fn record(&self, mid: Mid) -> Result<Option<(Option<i64>, Bytes)>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading a flow", e);
        let sql = if self.version()? < 4 { FLOW_3 } else { FLOW };
        let mut statement = self.conn.prepare_cached(sql).map_err(fail)?;
        let mut find = || {
            let read = |row: &rusqlite::Row<'_>| Ok((integer(row, 0)?, Found::read(row, 1)?));
            statement.query_row([sqlite_int(mid.0)], read).optional().map_err(fail)
        };
        let mut before = None;
        while let Some((state, found)) = find()? {
            let error = match self.records.get(mid, &found) {
                Ok(record) => return Ok(Some((state, record))),
                Err(error) => error,
            };
            // It may have been moved between the two reads: then its row tells another place now.
            if before.as_ref() == Some(&found) {
                return Err(self.damaged(format!("the record of flow {mid}, {found}: {error}")));
            }
            before = Some(found);
        }
        Ok(None)
    }

    pub(super) fn client_conn(&self, id: u64) -> Result<Option<ClientConn>, StoreError> {
        let Some(record) = self.conn_record(id, 1)? else { return Ok(None) };
        let conn = codec::decode_client_conn(&record);
        conn.map(Some).map_err(|e| self.damaged(format!("connection {id}: {e}")))
    }

    pub(super) fn server_conn(&self, id: u64) -> Result<Option<ServerConn>, StoreError> {
        let Some(record) = self.conn_record(id, 2)? else { return Ok(None) };
        let conn = codec::decode_server_conn(&record);
        conn.map(Some).map_err(|e| self.damaged(format!("connection {id}: {e}")))
    }

    pub(super) fn conn_record(&self, id: u64, side: i64) -> Result<Option<Bytes>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading a connection", e);
        let mut statement = self.conn.prepare_cached(CONN).map_err(fail)?;
        statement.query_row(params![sqlite_int(id), side], |row| blob(row, 0)).optional().map_err(fail)
    }

    pub(super) fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { path: self.paths.db.clone(), detail }
    }
}

pub(super) fn integer(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<i64>> {
    Ok(if let ValueRef::Integer(n) = row.get_ref(at)? { Some(n) } else { None })
}

/// Text, with bytes that are not UTF-8 replaced; `None` for anything else.
pub(super) fn text(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

pub(super) fn blob(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Bytes> {
    Ok(match row.get_ref(at)? {
        ValueRef::Blob(b) | ValueRef::Text(b) => Bytes::copy_from_slice(b),
        _ => Bytes::new(),
    })
}

const FLOW: &str = "SELECT state, pbuf, record_segment, record_offset, record_len FROM flow \
     LEFT JOIN record USING (mid) WHERE mid = ?1";
/// As [`FLOW`] before version 4.
const FLOW_3: &str =
    "SELECT state, pbuf, NULL, NULL, NULL FROM flow LEFT JOIN record USING (mid) WHERE mid = ?1";
const CONN: &str = "SELECT pbuf FROM conn WHERE id = ?1 AND side = ?2";
const HIGHEST: &str = "SELECT max(mid) FROM flow";
const OPEN: &str = "SELECT mid FROM flow WHERE state = 0 ORDER BY mid DESC LIMIT ?1";
const MIDS: &str = "SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
