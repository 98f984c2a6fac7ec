//! Client certificates to origins (TL-13).

use std::path::PathBuf;
use std::sync::Arc;

use manent::config::HostCert;
use manent::flow::{ClientAuth, Flow, State};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;

use crate::harness::{OK, Setup, TestCa, TlsOrigin};

const NAMES: &[&str] = &["origin.test", "a.b.test", "other.test"];

/// A proxy with a client certificate for `host`, and an origin that wants one if `asks`.
async fn start(host: Option<&str>, asks: bool) -> (Setup, TlsOrigin) {
    let ca = TestCa::new();
    let mut server = Arc::unwrap_or_clone(ca.server_config(NAMES, &[]));
    if asks {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let provider = Arc::clone(server.crypto_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let mut asking = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&server.cert_resolver));
        asking.alpn_protocols = server.alpn_protocols.clone();
        server = asking;
    }
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        let pem: PathBuf = config.store.with_file_name("client.pem");
        std::fs::write(&pem, ca.client_pem()).unwrap();
        config.client_certs = vec![HostCert { host: host.map(str::to_owned), pem }];
    })
    .await;
    (setup, TlsOrigin::listen(Arc::new(server)).await)
}

async fn exchange(setup: &mut Setup, origin: &TlsOrigin, name: &str) -> Flow {
    let authority = origin.addr().to_string();
    let (client, server) = tokio::join!(setup.tls_client(&authority, name, &[]), origin.accept());
    let (mut client, mut server) = (client.unwrap(), server);
    client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    // Tied to its client from here on, so that the next one dials.
    server.try_send("unasked").await.unwrap();
    drop(client);
    server.drain().await;
    setup.flow().await
}

fn client_auth(flow: &Flow) -> (ClientAuth, bool) {
    let tls = flow.server.as_ref().unwrap().tls.as_ref().unwrap();
    (tls.client_auth, tls.resumed)
}

/// TL-13: by exact name, by wildcard, and for all; a session that is resumed does not ask again.
#[tokio::test]
async fn origin_that_asks_is_shown_our_certificate() {
    for (host, name) in
        [(Some("origin.test"), "origin.test"), (Some("*.b.test"), "a.b.test"), (None, "other.test")]
    {
        let (mut setup, origin) = start(host, true).await;
        let flow = exchange(&mut setup, &origin, name).await;
        assert_eq!(client_auth(&flow), (ClientAuth::Presented, false), "{host:?}");
        let flow = exchange(&mut setup, &origin, name).await;
        assert_eq!(client_auth(&flow), (ClientAuth::NotAsked, true), "{host:?}");
    }
}

/// An origin that does not ask is not told who we are.
#[tokio::test]
async fn origin_that_does_not_ask_is_shown_no_certificate() {
    let (mut setup, origin) = start(None, false).await;
    let flow = exchange(&mut setup, &origin, "origin.test").await;
    assert_eq!(client_auth(&flow), (ClientAuth::NotAsked, false));
}

/// One for another host stays here, though the same address has both names; with TLS 1.3, the origin's refusal comes when
/// the handshake is over.
#[tokio::test]
async fn certificate_for_another_host_is_not_shown() {
    let (mut setup, origin) = start(Some("origin.test"), true).await;
    exchange(&mut setup, &origin, "origin.test").await;
    let authority = origin.addr().to_string();
    let (client, server) = tokio::join!(setup.tls_client(&authority, "other.test", &[]), origin.try_accept());
    assert!(server.is_err());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    // The connection is found dead, or dies with the request on it: then another one is tried.
    let again = async { while origin.try_accept().await.is_err() {} };
    let told = tokio::select! {
        told = client.expect_error("502 Bad Gateway\r\n") => told,
        () = again => panic!("accepted without a certificate"),
    };
    assert!(told.contains("CertificateRequired"), "{told}");
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Failed);
    assert_eq!(client_auth(&flow), (ClientAuth::Withheld, false));
}
