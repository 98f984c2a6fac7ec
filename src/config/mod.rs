//! The settings of a capturing proxy, resolved once, as plain data.
//!
//! `layers` puts file and environment under the command line, by the table that the command tree is; `cli` fills a
//! [`Config`] from what results, and hands it to `app`. What may change while the proxy runs, [`Config::changed`] tells.

mod file;
mod late;
pub(crate) mod layers;
mod paths;
pub(crate) mod setting;
pub mod units;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use file::FileError;
pub use paths::{default_ca_dir, default_config, default_store, make_default_folder};

use crate::filter::Filter;
use crate::proxy::{AccessOptions, Listen, Mode, PassthroughOptions};
use crate::rules::Rules;
use crate::upstream::Via;
use crate::web::DEFAULT_HOST;

/// All settings of a capturing proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to accept clients, and how they come in there. Never empty.
    pub listen: Vec<Listen>,
    /// Who may use the proxy; what an address in `listen` needs that other machines reach.
    pub access: AccessOptions,
    /// The name under which the setup page is found through the proxy (see [`crate::web::parse_host`]); `None`: there is none,
    /// neither so nor at a listener.
    pub setup_host: Option<String>,
    /// The store's database file; a `%` in its name makes it follow the clock (see [`crate::record::Rotating`]).
    pub store: PathBuf,
    /// Whether flows are recorded at all; `false` for measurements and for debugging the proxy itself.
    pub record: bool,
    /// Which flows are recorded of those that pass; `None` for all.
    pub record_filter: Option<Filter>,
    /// How much of a power failure an announced mid outlives.
    pub durability: Durability,
    /// Bytes of each body that are recorded; `None` for all. What passes is not limited.
    pub body_limit: Option<u64>,
    /// What the store may hold: the oldest flows go.
    pub keep: Keep,
    /// zstd's level for recorded bodies that shrink by it; `None` to store them as they passed.
    pub compress: Option<i32>,
    /// Whether requests are answered with 503 when they cannot be recorded, rather than passed on.
    pub require_recording: bool,
    /// Where the certificate authority lives, and is made at the first start.
    pub ca_dir: PathBuf,
    /// A given authority, used instead of the one in `ca_dir`.
    pub ca_files: Option<CaFiles>,
    /// PEM files with roots that upstream certificates may chain to, besides the system's.
    pub upstream_ca: Vec<PathBuf>,
    /// Whether upstream certificates go unchecked.
    pub insecure: bool,
    /// The proxy through which origins are reached, and which of them are not; `None`: all are dialled directly.
    pub via: Option<Via>,
    /// Which tunnels are left unread.
    pub passthrough: PassthroughOptions,
    /// What is blocked, held and changed of what passes.
    pub rules: Rules,
    /// Certificates that clients are shown in place of ones that we make.
    pub certs: Vec<HostCert>,
    /// Certificates of ours for origins that ask for one.
    pub client_certs: Vec<HostCert>,
    /// How long peers are waited for.
    pub timeouts: Timeouts,
    /// How much peers may ask for.
    pub limits: Limits,
}

/// What a store may hold; `None` for any. Flows that are marked or under way stay, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// For so long.
    pub max_age: Option<Duration>,
    /// Bytes of its files.
    pub max_size_bytes: Option<u64>,
    /// Flows.
    pub max_flows: Option<u64>,
}

/// A certificate authority in files of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// PEM with the certificate, and the key too where `key` is `None`.
    pub cert: PathBuf,
    /// PEM with the private key.
    pub key: Option<PathBuf>,
}

/// A certificate in a file of the user's, and the hosts that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCert {
    /// Which: a host name, `*.example.com`, an IP literal; `None` is all.
    pub host: Option<String>,
    /// PEM with the certificate, what leads on from it to a root, and the key.
    pub pem: PathBuf,
}

/// What a group commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Synced to the disk: an announced mid survives a power failure.
    #[default]
    Full,
    /// Written to the system: it survives the death of the process.
    Normal,
}

/// How long peers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request's head, from its first byte.
    pub head: Duration,
    /// For a TLS handshake, on either side.
    pub tls: Duration,
    /// For a TCP connection to an origin, name look-up included.
    pub connect: Duration,
    /// For the next request on a connection that is kept alive.
    pub idle: Duration,
    /// For the next byte of a response, of a body or of a tunnel.
    pub relay_idle: Duration,
    /// For the first byte in a tunnel, before it counts as one whose server speaks first.
    pub silent_client: Duration,
    /// Between two PINGs on a connection to an origin that speaks HTTP/2.
    pub ping_every: Duration,
    /// For the answer to one.
    pub ping_answer: Duration,
    /// For open exchanges when the proxy is told to stop.
    pub grace: Duration,
}

/// How much peers may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at one time.
    pub max_connections: usize,
    /// Bytes in the head of a message.
    pub max_head_bytes: usize,
    /// Fields in the head of a message.
    pub max_fields: usize,
}

