//! One identity for an intercepted connection (security rule 2): the name in the SNI, else the one in the CONNECT.

use bytes::Bytes;
use manent::flow::{Kind, Side, Stage, State};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::harness::{Setup, TestCa, TlsOrigin};

/// The names in a certificate.
pub(super) fn names(der: &Bytes) -> Vec<String> {
    let (_, cert) = X509Certificate::from_der(der).unwrap();
    let san = cert.subject_alternative_name().unwrap().unwrap();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(ip) => format!("{ip:?}"),
        other => panic!("{other:?}"),
    };
    san.value.general_names.iter().map(name).collect()
}

/// TL-01, pitfall 88: what was dialled, what was asked for in TLS and what the request names are three facts.
#[tokio::test]
async fn connect_sni_and_host_are_recorded_apart() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["sni.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "sni.test").await;
    let port = origin.addr().port();
    client.send(format!("GET / HTTP/1.1\r\nHost: SNI.test:{port}\r\n\r\n")).await;
    server.expect(format!("GET / HTTP/1.1\r\nHost: SNI.test:{port}\r\n\r\n")).await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    let flow = setup.flow().await;
    let tls = flow.client.tls.as_ref().unwrap();
    assert_eq!(flow.client.connect.as_ref().unwrap().authority, format!("127.0.0.1:{port}"));
    assert_eq!((tls.sni.as_deref(), names(&tls.chain[0])), (Some("sni.test"), vec!["sni.test".into()]));
    assert_eq!(flow.request.unwrap().headers.get("host").unwrap(), format!("SNI.test:{port}").as_bytes());
    let server = flow.server.unwrap();
    assert_eq!((server.address.host.as_str(), server.address.port), ("127.0.0.1", port));
    assert_eq!(server.tls.as_ref().unwrap().sni.as_deref(), Some("sni.test"));
}

/// `tls.sni-laundering`: verifying the CONNECT's name while presenting a leaf for the SNI would make any certificate good
/// for any name.
#[tokio::test]
async fn origin_is_verified_by_the_name_that_the_client_asked_for() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["127.0.0.1"], &[])).await;
    let authority = origin.addr().to_string();
    let (client, server) = tokio::join!(setup.tls_client(&authority, "bank.test", &[]), origin.try_accept());
    assert!(server.is_err());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: bank.test\r\n\r\n").await;
    client.expect_error("502 Bad Gateway\r\n").await;
    assert_eq!(setup.flow().await.error.unwrap().stage, Stage::Tls);
}

/// `h1.authority-elsewhere`, RFC 9110 §7.4: every way to name another host, port or scheme, and none reaches anybody.
#[tokio::test]
async fn request_for_another_identity_is_misdirected() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let config = ca.server_config(&["origin.test", "other.test"], &["http/1.1"]);
    let (origin, other) =
        (TlsOrigin::listen(std::sync::Arc::clone(&config)).await, TlsOrigin::listen(config).await);
    let (port, other_port) = (origin.addr().port(), other.addr().port());
    for (target, host) in [
        ("/", format!("other.test:{port}")),
        ("/", format!("origin.test:{other_port}")),
        ("/", format!("127.0.0.1:{port}")),
        ("/", "origin.test.evil.test".into()),
        (&format!("https://other.test:{port}/"), format!("origin.test:{port}")),
        (&format!("https://origin.test:{other_port}/"), format!("origin.test:{port}")),
        (&format!("http://origin.test:{port}/"), format!("origin.test:{port}")),
    ] {
        let (mut client, mut server) = setup.https(&origin, "origin.test").await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = client.expect_error("421 Misdirected Request\r\n").await;
        assert!(answer.contains("client request target"), "{answer}");
        let flow = setup.flow().await;
        let error = flow.error.unwrap();
        assert_eq!((flow.state, error.side, error.stage), (State::Refused, Side::Client, Stage::Target));
        drop(client);
        // The connection may go to the pool: end it, or the next client would get it.
        assert!(server.try_send("x").await.is_ok());
    }
    other.origin.expect_nobody();
}

/// The second request on a connection is judged as the first.
#[tokio::test]
async fn second_request_for_another_host_reaches_nobody() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let config = ca.server_config(&["origin.test", "other.test"], &["http/1.1"]);
    let origin = TlsOrigin::listen(config).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: origin.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .await;
    assert!(server.head().await.starts_with("GET /1 "));
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    client.expect_error("421 Misdirected Request\r\n").await;
    let states = [setup.flow().await.state, setup.flow().await.state];
    assert_eq!(states, [State::Complete, State::Refused]);
    origin.origin.expect_nobody();
    drop((setup.stop().await, client));
    assert!(server.rest().await.0.is_empty());
}

/// A CONNECT inside an intercepted connection would go round the rules of the first.
#[tokio::test]
async fn connect_inside_a_tunnel_is_refused() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let (mut client, _server) = setup.https(&origin, "origin.test").await;
    client.send("CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test:443\r\n\r\n").await;
    client.expect_error("400 Bad Request\r\n").await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Connect, State::Refused));
}

/// TL-02, pitfalls 87 and 89: without an SNI the CONNECT's name is the identity, an address as an address.
#[tokio::test]
async fn address_without_sni_gets_a_leaf_for_the_address() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["127.0.0.1"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "127.0.0.1").await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.addr())).await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    let flow = setup.flow().await;
    let tls = flow.client.tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_deref(), names(&tls.chain[0])), (None, vec!["[127, 0, 0, 1]".into()]));
}
