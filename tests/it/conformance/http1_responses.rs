//! Responses: where they end, what is repaired on the way, and what is refused (RFC 9112 §4, §6.3; RFC 9110 §15).

use manent::flow::{BodyEnd, Framing, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

/// H1-16, H1-17, H1-19, pitfall 9: no body after HEAD, 204 and 304, whatever the fields say; they go on untouched, and both
/// connections carry the next request.
#[tokio::test]
async fn responses_without_a_body_by_method_or_status() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    for (method, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        client.send(origin.fill(format!("{method} / HTTP/1.1\r\nHost: {{addr}}\r\n\r\n"))).await;
        server.head().await;
        server.send(response).await;
        client.expect(response).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None));
        let body = flow.response.unwrap().body;
        assert_eq!((body.framing, body.end, body.len), (Framing::None, BodyEnd::Whole, 0), "{response}");
    }
    origin.expect_nobody();
}

/// H1-18, SM-14: without a length, or with codings that do not end in `chunked`, a body runs to the close, which goes on.
#[tokio::test]
async fn a_body_without_length_ends_with_the_connection() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for fields in [
        "",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nfoo")).await;
        client.expect(format!("HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\nfoo")).await;
        server.send("bar").await;
        client.expect("bar").await;
        server.half_close().await;
        client.expect_end().await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None));
        let body = flow.response.unwrap().body;
        assert_eq!((body.framing, body.end), (Framing::Close, BodyEnd::Whole));
        assert_eq!(body.as_inline().unwrap(), "foobar");
    }
}

/// H1-20, SM-16, pitfalls 15 to 17 for responses: what one can only read in one way is repaired; the record has what came.
#[tokio::test]
async fn tolerable_responses_go_on_repaired() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let whole = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
    for (came, goes) in [
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n".into()),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", whole("")),
        ("HTTP/1.1 200 OK\r\nA: 1\nContent-Length: 0\r\n\n", whole("A: 1\r\n")),
        ("HTTP/1.1 200 OK\r\nA: one\r\n\ttwo\r\nContent-Length: 0\r\n\r\n", whole("A: one  \ttwo\r\n")),
        ("HTTP/1.1 200 OK\r\nA : 1\r\nContent-Length: 0\r\n\r\n", whole("A: 1\r\n")),
        ("HTTP/1.1 200 OK\r\nA:1 \r\nContent-Length: 0\r\n\r\n", whole("A: 1\r\n")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n", whole("")),
        ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", whole("")),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", whole("")),
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(came).await;
        client.expect(&goes).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None), "{came}");
        // Where nothing but the fields differs, they tell all.
        // Where the fields alone give the same bytes, they tell all.
        let canonical = came.starts_with("HTTP/1.0") || came.contains("content-length");
        let raw = flow.response.unwrap().raw_head;
        assert_eq!(raw.as_deref(), (!canonical).then_some(came.as_bytes()), "{came}");
    }
}

/// Several `Transfer-Encoding` fields are one list; they go on as one field that tells the same.
#[tokio::test]
async fn split_transfer_codings_go_on_as_one_field() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nA: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    client.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nA: 1\r\n\r\n0\r\n\r\n").await;
    assert_eq!(setup.flow().await.response.unwrap().body.framing, Framing::Chunked);
}

/// H1-21, H1-32, SM-02, SM-10, SM-11, pitfalls 5, 14, 37: what is no response, or could be two, becomes a 502; the origin's
/// connection ends, and what came is in the record.
#[tokio::test]
async fn responses_that_are_refused() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let responses: [&[u8]; 27] = [
        b"HTTP/1.1 OK OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"WTF/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"I don't speak HTTP.",
        b"<html>HTTP/0.9</html>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 42\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTwo Words: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ];
    for response in responses {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(response).await;
        client.expect_error("502").await;
        assert!(server.rest().await.0.is_empty());
        let flow = setup.flow().await;
        let wanted = (State::Failed, Some((Side::Server, Stage::ResponseHead)));
        assert_eq!(ending(&flow), wanted, "{}", response.escape_ascii());
        let recorded = flow.response.unwrap();
        assert!(recorded.by_proxy);
        assert_eq!(recorded.raw_head.unwrap(), response, "{}", response.escape_ascii());
    }
    setup.expect_flows(responses.len() as u64).await;
}

