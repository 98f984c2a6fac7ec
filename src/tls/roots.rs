//! Whom we trust when an origin shows its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::Ca;
use super::pem::{self, PemFileError};

/// The system's roots, which include a company's own, with those that were added, without our own CA.
#[derive(Debug, Clone)]
pub struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// Certificates that were added, which may also be an origin's own.
    pub(super) added: Arc<[CertificateDer<'static>]>,
    warnings: Vec<String>,
}

impl Roots {
    /// None: for where nothing is verified, or nothing is to be trusted.
    #[must_use]
    pub fn none() -> Self {
        Self { store: Arc::new(RootCertStore::empty()), added: Arc::default(), warnings: Vec::new() }
    }

    /// The system's roots and those of `extra_pem`: see [`SystemRoots`] and [`AddedRoots`].
    ///
    /// # Errors
    /// As [`AddedRoots::load`].
    pub fn load(extra_pem: &[PathBuf], own_ca: Option<&Ca>) -> Result<Self, RootsError> {
        let system = SystemRoots::read();
        Ok(AddedRoots::load(extra_pem)?.beside(system, own_ca))
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

/// The system's roots (as OpenSSL finds them; `SSL_CERT_FILE` and `SSL_CERT_DIR` take their place), which a thread reads:
/// that takes some milliseconds, in which a start has other things to wait for.
///
/// That the system has no roots is not an error: there are uses that need none. See [`Roots::warnings`].
#[derive(Debug)]
pub struct SystemRoots(Option<JoinHandle<CertificateResult>>);

impl SystemRoots {
    /// Begins to read them.
    #[must_use]
    pub fn read() -> Self {
        Self(thread::Builder::new().name("roots".into()).spawn(load_native_certs).ok())
    }

    fn wait(self) -> CertificateResult {
        match self.0.map(JoinHandle::join) {
            Some(Ok(read)) => read,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            // There was no thread to be had.
            None => load_native_certs(),
        }
    }
}

/// Roots that somebody asked for, and the certificates of their files.
///
/// An origin that presents one of these as its own is trusted, too, whatever the certificate says it is for:
/// `openssl req -x509` makes self-signed ones with the CA flag, which webpki alone would refuse.
#[derive(Debug)]
pub struct AddedRoots {
    store: RootCertStore,
    certs: Vec<CertificateDer<'static>>,
}

impl AddedRoots {
    /// Reads them.
    ///
    /// # Errors
    /// When a file cannot be read, holds no certificate, or holds one that cannot be trusted.
    pub fn load(files: &[PathBuf]) -> Result<Self, RootsError> {
        let mut added = Self { store: RootCertStore::empty(), certs: Vec::new() };
        for path in files {
            added.certs.extend(add_file(&mut added.store, path)?);
        }
        Ok(added)
    }

    /// With the system's.
    ///
    /// `own_ca` is left out of those: where it is trusted by the system, one proxy that runs into another, or into itself,
    /// would find that all is well. Among what was added it stays, because there somebody asked for it.
    #[must_use]
    pub fn beside(self, system: SystemRoots, own_ca: Option<&Ca>) -> Roots {
        let system = system.wait();
        let warnings =
            system.errors.iter().map(|error| format!("a root of the system was left out: {error}"));
        let mut roots = Roots::of_system(system.certs, own_ca, warnings.collect());
        let mut store = Arc::unwrap_or_clone(roots.store);
        store.extend(self.store.roots);
        if store.is_empty() {
            let warning = "there are no trusted roots: every origin's certificate will be refused";
            roots.warnings.push(warning.into());
        }
        (roots.store, roots.added) = (Arc::new(store), self.certs.into());
        roots
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
