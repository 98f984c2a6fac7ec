//! The recorder of a proxy, whose store may follow the clock: `flows-%Y%m%d.db` is another file each day.
//!
//! When the name changes, the next store is opened, and flows that begin from then on go there. Those that began before
//! end in the store in which they began, which is closed when the last of them is in it. Each file has mids of its own.
//!
//! Admission pays one atomic load for it. A next store that cannot be opened leaves things as they are, loudly.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Zoned;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Choice, Committed, RecordError, Recorder, RecorderOptions, Stats, Ticket};
use crate::flow::{ClientConn, ConnId, Flow, Mid, ServerConn};
use crate::store::{NameFormat, StoreError};

/// What tells the time, in the zone whose days count.
pub type Clock = Arc<dyn Fn() -> Zoned + Send + Sync>;

/// A [`Recorder`], or one after the other. Cheap to clone; all clones are one.
///
/// [`Rotating::close`] should end it, as it should a recorder.
#[derive(Debug, Clone)]
pub struct Rotating {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    current: ArcSwap<Place>,
    inline_limit: usize,
    rotation: Option<Rotation>,
    retired: Mutex<Retired>,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// A store, and the name that the clock gave it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    recorder: Recorder,
}

struct Rotation {
    format: NameFormat,
    clock: Clock,
    /// Held while one turns: opening takes a while.
    turning: tokio::sync::Mutex<Turning>,
}

#[derive(Debug, Default)]
struct Turning {
    /// The store that could not be opened, so that it is told once.
    refused: Option<PathBuf>,
    /// Nothing is opened any more.
    closed: bool,
}

/// Stores that take no new flows.
#[derive(Debug, Default)]
struct Retired {
    /// With flows that have not ended.
    open: Vec<Arc<Place>>,
    /// What the closed ones did.
    closed: Stats,
}

impl Rotating {
    /// Opens the store at `path`, or the one that its name means now; needs a running tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::BadName`] for a name that no clock can make; else as [`Recorder::open`].
    pub async fn open(path: &Path, options: RecorderOptions) -> Result<Self, StoreError> {
        Self::open_by(Arc::new(Zoned::now), path, options).await
    }

