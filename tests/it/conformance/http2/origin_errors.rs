//! RFC 9113 §8.1.1, §8.2, §8.3.2: origins that break the rules. Their client is told, nothing that cannot be read in one way
//! is passed on, and the flow says whose fault it was (wire cases H2-18, H2-20, H2-26).

use manent::flow::{BodyEnd, Side, Stage, State};

use crate::harness::h2::{END_STREAM, End, Event, Frame, H2, MORE, Say, Speaks, code, hpack, setting};
use crate::harness::{Setup, TestCa, TlsOrigin, ending};

/// A client in HTTP/1 or HTTP/2, and an origin that was asked.
async fn asked(client: Speaks) -> (Setup, End, H2, u32) {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let (mut ours, theirs) = setup.ends(&ca, client, Speaks::Http2).await;
    let End::H2(mut theirs) = theirs else { unreachable!("it was asked for HTTP/2") };
    ours.ask(("GET", "/"), Say::default()).await;
    let head = theirs.request().await;
    (setup, ours, theirs, head.stream)
}

/// H2-20, H2-26: heads that are none.
#[tokio::test]
async fn a_malformed_response_is_a_502() {
    let good = (":status", "200");
    let heads: [(&str, Vec<(&str, &str)>); 14] = [
        ("no status", vec![("x", "y")]),
        ("a status that is no number", vec![(":status", "abc")]),
        ("a status of two digits", vec![(":status", "20")]),
        ("a status of four digits", vec![(":status", "2000")]),
        ("an empty status", vec![(":status", "")]),
        ("two statuses", vec![good, good]),
        ("a late status", vec![("x", "y"), good]),
        ("a transfer coding", vec![good, ("transfer-encoding", "chunked")]),
        ("a connection field", vec![good, ("connection", "close")]),
        ("capitals", vec![good, ("X-Caps", "y")]),
        ("a line end", vec![good, ("x", "y\r\nset-cookie: a=b")]),
        ("a name with a colon", vec![good, ("x:y", "z")]),
        ("an empty length", vec![good, ("content-length", "")]),
        ("two lengths", vec![good, ("content-length", "3"), ("content-length", "4")]),
    ];
    for (what, fields) in heads {
        for client in [Speaks::Http1, Speaks::Http2] {
            let (mut setup, mut ours, mut theirs, stream) = asked(client).await;
            theirs.head(stream, MORE, &fields).await;
            theirs.try_send(Frame::data(stream, END_STREAM, "abc")).await;
            let answer = ours.answered(false).await;
            assert_eq!(answer.line, "502", "{what}");
            assert!(answer.all("set-cookie").is_empty());
            let flow = setup.flow().await;
            let wanted = (State::Failed, Some((Side::Server, Stage::ResponseHead)));
            assert_eq!(ending(&flow), wanted, "{what}");
            assert!(flow.response.unwrap().by_proxy);
        }
    }
}

/// RFC 9113 §8.3.2 wants a response with a request's pseudo-header fields refused; the library below drops those instead.
#[tokio::test]
async fn a_requests_pseudo_header_fields_do_not_pass_in_a_response() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let (mut setup, mut ours, mut theirs, stream) = asked(client).await;
        let fields = [(":status", "200"), (":path", "/admin"), ("content-length", "0")];
        theirs.head(stream, END_STREAM, &fields).await;
        let answer = ours.answered(false).await;
        assert_eq!((&answer.line[..], answer.fields.len()), ("200", 1));
        assert_eq!(setup.flow().await.response.unwrap().headers.len(), 1);
    }
}

