//! The certificate authority: what signs leaves, checked before the first one is asked for.
//!
//! An authority that is loaded is tried out at once with a leaf, so that a key that does not belong, a name that
//! cannot be written back, or an end of validity is one message at start-up and not a failure at each client.
//! Where its files come from is `ca_files`.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::crypto::{self, DAY};
use super::{Constraints, leaf, pem};

/// A certificate authority that can sign: made at the first start ([`Ca::load_or_create`]), or given.
///
/// `Debug` shows its certificate's facts, never its key.
pub struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) cert: CertificateDer<'static>,
    /// What is presented after a leaf: itself, then what leads on to a root. Clients that trust it hold it, and need it
    /// only when it is not a root; but Chromium's `--ignore-certificate-errors-spki-list` looks for its key in what
    /// was presented, and is the one way to trust it there without a change to any store.
    pub(super) presented: Vec<CertificateDer<'static>>,
    /// Whether it has a subject key identifier, which leaves then point to.
    pub(super) has_key_id: bool,
    /// Whether its key usage lets it sign lists of what is revoked (RFC 5280 §4.2.1.3).
    pub(super) signs_crls: bool,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// Of itself, and of what leads on from it to a root. A leaf has to fit all of them.
    constraints: Vec<Constraints>,
    /// Its SubjectPublicKeyInfo (RFC 5280 §4.1), DER.
    spki: Vec<u8>,
    subject: String,
    path: Option<PathBuf>,
}

