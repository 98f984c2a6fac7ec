//! RFC 9113 §6.7: connections to origins are tried with PINGs, so that nothing in between forgets a quiet one, and an origin
//! that is gone without a word is not waited for (wire case H2-29).

use std::time::Duration;

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::h2::{ACK, END_STREAM, H2, MORE, Speaks, code, kind};
use crate::harness::{Setup, TestCa, TlsOrigin, ending};

/// A proxy that sends a PING ten times a second.
async fn start() -> (Setup, TlsOrigin) {
    let ca = TestCa::new();
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.timeouts.ping_every = Duration::from_millis(100);
        config.timeouts.ping_answer = Duration::from_secs(1);
    })
    .await;
    (setup, TlsOrigin::speaking(&ca, Speaks::Http2).await)
}

fn pings(server: &H2) -> usize {
    server.log.iter().filter(|(kind, flags, _)| *kind == kind::PING && flags & ACK == 0).count()
}

/// H2-29: nothing passes while a request is open but PINGs, and the request is answered in the end.
#[tokio::test]
async fn a_quiet_connection_is_pinged() {
    let (mut setup, origin) = start().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    let before = pings(&server);
    server.until("three PINGs", |server| pings(server) >= before + 3).await;
    assert!(server.log.iter().all(|(kind, _, stream)| *kind != kind::PING || *stream == 0));
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// An origin that does not answer them is given up: its streams fail, and what is asked next goes to a new connection.
#[tokio::test]
async fn an_origin_that_answers_no_ping_is_given_up() {
    let (mut setup, origin) = start().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/1").await;
    let begun = server.request().await;
    server.head(begun.stream, MORE, &[(":status", "200")]).await;
    server.data(begun.stream, MORE, "abc").await;
    client.expect_status(1, "200").await;
    client.expect_data(1, "abc").await;
    client.ask(3, END_STREAM, ("POST", "/3"), &[]).await;
    server.request().await;
    server.answers = false;
    // All that it gets from now on are PINGs, until the proxy closes.
    server.ended().await;
    assert_ne!(client.cut(1).await, code::NO_ERROR);
    client.expect_status(3, "502").await;
    let mut flows = [setup.flow().await, setup.flow().await];
    flows.sort_by_key(|flow| flow.mid);
    let [begun, asked] = flows;
    assert_eq!(ending(&begun), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
    assert_eq!(begun.response.unwrap().body.end, BodyEnd::CutOff);
    assert_eq!(ending(&asked), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    let told = asked.server.unwrap().error.clone().unwrap();
    assert!(told.contains("no answer to a PING"), "{told}");

    client.get(5, "/5").await;
    let mut second = origin.h2().await;
    let fifth = second.request().await;
    second.ok(fifth.stream).await;
    client.expect_ok(5).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}
