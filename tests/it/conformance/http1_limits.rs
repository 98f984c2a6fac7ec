//! What a peer may ask for: bytes, fields, time (wire cases H1-47, pitfalls 38, 60, 61).

use std::time::Duration;

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

/// H1-47, pitfall 38: a head beyond the limits is answered with 431 and recorded by its beginning.
#[tokio::test]
async fn heads_beyond_the_limits_are_refused_and_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let start = "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n";
    let heads = [
        format!("{start}X: {}\r\n\r\n", "a".repeat(1024 * 1024)),
        format!("{start}{}\r\n", "X: a\r\n".repeat(10_000)),
        format!("{start}{}\r\n", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(10_000)),
        format!("GET http://{{addr}}/{}", "a".repeat(1024 * 1024)),
        format!("{start}X: {}", "a".repeat(300_000)),
        format!("{start}Upgrade: websocket\r\nConnection: upgrade\r\nX: {}", "a".repeat(300_000)),
        format!("{start}{}", "x".repeat(300_000)),
    ];
    let count = heads.len() as u64;
    for head in heads {
        let head = origin.fill(head);
        let mut client = setup.client().await;
        // The refusal may come before all is sent.
        let _ = client.try_send(&head).await;
        client.expect_error("431").await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
        let raw = flow.request.unwrap().raw_head.unwrap();
        // As much as had come when it was clear, up to a bound.
        assert!(head.starts_with(&raw) && (1024..=64 * 1024).contains(&raw.len()), "{}", raw.len());
    }
    origin.expect_nobody();
    setup.expect_alive().await;
    setup.expect_flows(count + 1).await;
}

/// Pitfall 38: what is large, but within the limits, passes: 1,000 fields, or fields of 200 KiB (`h1.long-headers`,
/// `h1.long-forwarded-for`).
#[tokio::test]
async fn large_heads_pass_both_ways() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let many: String = (0..998).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = format!("X-Forwarded-For: {}1.2.3.4\r\n", "1.2.3.4, ".repeat(22_000));
    for fields in [many, long] {
        let request = format!("GET / HTTP/1.1\r\nHost: {{addr}}\r\n{fields}\r\n");
        let (mut client, mut server) = setup.begin(&origin, &request).await;
        server.expect(origin.fill(&request)).await;
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        server.send(&response).await;
        client.expect(&response).await;
        let flow = setup.flow().await;
        assert_eq!(flow.request.unwrap().head_len, origin.fill(&request).len() as u64);
        assert_eq!(flow.response.unwrap().raw_head, None);
    }
}

/// Pitfall 38 for responses.
#[tokio::test]
async fn response_heads_beyond_the_limits_are_a_bad_gateway() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for head in [
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(1024 * 1024)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: a\r\n".repeat(10_000)),
        format!("HTTP/1.1 200 {}", "a".repeat(300_000)),
    ] {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        // The refusal may come before all is sent.
        let _ = server.try_send(head).await;
        client.expect_error("502").await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    }
    setup.expect_alive().await;
}

/// Trailers have a limit too.
#[tokio::test]
async fn endless_trailers_are_refused() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let head = "POST / HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    for trailers in ["X: a\r\n".repeat(10_000), format!("X: {}", "a".repeat(100_000))] {
        let (mut client, _server) = setup.begin(&origin, head).await;
        // The refusal may come before all is sent.
        let _ = client.try_send(trailers).await;
        client.expect_error("400").await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestBody))));
    }
}

/// Pitfall 60, `h1.slowloris`: a head that does not come to its end in time is answered with 408 and recorded.
#[tokio::test]
async fn slow_heads_time_out() {
    let mut setup = Setup::with(|config| config.timeouts.head = Duration::from_millis(100)).await;
    let mut client = setup.client().await;
    client.send("GET http://x/ HTTP/1.1\r\nX: ").await;
    client.expect_error("408").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
    assert_eq!(flow.request.unwrap().raw_head.unwrap(), "GET http://x/ HTTP/1.1\r\nX: ");
}

/// A client that asks nothing is let go without a word and without a record.
#[tokio::test]
async fn idle_clients_are_let_go() {
    let setup = Setup::with(|config| config.timeouts.idle = Duration::from_millis(50)).await;
    let mut client = setup.client().await;
    client.expect_end().await;
    setup.expect_flows(0).await;
}

/// Pitfalls 40, 61: no progress for too long ends an exchange, each phase with its own words; there is no limit on the whole.
#[tokio::test]
async fn exchanges_without_progress_time_out() {
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(100)).await;
    let origin = Origin::listen().await;
    let (mut client, _server) = setup.asked(&origin, GET).await;
    client.expect_error("504").await;
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::ResponseHead))));

    let post = "POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\nabc";
    let (mut client, _server) = setup.asked(&origin, post).await;
    client.expect_error("408").await;
    assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Client, Stage::RequestBody))));

    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    let (rest, end) = client.rest().await;
    assert!(rest.is_empty() && end.is_err());
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// More clients than there are places: the one that has been idle longest makes room (`prod.connection-churn`).
#[tokio::test]
async fn the_oldest_idle_client_makes_room() {
    let mut setup = Setup::with(|config| config.limits.max_connections = 2).await;
    let origin = Origin::listen().await;
    let mut oldest = setup.client().await;
    let (mut busy, mut server) = setup.asked(&origin, GET).await;
    let (mut third, mut other) = setup.asked(&origin, GET).await;
    oldest.expect_end().await;
    for (client, server) in [(&mut busy, &mut server), (&mut third, &mut other)] {
        server.send(OK).await;
        client.expect(OK).await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}
