//! The index of bodies: which trigrams (runs of three bytes, ASCII letters made small) the bodies of a block of 1024 mids have,
//! so that a search reads only bodies that may have what it looks for.
//!
//! It is made if people ask for it (`manent index --bodies`), from then on by the store's writer, in a thread beside it, for
//! blocks that have come to rest. It is deliberately not FTS5, whose trigram tokenizer calls back for each place of a text: 1.4 ms
//! of CPU a flow of a browser's mix, for its decoded texts alone and with `detail=none`; here it is 0.2 ms, reading, inflating
//! and writing included, pictures too (`cargo bench --bench store -- --case bodies` has both). That tokenizer also ends at the
//! first NUL, and folds case by a table of its own, so that what a filter finds it would lose. A block made at once needs no
//! merging, is dropped as a whole, and is asked in the order of a list, which stops when its page is full.
//!
//! Invariant: the index says "none" only of what it covers: `class` of each side of each flow tells what was noted of it. Of
//! all else (a flow that has not ended, was written again or deleted since, a body that is too long, damaged, or too varied)
//! it says nothing, so it is read. So whoever inserts or rewrites a row, or adds a message, tells [`Indexer`] in the same
//! transaction, and whoever deletes rows deletes the index of their block. It is a cache: a block without one is read.
//!
//! What is noted of a text: all its trigrams if it is text; of other bytes, those of runs of at least 5 printable characters
//! (10 where even these are too many), as `strings` finds them, so that pictures need not be read either. Limits: 4 MiB of a
//! text once decoded, 32,768 trigrams of a side of a flow, 3 million in a block.

mod ask;
mod build;
mod gather;
mod head;
mod keep;
mod manage;
mod postings;

pub(super) use ask::{Ask, Places};
pub(super) use head::{delete, verify};
#[cfg(test)]
pub(super) use keep::Pace;
pub(super) use keep::{Indexer, Patience, want};
pub use manage::{BodyIndexer, IndexProgress, IndexState, Indexing};

use super::zone::BLOCK_BITS;

/// How many mids a block has.
const PLACES: usize = 1 << BLOCK_BITS;

/// Sides of flows in a block: what came from the client, and what came from the origin.
const DOCS: usize = 2 * PLACES;

/// Bits of a trigram.
const TRIGRAM_BITS: u32 = 24;

/// One bit for each side of each flow of a block.
type Docs = [u64; DOCS / 64];

/// The number of a side of the flow at `place`.
fn doc(place: usize, from_client: bool) -> usize {
    2 * place + usize::from(!from_client)
}
