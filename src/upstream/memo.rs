//! What origins were found to speak, where their answer to ALPN could not be mirrored.
//!
//! A client that offers HTTP/1.1 alone meets an origin that takes HTTP/2 alone, or the other way round: the handshake
//! fails, and is repeated with what the origin wants. The next connection begins with that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Key;

/// The one protocol that an origin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What was found. Bounded in entries and in time: origins change.
#[derive(Debug, Default)]
pub struct Memo {
    known: Mutex<HashMap<Key, (Spoken, Instant)>>,
}

impl Memo {
    /// The protocol that the origin was found to insist on.
    pub fn get(&self, key: &Key) -> Option<Spoken> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, since)| since.elapsed() < KEEP).map(|&(spoken, _)| spoken)
    }

    /// Notes that the origin insists on `spoken`.
    pub fn set(&self, key: Key, spoken: Spoken) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PLACES {
            known.retain(|_, (_, since)| since.elapsed() < KEEP);
        }
        if known.len() >= PLACES {
            known.clear();
        }
        known.insert(key, (spoken, Instant::now()));
    }
}

/// Such origins are rare; what is forgotten costs one handshake.
const PLACES: usize = 1024;
/// Longer than a session of debugging a client, shorter than the time in which an origin is set up anew unnoticed.
const KEEP: Duration = Duration::from_mins(10);
