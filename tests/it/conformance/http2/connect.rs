//! RFC 9113 §8.5, RFC 8441: CONNECT on a stream, plain and extended (wire case H2-45, pitfall 75).

use manent::flow::{Side, State};

use crate::harness::h2::{END_STREAM, Event, H2, MORE, NAME, Speaks, code, setting};
use crate::harness::{Origin, Setup, TestCa, TlsOrigin};

const EXTENDED: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", NAME),
    (":path", "/chat"),
];

/// Fails unless stream 1 is refused, by an answer or a reset.
async fn expect_refused(client: &mut H2, stream: u32) {
    match client.on(stream).await {
        Event::Rst { code: code::PROTOCOL_ERROR | code::REFUSED_STREAM, .. } => {}
        Event::Head(head) if head.status().starts_with('4') || head.status().starts_with('5') => {}
        other => panic!("{other:?}"),
    }
}

/// Fails unless the origin has not been asked for anything.
async fn expect_nothing(server: &mut H2) {
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
}

/// Pitfall 75: what the origin does not offer is not offered, and not passed to it.
#[tokio::test]
async fn extended_connect_is_refused_where_the_origin_does_not_offer_it() {
    for theirs in [&[][..], &[(setting::ENABLE_CONNECT_PROTOCOL, 0)]] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2_with(&origin, &[], theirs).await;
        client.until("settings", |client| client.acks == 1).await;
        assert_eq!(client.setting(setting::ENABLE_CONNECT_PROTOCOL).unwrap_or(0), 0);
        client.head(1, MORE, &EXTENDED).await;
        expect_refused(&mut client, 1).await;
        expect_nothing(&mut server).await;
        let flow = setup.flow().await;
        assert!(matches!(flow.state, State::Refused | State::Failed), "{flow:?}");
        client.get(3, "/").await;
        let head = server.request().await;
        server.ok(head.stream).await;
        client.expect_ok(3).await;
        drop(client);
        setup.expect_flows(2).await;
    }
}

/// Nor is it where the origin speaks HTTP/1.
#[tokio::test]
async fn extended_connect_is_not_offered_for_an_http1_origin() {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http1).await;
    let (mut client, _server) = tokio::join!(setup.h2_client(&origin, &[]), origin.settle());
    client.until("settings", |client| client.acks == 1).await;
    assert_eq!(client.setting(setting::ENABLE_CONNECT_PROTOCOL).unwrap_or(0), 0);
    client.head(1, MORE, &EXTENDED).await;
    expect_refused(&mut client, 1).await;
    drop(client);
    setup.expect_flows(1).await;
}

/// H2-45, RFC 8441 §4, §5: where it is offered, so it is to the client; the stream then carries bytes both ways.
#[tokio::test]
async fn extended_connect_is_relayed_where_the_origin_offers_it() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) =
        setup.h2_with(&origin, &[], &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]).await;
    client.until("settings", |client| client.acks == 1).await;
    assert_eq!(client.setting(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    let fields = [&EXTENDED[..], &[("sec-websocket-version", "13"), ("origin", "https://a")]].concat();
    client.head(1, MORE, &fields).await;
    let head = server.request().await;
    for (name, value) in fields {
        assert_eq!(head.get(name), value);
    }
    assert!(!head.end);
    server.head(head.stream, MORE, &[(":status", "200"), ("sec-websocket-protocol", "x")]).await;
    let answer = client.expect_status(1, "200").await;
    assert_eq!((answer.get("sec-websocket-protocol"), answer.end), ("x", false));
    // A masked text message, and its echo without a mask.
    client.data(1, MORE, b"\x81\x82\0\0\0\0hi").await;
    server.expect_data(head.stream, b"\x81\x82\0\0\0\0hi").await;
    server.data(head.stream, MORE, b"\x81\x02hi").await;
    client.expect_data(1, b"\x81\x02hi").await;
    // Another stream of the same connection is not disturbed.
    client.get(3, "/").await;
    let other = server.request().await;
    server.ok(other.stream).await;
    client.expect_ok(3).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    client.data(1, END_STREAM, b"\x88\x80\0\0\0\0").await;
    assert_eq!(server.rest_of(head.stream).await.0, b"\x88\x80\0\0\0\0");
    server.data(head.stream, END_STREAM, b"\x88\0").await;
    assert_eq!(client.rest_of(1).await.0, b"\x88\0");
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete, "{:?}", flow.error);
    let request = flow.request.unwrap();
    assert_eq!(
        (request.protocol.as_deref(), &request.method[..]),
        (Some(&b"websocket"[..]), &b"CONNECT"[..])
    );
    assert_eq!(flow.response.unwrap().status, 200);
}

