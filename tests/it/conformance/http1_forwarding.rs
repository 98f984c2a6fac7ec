//! Forwarding of HTTP/1 messages (RFC 9112; wire cases H1-01 to H1-50).

use manent::flow::{BodyEnd, Framing, State};

use crate::harness::{Origin, Setup, TestCa, TlsOrigin};

/// H1-01, H1-02: origin-form to the origin, nothing added, the body as it came.
#[tokio::test]
async fn request_and_response_pass_unchanged() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, addr) = (setup.client().await, origin.addr());
    client
        .send(format!("GET http://{addr}/foo?hello=1 HTTP/1.1\r\nHOST: {addr}\r\nX-b: 2\r\nX-A: 1\r\n\r\n"))
        .await;
    let mut server = origin.accept().await;
    server.expect(format!("GET /foo?hello=1 HTTP/1.1\r\nHOST: {addr}\r\nX-b: 2\r\nX-A: 1\r\n\r\n")).await;
    server.send("HTTP/1.1 200 Fine\r\nContent-Length: 12\r\nx-odd:\r\n\r\nHello World").await;
    client.expect("HTTP/1.1 200 Fine\r\nContent-Length: 12\r\nx-odd: \r\n\r\nHello World").await;
    server.send("!").await;
    client.expect("!").await;

    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error), (State::Complete, None));
    let (request, response) = (flow.request.unwrap(), flow.response.unwrap());
    assert_eq!(request.target, format!("http://{addr}/foo?hello=1"));
    assert_eq!(request.headers.iter().nth(1), Some((&b"X-b"[..], &b"2"[..])));
    assert_eq!(response.body.as_inline().unwrap(), "Hello World!");
    assert_eq!((response.body.framing, response.body.end), (Framing::Length, BodyEnd::Whole));
    assert_eq!(response.raw_head.unwrap(), "HTTP/1.1 200 Fine\r\nContent-Length: 12\r\nx-odd:\r\n\r\n");
}

/// The same inside TLS: both handshakes are recorded, and the next request goes out on the same connection.
#[tokio::test]
async fn https_is_intercepted_and_recorded() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    for path in ["/one", "/two"] {
        let port = origin.addr().port();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")).await;
        server.expect(format!("GET {path} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")).await;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let flow = setup.flow().await;
        assert_eq!(flow.state, State::Complete);
        assert_eq!(flow.server_reused, path == "/two");
        let tls = flow.client.tls.as_ref().unwrap();
        assert_eq!((tls.sni.as_deref(), tls.version.as_deref()), (Some("origin.test"), Some("TLSv1.3")));
        assert_eq!(flow.client.connect.as_ref().unwrap().authority, format!("127.0.0.1:{port}"));
        let tls = flow.server.as_ref().unwrap().tls.as_ref().unwrap();
        assert!(tls.verified && tls.chain.len() == 1 && tls.alpn.as_deref() == Some(b"http/1.1"));
    }
}
