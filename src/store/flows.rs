//! Several flows at once: their rows by one query, their records in few reads, the connections that they share once.

use std::sync::Arc;

use super::StoreError;
use super::reader::{Reader, integer};
use super::record::Found;
use super::row::sqlite_int;
use crate::codec::KnownConns;
use crate::flow::{Flow, Mid};

/// Connections that were read while nothing was written.
#[derive(Debug, Default)]
pub(super) struct Conns {
    /// By [`Reader::data_version`].
    of: i64,
    known: KnownConns,
}

impl Reader {
    /// As [`Reader::flow`], of several flows at one moment; those that are not there are left out. A connection that they
    /// share is read once, as long as nothing is written. All of them are in memory, and the store keeps what it would reclaim:
    /// ask for a few dozen. Flows that were stored one after the other may share the memory of their records.
    ///
    /// # Errors
    /// As [`Reader::flow`].
    pub fn flows(&self, mids: &[Mid]) -> Result<Vec<Flow>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "beginning to read", e);
        // It ends when it is dropped, with nothing to undo.
        let moment = self.conn.unchecked_transaction().map_err(fail)?;
        let of = self.data_version()?;
        let mut conns = self.conns.take();
        if conns.of != of || conns.known.clients.len() + conns.known.servers.len() > MOST_CONNS {
            conns = Conns { of, ..Conns::default() };
        }
        let known = &mut conns.known;
        let all = match self.neighbours(mids, known) {
            Some(flows) => flows,
            None => mids.iter().filter_map(|&mid| self.flow_knowing(mid, known).transpose()).collect(),
        };
        if all.is_ok() {
            self.conns.replace(conns);
            return all;
        }
        // A record that was moved meanwhile has another place now, which this moment does not know.
        drop(moment);
        mids.iter().filter_map(|&mid| self.flow(mid).transpose()).collect()
    }

    /// A flow with its connections.
    pub(super) fn flow_knowing(&self, mid: Mid, known: &mut KnownConns) -> Result<Option<Flow>, StoreError> {
        let Some((state, record)) = self.record(mid)? else { return Ok(None) };
        let mut flow = self.decoded(mid, state, &record, known)?;
        self.add_conns(&mut flow, known)?;
        Ok(Some(flow))
    }

    /// Flows whose mids follow each other without a gap, by one query. `None` for other mids, and for a store of an old
    /// version.
    fn neighbours(&self, mids: &[Mid], known: &mut KnownConns) -> Option<Result<Vec<Flow>, StoreError>> {
        let (first, last) = (mids.first()?, mids.last()?);
        let are = mids.windows(2).all(|two| two[0].0.checked_add(1) == Some(two[1].0));
        match self.version() {
            Ok(version) => (are && version >= 4).then(|| self.flows_between(*first, *last, known)),
            Err(error) => Some(Err(error)),
        }
    }

    fn flows_between(&self, first: Mid, last: Mid, known: &mut KnownConns) -> Result<Vec<Flow>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading flows", e);
        let mut statement = self.conn.prepare_cached(FLOWS).map_err(fail)?;
        let mut rows = statement.query([sqlite_int(first.0), sqlite_int(last.0)]).map_err(fail)?;
        let (mut states, mut places) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next().map_err(fail)? {
            let read = || Ok((integer(row, 0)?, integer(row, 1)?, Found::read(row, 2)?));
            let (mid, state, found) = read().map_err(fail)?;
            states.push(state);
            places.push((Mid(mid.unwrap_or(0).cast_unsigned()), found));
        }
        let mut flows = Vec::with_capacity(places.len());
        for ((record, state), (mid, found)) in self.records.get_all(&places).zip(states).zip(&places) {
            let record = record
                .map_err(|error| self.damaged(format!("the record of flow {mid}, {found}: {error}")))?;
            let mut flow = self.decoded(*mid, state, &record, known)?;
            self.add_conns(&mut flow, known)?;
            flows.push(flow);
        }
        Ok(flows)
    }

    /// Gives a flow its connections, which are known from then on.
    fn add_conns(&self, flow: &mut Flow, known: &mut KnownConns) -> Result<(), StoreError> {
        let id = flow.client.id;
        if let Some(conn) = known.clients.get(&id) {
            flow.client = Arc::clone(conn);
        } else if id.0 != 0
            && let Some(conn) = self.client_conn(id.0)?
        {
            flow.client = Arc::new(conn);
            known.clients.insert(id, Arc::clone(&flow.client));
        }
        let Some(server) = flow.server.as_mut().filter(|server| server.id.0 != 0) else { return Ok(()) };
        let id = server.id;
        if let Some(conn) = known.servers.get(&id) {
            *server = Arc::clone(conn);
        } else if let Some(conn) = self.server_conn(id.0)? {
            *server = Arc::new(conn);
            known.servers.insert(id, Arc::clone(server));
        }
        Ok(())
    }
}

/// Connections that are kept: a few KiB each, with certificates.
const MOST_CONNS: usize = 1024;

const FLOWS: &str = "SELECT mid, state, pbuf, record_segment, record_offset, record_len FROM flow \
     LEFT JOIN record USING (mid) WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