/// The origin says no: that is an answer like any other.
#[tokio::test]
async fn a_refusal_of_extended_connect_is_the_origins() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) =
        setup.h2_with(&origin, &[], &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]).await;
    client.head(1, MORE, &EXTENDED).await;
    let head = server.request().await;
    server.head(head.stream, MORE, &[(":status", "403")]).await;
    server.data(head.stream, END_STREAM, "no").await;
    client.expect_status(1, "403").await;
    assert_eq!(client.rest_of(1).await.0, b"no");
    client.data(1, END_STREAM, "").await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.response.unwrap().status), (State::Complete, 403));
}

/// A reset of the tunnel is passed on with its code, either way.
#[tokio::test]
async fn a_tunnel_that_is_reset_is_reset_on_the_other_side() {
    for by_client in [true, false] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) =
            setup.h2_with(&origin, &[], &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]).await;
        client.head(1, MORE, &EXTENDED).await;
        let head = server.request().await;
        server.head(head.stream, MORE, &[(":status", "200")]).await;
        client.expect_status(1, "200").await;
        let (from, to, ours, theirs) = match by_client {
            true => (&mut client, &mut server, 1, head.stream),
            false => (&mut server, &mut client, head.stream, 1),
        };
        from.send(crate::harness::h2::Frame::rst(ours, code::CANCEL)).await;
        to.expect_rst(theirs, &[code::CANCEL]).await;
        let flow = setup.flow().await;
        let side = if by_client { Side::Client } else { Side::Server };
        assert_eq!((flow.state == State::Complete, flow.error.unwrap().side), (false, side));
    }
}

/// RFC 9113 §8.5: a plain CONNECT has an authority alone, and inside of an intercepted tunnel leads nowhere.
#[tokio::test]
async fn a_connect_inside_a_tunnel_is_refused() {
    for fields in [
        &[(":method", "CONNECT"), (":authority", "origin.test:443")][..],
        &[(":method", "CONNECT"), (":authority", "origin.test:443"), (":scheme", "https"), (":path", "/")],
        &[(":method", "CONNECT")],
        &[(":method", "CONNECT"), (":authority", "")],
        &[(":method", "CONNECT"), (":protocol", "websocket"), (":authority", NAME)],
    ] {
        let (mut setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.head(1, MORE, fields).await;
        expect_refused(&mut client, 1).await;
        expect_nothing(&mut server).await;
        assert_eq!(setup.flow().await.state, State::Refused, "{fields:?}");
        drop(client);
        setup.expect_flows(1).await;
    }
}

/// On the explicit port it opens a tunnel in the stream, or is refused; recorded either way, and the connection lives.
#[tokio::test]
async fn a_connect_on_the_explicit_port_is_a_tunnel_or_refused() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut client = setup.h2_clear(&origin).await;
    let authority = origin.addr().to_string();
    client.head(1, MORE, &[(":method", "CONNECT"), (":authority", &authority)]).await;
    match client.on(1).await {
        Event::Head(head) if head.status() == "200" => {
            let mut server = origin.accept().await;
            client.data(1, MORE, "SSH-2.0-x\r\n").await;
            server.expect("SSH-2.0-x\r\n").await;
            server.send("SSH-2.0-y\r\n").await;
            client.expect_data(1, "SSH-2.0-y\r\n").await;
            client.data(1, END_STREAM, "").await;
            server.expect_end().await;
            drop(server);
            client.rest_of(1).await;
        }
        Event::Head(head) => assert!(head.status() >= "400" && head.status() < "600", "{head:?}"),
        Event::Rst { .. } => {}
        other => panic!("{other:?}"),
    }
    let flow = setup.flow().await;
    assert_eq!(flow.request.unwrap().method, "CONNECT");
    client.fence().await;
    setup.expect_alive().await;
}
