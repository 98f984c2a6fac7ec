//! RFC 9113 §5.1, §5.4.2: what rules do to one stream is no business of the others (wire cases H2-13, H2-17).

use manent::flow::{Side, Stage, State};
use manent::rules::RuleKind;

use crate::harness::h2::{END_STREAM, Event, Frame, MORE, code};
use crate::harness::{Setup, ending};

/// H2-13: a stream that is held lets the next one pass, and follows on the same connection, as a newer stream there.
#[tokio::test]
async fn section_5_1_1_a_stream_that_is_held_goes_later_with_a_fresh_number() {
    let (mut setup, origin) = Setup::h2_ruled(&[(RuleKind::Delay, "|~u /held|700ms")]).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/held").await;
    client.get(3, "/free").await;
    let free = server.request().await;
    assert_eq!(free.get(":path"), "/free");
    server.ok(free.stream).await;
    client.expect_ok(3).await;
    let held = server.request().await;
    assert_eq!(held.get(":path"), "/held");
    assert!(held.stream > free.stream);
    server.ok(held.stream).await;
    client.expect_ok(1).await;
    origin.origin.expect_nobody();
    let flows = [setup.flow().await, setup.flow().await];
    let told = flows.each_ref().map(|flow| (flow.state, flow.rules.len()));
    assert_eq!(told, [(State::Complete, 0), (State::Complete, 1)]);
    assert_eq!(flows[1].rules[0].rule, "delay |~u /held|700ms");
    assert!(flows[1].timing.send_start_us.unwrap() >= 700_000);
}

/// A client that cancels a stream which is held has not asked for anything.
#[tokio::test]
async fn section_5_4_2_a_held_stream_that_is_cancelled_is_never_sent() {
    let (mut setup, origin) = Setup::h2_ruled(&[(RuleKind::Delay, "|~u /held|1h")]).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/held").await;
    client.ask(3, MORE, ("POST", "/held"), &[]).await;
    client.data(3, MORE, "some body").await;
    client.fence().await;
    for stream in [1, 3] {
        client.send(Frame::rst(stream, code::CANCEL)).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::ResponseHead))));
        assert!(flow.server.is_none());
    }
    client.get(5, "/").await;
    let head = server.request().await;
    assert_eq!(head.get(":path"), "/");
    server.ok(head.stream).await;
    client.expect_ok(5).await;
}

/// H2-17: the kill of one stream is its own: INTERNAL_ERROR for it, and the other comes to its end.
#[tokio::test]
async fn section_5_4_2_a_kill_resets_its_stream_alone() {
    let (mut setup, origin) = Setup::h2_ruled(&[(RuleKind::Block, "|~u /secret|kill")]).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    client.get(3, "/secret").await;
    client.expect_rst(3, &[code::INTERNAL_ERROR]).await;
    let killed = setup.flow().await;
    assert_eq!(ending(&killed), (State::Refused, Some((Side::Proxy, Stage::RequestHead))));
    assert_eq!(killed.error.unwrap().message, "by the rule: block |~u /secret|kill");
    assert_eq!((killed.response, killed.server), (None, None));
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    drop(client);
    setup.expect_flows(2).await;
}

/// A blocked stream is answered, and the connection goes on; 204 has no body (RFC 9110 §15.3.5).
#[tokio::test]
async fn section_8_1_a_blocked_stream_is_answered() {
    let rules = [(RuleKind::Block, "~u /ads"), (RuleKind::Block, "|~u /empty|204")];
    let (mut setup, origin) = Setup::h2_ruled(&rules).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/ads").await;
    client.expect_status(1, "403").await;
    let (body, _) = client.rest_of(1).await;
    assert_eq!(body, b"manent: proxy request head: by the rule: block ~u /ads\n");
    client.ask(3, MORE, ("POST", "/empty"), &[]).await;
    let head = client.expect_status(3, "204").await;
    assert!(head.end && !head.has("content-length"), "{head:?}");
    for status in [403, 204] {
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Proxy, Stage::RequestHead))));
        assert_eq!(flow.response.map(|response| (response.status, response.by_proxy)), Some((status, true)));
    }
    client.ask(5, END_STREAM, ("GET", "/"), &[]).await;
    let head = server.request().await;
    assert_eq!(head.get(":path"), "/");
    server.ok(head.stream).await;
    client.expect_ok(5).await;
}
