//! Where replies wait for the commits of their flows, and then for whoever asks for them.
//!
//! A reply comes here from the task that sent its request, and is told with all others of its commit: a wake-up a commit,
//! rather than some for each. How many can be here is bounded by the run's window.
//!
//! Stores may follow each other while a run goes on, and each has mids of its own: a flow is told by its mid and its beginning,
//! which no other flow of this process shares with it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::run::Settled;
use crate::flow::{Flow, Mid, State};
use crate::record::Committed;

/// What tells a flow from those of all stores of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) mid: Mid,
    pub(super) started_unix_ns: i64,
}

impl Key {
    /// `None` for a flow that has no mid.
    pub(super) fn of(flow: &Flow) -> Option<Self> {
        Some(Self { mid: flow.mid?, started_unix_ns: flow.timing.started_unix_ns })
    }
}

type ByKey<T> = HashMap<Key, T, BuildHasherDefault<MidHasher>>;

/// Hashes mids, which we have given out ourselves, one after the other.
#[derive(Debug, Clone, Copy, Default)]
struct MidHasher(u64);

impl Hasher for MidHasher {
    fn finish(&self) -> u64 {
        // The map looks at both ends of it (Fibonacci hashing: the golden ratio of 2^64).
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, mid: u64) {
        self.0 ^= mid;
    }

    /// A flow's beginning, which tells flows of several stores apart: few have the same mid.
    fn write_i64(&mut self, _: i64) {}
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk<T> {
    state: Mutex<Replies<T>>,
    /// Something is ready, or all is over.
    news: Notify,
}

#[derive(Debug)]
struct Replies<T> {
    waiting: ByKey<Settled<T>>,
    /// Committed before we heard of them from the other side: in which store.
    early: ByKey<Arc<Path>>,
    ready: Vec<Settled<T>>,
    /// No more will come.
    over: bool,
    /// Nobody will ask for them.
    unwanted: bool,
}

impl<T> Default for Desk<T> {
    fn default() -> Self {
        let state = Replies {
            waiting: ByKey::default(),
            early: ByKey::default(),
            ready: Vec::new(),
            over: false,
            unwanted: false,
        };
        Self { state: Mutex::new(state), news: Notify::new() }
    }
}

impl<T> Desk<T> {
    /// A reply, which is told when its flow `key` is committed; at once, if there is none that could be.
    pub(super) fn sent(&self, key: Option<Key>, mut reply: Settled<T>) {
        let mut state = self.lock();
        if state.unwanted {
            return;
        }
        if let Some(key) = key {
            match state.early.remove(&key) {
                Some(store) => (reply.mid, reply.store) = (Some(key.mid), Some(store)),
                None => {
                    state.waiting.insert(key, reply);
                    return;
                }
            }
        }
        state.ready.push(reply);
        drop(state);
        self.news.notify_one();
    }

    /// What was committed together.
    pub(super) fn committed(&self, group: &[Committed]) {
        let ended = group.iter().filter(|committed| committed.state != State::Open);
        self.tell(ended.map(|committed| {
            let Committed { mid, started_unix_ns, ref store, .. } = *committed;
            (Key { mid, started_unix_ns }, store)
        }));
    }

