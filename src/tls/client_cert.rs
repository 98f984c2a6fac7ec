//! Certificates of ours for origins that ask for one: read from PEM, checked, and chosen by the origin's name.
//!
//! They are the proxy's own, one for a host, whoever the proxy's client is. So a connection on which one was presented
//! may serve every client, as any other does.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pem;
use crate::flow::ClientAuth;

/// A certificate with its key, and the origins that it is for.
///
/// `Debug` shows whom it is for and its file, never the key.
#[derive(Clone)]
pub struct ClientCert {
    hosts: Hosts,
    pub(super) certified: Arc<CertifiedKey>,
    path: PathBuf,
}

/// Which origins a certificate is for, in the order in which they go before others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(String),
    /// All below this domain: it begins with a dot.
    Below(String),
    All,
}

impl ClientCert {
    /// Reads a PEM file with a certificate, what leads on from it to a root, and the certificate's key, in any order. Of
    /// several certificates, the one that belongs to the key is ours, and goes first.
    ///
    /// `host` says for which origins: a name, `*.example.com` for all below `example.com`, an IP literal; `None` is all.
    ///
    /// # Errors
    /// When the file cannot be read, something is missing in it, or key and certificate do not belong together.
    pub fn load(host: Option<&str>, path: &Path) -> Result<Self, ClientCertError> {
        let text =
            std::fs::read(path).map_err(|source| ClientCertError::Read { path: path.into(), source })?;
        Self::from_pem(host, &text, path)
    }

    fn from_pem(host: Option<&str>, text: &[u8], path: &Path) -> Result<Self, ClientCertError> {
        let path = || path.to_owned();
        let blocks = pem::read(text).map_err(|reason| ClientCertError::Pem { path: path(), reason })?;
        if blocks.certs.is_empty() {
            return Err(ClientCertError::NoCertificate { path: path() });
        }
        if blocks.keys.is_empty() {
            let encrypted = blocks.encrypted_key;
            return Err(match encrypted {
                true => ClientCertError::KeyEncrypted { path: path() },
                false => ClientCertError::NoKey { path: path() },
            });
        }
        let keys: Vec<Arc<dyn SigningKey>> = blocks
            .keys
            .iter()
            .filter_map(|forms| {
                forms.iter().find_map(|form| any_supported_type(&PrivateKeyDer::Pkcs8(form.clone_key())).ok())
            })
            .collect();
        if keys.is_empty() {
            return Err(ClientCertError::KeyUnusable { path: path() });
        }
        let certs: Vec<CertificateDer<'static>> =
            blocks.certs.into_iter().map(CertificateDer::from).collect();
        let pair = keys.iter().find_map(|key| {
            let public = key.public_key()?;
            let place = certs.iter().position(|cert| {
                X509Certificate::from_der(cert)
                    .is_ok_and(|(_, cert)| cert.public_key().raw == public.as_ref())
            })?;
            Some((key, place))
        });
        let Some((key, place)) = pair else {
            return Err(ClientCertError::Mismatch { path: path() });
        };
        let mut chain = certs;
        let own = chain.remove(place);
        chain.insert(0, own);
        Ok(Self {
            hosts: Hosts::of(host),
            certified: Arc::new(CertifiedKey::new(chain, Arc::clone(key))),
            path: path(),
        })
    }

    /// The one of `all` for the origin called `name`: one for this name, else one for the nearest domain above it, else
    /// one for all.
    pub(super) fn choose(all: &[Self], name: &str) -> Option<usize> {
        let name = bare(name);
        let fits = |(at, cert): (usize, &Self)| cert.hosts.rank(&name).map(|rank| (rank, at));
        // Of two for the same, the first that was given.
        let best = all.iter().enumerate().filter_map(fits).max_by_key(|&(rank, at)| (rank, usize::MAX - at));
        best.map(|(_, at)| at)
    }
}

impl Hosts {
    fn of(host: Option<&str>) -> Self {
        match host.map(bare) {
            None => Self::All,
            Some(host) => match host.strip_prefix('*') {
                Some(domain) if domain.starts_with('.') => Self::Below(domain.to_owned()),
                _ => Self::One(host),
            },
        }
    }

    /// How well it fits, if it does.
    fn rank(&self, name: &str) -> Option<usize> {
        match self {
            Self::One(own) => (own == name).then_some(usize::MAX),
            Self::Below(domain) => {
                (name.len() > domain.len() && name.ends_with(domain)).then_some(domain.len())
            }
            Self::All => Some(0),
        }
    }
}

