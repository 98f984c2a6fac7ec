//! One group: segments to disk, then its rows in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::draft::Draft;
use super::index::Indexer;
use super::message::{self, Queued};
use super::record::{self, RecordAt};
use super::row::{self, Insertion, Texts, sqlite_int};
use super::space;
use super::zone::Zones;
use super::{Durability, Segments};
use crate::codec;
use crate::flow::{BodyEnd, ClientConn, Content, Extent, Flow, Message, Mid, ServerConn};

/// What goes into one transaction.
#[derive(Debug, Default)]
pub struct Group {
    drafts: Vec<Draft>,
    messages: Vec<Queued>,
    /// Flows that were stored while they were open, and are not wanted after all.
    removed: Vec<Mid>,
    /// The records of the drafts, as pieces of a segment, one behind the other.
    records: BytesMut,
    /// Those of them that are being committed.
    committing: Bytes,
    /// Where these are, once they are handed to the segments: a commit that is tried again writes them once.
    committing_at: Option<Extent>,
    /// Texts of rows, and payloads of messages.
    bytes: Vec<u8>,
    /// Newer revisions of connections. Written if the connection is that of a flow, in this group or before.
    pub clients: Vec<Arc<ClientConn>>,
    /// See `clients`.
    pub servers: Vec<Arc<ServerConn>>,
    /// Mids below this were given out.
    pub next_mid: u64,
    /// Connection ids below this were given out.
    pub next_conn: u64,
}

impl Group {
    /// Adds a flow, in any order; `bytes` are those that [`Draft::new`] gave. Of several with one mid, the last is stored.
    pub fn push(&mut self, mut draft: Draft, bytes: &[u8]) {
        let (record, texts) = bytes.split_at(draft.parts.record.min(bytes.len()));
        if self.records.capacity() == 0 {
            // For a busy proxy's group, which would else be copied each time that it has doubled; what is not written to is not there.
            self.records.reserve(KEPT_BYTES);
        }
        (draft.at, draft.record_at) = (self.bytes.len(), self.records.len());
        self.records.extend_from_slice(record);
        self.bytes.extend_from_slice(texts);
        self.drafts.push(draft);
    }

    /// Adds a message of the WebSocket `mid`; its flow is in this group or was in one before. Gives its weight in bytes.
    pub fn push_message(&mut self, mid: Mid, message: &Message) -> usize {
        let before = self.bytes.len();
        let queued = Queued::new(mid, message, &mut self.bytes);
        let weight = self.bytes.len() - before + queued.weight();
        self.messages.push(queued);
        weight
    }

    /// Takes a flow, which may be in this group or was in one before, out of the store again, with its messages.
    pub fn remove(&mut self, mid: Mid) {
        self.removed.push(mid);
    }

    /// How many flows and messages it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.drafts.len() + self.messages.len() + self.removed.len()
    }

    /// How many flows it has that are not in the store as open.
    pub(super) fn fresh(&self) -> usize {
        self.drafts.iter().filter(|draft| !draft.rewrite).count()
    }

    /// How many flows that are in the store, as open, it takes out again.
    pub(super) fn taken_out(&self) -> usize {
        self.removed.len()
    }

    /// How many messages of WebSockets it has.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it, and keeps its memory for the next, unless that is much.
    pub fn clear(&mut self) {
        self.drafts.clear();
        self.messages.clear();
        self.records.clear();
        let committed = std::mem::take(&mut self.committing);
        self.committing_at = None;
        // Memory that was used is there, and fresh memory costs a fault a page. Where the segments' thread still has it, the next
        // group begins with none.
        if self.records.is_empty()
            && let Ok(mut records) = committed.try_into_mut()
        {
            records.clear();
            self.records = records;
        }
        self.removed.clear();
        self.bytes.clear();
        self.clients.clear();
        self.servers.clear();
        self.drafts.shrink_to(KEPT_DRAFTS);
        self.messages.shrink_to(KEPT_DRAFTS);
        self.removed.shrink_to(KEPT_DRAFTS);
        self.bytes.shrink_to(KEPT_BYTES);
        if self.records.capacity() > KEPT_BYTES {
            self.records = BytesMut::new();
        }
    }

    /// The records, to be written; what comes after this call belongs to no commit yet.
    fn records(&mut self) -> Bytes {
        if !self.records.is_empty() {
            (self.committing, self.committing_at) = (std::mem::take(&mut self.records).freeze(), None);
        }
        self.committing.clone()
    }
}

/// What a group became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes of records, and of messages in their rows.
    pub record_bytes: u64,
    /// Bytes of texts and blobs that went into rows, zones among them.
    pub row_bytes: u64,
    /// Bodies, payloads of messages among them, that had to be marked as lost.
    pub lost_bodies: u64,
    /// The flows that had such bodies.
    pub lost_in: Vec<Mid>,
}

