//! RFC 6455 §5.4, §5.6: messages that rules change, drop or make (wire cases WS-02, WS-04, WS-07, WS-15), and RFC 7692 beside
//! them. What rules leave alone passes as it came.

use flate2::{Compress, Compression, FlushCompress};
use manent::flow::{BodyEnd, Content, Flow, MessageCoding, Mid, Opcode, Side, Stage, State};
use manent::proxy::InjectError;
use manent::rules::{End, RuleKind};

use crate::harness::h2::{END_STREAM, MORE, NAME, setting};
use crate::harness::{Origin, Peer, Setup, accepting, brief, ending, frame, masked, opening, soon};

/// What is stored of each message: who sent it, its text, what was done.
fn fates(setup: &Setup, flow: &Flow) -> Vec<(&'static str, String, &'static str)> {
    let fate = |message: &manent::flow::Message| match (message.injected, message.dropped) {
        (false, false) => "passed",
        (true, false) => "injected",
        (false, true) => "dropped",
        (true, true) => "both",
    };
    let messages = setup.messages(flow);
    let data = messages.iter().filter(|message| message.opcode.is_data());
    data.map(|message| {
        let (who, _, payload) = brief(message);
        (who, String::from_utf8_lossy(&payload).into_owned(), fate(message))
    })
    .collect()
}

async fn pass(from: &mut Peer, to: &mut Peer, bytes: &[u8]) {
    from.send(bytes).await;
    to.expect(bytes).await;
}

async fn close(mut client: Peer, mut server: Peer) {
    pass(&mut client, &mut server, &masked(0x88, b"\x03\xe8")).await;
    pass(&mut server, &mut client, &frame(0x88, b"\x03\xe8")).await;
    drop(server);
    client.expect_end().await;
}

