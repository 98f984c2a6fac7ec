//! The part of a server replay that reads: looks into the index, takes an answer, and reads its flow. All of it blocks, and
//! runs on threads for that (`queue`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::oneshot;

use super::index::{Indexed, Indexer};
use super::queue::Queue;
use super::recent::Recent;
use super::recorded::{self, Asker, fitness};
use super::talk::talk;
use super::used::Used;
use super::{OnMiss, ServeOptions, ServeOrder};
use crate::filter::Filter;
use crate::flow::{Flow, Mid, State};
use crate::proxy::Answer;
use crate::record::Committed;
use crate::store::{AnswerAt, AnswerIndex, Reader, StoreError};

/// What a server replay has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that got a recorded answer.
    pub answered: u64,
    /// Requests that found none, whatever became of them.
    pub missed: u64,
    /// Requests that failed on purpose.
    pub faults: u64,
    /// Recorded answers that were never given.
    pub unused: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    store: PathBuf,
    pub(super) options: ServeOptions,
    pub(super) index: AnswerIndex,
    pub(super) indexed: Indexed,
    used: Mutex<Used>,
    queue: Queue,
    recent: Recent,
    /// The first moment that was asked for, here and on record.
    begun: OnceLock<Instant>,
    earliest_unix_ns: i64,
    /// What a recorder says that it has stored; and the last mid that was there before it.
    news: Mutex<Option<News>>,
    asked: AtomicU64,
    answered: AtomicU64,
    missed: AtomicU64,
    faults: AtomicU64,
}

#[derive(Debug)]
struct News {
    commits: Receiver<Arc<[Committed]>>,
    last: Mid,
}

