//! Connections: kept, closed, pipelined, used again (RFC 9112 §9).

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending, soon};

/// H1-13: requests of one client in their order, on one connection to the origin.
#[tokio::test]
async fn a_connection_is_used_again() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, GET).await;
    for (n, path) in ["/", "/two", "/three"].into_iter().enumerate() {
        if n > 0 {
            client.send(origin.fill(format!("GET {path} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n"))).await;
        }
        server.expect(origin.fill(format!("GET {path} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n"))).await;
        server.send(OK).await;
        client.expect(OK).await;
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.server_reused), (State::Complete, n > 0));
    }
    origin.expect_nobody();
}

/// H1-15, pitfall 36: what a client sends ahead waits for its turn; mids rise in the order of the requests.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let first = "POST /one HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 3\r\n\r\nabc";
    let second = "GET /two HTTP/1.1\r\nHost: {addr}\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, format!("{first}{second}")).await;
    server.expect(origin.fill(first)).await;
    server.send(OK).await;
    client.expect(OK).await;
    server.expect(origin.fill(second)).await;
    server.send("HTTP/1.1 204 Two\r\n\r\n").await;
    client.expect("HTTP/1.1 204 Two\r\n\r\n").await;
    let (one, two) = (setup.flow().await, setup.flow().await);
    assert_eq!((one.path(), two.path()), (&b"/one"[..], &b"/two"[..]));
    assert_eq!(one.request.as_ref().unwrap().body.as_inline().unwrap(), "abc");
    assert!(one.mid < two.mid);
}

/// Pitfall 36: after an answer that ends with the connection there is no further one.
#[tokio::test]
async fn nothing_follows_an_answer_that_ends_with_the_connection() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, format!("{GET}{GET}")).await;
    server.send("HTTP/1.1 200 OK\r\n\r\nfoo").await;
    server.half_close().await;
    client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfoo").await;
    client.expect_end().await;
    server.expect_end().await;
    assert_eq!(setup.flow().await.state, State::Complete);
    origin.expect_nobody();
    setup.expect_flows(1).await;
}

/// H1-28, H1-46: `Connection: close` of the client, in any case and among other options, ends both connections.
#[tokio::test]
async fn a_client_that_closes_closes_both() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for option in ["close", "Close", "keep-alive, CLOSE", ",close ,"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {{addr}}\r\nConnection: {option}\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, request).await;
        server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
        server.send(OK).await;
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        client.expect_end().await;
        server.expect_end().await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// H1-29, H1-46: so does the origin's.
#[tokio::test]
async fn an_origin_that_closes_closes_both() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for option in ["close", "Close", "x, close"] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(format!("HTTP/1.1 200 OK\r\nConnection: {option}\r\nContent-Length: 2\r\n\r\nok")).await;
        client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        client.expect_end().await;
        server.expect_end().await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// H1-45, pitfall 30: an HTTP/1.0 client that asks for it keeps its connection, in any spelling; others do not.
#[tokio::test]
async fn http10_clients_keep_their_connection_if_they_ask() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for field in ["Connection: Keep-Alive", "connection: keep-alive", "Proxy-Connection: Keep-Alive"] {
        let request = format!("GET http://{{addr}}/ HTTP/1.0\r\n{field}\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, &request).await;
        for again in [true, false] {
            server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
            server.send(OK).await;
            client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok").await;
            if again {
                client.send(origin.fill(&request)).await;
            }
        }
        setup.flow().await;
        assert!(setup.flow().await.server_reused);
    }
}

/// H1-30, pitfall 53: an origin that closed while it was idle is dialled anew; the client sees nothing of it.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    drop(server);
    client.send(origin.fill(GET)).await;
    let mut second = origin.accept().await;
    second.head().await;
    second.send(OK).await;
    client.expect(OK).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// Pitfall 53: a used connection that ends when it gets the next request: sent once more where that is safe, else 502.
#[tokio::test]
async fn a_request_that_met_a_closing_connection_is_repeated_if_safe() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (request, repeated) in [
        ("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n", true),
        ("DELETE / HTTP/1.1\r\nHost: {addr}\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: {addr}\r\n\r\n", false),
        ("PUT / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 1\r\n\r\nx", false),
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(OK).await;
        client.expect(OK).await;
        setup.flow().await;
        client.send(origin.fill(request)).await;
        server.expect(origin.fill(request)).await;
        drop(server);
        if repeated {
            let mut second = origin.accept().await;
            second.expect(origin.fill(request)).await;
            second.send(OK).await;
            client.expect(OK).await;
        } else {
            client.expect_error("502").await;
        }
        let flow = setup.flow().await;
        assert_eq!(flow.error.is_none(), repeated, "{request}");
        assert_eq!(flow.server_reused, !repeated);
    }
    origin.expect_nobody();
}