/// What the writing thread remembers from group to group. All of it could be asked of the database again.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) session: i64,
    pub(super) durability: Durability,
    hosts: HashMap<String, i64>,
    /// The revisions of connections that are in the database.
    written: HashMap<u64, u32>,
    /// Newer revisions whose connection has no flow yet.
    unclaimed: HashMap<u64, Conn>,
    next: (u64, u64),
    pub(super) zones: Zones,
    pub(super) index: Indexer,
    /// What rows refer to that were written, while somebody looks for what none refers to.
    pub(super) used: Option<Vec<Used>>,
}

/// What a row refers to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// The client's, and the origin's or 0.
    pub(super) conns: [u64; 2],
    pub(super) host: i64,
}

/// A connection of either side.
#[derive(Debug, Clone)]
enum Conn {
    Client(Arc<ClientConn>),
    Server(Arc<ServerConn>),
}

impl Book {
    pub(super) fn new(session: i64, durability: Durability, next_mid: u64) -> Self {
        Self {
            session,
            durability,
            hosts: HashMap::new(),
            written: HashMap::new(),
            unclaimed: HashMap::new(),
            next: (0, 0),
            zones: Zones::new(next_mid),
            index: Indexer::default(),
            used: None,
        }
    }

    /// Syncs the bodies, then commits the rows. After an error nothing of the group is in the database, and it may be
    /// tried again.
    pub(super) fn commit(
        &mut self,
        conn: &mut Connection,
        segments: &Segments,
        group: &mut Group,
    ) -> rusqlite::Result<Outcome> {
        let had_zones = !self.zones.has_given_up();
        match self.attempt(conn, segments, group) {
            // A full disk that had no room for a zone, which takes the transaction along, may have some for rows.
            Err(_) if had_zones && self.zones.has_given_up() => self.attempt(conn, segments, group),
            result => result,
        }
    }

    fn attempt(
        &mut self,
        conn: &mut Connection,
        segments: &Segments,
        group: &mut Group,
    ) -> rusqlite::Result<Outcome> {
        let records = group.records();
        let there = group.committing_at.filter(|extent| !segments.is_lost(extent));
        let records_at = match records.is_empty() {
            true => None,
            false => there.or_else(|| segments.append_pieces(records.clone())),
        };
        group.committing_at = records_at;
        // The order is the whole point: a row that is on disk must not name bytes that are not.
        segments.wait_written(segments.taken());
        segments.look();
        let grown = match self.durability {
            Durability::Full => segments.sync(),
            Durability::Normal => Vec::new(),
        };
        let mut outcome = Outcome { row_bytes: group.bytes.len() as u64, ..Outcome::default() };
        mark_lost(group, segments, &mut outcome);
        outcome.lost_bodies += message::mark_lost(&mut group.messages, segments);
        // Where segments cannot be written, SQLite may be: better slow than lost.
        let records_at = records_at.filter(|extent| !segments.is_lost(extent));
        self.take_changes(group);
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let fresh = self.write(&tx, group, records_at, &mut outcome)?;
        self.index.update(&tx)?;
        outcome.row_bytes += self.zones.update(&tx, group.next_mid)?;
        save_segments(&tx, &grown)?;
        if self.next != (group.next_mid, group.next_conn) {
            save_counters(&tx, group)?;
        }
        tx.commit()?;
        self.remember(fresh, group);
        Ok(outcome)
    }

    fn take_changes(&mut self, group: &mut Group) {
        let clients = group.clients.drain(..).map(Conn::Client);
        for change in clients.chain(group.servers.drain(..).map(Conn::Server)) {
            let older = self.unclaimed.get(&change.id()).is_none_or(|c| c.revision() <= change.revision());
            if older {
                self.unclaimed.insert(change.id(), change);
            }
        }
    }

