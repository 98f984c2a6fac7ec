//! Which sides of flows have a trigram, for all trigrams of a block: gathered, and as bytes in chunks that are found by their
//! first trigram.
//!
//! A chunk is a CRC-32C of what follows, little-endian, then entries in the order of their trigrams. An entry: how much its
//! trigram is above that of the one before (of the first, above the chunk's), as LEB128; two bytes, little-endian, of
//! which the low 11 bits are the first side that has it and the others how many have it, less one; if that is 31, the
//! number itself, less one, as LEB128. Then the others' distances less one, as LEB128; or where there are more than
//! [`SPARSE`], one bit for each side of the block.

use super::{DOCS, Docs};

/// Trigrams of a block with the sides that have them.
#[derive(Debug)]
pub(super) struct Postings {
    /// By the first byte of the trigram; its other bytes, and the side.
    buckets: Vec<Vec<u32>>,
    count: usize,
}

/// Some of the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its first trigram.
    pub(super) first: u32,
    pub(super) data: Vec<u8>,
}

/// A chunk that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl Postings {
    pub(super) fn new() -> Self {
        Self { buckets: vec![Vec::new(); 256], count: 0 }
    }

    /// Whether there is room for so many more.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.count + more <= MOST
    }

    /// Notes that a side has these trigrams, each once. Sides come in rising order.
    pub(super) fn add(&mut self, doc: usize, trigrams: &[u32]) {
        let doc = u32::try_from(doc % DOCS).unwrap_or(0);
        for trigram in trigrams {
            self.buckets[(trigram >> 16) as usize & 0xff].push(trigram << 16 | doc);
        }
        self.count += trigrams.len();
    }

    /// All of them, as bytes.
    pub(super) fn into_chunks(self) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        let mut docs = Vec::new();
        for (high, mut bucket) in (0_u32..).zip(self.buckets) {
            bucket.sort_unstable();
            for same in bucket.chunk_by(|a, b| a >> 16 == b >> 16) {
                docs.clear();
                docs.extend(same.iter().map(|pair| pair & 0xffff));
                chunks.push(high << 16 | same[0] >> 16, &docs);
            }
        }
        chunks.finish()
    }
}

#[derive(Debug, Default)]
struct Chunks {
    done: Vec<Chunk>,
    first: u32,
    last: u32,
    data: Vec<u8>,
    entry: Vec<u8>,
}

impl Chunks {
    /// `docs` are not empty, and rise.
    fn push(&mut self, trigram: u32, docs: &[u32]) {
        self.entry.clear();
        let (first, count) = (docs[0], docs.len());
        // Both are below 2048.
        let head = first | u32::try_from(count - 1).unwrap_or(MANY).min(MANY) << 11;
        self.entry.extend_from_slice(&head.to_le_bytes()[..2]);
        if count > MANY as usize {
            put(&mut self.entry, u32::try_from(count - 1).unwrap_or(0));
        }
        if count > SPARSE {
            let mut bits: Docs = [0; DOCS / 64];
            docs.iter().for_each(|&doc| bits[doc as usize / 64] |= 1 << (doc % 64));
            self.entry.extend(bits.iter().flat_map(|word| word.to_le_bytes()));
        } else {
            docs.windows(2).for_each(|two| put(&mut self.entry, two[1] - two[0] - 1));
        }
        if self.data.len() + self.entry.len() > CHUNK_BYTES {
            self.cut();
        }
        if self.data.is_empty() {
            (self.first, self.last) = (trigram, trigram);
            self.data.extend_from_slice(&[0; 4]);
        }
        put(&mut self.data, trigram - self.last);
        self.data.extend_from_slice(&self.entry);
        self.last = trigram;
    }

    fn cut(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        if let Some((sum, entries)) = data.split_first_chunk_mut() {
            *sum = crc32c::crc32c(entries).to_le_bytes();
            self.done.push(Chunk { first: self.first, data });
        }
    }

    fn finish(mut self) -> Vec<Chunk> {
        self.cut();
        self.done
    }
}

/// The sides that have a trigram, by the chunk in which it would be; none if it is not there.
///
/// # Errors
/// If the chunk is damaged.
pub(super) fn find(first: u32, data: &[u8], wanted: u32) -> Result<Docs, Damaged> {
    let mut found = [0; DOCS / 64];
    each(first, data, |trigram| trigram == wanted, &mut |_, docs| found = *docs)?;
    Ok(found)
}

