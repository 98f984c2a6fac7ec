//! Origins, good and bad, and what we make of them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerConfig;
use rustls::{SupportedProtocolVersion, version};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{TEST_CA_RSA, test_ca};
use crate::flow::TlsInfo;
use crate::tls::crypto::{DAY, now_unix, provider, set_validity};
use crate::tls::{
    Ca, ClientTls, HandshakeError, PemFileError, Roots, RootsError, Verification, explain_client,
    explain_upstream, pem,
};

type Root = CertifiedIssuer<'static, KeyPair>;

fn root(name: &str) -> Root {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An origin's certificate for `name` and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn identity(root: Option<&Root>, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    set_validity(&mut params, now_unix() - DAY, now_unix() + 30 * DAY);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = root.map_or_else(|| params.self_signed(&key), |root| params.signed_by(&key, root)).unwrap();
    Identity { chain: vec![cert.into()], key }
}

fn config(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(identity.chain.clone(), key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// An origin that answers each byte with itself; gives what it read, or why its handshake failed.
fn serve(config: Arc<ServerConfig>) -> (DuplexStream, JoinHandle<io::Result<Vec<u8>>>) {
    let (ours, theirs) = duplex(1 << 14);
    let task = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(config).accept(theirs).await?;
        let mut read = Vec::new();
        stream.write_all(b"!").await?;
        // The client goes away without ceremony.
        let _ = stream.read_to_end(&mut read).await;
        Ok(read)
    });
    (ours, task)
}

fn trusting(root: &Root) -> ClientTls {
    let roots = Roots::of_system(vec![root.der().clone()], None, Vec::new());
    ClientTls::new(&roots, Verification::On).unwrap()
}

/// A handshake, and one byte from the origin so that tickets are in.
async fn meet(tls: &ClientTls, config: &Arc<ServerConfig>, name: &str) -> Result<TlsInfo, HandshakeError> {
    let (io, _origin) = serve(Arc::clone(config));
    let (mut stream, info) = tls.connect(io, name, &[]).await?;
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    Ok(info)
}

/// What is said of `identity` by someone who trusts `root`.
async fn refusal(root: &Root, identity: &Identity, name: &str) -> HandshakeError {
    let (io, origin) = serve(config(identity, rustls::ALL_VERSIONS, &[]));
    let error = trusting(root).connect(io, name, &[]).await.unwrap_err();
    let presented: Vec<&[u8]> = identity.chain.iter().map(|cert| &cert[..]).collect();
    assert_eq!(error.info.chain, presented, "captured though refused: {error}");
    assert!(!error.info.verified);
    assert_eq!(error.info.error.as_deref(), Some(&*error.message));
    assert!(origin.await.unwrap().is_err(), "it gets no byte after the handshake");
    error
}

#[tokio::test]
async fn a_good_origin_is_verified_and_described() {
    let root = root("root");
    let identity = identity(Some(&root), "example.com", |_| {});
    for (versions, name) in [(&version::TLS13, "TLSv1.3"), (&version::TLS12, "TLSv1.2")] {
        let (io, _origin) = serve(config(&identity, &[versions], &["http/1.1"]));
        let offers = [Bytes::from_static(b"h2"), Bytes::from_static(b"http/1.1")];
        let (_, info) = trusting(&root).connect(io, "Example.com.", &offers).await.unwrap();
        assert_eq!(info.version.as_deref(), Some(name));
        assert_eq!(info.sni.as_deref(), Some("example.com"));
        assert_eq!(info.alpn_offers, offers);
        assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(info.chain, [&identity.chain[0][..]]);
        assert!(info.verified && !info.resumed && info.error.is_none());
        assert!(info.cipher_offers.contains(&0x1301) && info.group.is_some());
    }
}

