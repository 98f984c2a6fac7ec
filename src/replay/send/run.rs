//! The run: requests go out as the pace and the places allow, and each answer is told when its flow is committed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Key};
use super::edit::Edits;
use super::feed::{Feed, Job};
use super::pace::Pace;
use super::prepare::Refusal;
use super::queue::Queue;
use super::threads::Threads;
use crate::flow::{Flow, Mid, State};
use crate::proxy::Outbound;
use crate::record::{Committed, Rotating, Stats};
use crate::store::{Reader, StoreError};

/// How a run goes.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// What is changed in requests.
    pub edits: Edits,
    /// Requests at a time, at least 1.
    pub concurrency: usize,
    /// When they go out.
    pub pace: Pace,
    /// Whether a request goes out only when the reply to the one before it has been dropped, with `concurrency` in place of
    /// "one". Slower: a reply waits for its commit.
    pub in_step: bool,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { edits: Edits::default(), concurrency: 1, pace: Pace::default(), in_step: false }
    }
}

/// What became of one flow: before the new one is committed, so that nobody may be told of its mid.
#[derive(Debug)]
pub struct Reply {
    /// The flow that was to be sent again, as recorded.
    pub source: Box<Flow>,
    /// Its mid.
    pub of: Mid,
    /// The new flow, or why there is none.
    pub outcome: Result<Answered, Refusal>,
}

/// A request that went out, or tried to.
#[derive(Debug)]
pub struct Answered {
    /// The new flow. Large bodies lie in the store that takes it.
    pub flow: Box<Flow>,
    /// Fields with credentials that went to another origin than recorded.
    pub credentials: Vec<&'static str>,
}

/// A reply that can be told: its flow, where there is one, is committed, or never will be.
#[derive(Debug)]
pub struct Settled<T> {
    /// The mid of the new flow; `None` where there is none, or the store could not take it.
    pub mid: Option<Mid>,
    /// The store that took it, symbolic links resolved: where stores follow each other, a mid is of one of them.
    pub store: Option<Arc<Path>>,
    /// What was kept of the reply.
    pub kept: T,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T> Settled<T> {
    pub(super) fn new(kept: T, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { mid: None, store: None, kept, _place: place }
    }
}

/// A run under way. Of each reply a `T` is kept until it is told.
#[derive(Debug)]
pub struct Run<T = Reply> {
    asked: Asked<T>,
    /// Replies of one commit that were not asked for yet.
    ready: std::vec::IntoIter<Settled<T>>,
    stop: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<Stats>,
    into: PathBuf,
}

/// As long as it is there, somebody may ask for replies.
#[derive(Debug)]
struct Asked<T>(Arc<Desk<T>>);

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Run {
    /// Starts a run of flows of the store at `from`: what is given to the feed is sent, until that is dropped. The recorder
    /// belongs to the run, which closes it. Replies are kept whole. With [`Pace::Free`] it has threads of its own to send on.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn start(
        outbound: Outbound,
        recorder: Rotating,
        from: &Path,
        options: SendOptions,
    ) -> Result<(Feed, Self), StoreError> {
        Self::start_keeping(outbound, recorder, from, options, |reply| reply)
    }
}

