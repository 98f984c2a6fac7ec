//! The run: requests go out as the pace and the places allow, and each answer is told when its flow is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::edit::Edits;
use super::feed::{Feed, Job};
use super::pace::{Pace, Pacer};
use super::prepare::Refusal;
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

/// What became of one flow.
#[derive(Debug)]
pub struct Reply {
    /// The flow that was to be sent again, as recorded.
    pub source: Box<Flow>,
    /// Its mid.
    pub of: Mid,
    /// The new flow, or why there is none.
    pub outcome: Result<Box<Answered>, Refusal>,
    _place: Option<OwnedSemaphorePermit>,
}

/// A request that went out, or tried to.
#[derive(Debug)]
pub struct Answered {
    /// Its mid; `None` if the store could not take the flow.
    pub mid: Option<Mid>,
    /// The new flow. Large bodies lie in the store that took it.
    pub flow: Flow,
    /// Fields with credentials that went to another origin than recorded.
    pub credentials: Vec<&'static str>,
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    replies: mpsc::Receiver<Reply>,
    stop: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<Stats>,
    into: PathBuf,
}

impl Run {
    /// Starts a run of flows of the store at `from`: what is given to the feed is sent, until that is dropped. The recorder
    /// belongs to the run, which closes it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn start(
        outbound: Outbound,
        recorder: Rotating,
        from: &Path,
        options: SendOptions,
    ) -> Result<(Feed, Self), StoreError> {
        let concurrency = options.concurrency.clamp(1, MAX_CONCURRENCY);
        let (jobs, waiting) = mpsc::channel(1);
        let into = recorder.path();
        let same = |path: &Path| path.canonicalize().ok();
        let elsewhere = same(from) != same(&into);
        let feed = Feed::new(from, Arc::new(options.edits), elsewhere, options.pace.speed(), jobs)?;
        let commits = recorder.commits();
        let (outcomes, settling) = mpsc::channel(OUTCOMES);
        let (sender, replies) = mpsc::channel(OUTCOMES);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let sending = Sending {
            outbound,
            places: Arc::new(Semaphore::new(concurrency)),
            window: Arc::new(Semaphore::new(if options.in_step {
                concurrency
            } else {
                WINDOW + concurrency
            })),
            pacer: Pacer::new(options.pace),
            outcomes,
            stop: stop.clone(),
            abort: abort.clone(),
        };
        let settling = Settling {
            outcomes: settling,
            commits,
            replies: sender,
            recorder,
            waiting: BTreeMap::new(),
            early: BTreeSet::new(),
            missed: false,
        };
        let task = tokio::spawn(async move {
            let ((), stats) = tokio::join!(sending.run(waiting), settling.run());
            stats
        });
        Ok((feed, Self { replies, stop, abort, task, into }))
    }

    /// The next reply, in the order of the commits; `None` when all is done. Cancel-safe.
    pub async fn reply(&mut self) -> Option<Reply> {
        self.replies.recv().await
    }

    /// Sends nothing more. What is under way goes on to its end, and is told.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// A handle to [`Run::stop`] from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
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

    /// Waits for the end: everything is stored and all connections are closed. What was not asked for by [`Run::reply`] is
    /// dropped.
    pub async fn finish(mut self) -> Stats {
        self.replies.close();
        match self.task.await {
            Ok(stats) => stats,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// What leads to requests.
struct Sending {
    outbound: Outbound,
    /// One for each request that is under way.
    places: Arc<Semaphore>,
    /// One for each flow that was taken and not told: what waits for its commit is in memory.
    window: Arc<Semaphore>,
    pacer: Pacer,
    outcomes: mpsc::Sender<Reply>,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Sending {
    async fn run(mut self, mut jobs: mpsc::Receiver<Vec<Job>>) {
        let mut under_way = JoinSet::new();
        let mut few = Vec::new().into_iter();
        loop {
            let next = async {
                let job = loop {
                    match few.next() {
                        Some(job) => break job,
                        None => few = jobs.recv().await?.into_iter(),
                    }
                };
                // They are never closed.
                let window = Arc::clone(&self.window).acquire_owned().await.ok()?;
                let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
                let due = self.pacer.due(job.round, job.source.timing.started_unix_ns, Instant::now());
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                Some((job, window, place))
            };
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                next = next => next,
            };
            let Some((job, window, place)) = next else { break };
            let Job { source, mid, what, .. } = job;
            let source = Box::new(source);
            let (outbound, outcomes) = (self.outbound.clone(), self.outcomes.clone());
            under_way.spawn(async move {
                let outcome = match what {
                    Ok(ready) => {
                        let credentials = ready.prepared.credentials.clone();
                        let flow = outbound.send(ready.into_errand()).await.flow;
                        Ok(Box::new(Answered { mid: flow.mid, flow, credentials }))
                    }
                    Err(refusal) => Err(refusal),
                };
                drop(place);
                // Nobody may want to be told any more.
                let _ = outcomes.send(Reply { source, of: mid, outcome, _place: Some(window) }).await;
            });
            while under_way.try_join_next().is_some() {}
        }
        // Whoever feeds us is told that nothing more is taken.
        drop(jobs);
        let abort = self.abort.clone();
        tokio::select! {
            () = async { while under_way.join_next().await.is_some() {} } => {}
            () = abort.cancelled() => under_way.shutdown().await,
        }
        self.outbound.close().await;
    }
}

/// What holds a reply back until its flow is committed.
struct Settling {
    outcomes: mpsc::Receiver<Reply>,
    commits: broadcast::Receiver<Arc<[Committed]>>,
    replies: mpsc::Sender<Reply>,
    recorder: Rotating,
    waiting: BTreeMap<Mid, Reply>,
    /// Committed before we heard of them from the other side.
    early: BTreeSet<Mid>,
    /// News of commits were lost, so the store itself is asked now and then.
    missed: bool,
}

impl Settling {
    async fn run(mut self) -> Stats {
        loop {
            let wait = self.missed && !self.waiting.is_empty();
            tokio::select! {
                biased;
                group = self.commits.recv() => match group {
                    Ok(group) => self.committed(&group).await,
                    Err(RecvError::Lagged(_)) => self.missed = true,
                    // The recorder is gone.
                    Err(RecvError::Closed) => break,
                },
                outcome = self.outcomes.recv() => match outcome {
                    Some(reply) => self.sent(reply).await,
                    None => break,
                },
                () = tokio::time::sleep(ASK_AGAIN), if wait => self.ask().await,
            }
        }
        while let Some(reply) = self.outcomes.recv().await {
            self.sent(reply).await;
        }
        // All has ended: what is not committed now will never be.
        let stats = self.recorder.close().await.unwrap_or_else(|_| self.recorder.stats());
        while let Ok(group) = self.commits.try_recv() {
            self.committed(&group).await;
        }
        self.ask().await;
        for (_, mut reply) in std::mem::take(&mut self.waiting) {
            if let Ok(answered) = &mut reply.outcome {
                answered.mid = None;
            }
            self.tell(reply).await;
        }
        stats
    }

    async fn sent(&mut self, reply: Reply) {
        match reply.outcome.as_ref().ok().and_then(|answered| answered.mid) {
            Some(mid) if !self.early.remove(&mid) => {
                self.waiting.insert(mid, reply);
            }
            _ => self.tell(reply).await,
        }
    }

    async fn committed(&mut self, group: &[Committed]) {
        for committed in group.iter().filter(|committed| committed.state != State::Open) {
            match self.waiting.remove(&committed.mid) {
                Some(reply) => self.tell(reply).await,
                None => {
                    self.early.insert(committed.mid);
                }
            }
        }
    }

    /// Asks the store for what waits.
    async fn ask(&mut self) {
        let (path, mids) = (self.recorder.path(), self.waiting.keys().copied().collect::<Vec<_>>());
        if mids.is_empty() {
            return;
        }
        let asked = tokio::task::spawn_blocking(move || -> Result<Vec<Mid>, StoreError> {
            let reader = Reader::open(&path)?;
            let ended = |mid: &Mid| Ok(reader.row(*mid)?.is_some_and(|row| row.state != State::Open));
            mids.into_iter().filter_map(|mid| ended(&mid).map(|is| is.then_some(mid)).transpose()).collect()
        });
        match asked.await {
            Ok(Ok(ended)) => {
                for mid in ended {
                    if let Some(reply) = self.waiting.remove(&mid) {
                        self.tell(reply).await;
                    }
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot ask the store what it has taken"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn tell(&self, reply: Reply) {
        // Nobody may want to be told any more.
        let _ = self.replies.send(reply).await;
    }
}

/// Far more than a process may have connections.
const MAX_CONCURRENCY: usize = 65_536;

/// Replies in memory that nobody has asked for.
const OUTCOMES: usize = 64;

/// Flows that may wait for their commits, beside those under way: what a fast origin answers in the time of a commit. A
/// reply holds two records with bodies of up to 2 KiB each.
const WINDOW: usize = 4096;

/// How often the store is asked after its news came faster than we took them.
const ASK_AGAIN: Duration = Duration::from_millis(50);
