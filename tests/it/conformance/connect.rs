//! `CONNECT` and what comes through its tunnel (RFC 9110 §9.3.6; wire cases CN-01 to CN-11, CN-28, CN-30).

use manent::flow::{BodyEnd, Kind, Scheme, Side, Stage, State};
use tokio::net::TcpSocket;

use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, ending};

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// Client and origin of a tunnel through which nothing has passed.
async fn tunnel(setup: &Setup, origin: &Origin) -> (Peer, Peer) {
    let client = setup.tunnel(&origin.addr().to_string()).await;
    (client, origin.accept().await)
}

/// CN-01, CN-06, pitfall 57: the origin is dialled first; then exactly these bytes. A length of 0 is no body.
#[tokio::test]
async fn connect_dials_first_and_answers_with_a_bare_200() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for fields in
        ["", "Host: {addr}\r\n", "Host: {addr}\r\nContent-Length: 0\r\nProxy-Connection: keep-alive\r\n"]
    {
        let request = format!("CONNECT {{addr}} HTTP/1.1\r\n{fields}\r\n");
        let (mut client, mut server) = setup.begin(&origin, request).await;
        client.expect(ESTABLISHED).await;
        client.send("\0hello").await;
        server.expect("\0hello").await;
        drop((client, server));
        let flow = setup.flow().await;
        assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete));
        assert_eq!(flow.client.connect.as_ref().unwrap().authority, origin.fill("{addr}"));
    }
}

/// CN-03, H1-37: an origin that refuses is told instead of a tunnel, and recorded.
#[tokio::test]
async fn connect_to_nobody_is_a_bad_gateway() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = origin.fill("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let authority = origin.fill("{addr}");
    drop(origin);
    let mut client = setup.client().await;
    client.send(request).await;
    let answer = client.expect_error("502").await;
    assert!(answer.contains("manent: upstream connect: "), "{answer}");
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::Connect))));
    assert_eq!((flow.kind, flow.target.host_port().into_bytes()), (Kind::Connect, authority));
}

/// CN-12 in part, H1-12: a target that is not `host:port` (RFC 9110 §9.3.6), or a body, is refused; nothing is dialled.
#[tokio::test]
async fn connect_needs_host_and_port_and_no_body() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (target, fields) in [
        ("127.0.0.1", ""),
        ("127.0.0.1:", ""),
        (":443", ""),
        ("127.0.0.1:0", ""),
        ("127.0.0.1:65536", ""),
        ("127.0.0.1:4a", ""),
        ("http://{addr}/", ""),
        ("http://{addr}", ""),
        ("/", ""),
        ("*", ""),
        ("u@{addr}", ""),
        ("{addr}/", ""),
        ("::1:443", ""),
        ("[::1]", ""),
        ("{addr}", "Content-Length: 3\r\n"),
        ("{addr}", "Transfer-Encoding: chunked\r\n"),
        ("{addr}", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("{addr}", "Content-Length: x\r\n"),
    ] {
        let mut client = setup.client().await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\nabc");
        client.send(origin.fill(head)).await;
        client.expect_error("400").await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::Target))), "{target} {fields}");
        assert_eq!((flow.kind, flow.server), (Kind::Connect, None));
    }
    origin.expect_nobody();
}

/// CN-05, CN-07: HTTP in a tunnel is served as such, also when it comes with the `CONNECT`.
#[tokio::test]
async fn http_in_a_tunnel_is_intercepted() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let inner = "GET /in HTTP/1.1\r\nHost: example.test\r\n\r\n";
    for together in [true, false] {
        let connect = "CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n";
        let first = if together { format!("{connect}{inner}") } else { connect.into() };
        let (mut client, mut server) = setup.begin(&origin, first).await;
        client.expect(ESTABLISHED).await;
        if !together {
            client.trickle(inner).await;
        }
        for again in [true, false] {
            server.expect(inner).await;
            server.send(OK).await;
            client.expect(OK).await;
            if again {
                client.send(inner).await;
            }
        }
        let (one, two) = (setup.flow().await, setup.flow().await);
        assert_eq!(
            (one.kind, one.target.scheme, one.target.port),
            (Kind::Http, Scheme::Http, origin.addr().port())
        );
        assert_eq!(
            (one.client.id, one.server.as_ref().unwrap().id),
            (two.client.id, two.server.as_ref().unwrap().id)
        );
        assert!(two.server_reused && one.client.connect.is_some());
    }
    setup.expect_flows(4).await;
}

/// CN-04: a stray CRLF after the `CONNECT` belongs to neither TLS nor HTTP, however it is cut.
#[tokio::test]
async fn a_stray_crlf_before_tls_or_http_is_dropped() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let authority = origin.addr().to_string();
    let mut tunnel = setup.tunnel(&authority).await;
    tunnel.trickle("\r\n").await;
    let (client, server) =
        tokio::join!(setup.tls_over(tunnel, "origin.test", &["http/1.1"]), origin.accept());
    let (mut client, mut server) = (client.unwrap(), server);
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.target.scheme, Scheme::Https);

    let origin = Origin::listen().await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    client.trickle(origin.fill(format!("\r\n{GET}"))).await;
    let mut server = origin.accept().await;
    server.expect("GET / HTTP/1.1\r\n").await;
}