    fn write(
        &mut self,
        tx: &Transaction<'_>,
        group: &Group,
        records_at: Option<Extent>,
        outcome: &mut Outcome,
    ) -> rusqlite::Result<Fresh> {
        let mut fresh = Fresh::default();
        let mut insert = Insertion::new(tx.prepare_cached(row::INSERT)?);
        let mut replace = Insertion::new(tx.prepare_cached(row::REPLACE)?);
        // Rising mids append to the trees. A draft is large, so it is their numbers that are sorted.
        let mut order: Vec<usize> = (0..group.drafts.len()).collect();
        order.sort_by_key(|&at| group.drafts[at].mid);
        for (i, &at) in order.iter().enumerate() {
            let draft = &group.drafts[at];
            if order.get(i + 1).is_some_and(|&later| group.drafts[later].mid == draft.mid) {
                continue;
            }
            if draft.client.id.0 != 0 {
                self.write_client(tx, &mut fresh, &draft.client)?;
            }
            if let Some(server) = draft.server.as_ref().filter(|s| s.id.0 != 0) {
                self.write_server(tx, &mut fresh, server)?;
            }
            let texts = Texts::of(draft, &group.bytes);
            let host = self.host(tx, &mut fresh, texts.host)?;
            if let Some(used) = &mut self.used {
                let server = draft.server.as_ref().map_or(0, |server| server.id.0);
                used.push(Used { conns: [draft.client.id.0, server], host });
            }
            let insertion = if draft.rewrite { &mut replace } else { &mut insert };
            let record_at = records_at.filter(|_| draft.own_record.is_none()).map(|extent| RecordAt {
                segment: extent.segment,
                offset: extent.offset + draft.record_at as u64,
                stored_len: draft.parts.record as u64,
            });
            insertion.write(draft.mid, self.session, host, &draft.numbers, &texts, record_at)?;
            self.zones.note(draft.mid, host, &draft.numbers, &texts);
            self.index.note(draft.mid);
            match record_at {
                // What an older row has there is read only where its row says no place.
                Some(_) => outcome.record_bytes += draft.parts.record as u64,
                None => {
                    let bytes = write_record(tx, group, draft)?;
                    outcome.record_bytes += bytes;
                    outcome.row_bytes += bytes;
                }
            }
        }
        group
            .messages
            .iter()
            .map(Queued::mid)
            .chain(group.removed.iter().copied())
            .for_each(|mid| self.index.note(mid));
        outcome.record_bytes += message::insert(tx, &group.messages, &group.bytes)?;
        space::take_out(tx, &group.removed)?;
        group.removed.iter().for_each(|&mid| self.zones.touch(mid));
        let changed: Vec<_> =
            self.unclaimed.values().filter(|c| self.written.contains_key(&c.id())).cloned().collect();
        for change in changed {
            self.write_conn(tx, &mut fresh, &change)?;
        }
        Ok(fresh)
    }

    /// Whether this or a newer revision of a connection is in the database, as for nearly every flow but its first.
    fn is_written(&self, fresh: &Fresh, id: u64, revision: u32) -> bool {
        fresh.conns.get(&id).or_else(|| self.written.get(&id)).is_some_and(|&there| there >= revision)
    }

    fn write_client(
        &self,
        tx: &Transaction<'_>,
        fresh: &mut Fresh,
        conn: &Arc<ClientConn>,
    ) -> rusqlite::Result<()> {
        match self.is_written(fresh, conn.id.0, conn.revision) {
            true => Ok(()),
            false => self.write_conn(tx, fresh, &Conn::Client(Arc::clone(conn))),
        }
    }

    fn write_server(
        &self,
        tx: &Transaction<'_>,
        fresh: &mut Fresh,
        conn: &Arc<ServerConn>,
    ) -> rusqlite::Result<()> {
        match self.is_written(fresh, conn.id.0, conn.revision) {
            true => Ok(()),
            false => self.write_conn(tx, fresh, &Conn::Server(Arc::clone(conn))),
        }
    }

    /// Writes the newest known revision of a connection, unless it is in the database.
    fn write_conn(&self, tx: &Transaction<'_>, fresh: &mut Fresh, conn: &Conn) -> rusqlite::Result<()> {
        let id = conn.id();
        let conn = self.unclaimed.get(&id).filter(|newer| newer.revision() > conn.revision()).unwrap_or(conn);
        if self.is_written(fresh, id, conn.revision()) {
            return Ok(());
        }
        let (side, started, peer, record) = match conn {
            Conn::Client(c) => (1, c.started_unix_ns, c.peer.as_ref(), codec::encode_client_conn(c)),
            Conn::Server(c) => (2, c.started_unix_ns, c.peer.as_ref(), codec::encode_server_conn(c)),
        };
        let peer = peer.map(ToString::to_string);
        tx.prepare_cached(CONN)?.execute(params![
            sqlite_int(id),
            side,
            self.session,
            conn.revision(),
            started,
            peer,
            record
        ])?;
        fresh.conns.insert(id, conn.revision());
        Ok(())
    }

    fn host(&self, tx: &Transaction<'_>, fresh: &mut Fresh, name: &str) -> rusqlite::Result<i64> {
        if let Some(&id) = self.hosts.get(name).or_else(|| fresh.hosts.get(name)) {
            return Ok(id);
        }
        let known = tx.prepare_cached(HOST)?.query_row([name], |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => tx.prepare_cached(NEW_HOST)?.insert([name])?,
        };
        fresh.hosts.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Connections and hosts were taken away that no flow had.
    pub(super) fn forget(&mut self) {
        self.written.clear();
        self.hosts.clear();
    }

    /// After the commit: what it wrote is known.
    fn remember(&mut self, fresh: Fresh, group: &Group) {
        self.next = (group.next_mid, group.next_conn);
        if self.hosts.len() > REMEMBERED {
            self.hosts.clear();
        }
        if self.written.len() > REMEMBERED {
            self.written.clear();
        }
        self.hosts.extend(fresh.hosts);
        self.written.extend(fresh.conns);
        self.unclaimed.retain(|id, _| !self.written.contains_key(id));
        if self.unclaimed.len() > REMEMBERED {
            self.unclaimed.clear();
        }
    }
}

/// What a transaction adds to the [`Book`], once it is committed.
#[derive(Debug, Default)]
struct Fresh {
    hosts: HashMap<String, i64>,
    conns: HashMap<u64, u32>,
}

impl Conn {
    fn id(&self) -> u64 {
        match self {
            Conn::Client(c) => c.id.0,
            Conn::Server(c) => c.id.0,
        }
    }

