//! What a store holds, in numbers: one pass over the narrow rows, in constant memory.

use std::collections::{BTreeMap, HashMap};

use rusqlite::params;

use super::reader::{integer, text};
use super::row::{kind, state};
use super::top::{MANY, Tally, Top};
use super::{Reader, StoreError};
use crate::flow::Kind;

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// All flows, with the payload of their requests and responses.
    pub all: Tally,
    /// Payload bytes of requests, and of tunnels and WebSockets those from the client.
    pub request_bytes: u64,
    /// The same of responses, and from origins.
    pub response_bytes: u64,
    /// Lowest and highest mid.
    pub mids: Option<(u64, u64)>,
    /// When the first flow began and the last one: nanoseconds since 1970, UTC.
    pub span_unix_ns: Option<(i64, i64)>,
    /// By kind, by its name.
    pub kinds: BTreeMap<&'static str, Tally>,
    /// By state, by its name.
    pub states: BTreeMap<&'static str, Tally>,
    /// By status of the final response; those without one are not here.
    pub statuses: BTreeMap<u16, Tally>,
    /// The hosts with the most flows.
    pub hosts: TopList,
    /// The methods.
    pub methods: TopList,
    /// The media types of responses, without parameters, in lower case.
    pub types: TopList,
    /// The tags of the most flows. Bytes are not counted, and stay 0.
    pub tags: Vec<(String, Tally)>,
    /// Flows that are marked, and that have a comment.
    pub marked: u64,
    /// See `marked`.
    pub commented: u64,
    /// Bytes of files.
    pub files: Files,
}

/// The most frequent of some names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopList {
    /// Names with their tallies, most flows first.
    pub names: Vec<(String, Tally)>,
    /// Whether the counts are exact. They are not where there were very many names; then they may be too low.
    pub exact: bool,
}

/// How large the files of a store are, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// The database.
    pub database: u64,
    /// Its write-ahead log (sqlite.org/wal.html); 0 where there is none.
    pub wal: u64,
    /// All segments.
    pub segments: u64,
    /// How many segments there are.
    pub segment_count: u64,
    /// Of the database, what the segment of a packed store takes.
    pub packed: u64,
}

impl Files {
    fn add(&mut self, other: &Self) {
        self.database += other.database;
        self.wal += other.wal;
        self.segments += other.segments;
        self.segment_count += other.segment_count;
        self.packed += other.packed;
    }
}

impl TopList {
    /// The most frequent of both, and no more than are worth the memory.
    fn add(&mut self, other: Self) {
        let mut names: HashMap<String, Tally> = std::mem::take(&mut self.names).into_iter().collect();
        for (name, tally) in other.names {
            names.entry(name).or_default().join(tally);
        }
        self.names = names.into_iter().collect();
        self.names.sort_unstable_by(|a, b| (b.1.flows, b.1.bytes, &a.0).cmp(&(a.1.flows, a.1.bytes, &b.0)));
        self.exact &= other.exact && self.names.len() <= MANY;
        self.names.truncate(MANY);
    }
}

impl Stats {
    /// Adds what another store holds. Mids are of one store each, so there are none then.
    ///
    /// Names are counted exactly where both were counted with at least [`Stats::ALL_NAMES`] of them.
    pub fn add(&mut self, other: Self) {
        self.all.join(other.all);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.mids = None;
        let spans = self.span_unix_ns.into_iter().chain(other.span_unix_ns);
        self.span_unix_ns = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        join(&mut self.kinds, other.kinds);
        join(&mut self.states, other.states);
        join(&mut self.statuses, other.statuses);
        self.hosts.add(other.hosts);
        self.methods.add(other.methods);
        self.types.add(other.types);
        let mut tags = TopList { names: std::mem::take(&mut self.tags), exact: true };
        tags.add(TopList { names: other.tags, exact: true });
        self.tags = tags.names;
        self.marked += other.marked;
        self.commented += other.commented;
        self.files.add(&other.files);
    }

