//! The SOCKS5 listener (RFC 1928, RFC 1929; wire cases SK-01 to SK-10).

use std::net::SocketAddr;

use manent::flow::{Flow, Kind, Scheme, Side, Stage, State};
use tokio::net::TcpListener;

use crate::harness::{OK, Origin, Peer, Setup, TestCa, TlsOrigin, ending};

/// A proxy that speaks SOCKS5, and asks for these credentials if there are any.
async fn setup(auth: Option<&str>) -> Setup {
    Setup::with(|config| {
        config.listen = vec!["socks5@127.0.0.1:0".parse().unwrap()];
        config.access.auth = auth.map(|auth| auth.parse().unwrap());
    })
    .await
}

/// A request to connect to a name or an address in its own form.
fn connect_to(host: &str, port: u16) -> Vec<u8> {
    let kind = match host.parse() {
        Ok(std::net::IpAddr::V4(ip)) => [&[1][..], &ip.octets()].concat(),
        Ok(std::net::IpAddr::V6(ip)) => [&[4][..], &ip.octets()].concat(),
        Err(_) => [&[3, u8::try_from(host.len()).unwrap()][..], host.as_bytes()].concat(),
    };
    [b"\x05\x01\x00", &kind[..], &port.to_be_bytes()].concat()
}

/// Greets without credentials, and is connected to `addr`.
async fn connected(setup: &Setup, addr: SocketAddr) -> Peer {
    let mut client = setup.client().await;
    client.send(b"\x05\x01\x00").await;
    client.expect(b"\x05\x00").await;
    client.send(connect_to(&addr.ip().to_string(), addr.port())).await;
    client.expect(SUCCEEDED).await;
    client
}

fn check(flow: &Flow, kind: Kind, host: &str, port: u16) {
    assert_eq!((flow.kind, flow.state), (kind, State::Complete));
    assert_eq!((&*flow.target.host, flow.target.port), (host, port));
    assert_eq!((&*flow.client.mode, &flow.client.connect), ("socks5", &None));
}

/// SK-01, SK-02: each kind of address; what comes then is looked at as in a tunnel. Bytes may come as one or one by one,
/// and ahead of the answers.
#[tokio::test]
async fn connects_to_addresses_and_names_however_the_bytes_come() {
    let mut setup = setup(None).await;
    let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let v6 = TcpListener::bind("[::1]:0").await.unwrap();
    for (host, listener) in [("127.0.0.1", &v4), ("localhost", &v4), ("::1", &v6)] {
        let port = listener.local_addr().unwrap().port();
        let request = "GET /x HTTP/1.1\r\nHost: named.test\r\n\r\n";
        let all = [b"\x05\x02\x01\x00", &connect_to(host, port)[..], request.as_bytes()].concat();
        for trickles in [false, true] {
            let mut client = setup.client().await;
            if trickles {
                client.trickle(&all).await
            } else {
                client.send(&all).await
            }
            client.expect([b"\x05\x00", SUCCEEDED].concat()).await;
            let (tcp, _) = crate::harness::soon("a connection", listener.accept()).await.unwrap();
            let mut server = Peer::new(tcp);
            server.expect(request).await;
            server.send(OK).await;
            client.expect(OK).await;
            drop((client, server));
            let flow = setup.flow().await;
            // An address is called by the name that the request has for it.
            let host = if host == "localhost" { host } else { "named.test" };
            check(&flow, Kind::Http, host, port);
            assert_eq!(flow.target.scheme, Scheme::Http);
        }
    }
}

/// SK-01: data that is neither TLS nor HTTP passes unread, and is a flow without a request.
#[tokio::test]
async fn other_protocols_pass_unread() {
    let (mut setup, origin) = (setup(None).await, Origin::listen().await);
    let mut client = connected(&setup, origin.addr()).await;
    let mut server = origin.accept().await;
    // A server that speaks first.
    server.send("220 hello\r\n").await;
    client.expect("220 hello\r\n").await;
    client.send("QUIT\r\n").await;
    server.expect("QUIT\r\n").await;
    drop((client, server));
    let flow = setup.flow().await;
    check(&flow, Kind::Tunnel, "127.0.0.1", origin.addr().port());
    assert!(flow.request.is_none());
}

/// TLS is intercepted as in a tunnel: the origin's name is the client's SNI.
#[tokio::test]
async fn tls_is_intercepted() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.listen = vec!["socks5@127.0.0.1:0".parse().unwrap()];
    })
    .await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let client = connected(&setup, origin.addr()).await;
    let (client, mut server) =
        tokio::join!(setup.tls_over(client, "origin.test", &["http/1.1"]), origin.accept());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    check(&flow, Kind::Http, "origin.test", origin.addr().port());
    assert_eq!(flow.target.scheme, Scheme::Https);
}

/// SK-03: user and password, one byte at a time; nothing of them is recorded.
#[tokio::test]
async fn user_and_password_are_asked_for() {
    let (mut setup, origin) = (setup(Some("user:canary")).await, Origin::listen().await);
    let mut client = setup.client().await;
    client.trickle(b"\x05\x02\x00\x02").await;
    client.expect(b"\x05\x02").await;
    client.trickle(b"\x01\x04user\x06canary").await;
    client.expect(b"\x01\x00").await;
    client.trickle(connect_to("127.0.0.1", origin.addr().port())).await;
    client.expect(SUCCEEDED).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut server = origin.accept().await;
    assert!(!server.head().await.contains("canary"));
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    check(&flow, Kind::Http, "x", origin.addr().port());
    assert!(!format!("{flow:?}").contains("canary"));
}

