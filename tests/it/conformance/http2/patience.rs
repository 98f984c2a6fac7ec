//! RFC 9113 §9.1, §10.5: nobody is waited for without an end, and who keeps us waiting on one stream disturbs no other.

use std::time::Duration;

use manent::config::Config;
use manent::flow::{BodyEnd, Side, Stage, State};
use manent::store::{ListQuery, Reader};

use super::expect_served;
use crate::harness::h2::{END_STREAM, Frame, H2, MORE, NAME, Speaks, code, hpack, kind};
use crate::harness::{Setup, TestCa, TlsOrigin, ending, soon};

/// A proxy with these settings, and an origin that it trusts and that speaks HTTP/2.
async fn start(change: impl FnOnce(&mut Config)) -> (Setup, TlsOrigin) {
    let ca = TestCa::new();
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        change(config);
    })
    .await;
    (setup, TlsOrigin::speaking(&ca, Speaks::Http2).await)
}

/// A client that neither asks nor leaves is told and let go, also where it answers nothing: it may have been unplugged.
#[tokio::test]
async fn an_idle_client_is_let_go() {
    for answers in [true, false] {
        let (setup, origin) = start(|config| config.timeouts.idle = Duration::from_millis(200)).await;
        let (mut client, _server) = setup.h2(&origin).await;
        client.answers = answers;
        assert_eq!(client.goaway().await.1, code::NO_ERROR);
        client.ended().await;
        expect_served(&setup).await;
    }
}

/// The same with the half of a head, which is no request yet.
#[tokio::test]
async fn a_client_that_never_ends_a_head_is_let_go() {
    let (setup, origin) = start(|config| config.timeouts.idle = Duration::from_millis(200)).await;
    let (mut client, _server) = setup.h2(&origin).await;
    let block = hpack::encode(&[(":method", "GET")]);
    client.send(Frame::new(kind::HEADERS, END_STREAM, 1, block)).await;
    client.ended().await;
    expect_served(&setup).await;
}

/// So is one that never says what the preface leads to.
#[tokio::test]
async fn a_client_that_never_ends_its_preface_is_let_go() {
    let (setup, origin) = start(|config| config.timeouts.head = Duration::from_millis(200)).await;
    let authority = format!("127.0.0.1:{}", origin.addr().port());
    let (client, _server) =
        tokio::join!(setup.tls_client(&authority, NAME, &["h2"]), async { origin.h2().await });
    let mut client = client.unwrap();
    client.send("PRI * HTTP/2.0\r\n").await;
    client.drain().await;
    expect_served(&setup).await;
}

/// Stopping does not wait for clients that have nothing under way, whether they answer or not.
#[tokio::test]
async fn silent_clients_do_not_hold_up_the_end() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    // The grace that the harness gives is longer than this test may take.
    tokio::time::timeout(Duration::from_secs(5), setup.stop()).await.unwrap();
    drop((client, server));
}

/// What is still under way when the grace is over is cut, and each stream is a flow that says so.
#[tokio::test]
async fn streams_that_outlast_the_grace_are_recorded() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let first = server.request().await;
    server.head(first.stream, MORE, &[(":status", "200")]).await;
    client.expect_status(1, "200").await;
    client.ask(3, MORE, ("POST", "/"), &[]).await;
    server.request().await;
    let grace = manent::app::Grace {
        period: Duration::from_millis(200),
        skip: tokio_util::sync::CancellationToken::new(),
    };
    let Setup { proxy, config, .. } = setup;
    let summary = soon("shutdown", proxy.shutdown(grace)).await;
    assert_eq!((summary.stored, summary.lost), (2, 0));
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert!(rows.iter().all(|row| row.state != State::Complete && row.state != State::Open), "{rows:?}");
    client.ended().await;
}

/// An origin that says nothing is a 504 on its stream; what else runs goes on.
#[tokio::test]
async fn a_silent_origin_is_a_504_on_the_stream() {
    let (mut setup, origin) = start(|config| config.timeouts.relay_idle = Duration::from_millis(1500)).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let silent = server.request().await;
    client.expect_status(1, "504").await;
    client.rest_of(1).await;
    server.expect_rst(silent.stream, &[code::CANCEL]).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    exchange(&mut setup, &mut client, &mut server, 3).await;
    // In mid-answer there is no status any more: the stream is broken.
    client.get(5, "/").await;
    let silent = server.request().await;
    server.head(silent.stream, MORE, &[(":status", "200")]).await;
    server.data(silent.stream, MORE, "abc").await;
    client.expect_status(5, "200").await;
    client.expect_data(5, "abc").await;
    assert_ne!(client.cut(5).await, code::NO_ERROR);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
    exchange(&mut setup, &mut client, &mut server, 7).await;
}

/// A client whose body stops coming is told 408, on its stream alone.
#[tokio::test]
async fn a_body_that_stops_is_a_408_on_the_stream() {
    let (mut setup, origin) = start(|config| config.timeouts.relay_idle = Duration::from_millis(1500)).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("PUT", "/"), &[]).await;
    client.data(1, MORE, "abc").await;
    let head = server.request().await;
    server.expect_data(head.stream, "abc").await;
    client.expect_status(1, "408").await;
    server.expect_rst(head.stream, &[code::CANCEL]).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestBody))));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    exchange(&mut setup, &mut client, &mut server, 3).await;
}

/// A client that takes nothing of its answer is given up on that stream alone.
#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_on_the_stream() {
    let (mut setup, origin) = start(|config| config.timeouts.relay_idle = Duration::from_millis(1500)).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.grants = false;
    client.send(Frame::window_update(0, 1 << 20)).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    server.body(head.stream, MORE, &[b'x'; 100_000]).await;
    client.expect_status(1, "200").await;
    client.cut(1).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::ResponseBody))));
    exchange(&mut setup, &mut client, &mut server, 3).await;
}

async fn exchange(setup: &mut Setup, client: &mut H2, server: &mut H2, stream: u32) {
    client.get(stream, "/").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(stream).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// Large bodies both ways at once, larger than every window: nothing waits for the other, and the record has all of it.
#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    const LEN: usize = 3_000_000;
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let data: Vec<u8> = (0..LEN).map(|at| at.to_le_bytes()[at % 3]).collect();
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    let echo = async {
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        let mut sent = 0;
        while sent < LEN {
            let crate::harness::h2::Event::Data { data, .. } = server.on(head.stream).await else {
                panic!("no data after {sent} bytes")
            };
            sent += data.len();
            server.body(head.stream, MORE, &data).await;
        }
        server.data(head.stream, END_STREAM, "").await;
    };
    let asking = async {
        client.body(1, END_STREAM, &data).await;
        client.expect_status(1, "200").await;
        client.rest_of(1).await.0
    };
    let ((), back) = soon("the echo", async { tokio::join!(echo, asking) }).await;
    assert!(back == data);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert!(flow.request.unwrap().body.as_inline().unwrap() == &data);
    assert!(flow.response.unwrap().body.as_inline().unwrap() == &data);
}
