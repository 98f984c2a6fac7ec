//! RFC 9113 §8: what a message may be. What is malformed ends its stream, reaches nobody, and is recorded (wire cases H2-02,
//! H2-18 to H2-20, H2-28, pitfalls 72, 76).

use manent::flow::{BodyEnd, Side, State};

use crate::harness::h2::{
    COMBINATIONS, END_HEADERS, END_STREAM, End, Event, Frame, H2, MORE, NAME, Refusal, Speaks, code, hpack,
    kind,
};
use crate::harness::{Setup, TestCa, TlsOrigin};

const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")];

/// H2-02: an end that came on a head goes on with the head; no empty DATA is invented.
#[tokio::test]
async fn an_end_on_a_head_stays_there() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    assert!(head.end);
    server.head(head.stream, END_STREAM, &[(":status", "200"), ("x", "y")]).await;
    let head = client.expect_status(1, "200").await;
    assert!(head.end);
    for peer in [&mut client, &mut server] {
        peer.fence().await;
        assert!(peer.log.iter().all(|(kind, _, _)| *kind != kind::DATA), "{:?}", peer.log);
    }
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.response.unwrap().body.end), (State::Complete, BodyEnd::Whole));
}

/// H2-28: empty DATA, with an end or without, changes nothing.
#[tokio::test]
async fn empty_data_changes_nothing() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, MORE, "").await;
    let head = server.request().await;
    client.data(1, MORE, "abc").await;
    client.data(1, MORE, "").await;
    server.expect_data(head.stream, "abc").await;
    client.data(1, END_STREAM, "").await;
    assert_eq!(server.rest_of(head.stream).await, (Vec::new(), None));
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    for data in ["", "def", ""] {
        server.data(head.stream, MORE, data).await;
    }
    client.expect_status(1, "200").await;
    client.expect_data(1, "def").await;
    server.data(head.stream, END_STREAM, "").await;
    assert_eq!(client.rest_of(1).await, (Vec::new(), None));
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abc");
    assert_eq!(flow.response.unwrap().body.as_inline().unwrap(), "def");
}

/// A head in pieces is a head (RFC 9113 §6.10), and padding is no part of anything.
#[tokio::test]
async fn continued_and_padded_frames_are_put_together() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let block = hpack::encode(&[&GOOD[..], &[("x", "y")]].concat());
    let (first, rest) = block.split_at(7);
    let (second, third) = rest.split_at(9);
    client.send(Frame::new(kind::HEADERS, MORE, 1, first).prioritized(0).padded(3)).await;
    client.send(Frame::continuation(1, MORE, second)).await;
    client.send(Frame::continuation(1, END_HEADERS, third)).await;
    client.send(Frame::data(1, MORE, "abc").padded(200)).await;
    client.send(Frame::data(1, END_STREAM, "").padded(5)).await;
    let head = server.request().await;
    assert_eq!((head.get("x"), head.end), ("y", false));
    assert_eq!(server.rest_of(head.stream).await.0, b"abc");
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.request.unwrap().body.as_inline().unwrap(), "abc");
}

/// Sends a bad head or what else `spoil` sends on stream 1, and fails unless it is refused, nothing of it reaches the
/// origin, the refusal is recorded once, and a good request follows.
async fn refused(server: Speaks, what: &str, spoil: impl AsyncFnOnce(&mut H2)) {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, server).await;
    let (mut client, peer) = tokio::join!(setup.h2_client(&origin, &[]), origin.settle());
    let mut theirs = match server {
        Speaks::Http1 => End::H1(peer),
        Speaks::Http2 => End::H2(H2::server(peer).await),
    };
    spoil(&mut client).await;
    let is_answer = |event: &Event| !matches!(event, Event::Other(_));
    let lives = match client.find(what, is_answer).await {
        Event::Rst { code: code::PROTOCOL_ERROR, .. } => true,
        Event::Head(head) if head.status().starts_with('4') => true,
        // A stream error may be made one of the connection (RFC 9113 §5.4.1).
        Event::Goaway { code: code::PROTOCOL_ERROR, .. } => false,
        other => panic!("{what}: {other:?}"),
    };
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.as_ref().unwrap().side), (State::Refused, Side::Client), "{what}");
    if lives {
        client.get(3, "/good").await;
        let asked = crate::harness::soon(what, theirs.asked()).await;
        assert_eq!(asked.line, "GET /good", "{what}");
        theirs.answer(&asked, "204", crate::harness::h2::Say::default()).await;
        client.expect_status(3, "204").await;
        assert_eq!(setup.flow().await.state, State::Complete);
    }
    drop(client);
    setup.expect_flows(1 + u64::from(lives)).await;
}

