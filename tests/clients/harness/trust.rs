//! The origin's CA and leaf, made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer as _;

pub(crate) struct Trust {
    /// The CA's certificate, for `--upstream-ca`.
    pub(crate) ca_path: PathBuf,
    /// The leaf's certificate and its key, for servers in other processes.
    pub(crate) cert_path: PathBuf,
    pub(crate) key_path: PathBuf,
    /// A server with a leaf for `localhost`, 127.0.0.1 and what [`super::Onward`] leads on.
    pub(crate) server: Arc<ServerConfig>,
}

impl Trust {
    pub(crate) fn new(dir: &Path) -> Trust {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca_params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        ca_params.distinguished_name.push(DnType::CommonName, "manent test origin CA, never trust it");
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = ca_params.self_signed(&ca_key).expect("a CA");
        let ca_path = dir.join("origin-ca.pem");
        std::fs::write(&ca_path, ca.pem()).expect("writable");

        let leaf_key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1"].into_iter().chain(super::onward::NAMES);
        let leaf = CertificateParams::new(names.map(str::to_owned).collect::<Vec<_>>())
            .and_then(|params| params.signed_by(&leaf_key, &Issuer::from_params(&ca_params, &ca_key)))
            .expect("a leaf");
        let (cert_path, key_path) = (dir.join("origin.pem"), dir.join("origin.key"));
        std::fs::write(&cert_path, leaf.pem()).expect("writable");
        std::fs::write(&key_path, leaf_key.serialize_pem()).expect("writable");
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("PKCS#8");
        let mut server =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("ring knows the versions")
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .expect("the key fits");
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Trust { ca_path, cert_path, key_path, server: Arc::new(server) }
    }
}

/// What Chromium's `--ignore-certificate-errors-spki-list` wants of the certificate in `pem`, computed without manent.
pub(crate) fn spki_sha256_base64(pem: &Path) -> String {
    let der = CertificateDer::from_pem_file(pem).expect("a certificate in PEM");
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&der).expect("X.509");
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let sha256 = suite.tls13().expect("a TLS 1.3 suite").common.hash_provider;
    base64(sha256.hash(cert.public_key().raw).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let sextet = usize::try_from(word >> (18 - 6 * at) & 63).expect("six bits");
            out.push(if at <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    out
}
