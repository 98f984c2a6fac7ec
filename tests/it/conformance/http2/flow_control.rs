//! RFC 9113 §5.2, §6.9: credit is kept on both sides and passed through: who does not read stops who sends, and nobody else
//! (wire cases H2-05, H2-06, H2-39, pitfall 73, ST-14).

use std::time::Duration;

use manent::flow::{BodyEnd, State};

use crate::harness::Setup;
use crate::harness::h2::{END_STREAM, Event, Frame, H2, MORE, kind, setting};

/// Bytes of data that came on `stream` and were not asked for.
fn waiting(peer: &H2, stream: u32) -> usize {
    let len = |event: &Event| match event {
        Event::Data { stream: which, data, .. } if *which == stream => data.len(),
        _ => 0,
    };
    peer.aside().map(len).sum()
}

/// Fails unless exactly `len` bytes come on this stream.
async fn expect_stop(peer: &mut H2, stream: u32, len: usize) {
    peer.until("the window to be used up", |peer| waiting(peer, stream) >= len).await;
    peer.fence().await;
    assert_eq!(waiting(peer, stream), len);
}

/// H2-05, H2-06: no more than the window, then the rest, the end, and trailers where there are some.
#[tokio::test]
async fn a_response_stops_at_the_clients_window() {
    const LEN: usize = 70_000;
    for trailers in [false, true] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.grants = false;
        client.get(1, "/").await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        server.body(head.stream, if trailers { MORE } else { END_STREAM }, &[b'x'; LEN]).await;
        if trailers {
            server.head(head.stream, END_STREAM, &[("x-sum", "1")]).await;
        }
        expect_stop(&mut client, 1, 65_535).await;
        client.send(Frame::window_update(1, 65_535)).await;
        client.send(Frame::window_update(0, 65_535)).await;
        client.expect_status(1, "200").await;
        let (body, end) = client.rest_of(1).await;
        assert_eq!((body.len(), end.is_some()), (LEN, trailers));
        let body = setup.flow().await.response.unwrap().body;
        assert_eq!((body.len, body.end), (LEN as u64, BodyEnd::Whole));
    }
}

/// The same upwards: the origin's window holds the client's body.
#[tokio::test]
async fn a_request_stops_at_the_origins_window() {
    const LEN: usize = 70_000;
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    server.grants = false;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.body(1, END_STREAM, &[b'x'; LEN]).await;
    let head = server.request().await;
    expect_stop(&mut server, head.stream, 65_535).await;
    server.send(Frame::window_update(0, 65_535)).await;
    server.send(Frame::window_update(head.stream, 65_535)).await;
    assert_eq!(server.rest_of(head.stream).await.0.len(), LEN);
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.request.unwrap().body.len, LEN as u64);
}

/// RFC 9113 §6.9.2: a window that is changed under way, to nothing and below it.
#[tokio::test]
async fn a_window_that_is_changed_holds_at_once() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2_with(&origin, &[(setting::INITIAL_WINDOW_SIZE, 10)], &[]).await;
    client.grants = false;
    client.get(1, "/").await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    server.data(head.stream, END_STREAM, [b'x'; 30]).await;
    expect_stop(&mut client, 1, 10).await;
    // 10 were sent, so that the window is 10 below nothing now.
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).await;
    client.send(Frame::window_update(1, 10)).await;
    expect_stop(&mut client, 1, 10).await;
    client.send(Frame::window_update(1, 1)).await;
    expect_stop(&mut client, 1, 11).await;
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 5)])).await;
    expect_stop(&mut client, 1, 16).await;
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)])).await;
    client.expect_status(1, "200").await;
    assert_eq!(client.rest_of(1).await.0.len(), 30);
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// RFC 9113 §4.2: no frame is larger than the peer takes.
#[tokio::test]
async fn frames_are_as_large_as_the_peer_takes() {
    const LEN: usize = 100_000;
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    server.body(head.stream, END_STREAM, &[b'x'; LEN]).await;
    client.expect_status(1, "200").await;
    let mut seen = 0;
    while seen < LEN {
        let Event::Data { data, .. } = client.on(1).await else { panic!("no data after {seen}") };
        assert!(data.len() <= 16_384, "{}", data.len());
        seen += data.len();
    }
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// What this many bytes are, somebody holds who should not.
const TOO_MUCH: usize = 8 << 20;

/// Sends to a peer that reads nothing until it is held up; how much went.
async fn until_held_up(peer: &mut H2, stream: u32) -> usize {
    let piece = vec![b'x'; 16_384];
    let mut sent = 0;
    // The one wait for something that does not happen: nothing else tells that the sender is held up.
    while sent < TOO_MUCH
        && tokio::time::timeout(Duration::from_millis(500), peer.body(stream, MORE, &piece)).await.is_ok()
    {
        sent += piece.len();
    }
    sent
}

/// H2-39: a client that grants nothing on one stream stops the origin there, and only there.
#[tokio::test]
async fn a_client_that_stops_reading_stops_the_origin_and_no_other_stream() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2_with(&origin, &[(setting::INITIAL_WINDOW_SIZE, 100)], &[]).await;
    client.grants = false;
    client.send(Frame::window_update(0, 1 << 30)).await;
    for stream in [1, 3, 5, 7] {
        client.get(stream, "/").await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        client.expect_status(stream, "200").await;
        let sent = until_held_up(&mut server, head.stream).await;
        assert!(sent < TOO_MUCH, "{sent} bytes are on their way to a client that reads nothing");
    }
    client.get(9, "/").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(9).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    expect_stop(&mut client, 1, 100).await;
    drop(client);
    for _ in 0..4 {
        assert_eq!(setup.flow().await.state, State::ClientAborted);
    }
}

/// The other way: an origin that does not read one upload.
#[tokio::test]
async fn an_origin_that_stops_reading_stops_the_client_and_no_other_stream() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2_with(&origin, &[], &[(setting::INITIAL_WINDOW_SIZE, 100)]).await;
    server.grants = false;
    server.send(Frame::window_update(0, 1 << 30)).await;
    for stream in [1, 3, 5, 7] {
        client.ask(stream, MORE, ("POST", "/"), &[]).await;
        server.request().await;
        let sent = until_held_up(&mut client, stream).await;
        assert!(sent < TOO_MUCH, "{sent} bytes are on their way to an origin that reads nothing");
    }
    client.get(9, "/").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(9).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    expect_stop(&mut server, 1, 100).await;
}

/// A client without any window is answered with a head, and takes nobody's memory.
#[tokio::test]
async fn streams_without_a_window_are_bounded() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2_with(&origin, &[(setting::INITIAL_WINDOW_SIZE, 0)], &[]).await;
    client.until("settings", |client| client.acks == 1).await;
    let limit = client.setting(setting::MAX_CONCURRENT_STREAMS).unwrap();
    assert!(limit <= 1000, "{limit}");
    for at in 0..10 {
        client.get(at * 2 + 1, "/").await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        server.data(head.stream, END_STREAM, "abc").await;
        client.expect_status(at * 2 + 1, "200").await;
    }
    client.fence().await;
    assert!(client.log.iter().all(|(kind, flags, _)| *kind != kind::DATA || *flags == 0));
    drop((client, server));
    setup.expect_flows(10).await;
}
