//! Making the zone of a block from its rows.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::set::{TextSet, encode_numbers};
use super::summary::{
    self, HOSTS, MEASURES, METHODS, PORTS, Property, REQUEST_TYPES, RESPONSE_TYPES, STATUSES,
};
use super::urls::put_origin;
use super::{BLOCK, BLOCK_BITS};
use crate::flow::{Kind, Target};
use crate::store::row::{self, REQUEST_TRUNCATED, RESPONSE_TRUNCATED, sqlite_int};

/// Makes zones, one after the other, in memory that it keeps.
#[derive(Debug, Default)]
pub(super) struct Builder {
    flows: u64,
    kinds: i64,
    states: i64,
    schemes: i64,
    present: i64,
    absent: i64,
    measures: [Option<(i64, i64)>; MEASURES],
    numbers: [Vec<i64>; 3],
    texts: [TextSet; 3],
    urls: Vec<u8>,
    /// How many lines it has.
    lines: u64,
    left_out: Vec<i64>,
    /// Where in `origin_text` stands what is before the path, by kind, scheme, host and port.
    origins: HashMap<[i64; 4], Range<usize>>,
    origin_text: Vec<u8>,
}

impl Builder {
    /// Writes the zone of a block as its rows are now, in the transaction that `conn` is in; `false` if it has no rows, and
    /// so no zone.
    pub(super) fn build(&mut self, conn: &Connection, block: u64) -> rusqlite::Result<bool> {
        self.clear();
        let first = block << BLOCK_BITS;
        let mut rows = conn.prepare_cached(ROWS)?;
        let mut rows = rows.query([sqlite_int(first), sqlite_int(first + BLOCK - 1)])?;
        while let Some(row) = rows.next()? {
            self.add(conn, row, first)?;
        }
        if self.flows == 0 {
            return Ok(false);
        }
        self.write(conn, block)?;
        Ok(true)
    }

    fn clear(&mut self) {
        self.flows = 0;
        (self.kinds, self.states, self.schemes) = (0, 0, 0);
        (self.present, self.absent) = (0, 0);
        self.measures = [None; MEASURES];
        self.numbers.iter_mut().for_each(Vec::clear);
        self.texts.iter_mut().for_each(TextSet::clear);
        self.urls.clear();
        self.urls.shrink_to(KEPT_BYTES);
        self.lines = 0;
        self.left_out.clear();
        if self.origins.len() > REMEMBERED {
            self.origins.clear();
            self.origin_text.clear();
        }
    }

    fn add(&mut self, conn: &Connection, row: &rusqlite::Row<'_>, first: u64) -> rusqlite::Result<()> {
        let int = |at| row.get_ref(at).map(|v| if let ValueRef::Integer(n) = v { Some(n) } else { None });
        let text = |at| {
            row.get_ref(at).map(|v| match v {
                ValueRef::Text(t) | ValueRef::Blob(t) => Some(t),
                _ => None,
            })
        };
        self.flows += 1;
        let (kind, state, scheme) = (int(KIND)?, int(STATE)?, int(SCHEME)?);
        self.kinds |= bit(kind);
        self.states |= bit(state);
        if state == Some(0) {
            // It will be, if the writer ends before it does, and that leaves zones as they are.
            self.states |= bit(Some(row::INTERRUPTED));
        }
        self.schemes |= bit(scheme);
        let (host, port) = (int(HOST)?.unwrap_or(0), int(PORT)?.unwrap_or(0));
        let status = int(STATUS)?;
        for (set, number) in [(HOSTS, Some(host)), (PORTS, Some(port)), (STATUSES, status)] {
            let numbers = &mut self.numbers[set];
            if let Some(number) = number
                && numbers.last() != Some(&number)
            {
                numbers.push(number);
            }
        }
        let (request_type, response_type) = (text(REQUEST_TYPE)?, text(RESPONSE_TYPE)?);
        for (set, text) in
            [(METHODS, text(METHOD)?), (REQUEST_TYPES, request_type), (RESPONSE_TYPES, response_type)]
        {
            if let Some(text) = text {
                self.texts[set - METHODS].add(text);
            }
        }
        let (duration, truncated) = (int(DURATION)?, int(TRUNCATED)?.unwrap_or(0));
        for (property, has) in [
            (Property::Status, status.is_some()),
            (Property::Duration, duration.is_some()),
            (Property::Error, int(ERROR)? == Some(1)),
            (Property::RequestType, request_type.is_some()),
            (Property::ResponseType, response_type.is_some()),
            (Property::Server, int(SERVER)? == Some(1)),
            (Property::ReplayOf, int(REPLAY_OF)? == Some(1)),
            (Property::RequestTruncated, truncated & REQUEST_TRUNCATED != 0),
            (Property::ResponseTruncated, truncated & RESPONSE_TRUNCATED != 0),
        ] {
            let bits = if has { &mut self.present } else { &mut self.absent };
            *bits |= property.bit();
        }
        let (request_len, response_len) = (int(REQUEST_LEN)?.unwrap_or(0), int(RESPONSE_LEN)?.unwrap_or(0));
        let len = request_len.saturating_add(response_len);
        let measured = [int(STARTED)?, duration, Some(request_len), Some(response_len), Some(len)];
        for (range, number) in self.measures.iter_mut().zip(measured) {
            if let Some(n) = number {
                *range = Some(range.map_or((n, n), |(min, max)| (min.min(n), max.max(n))));
            }
        }
        let place = int(MID)?.unwrap_or(0).cast_unsigned().saturating_sub(first);
        self.add_url(
            conn,
            place,
            [kind.unwrap_or(0), scheme.unwrap_or(2), host, port],
            text(PATH)?.unwrap_or(b""),
        )
    }

