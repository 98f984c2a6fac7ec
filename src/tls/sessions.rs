//! Where TLS sessions with clients are kept for resumption: bounded for all names together.
//!
//! Each name sees only its own sessions. rustls compares the SNI when a session is resumed, but two IP literals both
//! have none; without the separation, one could resume the other's session and never see its certificate.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::StoresServerSessions;

/// The sessions of all names.
#[derive(Default)]
pub(super) struct Sessions {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, Vec<u8>>,
    /// Keys in the order in which they came; of some the session has been taken since. At most [`PLACES`].
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    /// The view that one leaf's configurations share.
    pub(super) fn of_leaf(self: &Arc<Self>, leaf: u64) -> Arc<dyn StoresServerSessions> {
        Arc::new(LeafSessions { leaf: leaf.to_be_bytes(), all: Arc::clone(self) })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of one leaf: its number stands before each key.
struct LeafSessions {
    leaf: [u8; 8],
    all: Arc<Sessions>,
}

impl LeafSessions {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.leaf, key].concat()
    }
}

impl StoresServerSessions for LeafSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let key = self.key(&key);
        let mut kept = self.all.kept();
        if kept.order.len() >= PLACES
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.sessions.remove(&oldest);
        }
        kept.order.push_back(key.clone());
        kept.sessions.insert(key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.all.kept().sessions.get(&self.key(key)).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.all.kept().sessions.remove(&self.key(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for LeafSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeafSessions").finish_non_exhaustive()
    }
}

/// A session has about 300 bytes, and a TLS 1.3 handshake leaves two: some 2 MiB, and enough for thousands of clients
/// that come back.
const PLACES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_do_not_see_each_others_sessions() {
        let all = Arc::new(Sessions::default());
        let (one, two) = (all.of_leaf(1), all.of_leaf(2));
        one.put(vec![1], vec![10]);
        assert_eq!((two.get(&[1]), two.take(&[1])), (None, None));
        assert_eq!(one.take(&[1]), Some(vec![10]));
        assert_eq!(one.take(&[1]), None, "a ticket is used once");
    }

    #[test]
    fn the_oldest_go_first_and_places_are_bounded() {
        let all = Arc::new(Sessions::default());
        let one = all.of_leaf(1);
        for n in 0..=PLACES as u64 {
            one.put(n.to_be_bytes().to_vec(), vec![1]);
        }
        assert_eq!(one.get(&0u64.to_be_bytes()), None);
        assert_eq!(one.get(&1u64.to_be_bytes()), Some(vec![1]));
        assert_eq!(all.kept().order.len(), PLACES);
    }
}
