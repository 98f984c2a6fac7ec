//! Answers as they were: framing, trailers, 1xx, codings, and where they broke off.

use manent::replay::serve::{Latency, ServeOptions};

use super::{get, ok};
use crate::harness::{Origin, Setup, chunked, is_alone, memory};

/// A capture of this exchange, served.
async fn served(response: &str) -> (Setup, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), response).await;
    let options = ServeOptions { refresh: false, ..ServeOptions::default() };
    (setup.serve(options).await.0, origin)
}

/// Case and order of fields, the reason phrase, chunks, trailers, 103, a coded body.
#[tokio::test]
async fn an_answer_is_byte_for_byte_what_it_was() {
    for response in [
        "HTTP/1.1 299 Odd Reason\r\nB: 1\r\na: 2\r\nb: 3\r\ncontent-LENGTH: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2\r\nok\r\n0\r\nT: end\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\u{7f}\u{1}\u{2}\u{3}",
    ] {
        let (serving, origin) = served(response).await;
        serving.expect_answer(&origin, &get("/"), response).await;
        origin.expect_nobody();
    }
}

/// A body up to the close ends with the close.
#[tokio::test]
async fn a_body_up_to_the_close_is_one_again() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, get("/")).await;
    server.send("HTTP/1.1 200 OK\r\n\r\nto the end").await;
    drop(server);
    client.drain().await;
    setup.flow().await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(get("/"))).await;
    client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end").await;
    client.expect_end().await;
}

/// HEAD is asked for as HEAD.
#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = get("/").replace("GET", "HEAD");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
    setup.record(&origin, &head, answer).await;
    setup.record(&origin, &get("/"), &ok("body")).await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    client.send(origin.fill(head + &get("/"))).await;
    client.expect(answer).await;
    client.expect(ok("body")).await;
}

/// What an origin broke off is broken off again, at the same place: with its length, and in chunks.
#[tokio::test]
async fn what_was_broken_off_is_broken_off_again() {
    for (response, cut) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "half"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "4\r\nhalf\r\n"),
    ] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        let (mut client, mut server) = setup.asked(&origin, get("/")).await;
        server.send(response).await;
        client.expect(response).await;
        drop(server);
        client.expect_break().await;
        setup.flow().await;
        let (serving, _) = setup.serve(ServeOptions::default()).await;
        let mut client = serving.client().await;
        client.send(origin.fill(get("/"))).await;
        let head = client.head().await;
        client.expect(cut).await;
        client.expect_break().await;
        assert_eq!(head + cut, response);
    }
}

/// What only the record lacks is left out, or given as far as it goes and then broken off.
#[tokio::test]
async fn what_is_not_whole_on_record_is_left_out_unless_allowed() {
    for allow_truncated in [false, true] {
        let (mut setup, origin) =
            (Setup::with(|config| config.body_limit = Some(3)).await, Origin::listen().await);
        setup.record(&origin, &get("/"), &ok("abcdef")).await;
        setup.record(&origin, &get("/short"), &ok("abc")).await;
        let (serving, answers) =
            setup.serve(ServeOptions { allow_truncated, ..ServeOptions::default() }).await;
        let indexed = answers.indexed();
        assert_eq!((indexed.answers, indexed.truncated), if allow_truncated { (2, 0) } else { (1, 1) });
        serving.expect_answer(&origin, &get("/short"), &ok("abc")).await;
        if !allow_truncated {
            serving.expect_miss(&origin, &get("/")).await;
            continue;
        }
        let mut client = serving.client().await;
        client.send(origin.fill(get("/"))).await;
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
        client.expect_break().await;
    }
}

/// A client that awaits it is told to go on, as there is no origin that would.
#[tokio::test]
async fn a_client_that_awaits_100_is_told_to_go_on() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let post = "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 2\r\n\r\nhi";
    setup.record(&origin, post, &ok("ok")).await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.client().await;
    let head =
        "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.send(origin.fill(head)).await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hi").await;
    client.expect(ok("ok")).await;
}

const LEN: usize = 64 << 20;

/// Large bodies both ways: the answer streams from the store, the request is compared as it comes.
#[tokio::test]
async fn large_bodies_are_served_in_bounded_memory() {
    if !is_alone("serve::bodies::large_bodies_are_served_in_bounded_memory") {
        return;
    }
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let piece = vec![b'x'; 1 << 20];
    let put = format!("PUT http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {LEN}\r\n\r\n");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
    let (mut client, mut server) = setup.asked(&origin, &put).await;
    for _ in 0..LEN / piece.len() {
        tokio::join!(client.send(&piece), server.expect(&piece));
    }
    server.send(&head).await;
    client.expect(&head).await;
    for _ in 0..LEN / piece.len() {
        tokio::join!(server.send(&piece), client.expect(&piece));
    }
    setup.flow().await;
    drop((client, server));
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let before = memory("VmRSS:");
    let mut client = serving.client().await;
    client.send(origin.fill(put)).await;
    for _ in 0..LEN / piece.len() {
        client.send(&piece).await;
    }
    client.expect(&head).await;
    for _ in 0..LEN / piece.len() {
        client.expect(&piece).await;
    }
    let grown = memory("VmRSS:").saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more for {LEN} each way");
}

/// A chunked answer that does not fit into a record keeps its framing, also where it takes its time.
#[tokio::test]
async fn a_large_chunked_answer_is_chunked_again() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let body: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let (mut client, mut server) = setup.asked(&origin, get("/")).await;
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let framed = chunked(&body, 10_000);
    let read = async {
        client.head().await;
        client.read_chunked().await
    };
    let ((), seen) = tokio::join!(server.send(framed), read);
    assert_eq!(seen, body);
    setup.flow().await;
    let options = ServeOptions { reuse: true, latency: Latency::Recorded, ..ServeOptions::default() };
    let (serving, _) = setup.serve(options).await;
    let mut client = serving.client().await;
    for _ in 0..2 {
        client.send(origin.fill(get("/"))).await;
        assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.read_chunked().await, body);
    }
}
