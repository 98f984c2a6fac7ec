//! Which answers have been given: a bit for each, and where to look for the next one to a request.

use std::collections::HashMap;

use crate::flow::Mid;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Bits of mids, by blocks of [`BLOCK`]. A store's mids are dense, but a file from elsewhere may have any.
    blocks: HashMap<u64, Box<[u64; WORDS]>>,
    /// By the key of a request: all answers on this side of the mid have been given.
    next: HashMap<[u8; 16], Mid>,
    count: u64,
}

impl Used {
    /// Notes that an answer is given; `false` if it had been before.
    pub(super) fn claim(&mut self, mid: Mid) -> bool {
        let block = self.blocks.entry(mid.0 / BLOCK).or_insert_with(|| Box::new([0; WORDS]));
        let (at, bit) = place(mid);
        let fresh = block[at] & bit == 0;
        block[at] |= bit;
        self.count += u64::from(fresh);
        fresh
    }

    /// How many have been given.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Where to begin to look for an answer to the request with this key.
    pub(super) fn next(&self, key: &[u8; 16]) -> Option<Mid> {
        self.next.get(key).copied()
    }

    /// Notes it. What is forgotten for want of room is found again by looking at bits.
    pub(super) fn set_next(&mut self, key: [u8; 16], mid: Mid) {
        if self.next.len() >= PLACES && !self.next.contains_key(&key) {
            self.next.clear();
        }
        self.next.insert(key, mid);
    }

    /// Forgets where to begin, as there are new answers.
    pub(super) fn look_anew(&mut self) {
        self.next.clear();
    }
}

/// The word in its block, and the bit in that.
fn place(mid: Mid) -> (usize, u64) {
    let within = mid.0 % BLOCK;
    (usize::try_from(within / 64).unwrap_or(0), 1 << (within % 64))
}

const WORDS: usize = 64;
const BLOCK: u64 = 64 * WORDS as u64;

/// Some 2 MiB of them.
const PLACES: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_claimed_once() {
        let mut used = Used::default();
        for mid in [1, 63, 64, 4095, 4096, u64::MAX] {
            assert!(used.claim(Mid(mid)) && !used.claim(Mid(mid)), "{mid}");
        }
        assert!(used.count() == 6 && used.claim(Mid(2)));
    }

    #[test]
    fn places_are_bounded() {
        let mut used = Used::default();
        for n in 0..=PLACES as u128 {
            used.set_next(n.to_le_bytes(), Mid(1));
        }
        assert!(used.next.len() <= PLACES);
        assert_eq!(used.next(&(PLACES as u128).to_le_bytes()), Some(Mid(1)));
    }
}
