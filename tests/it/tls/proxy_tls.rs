//! TLS with the proxy itself (TL-17): clients whose proxy is an `https://` URL.

use std::sync::Arc;

use manent::flow::{Kind, Scheme, Side, Stage, State};
use rustls::{ClientConfig, RootCertStore};

use super::identity::names;
use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, handshake};

const ORIGIN: &str = "origin.test";
const PROXY: &str = "proxy.test";

/// A client in TLS with the proxy by this name.
async fn client(setup: &Setup, name: &str, alpn: &[&str]) -> Peer {
    let config = Arc::new(setup.client_config(alpn));
    handshake(setup.client().await.into_io(), config, name).await.unwrap()
}

/// TL-17: `http` URLs as ever; HTTP/1.1 alone is agreed on; the leaf is for the name that was asked for.
#[tokio::test]
async fn plain_requests_pass_in_tls_with_the_proxy() {
    for (offers, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["h2"], None),
        (&[], None),
    ] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        let mut client = client(&setup, PROXY, offers).await;
        // The second on the same connection.
        let mut server = None;
        for _ in 0..2 {
            client.send(origin.fill(GET)).await;
            if server.is_none() {
                server = Some(origin.accept().await);
            }
            let server = server.as_mut().unwrap();
            server.head().await;
            server.send(OK).await;
            client.expect(OK).await;
            let flow = setup.flow().await;
            assert_eq!(
                (flow.kind, flow.state, flow.target.scheme),
                (Kind::Http, State::Complete, Scheme::Http)
            );
            let info = flow.client.proxy_tls.as_ref().unwrap();
            assert_eq!((info.sni.as_deref(), info.alpn.as_deref()), (Some(PROXY), agreed));
            assert_eq!(names(&info.chain[0]), [PROXY]);
            assert!(flow.client.tls.is_none());
        }
    }
}

/// A tunnel in it with TLS of its own: both are recorded, each for its own name.
#[tokio::test]
async fn tunnel_in_tls_with_the_proxy_is_intercepted() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&[ORIGIN], &["http/1.1"])).await;
    let authority = origin.addr().to_string();
    let mut outer = client(&setup, PROXY, &["http/1.1"]).await;
    outer.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
    outer.expect("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let config = Arc::new(setup.client_config(&["http/1.1"]));
    let (inner, mut server) = tokio::join!(handshake(outer.into_io(), config, ORIGIN), origin.accept());
    let mut inner = inner.unwrap();
    inner.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    inner.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.target.scheme), (Kind::Http, Scheme::Https));
    let (with_proxy, inside) = (flow.client.proxy_tls.as_ref().unwrap(), flow.client.tls.as_ref().unwrap());
    assert_eq!((with_proxy.sni.as_deref(), inside.sni.as_deref()), (Some(PROXY), Some(ORIGIN)));
    assert_eq!(
        (names(&with_proxy.chain[0]), names(&inside.chain[0])),
        (vec![PROXY.into()], vec![ORIGIN.into()])
    );
    assert_eq!(flow.client.connect.as_ref().unwrap().authority, authority);
}

/// A client that knows the proxy by its address sends no SNI.
#[tokio::test]
async fn leaf_is_for_the_address_where_no_name_was_asked_for() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = client(&setup, "127.0.0.1", &[]).await;
    client.send(origin.fill(GET)).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    let info = flow.client.proxy_tls.as_ref().unwrap();
    assert_eq!((info.sni.as_deref(), names(&info.chain[0])), (None, vec!["[127, 0, 0, 1]".into()]));
}

/// What was asked for as `https`, by a client that was led here or thinks that we are the origin, never leaves in clear.
#[tokio::test]
async fn path_in_tls_with_the_proxy_is_of_an_https_url() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["127.0.0.1"], &[])).await;
    let mut client = client(&setup, PROXY, &[]).await;
    let host = origin.addr();
    client.send(format!("GET /path HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let mut server = origin.accept().await;
    assert!(server.head().await.starts_with("GET /path HTTP/1.1\r\n"));
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.url(), format!("https://{host}/path"));
}

/// A client that does not trust us, one that is gone, one that sends what is no TLS after all: each is a flow.
#[tokio::test]
async fn handshake_with_the_proxy_that_fails_is_recorded() {
    let mut setup = Setup::start().await;
    let provider = Arc::clone(setup.client_config(&[]).crypto_provider());
    let distrustful = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    assert!(handshake(setup.client().await.into_io(), distrustful.into(), PROXY).await.is_err());
    let flow = refused(&mut setup).await;
    assert_eq!(flow.client.proxy_tls.as_ref().unwrap().sni.as_deref(), Some(PROXY));

    let mut gone = setup.client().await;
    gone.send(&crate::harness::hello(PROXY, 0)[..50]).await;
    drop(gone);
    refused(&mut setup).await;

    let mut garbage = setup.client().await;
    garbage.send(b"\x16 is no TLS at all").await;
    garbage.drain().await;
    refused(&mut setup).await;
    setup.expect_alive().await;
}

async fn refused(setup: &mut Setup) -> manent::flow::Flow {
    let flow = setup.flow().await;
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.kind, flow.state), (Kind::Tls, State::Failed));
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tls));
    assert!(flow.client.proxy_tls.as_ref().unwrap().error.is_some() && flow.request.is_none());
    flow
}

/// TLS right inside of it, without a CONNECT, is no request.
#[tokio::test]
async fn second_tls_without_a_tunnel_is_refused() {
    let mut setup = Setup::start().await;
    let mut client = client(&setup, PROXY, &[]).await;
    client.send(crate::harness::hello(PROXY, 0)).await;
    client.expect_error("400 Bad Request\r\n").await;
    assert_eq!(setup.flow().await.state, State::Refused);
}