    /// As [`Rotating::open`], with another clock.
    ///
    /// # Errors
    /// As [`Rotating::open`].
    pub async fn open_by(clock: Clock, path: &Path, options: RecorderOptions) -> Result<Self, StoreError> {
        let rotation = NameFormat::of(path)?.map(|format| Rotation {
            format,
            clock,
            turning: tokio::sync::Mutex::default(),
        });
        let path = match &rotation {
            Some(rotation) => rotation.path()?,
            None => path.to_owned(),
        };
        let inline_limit = options.inline_limit;
        // After a pause over midnight.
        let before =
            rotation.as_ref().filter(|_| !path.exists()).and_then(|rotation| rotation.format.newest());
        let recorder = Recorder::open_after(&path, options, before.as_deref()).await?;
        let rotates = rotation.is_some();
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            current: ArcSwap::from_pointee(Place { path, recorder }),
            inline_limit,
            rotation,
            retired: Mutex::default(),
            task: Mutex::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop: stop.clone(),
        });
        if rotates {
            let task = tokio::spawn(watch_clock(Arc::downgrade(&inner), stop));
            *lock(&inner.task) = Some(task);
        }
        Ok(Self { inner })
    }

    /// As [`Recorder::admit`], in the store of now.
    pub async fn admit(&self) -> Ticket {
        // Held until the place is taken: a store is closed when nobody holds it and no place of it is taken.
        let place = self.inner.current.load();
        place.recorder.admit().await
    }

    /// As [`Recorder::next_conn_id`].
    #[must_use]
    pub fn next_conn_id(&self) -> ConnId {
        self.inner.current.load().recorder.next_conn_id()
    }

    /// As [`Recorder::client_conn_changed`], in each store that is open.
    pub fn client_conn_changed(&self, conn: Arc<ClientConn>) {
        for place in &self.retired().open {
            place.recorder.client_conn_changed(Arc::clone(&conn));
        }
        self.inner.current.load().recorder.client_conn_changed(conn);
    }

    /// As [`Recorder::server_conn_changed`], in each store that is open.
    pub fn server_conn_changed(&self, conn: Arc<ServerConn>) {
        for place in &self.retired().open {
            place.recorder.server_conn_changed(Arc::clone(&conn));
        }
        self.inner.current.load().recorder.server_conn_changed(conn);
    }

    /// As [`Recorder::inline_limit`].
    #[must_use]
    pub fn inline_limit(&self) -> usize {
        self.inner.inline_limit
    }

    /// As [`Recorder::body_limit`].
    #[must_use]
    pub fn body_limit(&self) -> Option<u64> {
        self.inner.current.load().recorder.body_limit()
    }

    /// As [`Recorder::change`], in each store.
    pub fn change(&self, choice: Choice) {
        self.inner.current.load().recorder.change(choice);
    }

    /// Whether the last group could not be stored, in the store of now.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.inner.current.load().recorder.is_failing()
    }

    /// As [`Recorder::commits`], of all stores.
    #[must_use]
    pub fn commits(&self) -> broadcast::Receiver<Arc<[Committed]>> {
        self.inner.current.load().recorder.commits()
    }

    /// As [`Recorder::hurry`], in the store of now; what ends in the one before it lingers.
    pub fn hurry(&self) {
        self.inner.current.load().recorder.hurry();
    }

    /// As [`Recorder::collect`], from the store of now.
    ///
    /// # Errors
    /// As [`Recorder::collect`].
    pub async fn collect(&self, mid: Mid) -> Result<Option<Flow>, RecordError> {
        let place = self.inner.current.load_full();
        place.recorder.collect(mid).await
    }

    /// The file of the store of now.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.inner.current.load().path.clone()
    }

    /// The stores that are open, that of now at the end.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = self.retired().open.iter().map(|place| place.path.clone()).collect();
        paths.push(self.path());
        paths
    }

    /// Whether another store may follow.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.inner.rotation.is_some()
    }

    /// What was done so far, in all stores. `queued` is of those that are open.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let retired = self.retired();
        let open = retired.open.iter().map(|place| place.recorder.stats());
        let all = open.fold(retired.closed, Stats::plus);
        all.plus(self.inner.current.load().recorder.stats())
    }

    /// Looks at the clock, opens the next store if its name is another, and closes those whose flows have ended. This is
    /// done each second anyway.
    pub async fn turn(&self) {
        let Some(rotation) = &self.inner.rotation else { return };
        let mut turning = rotation.turning.lock().await;
        if turning.closed {
            return;
        }
        let current = self.inner.current.load_full();
        match rotation.path() {
            Ok(path) if path == current.path => turning.refused = None,
            Ok(path) => self.move_to(path, &current, &mut turning).await,
            Err(error) => tracing::error!(%error, "the store stays the one that it is"),
        }
        drop(current);
        self.close_idle().await;
    }

    async fn move_to(&self, path: PathBuf, current: &Arc<Place>, turning: &mut Turning) {
        // A clock that went back names a store that may not be closed yet.
        let returning = {
            let mut retired = self.retired();
            let at = retired.open.iter().position(|place| place.path == path);
            at.map(|at| retired.open.swap_remove(at))
        };
        let next = match returning {
            Some(place) => Ok(place),
            None if self.retired().open.len() >= MAX_RETIRED => {
                Err("too many stores have flows that do not end".into())
            }
            None => match current.recorder.open_next(&path).await {
                Ok(recorder) => Ok(Arc::new(Place { path: path.clone(), recorder })),
                Err(error) => Err(error.to_string()),
            },
        };
        match next {
            Ok(place) => {
                tracing::info!(store = %path.display(), "recording goes on in the next store");
                turning.refused = None;
                self.retired().open.push(Arc::clone(current));
                self.inner.current.store(place);
            }
            Err(error) if turning.refused.as_ref() != Some(&path) => {
                tracing::error!(
                    error,
                    next = %path.display(),
                    store = %current.path.display(),
                    "the next store cannot be opened, recording goes on in the old one; it is tried again each second"
                );
                turning.refused = Some(path);
            }
            Err(_) => {}
        }
    }

    /// Closes the stores that nobody can bring a flow any more.
    async fn close_idle(&self) {
        let idle: Vec<Place> = {
            let mut retired = self.retired();
            let open = std::mem::take(&mut retired.open).into_iter().map(Arc::try_unwrap);
            let (idle, open): (Vec<_>, Vec<_>) = open.partition(|place| {
                // Who is being admitted holds the place; who was, takes one of its recorder's.
                place.as_ref().is_ok_and(|place| place.recorder.stats().queued == 0)
            });
            retired.open =
                open.into_iter().map(|place| place.map_or_else(|shared| shared, Arc::new)).collect();
            let idle: Vec<Place> = idle.into_iter().flatten().collect();
            retired.closed =
                idle.iter().map(|place| place.recorder.stats()).fold(retired.closed, Stats::plus);
            idle
        };
        for place in idle {
            if let Err(error) = place.recorder.close().await {
                tracing::error!(%error, store = %place.path.display(), "the store did not close cleanly");
            }
        }
    }

    /// Closes all stores, as [`Recorder::close`] does one; what was done in all of them.
    ///
    /// # Errors
    /// [`RecordError::Close`] if the last checkpoint of one failed: what was committed is safe, in its WAL.
    pub async fn close(&self) -> Result<Stats, RecordError> {
        self.inner.stop.cancel();
        let task = lock(&self.inner.task).take();
        if let Some(task) = task {
            // It ends by the token; a panic in it has been told.
            let _ = task.await;
        }
        if let Some(rotation) = &self.inner.rotation {
            rotation.turning.lock().await.closed = true;
        }
        let mut places = self.retired().open.clone();
        places.push(self.inner.current.load_full());
        let mut closed = Ok(());
        for place in places {
            closed = closed.and(place.recorder.close().await.map(|_| ()));
        }
        closed.map(|()| self.stats())
    }

    fn retired(&self) -> MutexGuard<'_, Retired> {
        lock(&self.inner.retired)
    }
}

impl Rotation {
    fn path(&self) -> Result<PathBuf, StoreError> {
        self.format.at(&(self.clock)())
    }
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("format", &self.format).finish_non_exhaustive()
    }
}

async fn watch_clock(inner: Weak<Inner>, stop: CancellationToken) {
    let mut seconds = tokio::time::interval(LOOK);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = seconds.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        Rotating { inner }.turn().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often the clock is looked at: names change with seconds at most.
const LOOK: Duration = Duration::from_secs(1);

/// Stores that wait for the end of their last flows; each has two threads and a few files. Arbitrary: two months of days.
const MAX_RETIRED: usize = 60;
