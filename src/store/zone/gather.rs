//! Gathering what the rows of a block hold, in any order, and writing it as its zone.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::{Connection, params};

use super::set::{TextSet, encode_numbers};
use super::summary::{self, MEASURES, Property};
use super::urls::put_origin;
use super::{BLOCK, PLACES};
use crate::flow::{Kind, Target};
use crate::store::row::{self, REQUEST_TRUNCATED, RESPONSE_TRUNCATED, sqlite_int};

/// The values of a row that zones tell of, as they are in the table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub(super) mid: u64,
    pub(super) kind: i64,
    pub(super) state: i64,
    pub(super) scheme: i64,
    pub(super) host: i64,
    pub(super) port: i64,
    pub(super) status: Option<i64>,
    pub(super) started: i64,
    pub(super) duration: Option<i64>,
    pub(super) request_len: i64,
    pub(super) response_len: i64,
    pub(super) truncated: i64,
    pub(super) has_error: bool,
    pub(super) has_server: bool,
    pub(super) is_replay: bool,
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) request_type: Option<&'a [u8]>,
    pub(super) response_type: Option<&'a [u8]>,
}

/// What was gathered of a block.
#[derive(Debug)]
pub(super) struct Gathered {
    /// How many rows.
    pub(super) rows: u64,
    kinds: i64,
    states: i64,
    schemes: i64,
    present: i64,
    absent: i64,
    measures: [Option<(i64, i64)>; MEASURES],
    /// Hosts, ports, statuses.
    numbers: [Vec<i64>; 3],
    /// Methods, types of requests, types of responses.
    texts: [TextSet; 3],
    /// URLs, in the order in which they came.
    text: Vec<u8>,
    /// Where in `text` is the URL at each place; `None` without a row.
    urls: Box<[Option<(u32, u32)>; PLACES]>,
    left_out: Vec<i64>,
}

impl Default for Gathered {
    fn default() -> Self {
        Self {
            rows: 0,
            kinds: 0,
            states: 0,
            schemes: 0,
            present: 0,
            absent: 0,
            measures: [None; MEASURES],
            numbers: Default::default(),
            texts: Default::default(),
            text: Vec::new(),
            urls: Box::new([None; PLACES]),
            left_out: Vec::new(),
        }
    }
}

impl Gathered {
    /// Empties it, and keeps its memory, unless that is much.
    pub(super) fn clear(&mut self) {
        self.rows = 0;
        (self.kinds, self.states, self.schemes) = (0, 0, 0);
        (self.present, self.absent) = (0, 0);
        self.measures = [None; MEASURES];
        self.numbers.iter_mut().for_each(Vec::clear);
        self.texts.iter_mut().for_each(TextSet::clear);
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.urls.fill(None);
        self.left_out.clear();
    }

    /// Bytes of the URLs.
    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Adds a row of the block, with what stands before the path in its URL; `false` if there is one of this mid already.
    pub(super) fn add(&mut self, row: &Values<'_>, origin: &[u8]) -> bool {
        let place = usize::try_from(row.mid % BLOCK).unwrap_or(0);
        if self.urls[place].is_some() {
            return false;
        }
        self.urls[place] = Some(self.add_url(row, origin, place));
        self.rows += 1;
        self.kinds |= bit(row.kind);
        self.states |= bit(row.state);
        if row.state == 0 {
            // It will be, if the writer ends before it does, and that leaves zones as they are.
            self.states |= bit(row::INTERRUPTED);
        }
        self.schemes |= bit(row.scheme);
        for (set, number) in self.numbers.iter_mut().zip([Some(row.host), Some(row.port), row.status]) {
            if let Some(number) = number
                && set.last() != Some(&number)
            {
                set.push(number);
            }
        }
        let texts = [Some(row.method), row.request_type, row.response_type];
        for (set, text) in self.texts.iter_mut().zip(texts) {
            if let Some(text) = text {
                set.add(text);
            }
        }
        let mut present = 0;
        for (property, has) in [
            (Property::Status, row.status.is_some()),
            (Property::Duration, row.duration.is_some()),
            (Property::Error, row.has_error),
            (Property::RequestType, row.request_type.is_some()),
            (Property::ResponseType, row.response_type.is_some()),
            (Property::Server, row.has_server),
            (Property::ReplayOf, row.is_replay),
            (Property::RequestTruncated, row.truncated & REQUEST_TRUNCATED != 0),
            (Property::ResponseTruncated, row.truncated & RESPONSE_TRUNCATED != 0),
        ] {
            present |= if has { property.bit() } else { 0 };
        }
        self.present |= present;
        self.absent |= !present;
        let len = row.request_len.saturating_add(row.response_len);
        let measured =
            [Some(row.started), row.duration, Some(row.request_len), Some(row.response_len), Some(len)];
        for (range, number) in self.measures.iter_mut().zip(measured) {
            if let Some(n) = number {
                *range = Some(range.map_or((n, n), |(min, max)| (min.min(n), max.max(n))));
            }
        }
        true
    }

