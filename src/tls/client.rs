//! The handshake with an origin: its certificate is checked before a byte of a request leaves.
//!
//! What the origin presented is kept also where it was refused, so that the record shows what was refused.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::client_cert::{CLIENT_AUTH, Resolver};
use super::host_cert::HostCert;
use super::{Roots, crypto, describe_client_side, explain_upstream, server_name};
use crate::flow::{ClientAuth, TlsInfo};

/// Whether origins have to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Chain, time and name are checked against the roots.
    On,
    /// Any certificate will do, as long as the origin holds its key. For origins under test.
    Off,
}

/// The client side of TLS, one for the whole proxy: its sessions are resumed across connections.
pub struct ClientTls {
    /// Without a certificate of ours, and then one for each of `certs`. All share the verifier. Each has sessions of its
    /// own: an origin takes a resumed session for whom it was begun by.
    bases: Vec<ClientConfig>,
    certs: Vec<HostCert>,
    verification: Verification,
    /// One configuration for each base and list of protocols that was asked for. Those of one base share its sessions.
    by_alpn: Mutex<Vec<Known>>,
}

struct Known {
    /// Its place among the bases.
    base: usize,
    offers: Vec<Bytes>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// TLS towards origins that are checked against `roots`, or not at all.
    ///
    /// # Errors
    /// When rustls does not take `roots`; it takes those of [`Roots::load`].
    pub fn new(roots: &Roots, verification: Verification) -> Result<Self, rustls::Error> {
        let provider = crypto::provider();
        let webpki = if roots.is_empty() || verification == Verification::Off {
            None
        } else {
            let store = Arc::clone(&roots.store);
            let built = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider)).build();
            Some(built.map_err(|error| rustls::Error::General(error.to_string()))?)
        };
        let verifier = CapturingVerifier { webpki, added: Arc::clone(&roots.added), verification };
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous() // the one place; `CapturingVerifier` asks webpki for everything but `Verification::Off`
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver(None)));
        base.resumption = Resumption::in_memory_sessions(SESSIONS);
        if let Some(key_log) = crypto::key_log() {
            base.key_log = key_log;
        }
        Ok(Self { bases: vec![base], certs: Vec::new(), verification, by_alpn: Mutex::default() })
    }

    /// The same with certificates for origins that ask for one.
    #[must_use]
    pub fn with_client_certs(mut self, certs: Vec<HostCert>) -> Self {
        for cert in &certs {
            let mut config = self.bases[0].clone();
            config.client_auth_cert_resolver = Arc::new(Resolver(Some(Arc::clone(&cert.certified))));
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            self.bases.push(config);
        }
        self.certs.extend(certs);
        self
    }

    /// The configuration for the origin called `name` that offers `alpn` in this order; nothing is offered if it is
    /// empty.
    #[must_use]
    pub fn config(&self, name: &str, alpn: &[Bytes]) -> Arc<ClientConfig> {
        let base = HostCert::choose(&self.certs, name).map_or(0, |place| place + 1);
        let mut known = self.by_alpn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| known.base == base && known.offers == alpn) {
            return Arc::clone(&known.config);
        }
        let mut config = self.bases[base].clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let config = Arc::new(config);
        // Clients may make us ask for anything; past some lists there is no more to gain by remembering.
        if known.len() < ALPN_LISTS * self.bases.len() {
            known.push(Known { base, offers: alpn.to_vec(), config: Arc::clone(&config) });
        }
        config
    }

    /// What [`ClientTls::connect`] will ask for: the facts of a handshake that did not come further.
    #[must_use]
    pub fn offered(&self, name: &str, alpn: &[Bytes]) -> TlsInfo {
        let sni = match server_name(name) {
            Ok(ServerName::DnsName(name)) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let suites = self.bases[0].crypto_provider().cipher_suites.iter();
        TlsInfo {
            sni,
            alpn_offers: alpn.to_vec(),
            cipher_offers: suites.map(|suite| suite.suite().into()).collect(),
            ..TlsInfo::default()
        }
    }

    /// Shakes hands over `io` with the origin called `name`: a host name, which is also sent as SNI, or an IP
    /// literal. The stream is given only after the origin proved that name, unless [`Verification::Off`].
    ///
    /// Sets no time limit. Dropping the future drops `io`.
    ///
    /// # Errors
    /// When `name` cannot be one of a certificate, the origin does not speak TLS that we speak, or its certificate is
    /// refused. The error holds what is known, the presented chain included.
    pub async fn connect<IO>(
        &self,
        io: IO,
        name: &str,
        alpn: &[Bytes],
    ) -> Result<(TlsStream<IO>, TlsInfo), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut info = self.offered(name, alpn);
        let config = self.config(name, alpn);
        let name = match server_name(name) {
            Ok(name) => name,
            Err(error) => return Err(HandshakeError::new(error.to_string(), info)),
        };
        let handshake = TlsConnector::from(config).connect(name, io);
        let handshake = PRESENTED.scope(RefCell::default(), async {
            let outcome = handshake.await;
            (outcome, PRESENTED.with(RefCell::take))
        });
        let ((outcome, presented), client_auth) = CLIENT_AUTH
            .scope(Cell::new(ClientAuth::NotAsked), async {
                let outcome = handshake.await;
                (outcome, CLIENT_AUTH.with(Cell::get))
            })
            .await;
        info.client_auth = client_auth;
        match outcome {
            Ok(stream) => {
                let info = describe_client_side(stream.get_ref().1, info, self.verification);
                Ok((stream, info))
            }
            Err(error) => {
                let message = explain_upstream(&error, &presented);
                info.chain = presented;
                let alpn_refused = is_alpn_refusal(&error);
                Err(HandshakeError { alpn_refused, ..HandshakeError::new(message, info) })
            }
        }
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("verification", &self.verification).finish_non_exhaustive()
    }
}

