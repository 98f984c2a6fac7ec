//! The reverse proxy (wire cases CN-26 and CN-27): clients take us for the origin.

use manent::config::Config;
use manent::flow::{Flow, Kind, Scheme, Side, Stage, State};
use manent::proxy::Mode;

use super::reverse_to;
use crate::harness::h2::H2;
use crate::harness::{
    OK, Origin, Setup, TestCa, TlsOrigin, accepting, ending, fill, frame, handshake, masked, opening,
};

fn keep_host(config: &mut Config) {
    for listen in &mut config.listen {
        if let Mode::Reverse(reverse) = &mut listen.mode {
            reverse.keep_host = true;
        }
    }
}

/// What is true of each record.
fn check(flow: &Flow, scheme: Scheme, origin: &Origin) {
    assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete));
    assert_eq!(
        (flow.target.scheme, &*flow.target.host, flow.target.port),
        (scheme, "localhost", origin.addr().port())
    );
    assert_eq!((&*flow.client.mode, &flow.client.connect), ("reverse", &None));
}

/// CN-26: whatever host the client names, the origin reads its own; `--keep-host` leaves the client's.
#[tokio::test]
async fn host_becomes_the_origins_unless_it_is_kept() {
    for keep in [false, true] {
        let origin = Origin::listen().await;
        let change = if keep { keep_host } else { |_: &mut Config| {} };
        let mut setup = reverse_to("http", &origin, change).await;
        let own = format!("localhost:{}", origin.addr().port());
        let mut client = setup.client().await;
        let mut server = None;
        for (line, host, path, kept) in [
            ("GET /a?b HTTP/1.1", "Host: example.com\r\n", "/a?b", "example.com"),
            ("GET http://other.test/c HTTP/1.1", "Host: example.com\r\n", "/c", "other.test"),
            ("OPTIONS * HTTP/1.1", "Host: example.com\r\n", "*", "example.com"),
            ("GET / HTTP/1.0", "Connection: keep-alive\r\n", "/", &*own),
        ] {
            client.send(format!("{line}\r\n{host}\r\n")).await;
            if server.is_none() {
                server = Some(origin.accept().await);
            }
            let server = server.as_mut().unwrap();
            let method = line.split(' ').next().unwrap();
            let host = if keep { kept } else { &*own };
            server.expect(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            server.send(OK).await;
            client.head().await;
            client.expect("ok").await;
            check(&setup.flow().await, Scheme::Http, &origin);
        }
    }
}

/// In TLS a client gets a leaf for the name that it asks for, or the address that it came to; the origin is verified by its
/// own name; what it chose is what the client is offered.
#[tokio::test]
async fn client_in_tls_gets_a_leaf_and_what_the_origin_chose() {
    let ca = TestCa::new();
    for (name, offers, chosen, expected) in [
        ("api.test", &["http/1.1"][..], &["http/1.1"][..], Some("http/1.1")),
        ("127.0.0.1", &["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        ("api.test", &["h2", "http/1.1"], &[], None),
    ] {
        let origin = TlsOrigin::listen(ca.server_config(&["localhost"], chosen)).await;
        let mut setup = reverse_to("https", &origin.origin, |config| ca.trusted_by(config)).await;
        let config = setup.client_config(offers).into();
        let (client, server) =
            tokio::join!(handshake(setup.client().await.into_io(), config, name), origin.accept());
        let (mut client, mut server) = (client.unwrap(), server);
        client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
        let own = format!("localhost:{}", origin.addr().port());
        server.expect(format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n")).await;
        server.send(OK).await;
        client.expect(OK).await;
        let flow = setup.flow().await;
        check(&flow, Scheme::Https, &origin.origin);
        let (near, far) =
            (flow.client.tls.as_ref().unwrap(), flow.server.as_ref().unwrap().tls.as_ref().unwrap());
        assert_eq!(near.alpn.as_deref(), expected.map(str::as_bytes));
        assert_eq!(far.sni.as_deref(), Some("localhost"));
        assert!(far.verified && flow.client.proxy_tls.is_none());
    }
}

/// HTTP/2, whatever stands on the other side: an origin in TLS that speaks it, one in clear that a client in clear knows
/// to speak it, and one in clear behind a client in TLS, which is spoken to in HTTP/1.1.
#[tokio::test]
async fn http2_clients_are_served() {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&["localhost"], &["h2"])).await;
    let mut setup = reverse_to("https", &origin.origin, |config| ca.trusted_by(config)).await;
    let own = format!("localhost:{}", origin.addr().port());
    let config = setup.client_config(&["h2"]).into();
    let (client, server) =
        tokio::join!(handshake(setup.client().await.into_io(), config, "api.test"), origin.h2());
    let mut client = H2::client(client.unwrap()).await;
    served_over_http2(&mut client, server, "api.test", &own).await;
    check(&setup.flow().await, Scheme::Https, &origin.origin);

    let mut client = H2::client(setup.client().await).await;
    let server = origin.h2().await;
    served_over_http2(&mut client, server, "127.0.0.1", &own).await;
    check(&setup.flow().await, Scheme::Https, &origin.origin);

    let origin = Origin::listen().await;
    let own = format!("localhost:{}", origin.addr().port());
    let mut setup = reverse_to("http", &origin, |_| {}).await;
    let mut client = H2::client(setup.client().await).await;
    let server = H2::server(origin.accept().await).await;
    served_over_http2(&mut client, server, "127.0.0.1", &own).await;
    check(&setup.flow().await, Scheme::Http, &origin);

    let config = setup.client_config(&["h2", "http/1.1"]).into();
    let tls = handshake(setup.client().await.into_io(), config, "api.test").await.unwrap();
    let mut client = H2::client(tls).await;
    client.origin = ("https", "api.test".into());
    client.get(1, "/").await;
    let mut server = origin.accept().await;
    server.expect(format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n")).await;
    server.send(OK).await;
    client.expect_ok(1).await;
    check(&setup.flow().await, Scheme::Http, &origin);
}

/// A request on stream 1 whose host is not the origin's.
async fn served_over_http2(client: &mut H2, mut server: H2, host: &str, own: &str) {
    client.origin = ("https", host.into());
    client.get(1, "/").await;
    let head = server.request().await;
    assert_eq!((head.get(":authority"), head.has("host")), (own, false));
    server.ok(head.stream).await;
    client.expect_ok(1).await;
}

/// A client in clear reaches an origin in TLS.
#[tokio::test]
async fn client_in_clear_reaches_an_origin_in_tls() {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&["localhost"], &["http/1.1"])).await;
    let mut setup = reverse_to("https", &origin.origin, |config| ca.trusted_by(config)).await;
    let mut client = setup.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    check(&setup.flow().await, Scheme::Https, &origin.origin);
}

/// A WebSocket passes as in any other way, also through an upstream proxy, which cannot forward it.
#[tokio::test]
async fn websockets_pass() {
    for through_proxy in [false, true] {
        let origin = Origin::listen().await;
        let url = format!("http://{}", origin.addr());
        let mut setup = reverse_to("http", &origin, |config| {
            if through_proxy {
                config.via = Some(manent::upstream::Via::new(url.parse().unwrap(), Default::default()));
            }
        })
        .await;
        let mut client = setup.client().await;
        client.send(fill(opening("/chat").as_bytes(), setup.proxy.addr())).await;
        let mut server = origin.accept().await;
        if through_proxy {
            server.expect("CONNECT localhost:").await;
            server.head().await;
            server.send("HTTP/1.1 200 OK\r\n\r\n").await;
        }
        assert!(server.head().await.starts_with("GET /chat HTTP/1.1\r\nHost: localhost:"));
        server.send(accepting("")).await;
        client.head().await;
        client.send(masked(0x81, "hello")).await;
        server.expect(masked(0x81, "hello")).await;
        server.send(frame(0x81, "you")).await;
        client.expect(frame(0x81, "you")).await;
        drop((client, server));
        let flow = setup.flow().await;
        assert!(flow.websocket.is_some() && flow.client.mode == "reverse");
    }
}

/// CN-27, pitfall 57: an origin that is down, or not who it should be, is told to each request, in clear and in TLS.
#[tokio::test]
async fn origin_that_cannot_be_used_is_told_in_what_the_client_speaks() {
    let closed = Origin::listen().await;
    let mut setup = reverse_to("http", &closed, |_| {}).await;
    drop(closed);
    let mut client = setup.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.expect_error("502").await;
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Connect))));

    // Nobody vouches for this one.
    let origin = TlsOrigin::listen(TestCa::new().server_config(&["localhost"], &[])).await;
    let mut setup = reverse_to("https", &origin.origin, |_| {}).await;
    let config = setup.client_config(&["http/1.1"]).into();
    let (client, server) =
        tokio::join!(handshake(setup.client().await.into_io(), config, "api.test"), origin.try_accept());
    assert!(server.is_err());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    client.expect_error("502").await;
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Tls))));
}

