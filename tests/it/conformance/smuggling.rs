//! Framing that could be read in two ways (RFC 9112 §6, §7, §11.2; wire cases SM-01 to SM-18): what is recorded is what
//! the origin sees, request for request.

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

/// Requests with these fields and a smuggled second request behind are refused; nothing is dialled, one flow each.
async fn refused_framing(version: &str, fields: &[&[u8]]) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for fields in fields {
        let head = format!("POST http://{{addr}}/ HTTP/{version}\r\nHost: {{addr}}\r\n");
        let rest = b"\r\n\r\n0\r\n\r\nGET http://{addr}/smuggled HTTP/1.1\r\nHost: {addr}\r\n\r\n";
        let request = [head.as_bytes(), fields, rest].concat();
        let mut client = setup.client().await;
        client.send(origin.fill(request)).await;
        let answer = client.expect_error("400").await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let flow = setup.flow().await;
        let wanted = (State::Refused, Some((Side::Client, Stage::RequestHead)));
        assert_eq!(ending(&flow), wanted, "{}", fields.escape_ascii());
        assert!(flow.server.is_none());
        assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    }
    origin.expect_nobody();
    setup.expect_flows(fields.len() as u64).await;
}

/// SM-01, CVE-2021-39214, `h1.cl-te`, `h1.te-cl`, pitfall 11: in either order.
#[tokio::test]
async fn length_and_chunked_together() {
    refused_framing(
        "1.1",
        &[
            b"Content-Length: 42\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 42",
            b"transfer-ENCODING: chunked\r\nX: y\r\ncontent-length: 0",
            b"Transfer-Encoding:\r\nContent-Length: 5",
            b"Transfer-Encoding: identity\r\nContent-Length: 5",
        ],
    )
    .await;
}

/// SM-04, SM-05, pitfall 12, `h1.cl-plus`: one plain decimal number, or nothing.
#[tokio::test]
async fn lengths_that_are_no_length() {
    refused_framing(
        "1.1",
        &[
            b"Content-Length: NaN",
            b"Content-Length:",
            b"Content-Length: \t ",
            b"Content-Length: -1",
            b"Content-Length: +1",
            b"Content-Length: 0x42",
            b"Content-Length: 010",
            b"Content-Length: 00",
            b"Content-Length: foo",
            b"Content-Length: 1, 1",
            b"Content-Length: 1,1",
            b"Content-Length: 1 1",
            b"Content-Length: 5 junk",
            b"Content-Length: 5;",
            b"Content-Length: 1e1",
            b"Content-Length: 1.0",
            b"Content-Length: 1_0",
            b"Content-Length: \"5\"",
            b"Content-Length: \xef\xbc\x95",
            b"Content-Length: 9223372036854775808",
            b"Content-Length: 18446744073709551621",
            b"Content-Length: 99999999999999999999999999999999",
            b"Content-Length: 42\r\nContent-Length: 43",
            b"Content-Length: 42\r\nContent-Length: 42",
            b"Content-Length: 5\r\nX: y\r\ncontent-length: 5",
        ],
    )
    .await;
}

/// SM-06, SM-07, SM-09, SM-12, pitfall 13, `h1.te-twice`: `chunked` once, as the last of known codings, in one field.
#[tokio::test]
async fn transfer_codings_that_do_not_end_in_one_chunked() {
    refused_framing(
        "1.1",
        &[
            "Transfer-Encoding: chun\u{212a}ed".as_bytes(),
            b"Transfer-Encoding: chunked,chunked",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: chunked, gzip, chunked",
            b"Transfer-Encoding: qux",
            b"Transfer-Encoding: qux, chunked",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: unknown",
            b"Transfer-Encoding: chun ked",
            b"Transfer-Encoding: chunked;q=1",
            b"Transfer-Encoding: \"chunked\"",
            b"Transfer-Encoding: chunked,",
            b"Transfer-Encoding: ,chunked",
            b"Transfer-Encoding:",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\xa0",
        ],
    )
    .await;
}

