//! RFC 9112 §6.3, §8, RFC 9113 §8.1: answers of HTTP/1 origins to clients of HTTP/2: an end is an end only where it was told
//! (wire case H2-33, pitfall 45).

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::h2::{H2, Speaks, code};
use crate::harness::{Peer, Setup, TestCa, TlsOrigin, ending};

/// A client in HTTP/2 that has asked an origin in HTTP/1.
async fn asked() -> (Setup, TlsOrigin, H2, Peer) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http1).await;
    let (mut client, mut server) = tokio::join!(setup.h2_client(&origin, &[]), origin.settle());
    client.get(1, "/").await;
    server.head().await;
    (setup, origin, client, server)
}

/// A body up to the close ends the stream, if TLS says that it was the end; the connection to the client lives.
#[tokio::test]
async fn a_body_up_to_the_close_needs_a_close_notify() {
    for polite in [true, false] {
        let (mut setup, origin, mut client, mut server) = asked().await;
        server.send("HTTP/1.1 200 OK\r\nX: y\r\n\r\nfoo").await;
        let head = client.expect_status(1, "200").await;
        assert_eq!(head.fields.len(), 2);
        client.expect_data(1, "foo").await;
        if polite {
            server.half_close().await;
            assert_eq!(client.rest_of(1).await, (Vec::new(), None));
        }
        drop(server);
        if !polite {
            assert_ne!(client.cut(1).await, code::NO_ERROR);
        }
        let flow = setup.flow().await;
        let cut = (State::ServerAborted, Some((Side::Server, Stage::ResponseBody)));
        assert_eq!(ending(&flow), if polite { (State::Complete, None) } else { cut });
        client.get(3, "/").await;
        let mut server = origin.settle().await;
        server.head().await;
        server.send(crate::harness::OK).await;
        client.expect_ok(3).await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// What is cut is cut: a reset, never END_STREAM.
#[tokio::test]
async fn a_cut_body_is_a_reset() {
    for (head, rest) in [
        ("Content-Length: 9\r\n\r\nfoo", ""),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nfoo", "\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nfoo", "\r\n0\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nfoo", "\r\nffffffffffffffffff\r\n"),
    ] {
        let (mut setup, _origin, mut client, mut server) = asked().await;
        server.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        client.expect_status(1, "200").await;
        client.expect_data(1, "foo").await;
        server.send(rest).await;
        server.half_close().await;
        assert_ne!(client.cut(1).await, code::NO_ERROR, "{head}{rest}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
        assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
        client.fence().await;
    }
}

/// What cannot be read in one way is a 502 on the stream.
#[tokio::test]
async fn a_response_that_is_none_is_a_502_on_the_stream() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nfoo",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfoo",
        "garbage\r\n\r\n",
        "",
    ] {
        let (mut setup, _origin, mut client, mut server) = asked().await;
        server.send(response).await;
        server.half_close().await;
        client.expect_status(1, "502").await;
        client.rest_of(1).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))), "{response}");
        client.fence().await;
    }
}

/// A field that no HTTP/2 peer takes, such as a folded one, does not make the message one that it refuses.
#[tokio::test]
async fn odd_fields_come_out_as_http2_allows() {
    let (mut setup, _origin, mut client, mut server) = asked().await;
    server
        .send("HTTP/1.1 200 Fine\r\nX-Folded: a\r\n b\r\nX-Empty:\r\nX-Blank:   y  \r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = client.expect_status(1, "200").await;
    assert!(head.fields.iter().all(|(name, _)| name.chars().all(|c| !c.is_ascii_uppercase())));
    assert_eq!((head.get("x-empty"), head.get("x-blank")), ("", "y"));
    assert!(head.get("x-folded").starts_with('a') && !head.get("x-folded").contains(['\r', '\n']));
    assert_eq!(client.rest_of(1).await.0, b"ok");
    assert_eq!(setup.flow().await.state, State::Complete);
}
