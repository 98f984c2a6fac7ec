//! WebSockets: the handshake once more, then what the client had said, in its order (mitmproxy refuses this; RP-18).

use std::time::Instant;

use bytes::Bytes;
use manent::flow::{MessageCoding, Mid, Opcode, State};
use manent::store::Reader;
use manent::websocket::{Event, Extensions, Tap};

use super::{Scene, done, read_until};
use crate::harness::h2::{END_STREAM, H2, MORE, NAME, Speaks, setting};
use crate::harness::{
    Origin, Peer, Setup, TestCa, TlsOrigin, accepting, brief, ending, frame, masked, opening,
};

const BYE: &[u8] = b"\x03\xe8bye";

/// The origin's end of a WebSocket: what the client says, unmasked.
struct Ear {
    peer: Peer,
    tap: Tap,
    input: Bytes,
    /// First bytes of frames, to see that they are masked each with a key of its own.
    seen: Vec<u8>,
}

impl Ear {
    /// Accepts a handshake that must be this one, with this extension.
    async fn accept(origin: &Origin, extension: &str) -> Self {
        let mut peer = origin.accept().await;
        peer.expect(origin.fill(opening("/chat"))).await;
        peer.send(accepting(extension)).await;
        let extensions = Extensions::of(
            &[("Sec-WebSocket-Extensions", extension)].into_iter().filter(|(_, v)| !v.is_empty()).collect(),
        );
        Self { peer, tap: Tap::of_client(extensions), input: Bytes::new(), seen: Vec::new() }
    }

    async fn hears(&mut self, opcode: Opcode, payload: &[u8]) -> (MessageCoding, u32) {
        let mut got = Vec::new();
        loop {
            match self.tap.next(&mut self.input).unwrap() {
                None => {
                    let some = self.peer.some().await;
                    self.seen.extend_from_slice(&some);
                    self.input = some.into();
                }
                Some(Event::Begun(begun)) => assert_eq!(begun, opcode),
                Some(Event::Payload(data)) => got.extend_from_slice(&data),
                Some(Event::Ended(ended)) => {
                    assert!(got == payload, "{} bytes", got.len());
                    return (ended.coding, ended.fragments);
                }
                Some(Event::Control { opcode: control, payload: data }) => {
                    assert_eq!((control, &data[..]), (opcode, payload));
                    return (MessageCoding::Plain, 1);
                }
            }
        }
    }
}

/// A session: greeting, two answers, a ping each way, and the client's farewell.
async fn session() -> (Scene, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let large = vec![b'z'; 200_000];
    for (from_client, message) in [
        (false, frame(0x81, "who?")),
        (true, masked(0x81, "me")),
        (false, frame(0x89, "beat")),
        (true, masked(0x8a, "beat")),
        (true, masked(0x89, "mine")),
        (false, frame(0x8a, "mine")),
        (true, [masked(0x02, "ab"), masked(0x80, "c")].concat()),
        (false, frame(0x82, "ok")),
        (true, masked(0x82, &large)),
        (true, masked(0x88, BYE)),
        (false, frame(0x88, BYE)),
    ] {
        let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
        tokio::join!(from.send(&message), to.expect(&message));
    }
    drop((client, server));
    assert_eq!(setup.flow().await.state, State::Complete);
    (Scene::of(setup).await, origin)
}

/// In order, and each when the origin has said what had come before it; the origin's ping is answered afresh, the recorded
/// answer to the old one is not sent.
#[tokio::test]
async fn the_client_says_the_same_in_its_turn() {
    let (scene, origin) = session().await;
    let replay = scene.start(&["replay", "1", "--json"]);
    let mut ear = Ear::accept(&origin, "").await;
    ear.peer.send(frame(0x81, "WHO?")).await;
    ear.hears(Opcode::Text, b"me").await;
    ear.hears(Opcode::Ping, b"mine").await;
    assert_eq!(ear.hears(Opcode::Binary, b"abc").await, (MessageCoding::Plain, 2));
    ear.peer.send(frame(0x89, "new")).await;
    ear.peer.send(frame(0x82, "ok")).await;
    ear.hears(Opcode::Pong, b"new").await;
    ear.hears(Opcode::Binary, &vec![b'z'; 200_000]).await;
    ear.hears(Opcode::Close, BYE).await;
    ear.peer.send(frame(0x88, BYE)).await;
    drop(ear);
    let done = done(replay).await;
    done.expect(0);
    let flow = scene.flow(2);
    assert_eq!((ending(&flow), flow.replay_of), ((State::Complete, None), Some(Mid(1))));
    let reader = Reader::open(&scene.store).unwrap();
    let said: Vec<_> = reader.messages(Mid(2), 0, 100).unwrap();
    assert_eq!(brief(&said[0]), ("server", Opcode::Text, b"WHO?".to_vec()));
    assert_eq!(flow.websocket.unwrap().messages_from_client, 6);
}

/// Each frame has a key of its own, not the recorded one.
#[tokio::test]
async fn frames_are_masked_afresh() {
    let (scene, origin) = session().await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let replay = scene.start(&["replay", "1"]);
        let mut ear = Ear::accept(&origin, "").await;
        ear.peer.send(frame(0x81, "who?")).await;
        ear.hears(Opcode::Text, b"me").await;
        keys.push(ear.seen[2..6].to_vec());
        ear.peer.send(frame(0x88, BYE)).await;
        ear.peer.half_close().await;
        ear.peer.drain().await;
        done(replay).await.expect(0);
    }
    assert_ne!(keys[0], keys[1]);
    assert!(!keys.contains(&masked(0x81, "me")[2..6].to_vec()));
}

