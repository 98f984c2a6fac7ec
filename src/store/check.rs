//! Reading all of a store to see that it is what was written.
//!
//! It only reads, one flow at a time and without a long transaction, so it may run beside a writer. What a writer changes
//! between two reads looks like damage for a moment: whatever is found is looked at again, in one transaction, before it is
//! told. Bytes of segments that no row refers to are no damage: their flow never ended, or was written again.

use std::io;

use rusqlite::{OptionalExtension as _, params};

use super::index;
use super::reader::{integer, text};
use super::row::{self, Numbers, sqlite_int};
use super::segment::{BodySide, piece};
use super::source;
use super::{ListQuery, Reader, Row, StoreError};
use crate::flow::{Body, BodyEnd, Content, Extent, Flow, Kind, Message, Mid};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The flow; `None` where no flow can be named.
    pub mid: Option<Mid>,
    /// What of it: `record`, `row`, `request body`, `message 7` and so on.
    pub part: String,
    /// What and where.
    pub detail: String,
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Flows that were looked at.
    pub flows: u64,
    /// Those of them of which something is damaged.
    pub damaged_flows: u64,
    /// Everything that is damaged.
    pub damages: u64,
    /// Bodies that were read.
    pub bodies: u64,
    /// Messages of WebSockets that were looked at.
    pub messages: u64,
    /// Messages that passed, by what their flows tell, and are not there: the store could not take them.
    pub missing_messages: u64,
    /// Bytes of segments that rows refer to, headers of pieces included.
    pub live_bytes: u64,
    /// Bytes of segments that no row refers to, about.
    pub dead_bytes: u64,
}

/// Where what a check finds is told.
struct Check<'a> {
    reader: &'a Reader,
    done: Checked,
}

/// What was found of one flow.
#[derive(Debug, Default)]
struct Finding {
    damages: Vec<Damage>,
    counts: Checked,
}

