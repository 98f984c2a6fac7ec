//! The connections to origins that belong to one client connection, between and during its exchanges.
//!
//! Those that speak HTTP/1 are here while they are idle; those that speak HTTP/2 are shared by the exchanges that run at
//! the same time. When the client connection ends, all go to the pool, unless something ties them to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::upstream::{Connection, Key, Multiplexed, Pool};

/// See the module.
#[derive(Debug)]
pub(super) struct Origins {
    kept: Mutex<Vec<Connection>>,
    pool: Arc<Pool>,
    /// Whether nothing is kept for others.
    close: AtomicBool,
    /// Whoever opens a connection that others could share holds it, so that they wait for it rather than open their own.
    opening: Semaphore,
}

impl Origins {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { kept: Mutex::default(), pool, close: AtomicBool::new(false), opening: Semaphore::new(1) }
    }

    /// A connection for `key` that is at hand: the client's own, else one from the pool that `fits`.
    pub(super) fn take(&self, key: &Key, fits: impl Fn(&Connection) -> bool) -> Option<Connection> {
        {
            let mut kept = self.lock();
            // The one that was used last: the origin is least likely to have closed it, and its buffers are at hand.
            while let Some(at) = kept.iter().rposition(|connection| connection.key() == key) {
                if let Connection::Http2(shared) = &kept[at]
                    && shared.is_alive()
                {
                    return Some(Connection::Http2(Arc::clone(shared)));
                }
                let mut connection = kept.swap_remove(at);
                if !connection.is_http2() && connection.is_idle() {
                    return Some(connection);
                }
            }
        }
        let connection = self.pool.take(key, fits)?;
        if let Connection::Http2(shared) = &connection {
            self.keep(Connection::Http2(Arc::clone(shared)));
        }
        Some(connection)
    }

    /// Keeps a connection for the client's next request, or for others at the same time.
    pub(super) fn keep(&self, mut connection: Connection) {
        if let Connection::Http1(origin) = &mut connection {
            origin.reader.relax();
        }
        let mut kept = self.lock();
        if kept.len() >= MAX_KEPT {
            let oldest = kept.remove(0);
            self.pool.give(oldest);
        }
        kept.push(connection);
    }

    /// A connection of HTTP/2 that is at hand.
    pub(super) fn http2(&self) -> Option<Arc<Multiplexed>> {
        self.lock().iter().find_map(|connection| match connection {
            Connection::Http2(shared) => Some(Arc::clone(shared)),
            Connection::Http1(_) => None,
        })
    }

    /// Lets go of a connection that does not do what is asked of it: exchanges that run on it go on.
    pub(super) fn forget(&self, shared: &Multiplexed) {
        self.lock().retain(|connection| !(connection.is_http2() && connection.key() == &shared.key));
    }

    /// Closes what is idle, and keeps nothing for others: the client has ended, and meant its origin, too.
    pub(super) fn close(&self) {
        self.close.store(true, Ordering::Relaxed);
        self.lock().clear();
    }

    /// Waits for one's turn to open a connection that others may share.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.opening.acquire().await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        if !self.close.load(Ordering::Relaxed) {
            for connection in self.lock().drain(..) {
                self.pool.give(connection);
            }
        }
    }
}

/// A client that goes to many origins in clear on one connection, or whose streams each need a connection of HTTP/1,
/// keeps this many to itself; more of them are in the pool.
const MAX_KEPT: usize = 16;
