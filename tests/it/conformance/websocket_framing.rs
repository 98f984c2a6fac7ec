//! RFC 6455 §5 and §6: frames pass as they came, messages are recorded as they were meant (wire cases WS-01 to WS-09, but
//! those that need rules).

use manent::flow::{BodyEnd, Content, Opcode, Side, Stage, State};
use manent::store::Reader;

use crate::harness::{
    Origin, Peer, Setup, TestCa, TlsOrigin, accepting, brief, ending, frame, masked, opening,
};

/// Sends on one side, and expects the same bytes on the other.
async fn pass(from: &mut Peer, to: &mut Peer, bytes: &[u8]) {
    from.send(bytes).await;
    to.expect(bytes).await;
}

/// Closes as RFC 6455 §7.1.1 has it: close frames, then the origin ends TCP.
async fn close(mut client: Peer, mut server: Peer) {
    pass(&mut client, &mut server, &masked(0x88, b"\x03\xe8")).await;
    pass(&mut server, &mut client, &frame(0x88, b"\x03\xe8")).await;
    drop(server);
    client.expect_end().await;
}

/// WS-01, WS-03, WS-09; §5.2, §5.3, §5.5: text and binary, empty ones too, pings and pongs with their payload.
#[tokio::test]
async fn section_5_2_messages_pass_untouched_and_are_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    pass(&mut client, &mut server, &masked(0x81, "hello world")).await;
    pass(&mut server, &mut client, &frame(0x82, "hello back")).await;
    pass(&mut client, &mut server, &masked(0x81, "")).await;
    pass(&mut server, &mut client, &frame(0x89, "are you there")).await;
    pass(&mut client, &mut server, &masked(0x8a, "are you there")).await;
    pass(&mut server, &mut client, &frame(0x8a, "")).await;
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!((ending(&flow), &flow.tunnel), ((State::Complete, None), &None));
    assert_eq!(flow.response.as_ref().unwrap().headers.get("sec-websocket-protocol"), Some(&b"chat"[..]));
    let close = b"\x03\xe8".to_vec();
    let expected = [
        ("client", Opcode::Text, b"hello world".to_vec()),
        ("server", Opcode::Binary, b"hello back".to_vec()),
        ("client", Opcode::Text, b"".to_vec()),
        ("server", Opcode::Ping, b"are you there".to_vec()),
        ("client", Opcode::Pong, b"are you there".to_vec()),
        ("server", Opcode::Pong, b"".to_vec()),
        ("client", Opcode::Close, close.clone()),
        ("server", Opcode::Close, close),
    ];
    assert_eq!(setup.said(&flow), expected);
    let messages = setup.messages(&flow);
    assert!(messages.iter().map(|m| m.seq).eq(1..=8) && messages.is_sorted_by_key(|m| m.at_us));
    let websocket = flow.websocket.unwrap();
    assert_eq!((websocket.messages_from_client, websocket.messages_from_server), (4, 4));
    assert_eq!((websocket.len_from_client, websocket.len_from_server), (26, 25));
}

/// WS-01 through TLS on both sides.
#[tokio::test]
async fn section_5_2_messages_pass_through_tls() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "origin.test").await;
    let (request, response) = (opening("/chat").replace("{addr}", "origin.test"), accepting(""));
    pass(&mut client, &mut server, request.as_bytes()).await;
    pass(&mut server, &mut client, response.as_bytes()).await;
    pass(&mut client, &mut server, &masked(0x81, "hello world")).await;
    pass(&mut server, &mut client, &frame(0x82, "hello back")).await;
    drop(client);
    server.drain().await;
    drop(server);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let expected = [
        ("client", Opcode::Text, b"hello world".to_vec()),
        ("server", Opcode::Binary, b"hello back".to_vec()),
    ];
    assert_eq!(setup.said(&flow), expected);
}

