//! The certificates of a run: one CA, the origin's leaf, and TLS configurations on ring for every role.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The one name that every certificate is for. hudsucker writes an IP address as a DNS name, so a name it is.
pub(crate) const NAME: &str = "localhost";

pub(crate) const CA_CERT: &str = "bench-ca.pem";
pub(crate) const CA_KEY: &str = "bench-ca.key";

/// ALPN names.
pub(crate) const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

/// What was negotiated, in words.
pub(crate) fn negotiated(alpn: Option<&[u8]>) -> String {
    alpn.map_or("nothing".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
}

/// Makes the CA in `dir`: `bench-ca.pem` and `bench-ca.key`.
pub(crate) fn create_ca(dir: &Path) -> Result<()> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "manent benchmark CA, never trust it");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key)?;
    std::fs::write(dir.join(CA_CERT), cert.pem())?;
    std::fs::write(dir.join(CA_KEY), key.serialize_pem())?;
    Ok(())
}

/// The CA of `dir`, as what signs leaves.
pub(crate) fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(dir.join(CA_KEY))?)?;
    Ok(Issuer::from_ca_cert_pem(&std::fs::read_to_string(dir.join(CA_CERT))?, key)?)
}

/// A server that presents a fresh P-256 leaf for [`NAME`] by the CA of `dir` and speaks HTTP/2 with who offers it.
pub(crate) fn server(dir: &Path) -> Result<Arc<ServerConfig>> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let leaf = CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &issuer(dir)?)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts the PEM file `ca` and nothing else, and offers `alpn` in its order.
pub(crate) fn client(ca: &Path, resumption: Resumption, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).with_context(|| ca.display().to_string())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = resumption;
    Ok(Arc::new(config))
}