/// H2-19, RFC 9113 §8.2.2: what belongs to a connection makes a request malformed.
#[tokio::test]
async fn connection_specific_fields_are_refused() {
    for field in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ] {
        for server in [Speaks::Http1, Speaks::Http2] {
            let fields = [&GOOD[..], &[field]].concat();
            let what = format!("{field:?}");
            refused(server, &what, async |client| client.head(1, END_STREAM, &fields).await).await;
        }
    }
}

/// `te: trailers` is the one that may stand there.
#[tokio::test]
async fn te_trailers_goes_on() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, END_STREAM, ("GET", "/"), &[("te", "trailers")]).await;
    let head = server.request().await;
    assert_eq!(head.get("te"), "trailers");
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// H2-20, RFC 9113 §8.3: pseudo-header fields come first, once each, all of them, and no other.
#[tokio::test]
async fn pseudo_header_rules_are_enforced() {
    let [method, scheme, authority, path] = GOOD;
    let heads: [(&str, Vec<(&str, &str)>); 17] = [
        ("no method", vec![scheme, authority, path]),
        ("no scheme", vec![method, authority, path]),
        ("no path", vec![method, scheme, authority]),
        ("empty path", vec![method, scheme, authority, (":path", "")]),
        ("path without a slash", vec![method, scheme, authority, (":path", "x")]),
        ("two methods", vec![method, method, scheme, authority, path]),
        ("two schemes", vec![method, scheme, scheme, authority, path]),
        ("two authorities", vec![method, scheme, authority, authority, path]),
        ("two paths", vec![method, scheme, authority, path, (":path", "/admin")]),
        ("a late one", vec![method, scheme, authority, ("x", "y"), path]),
        ("an unknown one", vec![method, scheme, authority, path, (":x", "y")]),
        ("a response's", vec![method, scheme, authority, path, (":status", "200")]),
        ("no origin at all", vec![method, scheme, path]),
        ("user information", vec![method, scheme, (":authority", "u@origin.test"), path]),
        ("a blank in the method", vec![(":method", "GET /admin HTTP/1.1"), scheme, authority, path]),
        ("a protocol without CONNECT", vec![method, scheme, authority, path, (":protocol", "websocket")]),
        ("a scheme that is none", vec![method, (":scheme", "h t"), authority, path]),
    ];
    for (what, head) in heads {
        for server in [Speaks::Http1, Speaks::Http2] {
            refused(server, what, async |client| client.head(1, END_STREAM, &head).await).await;
        }
    }
}

/// RFC 9113 §8.2.1 and CVE-2021-33193: names and values with bytes that another parser takes for something else.
#[tokio::test]
async fn fields_that_http1_would_read_otherwise_are_refused() {
    for (name, value) in [
        ("X-Caps", "y"),
        ("x y", "z"),
        ("x:y", "z"),
        ("", "z"),
        ("x\r\nhost", "other"),
        ("x", "y\r\nhost: other"),
        ("x", "y\nz"),
        ("x", "y\u{0}z"),
        ("transfer-encoding\u{0}", "chunked"),
    ] {
        for server in [Speaks::Http1, Speaks::Http2] {
            let fields = [&GOOD[..], &[(name, value)]].concat();
            let what = format!("{name:?}: {value:?}");
            refused(server, &what, async |client| client.head(1, END_STREAM, &fields).await).await;
        }
    }
    for path in ["/ HTTP/1.1\r\nHost: other\r\n\r\nGET /", "/\r\nx: y", "/a b", "/\u{0}"] {
        for server in [Speaks::Http1, Speaks::Http2] {
            let fields = [GOOD[0], GOOD[1], GOOD[2], (":path", path)];
            refused(server, path, async |client| client.head(1, END_STREAM, &fields).await).await;
        }
    }
}

