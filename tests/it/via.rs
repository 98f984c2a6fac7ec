//! Upstream proxies (`--via`): what they are sent, what of it is recorded, and what is said when they say no
//! (wire cases CN-13 to CN-18; pitfalls 3, 20, 117).

use std::net::SocketAddr;

use manent::config::Config;
use manent::flow::{Flow, Kind, Scheme, Side, Stage, State};
use manent::upstream::Via;

use crate::harness::{OK, Origin, Peer, Setup, TestCa, accepting, ending, frame, masked, opening, serve_tls};

/// `user:pass` as it is sent, and as it must be nowhere else.
const BASIC: &str = "dXNlcjpwYXNz";

/// Makes a proxy reach origins through `url`, but for those in `except`.
fn via(config: &mut Config, url: &str, except: &str) {
    config.via = Some(Via::new(url.parse().unwrap(), except.parse().unwrap()));
}

/// A proxy, and the upstream proxy that the test plays.
async fn setup(scheme: &str, credentials: &str) -> (Setup, Origin) {
    let parent = Origin::listen().await;
    let url = format!("{scheme}://{credentials}{}", parent.addr());
    (Setup::with(|config| via(config, &url, "")).await, parent)
}

/// What must be true of each record of a flow that went through it.
fn check_via(flow: &Flow, scheme: &str, parent: SocketAddr) {
    let server = flow.server.as_ref().unwrap();
    let via = server.via.as_ref().unwrap();
    assert_eq!((via.scheme.as_str(), via.address.to_string()), (scheme, parent.to_string()));
    assert!(!format!("{flow:?}").contains(BASIC));
}

/// CN-13, pitfalls 3 and 20: a plain request goes with its whole URL, our credentials, and none of the client's; so does
/// the next on the same connection. The record has the client's request.
#[tokio::test]
async fn plain_requests_go_with_their_whole_url() {
    let (mut setup, parent) = setup("http", "user:pass@").await;
    let mut client = setup.client().await;
    let mut server = None;
    for (target, host, expected, expected_host) in [
        ("http://o.test/a?b", "o.test", "http://o.test/a?b", "o.test"),
        ("http://o.test:80/", "other.test", "http://o.test:80/", "o.test:80"),
        ("/path", "o.test", "http://o.test/path", "o.test"),
        ("http://O.test?q", "o.test", "http://O.test/?q", "o.test"),
    ] {
        let fields = format!("Host: {host}\r\nProxy-Authorization: Basic bWluZTptaW5l\r\nX: 1\r\n");
        client.send(format!("GET {target} HTTP/1.1\r\n{fields}\r\n")).await;
        if server.is_none() || target.contains('O') {
            server = Some(parent.accept().await);
        }
        let server = server.as_mut().unwrap();
        let auth = format!("X: 1\r\nProxy-Authorization: Basic {BASIC}\r\n");
        server.expect(format!("GET {expected} HTTP/1.1\r\nHost: {expected_host}\r\n{auth}\r\n")).await;
        server.send(OK).await;
        client.expect(OK).await;
        let flow = setup.flow().await;
        assert_eq!(
            (flow.state, flow.request.as_ref().unwrap().target.as_ref()),
            (State::Complete, target.as_bytes())
        );
        assert_eq!(flow.server.as_ref().unwrap().address.host.to_ascii_lowercase(), "o.test");
        check_via(&flow, "http", parent.addr());
    }
}

/// `OPTIONS *` has its own absolute form (RFC 9112 §3.2.4).
#[tokio::test]
async fn options_of_a_whole_server_goes_without_a_path() {
    let (setup, parent) = setup("http", "").await;
    let mut client = setup.client().await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: o.test:81\r\n\r\n").await;
    parent.accept().await.expect("OPTIONS http://o.test:81 HTTP/1.1\r\nHost: o.test:81\r\n\r\n").await;
}

/// CN-14 to CN-16: TLS goes through a tunnel of the proxy's; the certificate is the origin's, and inside requests are as
/// ever.
#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let ca = TestCa::new();
    let parent = Origin::listen().await;
    let url = format!("http://user:pass@{}", parent.addr());
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        via(config, &url, "");
    })
    .await;
    for (authority, name) in [("origin.test:443", "origin.test"), ("[2001:db8::1]:8443", "origin.test")] {
        let client = async {
            let tunnel = setup.tunnel(authority).await;
            setup.tls_over(tunnel, name, &["http/1.1"]).await.unwrap()
        };
        let server = async {
            let mut server = parent.accept().await;
            let auth = format!("Proxy-Authorization: Basic {BASIC}\r\n");
            server.expect(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{auth}\r\n")).await;
            server.send("HTTP/1.1 200 OK\r\nVia: 1.1 parent\r\n\r\n").await;
            serve_tls(server, ca.server_config(&["origin.test"], &["http/1.1"])).await.unwrap()
        };
        let (mut client, mut server) = tokio::join!(client, server);
        let request = "GET /in HTTP/1.1\r\nHost: origin.test\r\n\r\n";
        client.send(request).await;
        server.expect(request).await;
        server.send(OK).await;
        client.expect(OK).await;
        let flow = setup.flow().await;
        assert_eq!((flow.kind, flow.state, flow.target.scheme), (Kind::Http, State::Complete, Scheme::Https));
        assert!(flow.server.as_ref().unwrap().tls.as_ref().unwrap().verified);
        check_via(&flow, "http", parent.addr());
    }
}