/// What a HEAD or a 304 has no body of may end on an empty DATA.
#[tokio::test]
async fn an_empty_end_where_there_is_no_body_is_an_end() {
    for (method, status) in [("HEAD", "200"), ("GET", "204"), ("GET", "304")] {
        for client in [Speaks::Http1, Speaks::Http2] {
            let ca = TestCa::new();
            let mut setup = Setup::trusting(&ca).await;
            let (mut ours, theirs) = setup.ends(&ca, client, Speaks::Http2).await;
            let End::H2(mut theirs) = theirs else { unreachable!("asked for HTTP/2") };
            ours.ask((method, "/"), Say::default()).await;
            let head = theirs.request().await;
            let fields = [(":status", status), ("content-length", "1000")];
            theirs.head(head.stream, MORE, if status == "204" { &fields[..1] } else { &fields }).await;
            theirs.data(head.stream, END_STREAM, "").await;
            let answer = ours.answered(true).await;
            assert_eq!((&answer.line[..], &answer.body[..]), (status, ""), "{method} {client:?}");
            assert_eq!(setup.flow().await.state, State::Complete, "{method} {status} {client:?}");
        }
    }
}

/// RFC 9113 §8.1: 101 has no place in HTTP/2 (§8.6).
#[tokio::test]
async fn a_101_in_http2_is_refused() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let (mut setup, mut ours, mut theirs, stream) = asked(client).await;
        theirs.head(stream, MORE, &[(":status", "101")]).await;
        theirs.try_send(Frame::data(stream, END_STREAM, "abc")).await;
        assert_eq!(ours.answered(false).await.line, "502");
        assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    }
}

/// H2-18 the other way: the client sees a cut, never a clean end, and never more than was told.
#[tokio::test]
async fn a_response_of_another_length_than_told_is_cut() {
    for (told, sent) in [("3", "abcdef"), ("9", "abc")] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.get(1, "/").await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200"), ("content-length", told)]).await;
        client.expect_status(1, "200").await;
        server.data(head.stream, END_STREAM, sent).await;
        assert_ne!(client.cut(1).await, code::NO_ERROR);
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
        assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
    }
}

/// The same where the head is all there is: the client is told of no body that will not come.
#[tokio::test]
async fn a_length_without_a_body_does_not_reach_the_client() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let (mut setup, mut ours, mut theirs, stream) = asked(client).await;
        theirs.head(stream, END_STREAM, &[(":status", "200"), ("content-length", "9")]).await;
        let answer = ours.answered(false).await;
        assert_eq!(answer.line, "502", "{answer:?}");
        assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    }
}

/// The same towards HTTP/1, where the next response would begin in the wrong place.
#[tokio::test]
async fn a_response_of_another_length_than_told_breaks_http1() {
    for (told, sent) in [("3", "abcHTTP/1.1 200 OK\r\n\r\n"), ("9", "abc")] {
        let (mut setup, ours, mut theirs, stream) = asked(Speaks::Http1).await;
        let End::H1(mut client) = ours else { unreachable!("it was asked for HTTP/1") };
        theirs.head(stream, MORE, &[(":status", "200"), ("content-length", told)]).await;
        client.head().await;
        theirs.data(stream, END_STREAM, sent).await;
        let (seen, end) = client.rest().await;
        assert!(
            seen.len() <= 3 && (end.is_err() || seen.len() < told.parse().unwrap()),
            "{}",
            seen.escape_ascii()
        );
        assert_eq!(setup.flow().await.state, State::ServerAborted);
    }
}

