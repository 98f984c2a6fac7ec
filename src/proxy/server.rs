//! Listening, accepting, and ending in order.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessOptions;
use super::answers::Answers;
use super::client::Client;
use super::limits::Limits;
use super::mode::{Listen, Mode, transparent};
use super::passthrough::PassthroughOptions;
use super::shared::Shared;
use super::site::Site;
use super::sockets::Injector;
use crate::record::Rotating;
use crate::rules::Rules;
use crate::tls::Leaves;
use crate::upstream::{Dialer, Pool};

/// Why a proxy could not start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a proxy is made of.
#[derive(Debug)]
pub struct ServerOptions {
    /// Limits.
    pub limits: Limits,
    /// Where flows go; `None` records nothing.
    pub recorder: Option<Rotating>,
    /// Refuse requests while recording does not work.
    pub require_recording: bool,
    /// Who answers in the place of origins; `None` for a proxy that passes on.
    pub answers: Option<Arc<dyn Answers>>,
    /// What is blocked, held and changed; `None` where nothing is.
    pub rules: Option<Arc<Rules>>,
    /// Certificates for clients.
    pub leaves: Leaves,
    /// Connections to origins.
    pub dialer: Dialer,
    /// Which tunnels are left unread.
    pub passthrough: PassthroughOptions,
    /// Who may use the proxy.
    pub access: AccessOptions,
    /// Who answers for the proxy itself; `None`: nobody does.
    pub site: Option<Arc<dyn Site>>,
}

/// An address that was taken.
#[derive(Debug)]
pub struct Listening {
    socket: Socket,
    address: SocketAddr,
    mode: Mode,
}

/// A proxy that serves. Dropping it stops nothing: call [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Server {
    /// Takes the addresses, without serving yet; port 0 takes a free one.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn bind(listeners: &[Listen]) -> Result<Vec<Listening>, ServerError> {
        let take = |Listen { mode, addr }: &Listen| {
            listen(*addr, mode)
                .map(|socket| Listening { socket, address: *addr, mode: mode.clone() })
                .map_err(|source| ServerError::Listen { address: *addr, source })
        };
        listeners.iter().map(take).collect()
    }

    /// Starts to serve. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// If a listener cannot be given to the runtime.
    pub fn start(sockets: Vec<Listening>, options: ServerOptions) -> Result<Self, ServerError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for Listening { socket, address, mode } in sockets {
            let failed = |source| ServerError::Listen { address, source };
            let listener = TcpListener::from_std(socket.into()).map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push((listener, Arc::new(mode)));
        }
        let max_connections = options.limits.max_connections;
        let is_explicit =
            |((_, mode), addr): (&(_, Arc<Mode>), &SocketAddr)| (**mode == Mode::Explicit).then_some(*addr);
        let explicit = listeners.iter().zip(&addresses).filter_map(is_explicit).collect();
        let shared = Arc::new(Shared::new(options, addresses.clone(), explicit));
        let (tasks, kill) = (TaskTracker::new(), CancellationToken::new());
        let registry = Arc::new(Registry::new(max_connections));
        for (listener, mode) in listeners {
            let acceptor = Acceptor {
                listener,
                mode,
                shared: Arc::clone(&shared),
                registry: Arc::clone(&registry),
                tasks: tasks.clone(),
                kill: kill.clone(),
            };
            tasks.spawn(acceptor.run());
        }
        tasks.spawn(sweep(Arc::clone(&shared.pool), shared.stop.clone()));
        Ok(Self { addresses, shared, tasks, kill })
    }

    /// Where it listens, with real ports, in the order of [`Server::bind`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Sends messages on the WebSockets that pass.
    #[must_use]
    pub fn injector(&self) -> Injector {
        Injector::new(Arc::clone(&self.shared.sockets))
    }

    /// Who may use the proxy from now on, and what is left unread. What is under way goes on as it began.
    pub fn change(&self, access: AccessOptions, passthrough: PassthroughOptions) {
        self.shared.access.change(access);
        self.shared.passthrough.change(passthrough);
    }

    /// Stops accepting, closes idle connections, waits up to `grace` for what is under way, then ends it: such flows are
    /// recorded as ended by the proxy. Cancelling `hurry` skips the grace.
    pub async fn shutdown(&self, grace: Duration, hurry: &CancellationToken) {
        self.shared.stop.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(grace) => {}
            () = hurry.cancelled() => {}
        }
        self.kill.cancel();
        self.tasks.wait().await;
        self.shared.pool.close();
        self.shared.carriers.close();
        // They end when nobody holds their connections. An origin that does not even take our farewell is left with the
        // runtime, which drops its task.
        let _ = tokio::time::timeout(CARRIERS_TIME, self.shared.carriers.wait()).await;
    }
}

