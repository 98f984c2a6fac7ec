//! The same exchange whatever protocol stands on either side (RFC 9113 §8, RFC 9112): nothing is lost that the other can
//! carry (wire cases H2-03, H2-04, H2-25, H2-32 to H2-36, pitfalls 65, 66, 76, 80).

use manent::flow::{BodyEnd, Flow, Framing, State, Version};

use crate::harness::h2::{COMBINATIONS, END_STREAM, End, Got, H2, MORE, NAME, Say, Speaks};
use crate::harness::{Peer, Setup, TestCa};

const TRAILED: Say<'static> =
    Say { fields: &[("x-one", "1")], body: Some("some body"), trailers: &[("x-sum", "42")] };

fn version(protocol: Speaks) -> Version {
    match protocol {
        Speaks::Http1 => Version::Http11,
        Speaks::Http2 => Version::Http2,
    }
}

/// One exchange: what the origin saw, what the client saw, and the flow.
async fn exchange(
    (client, server): (Speaks, Speaks),
    line: (&str, &str),
    (request, status, response): (Say<'_>, &str, Say<'_>),
) -> (Got, Got, Flow) {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (mut ours, mut theirs) = setup.ends(&ca, client, server).await;
    ours.ask(line, request).await;
    let asked = theirs.asked().await;
    theirs.answer(&asked, status, response).await;
    let answered = ours.answered(line.0 == "HEAD" || status == "304" || status == "204").await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete, "{client:?} to {server:?}: {:?}", flow.error);
    let seen = (flow.request.as_ref().unwrap().version, flow.response.as_ref().unwrap().version);
    assert_eq!(seen, (version(client), version(server)));
    drop((ours, theirs));
    setup.expect_flows(1).await;
    (asked, answered, flow)
}

/// H2-03, H2-04, H2-35b, H2-36: body and trailers both ways, in all combinations.
#[tokio::test]
async fn bodies_and_trailers_pass_in_every_combination() {
    for combination in COMBINATIONS {
        let (asked, answered, flow) =
            exchange(combination, ("POST", "/a?b"), (TRAILED, "200", TRAILED)).await;
        for got in [&asked, &answered] {
            assert_eq!(got.all("x-one"), ["1"], "{combination:?}");
            assert_eq!((&got.body[..], got.trailers()), ("some body", vec![("x-sum", "42")]));
        }
        assert_eq!((&asked.line[..], &asked.authority[..]), ("POST /a?b", NAME));
        assert_eq!(answered.line, "200");
        let (request, response) = (flow.request.unwrap(), flow.response.unwrap());
        for (body, trailers, protocol) in [
            (request.body, request.trailers, combination.0),
            (response.body, response.trailers, combination.1),
        ] {
            let framing = if protocol == Speaks::Http1 { Framing::Chunked } else { Framing::Stream };
            assert_eq!((body.framing, body.end), (framing, BodyEnd::Whole));
            assert_eq!(body.as_inline().unwrap(), "some body");
            assert_eq!(trailers.unwrap().get("x-sum"), Some(&b"42"[..]));
        }
    }
}

/// The same with more than windows and frames take.
#[tokio::test]
async fn large_bodies_pass_in_every_combination() {
    let body: String = (0..100_000).map(|at| format!("{at} ")).collect();
    let length = body.len().to_string();
    let sized = [("content-length", &length[..])];
    for combination in COMBINATIONS {
        for fields in [&sized[..], &[]] {
            let say = Say { fields, body: Some(&body), trailers: &[] };
            let (asked, answered, flow) = exchange(combination, ("POST", "/"), (say, "200", say)).await;
            assert!(asked.body == body && answered.body == body, "{combination:?}");
            for recorded in [flow.request.unwrap().body, flow.response.unwrap().body] {
                assert!(recorded.as_inline().unwrap() == body.as_bytes() && recorded.end == BodyEnd::Whole);
            }
        }
    }
}