/// WS-02: a message that is changed has a new length and is one frame, masked as its side masks; both are on record. What is
/// not changed passes byte for byte, its masking key, its fragments and the pings between them included (WS-05, WS-09).
#[tokio::test]
async fn section_5_6_a_changed_message_is_one_frame_of_its_new_length() {
    let mut setup = Setup::ruled(&[(RuleKind::WsReplace, "//any/foo/foobar")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    client.send(masked(0x81, "a foo")).await;
    assert_eq!(server.frame().await, (0x81, true, b"a foobar".to_vec()));
    server.send(frame(0x81, "foo".repeat(60))).await;
    assert_eq!(client.frame().await, (0x81, false, "foobar".repeat(60).into_bytes()));
    let untouched = [masked(0x01, "f"), masked(0x89, "foo"), masked(0x80, "o"), masked(0x82, "foo")].concat();
    client.send(&untouched).await;
    let overtaken = [masked(0x89, "foo"), masked(0x01, "f"), masked(0x80, "o"), masked(0x82, "foo")].concat();
    server.expect(overtaken).await;
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let foos = "foo".repeat(60);
    let expected = [
        ("client", "a foo".to_owned(), "dropped"),
        ("client", "a foobar".to_owned(), "injected"),
        ("server", foos.clone(), "dropped"),
        ("server", foos.replace("foo", "foobar"), "injected"),
        ("client", "fo".to_owned(), "passed"),
        ("client", "foo".to_owned(), "passed"),
    ];
    assert_eq!(fates(&setup, &flow), expected);
    let told: Vec<_> = flow.rules.iter().map(|applied| (&applied.rule[..], applied.times)).collect();
    assert_eq!(told, [("ws-replace //any/foo/foobar", 2)]);
    let request = flow.request.unwrap();
    assert!(request.headers.get("sec-websocket-extensions").is_some());
    assert_eq!(request.changed.unwrap().get("sec-websocket-extensions"), None);
}

/// WS-04: of a message that is dropped nothing is sent, and the record has it as dropped; control frames pass.
#[tokio::test]
async fn section_5_4_a_dropped_message_is_recorded_and_not_sent() {
    let mut setup =
        Setup::ruled(&[(RuleKind::WsDrop, "//client/^secret"), (RuleKind::WsDrop, "//server/\\x00")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    client
        .send([masked(0x01, "sec"), masked(0x8a, "x"), masked(0x80, "ret"), masked(0x81, "after")].concat())
        .await;
    server.expect([masked(0x8a, "x"), masked(0x81, "after")].concat()).await;
    server.send([frame(0x82, "a\0b"), frame(0x81, "secret")].concat()).await;
    client.expect(frame(0x81, "secret")).await;
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let expected = [
        ("client", "secret".to_owned(), "dropped"),
        ("client", "after".to_owned(), "passed"),
        ("server", "a\0b".to_owned(), "dropped"),
        ("server", "secret".to_owned(), "passed"),
    ];
    assert_eq!(fates(&setup, &flow), expected);
    assert!(setup.messages(&flow)[1].fragments == 2, "{:?}", setup.messages(&flow));
}

/// WS-07: a message that came in fragments and is changed goes on in fragments of 4,000 bytes.
#[tokio::test]
async fn section_5_4_a_changed_message_of_fragments_is_fragmented_anew() {
    let mut setup = Setup::ruled(&[(RuleKind::WsReplace, "//any/foo/foobar")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    let (first, second) = ("a".repeat(7000), format!("{}foo", "b".repeat(1000)));
    let changed = format!("{first}{}", second.replace("foo", "foobar"));
    client.send([masked(0x01, &first), masked(0x80, &second)].concat()).await;
    for (byte, piece) in [0x01, 0x00, 0x80].into_iter().zip(changed.as_bytes().chunks(4000)) {
        assert_eq!(server.frame().await, (byte, true, piece.to_vec()));
    }
    server.send([frame(0x01, "fo"), frame(0x80, "o")].concat()).await;
    assert_eq!(client.frame().await, (0x81, false, b"foobar".to_vec()));
    close(client, server).await;
    let flow = setup.flow().await;
    let messages = setup.messages(&flow);
    let facts: Vec<_> = messages[..4].iter().map(|m| (m.len, m.fragments, m.injected, m.dropped)).collect();
    let expected = [(8003, 2, false, true), (8006, 3, true, false), (3, 2, false, true), (6, 1, true, false)];
    assert_eq!(facts, expected);
}

/// WS-15, by rules: to either side, at the opening and as an answer; flagged as injected.
#[tokio::test]
async fn section_5_4_messages_of_rules_reach_either_side() {
    let rules = [
        (RuleKind::WsInject, "//client//welcome"),
        (RuleKind::WsInject, "//server//here I am"),
        (RuleKind::WsInject, "//client/^ping$/pong"),
        (RuleKind::WsInject, "//server/^news/thanks"),
        (RuleKind::WsDrop, "//client/^ping$"),
    ];
    let mut setup = Setup::ruled(&rules).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    assert_eq!(client.frame().await, (0x81, false, b"welcome".to_vec()));
    assert_eq!(server.frame().await, (0x81, true, b"here I am".to_vec()));
    // Answered in the place of the origin, which sees nothing of it.
    client.send(masked(0x81, "ping")).await;
    assert_eq!(client.frame().await, (0x81, false, b"pong".to_vec()));
    server.send(frame(0x81, "news")).await;
    client.expect(frame(0x81, "news")).await;
    assert_eq!(server.frame().await, (0x81, true, b"thanks".to_vec()));
    close(client, server).await;
    let flow = setup.flow().await;
    let mut seen = fates(&setup, &flow);
    seen.sort_unstable();
    let expected = [
        ("client", "here I am", "injected"),
        ("client", "ping", "dropped"),
        ("client", "thanks", "injected"),
        ("server", "news", "passed"),
        ("server", "pong", "injected"),
        ("server", "welcome", "injected"),
    ];
    assert!(seen.iter().map(|(who, text, fate)| (*who, &text[..], *fate)).eq(expected), "{seen:?}");
    assert_eq!(flow.websocket.unwrap().messages(), 8);
    assert_eq!(flow.rules.len(), 5);
}

/// WS-15, by a program: on a WebSocket that no rule concerns, compressed with a window that is kept, messages of ours stand
/// between those of the ends, which pass byte for byte (RFC 7692 §6).
#[tokio::test]
async fn rfc_7692_section_6_messages_of_a_program_leave_the_window_alone() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "permessage-deflate").await;
    let mid = setup.open_flow().await.mid.unwrap();
    let injector = setup.proxy.injector();
    let mut compress = Compress::new(Compression::default(), false);
    let mut deflate = |text: &str| {
        let mut out = Vec::with_capacity(1024);
        compress.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        out
    };
    for turn in 0..3 {
        let said = masked(0xc1, deflate("the same words"));
        pass(&mut client, &mut server, &said).await;
        soon("the message to be sent", injector.inject(mid, End::Server, Opcode::Text, "ours".into()))
            .await
            .unwrap();
        assert_eq!(server.frame().await, (0x81, true, b"ours".to_vec()), "{turn}");
    }
    soon(
        "the message to be sent",
        injector.inject(mid, End::Client, Opcode::Binary, (&b"\0\xff"[..]).into()),
    )
    .await
    .unwrap();
    assert_eq!(client.frame().await, (0x82, false, b"\0\xff".to_vec()));
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let facts: Vec<_> = setup.messages(&flow).iter().map(|m| (brief(m).2, m.injected, m.coding)).collect();
    let theirs = (b"the same words".to_vec(), false, MessageCoding::Deflate);
    let ours = (b"ours".to_vec(), true, MessageCoding::Plain);
    assert_eq!(facts[..4], [theirs.clone(), ours.clone(), theirs, ours]);
    assert_eq!(facts[6], (b"\0\xff".to_vec(), true, MessageCoding::Plain));
    // What is no message, or for nobody.
    let inject = |opcode, payload: &'static [u8]| injector.inject(mid, End::Client, opcode, payload.into());
    assert_eq!(inject(Opcode::Text, b"late").await, Err(InjectError::NotOpen));
    assert_eq!(inject(Opcode::Ping, b"").await, Err(InjectError::NotData));
    assert_eq!(inject(Opcode::Text, b"\xff").await, Err(InjectError::NotUtf8));
    assert_eq!(
        injector.inject(Mid(99), End::Client, Opcode::Text, "x".into()).await,
        Err(InjectError::NotOpen)
    );
}

/// §5.4: a message of ours never stands between the fragments of another, with rules or without.
#[tokio::test]
async fn section_5_4_messages_of_a_program_wait_for_the_end_of_another() {
    for rules in [&[][..], &[(RuleKind::WsDrop, "//any/never")]] {
        let (mut setup, origin) = (Setup::ruled(rules).await, Origin::listen().await);
        let (mut client, mut server) = match rules {
            [] => setup.websocket(&origin, "").await,
            _ => setup.ruled_websocket(&origin).await,
        };
        let mid = setup.open_flow().await.mid.unwrap();
        client.send([masked(0x01, "foo"), masked(0x89, "p")].concat()).await;
        let pinged = if rules.is_empty() {
            [masked(0x01, "foo"), masked(0x89, "p")].concat()
        } else {
            masked(0x89, "p")
        };
        server.expect(pinged).await;
        let injector = setup.proxy.injector();
        let ours = injector.inject(mid, End::Server, Opcode::Text, "ours".into());
        let (sent, ()) = tokio::join!(soon("the message to be sent", ours), async {
            // The beginning of a third message in the same bytes: ours goes before it.
            client.send([masked(0x80, "bar"), masked(0x81, "after")].concat()).await;
            if !rules.is_empty() {
                server.expect(masked(0x01, "foo")).await;
            }
            server.expect(masked(0x80, "bar")).await;
            let next = [server.frame().await, server.frame().await].map(|frame| frame.2);
            // A busy WebSocket once kept ours waiting for ever where rules look on: only a pause let it through.
            assert_eq!(next, [b"ours".to_vec(), b"after".to_vec()], "{rules:?}");
        });
        assert_eq!(sent, Ok(()));
        // After a close frame there is no place for it.
        pass(&mut client, &mut server, &masked(0x88, b"\x03\xe8")).await;
        let late = injector.inject(mid, End::Server, Opcode::Text, "late".into());
        assert_eq!(soon("an answer", late).await, Err(InjectError::Closed));
        drop((client, server));
        assert_eq!(setup.flow().await.state, State::Complete);
    }
}

/// §5.5, §7: frames that break a rule pass as they came also where rules look at messages, and so does what was held.
#[tokio::test]
async fn section_5_5_broken_frames_pass_where_rules_concern_the_websocket() {
    let mut setup = Setup::ruled(&[(RuleKind::WsDrop, "//any/foo")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    pass(&mut client, &mut server, &[masked(0x01, "foo"), masked(0x82, "bar"), masked(0x81, "foo")].concat())
        .await;
    drop(client);
    server.drain().await;
    drop(server);
    assert_eq!(setup.flow().await.state, State::ClientAborted);
}

/// §7.1.7: what is held of a message when its connection breaks goes on before the break, and is on record as cut off, as it
/// is where no rules look on. It was once lost to both.
#[tokio::test]
async fn section_7_1_7_what_is_held_when_the_connection_breaks_is_not_lost() {
    let mut setup = Setup::ruled(&[(RuleKind::WsReplace, "//any/foo/foobar")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    let whole = frame(0x80, "b".repeat(1000));
    let (first, second) = (frame(0x01, "foo"), whole[..4 + 350].to_vec());
    let held = [first.clone(), second.clone()].concat();
    // The ping overtakes what is held, so the proxy has read it.
    server.send([first, frame(0x89, "p"), second].concat()).await;
    client.expect(frame(0x89, "p")).await;
    server.reset();
    let (seen, end) = client.rest().await;
    assert!(seen == held && end.is_err(), "{} and {end:?}", seen.escape_ascii());
    drop(client);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::Tunnel))));
    let message = &setup.messages(&flow)[1];
    let payload = format!("foo{}", "b".repeat(350));
    assert_eq!((message.end, message.len, message.fragments), (BodyEnd::CutOff, 353, 2));
    assert_eq!(message.content, Content::Inline(payload.into()));
    assert!(!message.dropped && !message.injected && flow.rules.is_empty());
}

/// The same where the other end breaks: nobody is left to send it to, but the record has it.
#[tokio::test]
async fn section_7_1_7_what_is_held_when_the_other_end_breaks_is_recorded() {
    let mut setup = Setup::ruled(&[(RuleKind::WsDrop, "//server/foo")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    server.send([frame(0x01, "foo"), frame(0x89, "p")].concat()).await;
    client.expect(frame(0x89, "p")).await;
    client.reset();
    server.expect_break().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::Tunnel))));
    let messages = setup.messages(&flow);
    assert_eq!((messages.len(), messages[1].end, messages[1].dropped), (2, BodyEnd::CutOff, false));
    assert_eq!(messages[1].content, Content::Inline("foo".into()));
}

/// A message that is too long to be held passes as it comes, and is no message for rules.
#[tokio::test]
async fn section_5_4_a_message_that_is_too_long_is_not_held() {
    let mut setup = Setup::ruled(&[(RuleKind::WsReplace, "//any/a/b")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.ruled_websocket(&origin).await;
    let long = frame(0x81, vec![b'a'; 5 << 20]);
    tokio::join!(server.send(&long), client.expect(&long));
    server.send(frame(0x81, "a")).await;
    assert_eq!(client.frame().await, (0x81, false, b"b".to_vec()));
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let facts: Vec<_> = setup.messages(&flow).iter().map(|m| (m.len, m.injected, m.dropped)).collect();
    assert_eq!(facts[..3], [(5 << 20, false, false), (1, false, true), (1, true, false)]);
}

/// An origin that uses an extension which it was not offered is left alone.
#[tokio::test]
async fn section_9_1_an_extension_that_was_not_offered_keeps_rules_off() {
    let mut setup = Setup::ruled(&[(RuleKind::WsDrop, "//any/.")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, opening("http://{addr}/chat")).await;
    server.send(accepting("permessage-deflate")).await;
    client.expect(accepting("permessage-deflate")).await;
    pass(&mut server, &mut client, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00").await;
    close(client, server).await;
    let flow = setup.flow().await;
    assert_eq!(setup.said(&flow)[0], ("server", Opcode::Text, b"Hello".to_vec()));
}

/// RFC 8441 §5: the same over HTTP/2.
#[tokio::test]
async fn rfc_8441_section_5_rules_act_on_a_stream() {
    let rules =
        [(RuleKind::WsReplace, "|~u /chat|server|foo|foobar"), (RuleKind::WsInject, "|~u /chat|client||hi")];
    let (mut setup, origin) = Setup::h2_ruled(&rules).await;
    let offers = [(setting::ENABLE_CONNECT_PROTOCOL, 1)];
    let (mut client, mut server) = setup.h2_with(&origin, &[], &offers).await;
    client.until("settings", |client| client.acks == 1).await;
    let asked = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", NAME),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    client.head(1, MORE, &asked).await;
    let head = server.request().await;
    assert!(head.has("sec-websocket-version") && !head.has("sec-websocket-extensions"), "{head:?}");
    server.head(head.stream, MORE, &[(":status", "200")]).await;
    client.expect_status(1, "200").await;
    client.expect_data(1, frame(0x81, "hi")).await;
    server.data(head.stream, MORE, frame(0x81, "a foo")).await;
    client.expect_data(1, frame(0x81, "a foobar")).await;
    client.data(1, END_STREAM, masked(0x81, "foo")).await;
    let (seen, _) = server.rest_of(head.stream).await;
    assert_eq!(seen, masked(0x81, "foo"));
    server.data(head.stream, END_STREAM, "").await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let fates: Vec<_> = fates(&setup, &flow).into_iter().map(|(_, text, fate)| (text, fate)).collect();
    let expected = [("hi", "injected"), ("a foo", "dropped"), ("a foobar", "injected"), ("foo", "passed")];
    assert_eq!(fates, expected.map(|(text, fate)| (text.to_owned(), fate)));
}