/// Compression is as the origin agrees to it now, and so is its context.
#[tokio::test]
async fn messages_are_compressed_as_agreed_anew() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "permessage-deflate").await;
    // "Hello" twice, the second by the first one's window (RFC 7692 §7.2.3.2), and one as it is.
    for message in [
        masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        masked(0xc1, b"\xf2\x00\x11\x00\x00"),
        masked(0x81, "plain"),
    ] {
        client.send(&message).await;
        server.expect(&message).await;
    }
    drop((client, server));
    setup.flow().await;
    let scene = Scene::of(setup).await;
    for (extension, coding) in [
        ("permessage-deflate", MessageCoding::Deflate),
        ("permessage-deflate; client_no_context_takeover", MessageCoding::Deflate),
        ("permessage-deflate; client_max_window_bits=9", MessageCoding::Plain),
        ("", MessageCoding::Plain),
    ] {
        let replay = scene.start(&["replay", "1"]);
        let mut ear = Ear::accept(&origin, extension).await;
        assert_eq!(ear.hears(Opcode::Text, b"Hello").await.0, coding, "{extension}");
        assert_eq!(ear.hears(Opcode::Text, b"Hello").await.0, coding, "{extension}");
        assert_eq!(ear.hears(Opcode::Text, b"plain").await.0, MessageCoding::Plain);
        // The recorded client went without a word.
        ear.peer.expect_end().await;
        drop(ear);
        done(replay).await.expect(0);
    }
}

/// With `--as-recorded` the times count, and nothing else.
#[tokio::test]
async fn messages_keep_their_times() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    client.send(masked(0x81, "one")).await;
    server.expect(masked(0x81, "one")).await;
    // The harness does not sleep; what it waits for here is that the store has the first message.
    let began = Instant::now();
    while began.elapsed().as_millis() < 120 {
        tokio::task::yield_now().await;
    }
    client.send(masked(0x81, "two")).await;
    server.expect(masked(0x81, "two")).await;
    drop((client, server));
    setup.flow().await;
    let scene = Scene::of(setup).await;
    let mut pauses = Vec::new();
    for speed in ["1x", "1000x"] {
        let replay = scene.start(&["replay", "1", "--as-recorded", "--speed", speed]);
        let mut ear = Ear::accept(&origin, "").await;
        ear.hears(Opcode::Text, b"one").await;
        let first = Instant::now();
        ear.hears(Opcode::Text, b"two").await;
        pauses.push(first.elapsed().as_millis());
        drop(ear);
        done(replay).await.expect(0);
    }
    assert!(pauses[0] >= 100 && pauses[1] < pauses[0], "{pauses:?} ms");
}

/// An origin that does not open one answers like any other.
#[tokio::test]
async fn a_refused_handshake_is_an_answer() {
    let (scene, origin) = session().await;
    let replay = scene.start(&["replay", "1"]);
    let mut server = origin.accept().await;
    read_until(&mut server, b"\r\n\r\n").await;
    server.send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    assert!(done(replay).await.expect(0).contains("\t101\t403\t"));
    assert_eq!(scene.flow(2).websocket, None);
}

/// A client of HTTP/1.1 and an origin of HTTP/2: an extended `CONNECT` goes out again (RFC 8441 §5).
#[tokio::test]
async fn a_websocket_over_http2_is_opened_again() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http2).await;
    let authority = format!("127.0.0.1:{}", origin.addr().port());
    let settings = [(setting::ENABLE_CONNECT_PROTOCOL, 1)];
    let (client, server) = tokio::join!(setup.tls_client(&authority, NAME, &["http/1.1"]), async {
        H2::server_with(origin.settle().await, &settings).await
    });
    let (mut client, mut server) = (client.unwrap(), server);
    client.send(opening("/chat").replace("{addr}", NAME)).await;
    let first = server.request().await;
    server.head(first.stream, MORE, &[(":status", "200")]).await;
    client.head().await;
    for message in [masked(0x81, "hello"), masked(0x88, BYE)] {
        client.send(&message).await;
        server.expect_data(first.stream, &message).await;
    }
    server.data(first.stream, END_STREAM, frame(0x88, BYE)).await;
    drop(client);
    setup.flow().await;
    drop(server);
    let scene = Scene::of(setup).await;
    let pem = ca.write(scene.dir.path()).to_str().unwrap().to_owned();
    let replay = scene.start(&["replay", "1", "--upstream-ca", &pem]);
    let mut server = H2::server_with(origin.settle().await, &settings).await;
    let again = server.request().await;
    assert_eq!(again.fields, first.fields);
    server.head(again.stream, MORE, &[(":status", "200")]).await;
    let mut tap = Tap::of_client(Extensions::default());
    let (mut said, mut closed) = (Vec::new(), false);
    while !closed {
        let event = server.on(again.stream).await;
        let crate::harness::h2::Event::Data { data, .. } = event else { panic!("{event:?}") };
        let mut input = Bytes::from(data);
        while let Some(event) = tap.next(&mut input).unwrap() {
            match event {
                Event::Payload(data) => said.extend_from_slice(&data),
                Event::Control { opcode, payload } => closed = opcode == Opcode::Close && payload == BYE,
                Event::Begun(_) | Event::Ended(_) => {}
            }
        }
    }
    assert_eq!(said, b"hello");
    server.data(again.stream, END_STREAM, frame(0x88, BYE)).await;
    done(replay).await.expect(0);
    assert_eq!(scene.flow(2).websocket.unwrap().close_code, Some(1000));
}