    fn add_url(
        &mut self,
        conn: &Connection,
        place: u64,
        origin: [i64; 4],
        path: &[u8],
    ) -> rusqlite::Result<()> {
        // A mid that has no row, or none yet, has an empty line.
        while self.lines < place {
            self.urls.push(b'\n');
            self.lines += 1;
        }
        let path = if row::kind(Some(origin[0])) == Kind::Http { path } else { b"" };
        let origin = self.origin(conn, origin)?;
        let start = self.urls.len();
        if origin.len() + path.len() <= MAX_URL {
            let bare = origin.is_empty() || path.first().is_none_or(|&first| first == b'/');
            self.urls.extend_from_slice(&self.origin_text[origin]);
            self.urls.extend_from_slice(if bare { b"" } else { b"/" });
            self.urls.extend_from_slice(path);
        } else {
            self.left_out.push(sqlite_int(place));
        }
        if memchr::memchr(b'\n', &self.urls[start..]).is_some() {
            // No request has such a URL, but a file of another program's may.
            self.urls.truncate(start);
            self.left_out.push(sqlite_int(place));
        }
        self.urls.push(b'\n');
        self.lines += 1;
        Ok(())
    }

    fn origin(&mut self, conn: &Connection, key: [i64; 4]) -> rusqlite::Result<Range<usize>> {
        if let Some(origin) = self.origins.get(&key) {
            return Ok(origin.clone());
        }
        let [kind, scheme, host, port] = key;
        let name = conn.prepare_cached(HOST_NAME)?.query_row([host], |row| row.get(0)).optional()?;
        let target = Target {
            scheme: row::scheme(Some(scheme)),
            host: name.unwrap_or_default(),
            port: u16::try_from(port).unwrap_or(0),
        };
        let start = self.origin_text.len();
        put_origin(&mut self.origin_text, row::kind(Some(kind)), &target);
        let origin = start..self.origin_text.len();
        self.origins.insert(key, origin.clone());
        Ok(origin)
    }

    fn write(&mut self, conn: &Connection, block: u64) -> rusqlite::Result<()> {
        let numbers = self.numbers.each_mut().map(encode_numbers);
        let range = |measure: usize| self.measures[measure].unzip();
        let ranges: [_; MEASURES] = std::array::from_fn(range);
        let block = sqlite_int(block);
        conn.prepare_cached(summary::INSERT)?.execute(params![
            block,
            self.kinds,
            self.states,
            self.schemes,
            self.present,
            self.absent,
            ranges[0].0,
            ranges[0].1,
            ranges[1].0,
            ranges[1].1,
            ranges[2].0,
            ranges[2].1,
            ranges[3].0,
            ranges[3].1,
            ranges[4].0,
            ranges[4].1,
            numbers[HOSTS],
            numbers[PORTS],
            numbers[STATUSES],
            self.texts[0].encoded(),
            self.texts[1].encoded(),
            self.texts[2].encoded(),
        ])?;
        let left_out = (!self.left_out.is_empty()).then(|| encode_numbers(&mut self.left_out));
        conn.prepare_cached(INSERT_URLS)?.execute(params![block, self.urls, left_out])?;
        Ok(())
    }
}

/// The bit of a small number; all bits for one that has none.
fn bit(number: Option<i64>) -> i64 {
    match number {
        Some(n @ 0..63) => 1 << n,
        _ => -1,
    }
}

/// A longer URL is not in a block's text, so that no block is longer than 2 MiB; its flow always may match.
const MAX_URL: usize = 2048;

/// What a block's text keeps of its memory: enough for URLs of 250 bytes.
const KEPT_BYTES: usize = 256 << 10;

/// Origins that are remembered; beyond that, all are forgotten.
const REMEMBERED: usize = 16_384;

const MID: usize = 0;
const STARTED: usize = 1;
const DURATION: usize = 2;
const KIND: usize = 3;
const STATE: usize = 4;
const METHOD: usize = 5;
const SCHEME: usize = 6;
const HOST: usize = 7;
const PORT: usize = 8;
const PATH: usize = 9;
const STATUS: usize = 10;
const REQUEST_TYPE: usize = 11;
const RESPONSE_TYPE: usize = 12;
const REQUEST_LEN: usize = 13;
const RESPONSE_LEN: usize = 14;
const ERROR: usize = 15;
const SERVER: usize = 16;
const REPLAY_OF: usize = 17;
const TRUNCATED: usize = 18;

const ROWS: &str = "SELECT mid, started_unix_ns, duration_us, kind, state, method, scheme, host, port, path, status, \
     request_type, response_type, request_len, response_len, error IS NOT NULL, server_conn IS NOT NULL, \
     replay_of IS NOT NULL, truncated FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid";
const HOST_NAME: &str = "SELECT name FROM host WHERE id = ?1";
const INSERT_URLS: &str = "INSERT OR REPLACE INTO zone_url (block, urls, left_out) VALUES (?1, ?2, ?3)";
