//! RFC 9113 §10.5: what costs a peer nothing and us much is ended or held up, takes bounded memory, and the next client is
//! served as ever (wire case H2-41; CVE-2019-9511 to -9518, CVE-2023-44487, CVE-2024-27316 and its kin).

use std::time::Duration;

use manent::flow::{Side, State};

use super::expect_served;
use crate::harness::h2::{
    END_STREAM, Event, Frame, H2, MORE, NAME, Refusal, Say, Speaks, code, hpack, kind, setting,
};
use crate::harness::{Setup, TestCa, TlsOrigin, is_alone, memory};

/// What became of a flood.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The peer ended the connection, with this code if it said one.
    Ended(Refusal),
    /// It stopped reading.
    HeldUp,
    /// It took all, and still answers.
    Taken,
}

/// Sends `frame` again and again, without reading, until something comes of it.
async fn flood(peer: &mut H2, times: usize, mut frame: impl FnMut(u32) -> Vec<u8>) -> Outcome {
    let mut at = 0;
    for _ in 0..times.div_ceil(BATCH) {
        let batch: Vec<u8> = (0..BATCH)
            .flat_map(|_| {
                at += 1;
                frame(at)
            })
            .collect();
        match tokio::time::timeout(Duration::from_secs(5), peer.try_send_bytes(&batch)).await {
            Ok(true) => {}
            Ok(false) => return Outcome::Ended(peer.refusal(u32::MAX).await),
            Err(_) => return Outcome::HeldUp,
        }
    }
    // All of it was taken; a PING tells whether it has been read, too, or was too much.
    peer.try_send(Frame::ping(0, *b"are you?")).await;
    let is_end = |event: &Event| matches!(event, Event::Goaway { .. } | Event::End);
    loop {
        if peer.aside().any(is_end) {
            return Outcome::Ended(peer.refusal(u32::MAX).await);
        }
        if peer.pongs.contains(b"are you?") {
            return Outcome::Taken;
        }
        peer.step("an answer to a flood").await;
    }
}

const BATCH: usize = 500;

fn request(path: &str) -> Vec<u8> {
    hpack::encode(&[(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", path)])
}

/// The connection was ended, and for that reason.
fn calmed(outcome: &Outcome) -> bool {
    *outcome == Outcome::Ended(Refusal::Connection(code::ENHANCE_YOUR_CALM))
}

/// CVE-2023-44487: requests that are cancelled at once. Every one that the origin saw is a flow.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let flooding = flood(&mut client, 20_000, |at| {
        let stream = at * 2 - 1;
        let head = Frame::headers(stream, END_STREAM, request("/"));
        [head.bytes(), Frame::rst(stream, code::CANCEL).bytes()].concat()
    });
    let mut seen = 0;
    let outcome = tokio::select! {
        outcome = flooding => outcome,
        () = async { loop { server.request().await; seen += 1; } } => unreachable!("it goes on"),
    };
    assert!(calmed(&outcome), "{outcome:?}");
    drop(client);
    expect_served(&setup).await;
    server.fence().await;
    seen += server.aside().filter(|event| matches!(event, Event::Head(_))).count();
    let (_dir, _config, summary) = setup.stop().await;
    assert!(seen as u64 <= summary.stored && summary.lost == 0, "{seen} seen, {} stored", summary.stored);
}

/// The same by breaking the protocol on each stream, so that it is we who reset ("MadeYouReset", CVE-2025-8671).
#[tokio::test]
async fn resets_that_we_are_made_to_send_end_the_connection() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let flooding = flood(&mut client, 20_000, |at| {
        let stream = at * 2 - 1;
        let head = Frame::headers(stream, MORE, request("/"));
        [head.bytes(), Frame::window_update(stream, 0).bytes()].concat()
    });
    let outcome = tokio::select! {
        outcome = flooding => outcome,
        () = async { loop { server.request().await; } } => unreachable!("it goes on"),
    };
    assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
    drop(client);
    expect_served(&setup).await;
}

/// Requests that are malformed cost a record each, so their number is bounded, too. Those that come in one go with what ends
/// the connection share the one record of its end.
#[tokio::test]
async fn malformed_requests_without_end_end_the_connection() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let block = [request("/"), hpack::encode(&[("connection", "close")])].concat();
    let outcome =
        flood(&mut client, 20_000, |at| Frame::headers(at * 2 - 1, END_STREAM, &block[..]).bytes()).await;
    assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
    drop(client);
    expect_served(&setup).await;
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    drop(server);
    let (_dir, _config, summary) = setup.stop().await;
    assert!((2..4000).contains(&summary.stored) && summary.lost == 0, "{} stored", summary.stored);
}

/// CVE-2024-27316: a head without an end.
#[tokio::test]
async fn endless_heads_end_the_connection() {
    for piece in [&b""[..], &[0, 1, b'x', 1, b'y'], &[0; 1000]] {
        let (setup, origin) = Setup::h2_origin().await;
        let (mut client, _server) = setup.h2(&origin).await;
        client.send(Frame::new(kind::HEADERS, END_STREAM, 1, request("/"))).await;
        let outcome = flood(&mut client, 20_000, |_| Frame::continuation(1, MORE, piece).bytes()).await;
        let wanted = matches!(outcome, Outcome::Ended(Refusal::Connection(_) | Refusal::Closed));
        assert!(wanted, "{} {outcome:?}", piece.len());
        drop(client);
        expect_served(&setup).await;
    }
}

