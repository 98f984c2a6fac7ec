//! The URLs of a block as one text, a line each, so that a pattern runs over it at the speed of memory.
//!
//! A line is a flow's URL as filters see it. Whole URLs, though a host stands in many of them, and not
//! compressed: searching takes 25 ns a flow, of which SQLite takes 14; putting them together from hosts and paths would
//! take 40 more, decompressing 80 more, and compressing 300 on the way in, for 15 and 50 bytes a flow less (200,000
//! URLs of 69 bytes, `zstd` 1).

use regex::bytes::{Regex, RegexBuilder};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::set::Numbers;
use super::{BLOCK, BLOCK_BITS, PLACES};
use crate::flow::{Kind, Mid, Scheme, Target};
use crate::store::row::sqlite_int;

/// A pattern that URLs are searched for.
#[derive(Debug, Clone)]
pub struct UrlPattern {
    /// For one URL.
    each: Regex,
    /// For many, a line each: finds a place in every line that `each` matches, and perhaps others.
    lines: Option<Regex>,
}

/// The URLs of a block.
#[derive(Debug, Default)]
pub struct Urls {
    block: u64,
    text: Vec<u8>,
    /// Places in the block of URLs that are not in the text: those that are very long.
    left_out: Vec<usize>,
}

/// Which flows of a block have a URL that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    block: u64,
    matching: Places,
    unknown: Places,
}

/// A bit for each mid of a block.
type Places = [u64; (BLOCK / 64) as usize];

impl UrlPattern {
    /// Compiles what `builder` holds, which must not be set to many lines.
    ///
    /// # Errors
    /// If it is no pattern, or too large.
    pub fn new(builder: &mut RegexBuilder) -> Result<Self, regex::Error> {
        let each = builder.multi_line(false).build()?;
        // With `^` and `$` at each line, whatever matches a URL alone matches it among others at the same place; but for
        // anchors of the whole text, and for flags that are set inside.
        let flags = each.as_str().replace("(?:", "").contains("(?");
        let anchors = [r"\A", r"\z"].iter().any(|anchor| each.as_str().contains(anchor));
        let lines = if flags || anchors { None } else { Some(builder.multi_line(true).build()?) };
        Ok(Self { each, lines })
    }

    /// As [`UrlPattern::new`], with another pattern for many lines, which must find a place in every line that the first one
    /// matches alone.
    ///
    /// # Errors
    /// If either is no pattern, or too large.
    pub fn with_lines(each: &mut RegexBuilder, lines: &mut RegexBuilder) -> Result<Self, regex::Error> {
        let (each, lines) = (each.multi_line(false).build()?, lines.multi_line(true).build()?);
        Ok(Self { each, lines: Some(lines) })
    }

    /// Whether it matches this URL.
    #[must_use]
    pub fn is_match(&self, url: &[u8]) -> bool {
        self.each.is_match(url)
    }
}

impl Urls {
    /// Loads those of the block that `mid` is in; `false` if the store has none of it.
    pub(in crate::store) fn load(&mut self, conn: &Connection, mid: Mid) -> rusqlite::Result<bool> {
        self.block = mid.0 >> BLOCK_BITS;
        self.text.clear();
        self.left_out.clear();
        let mut statement = conn.prepare_cached(SELECT)?;
        let found = statement.query_row([sqlite_int(self.block)], |row| {
            let ValueRef::Blob(text) = row.get_ref(0)? else { return Ok(false) };
            self.text.extend_from_slice(text);
            if let ValueRef::Blob(places) = row.get_ref(1)? {
                let places = Numbers::new(places).map(|n| n.and_then(|n| usize::try_from(n).ok()));
                self.left_out.extend(places.flatten().filter(|&place| place < PLACES));
            }
            Ok(true)
        });
        Ok(found.optional()?.unwrap_or(false))
    }

    /// A block of these, for a test.
    #[cfg(test)]
    pub(super) fn of(block: u64, urls: &[String]) -> Self {
        let text = urls.iter().flat_map(|url| [url.as_bytes(), b"\n"].concat()).collect();
        Self { block, text, left_out: Vec::new() }
    }

