//! The one task that stores: takes what is queued, has it committed as a group, tells what became of it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::queue::{Batch, Due, Finished};
use super::recorder::{Committed, Shared, Stats};
use crate::flow::{BodyEnd, Flow, Mid};
use crate::store::{Group, Keeper, Outcome, StoreError, Writer};

/// What the task owns.
#[derive(Debug)]
pub(super) struct Driver {
    shared: Arc<Shared>,
    db: tokio_rusqlite::Connection,
    keeper: Arc<Mutex<Keeper>>,
    /// The last commit failed, so that an episode is told once and nothing is tried twice within it.
    failing: bool,
    /// Emptied vectors, used again.
    spare: Vec<Finished>,
}

/// What became of a group.
struct Done {
    group: Group,
    result: Result<Outcome, StoreError>,
    feed: Option<Arc<[Committed]>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        let (conn, keeper) = writer.into_parts();
        let keeper = Arc::new(Mutex::new(keeper));
        let db = tokio_rusqlite::Connection::from(conn);
        #[cfg(test)]
        shared.db.set(db.clone()).unwrap();
        Self { shared, db, keeper, failing: false, spare: Vec::new() }
    }

    /// Waits until there is a group to commit; `false` when all is over.
    async fn wait(&self) -> bool {
        let queue = &self.shared.queue;
        loop {
            let patience = match queue.due() {
                Due::Over => return false,
                Due::Now => return true,
                Due::Nothing => {
                    queue.changed_due().await;
                    continue;
                }
                Due::Connections => CONNECTIONS_LINGER,
                Due::Soon => self.shared.options.linger,
            };
            let before = queue.due();
            // Either more came and it is due now, or the time is up.
            let mut time = std::pin::pin!(tokio::time::sleep(patience));
            loop {
                tokio::select! {
                    () = &mut time => return true,
                    () = queue.changed_due() => if queue.due() != before { break },
                }
            }
        }
    }

    async fn commit_one(&mut self) {
        let mut batch = self.shared.queue.take(std::mem::take(&mut self.spare));
        let mut tally = Tally::default();
        let group = self.group(&mut batch, &mut tally);
        self.spare = batch.flows;
        let mut done = self.run(group).await;
        if done.result.is_err() && !self.failing && tally.waiters.is_empty() {
            // Once more, after a moment: an interrupted disk should not cost a thousand flows.
            tokio::time::sleep(RETRY).await;
            done = self.run(done.group).await;
        }
        self.settle(done, tally);
    }

    fn group(&self, batch: &mut Batch, tally: &mut Tally) -> Group {
        let mut entries = Vec::with_capacity(batch.flows.len());
        for flow in batch.flows.drain(..) {
            tally.weight += flow.weight;
            tally.ended += usize::from(flow.ended);
            if let Some(waiter) = flow.waiter {
                tally.waiters.push((flow.entry.mid, waiter));
            }
            entries.push(flow.entry);
        }
        Group {
            entries,
            clients: std::mem::take(&mut batch.clients),
            servers: std::mem::take(&mut batch.servers),
            next_mid: self.shared.next_mid.load(Ordering::Relaxed),
            next_conn: self.shared.next_conn.load(Ordering::Relaxed),
        }
    }

    /// Commits on SQLite's thread. A panic there is caught, so that the thread and the recording go on.
    async fn run(&self, mut group: Group) -> Done {
        let keeper = Arc::clone(&self.keeper);
        let wants_feed = self.shared.committed.receiver_count() > 0;
        let work = move |conn: &mut rusqlite::Connection| {
            let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| keeper.commit(conn, &mut group)))
                .unwrap_or_else(|panic| Err(keeper.panicked(&*panic)));
            let feed = (wants_feed && result.is_ok())
                .then(|| group.entries.iter().map(|e| committed(e.mid, &e.flow)).collect::<Arc<[_]>>());
            Done { group, result, feed }
        };
        match self.db.call_raw(work).await {
            Ok(done) => done,
            Err(_) => Done {
                group: Group::default(),
                result: Err(StoreError::Panicked {
                    path: self.shared.path.clone(),
                    message: "its thread is gone".into(),
                }),
                feed: None,
            },
        }
    }

    fn settle(&mut self, done: Done, tally: Tally) {
        let counts = &self.shared.counts;
        match done.result {
            Ok(outcome) => {
                self.failing = false;
                counts.failing.store(false, Ordering::Relaxed);
                counts.stored.fetch_add(tally.ended as u64, Ordering::Relaxed);
                counts.groups.fetch_add(1, Ordering::Relaxed);
                counts.lost_bodies.fetch_add(outcome.lost_bodies, Ordering::Relaxed);
                counts.record_bytes.fetch_add(outcome.record_bytes, Ordering::Relaxed);
                for (mid, waiter) in tally.waiters {
                    let lost = outcome.lost_bodies > 0
                        && done.group.entries.iter().any(|e| e.mid == mid && has_lost_body(&e.flow));
                    // A waiter that is gone has dropped its future, and does not want to know.
                    let _ = waiter.send(Ok(lost));
                }
                if let Some(feed) = done.feed {
                    // An error means that the last receiver has gone.
                    let _ = self.shared.committed.send(feed);
                }
            }
            Err(error) => {
                if !self.failing {
                    tracing::error!(%error, lost = tally.ended, "flows cannot be stored");
                }
                self.failing = true;
                counts.failing.store(true, Ordering::Relaxed);
                self.shared.queue.lost.fetch_add(tally.ended as u64, Ordering::Relaxed);
                let error = Arc::new(error);
                for (_, waiter) in tally.waiters {
                    let _ = waiter.send(Err(Arc::clone(&error)));
                }
            }
        }
        self.shared.queue.release(tally.weight, tally.ended);
    }

    async fn close(self) -> Result<Stats, Arc<StoreError>> {
        let keeper = Arc::clone(&self.keeper);
        let closed = self
            .db
            .call_raw(move |conn| keeper.lock().unwrap_or_else(PoisonError::into_inner).close(conn))
            .await;
        // With the checkpoint done, closing the connection can only fail to delete the WAL.
        let _ = self.db.close().await;
        self.shared.queue.end();
        match closed {
            Ok(Err(error)) => Err(Arc::new(error)),
            Ok(Ok(())) | Err(_) => Ok(self.shared.stats()),
        }
    }
}