    /// These flows are in these stores.
    pub(super) fn tell<'a>(&self, flows: impl Iterator<Item = (Key, &'a Arc<Path>)>) {
        let mut state = self.lock();
        if state.unwanted {
            return;
        }
        for (key, store) in flows {
            match state.waiting.remove(&key) {
                Some(mut reply) => {
                    (reply.mid, reply.store) = (Some(key.mid), Some(Arc::clone(store)));
                    state.ready.push(reply);
                }
                None => {
                    state.early.insert(key, Arc::clone(store));
                }
            }
        }
        let is_ready = !state.ready.is_empty();
        drop(state);
        if is_ready {
            self.news.notify_one();
        }
    }

    /// The flows whose commits are waited for, by rising mids.
    pub(super) fn waiting(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.lock().waiting.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// These were not stored, if they wait still, and are told so.
    pub(super) fn give_up(&self, flows: &[Key]) {
        let mut state = self.lock();
        for key in flows {
            let reply = state.waiting.remove(key);
            state.ready.extend(reply);
        }
        drop(state);
        self.news.notify_one();
    }

    /// No more will come: what waits still was not stored.
    pub(super) fn end(&self) {
        self.give_up(&self.waiting());
        self.lock().over = true;
        self.news.notify_one();
    }

    /// Nobody asks any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.unwanted = true;
        let forgotten = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.ready));
        drop(state);
        // Each gives its place in the window back.
        drop(forgotten);
    }

    /// All replies that are ready, at least one; `None` when all is over. For one caller at a time. Cancel-safe.
    pub(super) async fn ready(&self) -> Option<Vec<Settled<T>>> {
        loop {
            {
                let mut state = self.lock();
                if !state.ready.is_empty() {
                    return Some(std::mem::take(&mut state.ready));
                }
                if state.over {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Replies<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Desk = super::Desk<u64>;

    /// Of a flow that began at `of`.
    fn reply(of: u64, mid: Option<u64>) -> (Option<Key>, Settled<u64>) {
        (mid.map(|mid| key(of, mid)), Settled::new(of, None))
    }

    fn sent(desk: &Desk, (key, reply): (Option<Key>, Settled<u64>)) {
        desk.sent(key, reply);
    }

    fn key(of: u64, mid: u64) -> Key {
        Key { mid: Mid(mid), started_unix_ns: of.cast_signed() }
    }

    fn tell(desk: &Desk, flows: &[Key], store: &str) {
        let store = Path::new(store).into();
        desk.tell(flows.iter().map(|&key| (key, &store)));
    }

    async fn told(desk: &Desk) -> Vec<(u64, Option<u64>)> {
        let ready = desk.ready().await.unwrap();
        ready.iter().map(|reply| (reply.kept, reply.mid.map(|mid| mid.0))).collect()
    }

    #[tokio::test]
    async fn replies_are_told_when_their_flows_are_stored_whichever_is_heard_first() {
        let desk = Desk::default();
        sent(&desk, reply(1, Some(11)));
        sent(&desk, reply(2, Some(12)));
        tell(&desk, &[key(2, 12), key(3, 13)], "a.db");
        assert_eq!(told(&desk).await, [(2, Some(12))]);
        sent(&desk, reply(3, Some(13)));
        sent(&desk, reply(4, None));
        assert_eq!(told(&desk).await, [(3, Some(13)), (4, None)]);
        assert_eq!(desk.waiting(), [key(1, 11)]);
        desk.end();
        assert_eq!(told(&desk).await, [(1, None)]);
        assert!(desk.ready().await.is_none());
    }

    /// At midnight the next store begins with mid 1, while flows of the old one wait still.
    #[tokio::test]
    async fn flows_of_two_stores_with_one_mid_are_two() {
        let desk = Desk::default();
        sent(&desk, reply(1, Some(7)));
        tell(&desk, &[key(2, 7)], "new.db");
        assert_eq!(desk.waiting(), [key(1, 7)]);
        sent(&desk, reply(2, Some(7)));
        tell(&desk, &[key(1, 7)], "old.db");
        let ready = desk.ready().await.unwrap();
        let stores = ready.iter().map(|reply| (reply.kept, reply.store.clone().unwrap()));
        let expected = [(2, Path::new("new.db").into()), (1, Path::new("old.db").into())];
        assert_eq!(stores.collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_nobody() {
        let desk = Desk::default();
        sent(&desk, reply(1, Some(11)));
        desk.close();
        sent(&desk, reply(2, None));
        desk.end();
        assert!(desk.ready().await.is_none() && desk.waiting().is_empty());
    }
}
