//! Idle connections to origins, kept for the next client.
//!
//! A connection belongs to one client connection while that lasts. It comes here only when that has ended, if nothing
//! ties it to the client (no connection-based authentication was seen on it) and its last exchange ended cleanly.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Connection, Key};

/// The pool. Nothing awaits under its lock.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<HashMap<Key, VecDeque<(Connection, Instant)>>>,
    keep: Duration,
    closed: AtomicBool,
}

impl Pool {
    /// A pool that keeps a connection for `keep`.
    #[must_use]
    pub fn new(keep: Duration) -> Self {
        Self { idle: Mutex::default(), keep, closed: AtomicBool::new(false) }
    }

    /// A connection for `key` that is still usable and that `fits`, the one that was used last. The caller verifies
    /// nothing again: the name in the key is the one that was verified.
    pub fn take(&self, key: &Key, fits: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        let mut found = None;
        for at in (0..kept.len()).rev() {
            let (connection, since) = &mut kept[at];
            let usable = since.elapsed() < self.keep && connection.is_idle();
            if usable && !fits(connection) {
                continue;
            }
            let taken = kept.remove(at);
            if usable {
                found = taken.map(|(connection, _)| connection);
                break;
            }
        }
        if kept.is_empty() {
            idle.remove(key);
        }
        found
    }

    /// Takes a connection back, unless it is tied to a client, no longer idle, or there are enough.
    pub fn give(&self, mut connection: Connection) {
        let tied = matches!(&connection, Connection::Http1(origin) if origin.tied);
        if tied || !connection.is_idle() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        if idle.len() >= MAX_KEYS {
            self.sweep_locked(&mut idle, now);
        }
        if idle.len() < MAX_KEYS || idle.contains_key(connection.key()) {
            let kept = idle.entry(connection.key().clone()).or_default();
            if kept.len() >= MAX_PER_KEY {
                kept.pop_front();
            }
            kept.push_back((connection, now));
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

    /// Closes everything, and keeps nothing from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.clear();
    }

    fn sweep_locked(&self, idle: &mut HashMap<Key, VecDeque<(Connection, Instant)>>, now: Instant) {
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