impl std::fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCert")
            .field("hosts", &self.hosts)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Why a file holds no client certificate that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCertError {
    /// It could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
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
    #[error("{path} holds no certificate (a block CERTIFICATE in PEM)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key block.
    #[error("{path} holds no private key; certificate and key have to be in one file")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is under a passphrase.
    #[error("the private key in {path} is encrypted; write it out without: openssl pkey -in '{path}'")]
    KeyEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind or form that cannot be used.
    #[error(
        "the private key in {path} cannot be used: it has to be P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits"
    )]
    KeyUnusable {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error("the private key in {path} does not belong to a certificate in it")]
    Mismatch {
        /// The file.
        path: PathBuf,
    },
}

tokio::task_local! {
    /// What became of the origin's wish for a certificate in the handshake that this task polls.
    pub(super) static CLIENT_AUTH: Cell<ClientAuth>;
}

/// Gives an origin that asks our certificate for it, and keeps that it asked.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The authorities are only hints (RFC 8446 §4.2.4): the user has said whom the certificate is for.
        let fits = self.0.as_ref().filter(|certified| certified.key.choose_scheme(schemes).is_some());
        let outcome = if fits.is_some() { ClientAuth::Presented } else { ClientAuth::Withheld };
        // Outside of `connect` there is nobody to keep it for.
        let _ = CLIENT_AUTH.try_with(|kept| kept.set(outcome));
        fits.map(Arc::clone)
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A host as it is compared: in small letters, without brackets or a dot at its end.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn cert(key: &KeyPair) -> String {
        CertificateParams::new(vec!["client.test".into()]).unwrap().self_signed(key).unwrap().pem()
    }

    fn load(text: &str) -> Result<ClientCert, ClientCertError> {
        ClientCert::from_pem(None, text.as_bytes(), Path::new("c.pem"))
    }

    #[test]
    fn certificate_and_key_are_found_in_any_order() {
        let (issuer_key, own_key) = (key(), key());
        let issuer = cert(&issuer_key);
        let params = CertificateParams::new(vec!["client.test".into()]).unwrap();
        let signer = Issuer::new(CertificateParams::new(Vec::new()).unwrap(), issuer_key);
        let own = params.signed_by(&own_key, &signer).unwrap();
        let pem = own_key.serialize_pem();
        for text in [
            format!("{pem}{}{issuer}", own.pem()),
            format!("{issuer}{}{pem}", own.pem()),
            format!("words before\n{issuer}\n{pem}\n{}", own.pem()),
        ] {
            let loaded = load(&text).unwrap();
            assert_eq!(loaded.certified.cert.len(), 2);
            assert_eq!(&loaded.certified.cert[0], own.der());
        }
    }

    #[test]
    fn what_is_missing_is_told_with_the_file() {
        let own = key();
        for (text, words) in [
            (own.serialize_pem(), "c.pem holds no certificate"),
            (cert(&own), "c.pem holds no private key"),
            (cert(&own) + &key().serialize_pem(), "the private key in c.pem does not belong"),
            ("-----BEGIN CERTIFICATE-----\n?".into(), "c.pem is not valid PEM"),
            (
                cert(&own)
                    + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "the private key in c.pem is encrypted",
            ),
            (
                cert(&own) + "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
                "the private key in c.pem cannot be used",
            ),
        ] {
            let error = load(&text).expect_err(words).to_string();
            assert!(error.starts_with(words), "{error}");
        }
        let error = ClientCert::load(None, Path::new("/nowhere/c.pem")).expect_err("no file").to_string();
        assert_eq!(error, "cannot read /nowhere/c.pem");
    }

    #[test]
    fn the_nearest_certificate_is_chosen() {
        let own = key();
        let text = cert(&own) + &own.serialize_pem();
        let of = |host| ClientCert::from_pem(host, text.as_bytes(), Path::new("c.pem")).unwrap();
        let all = [
            of(None),
            of(Some("*.b.test")),
            of(Some("A.b.test.")),
            of(Some("*.a.b.test")),
            of(Some("[::1]")),
        ];
        for (name, place) in [
            ("other.test", 0),
            ("b.test", 0),
            ("x.b.test", 1),
            ("X.Y.B.test", 1),
            ("a.b.test", 2),
            ("c.a.b.test", 3),
            ("::1", 4),
        ] {
            assert_eq!(ClientCert::choose(&all, name), Some(place), "{name}");
        }
        assert_eq!(ClientCert::choose(&all[1..], "other.test"), None);
        assert_eq!(ClientCert::choose(&[], "other.test"), None);
    }
}
