//! TLS on both ends of a test: a CA for origins, origins with its certificates, clients that trust the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Origin, Peer, Setup, soon};

/// A CA of the test's own, for its origins.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::of(|_| {})
    }

    /// The same with changes to the certificate.
    pub(crate) fn of(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test origins CA");
        change(&mut params);
        let cert = params.self_signed(&key).unwrap();
        Self { pem: cert.pem(), issuer: Issuer::new(params, key) }
    }

    /// Writes its certificate into `dir`, to be given as `--upstream-ca`.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("origins-ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// A server configuration with a certificate for `names`.
    pub(crate) fn server_config(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        self.server_config_of(names, alpn, |_| {})
    }

    /// The same with changes to the certificate.
    pub(crate) fn server_config_of(
        &self,
        names: &[&str],
        alpn: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        presenting(cert.der().clone(), &key, alpn)
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    /// A client's TLS configuration that trusts it alone, and so not the proxy.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A certificate for a client, and its key.
    pub(crate) fn client_pem(&self) -> String {
        self.pem_for(&["client.test"])
    }

    /// A certificate for these names, and its key.
    pub(crate) fn pem_for(&self, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        key.serialize_pem() + &params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    /// Makes a proxy trust it for origins.
    pub(crate) fn trusted_by(&self, config: &mut manent::config::Config) {
        let dir = config.store.parent().unwrap().to_owned();
        config.upstream_ca = vec![self.write(&dir)];
    }
}

/// A server configuration with these bytes for a certificate, whatever they are.
pub(crate) fn presenting(cert: CertificateDer<'static>, key: &KeyPair, alpn: &[&str]) -> Arc<ServerConfig> {
    let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = ring::sign::any_supported_type(&der).unwrap();
    let certified = CertifiedKey::new(vec![cert], key);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// What a client sends first, for `name`, with `offers` protocols in it to make it long.
pub(crate) fn hello(name: &str, offers: usize) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..offers).map(|n| format!("protocol-{n:05}").into_bytes()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Shakes hands with the proxy as a client of `name`.
pub(crate) async fn handshake<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: T,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Peer> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(config);
    Ok(Peer::new(soon("our handshake", connector.connect(name, io)).await?))
}

/// An origin that speaks TLS.
pub(crate) struct TlsOrigin {
    pub(crate) origin: Origin,
    config: Arc<ServerConfig>,
}

impl TlsOrigin {
    pub(crate) async fn listen(config: Arc<ServerConfig>) -> Self {
        Self { origin: Origin::listen().await, config }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.origin.addr()
    }

    /// Accepts a connection and its handshake.
    pub(crate) async fn accept(&self) -> Peer {
        self.try_accept().await.unwrap()
    }

    pub(crate) async fn try_accept(&self) -> std::io::Result<Peer> {
        serve_tls(self.origin.accept().await, Arc::clone(&self.config)).await
    }
}

/// Shakes hands as the server on a connection that carries TLS from here on.
pub(crate) async fn serve_tls(peer: Peer, config: Arc<ServerConfig>) -> std::io::Result<Peer> {
    let accept = TlsAcceptor::from(config).accept(peer.into_io());
    Ok(Peer::new(soon("the proxy's handshake", accept).await?))
}

impl Setup {
    /// A proxy that trusts `ca` for origins.
    pub(crate) async fn trusting(ca: &TestCa) -> Self {
        Self::with(|config| ca.trusted_by(config)).await
    }

    /// A client's TLS configuration that trusts the proxy's CA alone.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.proxy.ca().cert_der().to_vec())).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    /// A client with a tunnel to `authority` and TLS for `name` in it. The origin must be accepted meanwhile: see
    /// [`Setup::https`].
    pub(crate) async fn tls_client(
        &self,
        authority: &str,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<Peer> {
        self.tls_over(self.tunnel(authority).await, name, alpn).await
    }

    /// A client with TLS for `name` in a tunnel of its own.
    pub(crate) async fn tls_over(&self, tunnel: Peer, name: &str, alpn: &[&str]) -> std::io::Result<Peer> {
        handshake(tunnel.into_io(), self.client_config(alpn).into(), name).await
    }

    /// A client with a tunnel, and TLS with a configuration of the test's own.
    pub(crate) async fn tls_client_with(
        &self,
        config: Arc<ClientConfig>,
        authority: &str,
        name: &str,
    ) -> std::io::Result<Peer> {
        handshake(self.tunnel(authority).await.into_io(), config, name).await
    }

    /// Client and origin with TLS on both sides of the proxy, for `name`.
    pub(crate) async fn https(&self, origin: &TlsOrigin, name: &str) -> (Peer, Peer) {
        let authority = format!("127.0.0.1:{}", origin.addr().port());
        let (client, server) =
            tokio::join!(self.tls_client(&authority, name, &["http/1.1"]), origin.accept());
        (client.unwrap(), server)
    }
}