    /// Leaves the first `top` names of each list.
    pub fn truncate(&mut self, top: usize) {
        for list in [&mut self.hosts, &mut self.methods, &mut self.types] {
            list.names.truncate(top);
        }
        self.tags.truncate(top);
    }

    /// So many names are counted of each kind.
    pub const ALL_NAMES: usize = MANY;
}

fn join<K: Ord>(to: &mut BTreeMap<K, Tally>, from: BTreeMap<K, Tally>) {
    for (name, tally) in from {
        to.entry(name).or_default().join(tally);
    }
}

/// What is being counted.
struct Pass {
    stats: Stats,
    hosts: Top<i64>,
    methods: Top<String>,
    types: Top<String>,
}

impl Reader {
    /// Goes through all flows. `top` is how many names each list is to have; `progress` is called with the rows that are done
    /// and those that there are, by estimate, every few thousand. Flows that are recorded meanwhile are counted or not.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub fn stats(&self, top: usize, mut progress: impl FnMut(u64, u64)) -> Result<Stats, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "counting flows", e);
        let mut pass =
            Pass { stats: Stats::default(), hosts: Top::new(), methods: Top::new(), types: Top::new() };
        let highest = self.conn.query_row(HIGHEST, [], |row| integer(row, 0)).map_err(fail)?.unwrap_or(0);
        let mut statement = self.conn.prepare_cached(ROWS).map_err(fail)?;
        let mut after = i64::MIN;
        loop {
            // A page a transaction: a long one would keep the writer's log from being used anew.
            let mut rows = statement.query(params![after, PAGE]).map_err(fail)?;
            let mut count = 0;
            while let Some(row) = rows.next().map_err(fail)? {
                after = pass.row(row).map_err(fail)?.unwrap_or(after);
                count += 1;
            }
            if count < PAGE {
                break;
            }
            let first = pass.stats.mids.map_or(0, |(first, _)| first);
            let distance = |to: i64| u64::try_from(to).unwrap_or(0).saturating_sub(first);
            progress(distance(after), distance(highest));
        }
        let mut stats = pass.stats;
        stats.hosts = self.named_hosts(&pass.hosts, top)?;
        stats.methods = TopList { names: pass.methods.first(top), exact: pass.methods.is_exact() };
        stats.types = TopList { names: pass.types.first(top), exact: pass.types.is_exact() };
        self.count_notes(&mut stats, top)?;
        stats.files = self.files()?;
        Ok(stats)
    }

    fn named_hosts(&self, hosts: &Top<i64>, top: usize) -> Result<TopList, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading hosts", e);
        let mut statement = self.conn.prepare_cached(HOST).map_err(fail)?;
        let mut names = Vec::new();
        for (id, tally) in hosts.first(top) {
            let mut rows = statement.query([id]).map_err(fail)?;
            let name = rows.next().map_err(fail)?.map(|row| text(row, 0)).transpose().map_err(fail)?;
            names.push((name.flatten().unwrap_or_default(), tally));
        }
        Ok(TopList { names, exact: hosts.is_exact() })
    }

    fn count_notes(&self, stats: &mut Stats, top: usize) -> Result<(), StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "counting notes", e);
        let count = |sql| {
            let count =
                self.conn.prepare_cached(sql).and_then(|mut s| s.query_row([], |row| integer(row, 0)));
            count.map(|n| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)).map_err(fail)
        };
        if !self.has_notes()? {
            return Ok(());
        }
        (stats.marked, stats.commented) = (count(MARKED)?, count(COMMENTED)?);
        let mut statement = self.conn.prepare_cached(TAGS).map_err(fail)?;
        let read = |row: &rusqlite::Row<'_>| {
            let flows = integer(row, 1)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            Ok((text(row, 0)?.unwrap_or_default(), Tally { flows, bytes: 0 }))
        };
        let limit = i64::try_from(top).unwrap_or(i64::MAX);
        let tags = statement.query_map([limit], read).map_err(fail)?;
        stats.tags = tags.collect::<Result<_, _>>().map_err(fail)?;
        Ok(())
    }

    /// How large the files are, now.
    ///
    /// # Errors
    /// What the system said.
    pub fn files(&self) -> Result<Files, StoreError> {
        let len = |path: &std::path::Path| match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(StoreError::io(path, "looking at a file", e)),
        };
        let mut wal = self.paths.db.clone().into_os_string();
        wal.push("-wal");
        let mut files = Files { database: len(&self.paths.db)?, wal: len(wal.as_ref())?, ..Files::default() };
        for number in super::recover::listed_segments(&self.paths)? {
            files.segment_count += 1;
            files.segments += len(&self.paths.segment(number))?;
        }
        if self.is_packed() {
            let fail = |e| StoreError::sqlite(&self.paths.db, "measuring the segment", e);
            let end =
                self.conn.prepare_cached(PACKED).and_then(|mut end| end.query_row([], |row| integer(row, 0)));
            files.packed = end.map_err(fail)?.unwrap_or(0).max(0).cast_unsigned();
        }
        Ok(files)
    }
}

