//! The one task that stores: takes what is queued, has it committed as a group, tells what became of it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::queue::{Batch, Due};
use super::recorder::{Shared, Stats};
use crate::store::{Keeper, Outcome, Step, StoreError, Writer};

/// What the task owns.
#[derive(Debug)]
pub(super) struct Driver {
    shared: Arc<Shared>,
    db: tokio_rusqlite::Connection,
    keeper: Arc<Mutex<Keeper>>,
    /// The last commit failed, so that an episode is told once and nothing is tried twice within it.
    failing: bool,
    /// An emptied batch, used again.
    spare: Batch,
    /// When the store is tidied next, after a commit, and when if none comes.
    tidy_at: Instant,
    tidy_alone_at: Instant,
}

/// What became of a group.
struct Done {
    batch: Batch,
    result: Result<Outcome, StoreError>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        let (conn, mut keeper) = writer.into_parts();
        keeper.make_index();
        let keeper = Arc::new(Mutex::new(keeper));
        let db = tokio_rusqlite::Connection::from(conn);
        #[cfg(test)]
        shared.db.set(db.clone()).unwrap();
        let (tidy_at, tidy_alone_at) = (Instant::now() + TIDY, Instant::now() + TIDY_ALONE);
        Self { shared, db, keeper, failing: false, spare: Batch::default(), tidy_at, tidy_alone_at }
    }

    /// Waits until there is a group to commit; `false` when all is over.
    async fn wait(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let queue = &shared.queue;
        loop {
            let patience = match queue.due() {
                Due::Over => return false,
                Due::Now => return true,
                Due::Nothing => {
                    match tokio::time::timeout_at(self.tidy_alone_at.into(), queue.changed_due()).await {
                        Ok(()) => {}
                        Err(_) => self.tidy().await,
                    }
                    continue;
                }
                Due::Connections => CONNECTIONS_LINGER,
                // From when the first of them came: one that had to wait for a commit has waited.
                Due::Soon => self.shared.options.linger.saturating_sub(queue.waited()),
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
        batch.group.next_mid = self.shared.next_mid.load(Ordering::Relaxed);
        batch.group.next_conn = self.shared.next_conn.load(Ordering::Relaxed);
        let (weight, ended, nobody_waits) = (batch.weight, batch.ended, batch.waiters.is_empty());
        let mut done = self.run_patiently(batch).await;
        if done.result.is_err() && !self.failing && nobody_waits {
            // Once more, after a moment: an interrupted disk should not cost a thousand flows.
            tokio::time::sleep(RETRY).await;
            done = self.run_patiently(done.batch).await;
        }
        self.settle(done, ended);
        self.shared.queue.release(weight, ended);
    }

    /// As [`Driver::run`], for as long as another process has SQLite's write lock. What comes meanwhile waits in the queue, whose
    /// bounds then hold admission up: better slow than lost. Only at the end of all, patience ends too.
    async fn run_patiently(&self, batch: Batch) -> Done {
        let started = Instant::now();
        let (mut told, mut closing) = (false, None);
        let mut done = self.run(batch).await;
        while let Err(error @ StoreError::Busy { .. }) = &done.result {
            #[cfg(test)]
            self.shared.counts.locked_out.fetch_add(1, Ordering::Relaxed);
            if !told {
                tracing::warn!(%error, "flows wait to be stored, and nothing is lost yet: another process has the database locked");
                told = true;
            }
            if self.shared.queue.is_closing()
                && closing.get_or_insert_with(Instant::now).elapsed() > BUSY_AT_CLOSE
            {
                return done;
            }
            done = self.run(done.batch).await;
        }
        if told && done.result.is_ok() {
            tracing::info!(
                waited_s = started.elapsed().as_secs(),
                "the database is free again, and flows are stored"
            );
        }
        done
    }

    /// Deletes what is beyond the limits and reclaims segments, for a moment. Then commits have up to four times as long for
    /// themselves.
    ///
    /// Done right after a commit, it costs no time as a rule: what came meanwhile lingers anyway.
    async fn tidy(&mut self) {
        let (keeper, limits) = (Arc::clone(&self.keeper), self.shared.choice.limits());
        let work = move |conn: &mut rusqlite::Connection| {
            let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
            keeper.keep_within(limits);
            std::panic::catch_unwind(AssertUnwindSafe(|| keeper.tidy(conn)))
                .unwrap_or_else(|panic| Err(keeper.panicked(&*panic)))
        };
        let started = Instant::now();
        let (pause, alone) = match self.db.call_raw(work).await {
            Ok(Ok(Step::More { rest })) => (started.elapsed() * rest, Duration::ZERO),
            Ok(Ok(Step::Later)) => (LATER, Duration::ZERO),
            Ok(Ok(Step::Idle)) => (TIDY, TIDY_ALONE - TIDY),
            Ok(Err(error @ StoreError::Busy { .. })) => {
                tracing::debug!(%error, "the store is tidied later");
                (TIDY_RETRY, Duration::ZERO)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store could not be tidied");
                (TIDY_RETRY, Duration::ZERO)
            }
            Err(_) => (TIDY_RETRY, Duration::ZERO),
        };
        self.tidy_at = Instant::now() + pause;
        self.tidy_alone_at = self.tidy_at + alone;
    }

    /// Commits on SQLite's thread. A panic there is caught, so that the thread and the recording go on.
    async fn run(&self, mut batch: Batch) -> Done {
        let keeper = Arc::clone(&self.keeper);
        let work = move |conn: &mut rusqlite::Connection| {
            let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| keeper.commit(conn, &mut batch.group)))
                .unwrap_or_else(|panic| Err(keeper.panicked(&*panic)));
            Done { batch, result }
        };
        match self.db.call_raw(work).await {
            Ok(done) => done,
            Err(_) => Done {
                batch: Batch::default(),
                result: Err(StoreError::Panicked {
                    path: self.shared.path.to_path_buf(),
                    message: "its thread is gone".into(),
                }),
            },
        }
    }

    fn settle(&mut self, done: Done, ended: usize) {
        let counts = &self.shared.counts;
        let mut batch = done.batch;
        let messages = batch.group.messages() as u64;
        match done.result {
            Ok(outcome) => {
                self.failing = false;
                counts.failing.store(false, Ordering::Relaxed);
                counts.stored.fetch_add(ended as u64, Ordering::Relaxed);
                counts.messages.fetch_add(messages, Ordering::Relaxed);
                counts.groups.fetch_add(1, Ordering::Relaxed);
                counts.lost_bodies.fetch_add(outcome.lost_bodies, Ordering::Relaxed);
                counts.record_bytes.fetch_add(outcome.record_bytes, Ordering::Relaxed);
                for (mid, waiter) in batch.waiters.drain(..) {
                    // A waiter that is gone has dropped its future, and does not want to know.
                    let _ = waiter.send(Ok(outcome.lost_in.contains(&mid)));
                }
                if !batch.news.is_empty() {
                    batch.news.sort_by_key(|committed| committed.mid);
                    // An error means that the last receiver has gone.
                    let _ = self.shared.committed.send(batch.news.drain(..).collect());
                }
            }
            Err(error) => {
                if !self.failing {
                    tracing::error!(
                        %error,
                        lost = ended,
                        lost_messages = messages,
                        at_mid = batch.group.next_mid,
                        "flows cannot be stored: recording stands still, and the proxy goes on forwarding"
                    );
                }
                self.failing = true;
                counts.failing.store(true, Ordering::Relaxed);
                self.shared.queue.lost.fetch_add(ended as u64, Ordering::Relaxed);
                self.shared.queue.lost_messages.fetch_add(messages, Ordering::Relaxed);
                let error = Arc::new(error);
                for (_, waiter) in batch.waiters.drain(..) {
                    let _ = waiter.send(Err(Arc::clone(&error)));
                }
            }
        }
        batch.clear();
        self.spare = batch;
    }

    async fn close(self) -> Result<Stats, Arc<StoreError>> {
        let (stats, started) = (self.shared.stats(), Instant::now());
        let closed = loop {
            let keeper = Arc::clone(&self.keeper);
            let work = move |conn: &mut rusqlite::Connection| {
                let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
                keeper.counts = Some(stats.for_session());
                keeper.close(conn)
            };
            match self.db.call_raw(work).await {
                Ok(Err(StoreError::Busy { .. })) if started.elapsed() < BUSY_AT_CLOSE => {}
                closed => break closed,
            }
        };
        // With the checkpoint done, closing the connection can only fail to delete the WAL.
        let _ = self.db.close().await;
        self.shared.queue.end();
        match closed {
            Ok(Err(error)) => Err(Arc::new(error)),
            Ok(Ok(())) | Err(_) => Ok(self.shared.stats()),
        }
    }
}

/// Stores until the queue is closed and empty, then closes the store.
pub(super) async fn run(mut driver: Driver, end: watch::Sender<Option<Result<Stats, Arc<StoreError>>>>) {
    while driver.wait().await {
        driver.commit_one().await;
        if Instant::now() >= driver.tidy_at {
            driver.tidy().await;
        }
    }
    let result = driver.close().await;
    // Nobody may be waiting.
    let _ = end.send(Some(result));
}

/// How often the store is looked at after a commit, and how often anyway; a look costs some microseconds when there is nothing
/// to do.
const TIDY: Duration = Duration::from_millis(200);
const TIDY_ALONE: Duration = Duration::from_secs(1);

/// The pause while another thread works for it.
const LATER: Duration = Duration::from_millis(20);

/// The pause after that failed.
const TIDY_RETRY: Duration = Duration::from_secs(10);

/// How long flows that are left wait for another process at the end. People wait for ours then.
const BUSY_AT_CLOSE: Duration = Duration::from_secs(30);

/// How long news of connections waits for a flow to go with.
const CONNECTIONS_LINGER: Duration = Duration::from_secs(1);

/// The pause before a group that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