/// WS-05, WS-06; §5.4: fragments stay what they are on the wire and are one message in the record, control frames between
/// them; a frame in many segments is one message.
#[tokio::test]
async fn section_5_4_fragments_are_one_message() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    for part in [masked(0x01, "foo"), masked(0x89, "still there"), masked(0x00, ""), masked(0x80, "bar")] {
        pass(&mut client, &mut server, &part).await;
    }
    let six = frame(0x81, "foobar");
    for half in six.chunks(4) {
        pass(&mut server, &mut client, half).await;
    }
    let long = masked(0x82, [9; 300]);
    tokio::join!(client.trickle(&long), server.expect(&long));
    close(client, server).await;
    let flow = setup.flow().await;
    let said = setup.said(&flow);
    assert_eq!(said[0], ("client", Opcode::Ping, b"still there".to_vec()));
    assert_eq!(said[1], ("client", Opcode::Text, b"foobar".to_vec()));
    assert_eq!(said[2], ("server", Opcode::Text, b"foobar".to_vec()));
    assert_eq!(said[3], ("client", Opcode::Binary, vec![9; 300]));
    let messages = setup.messages(&flow);
    assert_eq!(messages.iter().map(|m| m.fragments).collect::<Vec<_>>(), [1, 3, 1, 1, 1, 1]);
    assert!(messages[1].at_us <= messages[0].at_us, "a message's time is that of its first frame");
}

/// WS-08; §5.4, and §5.1, §5.2, §5.5: who breaks a rule is told by the other end, not by us. What passes stays untouched, the
/// flow says which side broke which rule, and the other direction is still recorded.
#[tokio::test]
async fn section_5_broken_rules_are_recorded_and_relayed() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let cases = [
        (Side::Client, masked(0x01, "foo"), masked(0x82, "bar"), "began in the middle of another"),
        (Side::Client, masked(0x81, "foo"), frame(0x81, "bar"), "of the client is not masked"),
        (Side::Server, frame(0x81, "foo"), masked(0x81, "bar"), "of the origin is masked"),
        (Side::Server, frame(0x81, "foo"), frame(0x83, "bar"), "reserved opcode 3"),
        (Side::Server, frame(0x81, "foo"), frame(0xc1, "bar"), "reserved bit"),
        (Side::Client, masked(0x81, "foo"), masked(0x89, [1; 126]), "longer than 125 bytes"),
        (Side::Client, masked(0x81, "foo"), masked(0x09, "bar"), "control frame is fragmented"),
        (Side::Server, frame(0x81, "foo"), frame(0x80, "bar"), "has not begun"),
    ];
    for (side, good, bad, words) in cases {
        let (mut client, mut server) = setup.websocket(&origin, "").await;
        let (from, to) =
            if side == Side::Client { (&mut client, &mut server) } else { (&mut server, &mut client) };
        pass(from, to, &good).await;
        pass(from, to, &bad).await;
        let after = if side == Side::Client { frame(0x81, "after") } else { masked(0x81, "after") };
        pass(to, from, &after).await;
        close(client, server).await;
        let flow = setup.flow().await;
        let state = if side == Side::Client { State::ClientAborted } else { State::ServerAborted };
        assert_eq!(ending(&flow), (state, Some((side, Stage::Tunnel))), "{words}");
        assert!(flow.error.as_ref().unwrap().message.contains(words), "{:?}", flow.error);
        let messages = setup.messages(&flow);
        assert_eq!(messages[0].end, if good[0] == 0x01 { BodyEnd::CutOff } else { BodyEnd::Whole });
        assert_eq!(messages[0].content, Content::Inline("foo".into()));
        assert_eq!(brief(&messages[1]).2, b"after", "{words}");
        // The close of the side that is not followed any more is not known to us; that of the other one is.
        assert_eq!((messages.len(), messages[2].from_client), (3, side == Side::Server));
        assert_eq!(flow.websocket.unwrap().closed_by_client, Some(side == Side::Server));
    }
}

/// CN-25, pitfall 86: frames in one segment with the 101.
#[tokio::test]
async fn section_4_frames_beside_the_101_are_not_lost() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, opening("http://{addr}/chat")).await;
    let first = [accepting("").into_bytes(), frame(0x81, "first"), frame(0x81, "second")].concat();
    pass(&mut server, &mut client, &first).await;
    close(client, server).await;
    let flow = setup.flow().await;
    let said = setup.said(&flow);
    let expected =
        [("server", Opcode::Text, b"first".to_vec()), ("server", Opcode::Text, b"second".to_vec())];
    assert_eq!(said[..2], expected);
}