/// A body where there can be none: of HEAD, 204 and 304.
#[tokio::test]
async fn a_body_where_there_is_none_does_not_reach_the_client() {
    for (method, status) in [("HEAD", "200"), ("GET", "204"), ("GET", "304")] {
        for client in [Speaks::Http1, Speaks::Http2] {
            let ca = TestCa::new();
            let mut setup = Setup::trusting(&ca).await;
            let (mut ours, theirs) = setup.ends(&ca, client, Speaks::Http2).await;
            let End::H2(mut theirs) = theirs else { unreachable!("asked for HTTP/2") };
            ours.ask((method, "/"), Say::default()).await;
            let head = theirs.request().await;
            theirs.head(head.stream, MORE, &[(":status", status)]).await;
            theirs.try_send(Frame::data(head.stream, END_STREAM, "surplus")).await;
            let (line, seen) = match &mut ours {
                End::H1(peer) => {
                    let head = peer.head().await;
                    // What is surplus would come before the answer to this, which is due in any case.
                    let _ = peer.try_send("GET / HTTP/9.9\r\n\r\n").await;
                    (head[9..12].to_owned(), peer.rest().await.0)
                }
                End::H2(peer) => {
                    // A reset is as good as a 502.
                    let (mut status, mut ended) = ("502".to_owned(), true);
                    if let Event::Head(head) = peer.on(1).await {
                        (status, ended) = (head.status().to_owned(), head.end);
                    }
                    let mut seen = Vec::new();
                    while !ended {
                        match peer.on(1).await {
                            Event::Data { data, end, .. } => {
                                seen.extend(data);
                                ended = end;
                            }
                            _ => ended = true,
                        }
                    }
                    (status, seen)
                }
            };
            let told = line == status || line == "502";
            assert!(
                told && !seen.windows(7).any(|at| at == b"surplus"),
                "{method} {status} {client:?} {line}"
            );
            setup.flow().await;
        }
    }
}

/// RFC 9113 §6.5.2: settings with values that cannot be end the connection to the origin; the next request has a new one.
#[tokio::test]
async fn an_origin_that_breaks_the_protocol_loses_its_connection() {
    let status = hpack::encode(&[(":status", "200")]);
    for (what, frame) in [
        ("a window that is too large", Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x8000_0000)])),
        ("a frame size that is too small", Frame::settings(&[(setting::MAX_FRAME_SIZE, 1)])),
        ("SETTINGS of a wrong length", Frame::new(4, 0, 0, [0; 5])),
        ("PING on a stream", Frame::new(6, 0, 1, [0; 8])),
        ("a window of nothing", Frame::window_update(0, 0)),
        ("HEADERS on stream 0", Frame::headers(0, 0, status.clone())),
        ("HEADERS on a stream of its own", Frame::headers(2, 0, status.clone())),
        ("DATA on an idle stream", Frame::data(77, 0, "abc")),
        ("CONTINUATION of nothing", Frame::continuation(1, 4, status.clone())),
        ("a block that is no HPACK", Frame::headers(1, 0, [0xff, 0xff, 0xff, 0xff, 0xff])),
        ("a frame that is too large", Frame::data(1, 0, vec![0; 20_000])),
    ] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.get(1, "/").await;
        server.request().await;
        server.send(frame).await;
        server.ended().await;
        client.expect_status(1, "502").await;
        assert_eq!(
            ending(&setup.flow().await),
            (State::Failed, Some((Side::Server, Stage::ResponseHead))),
            "{what}"
        );
        client.get(3, "/").await;
        let mut second = origin.h2().await;
        let head = second.request().await;
        second.ok(head.stream).await;
        client.expect_ok(3).await;
        assert_eq!(setup.flow().await.state, State::Complete, "{what}");
    }
}

/// An origin that takes h2 in ALPN and then speaks something else is a bad gateway.
#[tokio::test]
async fn an_origin_that_speaks_something_else_is_a_502() {
    for nonsense in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "\0\0\0\0\0\0\0\0\0", ""] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let asking = async {
            let mut client = setup.h2_client(&origin, &[]).await;
            client.get(1, "/").await;
            client.expect_status(1, "502").await;
        };
        // It may be tried more than once.
        tokio::select! {
            () = asking => {}
            () = talking(&origin, nonsense) => {}
        }
        assert_eq!(setup.flow().await.state, State::Failed);
    }
}

async fn talking(origin: &TlsOrigin, nonsense: &str) {
    loop {
        let mut server = origin.settle().await;
        // The peer may have gone after the first byte that it could not read.
        let _ = server.try_send(nonsense).await;
        drop(server);
    }
}
