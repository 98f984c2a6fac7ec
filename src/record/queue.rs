//! What waits for the next group, and the bounds on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::recorder::Committed;
use crate::flow::{ClientConn, ConnId, Message, Mid, ServerConn};
use crate::store::{Draft, Group, Pin, StoreError};

/// How a caller learns what became of its flow.
pub(super) type Waiter = oneshot::Sender<Result<bool, Arc<StoreError>>>;

/// The queue. Short std locks only; nothing here waits for the disk.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The driver waits here.
    wake: Notify,
    /// One permit a flow, from its admission to the end of its commit.
    places: Semaphore,
    place_count: usize,
    /// Weight of what waits or is being committed, and where admission waits for it to fall.
    bytes: AtomicUsize,
    bytes_limit: usize,
    bytes_fell: Notify,
    pub(super) lost: AtomicU64,
    /// Messages of WebSockets that could not be stored.
    pub(super) lost_messages: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    batch: Batch,
    clients: HashMap<ConnId, Arc<ClientConn>>,
    servers: HashMap<ConnId, Arc<ServerConn>>,
    /// When the first flow or message of the batch came.
    since: Option<Instant>,
    /// Somebody waits for the commit of a flow in here.
    urgent: bool,
    /// No more is taken: the driver drains what is here, then ends.
    closing: bool,
    /// The driver has ended.
    ended: bool,
}

/// A flow that was handed over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) draft: Draft,
    /// Whether the flow has ended; a snapshot of an open one keeps its place.
    pub(super) ended: bool,
    /// News of it for the feed, where somebody listens.
    pub(super) news: Option<Committed>,
    pub(super) waiter: Option<Waiter>,
    /// Of a flow that has ended, if it has bodies outside of its record.
    pub(super) pin: Option<Pin>,
}

/// What the driver takes at a time: flows, and what is to be told and given back when they are stored.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) group: Group,
    pub(super) news: Vec<Committed>,
    pub(super) waiters: Vec<(Mid, Waiter)>,
    /// Dropped when the group is done with.
    pins: Vec<Pin>,
    pub(super) weight: usize,
    pub(super) ended: usize,
}

impl Batch {
    /// Empties it, and keeps some of its memory.
    pub(super) fn clear(&mut self) {
        self.group.clear();
        self.news.clear();
        self.news.shrink_to(KEPT_NEWS);
        self.waiters.clear();
        self.pins.clear();
        (self.weight, self.ended) = (0, 0);
    }
}

/// What the driver finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing to do.
    Nothing,
    /// News of connections, which may wait for a flow to go with.
    Connections,
    /// Flows, which may wait a little for more.
    Soon,
    /// Enough for a group, or somebody waits.
    Now,
    /// Nothing is left, and nothing will come.
    Over,
}

