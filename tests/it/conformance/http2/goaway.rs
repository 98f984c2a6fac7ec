//! RFC 9113 §6.8, §8.7: GOAWAY, and connections that die: what is under way ends as it may, nothing else is disturbed, and
//! only what the origin has not touched is sent again (wire cases H2-37, H2-38, pitfalls 67, 69).

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::h2::{END_STREAM, Event, Frame, H2, MORE, code};
use crate::harness::{Setup, TlsOrigin, ending};

/// A proxy whose client has `streams` requests under way.
async fn under_way(streams: &[u32]) -> (Setup, TlsOrigin, H2, H2) {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    for stream in streams {
        client.get(*stream, &format!("/{stream}")).await;
        server.request().await;
    }
    (setup, origin, client, server)
}

/// H2-37: a graceful GOAWAY ends nothing that is under way; what is asked next goes elsewhere.
#[tokio::test]
async fn a_graceful_goaway_ends_nothing() {
    let (mut setup, origin, mut client, mut server) = under_way(&[1, 3]).await;
    server.head(1, MORE, &[(":status", "200")]).await;
    server.data(1, MORE, "o").await;
    client.expect_status(1, "200").await;
    client.expect_data(1, "o").await;
    server.send(Frame::goaway(3, code::NO_ERROR)).await;
    server.fence().await;
    client.get(5, "/5").await;
    let mut second = origin.h2().await;
    let fifth = second.request().await;
    second.ok(fifth.stream).await;
    client.expect_ok(5).await;
    server.data(1, END_STREAM, "k").await;
    assert!(client.expect_data(1, "k").await);
    server.ok(3).await;
    client.expect_ok(3).await;
    for _ in 0..3 {
        assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    }
    // Its last stream has ended: the connection may end too.
    server.ended().await;
}

/// The two steps of a graceful end (RFC 9113 §6.8): first no number at all, then the last one.
#[tokio::test]
async fn a_goaway_in_two_steps_ends_nothing() {
    let (mut setup, origin, mut client, mut server) = under_way(&[1]).await;
    server.send(Frame::goaway(0x7fff_ffff, code::NO_ERROR)).await;
    server.fence().await;
    server.send(Frame::goaway(1, code::NO_ERROR)).await;
    server.fence().await;
    server.ok(1).await;
    client.expect_ok(1).await;
    client.get(3, "/3").await;
    let mut second = origin.h2().await;
    let head = second.request().await;
    second.ok(head.stream).await;
    client.expect_ok(3).await;
    for _ in 0..2 {
        assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    }
}

/// H2-38, RFC 9113 §8.7: what is above the last stream was not looked at: it is asked again, whatever its method.
#[tokio::test]
async fn a_stream_above_the_last_is_asked_again() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/1").await;
    let first = server.request().await;
    let fields = [("x-one", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "0")];
    client.ask(3, END_STREAM, ("POST", "/3"), &fields).await;
    let asked = server.request().await;
    server.send(Frame::goaway(first.stream, code::NO_ERROR)).await;
    let mut second = origin.h2().await;
    let again = second.request().await;
    assert_eq!((again.get(":method"), again.get(":path")), ("POST", "/3"));
    assert_eq!(again.fields, asked.fields);
    second.ok(again.stream).await;
    client.expect_ok(3).await;
    server.ok(first.stream).await;
    client.expect_ok(1).await;
    for _ in 0..2 {
        assert_eq!(ending(&setup.flow().await), (State::Complete, None));
    }
    drop(client);
    setup.expect_flows(2).await;
}

/// The same with a body on its way that cannot be sent again: the client is told, and may ask again itself.
#[tokio::test]
async fn a_body_that_was_sent_is_not_sent_again() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, MORE, "abc").await;
    let head = server.request().await;
    server.expect_data(head.stream, "abc").await;
    server.send(Frame::goaway(0, code::NO_ERROR)).await;
    let told = match client.on(1).await {
        Event::Head(head) => head.status().to_owned(),
        Event::Rst { code, .. } => format!("{code}"),
        other => panic!("{other:?}"),
    };
    assert!(["502", "503", "7"].contains(&&told[..]), "{told}");
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::Failed, Side::Server));
    origin.origin.expect_nobody();
}

