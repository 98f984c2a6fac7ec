//! Builds the parts of a capturing proxy, starts them in order, and ends them in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Durability};
use crate::http1::HeadLimits;
use crate::proxy::{Answers, Injector, Limits, Outbound, Server, ServerError, ServerOptions, Site};
use crate::record::{self, Choice, RecordError, RecorderOptions, Rotating, Stats};
use crate::store::{Limits as StoreLimits, StoreError};
use crate::tls::{
    AddedRoots, Ca, CaError, ClientTls, HostCert, HostCertError, LeafError, Leaves, RootsError, SystemRoots,
    Verification,
};
use crate::upstream::{DialOptions, Dialer};
use crate::web::SetupPage;

/// A running proxy: listener, recorder and what they share.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    recorder: Option<Rotating>,
    ca: Arc<Ca>,
}

/// Why a proxy did not start. Nothing is left running.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened for writing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority cannot be loaded or made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The authority cannot sign.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The roots for origins cannot be loaded.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A certificate for clients to be shown cannot be loaded.
    #[error(transparent)]
    Cert(HostCertError),
    /// A certificate for origins that ask for one cannot be loaded.
    #[error(transparent)]
    ClientCert(HostCertError),
    /// TLS towards origins cannot be set up with these roots.
    #[error("cannot set up TLS towards origins")]
    Tls(#[source] rustls::Error),
}

/// How long a shutdown waits for what is under way.
#[derive(Debug, Clone)]
pub struct Grace {
    /// At most so long.
    pub period: Duration,
    /// Cancelled when even that is too long. Storing what has ended is never skipped.
    pub skip: CancellationToken,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Flows that are in the store.
    pub stored: u64,
    /// Flows that could not be stored.
    pub lost: u64,
    /// Messages of WebSockets that could not be stored.
    pub lost_messages: u64,
    /// Whether the database was taken away or overwritten meanwhile, so that nothing of `stored` is sure to be in a file.
    pub gone: bool,
    /// Flows that passed and were not wanted by the filter of what is recorded.
    pub left_out: u64,
}

impl Proxy {
    /// Starts a proxy; when this returns, it accepts connections. The listener comes last but for the recorder's store:
    /// a port in use must not leave a new session in a store.
    ///
    /// # Errors
    /// If any part cannot be had; see [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, None).await
    }

    /// As [`Proxy::start`], with somebody who answers requests in the place of their origins, such as
    /// [`crate::replay::serve::StoreAnswers`].
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_answering(config: Config, answers: Arc<dyn Answers>) -> Result<Self, StartError> {
        Self::start_with(config, Some(answers)).await
    }

    async fn start_with(config: Config, answers: Option<Arc<dyn Answers>>) -> Result<Self, StartError> {
        let system = SystemRoots::read();
        let parts = Parts::load(&config)?;
        let ca = Arc::clone(&parts.ca);
        let sockets = Server::bind(&config.listen).map_err(bind_error)?;
        let recorder = match config.record {
            true => Some(Rotating::open(&config.store, recorder_options(&config)).await?),
            false => None,
        };
        let options = ServerOptions { answers, ..parts.options(&config, system, recorder.clone())? };
        let server = Server::start(sockets, options).map_err(bind_error)?;
        Ok(Self { server, recorder, ca })
    }

    /// Where it listens, with the real port; the first of several addresses.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    /// Everywhere that it listens.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Where flows go; `None` where nothing is recorded.
    #[must_use]
    pub fn recorder(&self) -> Option<&Rotating> {
        self.recorder.as_ref()
    }

    /// Sends messages on the WebSockets that pass.
    #[must_use]
    pub fn injector(&self) -> Injector {
        self.server.injector()
    }

    /// The authority that signs its leaves.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Goes by `config` from now on, as far as [`Config::changed`] has it. What is under way goes on as it began; the store
    /// is brought within new limits when it is tidied next, within a second or so.
    pub fn change(&self, config: &Config) {
        self.server.change(config.access.clone(), config.passthrough.clone());
        if let Some(recorder) = &self.recorder {
            let options = recorder_options(config);
            let (filter, body_limit, limits) = (options.filter, options.body_limit, options.limits);
            recorder.change(Choice { filter, body_limit, limits });
        }
    }

    /// Stops accepting, lets what is under way end within the grace, records the rest as ended by us, and stores
    /// everything.
    pub async fn shutdown(self, grace: Grace) -> Summary {
        self.server.shutdown(grace.period, &grace.skip).await;
        let Some(recorder) = &self.recorder else { return Summary::default() };
        let closed = recorder.close().await;
        if let Err(error) = &closed {
            tracing::error!(%error, "the store did not close cleanly");
        }
        let gone = matches!(&closed, Err(RecordError::Close(e)) if matches!(**e, StoreError::Gone { .. }));
        let Stats { stored, lost, lost_messages, left_out, .. } = closed.unwrap_or_else(|_| recorder.stats());
        Summary { stored, lost, lost_messages, gone, left_out }
    }
}