/// One listener's loop.
struct Acceptor {
    listener: TcpListener,
    mode: Arc<Mode>,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Acceptor {
    async fn run(self) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                accepted = self.admit() => accepted,
            };
            match accepted {
                Ok((tcp, peer, place)) => self.serve(tcp, peer, place),
                Err(error) => {
                    // Out of descriptors or memory: idle connections make room; anything else passes.
                    tracing::warn!(error = %error, "accept failed");
                    self.shared.pool.clear();
                    self.registry.evict_oldest_idle();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for a connection, then for a place for it. In this order: an idle connection is ended only where a client
    /// waits for its place, and that client is not among the idle ones yet.
    async fn admit(&self) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let (tcp, peer) = self.listener.accept().await?;
        let places = &self.registry.places;
        let place = match Arc::clone(places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => loop {
                self.registry.evict_oldest_idle();
                // None may have been idle; the next that is makes room.
                tokio::select! {
                    place = Arc::clone(places).acquire_owned() => break place.map_err(io::Error::other)?,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            },
        };
        Ok((tcp, peer, place))
    }

    fn serve(&self, tcp: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        if !self.shared.access.admits(peer.ip()) {
            return;
        }
        // A client that is gone already needs no service.
        // What a transparent client came to may be an origin's address, which is none of this machine.
        let came_to =
            if *self.mode == Mode::Transparent { self.listener.local_addr() } else { tcp.local_addr() };
        let (Ok(local), Ok(())) = (came_to, tcp.set_nodelay(true)) else { return };
        let entry = self.registry.enter(&self.shared.stop, place);
        let client = Client::new(Arc::clone(&self.shared), Arc::clone(&self.mode), peer, local, entry);
        let kill = self.kill.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = Box::pin(client.run(tcp)) => {}
            }
        });
    }
}

/// All client connections, to find the one that has been idle longest when there are too many.
#[derive(Debug)]
struct Registry {
    places: Arc<Semaphore>,
    entries: Mutex<HashMap<u64, Arc<Slot>>>,
    next: AtomicU64,
    epoch: Instant,
}

#[derive(Debug)]
struct Slot {
    token: CancellationToken,
    /// Milliseconds after the registry's epoch since which it is idle, from 1; 0 while it is not.
    idle_since: AtomicU64,
}

impl Registry {
    fn new(max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            entries: Mutex::default(),
            next: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    fn enter(self: &Arc<Self>, stop: &CancellationToken, place: OwnedSemaphorePermit) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot { token: stop.child_token(), idle_since: AtomicU64::new(0) });
        self.lock().insert(id, Arc::clone(&slot));
        let entry = Entry { registry: Arc::clone(self), id, slot, _place: place };
        entry.idle();
        entry
    }

    /// Ends the connection that has been idle longest, if any is idle.
    fn evict_oldest_idle(&self) {
        let oldest = self
            .lock()
            .values()
            .filter(|slot| slot.idle_since.load(Ordering::Relaxed) > 0 && !slot.token.is_cancelled())
            .min_by_key(|slot| slot.idle_since.load(Ordering::Relaxed))
            .cloned();
        if let Some(slot) = oldest {
            slot.token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the registry; dropping it leaves.
#[derive(Debug)]
pub(super) struct Entry {
    registry: Arc<Registry>,
    id: u64,
    slot: Arc<Slot>,
    _place: OwnedSemaphorePermit,
}

impl Entry {
    /// Notes that the connection waits for its client.
    pub(super) fn idle(&self) {
        let since = u64::try_from(self.registry.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.slot.idle_since.store(since.max(1), Ordering::Relaxed);
    }

    /// Notes that an exchange is under way: it is not ended for another's sake.
    pub(super) fn busy(&self) {
        self.slot.idle_since.store(0, Ordering::Relaxed);
    }

    /// Cancelled when the connection must take no further request.
    pub(super) fn token(&self) -> CancellationToken {
        self.slot.token.clone()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}

fn listen(address: SocketAddr, mode: &Mode) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to time out. It does not allow two listeners on one port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if *mode == Mode::Transparent {
        transparent::prepare(&socket, address);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Closes pooled connections when their time is over.
async fn sweep(pool: Arc<Pool>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(KEEP_ORIGINS / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => pool.sweep(),
        }
    }
}

/// Connections that the kernel may hold before they are accepted: a burst of a browser or a load test.
const BACKLOG: i32 = 4096;
/// After an error on accept, or without a place, before the next try: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the connections to origins may take to say farewell.
pub(super) const CARRIERS_TIME: Duration = Duration::from_secs(1);
/// How long an idle connection to an origin is kept. Shorter than common servers' 60 to 75 s, so that a request seldom
/// meets a connection that is just being closed.
pub(super) const KEEP_ORIGINS: Duration = Duration::from_secs(30);
