//! What a proxy owes besides relaying, on HTTP/2: credentials that are its own, loops, hops that are counted, its own answers
//! (RFC 9110 §7.6, §11.7, §15; RFC 9113 §8.1; pitfalls 3, 9).

use manent::flow::{Kind, Side, State};

use crate::harness::h2::{END_STREAM, End, Event, Frame, MORE, Say, Speaks, code};
use crate::harness::{Origin, Setup, TestCa};

const SECRET: &str = "Basic canary";

/// Pitfall 3: neither the origin nor the store sees the credentials for us; the name of the field stays in the record.
#[tokio::test]
async fn credentials_for_the_proxy_stay_here() {
    for server in [Speaks::Http1, Speaks::Http2] {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (ours, mut theirs) = setup.ends(&ca, Speaks::Http2, server).await;
        let End::H2(mut client) = ours else { unreachable!("it was asked for HTTP/2") };
        client.ask(1, MORE, ("POST", "/"), &[("proxy-authorization", SECRET)]).await;
        client.head(1, END_STREAM, &[("proxy-authorization", SECRET), ("x-sum", "1")]).await;
        let asked = theirs.asked().await;
        assert!(!format!("{asked:?}").contains("canary"), "{asked:?}");
        assert_eq!(asked.trailers(), [("x-sum", "1")]);
        theirs.answer(&asked, "204", Say::default()).await;
        client.expect_status(1, "204").await;
        let request = setup.flow().await.request.unwrap();
        assert!(request.headers.get("proxy-authorization").is_some());
        assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    }
}

/// A request that would come back to us is refused, also where HTTP/2 asks for it.
#[tokio::test]
async fn a_request_for_the_proxy_itself_is_a_loop() {
    let mut setup = Setup::start().await;
    let origin = Origin::listen().await;
    let mut client = setup.h2_clear(&origin).await;
    client.origin.1 = setup.proxy.addr().to_string();
    client.get(1, "/").await;
    let head = client.expect_head(1).await;
    assert!(head.status().starts_with(['4', '5']), "{head:?}");
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.kind, flow.error.unwrap().side), (State::Refused, Kind::Http, Side::Proxy));
}

/// RFC 9110 §7.6.2: the last hop answers, every other counts.
#[tokio::test]
async fn max_forwards_is_counted() {
    for server in [Speaks::Http1, Speaks::Http2] {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (ours, mut theirs) = setup.ends(&ca, Speaks::Http2, server).await;
        let End::H2(mut client) = ours else { unreachable!("it was asked for HTTP/2") };
        client.ask(1, END_STREAM, ("OPTIONS", "/"), &[("max-forwards", "0")]).await;
        let head = client.expect_status(1, "200").await;
        assert!(head.end || client.rest_of(1).await.0.is_empty());
        assert!(setup.flow().await.response.unwrap().by_proxy);
        client.ask(3, END_STREAM, ("OPTIONS", "/"), &[("max-forwards", "7")]).await;
        let asked = theirs.asked().await;
        assert_eq!(asked.all("max-forwards"), ["6"]);
        theirs.answer(&asked, "204", Say::default()).await;
        client.expect_status(3, "204").await;
        let request = setup.flow().await.request.unwrap();
        assert_eq!(request.headers.get("max-forwards"), Some(&b"7"[..]));
    }
}

/// `te: trailers` is for one hop, and made anew for the next (RFC 9110 §10.1.4).
#[tokio::test]
async fn te_is_made_anew_for_http1() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (ours, mut theirs) = setup.ends(&ca, Speaks::Http2, Speaks::Http1).await;
    let End::H2(mut client) = ours else { unreachable!("it was asked for HTTP/2") };
    client.ask(1, END_STREAM, ("GET", "/"), &[("te", "trailers")]).await;
    let asked = theirs.asked().await;
    let connection = asked.all("connection").join(",").to_ascii_lowercase();
    let named = connection.split(',').any(|option| option.trim() == "te");
    assert_eq!((asked.all("te"), named), (vec!["trailers"], true), "{asked:?}");
    theirs.answer(&asked, "204", Say::default()).await;
    client.expect_status(1, "204").await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// An answer of our own to HEAD is a head, with the end on it.
#[tokio::test]
async fn our_own_answer_to_head_has_no_body() {
    let mut setup = Setup::start().await;
    let gone = Origin::listen().await;
    let mut client = setup.h2_clear(&gone).await;
    drop(gone);
    client.ask(1, END_STREAM, ("HEAD", "/"), &[]).await;
    assert!(client.expect_status(1, "502").await.end);
    assert_eq!(setup.flow().await.state, State::Failed);
}

/// An answer of our own while the request still comes: it is whole, the client may stop sending, and what it sends
/// nevertheless harms nobody.
#[tokio::test]
async fn our_own_answer_in_mid_upload_disturbs_nothing() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.origin.1 = "other.test".into();
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.expect_status(1, "421").await;
    let (body, _) = client.rest_of(1).await;
    assert!(!body.is_empty());
    for _ in 0..20 {
        client.data(1, MORE, [b'x'; 2000]).await;
    }
    client.data(1, END_STREAM, "").await;
    assert_eq!(setup.flow().await.state, State::Refused);
    client.origin.1 = "origin.test".into();
    client.get(3, "/").await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(3).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    let resets: Vec<_> = client.aside().filter(|event| matches!(event, Event::Rst { .. })).collect();
    let polite = |event: &&&Event| {
        matches!(event, Event::Rst { stream: 1, code: code::NO_ERROR | code::CANCEL | code::STREAM_CLOSED })
    };
    assert_eq!(resets.iter().filter(polite).count(), resets.len(), "{resets:?}");
}

/// An idle client of HTTP/2 makes room for another, as one of HTTP/1 does; one with a request under way does not.
#[tokio::test]
async fn idle_clients_make_room() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.limits.max_connections = 2;
    })
    .await;
    let (first, second) = (Origin::listen().await, Origin::listen().await);
    let mut busy = setup.h2_clear(&first).await;
    busy.get(1, "/").await;
    let mut server = first.accept().await;
    let mut idle = setup.h2_clear(&second).await;
    idle.until("settings", |idle| idle.acks == 1).await;
    let third = async { setup.expect_alive().await };
    let told = async {
        assert_eq!(idle.goaway().await.1, code::NO_ERROR);
        idle.ended().await;
    };
    tokio::join!(third, told);
    server.head().await;
    server.send(crate::harness::OK).await;
    busy.expect_ok(1).await;
}

/// Prior knowledge that is wrong: the origin in the tunnel speaks HTTP/1 alone. The client is told, and nothing hangs.
#[tokio::test]
async fn wrong_prior_knowledge_is_told() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = setup.h2_tunnel(&origin).await;
    client.get(1, "/").await;
    // It may be tried more than once.
    let answering = async {
        loop {
            let mut server = origin.accept().await;
            assert!(server.read(4).await == b"PRI ");
            server.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    tokio::select! {
        head = client.expect_head(1) => assert_eq!(head.status(), "502"),
        () = answering => unreachable!("the origin goes on"),
    }
    assert_eq!(setup.flow().await.state, State::Failed);
    client.send(Frame::ping(0, [0; 8])).await;
    client.until("an answer", |client| !client.pongs.is_empty()).await;
}