/// H1-31, H1-37, ST-11: no answer, half an answer, or nobody there: 502, with side and stage in the text.
#[tokio::test]
async fn no_answer_is_a_bad_gateway() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for part in ["", "HTTP/1.1 200 O"] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(part).await;
        drop(server);
        let answer = client.expect_error("502").await;
        assert!(answer.contains("manent: upstream response head: closed "), "{answer}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
        assert_eq!(flow.response.unwrap().raw_head.unwrap_or_default(), part);
    }
    let nobody = origin.fill("POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\nabc");
    drop(origin);
    let mut client = setup.client().await;
    client.send(nobody).await;
    assert!(client.expect_error("502").await.contains("manent: upstream connect: "));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::Connect))));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    assert!(flow.server.is_some_and(|server| server.peer.is_none()));
}

/// H1-34 (and H1-33, as bodies stream), pitfalls 33, 45, 46: a body that is cut is cut for the client too, by a reset; what
/// came of it is delivered and recorded.
#[tokio::test]
async fn a_cut_response_is_cut_for_the_client() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (field, body) in [
        ("Content-Length: 10", "weee"),
        ("Transfer-Encoding: chunked", "4\r\nweee\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nweee\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nweee\r\nXXX\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nweee\r\nFFFFFFFFFFFFFFFFF\r\n"),
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{body}")).await;
        client.expect(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n")).await;
        drop(server);
        let (rest, end) = client.rest().await;
        assert!(rest == b"weee" || rest == b"4\r\nweee\r\n", "{}", rest.escape_ascii());
        assert!(end.is_err(), "a clean end after {body}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
        let recorded = flow.response.unwrap().body;
        assert_eq!((recorded.as_inline().unwrap(), recorded.end), (&"weee".into(), BodyEnd::CutOff));
    }
}

/// H1-14: chunks come to the client as chunks, and the connection goes on.
#[tokio::test]
async fn chunked_responses_stay_chunked() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, GET).await;
    for _ in 0..2 {
        server.head().await;
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc;x=y\r\nHello World!\r\n0\r\n\r\n")
            .await;
        client
            .expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\nHello World!\r\n0\r\n\r\n")
            .await;
        assert_eq!(setup.flow().await.response.unwrap().body.as_inline().unwrap(), "Hello World!");
        client.send(origin.fill(GET)).await;
    }
    origin.expect_nobody();
}

/// H1-44, pitfall 5, `h1.unsolicited-100`: every 1xx goes on as it comes, asked for or not, and the final one is found.
#[tokio::test]
async fn interim_responses_are_relayed_and_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n",
        "HTTP/1.1 199 \r\nContent-Length: 5\r\n\r\n",
    ] {
        server.send(interim).await;
        client.expect(interim).await;
    }
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    let statuses: Vec<_> = flow.interim.iter().map(|interim| interim.status).collect();
    assert_eq!((statuses, flow.response.unwrap().status), (vec![100, 102, 103, 199], 200));
    assert_eq!(flow.interim[2].headers.get_all("link").count(), 2);
}

/// Pitfall 6: HTTP/1.0 knows no 1xx; the record does.
#[tokio::test]
async fn an_http10_client_gets_no_interim_response() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, "GET http://{addr}/ HTTP/1.0\r\n\r\n").await;
    server.send(format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}")).await;
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    client.expect_end().await;
    assert_eq!(setup.flow().await.interim.len(), 1);
}

/// HTTP/1.0 knows no chunks: it gets the body up to the close.
#[tokio::test]
async fn an_http10_client_gets_no_chunks() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "GET http://{addr}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, request).await;
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n").await;
    client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc").await;
    client.expect_end().await;
    let response = setup.flow().await.response.unwrap();
    assert_eq!(
        (response.body.framing, response.body.as_inline().unwrap()),
        (Framing::Chunked, &"abc".into())
    );
}

/// `h1.many-1xx`: a flood of them is a fault of the origin's.
#[tokio::test]
async fn too_many_interim_responses_are_a_bad_gateway() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(interim.repeat(33)).await;
    client.expect(interim.repeat(32)).await;
    client.expect_error("502").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    assert_eq!(flow.interim.len(), 32);
}