/// RFC 9112 §9.3: a client in HTTP/1 keeps its connection, sends ahead, and gets the answers in order, whatever the order in
/// which its origin could give them.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order_over_http2() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (ours, theirs) = setup.ends(&ca, Speaks::Http1, Speaks::Http2).await;
    let (End::H1(mut client), End::H2(mut server)) = (ours, theirs) else { unreachable!("asked for both") };
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    client.send([request("/1"), request("/2"), request("/3")].concat()).await;
    for path in ["/1", "/2", "/3"] {
        let head = server.request().await;
        assert_eq!(head.get(":path"), path);
        let fields = [(":status", "200"), ("content-length", "2"), ("x-path", path)];
        server.head(head.stream, MORE, &fields).await;
        server.data(head.stream, END_STREAM, "ok").await;
        assert!(client.head().await.contains(&format!("x-path: {path}\r\n")));
        client.expect("ok").await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// An HTTP/1.0 client knows no chunks and no interim responses: the close ends its body.
#[tokio::test]
async fn an_http_1_0_client_is_answered_up_to_the_close() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (ours, theirs) = setup.ends(&ca, Speaks::Http1, Speaks::Http2).await;
    let (End::H1(mut client), End::H2(mut server)) = (ours, theirs) else { unreachable!("asked for both") };
    client.send(format!("GET / HTTP/1.0\r\nHost: {NAME}\r\nConnection: keep-alive\r\n\r\n")).await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "103")]).await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    server.data(head.stream, MORE, "some body").await;
    server.head(head.stream, END_STREAM, &[("x-sum", "1")]).await;
    let head = client.head().await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && !head.to_ascii_lowercase().contains("chunked"),
        "{head}"
    );
    client.expect("some body").await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.interim.len()), (State::Complete, 1));
    assert_eq!(flow.response.unwrap().trailers.unwrap().get("x-sum"), Some(&b"1"[..]));
}

/// H2-33: what announces a length is passed with it, and is one message on HTTP/1.
#[tokio::test]
async fn announced_lengths_are_kept_in_every_combination() {
    let sized = Say { fields: &[("content-length", "9")], body: Some("some body"), trailers: &[] };
    for combination in COMBINATIONS {
        let (asked, answered, _) = exchange(combination, ("POST", "/"), (sized, "200", sized)).await;
        for got in [asked, answered] {
            assert_eq!((&got.body[..], got.all("content-length")), ("some body", vec!["9"]));
            assert_eq!(got.all("transfer-encoding"), Vec::<&str>::new(), "{combination:?}");
        }
    }
}

/// H2-34, H2-35: without a length, HTTP/1 gets chunks, and HTTP/2 no word of them.
#[tokio::test]
async fn bodies_of_unknown_length_are_framed_by_the_protocol() {
    let unsized_body = Say { body: Some("some body"), ..Say::default() };
    for (client, server) in COMBINATIONS {
        let said = (unsized_body, "200", unsized_body);
        let (asked, answered, _) = exchange((client, server), ("POST", "/"), said).await;
        for (got, protocol) in [(asked, server), (answered, client)] {
            let framing = if protocol == Speaks::Http1 { vec!["chunked"] } else { Vec::new() };
            assert_eq!((&got.body[..], got.all("transfer-encoding")), ("some body", framing));
            assert_eq!(got.all("content-length"), Vec::<&str>::new());
        }
    }
}

/// RFC 9110 §6.4.1: what has no body by method or status keeps the length that it tells of, and gets no body.
#[tokio::test]
async fn head_and_bodiless_answers_pass_in_every_combination() {
    let told = Say { fields: &[("content-length", "1000"), ("etag", "\"x\"")], ..Say::default() };
    let silent = Say { fields: &[("etag", "\"x\"")], ..Say::default() };
    for combination in COMBINATIONS {
        for (method, status, said) in
            [("HEAD", "200", told), ("HEAD", "200", silent), ("GET", "304", told), ("GET", "204", silent)]
        {
            let said = (Say::default(), status, said);
            let (asked, answered, flow) = exchange(combination, (method, "/"), said).await;
            assert_eq!((asked.line, &answered.line[..]), (format!("{method} /"), status));
            assert_eq!(answered.fields.len(), said.2.fields.len(), "{combination:?} {answered:?}");
            assert_eq!((&answered.body[..], answered.all("etag")), ("", vec!["\"x\""]));
            assert_eq!(flow.response.unwrap().body.len, 0);
        }
    }
}

/// An empty body is not the same as none where the protocol can tell: `Content-Length: 0` passes.
#[tokio::test]
async fn an_empty_body_passes_in_every_combination() {
    let empty = Say { fields: &[("content-length", "0")], ..Say::default() };
    for combination in COMBINATIONS {
        let (asked, answered, _) = exchange(combination, ("POST", "/"), (empty, "200", empty)).await;
        for got in [asked, answered] {
            assert_eq!((&got.body[..], got.all("content-length")), ("", vec!["0"]), "{combination:?}");
        }
    }
}