impl<T: Send + 'static> Run<T> {
    /// As [`Run::start`], and keeps of each reply what `keep` makes of it, which is called where it came: two records for each
    /// flow that waits for its commit are megabytes, which are out of all caches when they are looked at again. Not to block,
    /// nor to take long: what is sent on the same thread waits.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn start_keeping(
        outbound: Outbound,
        recorder: Rotating,
        from: &Path,
        options: SendOptions,
        keep: impl Fn(Reply) -> T + Send + Sync + 'static,
    ) -> Result<(Feed, Self), StoreError> {
        let concurrency = options.concurrency.clamp(1, MAX_CONCURRENCY);
        let queue = Arc::new(Queue::new(options.pace));
        let into = recorder.path();
        let same = |path: &Path| path.canonicalize().ok();
        let elsewhere = same(from) != same(&into);
        let speed = options.pace.speed();
        let feed = Feed::new(from, Arc::new(options.edits), elsewhere, speed, Arc::clone(&queue))?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let desk = Arc::new(Desk::default());
        let window = if options.in_step { concurrency } else { WINDOW + concurrency };
        let sending = Arc::new(Sending {
            keep: Box::new(keep),
            outbound,
            pace: options.pace,
            window: Arc::new(Semaphore::new(window)),
            recorder: recorder.clone(),
            in_step: options.in_step,
            queue,
            desk: Arc::clone(&desk),
            stop: stop.clone(),
        });
        let settling = Settling {
            commits: recorder.commits(),
            desk: Arc::clone(&desk),
            recorder,
            missed: false,
            lost: 0,
        };
        let all_sent = sending.run(concurrency, abort.clone());
        let task = tokio::spawn(settling.run(all_sent));
        Ok((feed, Self { asked: Asked(desk), ready: Vec::new().into_iter(), stop, abort, task, into }))
    }

    /// The next reply, in the order of the commits; `None` when all is done. Cancel-safe.
    pub async fn reply(&mut self) -> Option<Settled<T>> {
        loop {
            if let Some(reply) = self.ready.next() {
                return Some(reply);
            }
            self.ready = self.asked.0.ready().await?.into_iter();
        }
    }

    /// Whether [`Run::reply`] has one at hand, which was committed together with the last one.
    #[must_use]
    pub fn has_reply(&self) -> bool {
        self.ready.len() > 0
    }

    /// Sends nothing more. What is under way goes on to its end, and is told.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// As [`Run::stop`], and ends what is under way: such flows are recorded as ended by us, and not told.
    pub fn abort(&self) {
        self.stop.cancel();
        self.abort.cancel();
    }

    /// The store that takes the new flows.
    #[must_use]
    pub fn into_store(&self) -> &Path {
        &self.into
    }

    /// Waits for the end: everything is stored and all connections are closed, but those over HTTP/2 whose origin has not
    /// taken our farewell in a second. What was not asked for by [`Run::reply`] is dropped.
    pub async fn finish(self) -> Stats {
        drop((self.asked, self.ready));
        match self.task.await {
            Ok(stats) => stats,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// What leads to requests.
struct Sending<T> {
    keep: Box<dyn Fn(Reply) -> T + Send + Sync>,
    outbound: Outbound,
    pace: Pace,
    queue: Arc<Queue>,
    /// One for each flow that was taken and not told: what waits for its commit is in memory.
    window: Arc<Semaphore>,
    recorder: Rotating,
    /// Each flow is to be committed at once: the next request waits for it.
    in_step: bool,
    desk: Arc<Desk<T>>,
    stop: CancellationToken,
}

impl<T: Send + 'static> Sending<T> {
    /// Sends all, so many at a time.
    async fn run(self: Arc<Self>, concurrency: usize, abort: CancellationToken) {
        let mut workers = JoinSet::new();
        // At a pace, each would keep a connection of its own that is mostly idle.
        let mut threads = match self.pace {
            Pace::Free => Threads::start(&self.outbound, concurrency),
            Pace::Rate(_) | Pace::AsRecorded(_) => Threads::none(&self.outbound),
        };
        let mut work_next = |workers: &mut JoinSet<()>| {
            let (sending, (handle, outbound)) = (Arc::clone(&self), threads.next());
            workers.spawn_on(async move { sending.work(&outbound).await }, handle);
        };
        for _ in 0..concurrency {
            work_next(&mut workers);
        }
        let (mut stopped, mut over) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = abort.cancelled() => {
                    workers.shutdown().await;
                    break;
                }
                () = self.stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.queue.stop();
                }
                // What waits is committed while the last are on their way, and these then are few.
                () = self.queue.over(), if !over => {
                    over = true;
                    self.recorder.hurry();
                }
                worker = workers.join_next() => match worker {
                    Some(Ok(())) => {}
                    // Its flow is recorded as ended by us, and not told; the others go on.
                    Some(Err(error)) => {
                        tracing::error!(%error, "a request was given up");
                        // On a thread that is gone, the next would end as soon.
                        if error.is_panic() {
                            work_next(&mut workers);
                        }
                    }
                    None => break,
                },
            }
        }
        // Whoever feeds us is told that nothing more is taken.
        self.queue.stop();
        // The last flows are committed while connections are closed.
        self.recorder.hurry();
        self.outbound.close().await;
        // Here those end that were kept.
        drop(threads);
    }

    /// Sends what there is, one after the other. What a request needs is on the heap, and stays there for the next: most of
    /// many workers may have nothing to do.
    async fn work(&self, outbound: &Outbound) {
        if let Some(first) = self.next().await {
            Box::pin(self.work_from(outbound, first)).await;
        }
    }

    async fn work_from(&self, outbound: &Outbound, first: Taken) {
        let mut taken = Some(first);
        while let Some(flow) = taken {
            if self.one(outbound, flow).await.is_none() {
                return;
            }
            taken = self.next().await;
            // Whoever has an answer to look at does that first, and then all requests leave one upon the other. With that work
            // between them, the origin would sleep and be woken for each.
            tokio::task::yield_now().await;
        }
    }

    /// The next flow, where there is a place for it; `None` when there is no more to do.
    async fn next(&self) -> Option<Taken> {
        let place = match Arc::clone(&self.window).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => tokio::select! {
                biased;
                // Whoever holds a reply back does not hold up the end.
                () = self.queue.over() => return None,
                // It is never closed.
                place = Arc::clone(&self.window).acquire_owned() => place.ok()?,
            },
        };
        let (job, due) = self.queue.take().await?;
        Some(Taken { job, due, place })
    }

    /// Sends a flow when it is due; `None` if nothing is to be sent any more.
    async fn one(&self, outbound: &Outbound, taken: Taken) -> Option<()> {
        let Taken { job: Job { source, mid, what, .. }, due, place } = taken;
        if due > Instant::now() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = sleep_until(due) => {}
            }
        }
        if self.stop.is_cancelled() {
            return None;
        }
        let outcome = match what {
            Ok(mut ready) => {
                let credentials = std::mem::take(&mut ready.prepared.credentials);
                let flow = outbound.send(ready.into_errand()).await.flow;
                Ok(Answered { flow, credentials })
            }
            Err(refusal) => Err(refusal),
        };
        let key = outcome.as_ref().ok().and_then(|answered| Key::of(&answered.flow));
        let kept = (self.keep)(Reply { source, of: mid, outcome });
        self.desk.sent(key, Settled::new(kept, Some(place)));
        if self.in_step {
            self.recorder.hurry();
        }
        Some(())
    }
}

