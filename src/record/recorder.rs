//! The recorder's handle: open, admit, store, collect, close.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::choice::{Choice, Current};
use super::driver::{self, Driver};
use super::guests::Guests;
use super::options::RecorderOptions;
use super::queue::Queue;
use super::ticket::Ticket;
use crate::flow::{ClientConn, ConnId, Content, Flow, FlowError, Kind, Mid, ServerConn, State};
use crate::store::{BodySide, Pins, Reader, Segments, SessionCounts, StoreError, Writer, WriterOptions};

/// Stores flows and finds them again. Cheap to clone.
///
/// [`Recorder::close`] should end it. When the last clone is dropped without that, what is queued is still stored, as
/// long as the runtime goes on.
#[derive(Debug, Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    _last: Arc<CloseOnDrop>,
}

/// Why a flow could not be stored or collected.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The recorder is closed.
    #[error("the recorder is closed")]
    Closed,
    /// The transaction failed; the flow is not stored.
    #[error("the flow could not be stored: {0}")]
    Commit(#[source] Arc<StoreError>),
    /// The flow is stored, but the disk could not take a body of it.
    #[error("flow {mid} is stored without a body that the disk could not take")]
    BodyLost {
        /// Its ticket.
        mid: Mid,
    },
    /// The store could not be read.
    #[error("the flow could not be read: {0}")]
    Read(#[source] StoreError),
    /// The store could not be closed in order.
    #[error("the store could not be closed: {0}")]
    Close(#[source] Arc<StoreError>),
}

/// What recorders share that follow each other: the feed, whether it is followed, the next connection's id, and what of all
/// that passes they store.
type Lineage = (broadcast::Sender<Arc<[Committed]>>, Arc<AtomicBool>, Arc<AtomicU64>, Arc<Current>);

/// What a recorder did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Flows that ended and are committed.
    pub stored: u64,
    /// Flows that ended and could not be stored.
    pub lost: u64,
    /// Bodies of stored flows that the disk could not take.
    pub lost_bodies: u64,
    /// Flows that are admitted and not committed.
    pub queued: u64,
    /// Messages of WebSockets that are committed.
    pub messages: u64,
    /// Messages of WebSockets that could not be stored.
    pub lost_messages: u64,
    /// Groups that were committed.
    pub groups: u64,
    /// Bytes of the records that were committed.
    pub record_bytes: u64,
    /// Flows that ended and were not wanted by the filter.
    pub left_out: u64,
}

impl Stats {
    /// What two recorders did.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            lost: self.lost + other.lost,
            lost_bodies: self.lost_bodies + other.lost_bodies,
            queued: self.queued + other.queued,
            messages: self.messages + other.messages,
            lost_messages: self.lost_messages + other.lost_messages,
            groups: self.groups + other.groups,
            record_bytes: self.record_bytes + other.record_bytes,
            left_out: self.left_out + other.left_out,
        }
    }
}

impl Stats {
    /// What of it is kept in the store.
    pub(super) fn for_session(self) -> SessionCounts {
        let Self { stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes, .. } = self;
        SessionCounts { stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes }
    }
}

/// A flow whose transaction has committed.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its ticket.
    pub mid: Mid,
    /// The store, symbolic links resolved: where stores follow each other, a mid is of one of them.
    pub store: Arc<Path>,
    /// When it began, nanoseconds since 1970. With the mid it tells flows of stores that follow each other.
    pub started_unix_ns: i64,
    /// How far it came; [`State::Open`] for a snapshot.
    pub state: State,
    /// What kind of thing happened.
    pub kind: Kind,
    /// Method, as spelled; empty without a request.
    pub method: Bytes,
    /// See [`Flow::url`].
    pub url: String,
    /// Status of the final response.
    pub status: Option<u16>,
    /// Payload bytes of the response, and of a tunnel or a WebSocket those from the origin.
    pub response_len: u64,
    /// How long it took, in microseconds.
    pub duration_us: Option<u64>,
    /// What went wrong.
    pub error: Option<FlowError>,
}

/// What handles and driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: Arc<Path>,
    /// As they were given: of what may change, `choice` is what holds.
    pub(super) options: RecorderOptions,
    pub(super) choice: Arc<Current>,
    pub(super) queue: Arc<Queue>,
    pub(super) segments: Segments,
    pub(super) pins: Pins,
    pub(super) next_mid: AtomicU64,
    /// Also of the recorders that follow when stores rotate: a connection outlives a store.
    pub(super) next_conn: Arc<AtomicU64>,
    /// The first connection id of this session.
    first_conn: u64,
    /// Connections of other stores that had flows here.
    guests: Guests,
    pub(super) committed: broadcast::Sender<Arc<[Committed]>>,
    /// Whether anybody ever asked for the feed: news cost a few allocations a flow.
    followed: Arc<AtomicBool>,
    pub(super) counts: Counts,
    /// The driver's last word.
    end: watch::Receiver<Option<Result<Stats, Arc<StoreError>>>>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    readers: Mutex<Vec<Reader>>,
    #[cfg(test)]
    pub(super) db: std::sync::OnceLock<tokio_rusqlite::Connection>,
}