/// Calls `see` with each entry of a chunk that is `wanted`.
///
/// # Errors
/// If the chunk is damaged; of what comes before, all is given.
pub(super) fn each(
    first: u32,
    data: &[u8],
    wanted: impl Fn(u32) -> bool,
    see: &mut dyn FnMut(u32, &Docs),
) -> Result<(), Damaged> {
    let (sum, mut rest) = data.split_first_chunk().ok_or(Damaged)?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*sum) {
        return Err(Damaged);
    }
    let mut trigram = first;
    while !rest.is_empty() {
        trigram = trigram.checked_add(take(&mut rest)?).ok_or(Damaged)?;
        let wanted = wanted(trigram);
        let mut docs = [0; DOCS / 64];
        entry(&mut rest, wanted.then_some(&mut docs))?;
        if wanted {
            see(trigram, &docs);
        }
    }
    Ok(())
}

/// Reads what follows the trigram.
fn entry(rest: &mut &[u8], docs: Option<&mut Docs>) -> Result<(), Damaged> {
    let (head, after) = rest.split_first_chunk().ok_or(Damaged)?;
    *rest = after;
    let head = u32::from(u16::from_le_bytes(*head));
    let (mut doc, mut others) = (head & 0x7ff, head >> 11);
    if others == MANY {
        others = take(rest)?;
    }
    if others as usize >= SPARSE {
        let (bits, after) = rest.split_at_checked(DOCS / 8).ok_or(Damaged)?;
        *rest = after;
        if let Some(docs) = docs {
            for (word, bytes) in docs.iter_mut().zip(bits.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        return Ok(());
    }
    let mut none = [0; DOCS / 64];
    let docs = docs.unwrap_or(&mut none);
    docs[doc as usize / 64] |= 1 << (doc % 64);
    for _ in 0..others {
        doc = doc.checked_add(take(rest)?).and_then(|doc| doc.checked_add(1)).ok_or(Damaged)?;
        *docs.get_mut(doc as usize / 64).ok_or(Damaged)? |= 1 << (doc % 64);
    }
    Ok(())
}

/// Writes a number of up to 28 bits.
fn put(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn take(rest: &mut &[u8]) -> Result<u32, Damaged> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = rest.split_first().ok_or(Damaged)?;
        *rest = after;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

/// Pairs in a block: 12 MB while it is made.
const MOST: usize = 3_000_000;

/// Two chunks in a page of the database, which is read as a whole, with their keys and lengths.
const CHUNK_BYTES: usize = 4040;

/// The count that says that the count follows.
const MANY: u32 = 31;

/// With more sides than this, a bit for each of the block takes less.
const SPARSE: usize = 224;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn lookup(chunks: &[Chunk], trigram: u32) -> Docs {
        let at = chunks.partition_point(|chunk| chunk.first <= trigram);
        match at.checked_sub(1) {
            Some(at) => find(chunks[at].first, &chunks[at].data, trigram).unwrap(),
            None => [0; DOCS / 64],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn what_was_added_is_found_and_nothing_else(
            common in prop::collection::vec((0_u32..40, 0..DOCS), 0..6000),
            rare in prop::collection::vec((0_u32..1 << 24, 0..DOCS), 0..3000),
            asked in prop::collection::vec(0_u32..1 << 24, 100),
        ) {
            let mut of_docs = BTreeMap::<usize, BTreeSet<u32>>::new();
            let mut expected = BTreeMap::<u32, Docs>::new();
            for &(trigram, doc) in common.iter().chain(&rare) {
                of_docs.entry(doc).or_default().insert(trigram);
                expected.entry(trigram).or_insert([0; DOCS / 64])[doc / 64] |= 1 << (doc % 64);
            }
            let mut postings = Postings::new();
            for (&doc, trigrams) in &of_docs {
                postings.add(doc, &trigrams.iter().copied().collect::<Vec<_>>());
            }
            let chunks = postings.into_chunks();
            prop_assert!(chunks.iter().all(|chunk| chunk.data.len() <= CHUNK_BYTES + 4));
            for (&trigram, docs) in &expected {
                prop_assert_eq!(&lookup(&chunks, trigram), docs);
            }
            for trigram in asked {
                let docs = expected.get(&trigram).copied().unwrap_or([0; DOCS / 64]);
                prop_assert_eq!(lookup(&chunks, trigram), docs);
            }
        }

        #[test]
        fn a_changed_chunk_is_found_out_and_any_bytes_are_survived(
            mut bytes: Vec<u8>,
            first in 0_u32..1 << 24,
            flip in any::<prop::sample::Index>(),
        ) {
            let mut postings = Postings::new();
            postings.add(7, &[first, first ^ 1]);
            let mut chunk = postings.into_chunks().remove(0);
            let at = flip.index(chunk.data.len());
            chunk.data[at] ^= 0x10;
            prop_assert_eq!(find(chunk.first, &chunk.data, first), Err(Damaged));
            // With a sum that is right, so that what follows is looked at.
            let sum = crc32c::crc32c(&bytes).to_le_bytes();
            bytes.splice(..0, sum);
            let _ = each(first, &bytes, |_| true, &mut |_, _| {});
        }
    }
}