impl Pass {
    /// Counts a row of [`ROWS`]; its mid.
    fn row(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<i64>> {
        let number = |at| integer(row, at).map(|n| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
        let words = |at| text(row, at).map(Option::unwrap_or_default);
        let stats = &mut self.stats;
        let mid = integer(row, 0)?;
        let (request, response) = (number(7)?, number(8)?);
        let bytes = request.saturating_add(response);
        stats.all.add(bytes);
        stats.request_bytes = stats.request_bytes.saturating_add(request);
        stats.response_bytes = stats.response_bytes.saturating_add(response);
        let at = number(0)?;
        stats.mids = Some(stats.mids.map_or((at, at), |(low, high)| (low.min(at), high.max(at))));
        if let Some(at) = integer(row, 9)? {
            let span = stats.span_unix_ns.map_or((at, at), |(first, last)| (first.min(at), last.max(at)));
            stats.span_unix_ns = Some(span);
        }
        let kind = kind(integer(row, 1)?);
        stats.kinds.entry(kind.as_str()).or_default().add(bytes);
        let state = state(integer(row, 2)?);
        stats.states.entry(state.as_str()).or_default().add(bytes);
        if let Some(status) = integer(row, 3)?.and_then(|status| u16::try_from(status).ok()) {
            stats.statuses.entry(status).or_default().add(bytes);
        }
        self.hosts.add(&integer(row, 4)?.unwrap_or(0), bytes);
        let method = words(5)?;
        if kind == Kind::Http && !method.is_empty() {
            self.methods.add(&*method, bytes);
        }
        let media_type = words(6)?.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !media_type.is_empty() {
            self.types.add(&*media_type, bytes);
        }
        Ok(mid)
    }
}

/// Rows at a time: some milliseconds.
const PAGE: i64 = 4096;

/// Texts are cut as the writer cuts them: a file from elsewhere may hold anything.
const ROWS: &str = "SELECT mid, kind, state, status, host, substr(method, 1, 256), substr(response_type, 1, 256), \
     request_len, response_len, started_unix_ns FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2";
/// Its last row tells, since rows follow each other.
const PACKED: &str = "SELECT (SELECT at + length(data) FROM chunk ORDER BY at DESC LIMIT 1)";
const HIGHEST: &str = "SELECT max(mid) FROM flow";
const HOST: &str = "SELECT substr(name, 1, 1024) FROM host WHERE id = ?1";
const MARKED: &str = "SELECT count(*) FROM note WHERE marker <> ''";
const COMMENTED: &str = "SELECT count(*) FROM note WHERE comment <> ''";
const TAGS: &str = "SELECT substr(name, 1, 100), count(*) FROM tag GROUP BY name ORDER BY 2 DESC, 1 LIMIT ?1";