impl Committed {
    pub(super) fn of(mid: Mid, store: &Arc<Path>, flow: &Flow) -> Self {
        let tunnel = flow.tunnel.as_ref().map_or(0, |t| t.from_server.len);
        let messages = flow.websocket.as_ref().map_or(0, |w| w.len_from_server);
        Self {
            mid,
            store: Arc::clone(store),
            started_unix_ns: flow.timing.started_unix_ns,
            state: flow.state,
            kind: flow.kind,
            method: flow.request.as_ref().map(|r| own(&r.method)).unwrap_or_default(),
            url: flow.url(),
            status: flow.response.as_ref().map(|r| r.status),
            response_len: flow
                .response
                .as_ref()
                .map_or(0, |r| r.body.len)
                .saturating_add(tunnel.saturating_add(messages)),
            duration_us: flow.timing.end_us,
            error: flow.error.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) stored: AtomicU64,
    pub(super) lost_bodies: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) record_bytes: AtomicU64,
    pub(super) left_out: AtomicU64,
    /// How often a group met the lock of another process.
    #[cfg(test)]
    pub(super) locked_out: AtomicU64,
    /// Whether the last group could not be stored.
    pub(super) failing: AtomicBool,
}

impl Recorder {
    /// Opens the store at `path` for writing, making it if there is none. Needs a running tokio runtime.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub async fn open(path: &Path, options: RecorderOptions) -> Result<Self, StoreError> {
        Self::open_after(path, options, None).await
    }

    /// As [`Recorder::open`], of a store that follows the one at `before`: see [`Writer::take_over`].
    pub(super) async fn open_after(
        path: &Path,
        options: RecorderOptions,
        before: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let writer = Self::open_writer(path, &options, before).await?;
        Ok(Self::start(writer, options))
    }

    /// Opens another store, to record in it what this one no longer takes. They share the feed and the counter of
    /// connections.
    pub(super) async fn open_next(&self, path: &Path) -> Result<Self, StoreError> {
        let shared = &self.shared;
        let options = RecorderOptions { limits: shared.choice.limits(), ..shared.options.clone() };
        let writer = Self::open_writer(path, &options, Some(&shared.path)).await?;
        let (followed, next_conn) = (Arc::clone(&shared.followed), Arc::clone(&shared.next_conn));
        let lineage = (shared.committed.clone(), followed, next_conn, Arc::clone(&shared.choice));
        Ok(Self::start_in(writer, options, lineage))
    }

    async fn open_writer(
        path: &Path,
        options: &RecorderOptions,
        before: Option<&Path>,
    ) -> Result<Writer, StoreError> {
        let writer_options = WriterOptions {
            durability: options.durability,
            queue_bytes: options.queue_bytes / 2,
            label: options.label.clone(),
            listen: options.listen.clone(),
            limits: options.limits,
            cache: options.cache,
        };
        let (path, before) = (path.to_owned(), before.map(Path::to_owned));
        let open = move || {
            let mut writer = Writer::open(&path, &writer_options)?;
            if let Some(before) = before
                && let Err(error) = writer.take_over(&before)
            {
                tracing::warn!(%error, before = %before.display(), "whether an index of bodies is wanted is not known");
            }
            Ok(writer)
        };
        let opened = tokio::task::spawn_blocking(open).await;
        match opened {
            Ok(writer) => writer,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Starts the driver on a store that is open.
    pub(super) fn start(writer: Writer, options: RecorderOptions) -> Self {
        let choice =
            Choice { filter: options.filter.clone(), body_limit: options.body_limit, limits: options.limits };
        let choice = Arc::new(Current::new(choice));
        let lineage = (broadcast::channel(COMMITTED_GROUPS).0, Arc::default(), Arc::default(), choice);
        Self::start_in(writer, options, lineage)
    }

    fn start_in(writer: Writer, options: RecorderOptions, lineage: Lineage) -> Self {
        let (next_mid, own_next_conn) = writer.next_ids();
        let (committed, followed, conns, choice) = lineage;
        let next_conn = conns.fetch_max(own_next_conn, Ordering::Relaxed).max(own_next_conn);
        let (end_sender, end) = watch::channel(None);
        let shared = Arc::new(Shared {
            path: writer.path().into(),
            queue: Arc::new(Queue::new(options.queue_places, options.queue_bytes / 2)),
            segments: writer.segments().clone(),
            pins: writer.pins().clone(),
            next_mid: AtomicU64::new(next_mid),
            next_conn: conns,
            first_conn: next_conn,
            guests: Guests::new(own_next_conn),
            committed,
            followed,
            counts: Counts::default(),
            end,
            task: Mutex::new(None),
            readers: Mutex::new(Vec::new()),
            options,
            choice,
            #[cfg(test)]
            db: std::sync::OnceLock::new(),
        });
        let driver = Driver::new(Arc::clone(&shared), writer);
        let task = tokio::spawn(driver::run(driver, end_sender));
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Self { _last: Arc::new(CloseOnDrop { queue: Arc::clone(&shared.queue) }), shared }
    }

    /// Reserves a place and the mid for a flow that begins; waits while places or bytes are used up.
    ///
    /// Dropping this future reserves nothing.
    pub async fn admit(&self) -> Ticket {
        self.shared.queue.take_place().await;
        let mid = Mid(self.shared.next_mid.fetch_add(1, Ordering::Relaxed));
        Ticket::new(Arc::clone(&self.shared), mid)
    }

    /// An id for a new connection, unique in this store.
    #[must_use]
    pub fn next_conn_id(&self) -> ConnId {
        ConnId(self.shared.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells a newer revision of a client's connection. It is written if a flow of the connection is or was. Never
    /// blocks.
    pub fn client_conn_changed(&self, mut conn: Arc<ClientConn>) {
        if self.shared.guests.is_guest(conn.id) {
            let Some(id) = self.shared.guests.known(conn.id) else { return };
            Arc::make_mut(&mut conn).id = id;
        }
        self.shared.queue.client_changed(conn);
    }

    /// As [`Recorder::client_conn_changed`], of a connection to an origin.
    pub fn server_conn_changed(&self, mut conn: Arc<ServerConn>) {
        if self.shared.guests.is_guest(conn.id) {
            let Some(id) = self.shared.guests.known(conn.id) else { return };
            Arc::make_mut(&mut conn).id = id;
        }
        self.shared.queue.server_changed(conn);
    }

    /// Bodies up to this many bytes belong in the record.
    #[must_use]
    pub fn inline_limit(&self) -> usize {
        self.shared.options.inline_limit
    }

    /// Bytes that are recorded of a body that passes; `None` for all.
    #[must_use]
    pub fn body_limit(&self) -> Option<u64> {
        self.shared.choice.body_limit()
    }

    /// Stores what this says from now on, in the recorders that follow this one as well. What the store may hold is looked at
    /// when it is tidied next.
    pub fn change(&self, choice: Choice) {
        self.shared.choice.change(choice);
    }

    /// Stores a flow; its mid, once its transaction has committed.
    ///
    /// A mid that the flow has is replaced. Inline bodies above the inline limit are moved to segment files; extents
    /// must be of this store. Connections without an id of this session get one. A flow that is
    /// [`State::Open`] will be [`State::Interrupted`] when the store is opened again.
    ///
    /// Dropping this future may leave the flow stored all the same.
    ///
    /// # Errors
    /// [`RecordError::Commit`] if the transaction failed, [`RecordError::BodyLost`] if the flow is stored but a body of
    /// it is not, [`RecordError::Closed`] after [`Recorder::close`].
    pub async fn store(&self, mut flow: Flow) -> Result<Mid, RecordError> {
        if self.shared.queue.is_closing() {
            return Err(RecordError::Closed);
        }
        let ticket = self.admit().await;
        self.adopt_conns(&mut flow);
        self.move_bodies(&ticket, &mut flow).await;
        ticket.finish_stored(&flow).committed().await
    }

    /// The flow with this mid, with its connections and bodies; `None` if there is none. Bodies above 64 MiB stay
    /// [`Content::Extents`]: read them with [`Reader::body`].
    ///
    /// # Errors
    /// [`RecordError::Read`] if the store cannot be read or what it holds is damaged.
    pub async fn collect(&self, mid: Mid) -> Result<Option<Flow>, RecordError> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let spare = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = spare.map_or_else(|| Reader::open(&shared.path), Ok)?;
            let flow = reader.load(mid, COLLECT_BYTES)?;
            let mut readers = shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < SPARE_READERS && !shared.queue.is_closing() {
                readers.push(reader);
            }
            Ok(flow)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(RecordError::Read),
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(RecordError::Closed),
            },
        }
    }

    /// The store's file, symbolic links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The feed of what is committed, a group at a time, from now on. A receiver that lags loses groups, not the store.
    #[must_use]
    pub fn commits(&self) -> broadcast::Receiver<Arc<[Committed]>> {
        self.shared.followed.store(true, Ordering::Relaxed);
        self.shared.committed.subscribe()
    }

    /// Has what was handed over committed now, rather than when more has come: for who waits for it in another way than by a
    /// receipt.
    pub fn hurry(&self) {
        self.shared.queue.hurry();
    }

    /// Whether the last group of flows could not be stored: what is recorded now may be lost too.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.counts.failing.load(Ordering::Relaxed)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stores everything that was handed over, takes the WAL into the database and closes it. A flow that is finished
    /// after this is lost. Called again, it gives the same.
    ///
    /// # Errors
    /// [`RecordError::Close`] if the last checkpoint failed: what was committed is safe, in the WAL.
    pub async fn close(&self) -> Result<Stats, RecordError> {
        self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.queue.close();
        let mut end = self.shared.end.clone();
        let result = match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(Stats::default())),
            Err(_) => return Err(RecordError::Closed),
        };
        let task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It has said its last word, so it is as good as ended.
            let _ = task.await;
        }
        result.map_err(RecordError::Close)
    }

    /// For tests: a database that is full beyond so many pages.
    #[cfg(test)]
    pub(super) async fn limit_pages(&self, pages: u32) {
        let set = move |db: &mut rusqlite::Connection| {
            db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        self.shared.db.get().unwrap().call(set).await.unwrap();
    }

    /// For tests: one that does not wait long for another's lock at a time.
    #[cfg(test)]
    pub(super) async fn wait_shortly_for_locks(&self) {
        let set = |db: &mut rusqlite::Connection| db.busy_timeout(std::time::Duration::from_millis(5));
        self.shared.db.get().unwrap().call(set).await.unwrap();
    }

    /// For tests: how often a group met another's lock.
    #[cfg(test)]
    pub(super) fn times_locked_out(&self) -> u64 {
        self.shared.counts.locked_out.load(Ordering::Relaxed)
    }

    /// Gives ids to connections that have none of this session.
    fn adopt_conns(&self, flow: &mut Flow) {
        let ours = self.shared.first_conn..self.shared.next_conn.load(Ordering::Relaxed);
        if *flow.client != ClientConn::default() && !ours.contains(&flow.client.id.0) {
            Arc::make_mut(&mut flow.client).id = self.next_conn_id();
        }
        if let Some(server) = &mut flow.server
            && !ours.contains(&server.id.0)
        {
            Arc::make_mut(server).id = self.next_conn_id();
        }
    }

    async fn move_bodies(&self, ticket: &Ticket, flow: &mut Flow) {
        let request = flow.request.as_mut().map(|r| (BodySide::Request, &mut r.body));
        let response = flow.response.as_mut().map(|r| (BodySide::Response, &mut r.body));
        let tunnel = flow.tunnel.as_mut().map(|t| {
            [(BodySide::TunnelClient, &mut t.from_client), (BodySide::TunnelServer, &mut t.from_server)]
        });
        for (side, body) in request.into_iter().chain(response).chain(tunnel.into_iter().flatten()) {
            if let Content::Inline(bytes) = &body.content
                && bytes.len() > self.inline_limit()
            {
                let mut writer = ticket.body(side);
                writer.write(bytes.clone()).await;
                body.content = Content::Extents(writer.extents());
            }
        }
    }
}