/// A flow that a worker has taken.
struct Taken {
    job: Job,
    due: Instant,
    place: OwnedSemaphorePermit,
}

/// What holds a reply back until its flow is committed.
struct Settling<T> {
    commits: broadcast::Receiver<Arc<[Committed]>>,
    desk: Arc<Desk<T>>,
    recorder: Rotating,
    /// News of commits were lost, so the store itself is asked now and then.
    missed: bool,
    /// Flows that the recorder could not store, when that was last looked at.
    lost: u64,
}

impl<T> Settling<T> {
    async fn run(mut self, all_sent: impl Future<Output = ()>) -> Stats {
        let mut all_sent = std::pin::pin!(all_sent);
        loop {
            tokio::select! {
                biased;
                group = self.commits.recv() => match group {
                    Ok(group) => self.desk.committed(&group),
                    Err(RecvError::Lagged(_)) => self.missed = true,
                    // The recorder is gone.
                    Err(RecvError::Closed) => {
                        all_sent.await;
                        break;
                    }
                },
                () = &mut all_sent => break,
                () = tokio::time::sleep(ASK_AGAIN), if self.missed => {
                    self.ask().await;
                    self.give_up_lost().await;
                }
                // News come far more often while there are any.
                () = tokio::time::sleep(LOOK_FOR_LOST) => self.give_up_lost().await,
            }
        }
        // All has ended: what is not committed by the end of this will never be. Replies are told while the store is tidied.
        let mut closed = std::pin::pin!(self.recorder.close());
        let closed = loop {
            tokio::select! {
                biased;
                Ok(group) = self.commits.recv() => self.desk.committed(&group),
                closed = &mut closed => break closed,
            }
        };
        while let Ok(group) = self.commits.try_recv() {
            self.desk.committed(&group);
        }
        let stats = closed.unwrap_or_else(|_| self.recorder.stats());
        self.ask().await;
        stats
    }

    /// Of a group that could not be stored there are no news: who waits for it would wait for ever.
    async fn give_up_lost(&mut self) {
        // In this order: what waits has ended, and where nothing is queued later on, it is stored or lost.
        let waiting = self.desk.waiting();
        let stats = self.recorder.stats();
        if waiting.is_empty() || stats.lost == self.lost || stats.queued > 0 {
            return;
        }
        self.lost = stats.lost;
        self.ask().await;
        self.desk.give_up(&waiting);
    }

    /// Asks the stores for what waits.
    async fn ask(&self) {
        for path in self.recorder.paths() {
            let waiting = self.desk.waiting();
            if waiting.is_empty() {
                return;
            }
            let store = path.canonicalize().unwrap_or(path).into();
            let asked = {
                let store = Arc::clone(&store);
                tokio::task::spawn_blocking(move || ended(&store, waiting))
            };
            match asked.await {
                Ok(Ok(ended)) => self.desk.tell(ended.into_iter().map(|key| (key, &store))),
                Ok(Err(error)) => tracing::warn!(%error, "cannot ask the store what it has taken"),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

/// Those of some flows that have ended in this store.
fn ended(store: &Path, mut flows: Vec<Key>) -> Result<Vec<Key>, StoreError> {
    let reader = Reader::open(store)?;
    let mut failed = None;
    flows.retain(|key| match reader.row(key.mid) {
        Ok(row) => {
            row.is_some_and(|row| row.state != State::Open && row.started_unix_ns == key.started_unix_ns)
        }
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(flows), Err)
}

impl<T> Drop for Settling<T> {
    fn drop(&mut self) {
        self.desk.end();
    }
}

/// Far more than a process may have connections.
const MAX_CONCURRENCY: usize = 65_536;

/// Flows that may wait for their commits, beside those under way: what a fast origin answers in the time of a commit. A
/// reply holds two records with bodies of up to 2 KiB each.
const WINDOW: usize = 4096;

/// How long no group is committed before it is looked whether one was lost.
const LOOK_FOR_LOST: Duration = Duration::from_secs(1);

/// How often the store is asked after its news came faster than we took them.
const ASK_AGAIN: Duration = Duration::from_millis(50);