    fn revision(&self) -> u32 {
        match self {
            Conn::Client(c) => c.revision,
            Conn::Server(c) => c.revision,
        }
    }
}

/// Writes a record into SQLite; how many bytes.
fn write_record(tx: &Transaction<'_>, group: &Group, draft: &Draft) -> rusqlite::Result<u64> {
    let pieces = match &draft.own_record {
        Some(own) => own.clone(),
        None => group.committing.slice(draft.record_at..draft.record_at + draft.parts.record),
    };
    // They were made a moment ago, in memory.
    let record = record::of_pieces(draft.mid, pieces).unwrap_or_default();
    tx.prepare_cached(RECORD)?.execute(params![sqlite_int(draft.mid.0), &record[..]])?;
    Ok(record.len() as u64)
}

/// Replaces the content of bodies whose bytes were dropped, in the record too.
fn mark_lost(group: &mut Group, segments: &Segments, outcome: &mut Outcome) {
    for at in 0..group.drafts.len() {
        let draft = &mut group.drafts[at];
        let Some(mut flow) = draft.flow.take() else { continue };
        let lost = mark_lost_bodies(&mut flow, segments);
        if lost == 0 {
            draft.flow = Some(flow);
            continue;
        }
        outcome.lost_bodies += lost;
        outcome.lost_in.push(draft.mid);
        let mut bytes = Vec::new();
        let mut anew = Draft::new(draft.mid, &flow, draft.rewrite, &mut bytes);
        let texts = bytes.split_off(anew.parts.record.min(bytes.len()));
        anew.at = group.bytes.len();
        anew.own_record = Some(bytes.into());
        group.bytes.extend_from_slice(&texts);
        group.drafts[at] = anew;
    }
}

fn mark_lost_bodies(flow: &mut Flow, segments: &Segments) -> u64 {
    let request = flow.request.as_mut().map(|r| &mut r.body);
    let response = flow.response.as_mut().map(|r| &mut r.body);
    let tunnel = flow.tunnel.as_mut().map(|t| [&mut t.from_client, &mut t.from_server]);
    let mut lost = 0;
    for body in request.into_iter().chain(response).chain(tunnel.into_iter().flatten()) {
        if let Content::Extents(extents) = &body.content
            && extents.iter().any(|extent| segments.is_lost(extent))
        {
            body.content = Content::Absent;
            body.end = BodyEnd::Lost;
            lost += 1;
        }
    }
    lost
}

pub(super) fn save_segments(tx: &Transaction<'_>, grown: &[(u32, u64)]) -> rusqlite::Result<()> {
    for &(number, len) in grown {
        tx.prepare_cached(SEGMENT)?.execute(params![number, sqlite_int(len)])?;
    }
    Ok(())
}

fn save_counters(tx: &Transaction<'_>, group: &Group) -> rusqlite::Result<()> {
    let mut counter = tx.prepare_cached(COUNTER)?;
    counter.execute(params!["next_mid", sqlite_int(group.next_mid)])?;
    counter.execute(params!["next_conn", sqlite_int(group.next_conn)])?;
    Ok(())
}

/// Hosts, and connections, that are remembered; beyond that, all are forgotten and looked up anew.
const REMEMBERED: usize = 16_384;

/// What an emptied group keeps: enough for the groups of a busy proxy.
const KEPT_DRAFTS: usize = 2048;
const KEPT_BYTES: usize = 4 << 20;

const RECORD: &str = "INSERT OR REPLACE INTO record (mid, pbuf) VALUES (?1, ?2)";
const HOST: &str = "SELECT id FROM host WHERE name = ?1";
const NEW_HOST: &str = "INSERT INTO host (name) VALUES (?1)";
const CONN: &str = "INSERT INTO conn (id, side, session, revision, started_unix_ns, peer, pbuf) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, \
     peer = excluded.peer, pbuf = excluded.pbuf WHERE excluded.revision > revision";
const SEGMENT: &str =
    "INSERT INTO segment (number, len) VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET len = excluded.len";
const COUNTER: &str =
    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