/// H2-25, pitfall 5: interim responses pass, in order, and are recorded.
#[tokio::test]
async fn interim_responses_pass_in_every_combination() {
    for (client, server) in COMBINATIONS {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (mut ours, mut theirs) = setup.ends(&ca, client, server).await;
        ours.ask(("GET", "/"), Say::default()).await;
        let asked = theirs.asked().await;
        for (status, link) in [("103", "</a>"), ("103", "</b>"), ("102", "</c>")] {
            let say = Say { fields: &[("link", link)], ..Say::default() };
            theirs.answer(&asked, status, say).await;
            let interim = ours.answered(false).await;
            assert_eq!((&interim.line[..], interim.all("link")), (status, vec![link]));
        }
        let say = Say { fields: &[("content-length", "2")], body: Some("ok"), trailers: &[] };
        theirs.answer(&asked, "200", say).await;
        assert_eq!(ours.answered(false).await.body, "ok");
        let flow = setup.flow().await;
        let interim: Vec<_> = flow.interim.iter().map(|i| (i.status, i.headers.get("link"))).collect();
        let wanted = [(103, Some(&b"</a>"[..])), (103, Some(b"</b>")), (102, Some(b"</c>"))];
        assert_eq!((flow.state, &interim[..]), (State::Complete, &wanted[..]), "{client:?} {server:?}");
    }
}

/// Pitfall 7: the origin says 100, not we, and only then the body goes.
#[tokio::test]
async fn continue_is_the_origins_in_every_combination() {
    for (client, server) in COMBINATIONS {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (mut ours, mut theirs) = setup.ends(&ca, client, server).await;
        let fields = [("content-length", "3"), ("expect", "100-continue")];
        match &mut ours {
            End::H1(_) => {
                ours.ask(("PUT", "/"), Say { fields: &fields, body: Some(""), trailers: &[] }).await
            }
            End::H2(ours) => ours.ask(1, MORE, ("PUT", "/"), &fields).await,
        }
        let asked = theirs.asked_head().await;
        assert_eq!(asked.all("expect"), ["100-continue"]);
        theirs.answer(&asked, "100", Say::default()).await;
        assert_eq!(ours.answered(false).await.line, "100");
        ours.send_body("abc").await;
        theirs.expect_body(asked.stream, "abc").await;
        theirs.answer(&asked, "204", Say::default()).await;
        assert_eq!(ours.answered(true).await.line, "204");
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.interim.len()), (State::Complete, 1), "{client:?} {server:?}");
        assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abc");
    }
}

/// H2-32, pitfall 66, RFC 9113 §8.2.3: crumbs are joined towards HTTP/1 and nowhere else; the record has them as they came.
#[tokio::test]
async fn cookie_crumbs_are_joined_for_http1_alone() {
    let crumbs = Say { fields: &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], ..Say::default() };
    let ok = Say { fields: &[("content-length", "0")], ..Say::default() };
    for server in [Speaks::Http1, Speaks::Http2] {
        let (asked, _, flow) = exchange((Speaks::Http2, server), ("GET", "/"), (crumbs, "200", ok)).await;
        let wanted = if server == Speaks::Http1 { vec!["a=1; b=2"] } else { vec!["a=1", "b=2"] };
        assert_eq!(asked.all("cookie"), wanted);
        let request = flow.request.unwrap();
        assert_eq!(request.headers.get_all("cookie").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
    }
}

/// RFC 9113 §8.3.1, RFC 9112 §3.2.4: the server as a whole is asked for by `*` in every combination.
#[tokio::test]
async fn options_of_the_server_pass_in_every_combination() {
    let ok = Say { fields: &[("allow", "GET"), ("content-length", "0")], ..Say::default() };
    for combination in COMBINATIONS {
        let (asked, answered, _) = exchange(combination, ("OPTIONS", "*"), (Say::default(), "200", ok)).await;
        assert_eq!((&asked.line[..], answered.all("allow")), ("OPTIONS *", vec!["GET"]), "{combination:?}");
    }
}

