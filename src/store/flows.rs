//! Several flows at once: their rows by few queries, their records in few reads, the connections that they share once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;

use super::StoreError;
use super::reader::{Reader, integer};
use super::record::Found;
use super::row::sqlite_int;
use crate::codec::KnownConns;
use crate::flow::{ClientConn, Flow, Mid, ServerConn};

/// A flow as it was read, with its connections: a few words and its record, until it is decoded.
#[derive(Debug)]
pub struct Stored(Form);

#[derive(Debug)]
enum Form {
    Record {
        mid: Mid,
        state: Option<i64>,
        record: Bytes,
        conns: KnownConns,
    },
    Flow(Box<Flow>),
    /// Nothing: it could not be read.
    Failed(StoreError),
}

/// Connections that were read while nothing was written, by their ids.
#[derive(Debug, Default)]
pub(super) struct Conns {
    /// By [`Reader::data_version`].
    of: i64,
    clients: HashMap<u64, Arc<ClientConn>>,
    servers: HashMap<u64, Arc<ServerConn>>,
}

/// What a row tells.
struct Place {
    state: Option<i64>,
    client: u64,
    server: Option<u64>,
}

/// Of several flows, in one order: what their rows tell, and where their records lie.
type Places = (Vec<Place>, Vec<(Mid, Found)>);

impl Reader {
    /// As [`Reader::flow`], of several flows at one moment; those that are not there are left out. A connection that they
    /// share is read once, as long as nothing is written. All of them are in memory, and the store keeps what it would reclaim:
    /// ask for a few dozen. Flows that were stored one after the other may share the memory of their records.
    ///
    /// # Errors
    /// As [`Reader::flow`].
    pub fn flows(&self, mids: &[Mid]) -> Result<Vec<Flow>, StoreError> {
        self.stored(mids)?.into_iter().map(|stored| self.decode(stored)).collect()
    }

    /// As [`Reader::flows`], not decoded yet: for whoever wants them one after the other, and then each in the processor's
    /// cache. Ask for a few hundred. Bodies in segments may have been moved by the time that one is decoded.
    ///
    /// # Errors
    /// What SQLite said. A flow that cannot be read is told when it is to be decoded.
    pub fn stored(&self, mids: &[Mid]) -> Result<Vec<Stored>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "beginning to read", e);
        // It ends when it is dropped, with nothing to undo.
        let moment = self.conn.unchecked_transaction().map_err(fail)?;
        let of = self.data_version()?;
        let mut conns = self.conns.take();
        if conns.of != of || conns.clients.len() + conns.servers.len() > MOST_CONNS {
            conns = Conns { of, ..Conns::default() };
        }
        if let Ok(all) = self.records(mids, &mut conns) {
            self.conns.replace(conns);
            return Ok(all);
        }
        // A record that was moved meanwhile has another place now, which this moment does not know.
        drop(moment);
        let each = mids.iter().filter_map(|&mid| self.flow(mid).transpose());
        Ok(each
            .map(|flow| Stored(flow.map_or_else(Form::Failed, |flow| Form::Flow(Box::new(flow)))))
            .collect())
    }

    /// The flow of a record that this reader has read.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it cannot be decoded; else why it could not be read.
    pub fn decode(&self, stored: Stored) -> Result<Flow, StoreError> {
        match stored.0 {
            Form::Record { mid, state, record, conns } => self.decoded(mid, state, &record, &conns),
            Form::Flow(flow) => Ok(*flow),
            Form::Failed(error) => Err(error),
        }
    }

    fn records(&self, mids: &[Mid], known: &mut Conns) -> Result<Vec<Stored>, StoreError> {
        let (places, founds) = self.places(mids)?;
        let mut all = Vec::with_capacity(places.len());
        for ((record, place), (mid, found)) in self.records.get_all(&founds).zip(places).zip(&founds) {
            let record = record
                .map_err(|error| self.damaged(format!("the record of flow {mid}, {found}: {error}")))?;
            let conns = KnownConns {
                client: of(place.client, &mut known.clients, |id| self.client_conn(id))?,
                server: of(place.server.unwrap_or(0), &mut known.servers, |id| self.server_conn(id))?,
            };
            all.push(Stored(Form::Record { mid: *mid, state: place.state, record, conns }));
        }
        Ok(all)
    }

    /// Those of some mids that are there; of mids that follow each other without a gap, by one query.
    fn places(&self, mids: &[Mid]) -> Result<Places, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading flows", e);
        let mut told = (Vec::with_capacity(mids.len()), Vec::with_capacity(mids.len()));
        let mut tell = |row: &Row<'_>| -> rusqlite::Result<()> {
            let id = |at| integer(row, at).map(|id| id.map(i64::cast_unsigned));
            told.0.push(Place { state: integer(row, 1)?, client: id(2)?.unwrap_or(0), server: id(3)? });
            told.1.push((Mid(id(0)?.unwrap_or(0)), Found::read(row, 4)?));
            Ok(())
        };
        let sql = if self.version()? < 4 { FLOWS_3 } else { FLOWS };
        let mut statement = self.conn.prepare_cached(sql).map_err(fail)?;
        let follow = |one: &Mid, next: &Mid| one.0.checked_add(1) == Some(next.0);
        for run in mids.chunk_by(follow) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut rows = statement.query([sqlite_int(first.0), sqlite_int(last.0)]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                tell(row).map_err(fail)?;
            }
        }
        Ok(told)
    }

    /// Gives a flow its connections.
    pub(super) fn add_conns(&self, flow: &mut Flow) -> Result<(), StoreError> {
        if flow.client.id.0 != 0
            && let Some(conn) = self.client_conn(flow.client.id.0)?
        {
            flow.client = Arc::new(conn);
        }
        if let Some(server) = flow.server.as_mut().filter(|server| server.id.0 != 0)
            && let Some(conn) = self.server_conn(server.id.0)?
        {
            *server = Arc::new(conn);
        }
        Ok(())
    }
}

/// The connection of this id, of which 0 is none; it is known from then on.
fn of<C>(
    id: u64,
    known: &mut HashMap<u64, Arc<C>>,
    read: impl FnOnce(u64) -> Result<Option<C>, StoreError>,
) -> Result<Option<Arc<C>>, StoreError> {
    if let Some(conn) = known.get(&id) {
        return Ok(Some(Arc::clone(conn)));
    }
    let conn = if id == 0 { None } else { read(id)?.map(Arc::new) };
    known.extend(conn.iter().map(|conn| (id, Arc::clone(conn))));
    Ok(conn)
}

/// Connections that are kept: a few KiB each, with certificates.
const MOST_CONNS: usize = 1024;

const FLOWS: &str = "SELECT mid, state, client_conn, server_conn, pbuf, record_segment, record_offset, record_len FROM flow \
     LEFT JOIN record USING (mid) WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";

/// Of a store whose records are all in a table.
const FLOWS_3: &str = "SELECT mid, state, client_conn, server_conn, pbuf, NULL, NULL, NULL FROM flow \
     LEFT JOIN record USING (mid) WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
