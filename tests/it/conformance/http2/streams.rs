//! RFC 9113 §5.1, §5.4.2, §6.4, §8.7: streams that are reset or left, by either side (wire cases H2-07 to H2-12, H2-23,
//! H2-24, H2-30, H2-31, pitfalls 67, 68).

use manent::flow::{BodyEnd, Side, Stage, State};

use super::expect_served;
use crate::harness::h2::{END_STREAM, End, Event, Frame, H2, MORE, Say, Speaks, code};
use crate::harness::{Setup, TestCa, TlsOrigin, ending};

/// Client and origin with HTTP/2 on both sides, and a request under way whose body is still to come.
async fn uploading() -> (Setup, TlsOrigin, H2, H2) {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, MORE, "abc").await;
    let head = server.request().await;
    server.expect_data(head.stream, "abc").await;
    (setup, origin, client, server)
}

/// The same with the answer under way.
async fn downloading() -> (Setup, TlsOrigin, H2, H2) {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    server.data(head.stream, MORE, "abc").await;
    client.expect_status(1, "200").await;
    client.expect_data(1, "abc").await;
    (setup, origin, client, server)
}

/// Fails unless both connections still carry an exchange.
async fn still_serves(setup: &mut Setup, client: &mut H2, server: &mut H2, stream: u32) {
    client.get(stream, "/after").await;
    let head = server.request().await;
    assert_eq!(head.get(":path"), "/after");
    server.ok(head.stream).await;
    client.expect_ok(stream).await;
    assert_eq!(ending(&setup.flow().await), (State::Complete, None));
}

/// H2-07: an origin that cannot be reached is told on the stream; the connection lives.
#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_a_502_on_the_stream() {
    let mut setup = Setup::start().await;
    let gone = crate::harness::Origin::listen().await;
    let mut client = setup.h2_clear(&gone).await;
    drop(gone);
    for stream in [1, 3] {
        client.get(stream, "/script").await;
        let head = client.expect_status(stream, "502").await;
        assert_eq!(head.get("content-type"), "text/plain; charset=utf-8");
        let (body, _) = client.rest_of(stream).await;
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("upstream connect: "), "{body}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::Connect))));
        assert!(flow.response.unwrap().by_proxy);
    }
}

/// H2-08: a client that cancels its request cancels it at the origin, and the record says who.
#[tokio::test]
async fn a_request_that_is_cancelled_is_cancelled_at_the_origin() {
    let (mut setup, _origin, mut client, mut server) = uploading().await;
    client.send(Frame::rst(1, code::CANCEL)).await;
    server.expect_rst(1, &[code::CANCEL]).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.as_ref().unwrap().side), (State::ClientAborted, Side::Client));
    assert!(flow.error.unwrap().message.contains("CANCEL"));
    let body = flow.request.unwrap().body;
    assert_eq!((body.as_inline().unwrap(), body.end), (&"abc".into(), BodyEnd::CutOff));
    still_serves(&mut setup, &mut client, &mut server, 3).await;
}

/// With whatever code it does so, the record has it, and the origin is told that it is not wanted any more.
#[tokio::test]
async fn a_clients_code_is_recorded() {
    for (reset, name) in [
        (code::INTERNAL_ERROR, "INTERNAL_ERROR"),
        (code::REFUSED_STREAM, "REFUSED_STREAM"),
        (code::HTTP_1_1_REQUIRED, "HTTP_1_1_REQUIRED"),
        (code::NO_ERROR, "NO_ERROR"),
    ] {
        let (mut setup, _origin, mut client, mut server) = uploading().await;
        client.send(Frame::rst(1, reset)).await;
        server.expect_rst(1, &[code::CANCEL, reset]).await;
        let flow = setup.flow().await;
        assert_eq!(flow.state, State::ClientAborted);
        assert!(flow.error.as_ref().unwrap().message.contains(name), "{:?}", flow.error);
        still_serves(&mut setup, &mut client, &mut server, 3).await;
    }
}

/// The same with the request whole and no answer yet.
#[tokio::test]
async fn a_wait_that_is_cancelled_is_cancelled_at_the_origin() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    client.send(Frame::rst(1, code::CANCEL)).await;
    server.expect_rst(head.stream, &[code::CANCEL]).await;
    assert_eq!(
        ending(&setup.flow().await),
        (State::ClientAborted, Some((Side::Client, Stage::ResponseHead)))
    );
    still_serves(&mut setup, &mut client, &mut server, 3).await;
}

/// H2-08, H2-10 towards HTTP/1: there, a reset is the end of the connection.
#[tokio::test]
async fn a_stream_that_is_cancelled_ends_the_http1_connection_behind_it() {
    for answered in [false, true] {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let origin = TlsOrigin::speaking(&ca, Speaks::Http1).await;
        let (mut client, mut server) = tokio::join!(setup.h2_client(&origin, &[]), origin.settle());
        client.get(1, "/").await;
        server.head().await;
        if answered {
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
            client.expect_status(1, "200").await;
            client.expect_data(1, "abc").await;
        }
        client.send(Frame::rst(1, code::CANCEL)).await;
        assert_eq!(server.rest().await.0, b"");
        let flow = setup.flow().await;
        let stage = if answered { Stage::ResponseBody } else { Stage::ResponseHead };
        assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, stage))));
    }
}