    /// Those that match.
    #[must_use]
    pub fn search(&self, pattern: &UrlPattern) -> Hits {
        let mut hits = Hits { block: self.block, matching: Places::default(), unknown: Places::default() };
        let mut line = 0;
        let mut rest = &self.text[..];
        while !rest.is_empty() && line < PLACES {
            // In chunks of whole lines: what a pattern that matches over the ends of lines does twice is bounded by them.
            let near =
                rest.get(..CHUNK).map_or(rest.len(), |chunk| memchr::memrchr(b'\n', chunk).unwrap_or(0));
            let end = memchr::memchr(b'\n', &rest[near..]).map_or(rest.len(), |at| near + at);
            let (chunk, after) = rest.split_at(end);
            line = search_chunk(chunk, line, pattern, &mut hits.matching);
            rest = after.get(1..).unwrap_or_default();
        }
        for &place in &self.left_out {
            set(&mut hits.unknown, place);
        }
        hits
    }
}

/// Searches lines, of which the first is the URL at the place `line`; the place after the last of them.
fn search_chunk(chunk: &[u8], mut line: usize, pattern: &UrlPattern, matching: &mut Places) -> usize {
    let mut lines = pattern.lines.as_ref();
    let mut at = 0;
    while at <= chunk.len() {
        let mut found_end = 0;
        if let Some(regex) = lines {
            // The first match begins no later than the first of a line alone, so no line before it matches.
            let Some(found) = regex.find_at(chunk, at) else { return line + ends(&chunk[at..]) + 1 };
            let before = &chunk[at..found.start()];
            line += ends(before);
            at = memchr::memrchr(b'\n', before).map_or(at, |i| at + i + 1);
            found_end = found.end();
        }
        let end = memchr::memchr(b'\n', &chunk[at..]).map_or(chunk.len(), |i| at + i);
        let is_match = pattern.is_match(&chunk[at..end]);
        if is_match {
            set(matching, line);
        }
        if !is_match || found_end > end {
            // It matches over the ends of lines, and would go over the same text again and again.
            lines = None;
        }
        line += 1;
        at = end + 1;
    }
    line
}

fn ends(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

impl Hits {
    /// Whether the URL of this flow matches; `None` if that is not known. Of a mid that has no flow, anything.
    #[must_use]
    pub fn of(&self, mid: Mid) -> Option<bool> {
        if mid.0 >> BLOCK_BITS != self.block {
            return None;
        }
        let (word, bit) = word_and_bit(usize::try_from(mid.0 % BLOCK).ok()?);
        (self.unknown[word] & bit == 0).then(|| self.matching[word] & bit != 0)
    }

    /// `Some(false)` if no URL of the block matches, else `None`.
    #[must_use]
    pub fn any(&self) -> Option<bool> {
        let none = self.matching.iter().chain(&self.unknown).all(|&word| word == 0);
        none.then_some(false)
    }

    /// The mids of those that match or may match, lowest first.
    pub fn mids(&self) -> impl DoubleEndedIterator<Item = Mid> + '_ {
        (0..BLOCK)
            .map(|place| Mid((self.block << BLOCK_BITS) + place))
            .filter(|&mid| self.of(mid) != Some(false))
    }
}

/// Appends what stands before the path in a URL as a filter sees it: scheme and authority of a request of HTTP, whatever
/// the form of its target; host and port of anything else, which has no path.
pub(super) fn put_origin(text: &mut Vec<u8>, kind: Kind, target: &Target) {
    match kind {
        Kind::Http if target.host.is_empty() => {}
        Kind::Http => {
            text.extend_from_slice(target.scheme.as_str().as_bytes());
            text.extend_from_slice(b"://");
            text.extend_from_slice(target.authority().as_bytes());
        }
        _ if target.scheme == Scheme::Tcp && target.host.is_empty() => {}
        _ => text.extend_from_slice(target.host_port().as_bytes()),
    }
}

fn set(places: &mut Places, place: usize) {
    let (word, bit) = word_and_bit(place);
    if let Some(word) = places.get_mut(word) {
        *word |= bit;
    }
}

fn word_and_bit(place: usize) -> (usize, u64) {
    (place / 64, 1 << (place % 64))
}

/// Bytes that are searched at a time, to the next end of a line.
const CHUNK: usize = 16 << 10;

const SELECT: &str = "SELECT urls, left_out FROM zone_url WHERE block = ?1";