impl Desk {
    pub(super) fn open(
        store: &Path,
        filter: Option<&Filter>,
        options: ServeOptions,
        progress: &mut dyn FnMut(&Indexed),
    ) -> Result<Self, StoreError> {
        let reader = Reader::open(store)?;
        let index = AnswerIndex::new()?;
        let mut indexer =
            Indexer { reader: &reader, index: &index, options: &options, done: Indexed::default() };
        indexer.all(filter, None, progress)?;
        let indexed = indexer.done;
        index.sort()?;
        if options.order == ServeOrder::Nearest {
            index.sort_by_time()?;
        }
        if options.on_miss.forwards() {
            index.sort_by_head()?;
        }
        Ok(Self {
            store: store.to_owned(),
            indexed,
            used: Mutex::default(),
            begun: OnceLock::new(),
            earliest_unix_ns: index.earliest_unix_ns()?.unwrap_or(0),
            news: Mutex::default(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            queue: Queue::new(reader),
            recent: Recent::default(),
            index,
            options,
        })
    }

    /// Has what `commits` tells answer, too, where that is what becomes of a miss.
    pub(super) fn follow(&self, commits: Receiver<Arc<[Committed]>>) -> Result<(), StoreError> {
        let last = Reader::open(&self.store)?.bounds()?.map_or(Mid(0), |(_, last, _)| last);
        *lock(&self.news) = Some(News { commits, last });
        Ok(())
    }

    /// Does `work` on a thread where it may block, with a reader of the store.
    pub(super) async fn with_reader<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>, &Reader) -> T + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let desk = Arc::clone(self);
        let job = Box::new(move |reader: Result<&Reader, &str>| {
            // Whoever asked may be gone.
            let _ = tell.send(match reader {
                Ok(reader) => Ok(work(&desk, reader)),
                Err(error) => Err(io::Error::other(error)),
            });
        });
        if self.queue.push(job) {
            let desk = Arc::clone(self);
            // Those whose jobs it does wait for it.
            tokio::task::spawn_blocking(move || {
                let open = || Reader::open(&desk.store).map_err(|error| error.to_string());
                // What was committed a moment ago is looked for, where recorded flows are to answer.
                desk.queue.work(open, desk.options.on_miss != OnMiss::Record);
            });
        }
        told.await.unwrap_or_else(|_| Err(io::Error::other("it ended in a panic")))
    }

    /// The answer to a request with this key, if it is given again and again and has been not long ago. Does not block.
    pub(super) fn recent(&self, key: &[u8; 16], asker: &Asker) -> Option<Answer> {
        if !self.keeps_recent() {
            return None;
        }
        let flow = self.recent.get(key)?;
        let body = recorded::inline_body(&flow);
        let mut answer = recorded::answer(&flow, body, asker, &self.options, age_s(&flow))?;
        answer.unrecorded = self.options.on_miss == OnMiss::Record;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// Whether the same request has the same answer each time.
    fn keeps_recent(&self) -> bool {
        self.options.reuse && self.options.order != ServeOrder::Nearest
    }

    /// The number of a request, from 0.
    pub(super) fn number(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let answers = self.index.len().unwrap_or(self.indexed.answers);
        Counts {
            answered: load(&self.answered),
            missed: load(&self.missed),
            faults: load(&self.faults),
            unused: answers.saturating_sub(lock(&self.used).count()),
        }
    }

    /// Takes the next answer to a request with this key; `None` if there is none, or none any more.
    pub(super) fn take(
        self: &Arc<Self>,
        reader: &Reader,
        key: &[u8; 16],
        asker: &Asker,
    ) -> Result<Option<Answer>, StoreError> {
        self.begun.get_or_init(Instant::now);
        if let Some(answer) = self.take_known(reader, key, asker)? {
            return Ok(Some(answer));
        }
        match self.options.on_miss == OnMiss::Record && self.learn(reader)? {
            true => self.take_known(reader, key, asker),
            false => Ok(None),
        }
    }

    fn take_known(
        self: &Arc<Self>,
        reader: &Reader,
        key: &[u8; 16],
        asker: &Asker,
    ) -> Result<Option<Answer>, StoreError> {
        let mut walk = Walk::new(self, key);
        while let Some(mid) = walk.next()? {
            let fresh = lock(&self.used).claim(mid);
            if !fresh && !self.options.reuse {
                continue;
            }
            if !self.options.reuse {
                walk.passed(mid);
            }
            match self.answer(reader, mid, key, asker) {
                Ok(Some(answer)) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%mid, "answered");
                    return Ok(Some(answer));
                }
                // Deleted since, or one that only its record shows to be none.
                Ok(None) => {}
                Err(error @ StoreError::Damaged { .. }) => tracing::warn!(%mid, %error, "cannot answer"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn answer(
        self: &Arc<Self>,
        reader: &Reader,
        mid: Mid,
        key: &[u8; 16],
        asker: &Asker,
    ) -> Result<Option<Answer>, StoreError> {
        let Some(flow) = reader.flow_alone(mid)?.map(Arc::new) else { return Ok(None) };
        if fitness(&flow, self.options.allow_truncated).is_err() {
            return Ok(None);
        }
        let body = recorded::body(&flow, reader)?;
        let Some(mut answer) = recorded::answer(&flow, body, asker, &self.options, age_s(&flow)) else {
            return Ok(None);
        };
        if self.keeps_recent() {
            self.recent.keep(*key, &flow);
        }
        if flow.websocket.is_some() {
            let broke_off = flow.state == State::ServerAborted;
            answer.talk = Some(talk(Arc::clone(self), mid, self.options.latency, broke_off));
        }
        answer.unrecorded = self.options.on_miss == OnMiss::Record;
        Ok(Some(answer))
    }

    /// Enters what was recorded since the last time; whether there was anything.
    fn learn(&self, reader: &Reader) -> Result<bool, StoreError> {
        let mut news = lock(&self.news);
        let Some(News { commits, last }) = &mut *news else { return Ok(false) };
        let mut indexer =
            Indexer { reader, index: &self.index, options: &self.options, done: Indexed::default() };
        loop {
            match commits.try_recv() {
                Ok(group) => {
                    let ended = group.iter().filter(|committed| committed.state != State::Open);
                    let rows = ended.map(|committed| reader.row(committed.mid));
                    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
                    indexer.rows(&rows.into_iter().flatten().collect::<Vec<_>>())?;
                }
                // What is there already is passed over.
                Err(TryRecvError::Lagged(_)) => indexer.all(None, Some(*last), &mut |_| {})?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let learnt = indexer.done.answers > 0;
        if learnt {
            lock(&self.used).look_anew();
        }
        Ok(learnt)
    }

    /// The moment on record that stands for now.
    fn recorded_now(&self) -> AnswerAt {
        let since = self.begun.get().map_or(0, |begun| begun.elapsed().as_nanos());
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        AnswerAt {
            at_unix_ns: self.earliest_unix_ns.saturating_add(since),
            mid: Mid(i64::MAX.cast_unsigned()),
        }
    }
}

/// Goes through the answers to one request, in the order in which they are to be given.
struct Walk<'a> {
    desk: &'a Desk,
    key: &'a [u8; 16],
    page: std::vec::IntoIter<Mid>,
    /// Where the next page begins; `None` if there is none.
    next: Option<Mid>,
    /// What is next on both sides of the moment that is looked for.
    sides: Option<[Side; 2]>,
}

/// The answers before or after a moment.
#[derive(Debug)]
struct Side {
    page: std::vec::IntoIter<AnswerAt>,
    last: Option<AnswerAt>,
    peeked: Option<AnswerAt>,
}

impl<'a> Walk<'a> {
    fn new(desk: &'a Desk, key: &'a [u8; 16]) -> Self {
        let start = match desk.options.order {
            ServeOrder::Last => Mid(i64::MAX.cast_unsigned()),
            ServeOrder::First | ServeOrder::Nearest => Mid(0),
        };
        let next = if desk.options.reuse { None } else { lock(&desk.used).next(key) };
        Self { desk, key, page: Vec::new().into_iter(), next: Some(next.unwrap_or(start)), sides: None }
    }

    fn next(&mut self) -> Result<Option<Mid>, StoreError> {
        if self.desk.options.order == ServeOrder::Nearest {
            return self.nearest();
        }
        loop {
            if let Some(mid) = self.page.next() {
                return Ok(Some(mid));
            }
            let Some(from) = self.next else { return Ok(None) };
            let (index, key) = (&self.desk.index, self.key);
            let falling = self.desk.options.order == ServeOrder::Last;
            let page = match falling {
                true => index.newest(key, from, PAGE)?,
                false => index.oldest(key, from, PAGE)?,
            };
            let next = |mid: Mid| if falling { mid.0.checked_sub(1) } else { mid.0.checked_add(1) };
            let last = page.last().copied().filter(|_| page.len() == PAGE);
            self.next = last.and_then(next).map(Mid);
            self.page = page.into_iter();
            if self.page.len() == 0 {
                return Ok(None);
            }
        }
    }

    fn nearest(&mut self) -> Result<Option<Mid>, StoreError> {
        let now = self.desk.recorded_now();
        let (index, key) = (&self.desk.index, self.key);
        let sides = self.sides.get_or_insert_with(|| [Side::from(now), Side::from(now)]);
        for (side, later) in sides.iter_mut().zip([false, true]) {
            side.fill(|from| match later {
                true => index.after(key, from, PAGE),
                false => index.before(key, from, PAGE),
            })?;
        }
        let [before, after] = sides;
        let distance = |at: &AnswerAt| now.at_unix_ns.abs_diff(at.at_unix_ns);
        let side = match (&before.peeked, &after.peeked) {
            (None, None) => return Ok(None),
            (Some(one), Some(other)) if distance(other) < distance(one) => after,
            (None, Some(_)) => after,
            (Some(_), _) => before,
        };
        Ok(side.peeked.take().map(|at| at.mid))
    }

    /// All answers up to this one have been given.
    fn passed(&self, mid: Mid) {
        let next = match self.desk.options.order {
            ServeOrder::First => Mid(mid.0 + 1),
            ServeOrder::Last => Mid(mid.0.saturating_sub(1)),
            ServeOrder::Nearest => return,
        };
        lock(&self.desk.used).set_next(*self.key, next);
    }
}

impl Side {
    fn from(now: AnswerAt) -> Self {
        Self { page: Vec::new().into_iter(), last: Some(now), peeked: None }
    }

    /// Makes sure that the next one is known, if there is one. `more` gives what follows a place.
    fn fill(
        &mut self,
        more: impl Fn(AnswerAt) -> Result<Vec<AnswerAt>, StoreError>,
    ) -> Result<(), StoreError> {
        if self.peeked.is_some() {
            return Ok(());
        }
        if self.page.len() == 0
            && let Some(from) = self.last
        {
            let page = more(from)?;
            self.last = page.last().copied();
            self.page = page.into_iter();
        }
        self.peeked = self.page.next();
        Ok(())
    }
}

/// How long ago a flow began.
fn age_s(flow: &Flow) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    now.saturating_sub(flow.timing.started_unix_ns.div_euclid(1_000_000_000))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers to one request that are looked up at a time: as a rule the first will do.
const PAGE: usize = 8;
