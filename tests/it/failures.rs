//! What fails is a flow, exactly one, that names side and stage; the client is told, and never shown a clean end of
//! something cut (issue item 4; `stream.cut-*`, `prod.error-page-*`).

use std::time::Duration;

use manent::flow::{BodyEnd, Flow, Framing, Kind, Side, Stage, State};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::harness::{Origin, Peer, Setup, TestCa, TlsOrigin, all, soon};

/// The one flow there is must have failed like this.
async fn failed(setup: &mut Setup, state: State, side: Side, stage: Stage) -> Flow {
    let flow = setup.flow().await;
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.state, error.side, error.stage), (state, side, stage), "{error:?}");
    let bounds = manent::store::Reader::open(&setup.config.store).unwrap().bounds().unwrap().unwrap();
    assert_eq!(bounds.2, 1, "more than one flow");
    flow
}

/// A proxy, an origin, and a client that has sent `rest` of a request for `/`.
async fn asked(method: &str, rest: &str) -> (Setup, Origin, Peer) {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, addr) = (setup.client().await, origin.addr());
    client.send(format!("{method} http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n{rest}")).await;
    (setup, origin, client)
}

/// An address where nothing listens.
async fn nowhere() -> std::net::SocketAddr {
    Origin::listen().await.addr()
}

/// `h1.garbage`: the bytes are what there is to record.
#[tokio::test]
async fn unparsable_request_is_kept_with_its_bytes() {
    for garbage in
        ["\0\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nA B: c\r\n\r\n"]
    {
        let mut setup = Setup::start().await;
        let mut client = setup.client().await;
        client.send(garbage).await;
        let answer = client.expect_error("400 Bad Request\r\n").await;
        assert!(answer.contains("client request head: "), "{answer}");
        let flow = failed(&mut setup, State::Refused, Side::Client, Stage::RequestHead).await;
        assert_eq!(flow.request.unwrap().raw_head.unwrap(), garbage);
    }
}

/// Half a request, and then the end of it.
#[tokio::test]
async fn half_a_request_is_an_aborted_one() {
    let mut setup = Setup::start().await;
    let mut client = setup.client().await;
    client.send("GET http://origin.test/ HT").await;
    client.half_close().await;
    client.drain().await;
    let flow = failed(&mut setup, State::ClientAborted, Side::Client, Stage::RequestHead).await;
    assert_eq!(flow.request.unwrap().raw_head.unwrap(), "GET http://origin.test/ HT");
}

/// `h1.slowloris`: the time is that of the whole head.
#[tokio::test]
async fn head_that_takes_too_long_is_answered_with_408() {
    let mut setup = Setup::with(|config| config.timeouts.head = Duration::from_millis(300)).await;
    let mut client = setup.client().await;
    client.send("GET http://origin.test/ HTTP/1.1\r\nHost: ori").await;
    client.expect_error("408 Request Timeout\r\n").await;
    failed(&mut setup, State::Refused, Side::Client, Stage::RequestHead).await;
}

/// A CONNECT that is none.
#[tokio::test]
async fn refused_connect_is_a_flow_and_ends_the_connection() {
    for target in ["origin.test", "origin.test:0", "/", "http://origin.test/", "user@origin.test:443"] {
        let mut setup = Setup::start().await;
        let mut client = setup.client().await;
        client
            .send(format!("CONNECT {target} HTTP/1.1\r\nHost: origin.test\r\n\r\nGET / HTTP/1.1\r\n\r\n"))
            .await;
        let answer = client.expect_error("400 Bad Request\r\n").await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        let flow = failed(&mut setup, State::Refused, Side::Client, Stage::Target).await;
        assert_eq!((flow.kind, flow.request.unwrap().target), (Kind::Connect, target.into()));
    }
}

/// Nobody listens: of a request, and of a CONNECT, before its client is told that there is a tunnel.
#[tokio::test]
async fn refused_dial_is_told_and_recorded() {
    let addr = nowhere().await;
    for request in [
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
    ] {
        let mut setup = Setup::start().await;
        let mut client = setup.client().await;
        client.send(request).await;
        let answer = client.expect_error("502 Bad Gateway\r\n").await;
        assert!(answer.contains("upstream connect: connection refused"), "{answer}");
        let flow = failed(&mut setup, State::Failed, Side::Server, Stage::Connect).await;
        assert_eq!(flow.server.unwrap().address.port, addr.port());
    }
}

/// A name that cannot be one.
#[tokio::test]
async fn host_that_is_no_name_is_told_and_recorded() {
    let mut setup = Setup::start().await;
    let mut client = setup.client().await;
    let long = "a".repeat(254) + ".";
    client.send(format!("GET http://{long}/ HTTP/1.1\r\nHost: {long}\r\n\r\n")).await;
    client.expect_error("502 Bad Gateway\r\n").await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::Failed, Side::Server));
}