impl Queue {
    pub(super) fn new(places: usize, bytes_limit: usize) -> Self {
        let place_count = places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            waiting: Mutex::new(Waiting::default()),
            wake: Notify::new(),
            places: Semaphore::new(place_count),
            place_count,
            bytes: AtomicUsize::new(0),
            bytes_limit,
            bytes_fell: Notify::new(),
            lost: AtomicU64::new(0),
            lost_messages: AtomicU64::new(0),
        }
    }

    /// Waits until there is a place, and until the bytes that wait are below their bound; takes the place.
    ///
    /// The fast path is one compare-and-swap and one load. Dropping this future takes nothing.
    pub(super) async fn take_place(&self) {
        self.bytes_below_limit().await;
        if let Ok(permit) = self.places.acquire().await {
            permit.forget();
        }
    }

    /// Waits until the bytes that wait are below their bound. Dropping this future takes nothing.
    pub(super) async fn bytes_below_limit(&self) {
        while self.bytes.load(Ordering::Relaxed) >= self.bytes_limit {
            let mut fell = std::pin::pin!(self.bytes_fell.notified());
            fell.as_mut().enable();
            // Between the look and the enrolment, all may have been committed.
            if self.bytes.load(Ordering::Relaxed) >= self.bytes_limit && !self.lock().ended {
                fell.await;
            } else {
                break;
            }
        }
    }

    pub(super) fn give_places_back(&self, count: usize) {
        self.places.add_permits(count);
    }

    pub(super) fn places_used(&self) -> usize {
        self.place_count.saturating_sub(self.places.available_permits())
    }

    /// Takes a flow that was handed over, with its draft's bytes. Never waits.
    pub(super) fn push(&self, flow: Finished, bytes: &[u8]) {
        let weight = bytes.len() + size_of::<Draft>();
        let mut waiting = self.lock();
        if waiting.ended {
            drop(waiting);
            self.lost.fetch_add(u64::from(flow.ended), Ordering::Relaxed);
            // The waiter learns it by its channel closing.
            return;
        }
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        let was = waiting.due();
        let mid = flow.draft.mid;
        waiting.came();
        let batch = &mut waiting.batch;
        batch.group.push(flow.draft, bytes);
        batch.weight += weight;
        batch.ended += usize::from(flow.ended);
        batch.news.extend(flow.news);
        batch.pins.extend(flow.pin);
        batch.waiters.extend(flow.waiter.map(|waiter| (mid, waiter)));
        let is = waiting.due();
        drop(waiting);
        if was != is {
            self.wake.notify_one();
        }
    }

    /// Somebody waits for a flow that was handed over: what waits for the next group waits for no more to come.
    pub(super) fn hurry(&self) {
        let mut waiting = self.lock();
        if waiting.batch.group.is_empty() {
            return;
        }
        let was = waiting.due();
        waiting.urgent = true;
        let is = waiting.due();
        drop(waiting);
        if was != is {
            self.wake.notify_one();
        }
    }

    /// Takes a message of a WebSocket whose flow was handed over as open. Never waits: see
    /// [`Queue::bytes_below_limit`].
    pub(super) fn push_message(&self, mid: Mid, message: &Message) {
        let mut waiting = self.lock();
        if waiting.ended {
            drop(waiting);
            self.lost_messages.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was = waiting.due();
        waiting.came();
        let weight = waiting.batch.group.push_message(mid, message);
        waiting.batch.weight += weight;
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        let is = waiting.due();
        drop(waiting);
        if was != is {
            self.wake.notify_one();
        }
    }

    /// Has a flow taken out again that was handed over as open. Never waits. Its weight is told to be that of a row, so
    /// that the bound on bytes bounds these, too.
    pub(super) fn remove(&self, mid: Mid) {
        let mut waiting = self.lock();
        if waiting.ended {
            return;
        }
        let was = waiting.due();
        waiting.came();
        waiting.batch.group.remove(mid);
        waiting.batch.weight += size_of::<Draft>();
        self.bytes.fetch_add(size_of::<Draft>(), Ordering::Relaxed);
        let is = waiting.due();
        drop(waiting);
        if was != is {
            self.wake.notify_one();
        }
    }

    pub(super) fn client_changed(&self, conn: Arc<ClientConn>) {
        self.changed(|waiting| newest(&mut waiting.clients, conn.id, conn, |c| c.revision));
    }

    pub(super) fn server_changed(&self, conn: Arc<ServerConn>) {
        self.changed(|waiting| newest(&mut waiting.servers, conn.id, conn, |c| c.revision));
    }

    fn changed(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        let was = waiting.due();
        change(&mut waiting);
        let is = waiting.due();
        drop(waiting);
        if was != is {
            self.wake.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// The driver has ended: nobody waits for it any more.
    pub(super) fn end(&self) {
        let left = {
            let mut waiting = self.lock();
            waiting.ended = true;
            std::mem::take(&mut waiting.batch)
        };
        self.lost.fetch_add(left.ended as u64, Ordering::Relaxed);
        self.lost_messages.fetch_add(left.group.messages() as u64, Ordering::Relaxed);
        self.places.close();
        self.bytes.store(0, Ordering::Relaxed);
        self.bytes_fell.notify_waiters();
    }

    pub(super) fn due(&self) -> Due {
        self.lock().due()
    }

    /// How long the first of what waits has been waiting.
    pub(super) fn waited(&self) -> Duration {
        self.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits until [`Queue::due`] may have changed since it was last asked.
    pub(super) async fn changed_due(&self) {
        self.wake.notified().await;
    }

    /// Takes all that waits, and leaves `spare` in its place. How much that can be is bounded by places and bytes.
    pub(super) fn take(&self, spare: Batch) -> Batch {
        let mut waiting = self.lock();
        let mut batch = std::mem::replace(&mut waiting.batch, spare);
        batch.group.clients.extend(waiting.clients.drain().map(|(_, conn)| conn));
        batch.group.servers.extend(waiting.servers.drain().map(|(_, conn)| conn));
        (waiting.urgent, waiting.since) = (false, None);
        batch
    }

    /// A group is done with.
    pub(super) fn release(&self, weight: usize, places: usize) {
        let before = self.bytes.fetch_sub(weight, Ordering::Relaxed);
        if before >= self.bytes_limit {
            self.bytes_fell.notify_waiters();
        }
        self.give_places_back(places);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Something comes.
    fn came(&mut self) {
        if self.batch.group.is_empty() {
            self.since = Some(Instant::now());
        }
    }

    fn due(&self) -> Due {
        let some_connections = !self.clients.is_empty() || !self.servers.is_empty();
        if self.batch.group.is_empty() {
            return match (some_connections, self.closing) {
                (false, true) => Due::Over,
                (true, true) => Due::Now,
                (true, false) => Due::Connections,
                (false, false) => Due::Nothing,
            };
        }
        let many = self.batch.group.len() >= ENOUGH_ROWS || self.batch.weight >= ENOUGH_BYTES;
        if self.urgent || self.closing || many { Due::Now } else { Due::Soon }
    }
}

fn newest<C>(map: &mut HashMap<ConnId, Arc<C>>, id: ConnId, conn: Arc<C>, revision: impl Fn(&C) -> u32) {
    if id.0 != 0 && map.get(&id).is_none_or(|there| revision(there) <= revision(&conn)) {
        map.insert(id, conn);
    }
}

/// What an emptied batch keeps room for.
const KEPT_NEWS: usize = 2048;

/// Flows and messages, and bytes of them, that make a good group, so that there is no use in waiting for more.
const ENOUGH_ROWS: usize = 1000;
const ENOUGH_BYTES: usize = 4 << 20;
