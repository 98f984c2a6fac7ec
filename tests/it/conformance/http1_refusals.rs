//! Requests that cannot be read, or not in one way only (RFC 9112 §2, §3, §5): refused, recorded, and never sent on.

use manent::flow::{Flow, Kind, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

/// Sends each request on a connection of its own, wants this status, and gives the flow. Nothing is dialled, and nothing
/// else is recorded.
async fn refused<'a>(
    requests: impl IntoIterator<Item = &'a [u8]>,
    status: &str,
    stage: Stage,
) -> Vec<(Vec<u8>, Flow)> {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut flows = Vec::new();
    for request in requests {
        let request = origin.fill(request);
        let mut client = setup.client().await;
        // The refusal may come before all is sent.
        let _ = client.try_send(&request).await;
        let answer = client.expect_error(status).await;
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        let flow = setup.flow().await;
        assert_eq!(
            ending(&flow),
            (State::Refused, Some((Side::Client, stage))),
            "{}",
            request.escape_ascii()
        );
        assert!(flow.response.as_ref().unwrap().by_proxy && flow.server.is_none());
        flows.push((request, flow));
    }
    origin.expect_nobody();
    setup.expect_flows(flows.len() as u64).await;
    flows
}

/// H1-10, H1-11, CN-30, SM-16: first lines that are none; the bytes are kept.
#[tokio::test]
async fn malformed_request_lines() {
    let lines: [&[u8]; 20] = [
        b"GET / WTF/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1 \r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.2\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ http/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.10\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/2.0\r\nHost: {addr}\r\n\r\n",
        b"GET  http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/  HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET\thttp://{addr}/\tHTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/a b HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/\x00 HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/\x0b HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/\r HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b" GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"G(T http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/\r\n",
        b"this is not http\r\n",
        b"PRI * HTTP/2.0\r\n\r\nno",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x00",
    ];
    for (request, flow) in refused(lines, "400", Stage::RequestHead).await {
        assert_eq!(flow.request.unwrap().raw_head.unwrap(), request);
    }
}

/// H1-23 to H1-25, SM-03, SM-16, pitfalls 15 to 17, `h1.name-with-space`, `h1.space-before-colon`: field lines.
#[tokio::test]
async fn malformed_fields() {
    let fields: [&[u8]; 26] = [
        b": foo",
        b":foo",
        b"foo",
        b"foo\r\nbar: 1",
        b"Content-Length : 42",
        b"Content-Length\t: 42",
        b"Transfer-Encoding : chunked",
        b"Host : {addr}",
        b"Two Words: 1",
        b"X(: 1",
        b"X\x80: 1",
        b"X\xc3\xa9: 1",
        b"X\x00: 1",
        b"\"X\": 1",
        b"Header: one\r\n\ttwo",
        b"Header: one\r\n two",
        b"X: a\x00b",
        b"X: a\rb",
        b"X: a\r",
        b"X: a\rContent-Length: 3",
        b"X: a\x01b",
        b"Transfer-Encoding: chunked\x0b",
        b"Transfer-Encoding: \x0bchunked",
        b"X: a\x7fb",
        b"X: a\nY: b",
        b"X: a\n",
    ];
    let requests: Vec<_> = fields
        .iter()
        .flat_map(|field| {
            let first = [b"GET http://{addr}/ HTTP/1.1\r\n", *field, b"\r\nHost: {addr}\r\n\r\n"].concat();
            let last = [b"GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n", *field, b"\r\n\r\n"].concat();
            [first, last]
        })
        .collect();
    for (request, flow) in refused(requests.iter().map(|r| &r[..]), "400", Stage::RequestHead).await {
        assert_eq!(flow.request.unwrap().raw_head.unwrap(), request);
    }
}

/// H1-25: white space before the first field, where some parsers skip it and others fold it into the request line.
#[tokio::test]
async fn white_space_before_the_first_field() {
    let requests: [&[u8]; 3] = [
        b"GET http://{addr}/ HTTP/1.1\r\n\tHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\n Content-Length: 5\r\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\n \r\nHost: {addr}\r\n\r\n",
    ];
    refused(requests, "400", Stage::RequestHead).await;
}

/// SM-16, `h1.bare-lf`: lines that end in LF alone, one of them or all.
#[tokio::test]
async fn bare_line_feeds() {
    let requests: [&[u8]; 6] = [
        b"GET http://{addr}/ HTTP/1.1\nHost: {addr}\n\n",
        b"GET http://{addr}/ HTTP/1.1\nHost: {addr}\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\n",
        b"\nGET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"\r\n\nGET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
    ];
    refused(requests, "400", Stage::RequestHead).await;
}

