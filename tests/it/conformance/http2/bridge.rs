//! RFC 8441 §5: a WebSocket of a client that speaks HTTP/1.1 with an origin that speaks HTTP/2 alone.

use manent::flow::{Opcode, State, Version};

use crate::harness::h2::{END_STREAM, Event, H2, MORE, NAME, Speaks, setting};
use crate::harness::{Peer, Setup, TestCa, TlsOrigin, ending, frame, masked, opening};

/// A client that has asked for a WebSocket, and the origin, which takes extended CONNECT if `takes`.
async fn asked(takes: bool) -> (Setup, Peer, H2) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http2).await;
    let authority = format!("127.0.0.1:{}", origin.addr().port());
    let settings = [(setting::ENABLE_CONNECT_PROTOCOL, u32::from(takes))];
    let (client, server) = tokio::join!(setup.tls_client(&authority, NAME, &["http/1.1"]), async {
        H2::server_with(origin.settle().await, &settings).await
    });
    let mut client = client.unwrap();
    client.send(opening("/chat").replace("{addr}", NAME)).await;
    (setup, client, server)
}

/// The origin's 2xx is the client's 101, with the proof that it waits for; frames pass as they are, and are recorded.
#[tokio::test]
async fn upgrade_becomes_an_extended_connect() {
    let (mut setup, mut client, mut server) = asked(true).await;
    let head = server.request().await;
    for (name, value) in [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", NAME),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
    ] {
        assert_eq!(head.get(name), value, "{head:?}");
    }
    let dropped = ["connection", "upgrade", "host", "sec-websocket-key"];
    assert!(!head.end && dropped.iter().all(|name| !head.has(name)), "{head:?}");
    let stream = head.stream;
    server.head(stream, MORE, &[(":status", "200"), ("sec-websocket-protocol", "chat")]).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    for field in [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "sec-websocket-protocol: chat\r\n",
    ] {
        assert!(answer.contains(field), "{field}{answer}");
    }
    let (said, answered) = (masked(0x81, "hello"), frame(0x82, "back"));
    client.send(&said).await;
    server.expect_data(stream, &said).await;
    server.data(stream, MORE, &answered).await;
    client.expect(&answered).await;
    let (bye, echo) = (masked(0x88, b"\x03\xe8"), frame(0x88, b"\x03\xe8"));
    client.send(&bye).await;
    server.expect_data(stream, &bye).await;
    server.data(stream, END_STREAM, &echo).await;
    client.expect(&echo).await;
    client.half_close().await;
    drop(client);
    assert!(server.rest_of(stream).await.0.is_empty());
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let close = b"\x03\xe8".to_vec();
    assert_eq!(
        setup.said(&flow),
        [
            ("client", Opcode::Text, b"hello".to_vec()),
            ("server", Opcode::Binary, b"back".to_vec()),
            ("client", Opcode::Close, close.clone()),
            ("server", Opcode::Close, close),
        ]
    );
    // What each end has said, in its own protocol.
    let (request, response) = (flow.request.unwrap(), flow.response.unwrap());
    assert_eq!((&request.method[..], request.version), (&b"GET"[..], Version::Http11));
    assert!(request.headers.get("sec-websocket-key").is_some());
    assert_eq!((response.status, response.version), (200, Version::Http2));
}

/// An origin that refuses is heard, and the client's connection goes on.
#[tokio::test]
async fn refused_upgrade_is_an_answer_like_others() {
    let (mut setup, mut client, mut server) = asked(true).await;
    for _ in 0..2 {
        let head = server.request().await;
        assert_eq!(head.get(":protocol"), "websocket");
        server.head(head.stream, MORE, &[(":status", "403"), ("content-length", "2")]).await;
        server.data(head.stream, END_STREAM, "no").await;
        assert!(client.head().await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        client.expect("no").await;
        let flow = setup.flow().await;
        assert_eq!((ending(&flow), flow.websocket), ((State::Complete, None), None));
        client.send(opening("/chat").replace("{addr}", NAME)).await;
    }
}

/// An origin that is gone in the middle is told by a break.
#[tokio::test]
async fn origin_that_resets_the_stream_breaks_the_client_s_connection() {
    let (mut setup, mut client, mut server) = asked(true).await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    client.head().await;
    server.data(head.stream, MORE, frame(0x81, "hi")).await;
    client.expect(frame(0x81, "hi")).await;
    server.send(crate::harness::h2::Frame::rst(head.stream, 8)).await;
    client.expect_break().await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::ServerAborted);
    assert_eq!(flow.websocket.unwrap().close_code, Some(1006));
}

/// Where it takes none, it gets the request as one without an upgrade, and answers as it will.
#[tokio::test]
async fn upgrade_goes_no_further_than_an_origin_that_takes_none() {
    let (mut setup, mut client, mut server) = asked(false).await;
    let head = server.request().await;
    assert_eq!((head.get(":method"), head.has(":protocol"), head.end), ("GET", false, true));
    server.head(head.stream, END_STREAM, &[(":status", "400")]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(setup.flow().await.state, State::Complete);
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
}
