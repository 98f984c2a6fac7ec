//! HTTP/1: the measure is what the origin saw the first time, byte for byte (wire case RP-17).

use manent::flow::{Framing, Mid, State};

use super::{Scene, done, read_until};
use crate::harness::{OK, Origin, Setup, TestCa, TlsOrigin, ending};

/// A request as a client sends it, and how what the origin gets of it ends.
const CASES: [(&str, &str, &[u8]); 9] = [
    (
        "case, order, duplicates and the client's hop",
        "GET http://{addr}/a?x=%20&y#f HTTP/1.1\r\nhOsT: {addr}\r\nX-b: 1\r\nx-B: 2\r\nAccept:\r\n\
         Proxy-Connection: keep-alive\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nProxy-Authorization: Basic eA==\r\n\
         Cookie: a=1; \u{e9}\r\nCookie: b=2\r\n\r\n",
        b"\r\n\r\n",
    ),
    (
        "white space and an odd method",
        "PROPFIND http://{addr} HTTP/1.1\r\nHost:   {addr}\t\r\nX-Odd:  a \t b  \r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        b"\r\n\r\n",
    ),
    ("another Host", "GET http://{addr}/ HTTP/1.1\r\nHost: other.test\r\nA: b\r\n\r\n", b"\r\n\r\n"),
    ("HTTP/1.0 without Host", "GET http://{addr}/old HTTP/1.0\r\nA: b\r\n\r\n", b"\r\n\r\n"),
    ("origin-form", "GET /only HTTP/1.1\r\nHost: {addr}\r\n\r\n", b"\r\n\r\n"),
    ("the whole server", "OPTIONS * HTTP/1.1\r\nHost: {addr}\r\nMax-Forwards: 5\r\n\r\n", b"\r\n\r\n"),
    (
        "a length",
        "POST http://{addr}/p HTTP/1.1\r\nHost: {addr}\r\ncontent-LENGTH: 5\r\nContent-Type: x/y\r\n\r\nabcde",
        b"abcde",
    ),
    (
        "a length of nothing",
        "PUT http://{addr}/p HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\nB: c\r\n\r\n",
        b"\r\n\r\n",
    ),
    (
        "chunks and trailers",
        "POST http://{addr}/p HTTP/1.1\r\nHost: {addr}\r\ntransfer-ENCODING: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
        b"x-sum: 2\r\n\r\n",
    ),
];

#[tokio::test]
async fn the_same_bytes_go_out_again() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut firsts = Vec::new();
    for (what, request, end) in CASES {
        let (mut client, mut server) = setup.begin(&origin, request).await;
        firsts.push(read_until(&mut server, end).await);
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        client.head().await;
        assert_eq!(setup.flow().await.state, State::Complete, "{what}");
    }
    let scene = Scene::of(setup).await;
    let replay = scene.start(&["replay", "1-9"]);
    let mut server = origin.accept().await;
    for ((what, _, end), first) in CASES.iter().zip(&firsts) {
        // One connection will do for all, for this origin keeps it now.
        let again = read_until(&mut server, end).await;
        assert_eq!(again.escape_ascii().to_string(), first.escape_ascii().to_string(), "{what}");
        server.send(OK).await;
    }
    let done = done(replay).await;
    assert_eq!(done.expect(0).lines().count(), CASES.len());
    origin.expect_nobody();
    for of in 1..=9 {
        let (was, is) = (scene.flow(of), scene.flow(of + 9));
        assert_eq!((is.replay_of, ending(&is)), (Some(Mid(of)), (State::Complete, None)));
        let (was, is) = (was.request.unwrap(), is.request.unwrap());
        assert_eq!((was.body.content, was.trailers), (is.body.content, is.trailers));
    }
}

/// What was sent again can be sent again: its record is of what went out.
#[tokio::test]
async fn a_replay_of_a_replay_is_the_same() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (_, request, end) = CASES[0];
    let (mut client, mut server) = setup.begin(&origin, request).await;
    let first = read_until(&mut server, end).await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    let scene = Scene::of(setup).await;
    for mid in ["1", "2", "last"] {
        let replay = scene.start(&["replay", mid]);
        let mut server = origin.accept().await;
        assert_eq!(read_until(&mut server, end).await, first);
        server.send(OK).await;
        done(replay).await.expect(0);
    }
    assert_eq!(scene.flow(4).replay_of, Some(Mid(3)));
    let found = scene.run(&["ls", "~replay"]).await;
    assert_eq!(found.expect(0).lines().count(), 3);
}

/// The body waits for the origin's 100, as its client's did; an origin that answers without it is not sent one.
#[tokio::test]
async fn a_body_waits_to_be_asked_for() {
    const PUT: &str =
        "PUT http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, PUT).await;
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.head().await;
    client.send("abc").await;
    server.expect("abc").await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    let scene = Scene::of(setup).await;

    let replay = scene.start(&["replay", "1"]);
    let mut server = origin.accept().await;
    assert!(server.head().await.contains("Expect: 100-continue\r\n"));
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    server.expect("abc").await;
    server.send(OK).await;
    done(replay).await.expect(0);
    assert_eq!(scene.flow(2).interim.len(), 1);

    let replay = scene.start(&["replay", "1"]);
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").await;
    server.expect_end().await;
    done(replay).await.expect(0);
    let flow = scene.flow(3);
    assert_eq!((ending(&flow), flow.response.unwrap().status), ((State::Complete, None), 401));
}

/// An answer in chunks, with trailers and a 103 before it, is recorded as a proxy's would be.
#[tokio::test]
async fn all_of_an_answer_is_recorded() {
    let (scene, origin) = super::captured(&["GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n"], OK).await;
    let replay = scene.start(&["replay", "1"]);
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let answer = "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n";
    super::answer(&origin, &format!("{early}{answer}")).await;
    done(replay).await.expect(0);
    let flow = scene.flow(2);
    let response = flow.response.unwrap();
    assert_eq!((flow.interim[0].status, &response.reason[..]), (103, &b"Fine"[..]));
    assert_eq!((response.body.framing, response.trailers.unwrap().len()), (Framing::Chunked, 1));
    assert_eq!(flow.client.mode, "replay");
}

/// Behind a `CONNECT` to an address: the same address, the same name, the same protocol, and the certificate is verified.
#[tokio::test]
async fn https_goes_to_the_same_place_by_the_same_name() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("GET /s HTTP/1.1\r\nHost: origin.test\r\nA: b\r\n\r\n").await;
    let first = server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    let scene = Scene::of(setup).await;
    let pem = ca.write(scene.dir.path()).to_str().unwrap().to_owned();

    let replay = scene.start(&["replay", "1", "--upstream-ca", &pem]);
    let mut server = origin.accept().await;
    assert_eq!(server.head().await, first);
    server.send(OK).await;
    done(replay).await.expect(0);
    let tls = scene.flow(2).server.unwrap().tls.clone().unwrap();
    assert_eq!((tls.alpn.as_deref(), tls.sni.as_deref()), (Some(&b"http/1.1"[..]), Some("origin.test")));
    assert!(tls.verified);

    let replay = scene.start(&["replay", "1"]);
    assert!(origin.try_accept().await.is_err());
    let refused = done(replay).await;
    assert!(refused.expect(6).contains("failed: upstream TLS handshake"), "{}", refused.out);
}