/// H2-09, H2-10: a client that is gone has cancelled all it asked for.
#[tokio::test]
async fn a_client_that_leaves_cancels_all_its_streams() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.ask(1, MORE, ("POST", "/"), &[]).await;
    client.data(1, MORE, "abc").await;
    server.request().await;
    server.expect_data(1, "abc").await;
    client.get(3, "/").await;
    let second = server.request().await;
    server.head(second.stream, MORE, &[(":status", "200")]).await;
    client.expect_status(3, "200").await;
    drop(client);
    server.expect_rst(1, &[code::CANCEL]).await;
    server.expect_rst(second.stream, &[code::CANCEL]).await;
    for _ in 0..2 {
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.error.unwrap().side), (State::ClientAborted, Side::Client));
    }
    setup.expect_alive().await;
}

/// H2-10: in mid-answer.
#[tokio::test]
async fn an_answer_that_is_cancelled_is_cancelled_at_the_origin() {
    let (mut setup, _origin, mut client, mut server) = downloading().await;
    client.send(Frame::rst(1, code::CANCEL)).await;
    server.expect_rst(1, &[code::CANCEL]).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::ResponseBody))));
    let body = flow.response.unwrap().body;
    assert_eq!((body.as_inline().unwrap(), body.end), (&"abc".into(), BodyEnd::CutOff));
    still_serves(&mut setup, &mut client, &mut server, 3).await;
}

/// H2-11, H2-30, H2-31: cancelled, then gone, with the origin still talking: one flow, one error, no trouble.
#[tokio::test]
async fn who_cancels_and_leaves_is_recorded_once() {
    let (mut setup, _origin, mut client, mut server) = downloading().await;
    client.send(Frame::rst(1, code::CANCEL)).await;
    drop(client);
    server.data(1, END_STREAM, "def").await;
    drop(server);
    assert_eq!(
        ending(&setup.flow().await),
        (State::ClientAborted, Some((Side::Client, Stage::ResponseBody)))
    );
    setup.expect_alive().await;
    setup.expect_flows(2).await;
}

/// H2-12, pitfall 67: an origin's reset reaches the client with its code, in place of an answer or in the middle of one.
/// REFUSED_STREAM in place of one is another matter: see below.
#[tokio::test]
async fn an_origins_reset_reaches_the_client_with_its_code() {
    for reset in [
        code::CANCEL,
        code::INTERNAL_ERROR,
        code::PROTOCOL_ERROR,
        code::ENHANCE_YOUR_CALM,
        code::STREAM_CLOSED,
        0xdead,
    ] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.get(1, "/").await;
        let head = server.request().await;
        server.send(Frame::rst(head.stream, reset)).await;
        client.expect_rst(1, &[reset]).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))), "{reset}");
        still_serves(&mut setup, &mut client, &mut server, 3).await;
        drop(client);
        setup.expect_flows(2).await;
    }
    for reset in [code::CANCEL, code::INTERNAL_ERROR, code::REFUSED_STREAM, code::HTTP_1_1_REQUIRED] {
        let (mut setup, _origin, mut client, mut server) = downloading().await;
        server.send(Frame::rst(1, reset)).await;
        client.expect_rst(1, &[reset]).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::ResponseBody))));
        assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
        still_serves(&mut setup, &mut client, &mut server, 3).await;
    }
}

/// An origin's reset in mid-upload.
#[tokio::test]
async fn an_origins_reset_stops_the_upload() {
    let (mut setup, _origin, mut client, mut server) = uploading().await;
    server.send(Frame::rst(1, code::CANCEL)).await;
    client.expect_rst(1, &[code::CANCEL]).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.error.unwrap().side), (State::Failed, Side::Server));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    still_serves(&mut setup, &mut client, &mut server, 3).await;
}

/// RFC 9113 §8.1: an early answer that is whole, and NO_ERROR for the rest of the request: the client gets the answer.
#[tokio::test]
async fn an_early_answer_survives_the_reset_after_it() {
    let (mut setup, _origin, mut client, mut server) = uploading().await;
    server.head(1, MORE, &[(":status", "413")]).await;
    server.data(1, END_STREAM, "too much").await;
    server.send(Frame::rst(1, code::NO_ERROR)).await;
    client.expect_status(1, "413").await;
    let (body, _) = client.rest_of(1).await;
    assert_eq!(body, b"too much");
    client.expect_rst(1, &[code::NO_ERROR]).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert_eq!(flow.request.unwrap().body.end, BodyEnd::CutOff);
    assert_eq!(flow.response.unwrap().body.as_inline().unwrap(), "too much");
    still_serves(&mut setup, &mut client, &mut server, 3).await;
}