impl Reader {
    /// Looks at everything: the database's own structure, each row and its record, each piece of each body, each message.
    /// `found` is told of each damage as it is found; `progress` of the highest mid that is done and the highest that there
    /// is. Flows that are recorded meanwhile are looked at or not.
    ///
    /// # Errors
    /// Those of `found`; what SQLite or the system said, where that is no damage.
    pub fn check<E: From<StoreError>>(
        &self,
        mut found: impl FnMut(&Damage) -> Result<(), E>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Checked, E> {
        let mut check = Check { reader: self, done: Checked::default() };
        for damage in check.database()?.into_iter().chain(check.index()?) {
            check.done.damages += 1;
            found(&damage)?;
        }
        let files = self.files()?;
        let (mut first, mut last) = (Mid(1), Mid(u64::MAX));
        // Where the tree of rows is broken, what lies behind is reached from the other end.
        for order in [super::Order::OldestFirst, super::Order::NewestFirst] {
            let highest = check.highest();
            loop {
                let page = match check.page(order, first, last) {
                    Ok(page) => page,
                    Err(StoreError::Damaged { detail, .. }) => {
                        check.done.damages += 1;
                        let detail = format!("between mids {first} and {last}: {detail}");
                        found(&Damage { mid: None, part: "rows".into(), detail })?;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                let Some(&end) = page.last() else {
                    check.done.dead_bytes = files.segments.saturating_sub(check.done.live_bytes);
                    return Ok(check.done);
                };
                for mid in page {
                    for damage in check.flow(mid)? {
                        found(&damage)?;
                    }
                    progress(mid.0, highest);
                }
                match order {
                    super::Order::OldestFirst => first = Mid(end.0.saturating_add(1)),
                    super::Order::NewestFirst => last = Mid(end.0.saturating_sub(1)),
                }
            }
        }
        check.done.dead_bytes = files.segments.saturating_sub(check.done.live_bytes);
        Ok(check.done)
    }

    /// Looks at one flow; `None` if it is not there.
    fn check_flow(&self, mid: Mid) -> Result<Option<Finding>, StoreError> {
        let mut finding = Finding::default();
        let only = ListQuery {
            limit: Some(1),
            after: Some(Mid(mid.0.saturating_sub(1))),
            before: Some(Mid(mid.0.saturating_add(1))),
            ..ListQuery::default()
        };
        let row = match self.list(&only) {
            Ok(rows) => rows.into_iter().next(),
            Err(StoreError::Damaged { detail, .. }) => {
                finding.add(mid, "row", detail);
                return Ok(Some(finding));
            }
            Err(error) => return Err(error),
        };
        let Some(row) = row else { return Ok(None) };
        if row.host.is_empty() && !self.has_host(mid)? {
            finding.add(mid, "row", "the host that it names is not there".into());
        }
        finding.counts.live_bytes += self.record_len(mid)?;
        let flow = match self.flow(mid) {
            Ok(Some(flow)) => flow,
            Ok(None) => return Ok(None),
            Err(StoreError::Damaged { detail, .. }) => {
                finding.add(mid, "record", detail);
                return Ok(Some(finding));
            }
            Err(error) => return Err(error),
        };
        for column in differing(&row, &flow) {
            finding.add(mid, "row", format!("its {column} is not that of its record"));
        }
        let server = row.server_conn.map_or(0, |id| id.0);
        for (side, what, id) in [(1, "client", row.client_conn.0), (2, "server", server)] {
            if id != 0 && self.conn_record(id, side)?.is_none() {
                finding.add(mid, "connection", format!("that of the {what}, {id}, is not there"));
            }
        }
        self.check_bodies(mid, &flow, &mut finding);
        self.check_messages(mid, &flow, &mut finding)?;
        Ok(Some(finding))
    }

    fn check_bodies(&self, mid: Mid, flow: &Flow, finding: &mut Finding) {
        let request = flow.request.as_ref().map(|r| ("request body", BodySide::Request, &r.body));
        let response = flow.response.as_ref().map(|r| ("response body", BodySide::Response, &r.body));
        let tunnel = flow.tunnel.as_ref().map(|t| {
            [
                ("bytes from the client", BodySide::TunnelClient, &t.from_client),
                ("bytes from the origin", BodySide::TunnelServer, &t.from_server),
            ]
        });
        for (part, side, body) in request.into_iter().chain(response).chain(tunnel.into_iter().flatten()) {
            finding.counts.bodies += 1;
            finding.counts.live_bytes += stored_len(&body.content);
            if let Err(detail) = self.check_body(mid, side, body) {
                finding.add(mid, part, detail);
            }
        }
    }

    fn check_body(&self, mid: Mid, side: BodySide, body: &Body) -> Result<(), String> {
        if let Content::Extents(extents) = &body.content {
            Pieces { mid, side: side as u8, next: Some(0) }.check(self, extents)?;
        }
        check_len(&body.content, body.recorded_len(), body.len, body.end)
    }

    fn check_messages(&self, mid: Mid, flow: &Flow, finding: &mut Finding) -> Result<(), StoreError> {
        let Some(websocket) = &flow.websocket else { return Ok(()) };
        let (mut after, mut count) = (0, 0);
        // One at a time: in a file from elsewhere each may be as large as SQLite lets it be.
        while let Some(seq) = self.next_message(mid, after)? {
            count += 1;
            after = seq;
            let part = || format!("message {seq}");
            match self.messages(mid, seq.saturating_sub(1), 1) {
                Ok(messages) => {
                    for message in messages {
                        finding.counts.live_bytes += stored_len(&message.content);
                        if let Err(detail) = self.check_message(mid, &message) {
                            finding.add(mid, &part(), detail);
                        }
                    }
                }
                Err(StoreError::Damaged { detail, .. }) => finding.add(mid, &part(), detail),
                Err(error) => return Err(error),
            }
        }
        finding.counts.messages += count;
        // Those of a WebSocket that is open come before its record tells of them.
        if flow.timing.end_us.is_some() {
            finding.counts.missing_messages += websocket.messages().saturating_sub(count);
            if count > websocket.messages() {
                let passed = websocket.messages();
                finding.add(mid, "messages", format!("{count} are there, and {passed} passed"));
            }
        }
        Ok(())
    }

    fn check_message(&self, mid: Mid, message: &Message) -> Result<(), String> {
        let side = if message.from_client { BodySide::MessageClient } else { BodySide::MessageServer };
        if let Content::Extents(extents) = &message.content {
            // The pieces of all messages of one end are numbered through.
            Pieces { mid, side: side as u8, next: None }.check(self, extents)?;
        }
        let recorded = match &message.content {
            Content::Absent => 0,
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Extents(extents) => total(extents, |extent| extent.len),
        };
        check_len(&message.content, recorded, message.len, message.end)
    }

    /// Whether the host is there that a row names.
    fn has_host(&self, mid: Mid) -> Result<bool, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading a host", e);
        self.conn.prepare_cached(HOST).and_then(|mut s| s.exists([sqlite_int(mid.0)])).map_err(fail)
    }

    /// Bytes of segments that the record of a flow takes.
    fn record_len(&self, mid: Mid) -> Result<u64, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading a flow", e);
        // Before version 4 records were in the database.
        if self.version()? < 4 {
            return Ok(0);
        }
        let mut statement = self.conn.prepare_cached(RECORD_LEN).map_err(fail)?;
        let len = statement.query_row([sqlite_int(mid.0)], |row| integer(row, 0)).optional().map_err(fail)?;
        Ok(len.flatten().and_then(|len| u64::try_from(len).ok()).unwrap_or(0))
    }

    fn next_message(&self, mid: Mid, after: u64) -> Result<Option<u64>, StoreError> {
        if !self.has_messages()? {
            return Ok(None);
        }
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading messages", e);
        let mut statement = self.conn.prepare_cached(NEXT_MESSAGE).map_err(fail)?;
        let next = statement.query_row(params![sqlite_int(mid.0), sqlite_int(after)], |row| integer(row, 0));
        Ok(next.map_err(fail)?.and_then(|seq| u64::try_from(seq).ok()))
    }
}

impl Check<'_> {
    /// What SQLite says of the structure of the database (sqlite.org/pragma.html#pragma_integrity_check).
    fn database(&self) -> Result<Vec<Damage>, StoreError> {
        let conn = &self.reader.conn;
        let lines = conn.prepare(INTEGRITY).and_then(|mut statement| {
            let lines = statement.query_map([], |row| text(row, 0))?;
            lines.collect::<rusqlite::Result<Vec<_>>>()
        });
        let lines = match lines {
            Ok(lines) => lines.into_iter().flatten().filter(|line| line != "ok").collect(),
            Err(e) => match StoreError::sqlite(&self.reader.paths.db, "checking the database", e) {
                StoreError::Damaged { detail, .. } => vec![detail],
                error => return Err(error),
            },
        };
        let damage = |detail: String| Damage { mid: None, part: "database".into(), detail };
        Ok(lines.into_iter().map(damage).collect())
    }

