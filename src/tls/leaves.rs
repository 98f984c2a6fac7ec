//! The certificates we present, and the server side of the handshake that goes with each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::host_cert::HostCert;
use super::sessions::Sessions;
use super::{Ca, LeafError, crypto, leaf, server_name};

/// The application protocols that we agree to with a client (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// No extension is sent; whatever the client offers, nothing is agreed and nothing fails.
    None,
    /// `http/1.1`. A client that offers protocols and not this one fails.
    Http11,
    /// `h2`, else `http/1.1`.
    Http2AndHttp11,
    /// `h2`.
    Http2,
}

/// Certificates by name, signed when first asked for.
///
/// All have one P-256 key, made by [`Leaves::new`] and never written anywhere: not the CA's, whose private half would
/// then take part in each handshake. The cache is bounded, and an entry is signed anew after half of its time.
pub struct Leaves {
    ca: Arc<Ca>,
    key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    sessions: Arc<Sessions>,
    given: Vec<HostCert>,
    cache: Mutex<Cache>,
}

impl Leaves {
    /// Leaves signed by `ca`.
    ///
    /// # Errors
    /// When the system has no random numbers for a key.
    pub fn new(ca: Arc<Ca>) -> Result<Self, LeafError> {
        let key = KeyPair::generate().map_err(|error| LeafError::Sign(error.to_string()))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing_key = rustls::crypto::ring::sign::any_ecdsa_type(&der)
            .map_err(|error| LeafError::Sign(error.to_string()))?;
        Ok(Self {
            ca,
            key,
            signing_key,
            sessions: Arc::default(),
            given: Vec::new(),
            cache: Mutex::default(),
        })
    }

    /// Shows certificates that were given for the names that they are for. What is in them is not looked at.
    #[must_use]
    pub fn with_certs(mut self, certs: Vec<HostCert>) -> Self {
        self.given = certs;
        self
    }

    /// The configuration with which to finish a handshake as `name`, a host name or IP literal in any spelling.
    ///
    /// Signs a certificate if there is none, and none was given; of callers that ask for one name at once, one signs and the others wait
    /// for it (a fraction of a millisecond with a P-256 CA, several with one of RSA-4096). Sessions of a name are
    /// resumed across its configurations, never across names.
    ///
    /// # Errors
    /// When no certificate can carry the name, the CA may not sign for it, or its time is over.
    pub fn server_config(&self, name: &str, alpn: Alpn) -> Result<Arc<ServerConfig>, LeafError> {
        let leaf = self.leaf(name, crypto::now_unix())?;
        if let Some(config) = leaf.configs[alpn as usize].get() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(leaf.config(alpn)?);
        Ok(Arc::clone(leaf.configs[alpn as usize].get_or_init(|| config)))
    }

    /// The certificates that a client is shown for `name`: DER, leaf first, then the CA's; or those that were given.
    ///
    /// # Errors
    /// As [`Leaves::server_config`].
    pub fn chain(&self, name: &str) -> Result<Vec<Bytes>, LeafError> {
        let leaf = self.leaf(name, crypto::now_unix())?;
        Ok(leaf.certified.cert.iter().map(|cert| Bytes::copy_from_slice(cert)).collect())
    }

    /// Whether clients that trust the CA could accept what they would be shown for `host`: its name constraints permit it,
    /// or a certificate was given for it. Why a text that is no name has none is told where one is asked for.
    #[must_use]
    pub fn can_be_accepted(&self, host: &str) -> bool {
        !self.ca.is_constrained() || self.ca.permits(host) || HostCert::choose(&self.given, host).is_some()
    }

    /// The CA that signs them.
    #[must_use]
    pub fn ca(&self) -> &Arc<Ca> {
        &self.ca
    }