/// A method in memory of its own: what is received shares that of its whole head, or of the records it was read with.
fn own(method: &[u8]) -> Bytes {
    let known: [&[u8]; 6] = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE"];
    let found = known.into_iter().find(|known| *known == method);
    found.map_or_else(|| Bytes::copy_from_slice(method), Bytes::from_static)
}

impl Shared {
    pub(super) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// The flow with connections that are this store's: nearly always the flow itself.
    pub(super) fn at_home<'a>(&self, flow: &'a Flow) -> Cow<'a, Flow> {
        self.guests.at_home(flow, || ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn stats(&self) -> Stats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            stored: load(&self.counts.stored),
            lost: load(&self.queue.lost),
            lost_bodies: load(&self.counts.lost_bodies),
            queued: self.queue.places_used() as u64,
            messages: load(&self.counts.messages),
            lost_messages: load(&self.queue.lost_messages),
            groups: load(&self.counts.groups),
            record_bytes: load(&self.counts.record_bytes),
            left_out: load(&self.counts.left_out),
        }
    }
}

/// Lets the driver end when no handle is left.
#[derive(Debug)]
struct CloseOnDrop {
    queue: Arc<Queue>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Groups that a slow receiver of the feed may be behind.
const COMMITTED_GROUPS: usize = 16;

/// The largest body that [`Recorder::collect`] brings into memory.
const COLLECT_BYTES: u64 = 64 << 20;

/// Connections kept for the next [`Recorder::collect`].
const SPARE_READERS: usize = 2;
