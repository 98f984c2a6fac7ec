//! Which flows a store has already, so that the same file can be imported twice without doubling what is in it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::flow::{Flow, Kind, Scheme};
use crate::store::{ListQuery, Order, Reader, Row, StoreError};

/// What tells the flows of a store: eight bytes a flow.
///
/// Two flows are the same if kind, method, URL and status are, and the microsecond in which they began; formats that hold times
/// as floating-point seconds are a fraction off, so the microseconds beside it count too. Each flow of the store
/// answers for one flow of the file, so that two that were really sent at once stay two.
#[derive(Debug, Default)]
pub struct Known {
    sorted: Vec<u64>,
    used: HashMap<u64, usize>,
}

impl Known {
    /// Reads the rows of a store, from the oldest on. `watch` is told how many were read.
    ///
    /// # Errors
    /// What the store said.
    pub fn of(reader: &Reader, watch: &mut dyn FnMut(u64)) -> Result<Self, StoreError> {
        let mut sorted = Vec::new();
        let mut after = None;
        loop {
            let query = ListQuery { limit: Some(PAGE), before: None, after, order: Order::OldestFirst };
            let rows = reader.list(&query)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.mid);
            sorted.extend(rows.iter().map(|row| Traits::of_row(row).hash(0)));
            watch(sorted.len() as u64);
        }
        sorted.sort_unstable();
        Ok(Self { sorted, used: HashMap::new() })
    }

    /// Whether the store had this flow. What it had answers once for each time that it had it.
    pub fn take(&mut self, flow: &Flow) -> bool {
        let path = String::from_utf8_lossy(flow.path());
        let traits = Traits::of_flow(flow, &path);
        [0, -1, 1].into_iter().any(|shift| self.take_hash(traits.hash(shift)))
    }

    fn take_hash(&mut self, hash: u64) -> bool {
        let first = self.sorted.partition_point(|&known| known < hash);
        let had = self.sorted.get(first..).unwrap_or_default().iter().take_while(|&&k| k == hash).count();
        let used = self.used.get(&hash).copied().unwrap_or(0);
        let free = used < had;
        if free {
            self.used.insert(hash, used + 1);
        }
        free
    }
}

/// What a flow is told by.
struct Traits<'a> {
    started_us: i64,
    kind: Kind,
    scheme: Scheme,
    method: &'a [u8],
    host: &'a str,
    port: u16,
    path: &'a str,
    status: Option<u16>,
}

impl<'a> Traits<'a> {
    fn of_row(row: &'a Row) -> Self {
        Self {
            started_us: row.started_unix_ns.div_euclid(1000),
            kind: row.kind,
            scheme: row.scheme,
            method: row.method.as_bytes(),
            host: &row.host,
            port: row.port,
            path: &row.path,
            status: row.status,
        }
    }

    fn of_flow(flow: &'a Flow, path: &'a str) -> Self {
        Self {
            started_us: flow.timing.started_unix_ns.div_euclid(1000),
            kind: flow.kind,
            scheme: flow.target.scheme,
            method: flow.request.as_ref().map_or(&[], |request| &request.method),
            host: &flow.target.host,
            port: flow.target.port,
            path,
            status: flow.response.as_ref().map(|response| response.status),
        }
    }

    fn hash(&self, shift: i64) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.started_us.wrapping_add(shift).hash(&mut hasher);
        (self.kind.as_str(), self.scheme, self.port, self.status).hash(&mut hasher);
        // A row has no more than the beginning of a long one.
        let first = |bytes: &'a [u8]| &bytes[..bytes.len().min(COMPARED)];
        (first(self.method), first(self.host.as_bytes()), first(self.path.as_bytes())).hash(&mut hasher);
        hasher.finish()
    }
}

/// Rows that are read at once.
const PAGE: usize = 1024;

/// Bytes of a text that are compared.
const COMPARED: usize = 200;
