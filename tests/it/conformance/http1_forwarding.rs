//! Forwarding of HTTP/1 messages (RFC 9112; wire cases H1-01 to H1-50).

use manent::flow::{BodyEnd, Framing, State, Version};

use crate::harness::{GET, OK, Origin, Setup, TestCa, TlsOrigin};

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

/// H1-03, H1-06 to H1-08, pitfalls 20 to 23: every form of target comes to the origin in origin-form, otherwise as spelled.
#[tokio::test]
async fn targets_go_on_in_origin_form() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (method, target, sent) in [
        ("GET", "HTTP://{addr}/bar", "/bar"),
        ("GET", "http://{addr}", "/"),
        ("GET", "http://{addr}?q=1", "/?q=1"),
        ("GET", "http://{addr}//a//b/../c/./%7e%zz", "//a//b/../c/./%7e%zz"),
        ("GET", "http://{addr}/a|b{c}^`\\[]\"<>", "/a|b{c}^`\\[]\"<>"),
        ("GET", "http://{addr}/\u{e4}\u{1f600}", "/\u{e4}\u{1f600}"),
        ("GET", "http://{addr}/a#fragment", "/a"),
        ("GET", "/path?http://other/", "/path?http://other/"),
        ("OPTIONS", "*", "*"),
        ("OPTIONS", "http://{addr}", "*"),
        ("OPTIONS", "http://{addr}/", "/"),
        ("M-SEARCH", "http://{addr}/;p=1", "/;p=1"),
        ("get", "http://{addr}/", "/"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, &request).await;
        server.expect(origin.fill(format!("{method} {sent} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n"))).await;
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
        let flow = setup.flow().await;
        assert_eq!(flow.request.as_ref().unwrap().target, origin.fill(target), "{target}");
        assert_eq!(flow.target.port, origin.addr().port());
        assert_eq!(flow.server.unwrap().peer.as_ref().unwrap().port, origin.addr().port());
    }
}

/// H1-03, H1-04: a request of HTTP/1.0 needs no `Host`; the origin gets one, and HTTP/1.1, the version of its own hop.
#[tokio::test]
async fn an_http10_request_goes_on_as_http11_with_host() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, "GET http://{addr}/ HTTP/1.0\r\n\r\n").await;
    server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    server.send("HTTP/1.1 204 \r\n\r\n").await;
    client.expect("HTTP/1.1 204 \r\nConnection: close\r\n\r\n").await;
    client.expect_end().await;
    let request = setup.flow().await.request.unwrap();
    assert_eq!((request.version, request.headers.len()), (Version::Http10, 0));
}

/// H1-22, H1-26, pitfalls 24, 25, 27 to 29: order, case, repetition, empty and non-UTF-8 values, reason bytes, both ways.
#[tokio::test]
async fn fields_keep_order_case_repetition_and_bytes() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let fields =
        b"hEADer: one\r\nZ: \xe4\xff\r\nHeader: two\r\nCookie: a=1\r\ncookie: b=2\r\nbar: \r\nA: x, y,,z\r\n";
    let request = [b"GET / HTTP/1.1\r\nHost: {addr}\r\n", &fields[..], b"\r\n"].concat();
    let (mut client, mut server) = setup.begin(&origin, &request).await;
    server.expect(origin.fill(&request)).await;
    let cookies = b"Set-Cookie: a=1, b\r\nset-cookie: c\r\nWWW-Authenticate: X\r\nWWW-Authenticate: Y\r\n";
    let head = [b"HTTP/1.1 200 Non-Autoris\xc3\xa9 \r\n", &fields[..], cookies].concat();
    let response = [&head[..], b"Content-Length: 0\r\n\r\n"].concat();
    server.send(&response).await;
    client.expect(&response).await;
    let flow = setup.flow().await;
    let (request, response) = (flow.request.unwrap(), flow.response.unwrap());
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"Host"[..], b"hEADer", b"Z", b"Header", b"Cookie", b"cookie", b"bar", b"A"]);
    assert_eq!(request.headers.get("z"), Some(&b"\xe4\xff"[..]));
    assert_eq!(response.reason, &b"Non-Autoris\xc3\xa9 "[..]);
    assert_eq!(response.headers.get_all("set-cookie").count(), 2);
    assert_eq!((request.raw_head, response.raw_head), (None, None));
}