/// The first bytes of a server that speaks first may come with the proxy's answer; none is lost.
#[tokio::test]
async fn what_comes_with_the_tunnel_is_not_lost() {
    let (mut setup, parent) = setup("http", "").await;
    let authority = "mail.test:25";
    let mut client = setup.client().await;
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
    let mut server = parent.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\n\r\n220 hello").await;
    client.expect("HTTP/1.1 200 Connection established\r\n\r\n220 hello").await;
    client.send("QUIT\r\n").await;
    server.expect("QUIT\r\n").await;
    server.send("221 bye").await;
    client.expect("221 bye").await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete));
    check_via(&flow, "http", parent.addr());
}

/// No proxy forwards what is no HTTP any more: a WebSocket to an `http` URL goes through a tunnel, also where the client
/// has a connection that forwards.
#[tokio::test]
async fn websockets_go_through_a_tunnel() {
    let (mut setup, parent) = setup("http", "").await;
    let addr = "127.0.0.1:81".parse().unwrap();
    let mut client = setup.client().await;
    client.send(crate::harness::fill(crate::harness::GET.as_bytes(), addr)).await;
    let mut forwarding = parent.accept().await;
    forwarding.expect("GET http://127.0.0.1:81/ HTTP/1.1\r\n").await;
    forwarding.head().await;
    forwarding.send(OK).await;
    client.expect(OK).await;
    client.send(crate::harness::fill(opening("/chat").as_bytes(), addr)).await;
    let mut server = parent.accept().await;
    server.expect("CONNECT 127.0.0.1:81 HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n").await;
    server.send("HTTP/1.1 200 OK\r\n\r\n").await;
    assert!(server.head().await.starts_with("GET /chat HTTP/1.1\r\n"));
    server.send(accepting("")).await;
    client.head().await;
    client.send(masked(0x81, "hello")).await;
    server.expect(masked(0x81, "hello")).await;
    server.send(frame(0x81, "you")).await;
    client.expect(frame(0x81, "you")).await;
    drop((client, server));
    let first = setup.flow().await;
    let second = setup.flow().await;
    assert!(first.websocket.is_none() && second.websocket.is_some());
    check_via(&second, "http", parent.addr());
}

/// CN-17, pitfall 117: what the proxy refuses is told as ours, with its words; its 407 is never the client's.
#[tokio::test]
async fn what_the_proxy_refuses_is_a_bad_gateway() {
    let (mut setup, parent) = setup("http", "").await;
    let asks = "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let no = "HTTP/1.1 403 Not You\r\nContent-Length: 0\r\n\r\n";
    for (request, answer, stage, told) in [
        (
            "CONNECT o.test:443 HTTP/1.1\r\nHost: o.test:443\r\n\r\n",
            asks,
            Stage::Connect,
            "wants credentials: 407 Who",
        ),
        (
            "GET http://o.test/ HTTP/1.1\r\nHost: o.test\r\n\r\n",
            asks,
            Stage::ResponseHead,
            "wants credentials: 407 Who",
        ),
        (
            "CONNECT o.test:443 HTTP/1.1\r\nHost: o.test:443\r\n\r\n",
            no,
            Stage::Connect,
            "refused to connect to o.test:443: 403 Not You",
        ),
    ] {
        let mut client = setup.client().await;
        client.send(request).await;
        let mut server = parent.accept().await;
        server.head().await;
        server.send(answer).await;
        let answer = client.expect_error("502").await;
        assert!(answer.contains(&format!("upstream proxy http://{} {told}", parent.addr())), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("proxy-authenticate"), "{answer}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, stage))));
        check_via(&flow, "http", parent.addr());
    }
    // Its other answers to plain requests pass for the origin's: nothing tells them apart.
    let mut client = setup.client().await;
    client.send("GET http://o.test/ HTTP/1.1\r\nHost: o.test\r\n\r\n").await;
    let mut server = parent.accept().await;
    server.head().await;
    server.send(no).await;
    client.expect(no).await;
}

/// A proxy that is not there, or is none, is named.
#[tokio::test]
async fn proxy_that_cannot_be_used_is_named() {
    let parent = Origin::listen().await;
    let addr = parent.addr();
    drop(parent);
    let mut setup = Setup::with(|config| via(config, &format!("socks5://{addr}"), "")).await;
    let mut client = setup.client().await;
    client.send("GET http://o.test/ HTTP/1.1\r\nHost: o.test\r\n\r\n").await;
    let answer = client.expect_error("502").await;
    let told =
        format!("manent: upstream connect: upstream proxy socks5://{addr}: connection refused by {addr}");
    assert!(answer.contains(&told), "{answer}");
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Connect))));
}