/// Sends requests of our own as a proxy with these settings would send a client's, and records them in its store. Nothing is
/// sent to the addresses in `own`. What listens, and what is left unread, does not matter.
///
/// # Errors
/// As [`Proxy::start`].
pub async fn outbound(config: &Config, own: Vec<SocketAddr>) -> Result<(Outbound, Rotating), StartError> {
    let system = SystemRoots::read();
    let parts = Parts::load(config)?;
    let recorder = Rotating::open(&config.store, recorder_options(config)).await?;
    let options = parts.options(config, system, Some(recorder.clone()))?;
    Ok((Outbound::new(options, own), recorder))
}

/// What is read for a start, and may be wrong: before anything is bound or written. The system's roots, which may be missing
/// and not wrong, are read meanwhile.
struct Parts {
    ca: Arc<Ca>,
    roots: AddedRoots,
    client_certs: Vec<HostCert>,
    leaves: Leaves,
}

impl Parts {
    fn load(config: &Config) -> Result<Self, StartError> {
        let ca = Arc::new(match &config.ca_files {
            Some(files) => Ca::load_files(&files.cert, files.key.as_deref())?,
            None => Ca::load_or_create(&config.ca_dir)?,
        });
        let roots = AddedRoots::load(&config.upstream_ca)?;
        let client_certs = load_certs(&config.client_certs).map_err(StartError::ClientCert)?;
        let certs = load_certs(&config.certs).map_err(StartError::Cert)?;
        let leaves = Leaves::new(Arc::clone(&ca))?.with_certs(certs);
        Ok(Self { ca, roots, client_certs, leaves })
    }

    fn options(
        self,
        config: &Config,
        system: SystemRoots,
        recorder: Option<Rotating>,
    ) -> Result<ServerOptions, StartError> {
        let Self { ca, roots, client_certs, leaves } = self;
        let roots = roots.beside(system, Some(&ca));
        for warning in roots.warnings() {
            tracing::warn!("{warning}");
        }
        let verification = if config.insecure { Verification::Off } else { Verification::On };
        let client_tls =
            ClientTls::new(&roots, verification).map_err(StartError::Tls)?.with_client_certs(client_certs);
        let timeouts = &config.timeouts;
        let dialer = Dialer::new(
            DialOptions { connect_timeout: timeouts.connect, tls_timeout: timeouts.tls },
            Arc::new(client_tls),
        );
        let dialer = match &config.via {
            Some(via) => dialer.through(via.clone()),
            None => dialer,
        };
        let site = |host| -> Arc<dyn Site> { Arc::new(SetupPage::new(host, ca)) };
        Ok(ServerOptions {
            limits: limits(config),
            recorder,
            require_recording: config.require_recording,
            leaves,
            dialer,
            passthrough: config.passthrough.clone(),
            answers: None,
            rules: (!config.rules.is_empty()).then(|| Arc::new(config.rules.clone())),
            access: config.access.clone(),
            site: config.setup_host.clone().map(site),
        })
    }
}

fn load_certs(certs: &[config::HostCert]) -> Result<Vec<HostCert>, HostCertError> {
    let load = |cert: &config::HostCert| {
        let loaded = HostCert::load(cert.host.as_deref(), &cert.pem)?;
        if let Some(warning) = loaded.warning() {
            tracing::warn!("{warning}");
        }
        Ok(loaded)
    };
    certs.iter().map(load).collect()
}

fn bind_error(error: ServerError) -> StartError {
    let ServerError::Listen { address, source } = error;
    StartError::Bind { addr: address, source }
}

fn limits(config: &Config) -> Limits {
    Limits {
        head: HeadLimits { max_bytes: config.limits.max_head_bytes, max_fields: config.limits.max_fields },
        head_timeout: config.timeouts.head,
        tls_timeout: config.timeouts.tls,
        idle_timeout: config.timeouts.idle,
        relay_timeout: config.timeouts.relay_idle,
        silent_client: config.timeouts.silent_client,
        ping_every: config.timeouts.ping_every,
        ping_answer: config.timeouts.ping_answer,
        max_connections: config.limits.max_connections,
    }
}

fn recorder_options(config: &Config) -> RecorderOptions {
    let durability = match config.durability {
        Durability::Full => record::Durability::Full,
        Durability::Normal => record::Durability::Normal,
    };
    let (body_limit, filter) = (config.body_limit, config.record_filter.clone());
    let config::Keep { max_age, max_size_bytes, max_flows } = config.keep;
    let limits = StoreLimits { max_age, max_size_bytes, max_flows };
    let compress = config.compress;
    RecorderOptions { durability, body_limit, filter, limits, compress, ..RecorderOptions::default() }
}