    /// What of the index of bodies is not as it was written. What is not found of it as it should be is not looked for.
    fn index(&self) -> Result<Vec<Damage>, StoreError> {
        let mut damages = Vec::new();
        let found = |detail| {
            if damages.len() < MANY {
                damages.push(Damage { mid: None, part: "index of bodies".into(), detail });
            }
        };
        match index::verify(&self.reader.conn, found) {
            Ok(()) => Ok(damages),
            Err(e) => match StoreError::sqlite(&self.reader.paths.db, "checking the index of bodies", e) {
                StoreError::Damaged { detail, .. } => {
                    damages.push(Damage { mid: None, part: "index of bodies".into(), detail });
                    Ok(damages)
                }
                error => Err(error),
            },
        }
    }

    /// The highest mid, for the progress alone.
    fn highest(&self) -> u64 {
        let page = self.page(super::Order::NewestFirst, Mid(1), Mid(u64::MAX));
        page.ok().and_then(|page| page.first().copied()).unwrap_or(Mid(1)).0
    }

    fn page(&self, order: super::Order, first: Mid, last: Mid) -> Result<Vec<Mid>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.reader.paths.db, "looking for flows", e);
        let sql = match order {
            super::Order::OldestFirst => MIDS,
            super::Order::NewestFirst => MIDS_DOWN,
        };
        let mut statement = self.reader.conn.prepare_cached(sql).map_err(fail)?;
        let asked = params![sqlite_int(first.0), sqlite_int(last.0)];
        let mids = statement.query_map(asked, |row| integer(row, 0)).map_err(fail)?;
        let mids = mids.map(|mid| mid.map(|mid| Mid(mid.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))));
        mids.collect::<Result<_, _>>().map_err(fail)
    }

    /// Looks at a flow, twice if something seems to be damaged.
    fn flow(&mut self, mid: Mid) -> Result<Vec<Damage>, StoreError> {
        let mut finding = self.reader.check_flow(mid)?;
        if finding.as_ref().is_some_and(|finding| !finding.damages.is_empty()) {
            let fail = |e| StoreError::sqlite(&self.reader.paths.db, "reading a flow", e);
            let tx = self.reader.conn.unchecked_transaction().map_err(fail)?;
            finding = self.reader.check_flow(mid)?;
            // It was read only.
            tx.rollback().map_err(fail)?;
        }
        let Some(Finding { damages, counts }) = finding else { return Ok(Vec::new()) };
        let done = &mut self.done;
        done.flows += 1;
        done.damaged_flows += u64::from(!damages.is_empty());
        done.damages += damages.len() as u64;
        done.bodies += counts.bodies;
        done.messages += counts.messages;
        done.missing_messages = done.missing_messages.saturating_add(counts.missing_messages);
        done.live_bytes = done.live_bytes.saturating_add(counts.live_bytes);
        Ok(damages)
    }
}