/// Large payloads lie in segment files, whole, whichever of the three forms their length has.
#[tokio::test]
async fn section_5_2_large_messages_are_recorded_whole() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(n).to_be_bytes()[2]).collect();
    for len in [2048, 2049, 65_535, 65_536, data.len()] {
        let (up, down) = (masked(0x82, &data[..len]), frame(0x82, &data[..len]));
        tokio::join!(client.send(&up), server.expect(&up));
        tokio::join!(server.send(&down), client.expect(&down));
    }
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let reader = Reader::open(&setup.config.store).unwrap();
    let messages = setup.messages(&flow);
    assert_eq!(messages.len(), 12);
    for message in &messages[..10] {
        let mut payload = Vec::new();
        std::io::Read::read_to_end(&mut reader.content(&message.content).unwrap(), &mut payload).unwrap();
        let len = usize::try_from(message.len).unwrap();
        assert!(payload == data[..len] && message.end == BodyEnd::Whole, "{len}");
        assert_eq!(matches!(message.content, Content::Inline(_)), len <= 2048);
    }
}

/// §5.4: a large message in fragments of a few bytes, both ways at once, is one message; what it takes to find it again does
/// not grow with its fragments.
#[tokio::test]
async fn section_5_4_a_large_message_in_tiny_fragments_is_recorded_whole() {
    const COUNT: usize = 20_000;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let first = |n| {
        if n == 0 {
            0x02
        } else if n + 1 == COUNT {
            0x80
        } else {
            0x00
        }
    };
    let part = |n: usize| n.to_be_bytes();
    let up: Vec<u8> = (0..COUNT).flat_map(|n| masked(first(n), part(n))).collect();
    let down: Vec<u8> = (0..COUNT).flat_map(|n| frame(first(n), part(n))).collect();
    // As many chunks of each.
    for (up, down) in up.chunks(up.len() / 50).zip(down.chunks(down.len() / 50)) {
        tokio::join!(client.send(up), server.expect(up));
        tokio::join!(server.send(down), client.expect(down));
    }
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let reader = Reader::open(&setup.config.store).unwrap();
    let expected: Vec<u8> = (0..COUNT).flat_map(part).collect();
    for message in &setup.messages(&flow)[..2] {
        let mut payload = Vec::new();
        std::io::Read::read_to_end(&mut reader.content(&message.content).unwrap(), &mut payload).unwrap();
        assert!(payload == expected && message.end == BodyEnd::Whole);
        let Content::Extents(extents) = &message.content else { panic!("{message:?}") };
        assert!(extents.len() <= 20, "{} extents", extents.len());
    }
}

/// §8.1, §7.4: text that is not UTF-8 and a code that is not for the wire pass as they came, since to refuse them is the other
/// end's; the record counts the texts.
#[tokio::test]
async fn section_8_1_text_that_is_not_utf8_passes_and_is_counted() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    pass(&mut client, &mut server, &masked(0x81, b"caf\xe9")).await;
    pass(&mut client, &mut server, &masked(0x01, b"\xc3")).await;
    pass(&mut client, &mut server, &masked(0x80, b"\xa9")).await;
    pass(&mut server, &mut client, &frame(0x82, b"\xff")).await;
    pass(&mut server, &mut client, &frame(0x81, b"\xff")).await;
    pass(&mut server, &mut client, &frame(0x81, b"cut \xc3")).await;
    pass(&mut client, &mut server, &masked(0x88, b"\x03\xed")).await;
    pass(&mut server, &mut client, &frame(0x88, b"\x03\xed")).await;
    drop(server);
    client.expect_end().await;
    drop(client);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let websocket = flow.websocket.as_ref().unwrap();
    assert_eq!((websocket.bad_text_from_client, websocket.bad_text_from_server), (1, 2));
    assert_eq!((websocket.close_code, setup.said(&flow).len()), (Some(1005), 7));
}