    /// Where it is in `text`: nowhere, if it is left out.
    fn add_url(&mut self, row: &Values<'_>, origin: &[u8], place: usize) -> (u32, u32) {
        let path = if row::kind(Some(row.kind)) == Kind::Http { row.path } else { b"" };
        let start = self.text.len();
        if origin.len() + path.len() <= MAX_URL {
            let bare = origin.is_empty() || path.first().is_none_or(|&first| first == b'/');
            self.text.extend_from_slice(origin);
            self.text.extend_from_slice(if bare { b"" } else { b"/" });
            self.text.extend_from_slice(path);
        } else {
            self.left_out.push(sqlite_int(place as u64));
        }
        if memchr::memchr(b'\n', &self.text[start..]).is_some() {
            // No request has such a URL, but a file of another program's may.
            self.text.truncate(start);
            self.left_out.push(sqlite_int(place as u64));
        }
        // A block's URLs are 2 MiB at most.
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        (at(start), at(self.text.len()))
    }

    /// Writes it as the zone of `block`; the bytes that it takes. `lines` is scratch memory.
    pub(super) fn write(
        &mut self,
        conn: &Connection,
        block: u64,
        lines: &mut Vec<u8>,
    ) -> rusqlite::Result<u64> {
        lines.clear();
        lines.shrink_to(KEPT_BYTES);
        let last = self.urls.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
        for url in &self.urls[..last] {
            // A mid that has no row, or none yet, has an empty line.
            let (start, end) = url.unwrap_or_default();
            lines.extend_from_slice(&self.text[start as usize..end as usize]);
            lines.push(b'\n');
        }
        let numbers = self.numbers.each_mut().map(encode_numbers);
        let ranges: [_; MEASURES] = std::array::from_fn(|measure| self.measures[measure].unzip());
        let texts = self.texts.each_ref().map(TextSet::encoded);
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
            numbers[0],
            numbers[1],
            numbers[2],
            texts[0],
            texts[1],
            texts[2],
        ])?;
        let left_out = (!self.left_out.is_empty()).then(|| encode_numbers(&mut self.left_out));
        conn.prepare_cached(INSERT_URLS)?.execute(params![block, &*lines, left_out])?;
        let sets = numbers.iter().map(Vec::len).chain(texts.iter().map(|text| text.map_or(0, <[u8]>::len)));
        Ok((lines.len() + sets.sum::<usize>()) as u64 + ROW_BYTES)
    }
}

/// What stands before the path in URLs, by kind, scheme, host and port: made once for many.
#[derive(Debug, Default)]
pub(super) struct Origins {
    known: HashMap<[i64; 4], Range<usize>>,
    text: Vec<u8>,
    last: ([i64; 4], Range<usize>),
}

impl Origins {
    /// That of a row; `name` gives the name of its host.
    pub(super) fn of<E>(
        &mut self,
        row: &Values<'_>,
        name: impl FnOnce() -> Result<String, E>,
    ) -> Result<&[u8], E> {
        let key = [row.kind, row.scheme, row.host, row.port];
        if self.last.0 != key || self.known.is_empty() {
            let range = match self.known.get(&key) {
                Some(range) => range.clone(),
                None => self.insert(key, name()?),
            };
            self.last = (key, range);
        }
        Ok(&self.text[self.last.1.clone()])
    }

    fn insert(&mut self, key: [i64; 4], host: String) -> Range<usize> {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
            self.text.clear();
        }
        let [kind, scheme, _, port] = key;
        let port = u16::try_from(port).unwrap_or(0);
        let start = self.text.len();
        let target = Target { scheme: row::scheme(Some(scheme)), host, port };
        put_origin(&mut self.text, row::kind(Some(kind)), &target);
        let range = start..self.text.len();
        self.known.insert(key, range.clone());
        range
    }
}

/// The bit of a small number; all bits for one that has none.
fn bit(number: i64) -> i64 {
    if (0..63).contains(&number) { 1 << number } else { -1 }
}

/// A longer URL is not in a block's text, so that no block is longer than 2 MiB; its flow always may match.
const MAX_URL: usize = 2048;

/// What is kept of the memory of a block's text: enough for URLs of 250 bytes.
const KEPT_BYTES: usize = 256 << 10;

/// Origins that are remembered; beyond that, all are forgotten.
const REMEMBERED: usize = 16_384;

/// What the rows of a zone take beside their sets and the URLs.
const ROW_BYTES: u64 = 120;

const INSERT_URLS: &str = "INSERT OR REPLACE INTO zone_url (block, urls, left_out) VALUES (?1, ?2, ?3)";