/// Pitfall 7, RFC 9110 §10.1.1: an origin that does not want the body says so, and gets none.
#[tokio::test]
async fn a_body_that_is_not_wanted_is_not_sent() {
    for (client, server) in COMBINATIONS {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (mut ours, mut theirs) = setup.ends(&ca, client, server).await;
        let fields = [("content-length", "3"), ("expect", "100-continue")];
        match &mut ours {
            End::H1(_) => {
                ours.ask(("PUT", "/"), Say { fields: &fields, body: Some(""), trailers: &[] }).await;
            }
            End::H2(ours) => ours.ask(1, MORE, ("PUT", "/"), &fields).await,
        }
        let asked = theirs.asked_head().await;
        let say = Say { fields: &[("content-length", "2")], body: Some("no"), trailers: &[] };
        theirs.answer(&asked, "417", say).await;
        let answer = ours.answered(false).await;
        assert_eq!((&answer.line[..], &answer.body[..]), ("417", "no"), "{client:?} {server:?}");
        drop(ours);
        let flow = setup.flow().await;
        assert_eq!(flow.response.unwrap().status, 417);
        assert_eq!(flow.request.unwrap().body.len, 0);
    }
}

/// Pitfall 27: what must not be joined never is.
#[tokio::test]
async fn repeated_fields_stay_apart_in_every_combination() {
    let twice = Say {
        fields: &[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "0")],
        ..Say::default()
    };
    let accept = Say { fields: &[("accept", "a"), ("accept", "b")], ..Say::default() };
    for combination in COMBINATIONS {
        let (asked, answered, _) = exchange(combination, ("GET", "/"), (accept, "200", twice)).await;
        assert_eq!(asked.all("accept"), ["a", "b"], "{combination:?}");
        assert_eq!(answered.all("set-cookie"), ["a=1", "b=2"]);
    }
}

/// Pitfall 76, RFC 9113 §8.2.2: what belongs to an HTTP/1 connection does not reach HTTP/2, and TE only as `trailers`.
#[tokio::test]
async fn connection_fields_of_http1_stay_there() {
    let hop = [
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("x-end", "2"),
        ("content-length", "0"),
    ];
    let asked_for = [&hop[..], &[("te", "trailers, deflate"), ("proxy-connection", "keep-alive")]].concat();
    let said = (Say { fields: &asked_for, ..Say::default() }, "204", Say::default());
    let (asked, _, _) = exchange((Speaks::Http1, Speaks::Http2), ("GET", "/"), said).await;
    let mut names: Vec<_> = asked.fields.iter().map(|(name, _)| &name[..]).collect();
    names.sort_unstable();
    assert!(names == ["content-length", "te", "x-end"] || names == ["content-length", "x-end"], "{names:?}");
    assert!(asked.all("te").iter().all(|te| *te == "trailers"));
    let said = (Say::default(), "200", Say { fields: &hop, ..Say::default() });
    let (_, answered, flow) = exchange((Speaks::Http2, Speaks::Http1), ("GET", "/"), said).await;
    let names: Vec<_> = answered.fields.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["x-end", "content-length"]);
    assert_eq!(flow.response.unwrap().headers.len(), 5);
}

/// A pair of these protocols with a client's head of its own making.
async fn asked_with(server: Speaks, fields: &[(&str, &str)]) -> (Setup, H2, End) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let (ours, theirs) = setup.ends(&ca, Speaks::Http2, server).await;
    let End::H2(mut ours) = ours else { unreachable!("it was asked for HTTP/2") };
    ours.head(1, END_STREAM, fields).await;
    (setup, ours, theirs)
}

/// Pitfall 65, RFC 9113 §8.3.1: `:authority` goes on, and becomes `Host`; the record keeps both as they came.
#[tokio::test]
async fn authority_and_host_are_kept_apart() {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    for server in [Speaks::Http1, Speaks::Http2] {
        for (authority, host) in
            [(Some(NAME), None), (Some(NAME), Some(NAME)), (None, Some(NAME)), (Some("ORIGIN.test"), None)]
        {
            let mut fields = pseudo.to_vec();
            fields.extend(authority.map(|authority| (":authority", authority)));
            fields.extend(host.map(|host| ("host", host)));
            let (mut setup, mut client, mut theirs) = asked_with(server, &fields).await;
            let asked = theirs.asked().await;
            let named = if asked.authority.is_empty() { asked.all("host") } else { vec![&*asked.authority] };
            assert_eq!(named, [authority.or(host).unwrap()]);
            theirs.answer(&asked, "204", Say::default()).await;
            client.expect_status(1, "204").await;
            let request = setup.flow().await.request.unwrap();
            assert_eq!(request.authority.as_deref(), authority.map(str::as_bytes));
            assert_eq!(request.headers.get("host"), host.map(str::as_bytes));
            assert_eq!(&request.target[..], b"/");
            // Without `:authority`, the library below drops `:scheme`.
            if authority.is_some() {
                assert_eq!(request.scheme.as_deref(), Some(&b"https"[..]));
            }
        }
    }
}