/// What must be given back or told when a group is done.
#[derive(Debug, Default)]
struct Tally {
    weight: usize,
    ended: usize,
    waiters: Vec<(Mid, super::queue::Waiter)>,
}

/// Stores until the queue is closed and empty, then closes the store.
pub(super) async fn run(mut driver: Driver, end: watch::Sender<Option<Result<Stats, Arc<StoreError>>>>) {
    while driver.wait().await {
        driver.commit_one().await;
    }
    let result = driver.close().await;
    // Nobody may be waiting.
    let _ = end.send(Some(result));
}

fn has_lost_body(flow: &Flow) -> bool {
    let request = flow.request.as_ref().map(|r| &r.body);
    let response = flow.response.as_ref().map(|r| &r.body);
    let tunnel = flow.tunnel.as_ref().map(|t| [&t.from_client, &t.from_server]);
    let mut bodies = request.into_iter().chain(response).chain(tunnel.into_iter().flatten());
    bodies.any(|body| body.end == BodyEnd::Lost)
}

fn committed(mid: Mid, flow: &Flow) -> Committed {
    let tunnel = flow.tunnel.as_ref().map_or(0, |t| t.from_server.len);
    Committed {
        mid,
        state: flow.state,
        kind: flow.kind,
        method: flow.request.as_ref().map(|r| r.method.clone()).unwrap_or_default(),
        url: flow.url(),
        status: flow.response.as_ref().map(|r| r.status),
        response_len: flow.response.as_ref().map_or(0, |r| r.body.len).saturating_add(tunnel),
        duration_us: flow.timing.end_us,
        error: flow.error.clone(),
    }
}

/// How long news of connections waits for a flow to go with.
const CONNECTIONS_LINGER: Duration = Duration::from_secs(1);

/// The pause before a group that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
