//! RFC 9113 §8.2.1: names of fields are in lower case in HTTP/2 (wire cases H2-21, H2-22).
//!
//! H2-21 holds for a client of HTTP/1, where capitals are right: they go out in lower case and are stored as they came. H2-22
//! asks that capitals pass unchanged where nothing is normalised; there is no such setting here, and there cannot well be
//! one: what a peer sends in capitals over HTTP/2 is malformed, and is refused and recorded, towards either side; on HTTP/1
//! alone they pass unchanged.

use manent::flow::{State, Version};
use manent::rules::RuleKind;

use crate::harness::h2::{END_STREAM, End, Event, Refusal, Speaks, code};
use crate::harness::{Origin, Setup, TestCa, ending, rules};

/// H2-21: in lower case on the way out, as received in the record; so is a field that a rule sets.
#[tokio::test]
async fn section_8_2_1_capitals_of_http1_go_out_in_lower_case() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.rules = rules(&[(RuleKind::SetHeader, "|~u /ruled|X-Rule: Y")]);
    })
    .await;
    let (ours, theirs) = setup.ends(&ca, Speaks::Http1, Speaks::Http2).await;
    let (End::H1(mut client), End::H2(mut server)) = (ours, theirs) else { unreachable!("asked for both") };
    for (path, extra) in [("/", None), ("/ruled", Some(("x-rule", "Y")))] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: origin.test\r\nX-CaPs: A b\r\nETAG: \"C\"\r\n\r\n"))
            .await;
        let head = server.request().await;
        let own = [("x-caps", "A b"), ("etag", "\"C\"")].into_iter().chain(extra);
        let seen = head.fields.iter().filter(|(name, _)| !name.starts_with(':'));
        assert!(seen.map(|(name, value)| (&name[..], &value[..])).eq(own), "{head:?}");
        server.ok(head.stream).await;
        client.head().await;
        assert_eq!(client.read_chunked().await, b"ok");
        let flow = setup.flow().await;
        assert_eq!(flow.state, State::Complete);
        let request = flow.request.unwrap();
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [&b"Host"[..], b"X-CaPs", b"ETAG"]);
        assert_eq!(request.version, Version::Http11);
        assert_eq!(request.changed.is_some(), extra.is_some());
    }
}

/// H2-22, on HTTP/1: nothing is normalised there.
#[tokio::test]
async fn section_8_2_1_capitals_pass_unchanged_between_two_sides_of_http1() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let request = "GET http://{addr}/ HTTP/1.1\r\nhOST: {addr}\r\nX-CaPs: A b\r\n\r\n";
    let (_client, mut server) = setup.begin(&origin, request).await;
    assert!(server.head().await.ends_with("\r\nX-CaPs: A b\r\n\r\n"));
}

/// H2-22, over HTTP/2: a client's capitals are an error, which the library takes for one of the connection (RFC 9113 §5.4.2
/// allows that). They reach no origin, and the record says so. Those of an origin are no answer.
#[tokio::test]
async fn section_8_2_1_capitals_over_http2_are_refused_and_recorded() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, END_STREAM, ("GET", "/caps"), &[("X-CaPs", "y")]).await;
    let refusal = client.refusal(1).await;
    let wanted = [Refusal::Stream(code::PROTOCOL_ERROR), Refusal::Connection(code::PROTOCOL_ERROR)];
    assert!(wanted.contains(&refusal), "{refusal:?}");
    assert_eq!(ending(&setup.flow().await).0, State::Refused);
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    drop((client, server));
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, END_STREAM, ("GET", "/"), &[("x-caps", "y")]).await;
    let head = server.request().await;
    assert_eq!((head.get(":path"), head.get("x-caps")), ("/", "y"));
    server.head(head.stream, END_STREAM, &[(":status", "200"), ("X-CaPs", "y")]).await;
    match client.on(1).await {
        Event::Rst { .. } => {}
        Event::Head(head) => assert_eq!(head.status(), "502"),
        other => panic!("{other:?}"),
    }
    assert_eq!(setup.flow().await.state, State::Failed);
}