/// SK-04, SK-05: who offers nothing, or says something else, is turned away and recorded, without what was said.
#[tokio::test]
async fn wrong_credentials_are_turned_away() {
    let mut setup = setup(Some("user:canary")).await;
    for (said, answer) in [
        (&b"\x05\x01\x00"[..], &b"\x05\xff"[..]),
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x02\x01\x80", b"\x05\xff"),
        (b"\x05\x01\x02\x01\x04user\x05canar", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x04User\x06canary", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x00\x00", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x05\x04user\x06canary", b"\x05\x02\x01\x01"),
    ] {
        let mut client = setup.client().await;
        client.send(said).await;
        client.expect(answer).await;
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
        assert!(flow.kind == Kind::Connect && !format!("{flow:?}").contains("canar"));
    }
}

/// A client that has nothing else to offer is let in where nobody is asked.
#[tokio::test]
async fn credentials_that_nobody_wants_are_taken() {
    let (setup, origin) = (setup(None).await, Origin::listen().await);
    let mut client = setup.client().await;
    client.send(b"\x05\x01\x02\x01\x01x\x01y").await;
    client.expect(b"\x05\x02\x01\x00").await;
    client.send(connect_to("127.0.0.1", origin.addr().port())).await;
    client.expect(SUCCEEDED).await;
}

/// SK-06, SK-07: commands and kinds of addresses that are not served; names and ports that are none.
#[tokio::test]
async fn what_is_not_served_is_refused_with_its_code() {
    let mut setup = setup(None).await;
    for (request, code) in [
        (&b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"[..], 7),
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 1),
        (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", 7),
        (b"\x05\x01\x00\xff", 8),
        (b"\x04\x01\x00\x01", 1),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", 1),
        (b"\x05\x01\x00\x03\x00\x00\x50", 1),
        (b"\x05\x01\x00\x03\x04a\r\nb\x00\x50", 1),
        (b"\x05\x01\x00\x03\x04a:80\x00\x50", 1),
        (b"\x05\x01\x00\x03\x03a@b\x00\x50", 1),
    ] {
        let mut client = setup.client().await;
        client.send([b"\x05\x01\x00", request].concat()).await;
        client.expect([b"\x05\x00\x05", &[code][..], b"\x00\x01\x00\x00\x00\x00\x00\x00"].concat()).await;
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!((flow.kind, flow.state), (Kind::Connect, State::Refused), "{}", request.escape_ascii());
    }
}

/// SK-08, CN-28: an origin that does not answer, has no address, or is ourselves.
#[tokio::test]
async fn origin_that_cannot_be_reached_is_told_by_code() {
    let mut setup = setup(None).await;
    let closed = Origin::listen().await.addr().port();
    let own = setup.proxy.addr().port();
    for (host, port, code, state) in [
        ("127.0.0.1", closed, 5, State::Failed),
        ("nobody.invalid", 80, 4, State::Failed),
        ("127.0.0.1", own, 2, State::Refused),
        ("localhost", own, 2, State::Refused),
        ("::ffff:127.0.0.1", own, 2, State::Refused),
        ("0.0.0.0", own, 2, State::Refused),
    ] {
        let mut client = setup.client().await;
        client.send([b"\x05\x01\x00", &connect_to(host, port)[..]].concat()).await;
        client.expect([b"\x05\x00\x05", &[code][..], b"\x00\x01\x00\x00\x00\x00\x00\x00"].concat()).await;
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!((flow.kind, flow.state, flow.target.port), (Kind::Connect, state, port), "{host}");
    }
}

/// SK-09: what is no SOCKS5 is closed without a byte, and recorded with what it may have been.
#[tokio::test]
async fn other_protocols_on_the_port_are_closed_and_named() {
    let mut setup = setup(None).await;
    for (said, told) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic canary\r\n\r\n"[..], "HTTP, probably"),
        (b"abcd", "no SOCKS5: the first byte is 0x61"),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "SOCKS version 4"),
        (b"\x16\x03\x01", "TLS on a SOCKS5 port"),
    ] {
        let mut client = setup.client().await;
        client.send(said).await;
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
        assert!(flow.error.as_ref().unwrap().message.contains(told), "{:?}", flow.error);
        let raw = flow.request.as_ref().unwrap().raw_head.as_ref().unwrap();
        assert_eq!(raw.len(), said.len());
        assert!(!raw.windows(6).any(|part| part == b"canary"));
    }
}

/// SK-10: whoever leaves in the middle is a flow; whoever says nothing is none.
#[tokio::test]
async fn client_that_leaves_in_the_middle_harms_nobody() {
    let mut setup = setup(None).await;
    drop(setup.client().await);
    let whole = [b"\x05\x01\x00", &connect_to("localhost", 80)[..]].concat();
    for cut in 1..whole.len() {
        let mut client = setup.client().await;
        client.send(&whole[..cut]).await;
        client.half_close().await;
        client.drain().await;
        assert_eq!(setup.flow().await.state, State::ClientAborted, "{cut}");
    }
    setup.expect_flows(u64::try_from(whole.len() - 1).unwrap()).await;
}

/// One that says half of it and waits is ended in time.
#[tokio::test]
async fn slow_greeting_has_an_end() {
    let mut setup = Setup::with(|config| {
        config.listen = vec!["socks5@127.0.0.1:0".parse().unwrap()];
        config.timeouts.head = std::time::Duration::from_millis(50);
    })
    .await;
    let mut client = setup.client().await;
    client.send(b"\x05\x01").await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
}

const SUCCEEDED: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
