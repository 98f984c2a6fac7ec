//! Ids of connections that were seen, no more than a bound of them: what stands once for each connection is written once more
//! when it was forgotten.

use std::collections::HashMap;

/// What is known by an id.
#[derive(Debug)]
pub(super) struct Seen<K, V>(HashMap<K, V>);

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq, V> Seen<K, V> {
    /// What is known of `key`.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// Learns of `key`; whether it was not known.
    pub(super) fn insert(&mut self, key: K, value: V) -> bool {
        if self.0.len() == MOST {
            // Forgetting all at once is simple, and costs one repetition in as many.
            self.0.clear();
        }
        self.0.insert(key, value).is_none()
    }
}

/// Connections in one archive are few; this many with their certificates are some 20 MB.
const MOST: usize = 4096;