/// Pitfall 53: never where a byte of an answer came, and never on a connection that was new.
#[tokio::test]
async fn a_request_is_never_repeated_after_a_byte_of_an_answer() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (used, part) in [(true, "H"), (true, "HTTP/1.1 103 Early\r\n\r\n"), (false, "")] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        if used {
            server.send(OK).await;
            client.expect(OK).await;
            setup.flow().await;
            client.send(origin.fill(GET)).await;
            server.head().await;
        }
        server.send(part).await;
        drop(server);
        let (answer, _) = client.rest().await;
        assert!(String::from_utf8_lossy(&answer).contains("HTTP/1.1 502 "));
        assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    }
    origin.expect_nobody();
}

/// H1-41, pitfall 35: empty lines before a request are passed over, also between two.
#[tokio::test]
async fn empty_lines_before_a_request_are_skipped() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, format!("\r\n\r\n{GET}\r\n{GET}\r\n")).await;
    for _ in 0..2 {
        server.expect(origin.fill(GET.replace("http://{addr}", ""))).await;
        server.send(OK).await;
        client.expect(OK).await;
        assert_eq!(setup.flow().await.request.unwrap().raw_head, None);
    }
    drop(client);
    setup.expect_flows(2).await;
}

/// H1-27, pitfall 7, `h1.expect-*`: the origin answers 100, not we; the body goes when the client has it.
#[tokio::test]
async fn expect_is_answered_by_the_origin() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "PUT / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, head).await;
    server.expect(origin.fill(head)).await;
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("fifteen letters").await;
    server.expect("fifteen letters").await;
    server.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    client.expect("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.interim[0].status), (State::Complete, 100));
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "fifteen letters");
}

/// Pitfall 7, CVE-2024-24791: a final answer in place of the 100. The client need not send its body; what it sends instead
/// is never taken for another request.
#[tokio::test]
async fn a_refused_expectation_leaves_the_body_unsent() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "PUT / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
    client.expect("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
    drop(client);
    server.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);

    let (mut client, mut server) = setup.asked(&origin, head).await;
    server.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
    client.expect("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
    client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.expect("GET /x HTTP/1.1").await;
    assert_eq!(setup.flow().await.request.unwrap().body.as_inline().unwrap(), "GET /x HTTP/1.1");
    client.expect_error("400").await;
}

/// H1-49: 10,000 requests sent ahead: each in its turn, nothing lost.
#[tokio::test]
async fn a_flood_of_pipelined_requests_is_answered_in_order() {
    const COUNT: usize = 10_000;
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let requests: String =
        (0..COUNT).map(|n| format!("GET /{n:05} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n")).collect();
    let requests = origin.fill(requests);
    let (read, mut write) = tokio::io::split(setup.client().await.into_io());
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &requests).await.unwrap();
        write
    });
    let mut server = origin.accept().await;
    let answering = tokio::spawn(async move {
        for n in 0..COUNT {
            assert!(server.head().await.starts_with(&format!("GET /{n:05} ")));
            server
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 505\r\n\r\n{n:05}{}", "x".repeat(500)))
                .await;
        }
    });
    let mut read = tokio::io::BufReader::new(read);
    let mut answer = vec![0; 40 + 505];
    for n in 0..COUNT {
        let what = format!("answer {n}");
        soon(&what, tokio::io::AsyncReadExt::read_exact(&mut read, &mut answer)).await.unwrap();
        assert!(answer[40..].starts_with(format!("{n:05}").as_bytes()), "{n}: {}", answer.escape_ascii());
    }
    soon("both ends", async { (sending.await.unwrap(), answering.await.unwrap()) }).await;
    setup.expect_flows(COUNT as u64).await;
}

/// Pitfall 52: a client that ends its direction after its request still gets its whole answer.
#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    client.half_close().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    server.send("def").await;
    client.expect("def").await;
    client.expect_end().await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// Pitfall 51: a client that goes away in mid-answer takes the origin's connection with it.
#[tokio::test]
async fn a_client_that_leaves_ends_the_download() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nabc").await;
    client.expect("HTTP/1.1 200 OK\r\n").await;
    drop(client);
    let piece = vec![b'x'; 65536];
    while server.try_send(&piece).await.is_ok() {}
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::ClientAborted, Side::Client));
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// Pitfall 54: a connection on which somebody authenticated serves nobody else.
#[tokio::test]
async fn an_authenticated_connection_is_not_shared() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (request, response, shared) in [
        ("", "", true),
        ("Authorization: NTLM abc\r\n", "", false),
        ("authorization: negotiate abc\r\n", "", false),
        ("", "WWW-Authenticate: Basic\r\nwww-authenticate: NTLM\r\n", false),
    ] {
        let head = format!("GET http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\n{request}\r\n");
        let (mut client, mut server) = setup.asked(&origin, head).await;
        server.send(format!("HTTP/1.1 401 Who\r\n{response}Content-Length: 0\r\n\r\n")).await;
        client.head().await;
        client.half_close().await;
        client.expect_end().await;
        setup.flow().await;
        let mut other = setup.client().await;
        other.send(origin.fill(GET)).await;
        if !shared {
            server.expect_end().await;
            server = origin.accept().await;
        }
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        other.head().await;
        assert_eq!(setup.flow().await.server_reused, shared, "{request}{response}");
    }
}