impl Finding {
    /// No more than a few of one flow: each damaged message could be one.
    fn add(&mut self, mid: Mid, part: &str, detail: String) {
        if self.damages.len() < MANY {
            self.damages.push(Damage { mid: Some(mid), part: part.to_owned(), detail });
        }
    }
}

/// What the pieces of a body must say of themselves.
struct Pieces {
    mid: Mid,
    side: u8,
    /// The number of the next; `None` before the first of a message.
    next: Option<u64>,
}

impl Pieces {
    fn check(&mut self, reader: &Reader, extents: &[Extent]) -> Result<(), String> {
        let mut data = Vec::new();
        extents.iter().try_for_each(|extent| self.extent(reader, extent, &mut data))
    }

    fn extent(&mut self, reader: &Reader, extent: &Extent, data: &mut Vec<u8>) -> Result<(), String> {
        let Extent { segment, offset, stored_len, len } = *extent;
        let name = source::name(segment);
        let here = |at: u64| format!("{name} at offset {at}");
        let failed = |e: io::Error| format!("{name}: {e}");
        let end = offset.checked_add(stored_len).ok_or_else(|| format!("{}: out of range", here(offset)))?;
        let mut stream = reader.source.open(segment, offset).map_err(failed)?;
        let mut stored = Vec::new();
        let (mut at, mut sum) = (offset, 0_u64);
        while at < end {
            let piece = piece::read(&mut stream, &mut stored, data).map_err(failed)?;
            let piece = piece.filter(|piece| piece.stored_len() <= end - at);
            let piece = piece.ok_or_else(|| format!("{name} is damaged at offset {at}"))?;
            // In a packed store, equal bodies are one: that of the first flow that has it.
            let own = segment != source::PACKED;
            if own && (piece.mid, piece.side) != (self.mid.0, self.side) {
                return Err(format!("{}: a piece of something else, of flow {}", here(at), piece.mid));
            }
            if own && self.next.is_some_and(|next| next != piece.seq) {
                return Err(format!("{}: piece {} is not the one that follows", here(at), piece.seq));
            }
            self.next = Some(piece.seq.saturating_add(1));
            at += piece.stored_len();
            sum += data.len() as u64;
        }
        match sum == len {
            true => Ok(()),
            false => Err(format!("{}: {sum} bytes are there, and {len} should be", here(offset))),
        }
    }
}