/// RFC 6761 §6.4: nothing is called like that. With a resolver that does not answer it is a time-out.
#[tokio::test]
async fn unknown_host_is_told_and_recorded() {
    let mut setup = Setup::with(|config| config.timeouts.connect = Duration::from_secs(3)).await;
    let mut client = setup.client().await;
    client.send("GET http://nowhere.invalid/ HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n").await;
    let answer = client.expect_error("50").await;
    assert!(answer.contains("upstream name look-up: "), "{answer}");
    let flow = failed(&mut setup, State::Failed, Side::Server, Stage::Dns).await;
    assert_eq!(flow.target.host, "nowhere.invalid");
}

/// A listener whose backlog is full: nobody gets in.
async fn full() -> (TcpListener, Vec<impl Sized>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let addr = full.local_addr().unwrap();
    let connect = |_| tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr));
    let held = all((0..4).map(connect)).await;
    (full, held)
}

/// Who leaves while we dial takes the dialling along; that, too, is a flow.
#[tokio::test]
async fn client_that_leaves_during_the_dialling_is_recorded() {
    let (full, _held) = full().await;
    let (mut setup, addr) = (Setup::start().await, full.local_addr().unwrap());
    let mut client = setup.client().await;
    client.send(format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    client.half_close().await;
    client.drain().await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state, flow.server), (Kind::Connect, State::ClientAborted, None));
}

/// The same for who stays.
#[tokio::test]
async fn connect_that_takes_too_long_is_answered_with_504() {
    let (full, _held) = full().await;
    let addr = full.local_addr().unwrap();
    let mut setup = Setup::with(|config| config.timeouts.connect = Duration::from_millis(300)).await;
    let mut client = setup.client().await;
    client.send(format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    client.expect_error("504 Gateway Timeout\r\n").await;
    failed(&mut setup, State::Failed, Side::Server, Stage::Connect).await;
}

/// No answer in time.
#[tokio::test]
async fn answer_that_takes_too_long_is_a_504() {
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(300)).await;
    let origin = Origin::listen().await;
    let (mut client, addr) = (setup.client().await, origin.addr());
    client.send(format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    let mut server = origin.accept().await;
    server.head().await;
    let answer = client.expect_error("504 Gateway Timeout\r\n").await;
    assert!(answer.contains("upstream response head: no answer"), "{answer}");
    failed(&mut setup, State::Failed, Side::Server, Stage::ResponseHead).await;
    server.drain().await;
}

/// A request body that stops coming is the client's fault.
#[tokio::test]
async fn request_body_that_stops_is_a_408() {
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(300)).await;
    let origin = Origin::listen().await;
    let (mut client, addr) = (setup.client().await, origin.addr());
    client.send(format!("PUT http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\nabc")).await;
    let mut server = origin.accept().await;
    client.expect_error("408 Request Timeout\r\n").await;
    let flow = failed(&mut setup, State::Refused, Side::Client, Stage::RequestBody).await;
    let body = flow.request.unwrap().body;
    assert_eq!((body.as_inline().unwrap().as_ref(), body.end), (&b"abc"[..], BodyEnd::CutOff));
    server.drain().await;
}

/// A client that takes nothing of a large answer is the one who is slow, not the origin.
#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(500)).await;
    let origin = Origin::listen().await;
    let (mut client, addr) = (setup.client().await, origin.addr());
    client.send(format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let piece = vec![b'x'; 1 << 20];
    while server.try_send(&piece).await.is_ok() {}
    let flow = failed(&mut setup, State::ClientAborted, Side::Client, Stage::ResponseBody).await;
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// `stream.cut-request-*`: the origin does not get a clean end either.
#[tokio::test]
async fn cut_request_body_is_cut_at_the_origin() {
    for (framing, sent, seen) in [
        ("Content-Length: 9\r\n\r\n", "abc", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "3\r\nabc\r\n"),
    ] {
        let (mut setup, origin, mut client) = asked("POST", &format!("{framing}{sent}")).await;
        let mut server = origin.accept().await;
        server.head().await;
        server.expect(seen).await;
        client.half_close().await;
        assert!(server.rest().await.0.is_empty());
        let flow = failed(&mut setup, State::ClientAborted, Side::Client, Stage::RequestBody).await;
        let body = flow.request.unwrap().body;
        assert_eq!((body.as_inline().unwrap().as_ref(), body.end), (&b"abc"[..], BodyEnd::CutOff));
        client.drain().await;
    }
}

/// `stream.cut-length`, `stream.cut-chunked`, `stream.cut-close-rst`.
#[tokio::test]
async fn cut_response_body_is_broken_for_the_client() {
    for (framing, sent, kind) in [
        ("Content-Length: 9\r\n\r\n", "abc", Framing::Length),
        ("Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", Framing::Chunked),
        ("Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n", Framing::Chunked),
        ("\r\n", "abc", Framing::Close),
    ] {
        let (mut setup, origin, mut client) = asked("GET", "\r\n").await;
        let tcp = origin.accept_tcp().await;
        if kind == Framing::Close {
            tcp.set_zero_linger().unwrap();
        }
        let mut server = Peer::new(tcp);
        server.head().await;
        server.send(format!("HTTP/1.1 200 OK\r\n{framing}{sent}")).await;
        client.head().await;
        client.expect(&sent[..sent.len().min(8)]).await;
        drop(server);
        client.expect_break().await;
        let flow = failed(&mut setup, State::ServerAborted, Side::Server, Stage::ResponseBody).await;
        let body = flow.response.unwrap().body;
        assert_eq!((body.framing, body.end), (kind, BodyEnd::CutOff));
        assert_eq!(body.as_inline().unwrap(), "abc");
    }
}

/// `tls.truncation`: without a close_notify the end of a body that runs to the close is not its end.
#[tokio::test]
async fn body_cut_inside_tls_is_broken_for_the_client() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &[])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\n\r\nabc").await;
    client.head().await;
    client.expect("abc").await;
    drop(server);
    client.expect_break().await;
    let flow = failed(&mut setup, State::ServerAborted, Side::Server, Stage::ResponseBody).await;
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// With the close_notify it is, and the client gets one too.
#[tokio::test]
async fn body_that_ends_with_tls_is_whole() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &[])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\n\r\nabc").await;
    server.half_close().await;
    assert!(client.head().await.contains("Connection: close\r\n"));
    client.expect("abc").await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.response.unwrap().body.end), (State::Complete, BodyEnd::Whole));
}

