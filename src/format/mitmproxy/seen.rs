//! Connections of a file that were read before: flows that share one repeat it, byte for byte, with its certificates.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use bytes::Bytes;

use crate::flow::{ClientConn, ServerConn, Value};

/// What was made of the connections that were read last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    clients: HashMap<u64, Known<ClientConn>>,
    servers: HashMap<u64, Known<ServerConn>>,
    len: usize,
}

/// A connection as it stands in a file.
#[derive(Debug)]
pub(super) struct ConnRead<C> {
    /// Tells it from the others of the file.
    pub(super) sum: u64,
    pub(super) raw: Bytes,
    /// What was made of it before.
    pub(super) known: Option<Known<C>>,
}

/// What a connection of a file is.
#[derive(Debug)]
pub(super) struct Known<C> {
    raw: Bytes,
    pub(super) conn: Arc<C>,
    /// What the record of it alone would not give back, by its path in the flow.
    pub(super) exact: Vec<(String, Value)>,
}

impl Seen {
    pub(super) fn client(&self, raw: &Bytes) -> ConnRead<ClientConn> {
        let sum = self.hasher.hash_one(&raw[..]);
        ConnRead { sum, raw: raw.clone(), known: found(&self.clients, sum, raw) }
    }

    pub(super) fn server(&self, raw: &Bytes) -> ConnRead<ServerConn> {
        let sum = self.hasher.hash_one(&raw[..]);
        ConnRead { sum, raw: raw.clone(), known: found(&self.servers, sum, raw) }
    }

    /// Remembers what a client's connection is.
    pub(super) fn learn_client(
        &mut self,
        read: &ConnRead<ClientConn>,
        conn: Arc<ClientConn>,
        exact: Vec<(String, Value)>,
    ) {
        self.make_room(&read.raw);
        self.clients.insert(read.sum, Known { raw: read.raw.clone(), conn, exact });
    }

    /// The same of a server's.
    pub(super) fn learn_server(
        &mut self,
        read: &ConnRead<ServerConn>,
        conn: Arc<ServerConn>,
        exact: Vec<(String, Value)>,
    ) {
        self.make_room(&read.raw);
        self.servers.insert(read.sum, Known { raw: read.raw.clone(), conn, exact });
    }

    fn make_room(&mut self, raw: &Bytes) {
        self.len += raw.len() + CONN_COST;
        if self.len > MOST_LEN {
            self.clients.clear();
            self.servers.clear();
            self.len = raw.len() + CONN_COST;
        }
    }
}

fn found<C>(known: &HashMap<u64, Known<C>>, sum: u64, raw: &Bytes) -> Option<Known<C>> {
    known.get(&sum).filter(|known| known.raw == raw).cloned()
}

impl<C> Clone for Known<C> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), conn: Arc::clone(&self.conn), exact: self.exact.clone() }
    }
}

impl<C> Default for ConnRead<C> {
    fn default() -> Self {
        Self { sum: 0, raw: Bytes::new(), known: None }
    }
}

/// What connections may take that are remembered, as they stand in the file. What is made of one takes as much, and what it
/// costs besides is some hundred bytes a field.
const MOST_LEN: usize = 2 << 20;
const CONN_COST: usize = 2 << 10;