/// Pitfall 8 on HTTP/2: an early answer does not end the upload by itself.
#[tokio::test]
async fn an_early_answer_does_not_end_the_upload() {
    let (mut setup, _origin, mut client, mut server) = uploading().await;
    server.ok(1).await;
    client.expect_ok(1).await;
    client.data(1, END_STREAM, "def").await;
    assert!(server.expect_data(1, "def").await);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abcdef");
}

/// RFC 9113 §8.7: REFUSED_STREAM means that nothing was done. A client that speaks HTTP/2 is told so, and knows better
/// whether to ask again; for one that cannot be told it is asked again, whatever the method, but not for ever.
#[tokio::test]
async fn a_refused_stream_is_asked_again_for_http1() {
    for times in [1, 2] {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let (mut ours, theirs) = setup.ends(&ca, Speaks::Http1, Speaks::Http2).await;
        let End::H2(mut server) = theirs else { unreachable!("it was asked for HTTP/2") };
        let empty = [("content-length", "0")];
        ours.ask(("POST", "/"), Say { fields: &empty[..times % 2], ..Say::default() }).await;
        for _ in 0..times {
            let head = server.request().await;
            server.send(Frame::rst(head.stream, code::REFUSED_STREAM)).await;
        }
        if times == 1 {
            let head = server.request().await;
            assert_eq!(head.get(":method"), "POST");
            server.ok(head.stream).await;
        }
        let wanted = if times == 1 { ("200", State::Complete) } else { ("502", State::Failed) };
        let answer = ours.answered(false).await;
        assert_eq!((&answer.line[..], setup.flow().await.state), wanted);
        drop((ours, server));
        setup.expect_flows(1).await;
    }
}

/// See above.
#[tokio::test]
async fn a_refused_stream_is_refused_to_an_http2_client() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.send(Frame::rst(head.stream, code::REFUSED_STREAM)).await;
    client.expect_rst(1, &[code::REFUSED_STREAM]).await;
    assert_eq!(setup.flow().await.state, State::Failed);
    still_serves(&mut setup, &mut client, &mut server, 3).await;
    drop(client);
    setup.expect_flows(2).await;
}

/// H2-12, pitfall 68: HTTP_1_1_REQUIRED goes to the client, or the origin is asked in HTTP/1.
#[tokio::test]
async fn http_1_1_required_is_heeded() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&[crate::harness::h2::NAME], &["h2", "http/1.1"])).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.send(Frame::rst(head.stream, code::HTTP_1_1_REQUIRED)).await;
    tokio::select! {
        mut second = origin.settle() => {
            assert!(second.head().await.starts_with("GET / HTTP/1.1\r\n"));
            second.send(crate::harness::OK).await;
            client.expect_ok(1).await;
            assert_eq!(setup.flow().await.state, State::Complete);
        }
        () = client.expect_rst(1, &[code::HTTP_1_1_REQUIRED]) => {
            assert_eq!(setup.flow().await.state, State::Failed);
        }
    }
    drop(client);
    setup.expect_flows(1).await;
}

/// H2-23 (h2spec 5.1): more after the end is an error of the stream, or of the connection, and no second request.
#[tokio::test]
async fn data_after_the_end_is_refused() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    assert!(head.end);
    client.data(1, MORE, "GET /admin HTTP/1.1\r\n\r\n").await;
    use crate::harness::h2::Refusal::{Connection, Stream};
    let refusal = client.refusal(1).await;
    // PROTOCOL_ERROR is the library's choice: see `errors`.
    let wanted =
        [Stream(code::STREAM_CLOSED), Connection(code::STREAM_CLOSED), Connection(code::PROTOCOL_ERROR)];
    assert!(wanted.contains(&refusal), "{refusal:?}");
    drop(client);
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_) | Event::Data { .. })));
    expect_served(&setup).await;
}

/// H2-24: what an origin still sends on a stream that was cancelled goes nowhere and harms nothing.
#[tokio::test]
async fn data_after_a_cancel_goes_nowhere() {
    let (mut setup, _origin, mut client, mut server) = downloading().await;
    client.send(Frame::rst(1, code::CANCEL)).await;
    server.expect_rst(1, &[code::CANCEL]).await;
    assert_eq!(setup.flow().await.state, State::ClientAborted);
    for _ in 0..20 {
        server.data(1, MORE, [0; 1000]).await;
    }
    server.data(1, END_STREAM, "def").await;
    still_serves(&mut setup, &mut client, &mut server, 3).await;
    assert!(client.aside().all(|event| !matches!(event, Event::Data { .. } | Event::Head(_))));
}

/// Credit for what came on a cancelled stream goes back: else the connection would starve.
#[tokio::test]
async fn cancelled_streams_do_not_eat_the_connections_credit() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let piece = vec![b'x'; 60_000];
    for at in 0..400 {
        let stream = at * 2 + 1;
        client.get(stream, "/").await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        client.expect_status(stream, "200").await;
        client.send(Frame::rst(stream, code::CANCEL)).await;
        server.body(head.stream, MORE, &piece).await;
        server.expect_rst(head.stream, &[code::CANCEL]).await;
        assert_eq!(setup.flow().await.state, State::ClientAborted);
    }
    still_serves(&mut setup, &mut client, &mut server, 1001).await;
}