/// H1-22: white space around values is not part of them; it is repaired on the way, and the record has what came.
#[tokio::test]
async fn odd_white_space_goes_on_repaired_and_is_recorded_raw() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "GET / HTTP/1.1\r\nHost:{addr}\r\na:1\r\nb: \t 2 \t\r\nbar:\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, request).await;
    server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\na: 1\r\nb: 2\r\nbar: \r\n\r\n")).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.request.unwrap().raw_head.unwrap(), origin.fill(request));
}

/// H1-48, pitfalls 1 to 3: what belongs to one hop does not go on, what `Connection` names neither, whatever its case and
/// on however many lines; but a client cannot erase what frames, routes or authorises.
#[tokio::test]
async fn hop_by_hop_fields_are_taken_out_of_requests() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "GET / HTTP/1.1\r\nHost: {addr}\r\nProxy-Connection: keep-alive\r\nx-fOO: 1\r\n\
        Connection: keep-alive, X-Foo ,Host,,content-length\r\nKeep-Alive: 3\r\nTE: gzip\r\nX-Bar: 2\r\n\
        connection: x-bar, Authorization\r\nAuthorization: a\r\nX-Keep: 3\r\nContent-Length: 0\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, request).await;
    let wanted =
        "GET / HTTP/1.1\r\nHost: {addr}\r\nAuthorization: a\r\nX-Keep: 3\r\nContent-Length: 0\r\n\r\n";
    server.expect(origin.fill(wanted)).await;
    server.send(OK).await;
    client.expect(OK).await;
    let headers = setup.flow().await.request.unwrap().headers;
    assert_eq!(headers.get("x-foo"), Some(&b"1"[..]));
    assert_eq!(headers.get("proxy-connection"), Some(&b"keep-alive"[..]));
}

/// H1-48 for responses: `Connection`, `Keep-Alive` and what is named do not come to the client.
#[tokio::test]
async fn hop_by_hop_fields_are_taken_out_of_responses() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    let head = "HTTP/1.1 200 OK\r\nX-Foo: 1\r\nConnection: keep-alive, x-foo\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: x\r\nUpgrade: h2c\r\nDate: d\r\nContent-Length: 0\r\n\r\n";
    server.send(head).await;
    client.expect("HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(setup.flow().await.response.unwrap().headers.get("keep-alive"), Some(&b"timeout=5"[..]));
}

/// Pitfall 3: credentials for the proxy reach neither the origin nor the record, also not from a head that is refused.
#[tokio::test]
async fn proxy_credentials_reach_nobody() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let secret = "Proxy-Authorization:  Basic dGVzdDp0ZXN0\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: {{addr}}\r\n{secret}X: y\r\n\r\n");
    let (mut client, mut server) = setup.begin(&origin, &request).await;
    server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\nX: y\r\n\r\n")).await;
    server.send(OK).await;
    client.expect(OK).await;
    client.send(origin.fill(format!("GET / HTTP/1.1\r\n{secret}Bad Name: x\r\n\r\n"))).await;
    client.expect_error("400").await;
    for _ in 0..2 {
        let request = setup.flow().await.request.unwrap();
        let raw = String::from_utf8_lossy(&request.raw_head.unwrap()).into_owned();
        assert!(
            raw.contains("Proxy-Authorization:  ***** ************\r\n") && !raw.contains("dGVz"),
            "{raw}"
        );
        assert!(request.headers.get("proxy-authorization").is_none_or(|v| v == b"(redacted)"));
    }
}

/// SM-18: where `Host` differs from the target, the target wins (RFC 9112 §3.2.2); the record has what came.
#[tokio::test]
async fn an_absolute_target_overrules_host() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for host in ["other.test", "a b", "", "127.0.0.1"] {
        let request = format!("GET http://{{addr}}/ HTTP/1.1\r\nA: 1\r\nHost: {host}\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, &request).await;
        server.expect(origin.fill("GET / HTTP/1.1\r\nA: 1\r\nHost: {addr}\r\n\r\n")).await;
        server.send(OK).await;
        client.expect(OK).await;
        assert_eq!(setup.flow().await.request.unwrap().headers.get("host"), Some(host.as_bytes()));
    }
}