/// A small block that unpacks to a large head (RFC 7541 §7.3).
#[tokio::test]
async fn a_head_that_unpacks_to_much_is_refused() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let mut block = request("/");
    // A field of 4,000 bytes goes into the table, and is named 10,000 times.
    block.push(0x40);
    hpack::integer(&mut block, 0, 7, 1);
    block.push(b'x');
    hpack::integer(&mut block, 0, 7, 4000);
    block.extend([b'y'; 4000]);
    block.extend([0x80 | 62; 10_000]);
    client.send(Frame::headers(1, END_STREAM, block)).await;
    let refused = |event: &Event| match event {
        Event::Head(head) => head.status() == "431",
        Event::Rst { .. } | Event::Goaway { .. } | Event::End => true,
        _ => false,
    };
    client.find("a refusal", refused).await;
    drop(client);
    expect_served(&setup).await;
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
}

/// CVE-2019-9511 to -9518: frames that say nothing, on a stream and on none. All in one process of its own: memory tells.
#[tokio::test]
async fn floods_take_bounded_memory() {
    if !is_alone("conformance::http2::floods::floods_take_bounded_memory") {
        return;
    }
    let (setup, origin) = Setup::h2_origin().await;
    expect_served(&setup).await;
    let before = memory("VmHWM");
    let frames: [(&str, Frame); 9] = [
        ("PING", Frame::ping(0, [0; 8])),
        ("SETTINGS", Frame::settings(&[])),
        ("full SETTINGS", Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535); 100])),
        ("PRIORITY", Frame::priority(1, 0)),
        ("WINDOW_UPDATE", Frame::window_update(1, 1)),
        ("unknown", Frame::new(0x42, 0, 1, [0; 100])),
        ("empty DATA", Frame::data(1, MORE, "")),
        ("padded DATA", Frame::data(1, MORE, "").padded(255)),
        ("DATA of a byte", Frame::data(1, MORE, "x")),
    ];
    for (what, frame) in frames {
        let (mut client, mut server) = setup.h2(&origin).await;
        client.ask(1, MORE, ("POST", "/"), &[]).await;
        server.request().await;
        let outcome = flood(&mut client, 20_000, |_| frame.bytes()).await;
        if ["empty DATA", "padded DATA"].contains(&what) {
            assert_ne!(outcome, Outcome::Taken, "{what}");
        }
        drop((client, server));
        expect_served(&setup).await;
    }
    let grown = memory("VmHWM") - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// The same from an origin: its own connection ends or is held up, its client is told, others do not notice.
#[tokio::test]
async fn floods_of_an_origin_end_its_connection_alone() {
    let ok = hpack::encode(&[(":status", "103")]);
    for (what, frame) in [
        ("PING", Frame::ping(0, [0; 8])),
        ("SETTINGS", Frame::settings(&[])),
        ("empty DATA", Frame::data(1, MORE, "")),
        ("CONTINUATION", Frame::continuation(1, MORE, "")),
        ("interim responses", Frame::headers(1, MORE, ok)),
    ] {
        let (setup, origin) = Setup::h2_origin().await;
        let (mut client, mut server) = setup.h2(&origin).await;
        client.get(1, "/").await;
        let head = server.request().await;
        match what {
            "empty DATA" => server.head(head.stream, MORE, &[(":status", "200")]).await,
            "CONTINUATION" => {
                server.send(Frame::new(kind::HEADERS, MORE, 1, hpack::encode(&[(":status", "200")]))).await;
            }
            _ => {}
        }
        let flooding = flood(&mut server, 20_000, |_| frame.bytes());
        let outcome = tokio::select! {
            outcome = flooding => outcome,
            () = client.read_on() => unreachable!("it goes on"),
        };
        if what == "interim responses" {
            // Its stream was given up, and what comes on it is passed over.
            assert!(client.log.len() < 100, "{}", client.log.len());
        } else if what != "PING" && what != "SETTINGS" {
            assert_ne!(outcome, Outcome::Taken, "{what}");
        }
        drop((client, server));
        expect_served(&setup).await;
    }
}

/// A client that asks and never reads the answers: what waits for it is bounded by the streams that it may have.
#[tokio::test]
async fn a_client_that_reads_nothing_is_held_up_or_ended() {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http2).await;
    let (mut client, mut server) = setup.h2(&origin).await;
    let answering = async {
        let mut seen = 0_u32;
        loop {
            let head = server.request().await;
            seen += 1;
            server.head(head.stream, MORE, &[(":status", "200")]).await;
            server.data(head.stream, END_STREAM, [b'x'; 1000]).await;
            if seen == 100_000 {
                return;
            }
        }
    };
    let flooding = async {
        let outcome =
            flood(&mut client, 100_000, |at| Frame::headers(at * 2 - 1, END_STREAM, request("/")).bytes())
                .await;
        assert!(outcome != Outcome::Taken, "{outcome:?}");
    };
    tokio::select! {
        () = flooding => {}
        () = answering => panic!("all was asked, and nothing read"),
    }
    drop((client, server));
    expect_served(&setup).await;
}

/// The answer of a flooded stream's neighbour still comes: a flood on one client's connection is nobody else's.
#[tokio::test]
async fn another_client_does_not_notice() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let (mut ours, mut theirs) = setup.ends(&ca, Speaks::Http2, Speaks::Http2).await;
    ours.ask(("GET", "/"), Say::default()).await;
    let asked = theirs.asked().await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http2).await;
    let (mut client, _server) = setup.h2(&origin).await;
    flood(&mut client, 10_000, |at| {
        let stream = at * 2 - 1;
        [Frame::headers(stream, END_STREAM, request("/")).bytes(), Frame::rst(stream, 8).bytes()].concat()
    })
    .await;
    theirs.answer(&asked, "204", Say::default()).await;
    assert_eq!(ours.answered(true).await.line, "204");
    loop {
        let flow = setup.flow().await;
        if flow.state == State::Complete {
            break;
        }
        assert_eq!(flow.error.unwrap().side, Side::Client);
    }
}