#[tokio::test]
async fn addresses_are_verified_as_addresses_and_sent_in_no_sni() {
    let root = root("root");
    for name in ["127.0.0.1", "::1"] {
        let origin = config(&identity(Some(&root), name, |_| {}), rustls::ALL_VERSIONS, &[]);
        let info = meet(&trusting(&root), &origin, name).await.unwrap();
        assert_eq!((info.sni, info.verified), (None, true));
    }
    let other = identity(Some(&root), "127.0.0.2", |_| {});
    assert_eq!(
        refusal(&root, &other, "127.0.0.1").await.message,
        "the server's certificate was refused: it is not for 127.0.0.1, but for 127.0.0.2"
    );
    assert!(
        refusal(&root, &identity(Some(&root), "a.example", |_| {}), "127.0.0.1")
            .await
            .message
            .contains("a.example")
    );
}

#[tokio::test]
async fn sessions_are_resumed_and_said_to_be_across_protocol_lists() {
    let root = root("root");
    let identity = identity(Some(&root), "example.com", |_| {});
    for versions in [&version::TLS13, &version::TLS12] {
        let (tls, origin) = (trusting(&root), config(&identity, &[versions], &["http/1.1"]));
        assert!(!meet(&tls, &origin, "example.com").await.unwrap().resumed);
        let (io, _origin) = serve(Arc::clone(&origin));
        let (_, info) = tls.connect(io, "example.com", &[Bytes::from_static(b"http/1.1")]).await.unwrap();
        assert!(info.resumed && info.verified);
        assert_eq!(info.chain, [&identity.chain[0][..]], "of the session, though not sent again");
    }
}

#[tokio::test]
async fn bad_certificates_are_refused_with_the_reason() {
    let trusted = root("root");
    let stranger = root("stranger\u{1b}[2J");
    let said = async |identity: Identity, name: &str| refusal(&trusted, &identity, name).await.message;
    let now = now_unix();

    let expired =
        identity(Some(&trusted), "a.example", |p| set_validity(p, now - 30 * DAY, now - 21 * DAY - 60));
    assert!(said(expired, "a.example").await.ends_with("(21 days ago)"));
    let early = identity(Some(&trusted), "a.example", |p| set_validity(p, now + DAY + 60, now + 9 * DAY));
    assert!(said(early, "a.example").await.ends_with("(1 day from now)"));
    let wrong = said(identity(Some(&trusted), "b.example", |_| {}), "a.example").await;
    assert!(wrong.ends_with("it is not for a.example, but for b.example"), "{wrong}");
    let unknown = said(identity(Some(&stranger), "a.example", |_| {}), "a.example").await;
    assert!(unknown.ends_with(r"its issuer is not trusted: CN=stranger\u{1b}[2J"), "{unknown}");
    let own = said(identity(None, "a.example", |_| {}), "a.example").await;
    assert!(own.contains("it is self-signed by CN="), "{own}");
    let own_ca = identity(None, "a.example", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(said(own_ca, "a.example").await.contains("it is self-signed by CN="));
    let purpose =
        |p: &mut CertificateParams| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(
        said(identity(Some(&trusted), "a.example", purpose), "a.example")
            .await
            .contains("not meant for servers")
    );
    let nameless = identity(Some(&trusted), "a.example", |p| p.subject_alt_names.clear());
    assert!(said(nameless, "a.example").await.contains("no name"));
    let many = |p: &mut CertificateParams| {
        *p = CertificateParams::new((0..9).map(|n| format!("h{n}.example")).collect::<Vec<_>>()).unwrap();
    };
    assert!(said(identity(Some(&trusted), "x", many), "a.example").await.ends_with("h4.example and 4 more"));
}

#[tokio::test]
async fn a_chain_with_a_forged_signature_is_refused() {
    let (real, forger) = (root("root"), root("root"));
    let identity = identity(Some(&forger), "a.example", |_| {});
    let said = refusal(&real, &identity, "a.example").await.message;
    assert!(said.contains("refused"), "{said}");
}

/// 500 certificates with a byte turned: refused or not, never a panic.
#[tokio::test]
async fn mutilated_certificates_harm_nobody() {
    let root = root("root");
    let good = identity(Some(&root), "a.example", |_| {});
    let signer =
        rustls::crypto::ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(good.key.serialize_der().into()));
    let signer = signer.unwrap();
    let tls = trusting(&root);
    for n in 0..500usize {
        let mut der = good.chain[0].to_vec();
        let at = (n * 37) % der.len();
        der[at] ^= u8::try_from(n % 255).unwrap() + 1;
        let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![der.into()], Arc::clone(&signer)));
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let (io, _origin) = serve(Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver)));
        let error = tls.connect(io, "a.example", &[]).await.unwrap_err();
        assert_eq!(error.info.chain.len(), 1);
        assert!(!error.message.contains(|letter: char| letter.is_control()), "{:?}", error.message);
    }
}