/// H1-42, pitfalls 10, 31, 32; `h1.get-with-body`: a body goes on as it was framed, whatever the method; chunk sizes and
/// extensions are this hop's own.
#[tokio::test]
async fn request_bodies_keep_their_framing() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (fields, body, sent, framing) in [
        ("Content-Length: 3\r\n", "abc", "abc", Framing::Length),
        ("Content-Length: 3 \t\r\n", "abc", "abc", Framing::Length),
        (
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            Framing::Chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "03;x=\"y\"\r\nabc\r\n00\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            Framing::Chunked,
        ),
        (
            "transfer-encoding: CHUNKED\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            Framing::Chunked,
        ),
        (
            "Transfer-Encoding: gzip,\tchunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            Framing::Chunked,
        ),
    ] {
        for method in ["POST", "GET", "DELETE", "HEAD", "FOO"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: {{addr}}\r\n{fields}\r\n");
            let (mut client, mut server) = setup.begin(&origin, format!("{head}{body}")).await;
            server.expect(origin.fill(head.replace(" \t\r\n", "\r\n"))).await;
            server.expect(sent).await;
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
            let stored = setup.flow().await.request.unwrap().body;
            assert_eq!(stored.as_inline().unwrap(), "abc", "{method} {fields}");
            assert_eq!(
                (stored.framing, stored.end, stored.wire_len),
                (framing, BodyEnd::Whole, body.len() as u64)
            );
        }
    }
}

/// H1-43, pitfall 34: trailers go on both ways and are recorded; one that would change the framing does not go on.
#[tokio::test]
async fn trailers_pass_and_are_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let body = "3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, format!("{head}{body}")).await;
    server.expect(origin.fill(format!("{head}{body}"))).await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.send(format!("{head}3\r\nabc\r\n0\r\ngrpc-status: 0\r\nContent-Length: 7\r\n\r\n")).await;
    client.expect(format!("{head}3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n")).await;
    let flow = setup.flow().await;
    let (sent, got) = (flow.request.unwrap().trailers.unwrap(), flow.response.unwrap().trailers.unwrap());
    assert_eq!(sent.get_all("x-sum").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!((got.get("grpc-status"), got.get("content-length")), (Some(&b"0"[..]), Some(&b"7"[..])));
}

/// `TE: trailers` is what this hop can keep; the rest of `TE` is the client's hop's (RFC 9110 §10.1.4).
#[tokio::test]
async fn te_trailers_is_made_anew() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "GET / HTTP/1.1\r\nHost: {addr}\r\nTE: trailers, deflate\r\nConnection: TE, close\r\n\r\n";
    let (_client, mut server) = setup.begin(&origin, request).await;
    let wanted = "GET / HTTP/1.1\r\nHost: {addr}\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    server.expect(origin.fill(wanted)).await;
}

/// H1-40: however the bytes are cut, the result is the same.
#[tokio::test]
async fn one_byte_a_segment_is_as_good_as_one_segment() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = setup.client().await;
    let head = "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.trickle(origin.fill(format!("\r\n{head}3\r\nabc\r\n0\r\nT: 1\r\n\r\n"))).await;
    let mut server = origin.accept().await;
    server.expect(origin.fill(head.replace("http://{addr}", ""))).await;
    server.expect("3\r\nabc\r\n0\r\nT: 1\r\n\r\n").await;
    server.trickle("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz").await;
    client.expect("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz").await;
    let flow = setup.flow().await;
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abc");
    assert_eq!(flow.response.unwrap().body.as_inline().unwrap(), "xyz");
}

/// RFC 9110 §7.6.2: `Max-Forwards` is counted down, and at 0 we answer; only for TRACE and OPTIONS.
#[tokio::test]
async fn max_forwards_is_counted() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (method, given, sent) in [("TRACE", "7", "6"), ("OPTIONS", "1", "0"), ("GET", "0", "0")] {
        let request = |n| format!("{method} / HTTP/1.1\r\nHost: {{addr}}\r\nMax-Forwards: {n}\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, request(given)).await;
        server.expect(origin.fill(request(sent))).await;
        server.send(OK).await;
        client.expect(OK).await;
    }
    let mut client = setup.client().await;
    client.send(origin.fill("OPTIONS * HTTP/1.1\r\nHost: {addr}\r\nMax-Forwards: 0\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    origin.expect_nobody();
    for _ in 0..3 {
        setup.flow().await;
    }
    assert!(setup.flow().await.response.unwrap().by_proxy);
}
