//! Counting by name in bounded memory: exact while there are not too many names.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Flows and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub flows: u64,
    /// Payload bytes of requests and responses.
    pub bytes: u64,
}

impl Tally {
    /// Counts one more flow.
    pub(super) fn add(&mut self, bytes: u64) {
        self.flows += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Tallies by name.
///
/// When there are too many names, those with the fewest flows are forgotten: then what is frequent is still here, with
/// counts that may be too low, and [`Top::is_exact`] tells.
#[derive(Debug)]
pub(super) struct Top<K> {
    tallies: HashMap<K, Tally>,
    forgot: bool,
}

impl Tally {
    /// Counts those of another tally, too.
    pub(super) fn join(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl<K: Hash + Eq + Ord + Clone> Top<K> {
    pub(super) fn new() -> Self {
        Self { tallies: HashMap::new(), forgot: false }
    }

    pub(super) fn add<Q: ?Sized + Hash + Eq + ToOwned<Owned = K>>(&mut self, name: &Q, bytes: u64)
    where
        K: Borrow<Q>,
    {
        if let Some(tally) = self.tallies.get_mut(name) {
            return tally.add(bytes);
        }
        if self.tallies.len() >= MANY {
            self.forget();
        }
        self.tallies.entry(name.to_owned()).or_default().add(bytes);
    }

    /// Halves the names, or nearly so: many may be as rare as the one in the middle.
    fn forget(&mut self) {
        let mut flows: Vec<u64> = self.tallies.values().map(|tally| tally.flows).collect();
        let middle = flows.len() / 2;
        let (_, &mut limit, _) = flows.select_nth_unstable(middle);
        self.tallies.retain(|_, tally| tally.flows > limit);
        self.forgot = true;
    }

    /// Whether no name was forgotten.
    pub(super) fn is_exact(&self) -> bool {
        !self.forgot
    }

    /// The names with the most flows, most first; of equal ones, those with more bytes.
    pub(super) fn first(&self, limit: usize) -> Vec<(K, Tally)> {
        let mut all: Vec<(&K, &Tally)> = self.tallies.iter().collect();
        all.sort_unstable_by(|a, b| (b.1.flows, b.1.bytes, a.0).cmp(&(a.1.flows, a.1.bytes, b.0)));
        all.into_iter().take(limit).map(|(name, &tally)| (name.clone(), tally)).collect()
    }
}

/// Names at a time: a few MB.
pub(super) const MANY: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frequent_stays_however_many_names_there_are() {
        let mut top = Top::new();
        for n in 0..10 * MANY as u64 {
            top.add(&n, 1);
            top.add(&u64::MAX, 10);
            assert!(top.tallies.len() <= MANY);
        }
        assert!(!top.is_exact());
        assert_eq!(top.first(1), [(u64::MAX, Tally { flows: 10 * MANY as u64, bytes: 100 * MANY as u64 })]);
    }

    #[test]
    fn few_names_are_counted_exactly_and_sorted() {
        let mut top: Top<String> = Top::new();
        for (name, bytes) in [("b", 1), ("a", 5), ("b", 1), ("c", 5), ("d", 6)] {
            top.add(name, bytes);
        }
        assert!(top.is_exact());
        assert_eq!(top.first(3).iter().map(|(name, _)| &**name).collect::<String>(), "bda");
    }
}
