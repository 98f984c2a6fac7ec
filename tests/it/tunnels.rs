//! Tunnels that are left unread: relayed both ways, half-closes and breaks included, and recorded as one flow each.

use manent::flow::{BodyEnd, Flow, Kind, Side, Stage, State};

use crate::harness::{Origin, Peer, Setup, soon};

/// A tunnel that the proxy has not judged yet.
async fn open() -> (Setup, Origin, Peer) {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let client = setup.tunnel(&origin.addr().to_string()).await;
    (setup, origin, client)
}

fn bodies(flow: &Flow) -> (&[u8], &[u8]) {
    let tunnel = flow.tunnel.as_ref().unwrap();
    (tunnel.from_client.as_inline().unwrap(), tunnel.from_server.as_inline().unwrap())
}

/// `tls.connect-server-first`: SMTP, SSH, MySQL. The banner comes though the client is silent.
#[tokio::test]
async fn server_that_speaks_first_is_heard() {
    let (mut setup, origin, mut client) = open().await;
    let mut server = origin.accept().await;
    server.send("220 mail.test\r\n").await;
    client.expect("220 mail.test\r\n").await;
    client.send("QUIT\r\n").await;
    server.expect("QUIT\r\n").await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete));
    assert_eq!(flow.tunnel.as_ref().unwrap().reason, "silent client");
    assert_eq!(bodies(&flow), (&b"QUIT\r\n"[..], &b"220 mail.test\r\n"[..]));
    assert_eq!(flow.request.unwrap().method, "CONNECT");
}

/// A client that thinks for longer than one that waits for its server is given, on a slow path or a busy machine, is
/// still a client of HTTP: it was relayed unread, and unrecorded, when the limit alone decided.
#[tokio::test]
async fn slow_client_is_still_intercepted() {
    let mut setup =
        Setup::with(|config| config.timeouts.silent_client = std::time::Duration::from_millis(1)).await;
    let origin = Origin::listen().await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    // That takes many times the limit: a flow is stored.
    setup.expect_alive().await;
    client.send("GET /slow HTTP/1.1\r\nHost: any.test\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.expect("GET /slow HTTP/1.1\r\n").await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete));
}

/// `tls.connect-unknown`: bytes of all kinds, both ways.
#[tokio::test]
async fn unknown_protocol_is_relayed_and_recorded() {
    let (mut setup, origin, mut client) = open().await;
    let every: Vec<u8> = (0..=255).collect();
    client.send(&every).await;
    let mut server = origin.accept().await;
    server.expect(&every).await;
    server.send(&every).await;
    client.expect(&every).await;
    drop(client);
    server.expect_end().await;
    drop(server);
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Tunnel, State::Complete));
    assert_eq!(bodies(&flow), (&every[..], &every[..]));
    assert_eq!(flow.tunnel.unwrap().from_client.end, BodyEnd::Whole);
}

/// The end of one direction goes on as the end of one direction.
#[tokio::test]
async fn half_close_goes_on_each_way() {
    for client_first in [true, false] {
        let (mut setup, origin, mut client) = open().await;
        client.send("\0hello").await;
        let mut server = origin.accept().await;
        server.expect("\0hello").await;
        let (first, second) =
            if client_first { (&mut client, &mut server) } else { (&mut server, &mut client) };
        first.half_close().await;
        second.expect_end().await;
        second.send("still here").await;
        first.expect("still here").await;
        second.half_close().await;
        first.expect_end().await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// What is cut on one side must not end well on the other.
#[tokio::test]
async fn reset_goes_on_as_a_reset() {
    let (mut setup, origin, mut client) = open().await;
    client.send("\0hello").await;
    let tcp = origin.accept_tcp().await;
    tcp.set_zero_linger().unwrap();
    let mut server = Peer::new(tcp);
    server.expect("\0hello").await;
    server.send("half a").await;
    client.expect("half a").await;
    drop(server);
    client.expect_break().await;
    let flow = setup.flow().await;
    let error = flow.error.as_ref().unwrap();
    assert_eq!((error.side, error.stage), (Side::Server, Stage::Tunnel));
    assert_eq!(bodies(&flow), (&b"\0hello"[..], &b"half a"[..]));
}

/// The other way round.
#[tokio::test]
async fn client_s_reset_reaches_the_origin() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let tcp = tokio::net::TcpStream::connect(setup.proxy.addr()).await.unwrap();
    tcp.set_zero_linger().unwrap();
    let (mut client, addr) = (Peer::new(tcp), origin.addr());
    client.send(format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n\0hello")).await;
    let mut server = origin.accept().await;
    server.expect("\0hello").await;
    client.head().await;
    drop(client);
    server.expect_break().await;
    let error = setup.flow().await.error.unwrap();
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tunnel));
}