/// `stream.client-gone`: nobody waits for the answer any more, and the origin soon knows.
#[tokio::test]
async fn client_that_resets_while_waiting_ends_the_origin_s_connection() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let tcp = TcpStream::connect(setup.proxy.addr()).await.unwrap();
    tcp.set_zero_linger().unwrap();
    let (mut client, addr) = (Peer::new(tcp), origin.addr());
    client.send(format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    let mut server = origin.accept().await;
    server.head().await;
    drop(client);
    server.drain().await;
    failed(&mut setup, State::ClientAborted, Side::Client, Stage::ResponseHead).await;
}

/// In TLS an end is an end: the same without a reset.
#[tokio::test]
async fn tls_client_that_leaves_while_waiting_ends_the_origin_s_connection() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &[])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    drop(client);
    server.drain().await;
    failed(&mut setup, State::ClientAborted, Side::Client, Stage::ResponseHead).await;
}

/// A half-closed TCP connection still wants its answer.
#[tokio::test]
async fn client_that_only_half_closes_gets_its_answer() {
    let (mut setup, origin, mut client) = asked("GET", "\r\n").await;
    client.half_close().await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    client.expect_end().await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// Gone in the body: the flow is the client's, and the origin is let go.
#[tokio::test]
async fn client_that_leaves_in_the_body_is_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let tcp = TcpStream::connect(setup.proxy.addr()).await.unwrap();
    tcp.set_zero_linger().unwrap();
    let (mut client, addr) = (Peer::new(tcp), origin.addr());
    client.send(format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc").await;
    client.head().await;
    client.expect("abc").await;
    drop(client);
    soon("the origin to be let go", async { while server.try_send("more").await.is_ok() {} }).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::ClientAborted, Side::Client));
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// `prod.error-page-no-leak`, `prod.error-page-escapes` (CVE-2025-62168, mitmproxy 0.18): nothing of a request's fields, no
/// credentials, and no type in which a browser runs anything.
#[tokio::test]
async fn error_pages_are_plain_and_quote_no_fields() {
    let addr = nowhere().await;
    for request in [
        format!(
            "GET http://{addr}/<script>canary</script> HTTP/1.1\r\nHost: {addr}\r\nCookie: canary\r\n\r\n"
        ),
        format!("GET http://canary:canary@{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        "GET http://<script>canary/ HTTP/1.1\r\nHost: <script>canary\r\n\r\n".into(),
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: canary\r\n\r\n"),
        "GET /canary HTTP/1.1\r\nX: canary\r\nHost:\r\n\r\n".into(),
        format!("CONNECT {addr} HTTP/1.1\r\nProxy-Authorization: Basic canary\r\n\r\n"),
        "canary\0<script>\r\n\r\n".into(),
    ] {
        let setup = Setup::start().await;
        let mut client = setup.client().await;
        client.send(&request).await;
        let answer = client.expect_error("").await;
        assert!(answer.contains("Content-Type: text/plain; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("X-Content-Type-Options: nosniff\r\n") && answer.contains("manent: "));
        assert!(!answer.contains("canary") && !answer.contains('<'), "{request}{answer}");
    }
}

/// An error in place of the answer to HEAD has a head only.
#[tokio::test]
async fn failed_head_request_gets_no_body() {
    let (setup, addr) = (Setup::start().await, nowhere().await);
    let mut client = setup.client().await;
    client.send(format!("HEAD http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    let answer = client.expect_error("502 Bad Gateway\r\n").await;
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}
