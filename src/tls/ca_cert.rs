//! The certificate of an authority without its key: what others are given to trust, and what is asked of their stores.
//!
//! Whoever has only this cannot hand out a key by mistake; a file with a key in it is refused.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::ca::{Ca, CaError, read_pem};
use super::{Constraints, ca_files, crypto, mobileconfig, p12, pem};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCert {
    der: CertificateDer<'static>,
    name: String,
    subject: String,
    not_before: i64,
    not_after: i64,
    constraints: Constraints,
}

impl CaCert {
    /// Reads the first certificate of a PEM file. It may have expired, and nothing is asked of it but that it can be read.
    ///
    /// # Errors
    /// When the file cannot be read, holds no certificate, or holds a key.
    pub fn read(path: &Path) -> Result<Self, CaError> {
        let (_, text) = ca_files::read(path)?;
        let blocks = read_pem(&text, path)?;
        if !blocks.keys.is_empty() || blocks.encrypted_key {
            return Err(CaError::KeyBeside { path: path.into() });
        }
        let first = blocks.certs.into_iter().next();
        let der = first.ok_or_else(|| CaError::NoCertificate { path: path.into() })?;
        Self::of(der.into()).map_err(|reason| CaError::NotCa { path: path.into(), reason })
    }

    pub(super) fn of(der: CertificateDer<'static>) -> Result<Self, String> {
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| "it cannot be read".to_owned())?;
        let subject = super::explain::readable(&cert.subject().to_string());
        let common_name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = common_name.map_or_else(|| subject.clone(), super::explain::readable);
        let (not_before, not_after) =
            (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
        let constraints = Constraints::of(&cert)?;
        Ok(Self { name, subject, not_before, not_after, constraints, der })
    }

    /// DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// One block of PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::certificate(&self.der)
    }

    /// A PKCS#12 file (RFC 7292) that holds it as a trusted certificate, with a sum by `password`.
    #[must_use]
    pub fn p12(&self, password: &str) -> Vec<u8> {
        p12::trust_store(&self.der, &self.name, password)
    }

    /// A configuration profile by which iOS, iPadOS and macOS take it.
    #[must_use]
    pub fn mobileconfig(&self) -> String {
        mobileconfig::profile(self)
    }

    /// SHA-256 of it, by which people compare certificates.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.der)
    }

    /// Its common name, else its subject; control characters escaped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its subject as text, control characters escaped.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it begins, seconds since 1970.
    #[must_use]
    pub fn not_before_unix(&self) -> i64 {
        self.not_before
    }

    /// When it ends, seconds since 1970.
    #[must_use]
    pub fn not_after_unix(&self) -> i64 {
        self.not_after
    }

    /// For which names it may sign.
    #[must_use]
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }
}

impl Ca {
    /// Its certificate.
    ///
    /// # Errors
    /// Never for an authority that was loaded: it could be read then.
    pub fn certificate(&self) -> Result<CaCert, CaError> {
        let path = self.cert_path().unwrap_or(Path::new("the CA")).to_owned();
        CaCert::of(self.cert.clone()).map_err(|reason| CaError::NotCa { path, reason })
    }
}
