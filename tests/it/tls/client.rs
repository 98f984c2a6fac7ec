//! The client's handshake: what it may offer, how it may fail, and what is kept between its connections.

use std::sync::Arc;

use manent::flow::{Flow, Kind, Mid, Side, Stage, State};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::identity::names;
use crate::harness::{Peer, Setup, TestCa, TlsOrigin, all, hello};

const NAME: &str = "origin.test";

/// One exchange on an open connection, and its flow.
async fn exchange(setup: &mut Setup, client: &mut Peer, server: &mut Peer, host: &str) -> Flow {
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert!(server.head().await.starts_with("GET / HTTP/1.1\r\n"));
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
    setup.flow().await
}

/// A proxy and an origin that it trusts, with certificates for `names`.
async fn start(names: &[&str], alpn: &[&str]) -> (Setup, TlsOrigin) {
    let ca = TestCa::new();
    (Setup::trusting(&ca).await, TlsOrigin::listen(ca.server_config(names, alpn)).await)
}

/// TL-12, as far as HTTP/1.1 goes: the client is offered what the origin chose, and a client that offers something else
/// alone is served without ALPN rather than refused.
#[tokio::test]
async fn client_is_offered_what_the_origin_chose() {
    for (client_offers, origin_speaks, agreed) in [
        (&["h2", "qux", "http/1.1"][..], &["http/1.1"][..], Some("http/1.1")),
        (&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &[], None),
        (&["qux", "quux"], &["http/1.1"], None),
        (&[], &["http/1.1"], None),
    ] {
        let (mut setup, origin) = start(&[NAME], origin_speaks).await;
        let authority = origin.addr().to_string();
        let (client, mut server) =
            tokio::join!(setup.tls_client(&authority, NAME, client_offers), origin.accept());
        let flow = exchange(&mut setup, &mut client.unwrap(), &mut server, NAME).await;
        let (to_client, to_server) = (flow.client.tls.as_ref().unwrap(), flow.server.as_ref().unwrap());
        let agreed = agreed.map(|agreed: &str| agreed.as_bytes());
        assert_eq!(to_client.alpn.as_deref(), agreed, "{client_offers:?} {origin_speaks:?}");
        assert_eq!(to_server.tls.as_ref().unwrap().alpn.as_deref(), agreed);
        assert_eq!(to_client.alpn_offers.len(), client_offers.len());
    }
}

/// TL-07: TLS 1.2 on the client's side, whatever the origin speaks.
#[tokio::test]
async fn tls_1_2_client_is_served() {
    let (mut setup, origin) = start(&[NAME], &[]).await;
    let mut roots = RootCertStore::empty();
    roots.add(setup.proxy.ca().cert_der().to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let authority = origin.addr().to_string();
    let (client, mut server) =
        tokio::join!(setup.tls_client_with(Arc::new(config), &authority, NAME), origin.accept());
    let flow = exchange(&mut setup, &mut client.unwrap(), &mut server, NAME).await;
    assert_eq!(flow.client.tls.as_ref().unwrap().version.as_deref(), Some("TLSv1.2"));
    assert_eq!(flow.server.as_ref().unwrap().tls.as_ref().unwrap().version.as_deref(), Some("TLSv1.3"));
}

/// TL-07: a client that speaks only what is too old hears so.
#[tokio::test]
async fn tls_1_1_client_is_told_and_recorded() {
    let (mut setup, origin) = start(&[NAME], &[]).await;
    let mut tunnel = setup.tunnel(&origin.addr().to_string()).await;
    let mut old = hello(NAME, 0);
    // supported_versions (RFC 8446 §4.2.1) with its two: 1.1 and 1.0 in place of 1.3 and 1.2.
    let versions = old.windows(5).position(|bytes| bytes == [0, 43, 0, 5, 4]).unwrap() + 5;
    old[versions..versions + 4].copy_from_slice(&[3, 2, 3, 1]);
    tunnel.send(&old).await;
    let ((alert, _), _server) = tokio::join!(tunnel.rest(), origin.try_accept());
    assert_eq!(alert[5..], [2, 70], "fatal, protocol_version");
    let message = refused(&mut setup).await.error.unwrap().message;
    assert!(message.contains("it speaks none of TLS 1.2 and 1.3"), "{message}");
}

/// TL-08, pitfall 105: the alert of a client that does not know our CA is its flow.
#[tokio::test]
async fn client_that_refuses_our_ca_is_recorded() {
    let (mut setup, origin) = start(&[NAME], &[]).await;
    let mut config = setup.client_config(&[]);
    config = {
        let provider = Arc::clone(config.crypto_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    };
    let authority = origin.addr().to_string();
    let (client, server) =
        tokio::join!(setup.tls_client_with(Arc::new(config), &authority, NAME), origin.try_accept());
    assert!(client.is_err() && server.is_ok());
    let flow = refused(&mut setup).await;
    assert!(flow.error.unwrap().message.contains("client refused our certificate"));
    let tls = flow.client.tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_deref(), tls.error.is_some()), (Some(NAME), true));
}

