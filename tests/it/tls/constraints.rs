//! A CA that may sign for some hosts alone (RFC 5280 §4.2.1.10). Clients hold it to that, so what we could show them for any
//! other host is refused by all: such a tunnel is passed through. The clients here verify with webpki, which knows the
//! constraints.

use std::sync::Arc;

use manent::config::HostCert;
use manent::flow::{Flow, Kind, Side, Stage, State};
use manent::tls::{Ca, Constraints};
use rustls::ClientConfig;

use super::identity::names;
use crate::harness::{GET, OK, Origin, Setup, TestCa, TlsOrigin, ending, handshake};

const NAME: &str = "www.origin.test";
const REASON: &str = "the CA may not sign for this host (name constraints)";

/// A proxy whose CA signs for `only`, and an origin called [`NAME`] or 127.0.0.1.
async fn with(only: &[&str]) -> (Setup, TlsOrigin, TestCa) {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&[NAME, "127.0.0.1"], &[])).await;
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        limit(config, only);
    })
    .await;
    (setup, origin, ca)
}

fn limit(config: &manent::config::Config, only: &[&str]) {
    let only = only.iter().map(|text| text.parse().unwrap()).collect();
    Ca::create(&config.ca_dir, &Constraints::only(only)).unwrap();
}

/// One exchange by a client that asks for `name` and trusts `trusted` alone, and its flow.
async fn exchange(setup: &mut Setup, origin: &TlsOrigin, name: &str, trusted: ClientConfig) -> Flow {
    let authority = origin.addr().to_string();
    let client = setup.tls_client_with(Arc::new(trusted), &authority, name);
    let (client, mut server) = tokio::join!(client, origin.accept());
    let mut client = client.unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    drop((client, server));
    setup.flow().await
}

#[tokio::test]
async fn host_within_the_constraints_is_intercepted() {
    for (only, name) in [
        (&["origin.test"][..], NAME),
        (&[NAME, "10.0.0.0/8"], NAME),
        (&["127.0.0.0/8"], "127.0.0.1"),
        (&["a.test", "127.0.0.1"], "127.0.0.1"),
    ] {
        let (mut setup, origin, _ca) = with(only).await;
        let trusted = setup.client_config(&[]);
        let flow = exchange(&mut setup, &origin, name, trusted).await;
        assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete), "{only:?}");
        let chain = &flow.client.tls.as_ref().unwrap().chain;
        let shown = if name == NAME { NAME } else { "[127, 0, 0, 1]" };
        assert_eq!(names(&chain[0]), [shown]);
    }
}

#[tokio::test]
async fn host_outside_of_the_constraints_shows_its_own_certificate() {
    for (only, name) in [
        (&["other.test"][..], NAME),
        (&["x.www.origin.test"], NAME),
        (&["127.0.0.0/8"], NAME),
        (&["origin.test"], "127.0.0.1"),
        (&["::1"], "127.0.0.1"),
    ] {
        let (mut setup, origin, ca) = with(only).await;
        let flow = exchange(&mut setup, &origin, name, ca.client_config()).await;
        assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete), "{only:?}");
        let tunnel = flow.tunnel.as_ref().unwrap();
        assert_eq!(tunnel.reason, REASON);
        assert!(tunnel.from_server.as_inline().unwrap().starts_with(&[0x16, 3]), "nothing in clear");
    }
}

/// What is not TLS needs no certificate.
#[tokio::test]
async fn clear_text_in_a_tunnel_is_recorded_whatever_the_constraints() {
    let mut setup = Setup::with(|config| limit(config, &["other.test"])).await;
    let origin = Origin::listen().await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.kind, Kind::Http);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.kind, Kind::Http);
}

/// A certificate of the user's own is shown where the CA may not sign.
#[tokio::test]
async fn host_with_a_certificate_of_its_own_is_intercepted() {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[])).await;
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        limit(config, &["other.test"]);
        let pem = config.store.with_file_name("given.pem");
        std::fs::write(&pem, ca.pem_for(&[NAME])).unwrap();
        config.certs.push(HostCert { host: Some(NAME.to_owned()), pem });
    })
    .await;
    let flow = exchange(&mut setup, &origin, NAME, ca.client_config()).await;
    assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete));
}

/// Nobody is behind the proxy itself to whom it could be passed through.
#[tokio::test]
async fn tls_with_the_proxy_by_a_name_outside_fails_and_says_why() {
    let (mut setup, _origin, _ca) = with(&["origin.test"]).await;
    let config = Arc::new(setup.client_config(&[]));
    let refused = handshake(setup.client().await.into_io(), config, "proxy.test").await;
    assert!(refused.is_err());
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Tls, State::Failed));
    let error = flow.error.unwrap();
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tls));
    assert_eq!(
        error.message,
        "the CA may not sign for proxy.test, but for origin.test (its name constraints)"
    );
}

/// No client would take what we could show it for the setup page: it is told so before TLS, where it can be told, and the page
/// in clear does not say of who trusts the CA that he does not.
#[tokio::test]
async fn the_setup_page_is_there_in_clear_alone() {
    let (mut setup, _origin, _ca) = with(&["origin.test", "10.0.0.0/8"]).await;
    let mut client = setup.client().await;
    client.send("CONNECT manent:443 HTTP/1.1\r\nHost: manent:443\r\n\r\n").await;
    let answer = client.expect_error("400").await;
    let told = "manent is this proxy itself, and its CA may sign for origin.test, 10.0.0.0/8 alone; its own page is http://manent/\n";
    assert!(answer.ends_with(told), "{answer}");
    let flow = setup.flow().await;
    assert_eq!(
        (flow.kind, ending(&flow)),
        (Kind::Connect, (State::Refused, Some((Side::Proxy, Stage::Target))))
    );
    assert!(flow.server.is_none());

    for request in [
        "GET http://manent/ HTTP/1.1\r\nHost: manent\r\nConnection: close\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", setup.proxy.addr()),
    ] {
        let mut client = setup.client().await;
        client.send(request).await;
        let page = String::from_utf8(client.rest().await.0).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(
            page.contains("This certificate is good for origin.test, 10.0.0.0/8 and nothing else"),
            "{page}"
        );
        assert!(!page.contains("<object") && page.contains("object-src 'none'"), "{page}");
    }
}

/// With its name among those that the CA signs for, or a certificate for it, it is there as ever.
#[tokio::test]
async fn the_setup_page_is_there_in_tls_where_its_name_may_be_signed() {
    let (setup, _origin, _ca) = with(&["origin.test", "manent"]).await;
    let mut client = setup.tls_client("manent:443", "manent", &[]).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: manent\r\nConnection: close\r\n\r\n").await;
    let page = String::from_utf8(client.rest().await.0).unwrap();
    assert!(page.contains("data=\"https://manent/trusted.svg\""), "{page}");
}
