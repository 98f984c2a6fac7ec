//! HTTP/1 inside intercepted TLS: ends are ends only where TLS says so (RFC 9112 §9.8), and nothing goes on in clear.

use manent::flow::{BodyEnd, Scheme, Side, Stage, State};

use crate::harness::{OK, Peer, Setup, TestCa, TlsOrigin, ending};

/// A proxy and an origin that it trusts.
async fn start() -> (Setup, TlsOrigin) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    (setup, TlsOrigin::listen(ca.server_config(&["origin.test", "127.0.0.1"], &["http/1.1"])).await)
}

/// Client and origin with a request under way.
async fn asked(setup: &Setup, origin: &TlsOrigin) -> (Peer, Peer) {
    let (mut client, mut server) = setup.https(origin, "origin.test").await;
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    (client, server)
}

/// H1-18 in TLS: a body up to the close is whole if the origin said good-bye; so do we then.
#[tokio::test]
async fn a_body_up_to_the_close_needs_a_close_notify() {
    let (mut setup, origin) = start().await;
    for polite in [true, false] {
        let (mut client, mut server) = asked(&setup, &origin).await;
        server.send("HTTP/1.1 200 OK\r\n\r\nfoo").await;
        client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfoo").await;
        if polite {
            server.half_close().await;
        }
        drop(server);
        let (rest, end) = client.rest().await;
        assert_eq!((rest.len(), end.is_ok()), (0, polite));
        drop(client);
        let flow = setup.flow().await;
        let cut = (State::ServerAborted, Some((Side::Server, Stage::ResponseBody)));
        assert_eq!(ending(&flow), if polite { (State::Complete, None) } else { cut });
        let body = flow.response.unwrap().body;
        assert_eq!(body.end, if polite { BodyEnd::Whole } else { BodyEnd::CutOff });
    }
}

/// H1-34, `tls.truncation`: the client of a cut body gets no close_notify, also where the origin sent one.
#[tokio::test]
async fn a_cut_response_ends_without_close_notify() {
    let (mut setup, origin) = start().await;
    for polite in [true, false] {
        let (mut client, mut server) = asked(&setup, &origin).await;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfoo").await;
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfoo").await;
        if polite {
            server.half_close().await;
        }
        drop(server);
        assert!(client.rest().await.1.is_err());
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
    }
}

/// A length or a last chunk tells the end by itself: what TLS does after it does not matter.
#[tokio::test]
async fn a_whole_body_needs_no_close_notify() {
    let (mut setup, origin) = start().await;
    let (mut client, mut server) = asked(&setup, &origin).await;
    server.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nfoo").await;
    drop(server);
    client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nfoo").await;
    client.expect_end().await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// Pitfall 51: in TLS a client that ends its direction is gone, and its exchange with it.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let (mut setup, origin) = start().await;
    let (client, mut server) = asked(&setup, &origin).await;
    drop(client);
    let (rest, _) = server.rest().await;
    assert!(rest.is_empty());
    assert_eq!(setup.flow().await.state, State::ClientAborted);
}

/// H1-36 in TLS: an upload that ends without its end is cut for the origin, without a close_notify.
#[tokio::test]
async fn a_cut_upload_is_cut_for_the_origin() {
    let (mut setup, origin) = start().await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    client.send("POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 9\r\n\r\nabc").await;
    server.head().await;
    server.expect("abc").await;
    client.half_close().await;
    let (rest, end) = server.rest().await;
    assert!(rest.is_empty() && end.is_err());
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::RequestBody))));
}

/// `h1.https-uri-no-downgrade`: an https URL on the explicit port goes out in verified TLS, or not at all.
#[tokio::test]
async fn an_https_url_is_asked_for_in_tls() {
    let (mut setup, origin) = start().await;
    let addr = origin.addr();
    let request = format!("GET https://{addr}/x HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let mut client = setup.client().await;
    client.send(&request).await;
    let mut server = origin.accept().await;
    server.expect(format!("GET /x HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.target.scheme), (State::Complete, Scheme::Https));
    assert!(flow.server.as_ref().unwrap().tls.as_ref().unwrap().verified);

    let (mut untrusting, mut client) = (Setup::start().await, client);
    drop(server);
    client.half_close().await;
    let mut client = untrusting.client().await;
    client.send(&request).await;
    assert!(origin.try_accept().await.is_err());
    client.expect_error("502").await;
    let flow = untrusting.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::Tls))));
}