/// TL-08: GnuTLS closes without a word.
#[tokio::test]
async fn client_that_closes_without_an_alert_is_recorded() {
    let (mut setup, origin) = start(&[NAME], &[]).await;
    let mut tunnel = setup.tunnel(&origin.addr().to_string()).await;
    let flight = async {
        tunnel.send(hello(NAME, 0)).await;
        tunnel.read(100).await;
    };
    let ((), _server) = tokio::join!(flight, origin.try_accept());
    drop(tunnel);
    let flow = refused(&mut setup).await;
    let message = flow.error.unwrap().message;
    assert!(message.contains("client closed") || message.contains("reset"), "{message}");
}

async fn refused(setup: &mut Setup) -> Flow {
    let flow = setup.flow().await;
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.kind, flow.state), (Kind::Tls, State::Failed));
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tls));
    flow
}

/// Pitfalls 106 and 107: sessions are resumed, and only for their own name, with their own leaf.
#[tokio::test]
async fn resumed_session_is_recorded_with_the_right_leaf() {
    let (mut setup, origin) = start(&[NAME, "other.test"], &[]).await;
    let config = Arc::new(setup.client_config(&[]));
    let authority = origin.addr().to_string();
    for (name, resumed) in [(NAME, false), (NAME, true), ("other.test", false), (NAME, true)] {
        let client = setup.tls_client_with(Arc::clone(&config), &authority, name);
        let (client, server) = tokio::join!(client, origin.accept());
        let (mut client, mut server) = (client.unwrap(), server);
        let flow = exchange(&mut setup, &mut client, &mut server, name).await;
        let tls = flow.client.tls.as_ref().unwrap();
        assert_eq!((tls.resumed, tls.sni.as_deref()), (resumed, Some(name)));
        assert_eq!(names(&tls.chain[0]), [name]);
        // Tied to its client from here on, so that the next one dials.
        server.try_send("unasked").await.unwrap();
        drop(client);
        server.drain().await;
    }
}

/// A session ticket of one name is no good for another, even if a client brings it.
#[tokio::test]
async fn session_is_not_resumed_under_another_name() {
    let (mut setup, origin) = start(&[NAME, "other.test"], &[]).await;
    let sessions = Arc::new(OneName(rustls::client::ClientSessionMemoryCache::new(8)));
    let mut config = setup.client_config(&[]);
    config.resumption = rustls::client::Resumption::store(sessions);
    let (config, authority) = (Arc::new(config), origin.addr().to_string());
    for name in [NAME, "other.test"] {
        let client = setup.tls_client_with(Arc::clone(&config), &authority, name);
        let (client, mut server) = tokio::join!(client, origin.accept());
        let mut client = client.unwrap();
        let flow = exchange(&mut setup, &mut client, &mut server, name).await;
        let tls = flow.client.tls.as_ref().unwrap();
        assert_eq!((tls.resumed, names(&tls.chain[0])), (false, vec![name.to_owned()]));
    }
}

/// Gives every session out for every name.
#[derive(Debug)]
struct OneName(rustls::client::ClientSessionMemoryCache);

impl OneName {
    fn name() -> ServerName<'static> {
        ServerName::try_from("any.test").unwrap()
    }
}

impl rustls::client::ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(Self::name(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&Self::name())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: rustls::client::Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::name(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::name())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::name());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::name(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::name())
    }
}

/// TL-19: one leaf for a name, however many connections ask at once.
#[tokio::test]
async fn connections_to_one_host_share_one_leaf() {
    let (setup, origin) = start(&[NAME], &[]).await;
    let authority = origin.addr().to_string();
    let serve = async {
        for _ in 0..50 {
            let mut server = origin.accept().await;
            server.head().await;
            server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        }
    };
    let ask = |_| async {
        let mut client = setup.tls_client(&authority, NAME, &[]).await.unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
        client.drain().await;
    };
    tokio::join!(serve, all((0..50).map(ask)));
    let (_dir, config, summary) = setup.stop().await;
    assert_eq!(summary.stored, 50);
    let reader = manent::store::Reader::open(&config.store).unwrap();
    let leaf = |mid| reader.flow(Mid(mid)).unwrap().unwrap().client.tls.as_ref().unwrap().chain[0].clone();
    assert!((2..=50).all(|mid| leaf(mid) == leaf(1)));
}
