//! The connections to origins that belong to one client connection, between and during its exchanges; and of requests of our
//! own, those that belong to one thread.
//!
//! Those that speak HTTP/1 are here while they are idle; those that speak HTTP/2 are shared by the exchanges that run at
//! the same time. When the client connection ends, all go to the pool, unless something ties them to it; those of a thread go to
//! what all threads have.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::upstream::{Connection, Key, Multiplexed, Pool};

/// See the module.
#[derive(Debug)]
pub(super) struct Origins {
    kept: Mutex<Vec<Connection>>,
    /// How many are kept at most.
    most: usize,
    /// Those of all, where these are of some: see [`Origins::of_some`].
    of_all: Option<Arc<Origins>>,
    pool: Arc<Pool>,
    /// Whether nothing is kept for others.
    close: AtomicBool,
    /// Whoever opens a connection that others could share holds it, so that they wait for it rather than open their own.
    opening: Semaphore,
}

impl Origins {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self::made(pool, MAX_KEPT, None)
    }

    /// For some of many who send at the same time: they have `most` connections of HTTP/1 to themselves. The others are those
    /// of all.
    pub(super) fn of_some(all: &Arc<Self>, most: usize) -> Self {
        Self::made(Arc::clone(&all.pool), most.max(1), Some(Arc::clone(all)))
    }

    fn made(pool: Arc<Pool>, most: usize, of_all: Option<Arc<Self>>) -> Self {
        let (close, opening) = (AtomicBool::new(false), Semaphore::new(1));
        Self { kept: Mutex::default(), most, of_all, pool, close, opening }
    }

    fn give(&self, connection: Connection) {
        match &self.of_all {
            Some(all) => all.keep(connection),
            None => self.pool.give(connection),
        }
    }

    /// A connection for `key` that is at hand: one's own, one of all, else one from the pool that `fits`.
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
        if let Some(all) = &self.of_all {
            return all.take(key, fits);
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
        if let Some(all) = self.of_all.as_ref().filter(|_| connection.is_http2()) {
            return all.keep(connection);
        }
        let mut kept = self.lock();
        if kept.len() >= self.most {
            let oldest = kept.remove(0);
            self.give(oldest);
        }
        kept.push(connection);
    }

    /// A connection of HTTP/2 that is at hand.
    pub(super) fn http2(&self) -> Option<Arc<Multiplexed>> {
        self.all().lock().iter().find_map(|connection| match connection {
            Connection::Http2(shared) => Some(Arc::clone(shared)),
            Connection::Http1(_) => None,
        })
    }

    /// Lets go of a connection that does not do what is asked of it: exchanges that run on it go on.
    pub(super) fn forget(&self, shared: &Multiplexed) {
        self.all().lock().retain(|connection| !(connection.is_http2() && connection.key() == &shared.key));
    }

    /// Closes what is idle, and keeps nothing for others: the client has ended, and meant its origin, too.
    pub(super) fn close(&self) {
        self.close.store(true, Ordering::Relaxed);
        self.lock().clear();
    }

    /// Waits for one's turn to open a connection that others may share.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.all().opening.acquire().await.ok()
    }

    /// Where connections are that several share.
    fn all(&self) -> &Self {
        self.of_all.as_deref().unwrap_or(self)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        if !(self.close.load(Ordering::Relaxed) || self.all().close.load(Ordering::Relaxed)) {
            for connection in self.lock().drain(..) {
                self.give(connection);
            }
        }
    }
}

/// A client that goes to many origins in clear on one connection, or whose streams each need a connection of HTTP/1,
/// keeps this many to itself; more of them are in the pool.
const MAX_KEPT: usize = 16;
