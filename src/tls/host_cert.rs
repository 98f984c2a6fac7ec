//! Certificates of the user's for hosts: read from PEM, checked, and chosen by a host's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::crypto;
use super::pem::{self, PemFileError};

/// A certificate with its key, and the hosts that it is for.
///
/// `Debug` shows whom it is for and its file, never the key.
#[derive(Clone)]
pub struct HostCert {
    hosts: Hosts,
    pub(super) certified: Arc<CertifiedKey>,
    path: PathBuf,
}

/// Which hosts a certificate is for, in the order in which they go before others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(String),
    /// All below this domain: it begins with a dot.
    Below(String),
    All,
}

impl HostCert {
    /// Reads a PEM file with a certificate, what leads on from it to a root, and the certificate's key, in any order. Of
    /// several certificates, the one that belongs to the key is ours, and goes first.
    ///
    /// `host` says for which: a name, `*.example.com` for all below `example.com`, an IP literal; `None` is all.
    ///
    /// # Errors
    /// When the file cannot be read, something is missing in it, or key and certificate do not belong together.
    pub fn load(host: Option<&str>, path: &Path) -> Result<Self, HostCertError> {
        Self::of_blocks(host, pem::read_file(path)?, path)
    }

    fn of_blocks(host: Option<&str>, blocks: pem::Blocks, path: &Path) -> Result<Self, HostCertError> {
        let path = || path.to_owned();
        if blocks.keys.is_empty() {
            let encrypted = blocks.encrypted_key;
            return Err(match encrypted {
                true => HostCertError::KeyEncrypted { path: path() },
                false => HostCertError::NoKey { path: path() },
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
            return Err(HostCertError::KeyUnusable { path: path() });
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
            return Err(HostCertError::Mismatch { path: path() });
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

    /// What is wrong with it that a peer would refuse and somebody may want nevertheless: its time is over, or has not come.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (_, cert) = X509Certificate::from_der(&self.certified.cert[0]).ok()?;
        let (now, validity) = (crypto::now_unix(), cert.validity());
        let path = self.path.display();
        match (validity.not_before.timestamp(), validity.not_after.timestamp()) {
            (_, end) if end <= now => {
                Some(format!("the certificate in {path} expired on {}", crypto::date(end)))
            }
            (start, _) if start > now => {
                Some(format!("the certificate in {path} is not valid before {}", crypto::date(start)))
            }
            _ => None,
        }
    }

    /// The one of `all` for the host called `name`: one for this name, else one for the nearest domain above it, else
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

impl std::fmt::Debug for HostCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCert")
            .field("hosts", &self.hosts)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Why a file holds no certificate for a host that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostCertError {
    /// It holds no certificate, or cannot be read.
    #[error(transparent)]
    File(#[from] PemFileError),
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

    fn load(text: &str) -> Result<HostCert, HostCertError> {
        of(None, text)
    }

    fn of(host: Option<&str>, text: &str) -> Result<HostCert, HostCertError> {
        let path = Path::new("c.pem");
        HostCert::of_blocks(host, pem::blocks(text.as_bytes(), path)?, path)
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
        let error = HostCert::load(None, Path::new("/nowhere/c.pem")).expect_err("no file").to_string();
        assert_eq!(error, "cannot read /nowhere/c.pem");
    }

    #[test]
    fn the_nearest_certificate_is_chosen() {
        let own = key();
        let text = cert(&own) + &own.serialize_pem();
        let of = |host| of(host, &text).unwrap();
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
            assert_eq!(HostCert::choose(&all, name), Some(place), "{name}");
        }
        assert_eq!(HostCert::choose(&all[1..], "other.test"), None);
        assert_eq!(HostCert::choose(&[], "other.test"), None);
    }
}