/// CN-04 for anything else: it is the tunnel's own.
#[tokio::test]
async fn a_crlf_in_an_opaque_tunnel_is_kept() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = tunnel(&setup, &origin).await;
    client.send("\r\n\r\nhello").await;
    server.expect("\r\n\r\nhello").await;
    drop((client, server));
    assert_eq!(setup.flow().await.tunnel.unwrap().from_client.as_inline().unwrap(), "\r\n\r\nhello");
}

/// CN-08: no tunnel in a tunnel.
#[tokio::test]
async fn connect_inside_a_tunnel_is_refused() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = tunnel(&setup, &origin).await;
    client.send("CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n").await;
    assert!(client.expect_error("400").await.contains("CONNECT inside a tunnel"));
    server.expect_end().await;
    assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Client, Stage::Target))));
    setup.expect_flows(1).await;
}

/// Pitfall 88, security §3 rule 2 in clear: an absolute target for another origin is misdirected in a tunnel.
#[tokio::test]
async fn absolute_targets_in_a_tunnel_name_its_origin_or_are_misdirected() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = tunnel(&setup, &origin).await;
    client.send(origin.fill(GET)).await;
    server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    server.send(OK).await;
    client.expect(OK).await;
    client.send("GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    client.expect_error("421").await;
    setup.flow().await;
    assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Client, Stage::Target))));
}

/// CN-09, CN-30: what is neither TLS nor HTTP/1 is relayed unread, and recorded, each direction by itself.
#[tokio::test]
async fn other_protocols_are_relayed_and_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for hello in [
        &b"this is not http"[..],
        b"EHLO me\r\n",
        b"SSH-2.0-x\r\n",
        b"PRI * HTTP/2.0\r\n\r\nno",
        b"\x00\x01\x02",
        b"GARBAGE / HTTP/9.9\r\n",
    ] {
        let (mut client, mut server) = tunnel(&setup, &origin).await;
        client.send(hello).await;
        server.expect(hello).await;
        server.send("true that").await;
        client.expect("true that").await;
        drop((client, server));
        let flow = setup.flow().await;
        assert_eq!((flow.kind, ending(&flow)), (Kind::Tunnel, (State::Complete, None)));
        let tunnel = flow.tunnel.unwrap();
        assert_eq!(tunnel.from_client.as_inline().unwrap(), hello);
        assert_eq!(tunnel.from_server.as_inline().unwrap(), "true that");
        assert_eq!((tunnel.from_client.end, tunnel.from_server.end), (BodyEnd::Whole, BodyEnd::Whole));
    }
}

/// Pitfall 58: a client that says nothing is one that waits for its server.
#[tokio::test]
async fn a_server_may_speak_first() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = tunnel(&setup, &origin).await;
    server.send("220 ready\r\n").await;
    client.expect("220 ready\r\n").await;
    client.send("GET / HTTP/1.1\r\n").await;
    server.expect("GET / HTTP/1.1\r\n").await;
    drop((client, server));
    assert_eq!(setup.flow().await.tunnel.unwrap().reason, "silent client");
}

/// CN-10: either end may close its direction; the other goes on until it closes too.
#[tokio::test]
async fn half_closes_pass_through_a_tunnel() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for client_first in [true, false] {
        let (mut client, mut server) = tunnel(&setup, &origin).await;
        client.send("\0").await;
        server.expect("\0").await;
        let (first, second) =
            if client_first { (&mut client, &mut server) } else { (&mut server, &mut client) };
        first.send("bye").await;
        first.half_close().await;
        second.expect("bye").await;
        second.expect_end().await;
        second.send("still here").await;
        first.expect("still here").await;
        second.half_close().await;
        first.expect_end().await;
        assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    }
}

/// CN-10, security threat 21: a side that breaks breaks the other one too, so that neither takes what it has for the whole.
#[tokio::test]
async fn a_broken_tunnel_is_broken_for_both() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for client_breaks in [true, false] {
        let (mut client, mut server) = tunnel(&setup, &origin).await;
        client.send("\0").await;
        server.expect("\0").await;
        let (mut other, state) = if client_breaks {
            client.reset();
            (server, State::ClientAborted)
        } else {
            server.reset();
            (client, State::Failed)
        };
        assert!(other.rest().await.1.is_err());
        let flow = setup.flow().await;
        let side = if client_breaks { Side::Client } else { Side::Server };
        assert_eq!(ending(&flow), (state, Some((side, Stage::Tunnel))));
    }
}

/// CN-11: a client that goes away while its origin is dialled takes the dialling with it.
#[tokio::test]
async fn a_client_that_leaves_a_connect_is_recorded() {
    // A listener whose queue is full answers nobody.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let _filler = Peer::connect(addr).await;
    let mut setup = Setup::start().await;
    let mut client = setup.client().await;
    client.send(format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    client.half_close().await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Connect, State::ClientAborted));
    assert!(flow.response.is_none());
    setup.expect_alive().await;
}

/// A tunnel through which nothing ever came leaves nothing to record.
#[tokio::test]
async fn an_unused_tunnel_closes_with_its_client() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (client, mut server) = tunnel(&setup, &origin).await;
    drop(client);
    server.expect_end().await;
    setup.expect_flows(0).await;
}
