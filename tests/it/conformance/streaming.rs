//! Bodies are relayed as they come, both ways, and recorded beside (wire cases ST-04 to ST-14, H1-34 to H1-36, H1-50).

use std::time::Duration;

use manent::flow::{BodyEnd, Framing, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

/// ST-04, ST-05: each piece of a response reaches the client before the next one is there.
#[tokio::test]
async fn response_pieces_come_at_once() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (head, pieces) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", &["abc", "def"][..]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &["3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"],
        ),
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(head).await;
        client.expect(head).await;
        for piece in pieces {
            server.send(piece).await;
            client.expect(piece).await;
        }
        assert_eq!(setup.flow().await.response.unwrap().body.as_inline().unwrap(), "abcdef");
    }
}

/// A chunk that comes in parts goes on in parts.
#[tokio::test]
async fn half_a_chunk_is_not_held_back() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(format!("{head}6\r\nabc")).await;
    client.expect(format!("{head}3\r\nabc\r\n")).await;
    server.send("def\r\n0\r\n\r\n").await;
    client.expect("3\r\ndef\r\n0\r\n\r\n").await;
    let body = setup.flow().await.response.unwrap().body;
    assert_eq!((body.len, body.wire_len, body.end), (6, 16, BodyEnd::Whole));
}

/// H1-50, pitfall 39: events come when they are sent, and a flow that does not end is in the store all the same.
#[tokio::test]
async fn server_sent_events_are_relayed_and_recorded_as_they_come() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    client.head().await;
    for n in 0..10 {
        server.send(format!("data: {n}\n\n")).await;
        client.expect(format!("data: {n}\n\n")).await;
    }
    let open = setup.open_flow().await;
    assert_eq!(open.response.unwrap().body.end, BodyEnd::Open);
    server.half_close().await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!((flow.mid, flow.state), (open.mid, State::Complete));
    assert_eq!(flow.response.unwrap().body.len, 90);
}

/// ST-06: each piece of a request reaches the origin before the next one is there.
#[tokio::test]
async fn request_pieces_go_at_once() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, head).await;
    server.expect(origin.fill(head)).await;
    for piece in ["abc", "def", "ghi"] {
        client.send(piece).await;
        server.expect(piece).await;
    }
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.request.unwrap().body.as_inline().unwrap(), "abcdefghi");
}

/// ST-07, pitfall 8, `h1.early-response`: an early answer comes at once; if the origin reads on, the rest still goes to it.
#[tokio::test]
async fn an_early_answer_does_not_end_the_upload() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 6\r\n\r\nabc";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.expect("abc").await;
    let early = "HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n";
    server.send(early).await;
    client.expect(early).await;
    client.send(origin.fill(format!("def{GET}"))).await;
    server.expect("def").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.response.unwrap().status), (State::Complete, 413));
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abcdef");
    assert!(setup.flow().await.server_reused);
}

/// ST-08: if it closes, or says that it will, the client gets the answer and then the close.
#[tokio::test]
async fn an_early_answer_and_a_close_end_the_upload() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for field in ["", "Connection: close\r\n"] {
        let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 6000000\r\n\r\nabc";
        let (mut client, mut server) = setup.asked(&origin, head).await;
        server.expect("abc").await;
        let early = format!("HTTP/1.1 413 Too Much\r\n{field}Content-Length: 0\r\n\r\n");
        server.send(&early).await;
        client.expect(&early).await;
        if field.is_empty() {
            drop(server);
        }
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None));
        assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    }
}

/// ST-09: an origin that goes away in mid-upload without a word is a bad gateway.
#[tokio::test]
async fn an_origin_that_leaves_in_mid_upload_is_a_bad_gateway() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\nabc";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.expect("abc").await;
    drop(server);
    client.expect_error("502").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    let body = flow.request.unwrap().body;
    assert_eq!((body.as_inline().unwrap(), body.end), (&"abc".into(), BodyEnd::CutOff));
}

/// H1-36 (and H1-35, as bodies stream), pitfall 33: a client that goes away in mid-upload takes the origin's connection with
/// it; the origin sees no end of the body.
#[tokio::test]
async fn a_client_that_leaves_in_mid_upload_cuts_it() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (field, part) in [
        ("Content-Length: 6", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "6\r\nabc"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: {{addr}}\r\n{field}\r\n\r\n{part}");
        let (client, mut server) = setup.asked(&origin, head).await;
        drop(client);
        let (seen, _) = server.rest().await;
        assert!(seen == b"abc" || seen == b"3\r\nabc\r\n", "{}", seen.escape_ascii());
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::RequestBody))));
        assert!(flow.response.is_none());
        let body = flow.request.unwrap().body;
        assert_eq!((body.as_inline().unwrap(), body.end), (&"abc".into(), BodyEnd::CutOff));
    }
}

/// ST-10: what is stored is what passed, of any size, both ways and in either framing.
#[tokio::test]
async fn stored_bodies_are_what_passed() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for len in [0, 1, 2047, 2048, 2049, 16_383, 16_384, 65_536, 3_000_000] {
        let data: Vec<u8> = (0..len).map(|n: u32| n.to_le_bytes()[(n % 3) as usize]).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {len}\r\n\r\n");
        let (mut client, mut server) = setup.asked(&origin, head).await;
        let ((), uploaded) = tokio::join!(client.send(&data), server.read(data.len()));
        assert!(uploaded == data);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = [head.as_bytes(), &crate::harness::chunked(&data, 10_007)].concat();
        let download = async {
            client.expect(head).await;
            client.read_chunked().await
        };
        let ((), downloaded) = tokio::join!(server.send(&chunked), download);
        assert!(downloaded == data);
        let flow = setup.flow().await;
        let (sent, got) = (flow.request.unwrap().body, flow.response.unwrap().body);
        assert!(sent.as_inline().unwrap() == &data && got.as_inline().unwrap() == &data);
        assert_eq!((got.framing, got.end, got.len), (Framing::Chunked, BodyEnd::Whole, u64::from(len)));
        assert_eq!(got.wire_len, (chunked.len() - head.len()) as u64);
    }
}

/// ST-14: a client that does not read holds the origin up: what is in between is bounded, and all of it comes in the end.
#[tokio::test]
async fn a_slow_reader_slows_the_origin() {
    const LEN: usize = 256 << 20;
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0;
    // The one wait for something that does not happen: nothing else tells that the origin is held up.
    while tokio::time::timeout(Duration::from_millis(500), server.send(&piece)).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes are on their way to a client that reads nothing");
    client.head().await;
    assert!(client.read(sent).await.iter().all(|&byte| byte == b'x'));
}

/// ST-14 the other way: an origin that does not read holds the client up.
#[tokio::test]
async fn a_slow_origin_slows_the_client() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    // As above: there is no other sign of a stop.
    while tokio::time::timeout(Duration::from_millis(500), client.send(&piece)).await.is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 64 << 20, "{sent} bytes are on their way to an origin that reads nothing");
    let mut seen = 0;
    while seen < sent {
        seen += server.some().await.iter().filter(|&&byte| byte == b'x').count();
    }
}
