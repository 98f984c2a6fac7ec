//! Zones: what the rows of a block of 1024 mids hold, and their URLs as one text, so that a search leaves out the blocks
//! in which nothing can match.
//!
//! An index on each column that filters ask for would cost each row 1 to 5 us of CPU and up to 2 KB of writing. A zone is
//! made once a block, when its rows have come to rest: 0.3 to 1.2 us a flow, and a few bytes more than its URL has.
//! Deliberately no index: it cannot tell which rows match, only where none does.
//!
//! Invariant: a zone may tell of more than its block holds, never of less. So whoever inserts or rewrites a row removes
//! the zone of its block in the same transaction ([`Zones::update`] does, for every group); deleting rows, and marking an
//! open one as interrupted, needs nothing. A zone is a cache: a block without one is scanned.

mod blocks;
mod build;
mod gather;
mod hosts;
mod keep;
mod set;
mod summary;
#[cfg(test)]
mod tests;
mod urls;

pub use blocks::{Block, Blocks};
pub use hosts::HostSet;
pub(super) use keep::Zones;
pub use summary::{Measure, Property, Zone};
pub use urls::{Hits, UrlPattern, Urls};

/// A block is the mids that agree in all but so many bits: enough rows that a zone costs each of them little, few enough
/// that scanning a block takes 0.2 ms.
const BLOCK_BITS: u32 = 10;

/// How many mids a block has.
const BLOCK: u64 = 1 << BLOCK_BITS;

/// The same, for arrays.
const PLACES: usize = 1 << BLOCK_BITS;

/// Whether a store has zones: one of an older version has not, until a writer opens it.
const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'zone_url'";
