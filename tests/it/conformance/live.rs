//! Exchanges that live long: events, polls, both directions at once, and who leaves in between (issue item 4).
//!
//! These say nothing of the protocol's version but in their heads; what they ask holds for every one.

use std::time::{Duration, Instant};

use manent::flow::{BodyEnd, Framing, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, chunked, ending, soon};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A piece of `data` as one chunk.
fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// A proxy with a client and an origin in TLS, the request for `/` under way.
async fn asked_in_tls(alpn: &[&str]) -> (Setup, TlsOrigin, Peer, Peer) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], alpn)).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    (setup, origin, client, server)
}

/// An event is through at once, though nothing comes after it that would push it: two seconds are many times of what it
/// takes, and far below any time-out that would let it go.
#[tokio::test]
async fn each_event_is_through_before_the_next_one_is_sent() {
    let (mut setup, _origin, mut client, mut server) = asked_in_tls(&["http/1.1"]).await;
    server.send(EVENTS).await;
    client.expect(EVENTS).await;
    let mut events = String::new();
    for n in 0..20 {
        let event = format!("data: {n}\n\n");
        let sent = Instant::now();
        server.send(chunk(&event)).await;
        client.expect(chunk(&event)).await;
        assert!(sent.elapsed() < Duration::from_secs(2), "event {n} took {:?}", sent.elapsed());
        events += &event;
    }
    server.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
    let flow = setup.flow().await;
    let body = flow.response.as_ref().unwrap().body.clone();
    assert_eq!((flow.state, body.end, body.framing), (State::Complete, BodyEnd::Whole, Framing::Chunked));
    assert_eq!(body.as_inline().unwrap(), events.as_bytes());
}

/// Each piece goes up and its echo comes down before the next one is sent.
#[tokio::test]
async fn both_directions_go_on_at_once() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, UPLOAD).await;
    server.send(CHUNKED).await;
    client.expect(CHUNKED).await;
    for piece in ["one", "two", "three"].map(chunk) {
        client.send(&piece).await;
        server.expect(&piece).await;
        server.send(&piece).await;
        client.expect(&piece).await;
    }
    client.send("0\r\n\r\n").await;
    server.expect("0\r\n\r\n").await;
    server.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let (up, down) = (flow.request.unwrap().body, flow.response.unwrap().body);
    assert_eq!((up.as_inline().unwrap(), up.end), (&"onetwothree".into(), BodyEnd::Whole));
    assert_eq!((down.as_inline(), down.end), (up.as_inline(), BodyEnd::Whole));
}

/// Neither direction waits for the other, also where each is more than all buffers in between hold.
#[tokio::test]
async fn large_bodies_pass_each_other() {
    const LEN: usize = 16 << 20;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (client, mut server) = setup.asked(&origin, UPLOAD).await;
    server.send(CHUNKED).await;
    let (up, down) = (chunked(&vec![b'u'; LEN], 100_000), chunked(&vec![b'd'; LEN], 100_000));
    let (mut client_reads, mut client_writes) = tokio::io::split(client.into_io());
    let (mut server_reads, mut server_writes) = tokio::io::split(server.into_io());
    let count = async |reads: &mut (dyn tokio::io::AsyncRead + Unpin), byte, len| {
        use tokio::io::AsyncReadExt as _;
        let (mut seen, mut buf) = (0, vec![0; 1 << 16]);
        while seen < len {
            let n = reads.read(&mut buf).await.unwrap();
            assert!(n > 0, "the end after {seen}");
            seen += buf[..n].iter().filter(|&&b| b == byte).count();
        }
    };
    use tokio::io::AsyncWriteExt as _;
    let all = async {
        tokio::join!(
            async { client_writes.write_all(&up).await.unwrap() },
            async { server_writes.write_all(&down).await.unwrap() },
            count(&mut client_reads, b'd', LEN),
            count(&mut server_reads, b'u', LEN),
        )
    };
    soon("both bodies", all).await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    for (body, byte) in [(flow.request.unwrap().body, b'u'), (flow.response.unwrap().body, b'd')] {
        assert_eq!((body.len, body.end), (LEN as u64, BodyEnd::Whole));
        assert!(body.as_inline().unwrap().iter().all(|&b| b == byte));
    }
}

/// An upload that is answered early goes on; the client has the answer long before the end.
#[tokio::test]
async fn an_early_answer_of_a_long_upload_comes_at_once() {
    const LEN: usize = 8 << 20;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = format!("POST / HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {LEN}\r\n\r\nfirst");
    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.expect("first").await;
    server.send(OK).await;
    client.expect(OK).await;
    let rest = vec![b'x'; LEN - 5];
    let ((), seen) = tokio::join!(client.send(&rest), server.read(rest.len()));
    assert!(seen == rest);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let body = flow.request.unwrap().body;
    assert_eq!((body.len, body.end), (LEN as u64, BodyEnd::Whole));
    assert!(flow.timing.response_end_us < flow.timing.request_end_us);
}

