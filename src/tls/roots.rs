//! Whom we trust when an origin shows its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::Ca;
use super::pem::{self, PemFileError};

/// The system's roots, which include a company's own, with those that were added, without our own CA.
#[derive(Debug, Clone)]
pub struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// The certificates of `extra_pem`, which may also be an origin's own.
    pub(super) added: Arc<[CertificateDer<'static>]>,
    warnings: Vec<String>,
}

impl Roots {
    /// None: for where nothing is verified, or nothing is to be trusted.
    #[must_use]
    pub fn none() -> Self {
        Self { store: Arc::new(RootCertStore::empty()), added: Arc::default(), warnings: Vec::new() }
    }

    /// Reads the system's roots (as OpenSSL finds them; `SSL_CERT_FILE` and `SSL_CERT_DIR` take their place) and
    /// those of `extra_pem`. Takes some milliseconds of file reading: once, at start-up.
    ///
    /// `own_ca` is left out of the system's: where it is trusted by the system, one proxy that runs into another, or
    /// into itself, would find that all is well. In `extra_pem` it stays, because there somebody asked for it.
    ///
    /// An origin that presents a certificate of `extra_pem` as its own is trusted, too, whatever the certificate says
    /// it is for: `openssl req -x509` makes self-signed ones with the CA flag, which webpki alone would refuse.
    ///
    /// That the system has no roots is not an error: there are uses that need none. See [`Roots::warnings`].
    ///
    /// # Errors
    /// When a file of `extra_pem` cannot be read, holds no certificate, or holds one that cannot be trusted.
    pub fn load(extra_pem: &[PathBuf], own_ca: Option<&Ca>) -> Result<Self, RootsError> {
        let system = rustls_native_certs::load_native_certs();
        let warnings =
            system.errors.iter().map(|error| format!("a root of the system was left out: {error}"));
        let mut roots = Self::of_system(system.certs, own_ca, warnings.collect());
        let mut store = Arc::unwrap_or_clone(roots.store);
        let mut added = Vec::new();
        for path in extra_pem {
            added.extend(add_file(&mut store, path)?);
        }
        if store.is_empty() {
            roots
                .warnings
                .push("there are no trusted roots: every origin's certificate will be refused".into());
        }
        roots.store = Arc::new(store);
        roots.added = added.into();
        Ok(roots)
    }

    pub(super) fn of_system(
        certs: Vec<CertificateDer<'static>>,
        own_ca: Option<&Ca>,
        mut warnings: Vec<String>,
    ) -> Self {
        // An older certificate of the same CA goes, too.
        let is_own = |cert: &CertificateDer<'_>| own_ca.is_some_and(|ca| ca.has_key_of(cert));
        let mut store = RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(certs.into_iter().filter(|cert| !is_own(cert)));
        if unusable > 0 {
            warnings.push(format!("{unusable} roots of the system have a form that cannot be used"));
        }
        Self { store: Arc::new(store), added: Arc::default(), warnings }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// What was left out, in words, for the log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Why a file of roots was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// It holds no certificate, or cannot be read.
    #[error(transparent)]
    File(#[from] PemFileError),
    /// A certificate in it has a form that cannot be used as a root.
    #[error("certificate {number} in {path} cannot be used as a root: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// Adds the certificates of a file, and gives them.
fn add_file(store: &mut RootCertStore, path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let blocks = pem::read_file(path)?;
    let certs: Vec<CertificateDer<'static>> = blocks.certs.into_iter().map(CertificateDer::from).collect();
    for (at, cert) in certs.iter().enumerate() {
        store.add(cert.clone()).map_err(|error| RootsError::Unusable {
            path: path.into(),
            number: at + 1,
            reason: super::explain(&error),
        })?;
    }
    Ok(certs)
}