/// A client that takes us for a proxy is told otherwise; nothing is dialled for it.
#[tokio::test]
async fn connect_is_refused() {
    let origin = Origin::listen().await;
    let mut setup = reverse_to("http", &origin, |_| {}).await;
    let mut client = setup.client().await;
    client.send("CONNECT o.test:443 HTTP/1.1\r\nHost: o.test:443\r\n\r\n").await;
    client.expect_error("400").await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Connect, State::Refused));
    origin.expect_nobody();
}

/// A reverse proxy for itself is refused by address.
#[tokio::test]
async fn reverse_proxy_of_itself_is_a_loop() {
    let free = Origin::listen().await.addr().port();
    let listen = format!("reverse:http://localhost:{free}@127.0.0.1:{free}");
    let mut setup = Setup::with(|config| config.listen = vec![listen.parse().unwrap()]).await;
    let mut client = setup.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(client.expect_error("400").await.contains("is this proxy itself"));
    assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Proxy, Stage::Target))));
}

/// What a client that does not trust us does is recorded; a connection without a word is not.
#[tokio::test]
async fn handshake_that_fails_is_recorded() {
    let origin = Origin::listen().await;
    let mut setup = reverse_to("http", &origin, |_| {}).await;
    drop(setup.client().await);
    let config = TestCa::new().client_config().into();
    assert!(handshake(setup.client().await.into_io(), config, "api.test").await.is_err());
    let flow = setup.flow().await;
    assert_eq!((flow.kind, ending(&flow)), (Kind::Tls, (State::Failed, Some((Side::Client, Stage::Tls)))));
    assert_eq!(flow.client.tls.as_ref().unwrap().sni.as_deref(), Some("api.test"));
    origin.expect_nobody();
}