/// A long poll has no deadline: all the limits on heads, handshakes and idle connections pass, and its answer still comes.
/// What tells that they have passed are connections that began after it and are given up.
#[tokio::test]
async fn a_long_poll_outlasts_every_other_limit() {
    let limit = Duration::from_millis(200);
    let mut setup = Setup::with(|config| {
        let timeouts = &mut config.timeouts;
        (timeouts.head, timeouts.tls, timeouts.connect, timeouts.idle) = (limit, limit, limit, limit);
        timeouts.silent_client = limit;
    })
    .await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    for _ in 0..5 {
        setup.client().await.drain().await;
        let mut slow = setup.client().await;
        slow.send("GET / HT").await;
        slow.expect_error("408 Request Timeout\r\n").await;
        assert_eq!(setup.flow().await.state, State::Refused);
    }
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert!(flow.timing.end_us.unwrap() > 1_500_000, "{:?}", flow.timing);
}

/// The limit on quiet is no limit on the whole: any progress, in either direction, begins it anew.
#[tokio::test]
async fn an_exchange_lasts_as_long_as_something_passes() {
    let limit = Duration::from_secs(1);
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = limit).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, UPLOAD).await;
    server.send(CHUNKED).await;
    client.expect(CHUNKED).await;
    // That time passes is what this is about, so here the clock sets the pace.
    let mut pace = tokio::time::interval(limit / 10);
    let began = Instant::now();
    while began.elapsed() < limit * 3 / 2 {
        pace.tick().await;
        server.send(chunk(".")).await;
        client.expect(chunk(".")).await;
    }
    while began.elapsed() < limit * 3 {
        pace.tick().await;
        client.send(chunk("!")).await;
        server.expect(chunk("!")).await;
    }
    let quiet = Instant::now();
    client.expect_break().await;
    assert!(quiet.elapsed() >= limit / 2, "{:?}", quiet.elapsed());
    // Both were quiet, but it is the request that comes first.
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestBody))));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// A client that has ended its direction still gets a long answer to its end, and the record has both whole.
#[tokio::test]
async fn a_half_closed_client_gets_a_streamed_answer() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 3\r\n\r\nabc";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.expect("abc").await;
    client.half_close().await;
    server.send(CHUNKED).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    for piece in ["one", "two"].map(chunk) {
        server.send(&piece).await;
        client.expect(&piece).await;
    }
    server.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::Whole);
    assert_eq!(flow.response.unwrap().body.as_inline().unwrap(), "onetwo");
}

/// A client that leaves ends the origin's transfer within a second; what passed is in the record.
#[tokio::test]
async fn a_client_that_leaves_a_download_ends_it_at_once() {
    for reset in [true, false] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        let piece = vec![b'x'; 1 << 16];
        server.send(&piece).await;
        client.head().await;
        client.read(1 << 16).await;
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        while server.try_send(&piece).await.is_ok() {}
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::ResponseBody))));
        let body = flow.response.unwrap().body;
        assert!(body.end == BodyEnd::CutOff && body.len >= 1 << 16);
    }
}

/// Also where the origin has nothing to send, so that no write could tell: in TLS the end of a client is seen at once.
#[tokio::test]
async fn a_client_that_leaves_quiet_events_ends_them_at_once() {
    let (mut setup, _origin, mut client, mut server) = asked_in_tls(&[]).await;
    server.send(format!("{EVENTS}{}", chunk("data: 1\n\n"))).await;
    client.expect(EVENTS).await;
    client.expect(chunk("data: 1\n\n")).await;
    let left = Instant::now();
    drop(client);
    server.drain().await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::ClientAborted, Side::Client));
    let body = flow.response.unwrap().body;
    assert_eq!((body.as_inline().unwrap(), body.end), (&"data: 1\n\n".into(), BodyEnd::CutOff));
}

/// An origin that goes away in the middle of events and of an upload at once is an abort for the client, never an end.
#[tokio::test]
async fn an_origin_that_leaves_both_directions_is_an_abort() {
    for reset in [true, false] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        let (mut client, mut server) = setup.asked(&origin, UPLOAD).await;
        client.send(chunk("up")).await;
        server.expect(chunk("up")).await;
        server.send(format!("{CHUNKED}{}", chunk("down"))).await;
        client.expect(CHUNKED).await;
        client.expect(chunk("down")).await;
        if reset {
            server.reset()
        } else {
            drop(server)
        }
        client.expect_break().await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
        let (up, down) = (flow.request.unwrap().body, flow.response.unwrap().body);
        assert_eq!((up.as_inline().unwrap(), up.end), (&"up".into(), BodyEnd::CutOff));
        assert_eq!((down.as_inline().unwrap(), down.end), (&"down".into(), BodyEnd::CutOff));
    }
}