/// H2-18, RFC 9113 §8.1.1: a length that is not the body's. What went on is cut, and nothing of it is a second request.
#[tokio::test]
async fn a_request_body_of_another_length_than_told_is_refused() {
    for server in [Speaks::Http1, Speaks::Http2] {
        for (told, sent) in [
            ("3", &["abcGET /admin HTTP/1.1\r\n\r\n"][..]),
            ("3", &["abc", "def"]),
            ("9", &["abc"]),
            ("0", &["abc"]),
        ] {
            let ca = TestCa::new();
            let mut setup = Setup::trusting(&ca).await;
            let (ours, mut theirs) = setup.ends(&ca, Speaks::Http2, server).await;
            let End::H2(mut client) = ours else { unreachable!("it was asked for HTTP/2") };
            client.ask(1, MORE, ("POST", "/"), &[("content-length", told)]).await;
            for (at, piece) in sent.iter().enumerate() {
                client.data(1, if at + 1 == sent.len() { END_STREAM } else { MORE }, piece).await;
            }
            match client.on(1).await {
                Event::Rst { code: code::PROTOCOL_ERROR, .. } => {}
                Event::Head(head) if head.status() == "400" => {}
                other => panic!("{told} {sent:?}: {other:?}"),
            }
            let flow = setup.flow().await;
            assert_eq!((flow.state, flow.error.as_ref().unwrap().side), (State::Refused, Side::Client));
            drop(client);
            let requests = match &mut theirs {
                End::H1(peer) => {
                    let (seen, _) = peer.rest().await;
                    let text = String::from_utf8_lossy(&seen).into_owned();
                    assert!(!text.contains("admin") && !text.contains("def"), "{text}");
                    text.matches(" HTTP/1.1\r\n").count()
                }
                End::H2(peer) => {
                    peer.fence().await;
                    let ended = |event: &Event| matches!(event, Event::Data { end: true, .. });
                    assert!(!peer.aside().any(ended), "{told} {sent:?}: a clean end");
                    peer.aside().filter(|event| matches!(event, Event::Head(_))).count()
                }
            };
            assert!(requests <= 1);
            setup.expect_flows(1).await;
        }
    }
}

/// RFC 9110 §8.6: lengths that contradict each other, or are none.
#[tokio::test]
async fn content_lengths_that_are_none_are_refused() {
    for fields in [
        &[("content-length", "3"), ("content-length", "4")][..],
        &[("content-length", "3"), ("content-length", "3")],
        &[("content-length", "+3")],
        &[("content-length", "0x3")],
        &[("content-length", "-1")],
        &[("content-length", "3, 4")],
        &[("content-length", "")],
        &[("content-length", "99999999999999999999")],
    ] {
        for server in [Speaks::Http1, Speaks::Http2] {
            let what = format!("{fields:?}");
            refused(server, &what, async |client| {
                client.ask(1, MORE, ("POST", "/bad"), fields).await;
                client.try_send(Frame::data(1, END_STREAM, "abc")).await;
            })
            .await;
        }
    }
}

/// The same where the head is all there is.
#[tokio::test]
async fn a_length_without_a_body_is_refused() {
    for server in [Speaks::Http1, Speaks::Http2] {
        let fields = [&GOOD[..], &[("content-length", "3")]].concat();
        refused(server, "a length", async |client| client.head(1, END_STREAM, &fields).await).await;
    }
}

/// RFC 9113 §8.1: trailers end the stream, and are fields.
#[tokio::test]
async fn trailers_that_are_none_are_refused() {
    let (mut setup, origin) = Setup::h2_origin().await;
    for (flags, fields) in [(END_STREAM, &[("X-Caps", "y")][..]), (MORE, &[("x", "y")])] {
        let (mut client, mut server) = setup.h2(&origin).await;
        client.ask(1, MORE, ("POST", "/"), &[]).await;
        let head = server.request().await;
        client.head(1, flags, fields).await;
        let refusal = client.refusal(1).await;
        let wanted = [Refusal::Stream(code::PROTOCOL_ERROR), Refusal::Connection(code::PROTOCOL_ERROR)];
        assert!(wanted.contains(&refusal), "{refusal:?}");
        assert_ne!(server.cut(head.stream).await, code::NO_ERROR);
        // Where it ended the connection, that is a record, too.
        let flow = loop {
            let flow = setup.flow().await;
            assert_ne!(flow.state, State::Complete);
            if flow.request.is_some() {
                break flow;
            }
        };
        assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    }
    setup.expect_alive().await;
}