/// Why a set of settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no home directory to derive a default path from.
    #[error("neither {xdg} nor HOME is set, so there is no place for {what}")]
    NoHome {
        /// The variable that would have told.
        xdg: &'static str,
        /// What was to be placed: `the store`, `the CA` or `the settings`.
        what: &'static str,
    },
    /// An address that other machines reach, and nothing that says which of them, or who, may use it.
    #[error(
        "refusing to listen on {addr}{}: anyone on the network could use your network identity",
        if *.asks { " without a password" } else { ", where clients cannot be asked for a password" }
    )]
    RemoteListen {
        /// The address.
        addr: SocketAddr,
        /// Whether credentials would do: not where clients know of no proxy.
        asks: bool,
    },
    /// The filter of what is recorded asks for what is not known when a flow ends.
    #[error("what is recorded cannot depend on `{test}`: {why}")]
    RecordFilter {
        /// The part of the filter.
        test: String,
        /// Why it is not known.
        why: &'static str,
    },
}

impl Config {
    /// The defaults, with the store and the authority at the given places.
    #[must_use]
    pub fn new(store: PathBuf, ca_dir: PathBuf) -> Self {
        Self {
            listen: vec![DEFAULT_LISTEN.into()],
            access: AccessOptions::default(),
            setup_host: Some(DEFAULT_HOST.to_owned()),
            store,
            record: true,
            record_filter: None,
            durability: Durability::default(),
            body_limit: None,
            keep: Keep::default(),
            compress: None,
            require_recording: false,
            ca_dir,
            ca_files: None,
            upstream_ca: Vec::new(),
            insecure: false,
            via: None,
            passthrough: PassthroughOptions::default(),
            rules: Rules::default(),
            certs: Vec::new(),
            client_certs: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }

    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// If an address in `listen` is not a loopback one and `access` lets everybody in; if `record_filter` asks for bodies or for
    /// what people note later.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some((test, why)) = self.record_filter.as_ref().and_then(Filter::unanswerable_at_end) {
            return Err(ConfigError::RecordFilter { test, why });
        }
        let AccessOptions { auth, allow, open } = &self.access;
        let is_guarded =
            |mode: &Mode| *open || !allow.is_empty() || auth.is_some() && mode.asks_for_credentials();
        let is_bare =
            |listen: &&Listen| !listen.addr.ip().to_canonical().is_loopback() && !is_guarded(&listen.mode);
        match self.listen.iter().find(is_bare) {
            Some(Listen { addr, mode }) => {
                Err(ConfigError::RemoteListen { addr: *addr, asks: mode.asks_for_credentials() })
            }
            None => Ok(()),
        }
    }
}

impl Config {
    /// These settings, with what may change while a proxy runs as in `new`.
    ///
    /// It is what each connection, flow or look at the store asks for anew: who may use the proxy, what is left unread, which
    /// flows and how much of their bodies are recorded, what the store may hold. Everything else is built into what runs.
    #[must_use]
    pub fn changed(&self, new: Self) -> Self {
        let Self { access, passthrough, record_filter, body_limit, keep, .. } = new;
        Self { access, passthrough, record_filter, body_limit, keep, ..self.clone() }
    }
}

/// The keys of what [`Config::changed`] changes.
pub(crate) const CHANGEABLE: &[&str] = &[
    "proxy-auth",
    "allow",
    "open",
    "ignore-host",
    "allow-host",
    "no-auto-passthrough",
    "record",
    "body-limit",
    "max-age",
    "max-size",
    "max-flows",
];

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            tls: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_mins(2),
            // Long polls and slow reports are legitimate; ten minutes is what browsers and large proxies settle on.
            relay_idle: Duration::from_mins(10),
            // A client that speaks first does so within a round trip; a mail client in a tunnel never does.
            silent_client: Duration::from_millis(300),
            // Below the minute after which middleboxes begin to forget.
            ping_every: Duration::from_secs(50),
            // An origin that is busy answers late, one that is gone never.
            ping_answer: Duration::from_mins(1),
            grace: Duration::from_secs(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            // Several times what servers accept (8–64 KiB), so that the proxy is not the first to say no.
            max_head_bytes: 256 * 1024,
            max_fields: 1000,
        }
    }
}

/// `127.0.0.1:8080`, where the clients of other intercepting proxies look first.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_accepted_without_the_explicit_wish() {
        let with = |addr: &str| {
            let listen = vec![DEFAULT_LISTEN.into(), addr.parse().expect("an address")];
            Config { listen, ..Config::new("s".into(), "c".into()) }
        };
        for addr in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:8080", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(with(addr).check(), Ok(()), "{addr}");
        }
        for addr in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "[::ffff:192.0.2.1]:1"] {
            let config = with(addr);
            let refused = ConfigError::RemoteListen { addr: config.listen[1].addr, asks: true };
            assert_eq!(config.check(), Err(refused), "{addr}");
            let auth = Some("user:pass".parse().expect("credentials"));
            let allow = vec!["10.0.0.0/8".parse().expect("a network")];
            for access in [
                AccessOptions { open: true, ..AccessOptions::default() },
                AccessOptions { allow, ..AccessOptions::default() },
                AccessOptions { auth, ..AccessOptions::default() },
            ] {
                assert_eq!(Config { access, ..config.clone() }.check(), Ok(()));
            }
            // Nobody asks the clients of a reverse proxy who they are.
            let mut config = with(&format!("reverse:http://a.test@{addr}"));
            config.access.auth = Some("user:pass".parse().expect("credentials"));
            let refused = ConfigError::RemoteListen { addr: config.listen[1].addr, asks: false };
            assert_eq!(config.check(), Err(refused), "{addr}");
        }
    }
}
