//! Tunnels that are passed through: by `--ignore-host` and `--allow-host` (TL-14, TL-15), and where a client does not accept
//! our certificate (TL-08, pitfall 105).

use std::sync::Arc;

use manent::config::Config;
use manent::flow::{Flow, Kind, Side, Stage, State};
use rustls::{ClientConfig, RootCertStore};

use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin};

const NAME: &str = "origin.test";
const ASK: &str = "GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n";

/// A proxy with these patterns, in which `{port}` is the origin's.
async fn with(ignore: &[&str], allow: &[&str]) -> (Setup, TlsOrigin, TestCa) {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[])).await;
    let port = origin.addr().port().to_string();
    let patterns =
        |texts: &[&str]| texts.iter().map(|text| text.replace("{port}", &port).parse().unwrap()).collect();
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.passthrough.ignore = patterns(ignore);
        config.passthrough.allow = patterns(allow);
    })
    .await;
    (setup, origin, ca)
}

/// One exchange by a client that trusts `trusted`, and its flow.
async fn exchange(setup: &mut Setup, origin: &TlsOrigin, trusted: ClientConfig) -> Flow {
    let authority = origin.addr().to_string();
    let client = setup.tls_client_with(Arc::new(trusted), &authority, NAME);
    let (client, mut server) = tokio::join!(client, origin.accept());
    let mut client = client.unwrap();
    client.send(ASK).await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    drop((client, server));
    setup.flow().await
}

fn passed(flow: &Flow, reason: &str) {
    assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete));
    let tunnel = flow.tunnel.as_ref().unwrap();
    assert_eq!(tunnel.reason, reason);
    // TLS from end to end: a ClientHello one way, a ServerHello the other, and nothing in clear.
    assert!(tunnel.from_client.as_inline().unwrap().starts_with(&[0x16, 3]));
    assert!(tunnel.from_server.as_inline().unwrap().starts_with(&[0x16, 3]));
    let tls = flow.client.tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_deref(), tls.version.as_deref()), (Some(NAME), None));
    assert!(!tls.cipher_offers.is_empty() && tls.chain.is_empty());
}

/// TL-14: by the address in the CONNECT, by the SNI, with and without the port.
#[tokio::test]
async fn ignored_host_shows_its_own_certificate() {
    for pattern in ["127.0.0.1", r"^127\.0\.0\.1:{port}$", "ORIGIN.test", r"^origin\.test:{port}$"] {
        let (mut setup, origin, ca) = with(&[pattern], &[]).await;
        let flow = exchange(&mut setup, &origin, ca.client_config()).await;
        passed(&flow, "--ignore-host");
    }
}

/// TL-14: another port, another name.
#[tokio::test]
async fn host_that_no_pattern_matches_is_intercepted() {
    let (mut setup, origin, _ca) = with(&["origin.test:1$", "other.test"], &[]).await;
    let trusted = setup.client_config(&[]);
    let flow = exchange(&mut setup, &origin, trusted).await;
    assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete));
}

/// TL-15: what is listed is intercepted, by whichever of its names; what is not, or is ignored as well, is not.
#[tokio::test]
async fn hosts_that_are_not_allowed_are_passed_through_and_ignored_wins() {
    let (mut setup, origin, _ca) = with(&[], &["origin.test"]).await;
    let trusted = setup.client_config(&[]);
    assert_eq!(exchange(&mut setup, &origin, trusted).await.kind, Kind::Http);
    let (mut setup, origin, ca) = with(&[], &["other.test"]).await;
    passed(&exchange(&mut setup, &origin, ca.client_config()).await, "not in --allow-host");
    let (mut setup, origin, ca) = with(&["origin"], &["origin.test"]).await;
    passed(&exchange(&mut setup, &origin, ca.client_config()).await, "--ignore-host");
}

/// TL-14: the decision waits for a whole ClientHello, and then nothing is missing.
#[tokio::test]
async fn ignored_hello_that_comes_bytewise_is_passed_on_whole() {
    let (mut setup, origin, _ca) = with(&["origin.test"], &[]).await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    let hello = crate::harness::hello(NAME, 0);
    client.trickle(&hello).await;
    let mut server = origin.origin.accept().await;
    server.expect(&hello).await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(flow.tunnel.unwrap().from_client.as_inline().unwrap()[..], hello[..]);
}