#[tokio::test]
async fn without_verification_any_certificate_will_do_and_the_record_says_so() {
    let none = Roots::none();
    let tls = ClientTls::new(&none, Verification::Off).unwrap();
    let expired = identity(None, "b.example", |p| set_validity(p, 0, DAY));
    for versions in [&version::TLS13, &version::TLS12] {
        let info = meet(&tls, &config(&expired, &[versions], &[]), "a.example").await.unwrap();
        assert!(!info.verified);
        assert_eq!(info.chain.len(), 1);
    }
}

#[tokio::test]
async fn without_verification_the_key_still_has_to_be_the_certificates() {
    let tls = ClientTls::new(&Roots::none(), Verification::Off).unwrap();
    let (shown, held) = (identity(None, "a.example", |_| {}), identity(None, "a.example", |_| {}));
    let der = PrivateKeyDer::Pkcs8(held.key.serialize_der().into());
    let signer = rustls::crypto::ring::sign::any_ecdsa_type(&der).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(shown.chain, signer));
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let (io, _origin) = serve(Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver)));
    let error = tls.connect(io, "a.example", &[]).await.unwrap_err();
    assert!(error.message.contains("signature is wrong"), "{error}");
}

#[tokio::test]
async fn without_roots_everything_is_refused() {
    let tls = ClientTls::new(&Roots::none(), Verification::On).unwrap();
    let root = root("root");
    let origin = config(&identity(Some(&root), "a.example", |_| {}), rustls::ALL_VERSIONS, &[]);
    let error = meet(&tls, &origin, "a.example").await.unwrap_err();
    assert!(error.message.contains("not trusted: CN=root"), "{error}");
}

#[tokio::test]
async fn an_origin_without_tls_is_told_apart_from_one_that_hangs_up() {
    let root = root("root");
    let (io, mut origin) = duplex(1 << 14);
    origin.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error = trusting(&root).connect(io, "a.example", &[]).await.unwrap_err();
    assert_eq!(error.message, "the server does not speak TLS on this port");
    let (io, origin) = duplex(1 << 14);
    drop(origin);
    let error = trusting(&root).connect(io, "a.example", &[]).await.unwrap_err();
    assert_eq!(error.message, "the server closed the connection during the handshake");
    let (io, _origin) = duplex(1 << 14);
    let error = trusting(&root).connect(io, "münchen.example", &[]).await.unwrap_err();
    assert!(error.message.contains("xn--"), "{error}");
}

#[tokio::test]
async fn alerts_and_versions_have_words() {
    let root = root("root");
    let identity = identity(Some(&root), "a.example", |_| {});
    let (io, _origin) = serve(config(&identity, rustls::ALL_VERSIONS, &["h2"]));
    let error =
        trusting(&root).connect(io, "a.example", &[Bytes::from_static(b"http/1.1")]).await.unwrap_err();
    let expected =
        "the server ended the handshake (no_application_protocol); it speaks none of the offered protocols";
    assert_eq!(error.message, expected);
    // fatal, protocol_version: what an origin of TLS 1.0 says.
    let (io, mut origin) = duplex(1 << 14);
    origin.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
    let error = trusting(&root).connect(io, "a.example", &[]).await.unwrap_err();
    assert!(error.message.contains("(protocol_version); it speaks none of TLS 1.2 and 1.3"), "{error}");
}