/// A handshake with an origin that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HandshakeError {
    /// Why, in words; certificate texts in it are escaped.
    pub message: String,
    /// How far it came. `error` is set, `chain` is what was presented.
    pub info: Box<TlsInfo>,
    /// Whether the origin speaks none of the protocols that it was offered (RFC 7301 §3.2).
    pub alpn_refused: bool,
}

impl HandshakeError {
    fn new(message: String, mut info: TlsInfo) -> Self {
        info.error = Some(message.clone());
        Self { message, info: Box::new(info), alpn_refused: false }
    }
}

fn is_alpn_refusal(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}

tokio::task_local! {
    /// Where the verifier leaves what was presented in the handshake that this task polls. The verifier cannot be one
    /// of each handshake: rustls resumes a session only with the very verifier that it began with.
    static PRESENTED: RefCell<Vec<Bytes>>;
}

/// Keeps the presented chain, then asks webpki.
#[derive(Debug)]
struct CapturingVerifier {
    /// `None` without roots, or when nothing is verified.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    added: Arc<[CertificateDer<'static>]>,
    verification: Verification,
}

impl CapturingVerifier {
    /// Whether `end_entity` is, byte for byte, one that was added by hand: then only its name and time are left to
    /// check.
    fn is_added(&self, end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>, now: UnixTime) -> bool {
        let in_time = |cert: X509Certificate<'_>| {
            let validity = cert.validity();
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        };
        self.added.iter().any(|added| added == end_entity)
            && X509Certificate::from_der(end_entity).is_ok_and(|(_, cert)| in_time(cert))
            && ParsedCertificate::try_from(end_entity)
                .is_ok_and(|cert| verify_server_name(&cert, server_name).is_ok())
    }
}

impl ServerCertVerifier for CapturingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|cert| Bytes::copy_from_slice(cert)).collect();
        // Outside of `connect` there is nobody to keep it for.
        let _ = PRESENTED.try_with(|presented| presented.replace(chain));
        match (&self.webpki, self.verification) {
            (Some(webpki), _) => webpki
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .or_else(|error| match self.is_added(end_entity, server_name, now) {
                    true => Ok(ServerCertVerified::assertion()),
                    false => Err(error),
                }),
            (None, Verification::On) => Err(CertificateError::UnknownIssuer.into()),
            (None, Verification::Off) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &crypto::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &crypto::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Sessions of origins that are kept for resumption; eight for each name.
const SESSIONS: usize = 2048;

/// Browsers, curl and the runtimes make some five different lists.
const ALPN_LISTS: usize = 32;