/// TL-14: HTTP in clear inside a tunnel, by its Host field, however slowly that comes.
#[tokio::test]
async fn ignored_host_in_clear_is_passed_through() {
    for (host, kind) in [("plain.test", Kind::Tunnel), ("plain.test:80", Kind::Http), ("b.test", Kind::Http)]
    {
        let origin = Origin::listen().await;
        let port = origin.addr().port();
        let mut setup = Setup::with(|config| {
            config.passthrough.ignore = vec![format!("^plain.test:{port}$").parse().unwrap()];
        })
        .await;
        let mut client = setup.tunnel(&origin.addr().to_string()).await;
        let request = format!("GET / HTTP/1.1\r\nX: y\r\nhost:  {host}\r\n\r\n");
        client.trickle(&request).await;
        let mut server = origin.accept().await;
        assert!(server.head().await.contains(host));
        server.send(OK).await;
        client.expect(OK).await;
        drop((client, server));
        let flow = setup.flow().await;
        assert_eq!(flow.kind, kind, "{host}");
        if let Some(tunnel) = &flow.tunnel {
            assert_eq!(tunnel.from_client.as_inline().unwrap()[..], *request.as_bytes());
        }
    }
}

/// A request that names its origin to the proxy has to be read to be sent anywhere, and is recorded as ever.
#[tokio::test]
async fn ignored_host_without_a_tunnel_is_read_all_the_same() {
    let mut setup = Setup::with(|config| config.passthrough.ignore = vec![".".parse().unwrap()]).await;
    assert_eq!(setup.expect_alive().await.kind, Kind::Http);
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
}

/// A client that trusts nobody.
fn distrustful(setup: &Setup) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::clone(setup.client_config(&[]).crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// A client's handshake with this configuration. The origin may be dialled for it, or reached by a connection that an
/// earlier client has left.
async fn connect(setup: &Setup, origin: &TlsOrigin, config: ClientConfig) -> std::io::Result<Peer> {
    let authority = origin.addr().to_string();
    let mut client = Box::pin(setup.tls_client_with(Arc::new(config), &authority, NAME));
    tokio::select! {
        client = &mut client => client,
        _server = origin.try_accept() => client.await,
    }
}

/// A client refuses our certificate in the handshake.
async fn reject(setup: &mut Setup, origin: &TlsOrigin) {
    assert!(connect(setup, origin, distrustful(setup)).await.is_err());
    is_rejection(&setup.flow().await);
}

fn is_rejection(flow: &Flow) {
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.kind, flow.state), (Kind::Tls, State::Failed), "{error:?}");
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tls), "{error:?}");
}

async fn automatic(change: impl FnOnce(&mut Config)) -> (Setup, TlsOrigin, TestCa) {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[])).await;
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        change(config);
    })
    .await;
    (setup, origin, ca)
}

/// TL-08, pitfall 105: at the third try, a client that pins its certificates gets through.
#[tokio::test]
async fn client_that_rejects_our_certificate_twice_is_passed_through() {
    let (mut setup, origin, ca) = automatic(|_| {}).await;
    reject(&mut setup, &origin).await;
    reject(&mut setup, &origin).await;
    passed(&exchange(&mut setup, &origin, ca.client_config()).await, "the client rejected our certificate");
}

/// The same for one that looks at the certificate after the handshake, and leaves without a word.
#[tokio::test]
async fn client_that_leaves_right_after_the_handshake_is_recorded_and_passed_through() {
    let (mut setup, origin, ca) = automatic(|_| {}).await;
    for _ in 0..2 {
        let mut client = connect(&setup, &origin, setup.client_config(&[])).await.unwrap();
        client.half_close().await;
        drop(client);
        let flow = setup.flow().await;
        is_rejection(&flow);
        assert!(flow.error.unwrap().message.contains("right after the handshake"));
    }
    passed(&exchange(&mut setup, &origin, ca.client_config()).await, "the client rejected our certificate");
}

/// A browser opens connections ahead and closes those that it does not need: it has accepted our certificate on others, so
/// that says nothing, and nothing is recorded of it.
#[tokio::test]
async fn connections_that_are_not_needed_are_no_rejections() {
    let (mut setup, origin, _ca) = automatic(|_| {}).await;
    let trusted = setup.client_config(&[]);
    assert_eq!(exchange(&mut setup, &origin, trusted.clone()).await.kind, Kind::Http);
    for with_close_notify in [true, false, true] {
        let mut client = connect(&setup, &origin, setup.client_config(&[])).await.unwrap();
        if with_close_notify {
            client.half_close().await;
        }
        drop(client);
    }
    assert_eq!(exchange(&mut setup, &origin, trusted).await.kind, Kind::Http);
    setup.expect_flows(2).await;
}