/// The name goes to a SOCKS5 proxy as it is; what passes then is as if the origin were at the other end.
#[tokio::test]
async fn socks5_proxy_resolves_the_names() {
    let (mut setup, parent) = setup("socks5", "user:pass@").await;
    let mut client = setup.client().await;
    client.send("GET http://nobody.invalid/x HTTP/1.1\r\nHost: nobody.invalid\r\n\r\n").await;
    let mut server = parent.accept().await;
    server.expect(b"\x05\x02\x00\x02").await;
    server.send(b"\x05\x02").await;
    server.expect(b"\x01\x04user\x04pass").await;
    server.send(b"\x01\x00").await;
    server.expect(b"\x05\x01\x00\x03\x0enobody.invalid\x00\x50").await;
    server.send(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00").await;
    server.expect("GET /x HTTP/1.1\r\nHost: nobody.invalid\r\n\r\n").await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    check_via(&flow, "socks5", parent.addr());
    assert_eq!(flow.server.as_ref().unwrap().dns_us, None);
}

/// `--no-via`: such origins are dialled as ever.
#[tokio::test]
async fn exempt_origins_are_dialled_directly() {
    let (parent, origin) = (Origin::listen().await, Origin::listen().await);
    let url = format!("http://{}", parent.addr());
    let mut setup = Setup::with(|config| via(config, &url, "127.0.0.0/8,.test")).await;
    let (mut client, mut server) = setup.asked(&origin, crate::harness::GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert!(setup.flow().await.server.unwrap().via.is_none());
    parent.expect_nobody();
}

/// CN-28: neither is the proxy's own listener reached through another proxy, nor is that proxy ourselves.
#[tokio::test]
async fn upstream_proxies_make_no_loop() {
    let (mut setup, parent) = setup("http", "").await;
    let port = setup.proxy.addr().port();
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let mut client = setup.client().await;
        client.send(format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = client.expect_error("400").await;
        assert!(answer.contains("is this proxy itself"), "{answer}");
        assert_eq!(
            ending(&setup.flow().await),
            (State::Refused, Some((Side::Proxy, Stage::Target))),
            "{host}"
        );
    }
    parent.expect_nobody();

    // A port that is free now, and ours in a moment.
    let free = Origin::listen().await.addr();
    let mut setup = Setup::with(|config| {
        config.listen = vec![free.to_string().parse().unwrap()];
        via(config, &format!("http://localhost:{}", free.port()), "");
    })
    .await;
    let mut client = setup.client().await;
    client.send("CONNECT o.test:443 HTTP/1.1\r\nHost: o.test:443\r\n\r\n").await;
    let answer = client.expect_error("400").await;
    assert!(answer.contains("upstream proxy http://localhost:") && answer.contains("is this proxy itself"));
    assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Proxy, Stage::Target))));
}

/// An `https` proxy is verified before it hears of anything; another manent is one.
#[tokio::test]
async fn https_proxy_is_spoken_to_in_tls() {
    let ca = TestCa::new();
    let mut parent = Setup::with(|config| ca.trusted_by(config)).await;
    let url = format!("https://localhost:{}", parent.proxy.addr().port());
    let trust = parent.proxy.ca().cert_path().unwrap().to_owned();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.upstream_ca.push(trust);
        via(config, &url, "");
    })
    .await;
    // A plain request, and one in TLS in a tunnel in TLS.
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, crate::harness::GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    for flow in [setup.flow().await, parent.flow().await] {
        assert_eq!((flow.state, flow.target.scheme), (State::Complete, Scheme::Http));
    }
    let origin = crate::harness::TlsOrigin::listen(ca.server_config(&["o.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "o.test").await;
    client.send("GET / HTTP/1.1\r\nHost: o.test\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let (near, far) = (setup.flow().await, parent.flow().await);
    assert_eq!(near.server.as_ref().unwrap().via.as_ref().unwrap().scheme, "https");
    assert!(far.client.proxy_tls.is_some() && far.client.tls.is_some());

    // One whose certificate nobody vouches for hears nothing.
    let mut setup = Setup::with(|config| via(config, &url, "")).await;
    let mut client = setup.client().await;
    client.send("GET http://o.test/ HTTP/1.1\r\nHost: o.test\r\n\r\n").await;
    let answer = client.expect_error("502").await;
    assert!(answer.contains(&format!("upstream proxy {url}: ")), "{answer}");
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Tls))));
}

/// A client that leaves takes the question to the proxy with it.
#[tokio::test]
async fn client_that_leaves_ends_the_wait_for_the_proxy() {
    let (mut setup, parent) = setup("http", "").await;
    let mut client: Peer = setup.client().await;
    client.send("CONNECT o.test:443 HTTP/1.1\r\nHost: o.test:443\r\n\r\n").await;
    let mut server = parent.accept().await;
    server.head().await;
    drop(client);
    server.drain().await;
    assert_eq!(setup.flow().await.state, State::ClientAborted);
}
