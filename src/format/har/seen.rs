//! Connections that were seen, no more than a bound of them: what stands once for each connection is written once more when it
//! was forgotten.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What is known by an id.
#[derive(Debug)]
pub(super) struct Seen<K, V> {
    known: HashMap<K, V>,
    /// Bytes that it takes, as far as they are told.
    len: usize,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), len: 0 }
    }
}

impl<K: Hash + Eq, V> Seen<K, V> {
    /// What is known of `key`.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.known.get(key)
    }

    /// Learns of `key`, which takes `len` bytes besides; whether it was not known.
    pub(super) fn insert(&mut self, key: K, value: V, len: usize) -> bool {
        self.len += len;
        if self.known.len() == MOST || self.len > MOST_LEN {
            // Forgetting all at once is simple, and costs one repetition in as many.
            self.known.clear();
            self.len = len;
        }
        self.known.insert(key, value).is_none()
    }
}

/// Connections in one archive are few.
const MOST: usize = 4096;

/// A chain of certificates has some KiB.
const MOST_LEN: usize = 8 << 20;