/// HTTP in clear inside a tunnel is HTTP: its flow is that of the request, and there is none of the tunnel.
#[tokio::test]
async fn http_in_clear_in_a_tunnel_is_http() {
    let (mut setup, origin, mut client) = open().await;
    client.trickle("PROPFIND /x HTTP/1.1\r\nHost: any.test\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.expect("PROPFIND /x HTTP/1.1\r\nHost: any.test\r\n\r\n").await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    let flow = setup.flow().await;
    assert_eq!(
        (flow.kind, flow.state, flow.target.port),
        (Kind::Http, State::Complete, origin.addr().port())
    );
}

/// `ws.bytes-after-101`, and RUSTSEC-2026-0033: what the client sends ahead waits for the 101.
#[tokio::test]
async fn upgrade_carries_bytes_right_behind_both_heads() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, addr) = (setup.client().await, origin.addr());
    let head =
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n");
    client.send(head + "from client").await;
    let mut server = origin.accept().await;
    assert!(server.head().await.contains("Upgrade: foo\r\n"));
    server.send("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nfrom server").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 Go\r\n"));
    client.expect("from server").await;
    server.expect("from client").await;
    drop(client);
    server.expect_end().await;
    drop(server);
    let flow = setup.flow().await;
    assert_eq!(
        (flow.kind, flow.state, flow.tunnel.as_ref().unwrap().reason.as_str()),
        (Kind::Http, State::Complete, "upgrade foo")
    );
    assert_eq!(bodies(&flow), (&b"from client"[..], &b"from server"[..]));
}

/// `h1.upgrade-refused`: what was sent ahead is the next request, and not the origin's to read as it likes.
#[tokio::test]
async fn refused_upgrade_is_an_ordinary_answer() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, addr) = (setup.client().await, origin.addr());
    let head =
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n");
    client.send(head + "smuggled\0\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.expect_error("400 Bad Request\r\n").await;
    drop(setup.stop().await);
    server.expect_end().await;
}

/// A tunnel in which nothing passes for too long ends, and says so.
#[tokio::test]
async fn silent_tunnel_ends_in_time() {
    let mut setup =
        Setup::with(|config| config.timeouts.relay_idle = std::time::Duration::from_millis(300)).await;
    let origin = Origin::listen().await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    client.send("\0hello").await;
    let mut server = origin.accept().await;
    server.expect("\0hello").await;
    soon("the tunnel's end", async { tokio::join!(client.drain(), server.drain()) }).await;
    let error = setup.flow().await.error.unwrap();
    assert_eq!((error.side, error.stage), (Side::Proxy, Stage::Tunnel));
}

/// More than fits a buffer, both ways at once: neither direction waits for the other.
#[tokio::test]
async fn both_directions_flow_at_once() {
    let (mut setup, origin, client) = open().await;
    let data = vec![0x80; 4 << 20];
    let (mut client_read, mut client_write) = tokio::io::split(client.into_io());
    let (mut server_read, mut server_write) = tokio::io::split(origin.accept().await.into_io());
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut ends = [Vec::new(), Vec::new()];
    let [at_client, at_server] = &mut ends;
    let send = async |to: &mut (dyn tokio::io::AsyncWrite + Unpin)| {
        to.write_all(&data).await.unwrap();
        to.shutdown().await.unwrap();
    };
    soon("8 MiB", async {
        tokio::join!(
            send(&mut client_write),
            send(&mut server_write),
            async { client_read.read_to_end(at_client).await.unwrap() },
            async { server_read.read_to_end(at_server).await.unwrap() },
        )
    })
    .await;
    assert!(ends.iter().all(|end| *end == data));
    assert_eq!(bodies(&setup.flow().await), (&data[..], &data[..]));
}