    pub(super) fn leaf(&self, name: &str, now: i64) -> Result<Arc<Leaf>, LeafError> {
        let name = server_name(name)?;
        let (slot, number) = self.cache().slot(&name, now);
        // Outside of the lock of the cache: other names go on meanwhile.
        let mut failure = None;
        let made = slot.get_or_init(|| match self.make(&name, number, now) {
            Ok(leaf) => Some(Arc::new(leaf)),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        match (made, failure) {
            (Some(leaf), _) => Ok(Arc::clone(leaf)),
            (None, failure) => {
                self.cache().forget(&name, &slot);
                Err(failure
                    .unwrap_or_else(|| LeafError::Sign("it failed for another connection just now".into())))
            }
        }
    }

    fn make(&self, name: &ServerName<'_>, number: u64, now: i64) -> Result<Leaf, LeafError> {
        if let Some(place) = HostCert::choose(&self.given, &name.to_str()) {
            let certified = Arc::clone(&self.given[place].certified);
            return Ok(self.leaf_of(certified, number, i64::MIN, i64::MAX));
        }
        if !self.ca.permits_name(name) {
            return Err(LeafError::Outside {
                host: name.to_str().into_owned(),
                permitted: self.ca.constraints_text(),
            });
        }
        let signed = leaf::sign(&self.ca, &self.key, name, now)?;
        let chain = std::iter::once(signed.der).chain(self.ca.presented.iter().cloned()).collect();
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing_key)));
        // Half of what is left, so that clients with a clock ahead of ours are served, too.
        let good_until = now + (signed.not_after - now) / 2;
        Ok(self.leaf_of(certified, number, signed.not_before, good_until))
    }

    fn leaf_of(&self, certified: Arc<CertifiedKey>, number: u64, good_from: i64, good_until: i64) -> Leaf {
        Leaf {
            resolver: Arc::new(SingleCertAndKey::from(Arc::clone(&certified))),
            certified,
            sessions: self.sessions.of_leaf(number),
            good_from,
            good_until,
            configs: [const { OnceLock::new() }; 4],
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaves")
            .field("ca", &self.ca)
            .field("names", &self.cache().slots.len())
            .finish_non_exhaustive()
    }
}

/// A certificate and what was built on it.
pub(super) struct Leaf {
    certified: Arc<CertifiedKey>,
    resolver: Arc<dyn ResolvesServerCert>,
    sessions: Arc<dyn rustls::server::StoresServerSessions>,
    good_from: i64,
    good_until: i64,
    /// By [`Alpn`]. They share `resolver`, as rustls asks of configurations that share sessions.
    configs: [OnceLock<Arc<ServerConfig>>; 4],
}

impl Leaf {
    fn config(&self, alpn: Alpn) -> Result<ServerConfig, LeafError> {
        let mut config = ServerConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| LeafError::Sign(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.resolver));
        config.alpn_protocols = match alpn {
            Alpn::None => vec![],
            Alpn::Http11 => vec![b"http/1.1".to_vec()],
            Alpn::Http2AndHttp11 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Alpn::Http2 => vec![b"h2".to_vec()],
        };
        config.session_storage = Arc::clone(&self.sessions);
        // Early data can be replayed by anyone who saw it (RFC 8446 §8).
        config.max_early_data_size = 0;
        if let Some(key_log) = crypto::key_log() {
            config.key_log = key_log;
        }
        Ok(config)
    }

    #[cfg(test)]
    pub(super) fn der(&self) -> &[u8] {
        &self.certified.cert[0]
    }
}

/// Filled by the first who asks; `None` if that failed.
type Slot = Arc<OnceLock<Option<Arc<Leaf>>>>;

/// The least recently used names go first.
#[derive(Default)]
struct Cache {
    slots: HashMap<ServerName<'static>, (Slot, u64)>,
    /// Counts look-ups: the time by which "recently" is told, and the number of each slot.
    clock: u64,
}

impl Cache {
    /// The slot of `name`, a fresh one if there is none or its leaf is past its time; with a number for a fresh leaf.
    fn slot(&mut self, name: &ServerName<'static>, now: i64) -> (Slot, u64) {
        self.clock += 1;
        if let Some((slot, used)) = self.slots.get_mut(name) {
            *used = self.clock;
            if let Some(Some(leaf)) = slot.get()
                && !(leaf.good_from..leaf.good_until).contains(&now)
            {
                *slot = Slot::default();
            }
            return (Arc::clone(slot), self.clock);
        }
        if self.slots.len() >= NAMES {
            let oldest = self.slots.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
            // The scan costs microseconds, a tenth of the signature that it makes room for.
            if let Some(oldest) = oldest {
                self.slots.remove(&oldest);
            }
        }
        let slot = Slot::default();
        self.slots.insert(name.clone(), (Arc::clone(&slot), self.clock));
        (slot, self.clock)
    }

    fn forget(&mut self, name: &ServerName<'static>, failed: &Slot) {
        if self.slots.get(name).is_some_and(|(slot, _)| Arc::ptr_eq(slot, failed)) {
            self.slots.remove(name);
        }
    }
}

/// A heavy hour of browsing meets some hundred names; an entry has 5 to 10 KiB.
pub(super) const NAMES: usize = 1024;