/// Pitfall 65: where both are there and differ, no two parsers may be told two things: refused, or the first alone goes on.
#[tokio::test]
async fn authority_and_another_host_never_both_go_on() {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", NAME),
        (":path", "/"),
        ("host", "other.test"),
    ];
    for server in [Speaks::Http1, Speaks::Http2] {
        let (mut setup, mut client, mut theirs) = asked_with(server, &fields).await;
        let flow = tokio::select! {
            asked = theirs.asked() => {
                assert_eq!((&asked.authority[..], asked.all("host").contains(&"other.test")), (NAME, false));
                theirs.answer(&asked, "204", Say::default()).await;
                client.expect_status(1, "204").await;
                setup.flow().await
            }
            head = client.expect_head(1) => {
                assert_eq!(head.status(), "400");
                let flow = setup.flow().await;
                assert_eq!(flow.state, State::Refused);
                flow
            }
        };
        let request = flow.request.unwrap();
        assert_eq!(request.authority.as_deref(), Some(NAME.as_bytes()));
        assert_eq!(request.headers.get("host"), Some(&b"other.test"[..]));
    }
}

/// Pitfall 79, RFC 9113 §9.1.2: a request for another origin than the connection's is misdirected, and the others go on.
#[tokio::test]
async fn a_request_for_another_origin_is_misdirected() {
    for server in [Speaks::Http1, Speaks::Http2] {
        for (scheme, authority) in [("https", "other.test"), ("https", "origin.test:1"), ("http", NAME)] {
            let fields = [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", "/")];
            let (mut setup, mut client, mut theirs) = asked_with(server, &fields).await;
            let head = client.expect_head(1).await;
            assert!(["421", "400"].contains(&head.status()), "{head:?}");
            assert_eq!(setup.flow().await.state, State::Refused);
            client.get(3, "/").await;
            let asked = theirs.asked().await;
            theirs.answer(&asked, "204", Say::default()).await;
            client.expect_status(3, "204").await;
            assert_eq!(setup.flow().await.state, State::Complete);
        }
    }
}

/// H2-35, CVE-2021-21295: what looks like a request in the body of one without a length is its body.
#[tokio::test]
async fn a_request_in_a_body_is_not_smuggled() {
    let smuggled = "GET /admin HTTP/1.1\r\nHost: origin.test\r\n\r\n";
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (mut ours, mut theirs) = setup.ends(&ca, Speaks::Http2, Speaks::Http1).await;
    ours.ask(("POST", "/"), Say { body: Some(smuggled), ..Say::default() }).await;
    let asked = theirs.asked().await;
    assert_eq!((&asked.line[..], &asked.body[..]), ("POST /", smuggled));
    theirs.answer(&asked, "204", Say::default()).await;
    ours.answered(true).await;
    assert_eq!(setup.flow().await.request.unwrap().body.as_inline().unwrap(), smuggled);
    let End::H1(theirs) = theirs else { unreachable!("it was asked for HTTP/1") };
    drop(ours);
    nothing_more(theirs, setup).await;
}

/// The origin sees nothing further, and there is no further flow.
async fn nothing_more(mut server: Peer, setup: Setup) {
    setup.expect_flows(1).await;
    let (rest, _) = server.rest().await;
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

/// Pitfall 80, gRPC: trailers without a body, and a head that is all there is.
#[tokio::test]
async fn trailers_without_a_body_pass() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let said = (Say::default(), "200", Say { trailers: &[("grpc-status", "5")], ..Say::default() });
        let (_, answered, flow) = exchange((client, Speaks::Http2), ("POST", "/"), said).await;
        assert_eq!((&answered.body[..], answered.trailers()), ("", vec![("grpc-status", "5")]));
        assert_eq!(flow.response.unwrap().trailers.unwrap().get("grpc-status"), Some(&b"5"[..]));
    }
    let only = Say { fields: &[("grpc-status", "5")], ..Say::default() };
    let (_, answered, flow) =
        exchange((Speaks::Http2, Speaks::Http2), ("POST", "/"), (Say::default(), "200", only)).await;
    assert_eq!((answered.all("grpc-status"), answered.trailers()), (vec!["5"], vec![]));
    assert_eq!(flow.response.unwrap().trailers, None);
}