/// Whether as much is recorded as the end of a body says.
fn check_len(content: &Content, recorded: u64, len: u64, end: BodyEnd) -> Result<(), String> {
    match (content, end) {
        _ if recorded > len => Err(format!("{recorded} bytes are recorded, and {len} passed")),
        (_, BodyEnd::Whole) if recorded < len => {
            Err(format!("{recorded} bytes are recorded of {len}, though it says that it is whole"))
        }
        _ => Ok(()),
    }
}

fn stored_len(content: &Content) -> u64 {
    if let Content::Extents(extents) = content { total(extents, |extent| extent.stored_len) } else { 0 }
}

fn total(extents: &[Extent], of: impl Fn(&Extent) -> u64) -> u64 {
    extents.iter().fold(0, |sum, extent| sum.saturating_add(of(extent)))
}

/// The columns in which a row is not what its record would make it. Rows have no sums of their own.
fn differing(row: &Row, flow: &Flow) -> Vec<&'static str> {
    let numbers = Numbers::of(flow);
    let request = flow.request.as_ref();
    let words = |bytes: &[u8], limit| String::from_utf8_lossy(row::cap(bytes, limit)).into_owned();
    let method = request.map_or(String::new(), |r| words(&r.method, row::TYPE_BYTES));
    // A record that was too long for its bodies lost them, and a tunnel both its lengths.
    let cut = flow.kind == Kind::Tunnel && flow.tunnel.is_none();
    let int = |number: Option<u64>| number.map(sqlite_int);
    let columns = [
        ("start", row.started_unix_ns != numbers.started_unix_ns),
        ("duration", int(row.duration_us) != numbers.duration_us),
        ("kind", row.kind != flow.kind),
        ("method", row.method != method),
        ("scheme", row.scheme != flow.target.scheme),
        ("host", row.host != flow.target.host),
        ("port", row.port != flow.target.port),
        ("path", row.path != words(flow.path(), row::PATH_BYTES)),
        ("status", row.status != numbers.status),
        ("request length", !cut && sqlite_int(row.request_len) != numbers.request_len),
        ("response length", !cut && sqlite_int(row.response_len) != numbers.response_len),
        ("client connection", sqlite_int(row.client_conn.0) != numbers.client_conn),
        ("server connection", int(row.server_conn.map(|id| id.0)) != numbers.server_conn),
        ("replayed flow", int(row.replay_of.map(|mid| mid.0)) != numbers.replay_of),
    ];
    columns.into_iter().filter(|(_, differs)| *differs).map(|(column, _)| column).collect()
}

/// Damages that are told of one flow.
const MANY: usize = 100;

const INTEGRITY: &str = "PRAGMA integrity_check(100)";
const HOST: &str = "SELECT 1 FROM flow JOIN host ON host.id = flow.host WHERE flow.mid = ?1";
const RECORD_LEN: &str = "SELECT record_len FROM flow WHERE mid = ?1 AND record_segment IS NOT NULL";
const NEXT_MESSAGE: &str = "SELECT min(seq) FROM message WHERE mid = ?1 AND seq > ?2";
const MIDS: &str = "SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid LIMIT 256";
const MIDS_DOWN: &str = "SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid DESC LIMIT 256";