#[tokio::test]
async fn a_client_that_refuses_our_certificate_is_understood() {
    let (trusted, ours) = (root("root"), root("ours"));
    let identity = identity(Some(&ours), "a.example", |_| {});
    for versions in [&version::TLS13, &version::TLS12] {
        let (io, origin) = serve(config(&identity, &[versions], &[]));
        trusting(&trusted).connect(io, "a.example", &[]).await.unwrap_err();
        let error = origin.await.unwrap().unwrap_err();
        assert_eq!(explain_client(&error), "client refused our certificate (unknown_ca)");
    }
    let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
    assert!(explain_client(&gone).contains("perhaps it does not trust our CA"));
    assert!(explain_upstream(&gone, &[]).contains("closed the connection"));
}

/// `SSL_CERT_FILE`, a system store with our CA in it, another proxy: none may make an origin of our own CA look good.
#[test]
fn our_own_ca_is_not_among_the_systems_roots() {
    let ca = test_ca();
    let der = |ca: &Ca| CertificateDer::from(ca.cert_der().to_vec());
    let other = Ca::from_pem(TEST_CA_RSA.as_bytes()).unwrap();
    let system = vec![der(&ca), der(&other), CertificateDer::from(vec![1, 2, 3])];
    let roots = Roots::of_system(system.clone(), Some(&ca), Vec::new());
    assert_eq!(roots.len(), 1);
    assert!(roots.warnings()[0].contains("1 roots"));
    assert_eq!(Roots::of_system(system, None, Vec::new()).len(), 2);
}

#[test]
fn files_of_roots_are_refused_by_name() {
    let dir = tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let fails = |path: PathBuf| {
        let error = Roots::load(std::slice::from_ref(&path), None).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        error
    };
    assert!(matches!(fails(dir.path().join("absent.pem")), RootsError::File(PemFileError::Read { .. })));
    assert!(matches!(fails(file("empty.pem", "")), RootsError::File(PemFileError::NoCertificate { .. })));
    assert!(matches!(
        fails(file("text.pem", "no PEM here")),
        RootsError::File(PemFileError::NoCertificate { .. })
    ));
    assert!(matches!(
        fails(file("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n")),
        RootsError::File(PemFileError::Pem { .. })
    ));
    assert!(matches!(
        fails(file("odd.pem", &pem::certificate(&[1, 2, 3]))),
        RootsError::Unusable { number: 1, .. }
    ));
    let good = file("good.pem", &test_ca().cert_pem());
    let (with, without) = (Roots::load(&[good], None).unwrap(), Roots::load(&[], None).unwrap());
    assert_eq!(with.len(), without.len() + 1);
}

/// What `openssl req -x509` makes is self-signed and has the CA flag. Added by hand, it is trusted as what it is, for
/// its name and its time.
#[tokio::test]
async fn an_added_certificate_is_trusted_as_the_origins_own() {
    let dir = tempdir().unwrap();
    let is_ca = |p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let expired = |p: &mut CertificateParams| {
        is_ca(p);
        set_validity(p, 0, DAY);
    };
    let (good, old) = (identity(None, "a.example", is_ca), identity(None, "a.example", expired));
    let file = dir.path().join("added.pem");
    std::fs::write(&file, pem::certificate(&good.chain[0]) + &pem::certificate(&old.chain[0])).unwrap();
    let tls = ClientTls::new(&Roots::load(&[file], None).unwrap(), Verification::On).unwrap();
    let origin = config(&good, rustls::ALL_VERSIONS, &[]);
    assert!(meet(&tls, &origin, "a.example").await.unwrap().verified);
    assert!(meet(&tls, &origin, "b.example").await.is_err());
    assert!(meet(&tls, &config(&old, rustls::ALL_VERSIONS, &[]), "a.example").await.is_err());
}