/// Pitfall 14, `h1.te-in-http10`: HTTP/1.0 knows no transfer codings.
#[tokio::test]
async fn transfer_coding_in_http10() {
    refused_framing("1.0", &[b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"]).await;
}

/// SM-15, `h1.chunk-*`, CVE-2025-43859, CVE-2025-22871: chunks that are none end the request with 400 and both connections.
/// The origin never sees the end of a body.
#[tokio::test]
async fn broken_chunks_are_refused() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let long = [&b"3;"[..], &[b'x'; 5000]].concat();
    let bodies: [&[u8]; 28] = [
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"8000000000000000\r\n",
        b"-1\r\n",
        b"+3\r\n",
        b"0x3\r\n",
        b"3 ;ext\r\n",
        b"3 \r\n",
        b" 3\r\n",
        b"\r\n",
        b";x\r\n",
        b"g\r\n",
        b"3_0\r\n",
        b"3\n",
        b"3\r",
        b"3;a\nb\r\n",
        b"3;a\rb\r\n",
        b"3;\x00\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc\rX0\r\n",
        b"0\n\n",
        b"0\r\n\n",
        b"0\r\nbad name: x\r\n\r\n",
        b"0\r\nno-colon\r\n\r\n",
        b"0\r\n: x\r\n\r\n",
        b"0\r\na: b\n\r\n",
        &long,
    ];
    for body in bodies {
        let head = b"POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = [b"2\r\nok\r\n", body, b"XXXX"].concat();
        let (mut client, mut server) = setup.asked(&origin, head).await;
        client.send(&body).await;
        client.expect_error("400").await;
        let (seen, _) = server.rest().await;
        let end = seen.windows(5).any(|w| w == b"0\r\n\r\n");
        assert!(!end, "{} became {}", body.escape_ascii(), seen.escape_ascii());
        let flow = setup.flow().await;
        let wanted = (State::Refused, Some((Side::Client, Stage::RequestBody)));
        assert_eq!(ending(&flow), wanted, "{}", body.escape_ascii());
        assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    }
    origin.expect_nobody();
    setup.expect_flows(bodies.len() as u64).await;
}

/// `h1.chunk-ext-*`, CVE-2023-39326: extensions are passed over, up to a bound for the whole body.
#[tokio::test]
async fn chunk_extensions_are_bounded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    let (mut client, mut server) = setup.asked(&origin, format!("{head}{}0\r\n\r\n", chunk.repeat(16))).await;
    for _ in 0..16 {
        server.expect("1\r\nx\r\n").await;
    }
    server.expect("0\r\n\r\n").await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.request.unwrap().body.len, 16);
    let (mut client, _server) = setup.begin(&origin, format!("{head}{}0\r\n\r\n", chunk.repeat(17))).await;
    client.expect_error("400").await;
    assert!(setup.flow().await.error.unwrap().message.contains("extensions"));
}

/// `h1.tiny-chunks-deep`, squid's CVE-2024-25111: 100,000 chunks of a byte are a loop, not a recursion.
#[tokio::test]
async fn many_tiny_chunks_are_one_body() {
    const COUNT: usize = 100_000;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    let read = async {
        for _ in 0..COUNT {
            server.expect("1\r\nx\r\n").await;
        }
        server.expect("0\r\n\r\n").await;
        server.send(OK).await;
    };
    let send = client.send(format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(COUNT)));
    tokio::join!(send, read);
    client.expect(OK).await;
    let body = setup.flow().await.request.unwrap().body;
    assert_eq!((body.len, body.wire_len, body.end), (COUNT as u64, 6 * COUNT as u64 + 5, BodyEnd::Whole));
}

/// SM-17: bytes after a whole response never become the answer to the next request; their connection is dropped.
#[tokio::test]
async fn surplus_of_a_response_answers_nothing() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(format!("{OK}HTTP/1.1 200 Poison\r\nContent-Length: 0\r\n\r\n")).await;
    client.expect(OK).await;
    server.expect_end().await;
    client.send(origin.fill(GET)).await;
    let mut second = origin.accept().await;
    second.head().await;
    second.send("HTTP/1.1 204 Right\r\n\r\n").await;
    client.expect("HTTP/1.1 204 Right\r\n\r\n").await;
    assert_eq!((setup.flow().await.state, setup.flow().await.server_reused), (State::Complete, false));
    setup.expect_flows(2).await;
}

/// SM-17: nor do bytes that nobody asked for, on a connection that is idle.
#[tokio::test]
async fn unasked_bytes_answer_nothing() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    server.send("HTTP/1.1 200 Poison\r\nContent-Length: 0\r\n\r\n").await;
    client.send(origin.fill(GET)).await;
    let mut second = origin.accept().await;
    second.head().await;
    second.send("HTTP/1.1 204 Right\r\n\r\n").await;
    client.expect("HTTP/1.1 204 Right\r\n\r\n").await;
    server.expect_end().await;
}

/// CVE-2026-2833, `h1.upgrade-refused`: what follows an upgrade request is the next request, unless the origin switches.
#[tokio::test]
async fn bytes_after_an_upgrade_request_wait_for_the_answer() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let upgrade = "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    let smuggled = "GET /two HTTP/1.1\r\nHost: {addr}\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, format!("{upgrade}{smuggled}")).await;
    server.expect(origin.fill(upgrade)).await;
    server.send(OK).await;
    client.expect(OK).await;
    server.expect(origin.fill(smuggled)).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.path(), b"/");
    assert_eq!(setup.flow().await.path(), b"/two");
    setup.expect_flows(2).await;
}

/// The body of a request that was refused is never taken for the next request.
#[tokio::test]
async fn the_body_of_a_refused_request_is_no_request() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = setup.client().await;
    let inner = "GET http://{addr}/smuggled HTTP/1.1\r\nHost: {addr}\r\n\r\n";
    client
        .send(origin.fill(format!("POST ws://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{inner}")))
        .await;
    client.expect_error("400").await;
    assert_eq!(setup.flow().await.request.unwrap().body.end, BodyEnd::CutOff);
    origin.expect_nobody();
    setup.expect_flows(1).await;
}