/// It also opens some side by side, and leaves all but one before that one has said anything.
#[tokio::test]
async fn connections_that_are_left_before_another_is_used_are_no_rejections() {
    for automatically in [true, false] {
        let (mut setup, origin, _ca) = automatic(|config| config.passthrough.automatic = automatically).await;
        let authority = origin.addr().to_string();
        let trusted = Arc::new(setup.client_config(&[]));
        let used = setup.tls_client_with(trusted, &authority, NAME);
        let (used, mut server) = tokio::join!(used, origin.accept());
        let mut used = used.unwrap();
        for _ in 0..2 {
            drop(connect(&setup, &origin, setup.client_config(&[])).await.unwrap());
        }
        // Meanwhile the proxy sees that they are gone.
        setup.expect_alive().await;
        used.send(ASK).await;
        server.head().await;
        server.send(OK).await;
        used.expect(OK).await;
        drop((used, server));
        assert_eq!(setup.flow().await.kind, Kind::Http);
        let trusted = setup.client_config(&[]);
        assert_eq!(exchange(&mut setup, &origin, trusted).await.kind, Kind::Http);
        setup.expect_flows(3).await;
    }
}

/// A client that says so with an alert is believed all the same: it may be another program on the same machine.
#[tokio::test]
async fn alert_is_a_rejection_also_where_others_accept() {
    let (mut setup, origin, ca) = automatic(|_| {}).await;
    let trusted = setup.client_config(&[]);
    exchange(&mut setup, &origin, trusted).await;
    reject(&mut setup, &origin).await;
    reject(&mut setup, &origin).await;
    passed(&exchange(&mut setup, &origin, ca.client_config()).await, "the client rejected our certificate");
}

/// OkHttp looks at pins when the handshake is over, whatever protocol was agreed on, and closes in order; in TLS 1.2 it then
/// comes back with the session of the connection that it has refused.
#[tokio::test]
async fn client_that_pins_after_the_handshake_is_passed_through() {
    for (alpn, versions) in [
        ("h2", &[&rustls::version::TLS13][..]),
        ("h2", &[&rustls::version::TLS12]),
        ("http/1.1", &[&rustls::version::TLS12]),
    ] {
        let (mut setup, _, ca) = automatic(|_| {}).await;
        let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[alpn])).await;
        let mut roots = RootCertStore::empty();
        roots.add(setup.proxy.ca().cert_der().to_vec().into()).unwrap();
        let provider = Arc::clone(setup.client_config(&[]).crypto_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        for resumed in [false, versions == [&rustls::version::TLS12]] {
            let mut client = connect(&setup, &origin, config.clone()).await.unwrap();
            client.half_close().await;
            drop(client);
            let flow = setup.flow().await;
            is_rejection(&flow);
            let tls = flow.client.tls.as_ref().unwrap();
            assert_eq!((tls.alpn.as_deref(), tls.resumed), (Some(alpn.as_bytes()), resumed));
        }
        let mut trusting = ca.client_config();
        trusting.alpn_protocols = vec![alpn.into()];
        let authority = origin.addr().to_string();
        let client = setup.tls_client_with(Arc::new(trusting), &authority, NAME);
        let (client, server) = tokio::join!(client, origin.accept());
        drop((client.unwrap(), server));
        assert_eq!(setup.flow().await.kind, Kind::Tunnel);
    }
}

/// One rejection and a request that went well are no reason.
#[tokio::test]
async fn accepted_certificate_clears_the_count() {
    let (mut setup, origin, _ca) = automatic(|_| {}).await;
    for _ in 0..2 {
        reject(&mut setup, &origin).await;
        let mut client = connect(&setup, &origin, setup.client_config(&[])).await.unwrap();
        client.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
        client.expect_error("421 ").await;
        assert_eq!(setup.flow().await.kind, Kind::Http);
    }
}

/// `--no-auto-passthrough`.
#[tokio::test]
async fn rejections_lead_nowhere_where_that_is_switched_off() {
    let (mut setup, origin, _ca) = automatic(|config| config.passthrough.automatic = false).await;
    for _ in 0..4 {
        reject(&mut setup, &origin).await;
    }
}
