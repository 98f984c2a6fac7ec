//! WebSockets: the origin's part is played from the record.

use manent::replay::serve::ServeOptions;

use crate::harness::h2::{H2, MORE, setting};
use crate::harness::{Origin, Peer, Setup, frame, masked, opening};

/// A talk on record: the origin greets, answers each of two messages, and closes.
async fn talked(extension: &str) -> (Setup, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, extension).await;
    tell(&mut server, &mut client, frame(0x81, "hello")).await;
    for (asked, answered) in [("one", "two"), ("three", "four")] {
        tell(&mut client, &mut server, masked(0x81, asked)).await;
        tell(&mut server, &mut client, frame(0x82, answered)).await;
    }
    let large = frame(0x82, vec![b'x'; 200_000]);
    tokio::join!(server.send(&large), client.expect(&large));
    tell(&mut server, &mut client, frame(0x88, [3, 232])).await;
    tell(&mut client, &mut server, masked(0x88, [3, 232])).await;
    drop((client, server));
    setup.flow().await;
    (setup, origin)
}

async fn tell(from: &mut Peer, to: &mut Peer, frame: Vec<u8>) {
    from.send(&frame).await;
    to.expect(&frame).await;
}

/// Each message when the client has said as much as it had then; what it says is not compared, and pings are answered.
#[tokio::test]
async fn a_websocket_talks_as_it_did() {
    let (setup, origin) = talked("").await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(opening("http://{addr}/chat"))).await;
    let head = client.head().await;
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Protocol: chat\r\n") && !head.contains("Extensions"), "{head}");
    client.expect(frame(0x81, "hello")).await;
    client.send(masked(0x89, "ping")).await;
    client.expect(frame(0x8a, "ping")).await;
    client.send(masked(0x81, "uno")).await;
    client.expect(frame(0x82, "two")).await;
    client.send(masked(0x81, "tres")).await;
    client.expect(frame(0x82, "four")).await;
    client.expect(frame(0x82, vec![b'x'; 200_000])).await;
    client.expect(frame(0x88, [3, 232])).await;
    client.send(masked(0x88, [3, 232])).await;
    client.expect_end().await;
    origin.expect_nobody();
}

/// What was compressed on the wire is on record as it was meant. No extension is agreed on, though the client offers the one
/// that the origin had agreed to, so the frames are plain ones.
#[tokio::test]
async fn a_talk_that_was_compressed_is_served_plain() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "permessage-deflate").await;
    // "Hello" twice, the second by the first one's window (RFC 7692 §7.2.3.2); from both sides.
    for hello in [&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\xf2\x00\x11\x00\x00"] {
        tell(&mut client, &mut server, masked(0xc1, hello)).await;
        tell(&mut server, &mut client, frame(0xc1, hello)).await;
    }
    drop((client, server));
    setup.flow().await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(opening("http://{addr}/chat"))).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Extensions"), "{head}");
    for _ in 0..2 {
        client.send(masked(0x81, "Hello")).await;
        client.expect(frame(0x81, "Hello")).await;
    }
}

/// A client that closes is answered, wherever the talk is.
#[tokio::test]
async fn a_close_is_echoed() {
    let (setup, origin) = talked("").await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(opening("http://{addr}/chat"))).await;
    client.head().await;
    client.expect(frame(0x81, "hello")).await;
    client.send(masked(0x88, [&[3, 233][..], b"bye"].concat())).await;
    client.expect(frame(0x88, [3, 233])).await;
    client.expect_end().await;
}

/// Frames that break the rules end it with the code for that.
#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_so() {
    let (setup, origin) = talked("").await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(opening("http://{addr}/chat"))).await;
    client.head().await;
    client.expect(frame(0x81, "hello")).await;
    client.send(frame(0x81, "not masked")).await;
    client.expect(frame(0x88, 1002_u16.to_be_bytes())).await;
}

/// A page at the same place is not a WebSocket, nor the other way round.
#[tokio::test]
async fn a_page_and_a_websocket_are_two_things() {
    let (mut setup, origin) = talked("").await;
    setup.record(&origin, &super::get("/page"), &super::ok("page")).await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    serving.expect_miss(&origin, &super::get("/chat")).await;
    // But a handshake may have been refused with a page.
    let answer = serving.answer(&origin, &opening("http://{addr}/page")).await;
    assert_eq!(answer, super::ok("page"));
}

/// Over HTTP/2, where extended `CONNECT` is offered.
#[tokio::test]
async fn a_websocket_is_served_over_http2() {
    let (setup, origin) = talked("").await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = H2::client(serving.tunnel(&origin.addr().to_string()).await).await;
    client.until("settings", |client| client.acks == 1).await;
    assert_eq!(client.setting(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    let authority = origin.addr().to_string();
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", &authority),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ];
    client.head(1, MORE, &connect).await;
    let head = client.expect_status(1, "200").await;
    assert_eq!(head.get("sec-websocket-protocol"), "chat");
    assert!(!head.has("sec-websocket-accept") && !head.has("sec-websocket-extensions"), "{head:?}");
    client.expect_data(1, frame(0x81, "hello")).await;
    client.data(1, MORE, masked(0x81, "uno")).await;
    client.expect_data(1, frame(0x82, "two")).await;
    origin.expect_nobody();
}
