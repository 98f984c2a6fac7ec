//! Idle connections to origins, kept for the next client.
//!
//! A connection belongs to one client connection while that lasts. It comes here only when that has ended, if nothing
//! ties it to the client (no connection-based authentication was seen on it) and its last exchange ended cleanly.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Key, Origin};

/// The pool. Nothing awaits under its lock.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<HashMap<Key, VecDeque<(Origin, Instant)>>>,
    keep: Duration,
}

impl Pool {
    /// A pool that keeps a connection for `keep`.
    #[must_use]
    pub fn new(keep: Duration) -> Self {
        Self { idle: Mutex::default(), keep }
    }

    /// A connection for `key` that is still usable, the one that was used last. The caller verifies nothing again: the
    /// name in the key is the one that was verified.
    pub fn take(&self, key: &Key) -> Option<Origin> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        let mut found = None;
        while let Some((mut origin, since)) = kept.pop_back() {
            if since.elapsed() < self.keep && origin.is_idle() {
                found = Some(origin);
                break;
            }
        }
        if kept.is_empty() {
            idle.remove(key);
        }
        found
    }

    /// Takes a connection back, unless it is tied to a client, no longer idle, or there are enough.
    pub fn give(&self, mut origin: Origin) {
        if origin.tied || !origin.is_idle() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if idle.len() >= MAX_KEYS {
            self.sweep_locked(&mut idle, now);
        }
        if idle.len() < MAX_KEYS || idle.contains_key(&origin.key) {
            let kept = idle.entry(origin.key.clone()).or_default();
            if kept.len() >= MAX_PER_KEY {
                kept.pop_front();
            }
            kept.push_back((origin, now));
        }
    }

    /// Closes what has been idle for too long. Called now and then by whoever owns the pool.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep_locked(&mut idle, Instant::now());
    }

    /// Closes everything.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn sweep_locked(&self, idle: &mut HashMap<Key, VecDeque<(Origin, Instant)>>, now: Instant) {
        idle.retain(|_, kept| {
            kept.retain(|(_, since)| now.saturating_duration_since(*since) < self.keep);
            !kept.is_empty()
        });
    }
}

/// Idle connections to one origin. As many as browsers and load generators open; each costs a file descriptor.
const MAX_PER_KEY: usize = 64;
/// Origins with idle connections.
const MAX_KEYS: usize = 256;