/// RFC 9113 §8.1 wants trailers with pseudo-header fields refused; the library below drops those instead, so that nobody
/// takes them for anything.
#[tokio::test]
async fn pseudo_header_fields_do_not_pass_in_trailers() {
    for server in [Speaks::Http1, Speaks::Http2] {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (ours, mut theirs) = setup.ends(&ca, Speaks::Http2, server).await;
        let End::H2(mut client) = ours else { unreachable!("it was asked for HTTP/2") };
        client.ask(1, MORE, ("POST", "/"), &[]).await;
        client.head(1, END_STREAM, &[(":path", "/admin"), (":authority", "other"), ("x-sum", "1")]).await;
        let asked = theirs.asked().await;
        assert_eq!((&asked.line[..], asked.trailers()), ("POST /", vec![("x-sum", "1")]));
        theirs.answer(&asked, "204", crate::harness::h2::Say::default()).await;
        client.expect_status(1, "204").await;
        assert_eq!(setup.flow().await.request.unwrap().trailers.unwrap().len(), 1);
    }
}

/// A head that takes several frames passes in every combination.
#[tokio::test]
async fn a_large_head_passes_in_every_combination() {
    let cookie = "x".repeat(30_000);
    let fields = [("cookie", &cookie[..]), ("x-two", &cookie[..])];
    for (client, server) in COMBINATIONS {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (mut ours, mut theirs) = setup.ends(&ca, client, server).await;
        match &mut ours {
            // More than a frame takes.
            End::H2(client) => send_in_pieces(client, &[&GOOD[..], &fields].concat()).await,
            End::H1(_) => {
                let say = crate::harness::h2::Say { fields: &fields, ..Default::default() };
                ours.ask(("GET", "/"), say).await;
            }
        }
        let asked = theirs.asked().await;
        assert_eq!((asked.all("cookie"), asked.all("x-two")), (vec![&cookie[..]], vec![&cookie[..]]));
        theirs.answer(&asked, "204", crate::harness::h2::Say::default()).await;
        ours.answered(true).await;
        assert_eq!(setup.flow().await.state, State::Complete, "{client:?} {server:?}");
    }
}

async fn send_in_pieces(client: &mut H2, fields: &[(&str, &str)]) {
    let block = hpack::encode(fields);
    let mut pieces = block.chunks(16_384).peekable();
    let first = Frame::new(kind::HEADERS, END_STREAM, 1, pieces.next().unwrap());
    let whole = if pieces.peek().is_none() { END_HEADERS } else { MORE };
    client.send(Frame { flags: END_STREAM | whole, ..first }).await;
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { MORE };
        client.try_send(Frame::continuation(1, flags, piece)).await;
    }
}

/// Pitfall 72, 38: past the limit of HTTP/1's heads it is a 431 or an error, and a flow; nothing reaches the origin.
#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_recorded() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let large = "x".repeat(280_000);
    send_in_pieces(&mut client, &[&GOOD[..], &[("x", &large[..])]].concat()).await;
    let is_answer = |event: &Event| match event {
        Event::Head(head) => head.stream == 1,
        Event::Rst { .. } | Event::Goaway { .. } | Event::End => true,
        _ => false,
    };
    let answer = client.find("an answer", is_answer).await;
    if let Event::Head(head) = &answer {
        assert_eq!(head.status(), "431");
    }
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::Refused, Side::Client), "{answer:?}");
    drop(client);
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    setup.expect_alive().await;
    setup.expect_flows(2).await;
}

/// So is one with too many fields.
#[tokio::test]
async fn a_head_with_too_many_fields_is_refused_and_recorded() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let many: Vec<_> = GOOD.into_iter().chain(std::iter::repeat_n(("x", "y"), 1001)).collect();
    send_in_pieces(&mut client, &many).await;
    client.expect_status(1, "431").await;
    assert_eq!(setup.flow().await.state, State::Refused);
    client.get(3, "/").await;
    let head = server.request().await;
    assert_eq!(head.fields.len(), 4);
    server.ok(head.stream).await;
    client.expect_ok(3).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}