/// H1-05, H1-09: requests that are well formed, but name no origin that we could go to.
#[tokio::test]
async fn targets_that_name_no_origin() {
    let targets: [&[u8]; 22] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@{addr}\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {addr}x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET ws://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET ftp://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http:/{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://u:p@{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://:80/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://h:0/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://h:+80/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET http://a%00b/ HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: {addr}\r\n\r\n",
        b"OPTIONS *x HTTP/1.1\r\nHost: {addr}\r\n\r\n",
    ];
    let flows = refused(targets, "400", Stage::Target).await;
    let text = flows[0].1.error.as_ref().unwrap().message.clone();
    assert!(text.contains("names no destination"), "{text}");
    assert!(
        flows
            .iter()
            .all(|(_, flow)| flow.request.as_ref().unwrap().raw_head.is_none() || flow.kind == Kind::Http)
    );
}

/// H1-05, SM-18, pitfalls 18, 19: HTTP/1.1 has exactly one `Host`, also where the target is absolute (RFC 9112 §3.2).
#[tokio::test]
async fn not_exactly_one_host() {
    let requests: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {addr}\r\nHost: {addr}\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {addr}\r\nhost: other\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nHost: other\r\n\r\n",
        b"GET http://{addr}/ HTTP/1.0\r\nHost: {addr}\r\nHost: {addr}\r\n\r\n",
    ];
    for (_, flow) in refused(requests, "400", Stage::RequestHead).await {
        assert!(flow.error.unwrap().message.contains("Host"));
    }
}

/// H1-38, `prod.error-page-escapes`, squid's CVE-2025-62168: an error answer is plain text that no browser takes for markup, and
/// quotes no field of the request.
#[tokio::test]
async fn error_answers_are_plain_text_without_fields() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    client.send("GET http://<script>:1/ HTTP/1.1\r\nHost: x\r\nAuthorization: secret\r\n\r\n").await;
    let answer = client.expect_error("400").await;
    assert!(answer.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{answer}");
    assert!(!answer.contains("secret") && !answer.contains("<script>"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nmanent: client request target: invalid host name\n"), "{answer}");
}

/// H1-39, CVE-2022-24766: garbage after a good request is refused by itself; the good one's flow is intact.
#[tokio::test]
async fn garbage_after_a_good_request_is_a_flow_of_its_own() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 3\r\n\r\nabcdefg hij\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, request).await;
    server.expect("abc").await;
    server.send(OK).await;
    client.expect(OK).await;
    client.expect_error("400").await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    let garbage = setup.flow().await;
    assert_eq!(ending(&garbage), (State::Refused, Some((Side::Client, Stage::RequestHead))));
    assert_eq!(garbage.request.unwrap().raw_head.unwrap(), "defg hij\r\n\r\n");
    setup.expect_flows(2).await;
}

/// A client that goes away in the middle of a head is recorded with what it sent; one that sends nothing is not.
#[tokio::test]
async fn half_a_head_is_a_flow() {
    let mut setup = Setup::start().await;
    drop(setup.client().await);
    let mut client = setup.client().await;
    client.send("GET http://exam").await;
    client.half_close().await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::RequestHead))));
    assert_eq!(flow.request.unwrap().raw_head.unwrap(), "GET http://exam");
    setup.expect_flows(1).await;
}

/// H1-28 for our own answers: an answer to HEAD has no body.
#[tokio::test]
async fn a_refused_head_request_gets_no_body() {
    let mut setup = Setup::start().await;
    let mut client = setup.client().await;
    client.send("HEAD ws://x/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(client.expect_error("400").await.ends_with("\r\n\r\n"));
    assert_eq!(setup.flow().await.request.unwrap().method, "HEAD");
    setup.expect_alive().await;
}

/// CN-28: a request for our own listener, by whatever name, is refused before it becomes a loop.
#[tokio::test]
async fn requests_to_ourselves_are_refused() {
    let mut setup = Setup::start().await;
    let port = setup.proxy.addr().port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1"] {
        for method in ["GET", "CONNECT"] {
            let authority = format!("{host}:{port}");
            let target = if method == "GET" { format!("http://{authority}/") } else { authority.clone() };
            let mut client = setup.client().await;
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
            client.expect_error("400").await;
            let flow = setup.flow().await;
            assert_eq!(flow.state, State::Refused, "{target}: {:?}", flow.error);
            assert_eq!(flow.error.unwrap().side, Side::Proxy, "{target}");
        }
    }
    setup.expect_flows(10).await;
}

/// Whatever was refused, the next request of another client is served.
#[tokio::test]
async fn a_refusal_hurts_nobody_else() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut other, mut server) = setup.asked(&origin, GET).await;
    let mut bad = setup.client().await;
    bad.send("\0\0\0\0").await;
    bad.expect_error("400").await;
    assert_eq!(setup.flow().await.state, State::Refused);
    server.send(OK).await;
    other.expect(OK).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    setup.expect_alive().await;
}