/// A GOAWAY with an error and the end after it: what was below the last stream may have been done, so it is not asked
/// again, unless nothing can come of it.
#[tokio::test]
async fn what_the_origin_may_have_done_is_not_done_again() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, END_STREAM, ("POST", "/"), &[]).await;
    let head = server.request().await;
    server.send(Frame::goaway(head.stream, code::INTERNAL_ERROR)).await;
    drop(server);
    client.expect_status(1, "502").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    origin.origin.expect_nobody();
    drop(client);
    setup.expect_flows(1).await;
}

/// RFC 9113 §8.7: the same for a connection that dies without a word.
#[tokio::test]
async fn a_post_on_a_connection_that_dies_is_not_sent_again() {
    let (mut setup, origin, mut client, mut server) = under_way(&[1]).await;
    server.ok(1).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    client.ask(3, END_STREAM, ("POST", "/"), &[]).await;
    server.request().await;
    drop(server);
    client.expect_status(3, "502").await;
    assert_eq!(setup.flow().await.state, State::Failed);
    origin.origin.expect_nobody();
}

/// An origin's connection that dies takes its own streams along and no other: those of the client's that go to another
/// origin connection, and the client's connection, live.
#[tokio::test]
async fn a_connection_that_dies_takes_only_its_own_streams() {
    let (mut setup, origin, mut client, mut server) = under_way(&[1]).await;
    client.ask(3, END_STREAM, ("POST", "/3"), &[]).await;
    server.request().await;
    server.send(Frame::goaway(3, code::NO_ERROR)).await;
    server.fence().await;
    client.get(5, "/5").await;
    let mut second = origin.h2().await;
    let fifth = second.request().await;
    // One has an answer under way, one has none.
    server.head(1, MORE, &[(":status", "200")]).await;
    server.data(1, MORE, "o").await;
    client.expect_status(1, "200").await;
    client.expect_data(1, "o").await;
    drop(server);
    assert_ne!(client.cut(1).await, code::NO_ERROR);
    client.expect_status(3, "502").await;
    second.ok(fifth.stream).await;
    client.expect_ok(5).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let flow = setup.flow().await;
        let body = flow.response.as_ref().map(|response| response.body.end);
        seen.push((flow.request.as_ref().unwrap().target.clone(), ending(&flow), body));
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let server = |stage| Some((Side::Server, stage));
    assert_eq!(
        seen[0],
        ("/1".into(), (State::ServerAborted, server(Stage::ResponseBody)), Some(BodyEnd::CutOff))
    );
    assert_eq!((&seen[1].0[..], seen[1].1), (&b"/3"[..], (State::Failed, server(Stage::ResponseHead))));
    assert_eq!((&seen[2].0[..], seen[2].1), (&b"/5"[..], (State::Complete, None)));
    drop(client);
    setup.expect_flows(3).await;
}

/// An upload goes on after it, too.
#[tokio::test]
async fn a_graceful_goaway_does_not_end_an_upload() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, MORE, "abc").await;
    let head = server.request().await;
    server.expect_data(head.stream, "abc").await;
    server.send(Frame::goaway(head.stream, code::NO_ERROR)).await;
    server.fence().await;
    client.data(1, END_STREAM, "def").await;
    assert_eq!(server.rest_of(head.stream).await.0, b"def");
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.request.unwrap().body.as_inline().unwrap(), "abcdef");
}

/// A connection that another client left, and the origin then ended, is not used.
#[tokio::test]
async fn a_connection_that_ended_while_idle_is_not_used() {
    let (mut setup, origin, mut client, mut server) = under_way(&[1]).await;
    server.ok(1).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    drop(client);
    server.send(Frame::goaway(1, code::NO_ERROR)).await;
    server.ended().await;
    drop(server);
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, END_STREAM, "abc").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// A client that says GOAWAY still wants what it has asked for.
#[tokio::test]
async fn a_clients_goaway_does_not_cancel_its_requests() {
    let (mut setup, _origin, mut client, mut server) = under_way(&[1]).await;
    client.send(Frame::goaway(0, code::NO_ERROR)).await;
    client.fence().await;
    server.ok(1).await;
    client.expect_ok(1).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// RFC 9113 §6.8: when the proxy stops, clients are told, what is under way ends, and then the connection does.
#[tokio::test]
async fn stopping_tells_clients_and_lets_exchanges_end() {
    let (setup, _origin, mut client, mut server) = under_way(&[1]).await;
    let stopping = setup.expect_flows(1);
    let talking = async {
        let (last, why) = client.goaway().await;
        assert!(last >= 1 && why == code::NO_ERROR);
        server.ok(1).await;
        client.expect_ok(1).await;
        client.ended().await;
    };
    tokio::join!(stopping, talking);
}