impl Ca {
    /// Reads a certificate and its key from PEM, in any order and any of the forms PKCS#8, PKCS#1, SEC 1. Of several
    /// certificates, the one that belongs to the key is the authority; the others may be needed to reach its root.
    ///
    /// # Errors
    /// When something is missing, or the checks of an authority fail; see [`CaError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CaError> {
        let name = Path::new("the given PEM");
        Self::from_blocks(read_pem(pem, name)?, name, name)
    }

    /// As [`Ca::from_pem`], from what two files, or one, held.
    pub(super) fn from_blocks(
        blocks: pem::Blocks,
        cert_path: &Path,
        key_path: &Path,
    ) -> Result<Self, CaError> {
        if blocks.certs.is_empty() {
            return Err(CaError::NoCertificate { path: cert_path.into() });
        }
        let key = load_key(&blocks, key_path)?;
        let spki = key.subject_public_key_info();
        let is_ours = |der: &&Vec<u8>| {
            X509Certificate::from_der(der).is_ok_and(|(_, cert)| cert.public_key().raw == spki)
        };
        let Some(der) = blocks.certs.iter().find(is_ours).cloned() else {
            return Err(CaError::Mismatch { cert: cert_path.into(), key: key_path.into() });
        };
        let others =
            blocks.certs.into_iter().filter(|other| *other != der).map(CertificateDer::from).collect();
        Self::check(CertificateDer::from(der), key, others, cert_path)
    }

    /// Every check that does not need the files.
    fn check(
        der: CertificateDer<'static>,
        key: KeyPair,
        others: Vec<CertificateDer<'static>>,
        path: &Path,
    ) -> Result<Self, CaError> {
        let not_ca = |reason: &str| CaError::NotCa { path: path.into(), reason: reason.into() };
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| not_ca("it cannot be read"))?;
        match cert.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => {}
            _ => return Err(not_ca("it has no CA flag (BasicConstraints)")),
        }
        if let Ok(Some(usage)) = cert.key_usage()
            && !usage.value.key_cert_sign()
        {
            return Err(not_ca("its key usage does not allow signing certificates"));
        }
        let (not_before, not_after) =
            (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
        let now = crypto::now_unix();
        if now >= not_after {
            return Err(CaError::Expired { path: path.into(), date: crypto::date(not_after) });
        }
        if now < not_before {
            return Err(CaError::NotYetValid { path: path.into(), date: crypto::date(not_before) });
        }
        let has_key_id = key_id(&cert).is_some();
        let signs_crls = cert.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()));
        let self_issued = cert.subject().as_raw() == cert.issuer().as_raw();
        let subject = super::explain::readable(&cert.subject().to_string());
        let spki = cert.public_key().raw.to_vec();
        let probe = |reason: String| CaError::Probe { path: path.into(), reason };
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| probe(error.to_string()))?;
        // Roots among the others are no use in a handshake: clients trust the copy that they hold, or none.
        let not_root = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der)
                .is_ok_and(|(_, cert)| cert.subject().as_raw() != cert.issuer().as_raw())
        };
        let others = others.into_iter().filter(|other| !self_issued && not_root(other));
        let presented: Vec<_> = std::iter::once(der.clone()).chain(others).collect();
        let mut constraints = Vec::new();
        for der in &presented {
            let (_, cert) = X509Certificate::from_der(der).map_err(|_| not_ca("it cannot be read"))?;
            constraints.push(Constraints::of(&cert).map_err(|reason| not_ca(&reason))?);
        }
        constraints.retain(|constraints| !constraints.is_empty());
        let ca = Self {
            issuer,
            cert: der,
            presented,
            has_key_id,
            signs_crls,
            not_before,
            not_after,
            constraints,
            spki,
            subject,
            path: None,
        };
        ca.try_out(now).map_err(probe)?;
        Ok(ca)
    }

    /// Signs a leaf and looks at it as a client would: issuer's name byte for byte, key id, signature.
    fn try_out(&self, now: i64) -> Result<(), String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let name = super::server_name("probe.invalid").map_err(|error| error.to_string())?;
        let probe = leaf::sign(self, &key, &name, now).map_err(|error| error.to_string())?;
        let unreadable = |_| "it cannot be read".to_owned();
        let (_, leaf) = X509Certificate::from_der(&probe.der).map_err(unreadable)?;
        let (_, cert) = X509Certificate::from_der(&self.cert).map_err(unreadable)?;
        if leaf.issuer().as_raw() != cert.subject().as_raw() {
            return Err("its subject has a form that cannot be repeated byte for byte as an issuer \
                        (several values of one kind), so no client would find the way from leaf to CA"
                .into());
        }
        let points_to = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        if points_to != key_id(&cert) {
            return Err("the leaf's authority key id is not its subject key id".into());
        }
        leaf.verify_signature(Some(cert.public_key()))
            .map_err(|_| "the leaf's signature does not verify with its public key".to_owned())
    }

    /// Its subject key id.
    pub(super) fn key_id(&self) -> Option<Vec<u8>> {
        let (_, cert) = X509Certificate::from_der(&self.cert).ok()?;
        key_id(&cert).map(<[u8]>::to_vec)
    }

    pub(super) fn at(mut self, path: PathBuf) -> Self {
        self.path = Some(path);
        self
    }

    /// Whether there are names for which no client would accept a leaf of it.
    #[must_use]
    pub fn is_constrained(&self) -> bool {
        !self.constraints.is_empty()
    }

    /// Whether a leaf for `host`, a host name or IP literal, is within its name constraints (RFC 5280 §4.2.1.10).
    #[must_use]
    pub fn permits(&self, host: &str) -> bool {
        self.constraints.iter().all(|constraints| constraints.permit(host))
    }

    pub(super) fn permits_name(&self, name: &rustls::pki_types::ServerName<'_>) -> bool {
        self.constraints.iter().all(|constraints| constraints.permit_name(name))
    }

    /// Its name constraints in words: `example.com, 10.0.0.0/8`; `any host` without.
    #[must_use]
    pub fn constraints_text(&self) -> String {
        match &self.constraints[..] {
            [] => Constraints::default().to_string(),
            several => several.iter().map(Constraints::to_string).collect::<Vec<_>>().join(" and of these "),
        }
    }

    /// Its certificate as PEM: one block, no key.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        pem::certificate(&self.cert)
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn cert_der(&self) -> &[u8] {
        &self.cert
    }

    /// SHA-256 over its SubjectPublicKeyInfo in base64, as Chromium's `--ignore-certificate-errors-spki-list` wants it.
    #[must_use]
    pub fn spki_sha256_base64(&self) -> String {
        pem::base64(&self.spki_sha256())
    }

    /// SHA-256 over its SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.spki)
    }

    /// Whether a certificate is one of ours, of whatever age: by its key, which stands in it as it does in ours.
    pub(super) fn has_key_of(&self, cert: &[u8]) -> bool {
        memchr::memmem::find(cert, &self.spki).is_some()
    }

    /// SHA-256 over the certificate: its fingerprint, as browsers and systems show it.
    #[must_use]
    pub fn cert_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.cert)
    }

    /// The file that its certificate was read from; that of a given CA may hold its key, too. `None` without a file.
    #[must_use]
    pub fn cert_path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its subject as text, control characters escaped.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it ends, seconds since 1970.
    #[must_use]
    pub fn not_after_unix(&self) -> i64 {
        self.not_after
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("subject", &self.subject)
            .field("not_after", &crypto::date(self.not_after))
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Why there is no usable CA: which file, what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// Such as `read`.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// There is none in the directory, and none was to be made.
    #[error("there is no CA in {dir}; a capture makes one at its first start")]
    Missing {
        /// The CA directory.
        dir: PathBuf,
    },
    /// The certificate is there, its key is not.
    #[error(
        "{cert} has no key: {key} is missing; put it back, or remove the certificate so that a new CA is made"
    )]
    KeyMissing {
        /// The certificate.
        cert: PathBuf,
        /// The key that should be there.
        key: PathBuf,
    },
    /// There is one in the directory, and it was not to be replaced.
    #[error("there is a CA in {dir} already")]
    Exists {
        /// The CA directory.
        dir: PathBuf,
    },
    /// A file that is handed round, with a key in it.
    #[error("{path} holds a private key, and is to be handed round: a certificate alone is expected there")]
    KeyBeside {
        /// The file of the certificate.
        path: PathBuf,
    },
    /// Others on this machine can read the key.
    #[error("{path} can be read by others (mode {mode:04o}); if nobody did, run: chmod 600 '{path}'")]
    KeyExposed {
        /// The file with the key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not PEM.
    #[error("{path} is not valid PEM: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// No certificate block.
    #[error("{path} holds no certificate (a block CERTIFICATE)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key block.
    #[error(
        "{path} holds no private key; name the file that does as well: --ca-key KEY, or ca import CERT KEY"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is under a passphrase.
    #[error(
        "the private key in {path} is encrypted; write it out without: openssl pkey -in '{path}' -out ca.key"
    )]
    KeyEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind or form that cannot be used.
    #[error(
        "the private key in {path} cannot be used: it has to be P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits \
         (openssl pkey -in '{path}' -out ca.key may put it into a form that can)"
    )]
    KeyUnusable {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error(
        "the private key in {key} does not belong to the certificate in {cert}; give the two that were made together"
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate may not sign others.
    #[error("the certificate in {path} is not a CA's: {reason}")]
    NotCa {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// Its time is over.
    #[error("the CA in {path} expired on {date}; clients will refuse everything")]
    Expired {
        /// The file.
        path: PathBuf,
        /// The date, UTC.
        date: String,
    },
    /// Its time has not come.
    #[error("the CA in {path} is valid from {date} only; is the clock of this machine right?")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The date, UTC.
        date: String,
    },
    /// A leaf signed with it would not be accepted.
    #[error("the CA in {path} cannot sign certificates that clients accept: {reason}; use another one")]
    Probe {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Making a key or certificate failed.
    #[error("cannot make a CA: {reason}")]
    Make {
        /// Why.
        reason: String,
    },
}

/// The certificate of a new authority for `key`, DER: valid for two years from two days ago, for leaves of these names only.
pub(super) fn self_signed(key: &KeyPair, only: &Constraints, now: i64) -> Result<Vec<u8>, CaError> {
    let make = |reason: String| CaError::Make { reason };
    let mut params = CertificateParams::default();
    let key_id = params.key_identifier(key);
    let short: String = key_id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // With a piece of the key id, so that trust stores that hold the CAs of two machines tell them apart; of two
    // with one name, clients may try the wrong one.
    params.distinguished_name.push(DnType::CommonName, format!("manent CA {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = only.to_extension();
    params.serial_number =
        Some(crypto::random_serial().map_err(|_| make("the system has no random numbers".into()))?);
    crypto::set_validity(&mut params, now - 2 * DAY, now + 728 * DAY);
    let cert = params.self_signed(key).map_err(|error| make(error.to_string()))?;
    Ok(cert.der().to_vec())
}

/// The blocks of `text`, which came from `path`.
pub(super) fn read_pem(text: &[u8], path: &Path) -> Result<pem::Blocks, CaError> {
    pem::read(text).map_err(|reason| CaError::Pem { path: path.into(), reason })
}

/// The first key that can be used.
fn load_key(blocks: &pem::Blocks, path: &Path) -> Result<KeyPair, CaError> {
    if blocks.keys.is_empty() {
        let path = path.into();
        return Err(if blocks.encrypted_key {
            CaError::KeyEncrypted { path }
        } else {
            CaError::NoKey { path }
        });
    }
    let mut forms = blocks.keys.iter().flatten();
    forms
        .find_map(|form| KeyPair::try_from(form).ok())
        .ok_or_else(|| CaError::KeyUnusable { path: path.into() })
}

fn key_id<'a>(cert: &X509Certificate<'a>) -> Option<&'a [u8]> {
    cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}
