//! What a client may not do, by section of RFC 9113 and RFC 7541: for each, the frames, and what has to come of it. The cases
//! are those of a well-known conformance suite, in our own words (wire cases H2-23, H2-42, H2-44).
//!
//! A connection error is judged by its GOAWAY and a stream error by its RST_STREAM; where the RFC lets an endpoint make one
//! of the other, or choose between codes, both will do. Three leniences are not the RFC's: the `h2` crate says PROTOCOL_ERROR
//! where a frame's length is wrong, where a header block cannot be decoded, and where DATA comes on a half-closed stream,
//! though §4.2, §4.3, §5.1 and §6 ask for FRAME_SIZE_ERROR, COMPRESSION_ERROR and STREAM_CLOSED. The connection ends in each
//! case.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::expect_served;
use crate::harness::h2::{
    ACK, END_HEADERS, END_STREAM, Event, Frame, H2, MORE, NAME, PADDED, Refusal, code, hpack, kind, setting,
};
use crate::harness::{Setup, TlsOrigin};

/// What has to come of a case.
enum Outcome {
    /// GOAWAY with one of these codes.
    Connection(&'static [u32]),
    /// RST_STREAM of stream 1 with one of these codes, or GOAWAY with one.
    Stream(&'static [u32]),
    /// As before, or that the frame is passed over (RFC 9113 §5.1 on streams that were reset, §5.3 on priorities).
    StreamOrNothing(&'static [u32]),
    /// Stream 1 is answered.
    Answered,
}
use Outcome::{Answered, Connection, Stream, StreamOrNothing};

/// A case: its section and what is done; frames; and frames that follow once stream 1 was answered.
struct Case {
    what: &'static str,
    first: Vec<Frame>,
    then: Vec<Frame>,
    outcome: Outcome,
}

fn case(what: &'static str, first: impl Into<Vec<Frame>>, outcome: Outcome) -> Case {
    Case { what, first: first.into(), then: Vec::new(), outcome }
}

fn after_answer(what: &'static str, then: impl Into<Vec<Frame>>, outcome: Outcome) -> Case {
    Case { what, first: vec![get(1)], then: then.into(), outcome }
}

const PROTOCOL: &[u32] = &[code::PROTOCOL_ERROR];
const SIZE: &[u32] = &[code::FRAME_SIZE_ERROR, code::PROTOCOL_ERROR];
const COMPRESSION: &[u32] = &[code::COMPRESSION_ERROR, code::PROTOCOL_ERROR];
const FLOW: &[u32] = &[code::FLOW_CONTROL_ERROR];
const FLOW_OR_PROTOCOL: &[u32] = &[code::FLOW_CONTROL_ERROR, code::PROTOCOL_ERROR];
const CLOSED: &[u32] = &[code::STREAM_CLOSED];
const CLOSED_OR_PROTOCOL: &[u32] = &[code::STREAM_CLOSED, code::PROTOCOL_ERROR];

fn block(method: &str) -> Vec<u8> {
    hpack::encode(&[(":method", method), (":scheme", "https"), (":authority", NAME), (":path", "/")])
}

fn get(stream: u32) -> Frame {
    Frame::headers(stream, END_STREAM, block("GET"))
}

/// A request whose body is to come.
fn post(stream: u32) -> Frame {
    Frame::headers(stream, MORE, block("POST"))
}

/// A request whose head ends with these bytes.
fn ending_in(bytes: &[u8]) -> Frame {
    Frame::headers(1, END_STREAM, [&block("GET")[..], bytes].concat())
}

/// Sends the frames as they are, and reads what comes of them.
async fn play(client: &mut H2, case: Case) {
    let what = case.what;
    for frame in case.first {
        client.try_send(frame).await;
    }
    if !case.then.is_empty() {
        client.expect_ok(1).await;
        for frame in case.then {
            client.try_send(frame).await;
        }
    }
    match case.outcome {
        Answered => {
            let wanted = |event: &Event| !matches!(event, Event::Other(_));
            let got = client.find(what, wanted).await;
            assert!(
                matches!(&got, Event::Head(head) if head.stream == 1 && head.status() == "200"),
                "{what}: {got:?}"
            );
        }
        Connection(codes) => {
            let refusal = client.refusal(u32::MAX).await;
            assert!(
                matches!(refusal, Refusal::Connection(code) if codes.contains(&code)),
                "{what}: {refusal:?}"
            );
            client.ended().await;
        }
        Stream(codes) => {
            let refusal = client.refusal(1).await;
            assert!(allows(codes, refusal), "{what}: {refusal:?}");
        }
        StreamOrNothing(codes) => {
            client.try_send(Frame::ping(0, *b"anything")).await;
            let over = |client: &H2| client.pongs.contains(b"anything") || client.aside().any(is_refusal);
            client.until_or_end(what, over).await;
            if client.aside().any(is_refusal) {
                let refusal = client.refusal(1).await;
                assert!(allows(codes, refusal), "{what}: {refusal:?}");
            }
        }
    }
}

fn allows(codes: &[u32], refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Stream(code) | Refusal::Connection(code) if codes.contains(&code))
}

fn is_refusal(event: &Event) -> bool {
    matches!(event, Event::Rst { stream: 1, .. } | Event::End)
        || matches!(event, Event::Goaway { code: 1.., .. })
}

/// Plays all cases, each as a client of its own, against an origin that is another implementation and answers everything.
/// No case may bring it a request that is not recorded.
async fn play_all(cases: Vec<Case>) {
    let (setup, origin) = Setup::h2_origin().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let playing = async {
        for case in cases {
            let mut client = setup.h2_client(&origin, &[]).await;
            play(&mut client, case).await;
        }
        let mut client = setup.h2_client(&origin, &[]).await;
        client.get(1, "/").await;
        client.expect_ok(1).await;
    };
    tokio::select! {
        () = playing => {}
        () = answer(&origin, &seen) => unreachable!("the origin goes on"),
    }
    expect_served(&setup).await;
    let (_dir, _config, summary) = setup.stop().await;
    let seen = seen.load(Ordering::Relaxed) as u64;
    assert!(
        seen > 0 && seen <= summary.stored && summary.lost == 0,
        "{seen} seen, {} stored",
        summary.stored
    );
}

async fn answer(origin: &TlsOrigin, seen: &Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(peer) = origin.try_accept().await else { continue };
        let counting = Arc::clone(seen);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            counting.fetch_add(1, Ordering::Relaxed);
            async move {
                // A body that is cut is the case's own affair.
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(hyper::Response::new(String::from("ok")))
            }
        });
        let connection =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(peer.into_io()), service);
        connections.spawn(connection);
    }
}

/// RFC 9113 §4, §5: frames, and the states of streams.
#[tokio::test]
async fn frames_and_stream_states() {
    let half = |frame: Frame| vec![get(1), frame];
    let reset = |frame: Frame| vec![post(1), Frame::rst(1, code::CANCEL), frame];
    let mut flags = get(1);
    flags.flags |= 0x42;
    let mut reserved = get(1);
    reserved.stream |= 0x8000_0000;
    play_all(vec![
        case("4.1: a frame of unknown type", [Frame::new(0x16, 0, 0, [0; 8]), get(1)], Answered),
        case("4.1: flags that are not defined", [flags], Answered),
        case("4.1: the reserved bit", [reserved], Answered),
        case("4.2: DATA as large as it may be", [post(1), Frame::data(1, END_STREAM, [0; 16_384])], Answered),
        case("4.2: DATA that is larger", [post(1), Frame::data(1, END_STREAM, [0; 16_385])], Stream(SIZE)),
        case("4.2: HEADERS that are larger", [Frame::headers(1, END_STREAM, [0; 16_385])], Connection(SIZE)),
        case("4.3: a block that is none", [ending_in(&[0x40])], Connection(COMPRESSION)),
        case(
            "4.3: PRIORITY between the pieces of a block",
            [Frame::new(kind::HEADERS, END_STREAM, 1, block("GET")), Frame::priority(1, 0)],
            Connection(PROTOCOL),
        ),
        case(
            "4.3: HEADERS between the pieces of a block",
            [Frame::new(kind::HEADERS, END_STREAM, 1, block("GET")), get(3)],
            Connection(PROTOCOL),
        ),
        case(
            "5.1: DATA on an idle stream",
            [Frame::data(1, END_STREAM, "x")],
            Connection(CLOSED_OR_PROTOCOL),
        ),
        case("5.1: RST_STREAM on an idle stream", [Frame::rst(1, code::CANCEL)], Connection(PROTOCOL)),
        case("5.1: WINDOW_UPDATE on an idle stream", [Frame::window_update(1, 100)], Connection(PROTOCOL)),
        case(
            "5.1: CONTINUATION on an idle stream",
            [Frame::continuation(1, 4, block("GET"))],
            Connection(PROTOCOL),
        ),
        case("5.1: PRIORITY on an idle stream", [Frame::priority(1, 0), get(1)], Answered),
        case("5.1: DATA after the end", half(Frame::data(1, END_STREAM, "x")), Stream(CLOSED_OR_PROTOCOL)),
        case("5.1: HEADERS after the end", half(get(1)), Stream(CLOSED_OR_PROTOCOL)),
        case(
            "5.1: CONTINUATION after the end",
            half(Frame::continuation(1, 4, [])),
            Connection(CLOSED_OR_PROTOCOL),
        ),
        case("5.1: WINDOW_UPDATE after the end", half(Frame::window_update(1, 100)), Answered),
        case("5.1: PRIORITY after the end", half(Frame::priority(1, 0)), Answered),
        case("5.1: DATA after a reset", reset(Frame::data(1, END_STREAM, "x")), StreamOrNothing(CLOSED)),
        case("5.1: HEADERS after a reset", reset(get(1)), StreamOrNothing(CLOSED_OR_PROTOCOL)),
        case(
            "5.1: CONTINUATION after a reset",
            reset(Frame::continuation(1, 4, [])),
            Connection(CLOSED_OR_PROTOCOL),
        ),
        after_answer("5.1: DATA on a closed stream", [Frame::data(1, END_STREAM, "x")], Stream(CLOSED)),
        after_answer("5.1: HEADERS on a closed stream", [get(1)], Connection(CLOSED_OR_PROTOCOL)),
        after_answer(
            "5.1: CONTINUATION on a closed stream",
            [Frame::continuation(1, 4, [])],
            Connection(CLOSED_OR_PROTOCOL),
        ),
        after_answer(
            "5.1: WINDOW_UPDATE on a closed stream",
            [Frame::window_update(1, 1)],
            StreamOrNothing(CLOSED),
        ),
        after_answer("5.1: PRIORITY on a closed stream", [Frame::priority(1, 0)], StreamOrNothing(&[])),
        after_answer("5.1: RST_STREAM on a closed stream", [Frame::rst(1, 8)], StreamOrNothing(CLOSED)),
        case("5.1.1: a stream of a server's number", [get(2)], Connection(PROTOCOL)),
        case("5.1.1: a number below an earlier one", [get(5), get(3)], Connection(CLOSED_OR_PROTOCOL)),
        case("5.3.1: HEADERS that depend on themselves", [get(1).prioritized(1)], StreamOrNothing(PROTOCOL)),
        case(
            "5.3.1: PRIORITY that depends on itself",
            [post(1), Frame::priority(1, 1)],
            StreamOrNothing(PROTOCOL),
        ),
        case(
            "5.5: an unknown frame on a stream",
            [post(1), Frame::new(0x16, 0, 1, "x"), Frame::data(1, END_STREAM, "")],
            Answered,
        ),
        case(
            "5.5: an unknown frame between the pieces of a block",
            [Frame::new(kind::HEADERS, END_STREAM, 1, block("GET")), Frame::new(0x16, 0, 1, "x")],
            Connection(PROTOCOL),
        ),
    ])
    .await;
}

/// RFC 9113 §6.1 to §6.4, §6.10: frames on streams.
#[tokio::test]
async fn frames_on_streams() {
    let cut = |flags| Frame::new(kind::HEADERS, flags, 1, block("GET"));
    let mut overpadded = Frame::data(1, END_STREAM | PADDED, [9, 0, 0]);
    overpadded.payload[0] = 9;
    let padded_head = Frame::new(kind::HEADERS, END_STREAM | END_HEADERS | PADDED, 1, [200, 0, 0]);
    play_all(vec![
        case("6.1: DATA", [post(1), Frame::data(1, MORE, "a"), Frame::data(1, END_STREAM, "b")], Answered),
        case("6.1: DATA with padding", [post(1), Frame::data(1, END_STREAM, "a").padded(255)], Answered),
        case("6.1: DATA on stream 0", [Frame::data(0, END_STREAM, "x")], Connection(PROTOCOL)),
        case("6.1: padding as long as the frame", [post(1), overpadded], Connection(PROTOCOL)),
        case(
            "6.1: padding without a length",
            [post(1), Frame::new(kind::DATA, PADDED, 1, [])],
            Connection(SIZE),
        ),
        case("6.2: HEADERS with padding", [get(1).padded(9)], Answered),
        case("6.2: HEADERS with a priority", [get(1).prioritized(0)], Answered),
        case("6.2: HEADERS on stream 0", [get(0)], Connection(PROTOCOL)),
        case("6.2: padding as long as the head", [padded_head], Connection(PROTOCOL)),
        case("6.3: PRIORITY on stream 0", [Frame::priority(0, 1)], Connection(PROTOCOL)),
        case(
            "6.3: PRIORITY of a wrong length",
            [post(1), Frame::new(kind::PRIORITY, 0, 1, [0; 4])],
            Stream(SIZE),
        ),
        case("6.4: RST_STREAM on stream 0", [Frame::rst(0, code::CANCEL)], Connection(PROTOCOL)),
        case(
            "6.4: RST_STREAM of a wrong length",
            [post(1), Frame::new(kind::RST_STREAM, 0, 1, [0; 3])],
            Connection(SIZE),
        ),
        case(
            "6.6: PUSH_PROMISE of a client",
            [post(1), Frame::push_promise(1, 2, block("GET"))],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION",
            [
                Frame::new(kind::HEADERS, END_STREAM, 1, &block("GET")[..5]),
                Frame::continuation(1, MORE, &block("GET")[5..5]),
                Frame::continuation(1, END_HEADERS, &block("GET")[5..]),
            ],
            Answered,
        ),
        case(
            "6.10: DATA in place of CONTINUATION",
            [cut(END_STREAM), Frame::data(1, END_STREAM, "x")],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION on stream 0",
            [cut(END_STREAM), Frame::continuation(0, 4, [])],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION of another stream",
            [cut(END_STREAM), Frame::continuation(3, 4, [])],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION of what has ended",
            [post(1), Frame::continuation(1, 4, [])],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION after the last one",
            [cut(MORE), Frame::continuation(1, 4, []), Frame::continuation(1, 4, [])],
            Connection(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION after DATA",
            [post(1), Frame::data(1, MORE, "x"), Frame::continuation(1, 4, [])],
            Connection(PROTOCOL),
        ),
        case("8.1: a second head", [post(1), post(1)], Stream(PROTOCOL)),
        case(
            "8.1: trailers",
            [post(1), Frame::data(1, MORE, "x"), Frame::headers(1, END_STREAM, hpack::encode(&[("a", "b")]))],
            Answered,
        ),
        case(
            "8.1: capitals in trailers",
            [post(1), Frame::headers(1, END_STREAM, hpack::encode(&[("A", "b")]))],
            Stream(PROTOCOL),
        ),
        case(
            "8.4: PUSH_PROMISE on stream 0",
            [Frame::push_promise(0, 2, block("GET"))],
            Connection(PROTOCOL),
        ),
    ])
    .await;
}

/// RFC 9113 §6.5 to §6.9, §7: frames on the connection.
#[tokio::test]
async fn frames_on_the_connection() {
    let set = |id, value| Frame::settings(&[(id, value)]);
    let most = 0x7fff_ffff;
    play_all(vec![
        case("6.5: SETTINGS", [set(setting::MAX_CONCURRENT_STREAMS, 7), get(1)], Answered),
        case("6.5: SETTINGS on a stream", [Frame::new(kind::SETTINGS, 0, 1, [])], Connection(PROTOCOL)),
        case("6.5: SETTINGS of a wrong length", [Frame::new(kind::SETTINGS, 0, 0, [0; 3])], Connection(SIZE)),
        case(
            "6.5: an acknowledgement with settings",
            [Frame::new(kind::SETTINGS, ACK, 0, [0; 6])],
            Connection(SIZE),
        ),
        case("6.5.2: ENABLE_PUSH of 2", [set(setting::ENABLE_PUSH, 2)], Connection(PROTOCOL)),
        case(
            "6.5.2: a window that is too large",
            [set(setting::INITIAL_WINDOW_SIZE, most + 1)],
            Connection(FLOW_OR_PROTOCOL),
        ),
        case(
            "6.5.2: a frame size that is too small",
            [set(setting::MAX_FRAME_SIZE, 16_383)],
            Connection(PROTOCOL),
        ),
        case(
            "6.5.2: a frame size that is too large",
            [set(setting::MAX_FRAME_SIZE, 1 << 24)],
            Connection(PROTOCOL),
        ),
        case("6.5.2: a setting that is unknown", [set(0xff, 1), get(1)], Answered),
        case("6.5.2: a window that is set twice", [Frame::settings(&[(4, 0), (4, 100)]), get(1)], Answered),
        case("6.7: PING", [Frame::ping(0, [1; 8]), get(1)], Answered),
        case("6.7: a PING's answer that nobody asked for", [Frame::ping(ACK, [1; 8]), get(1)], Answered),
        case("6.7: PING on a stream", [Frame::new(kind::PING, 0, 1, [0; 8])], Connection(PROTOCOL)),
        case("6.7: PING of a wrong length", [Frame::new(kind::PING, 0, 0, [0; 6])], Connection(SIZE)),
        case("6.8: GOAWAY", [get(1), Frame::goaway(0, code::NO_ERROR)], Answered),
        case("6.8: GOAWAY on a stream", [Frame::new(kind::GOAWAY, 0, 1, [0; 8])], Connection(PROTOCOL)),
        case("6.8: GOAWAY of a wrong length", [Frame::new(kind::GOAWAY, 0, 0, [0; 7])], Connection(SIZE)),
        case("6.9: credit", [Frame::window_update(0, 1), get(1), Frame::window_update(1, 1)], Answered),
        case("6.9: credit of nothing for the connection", [Frame::window_update(0, 0)], Connection(PROTOCOL)),
        case("6.9: credit of nothing for a stream", [post(1), Frame::window_update(1, 0)], Stream(PROTOCOL)),
        case(
            "6.9: WINDOW_UPDATE of a wrong length",
            [Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 3])],
            Connection(SIZE),
        ),
        case(
            "6.9.1: too much credit for the connection",
            [Frame::window_update(0, most), Frame::window_update(0, most)],
            Connection(FLOW),
        ),
        case(
            "6.9.1: too much credit for a stream",
            [post(1), Frame::window_update(1, most), Frame::window_update(1, most)],
            Stream(FLOW),
        ),
        case(
            "6.9.2: a setting that makes a window too large",
            [post(1), Frame::window_update(1, most - 65_535), set(setting::INITIAL_WINDOW_SIZE, 65_536)],
            Stream(FLOW),
        ),
        case(
            "7: a reset with an unknown code",
            [get(3), Frame::rst(3, 0xff), get(5), Frame::ping(0, [0; 8])],
            StreamOrNothing(&[]),
        ),
        case("7: GOAWAY with an unknown code", [get(1), Frame::goaway(0, 0xff)], Answered),
    ])
    .await;
}

/// RFC 7541: header blocks.
#[tokio::test]
async fn header_blocks() {
    let name_and = |value: &[u8]| [&[0, 1, b'x'][..], value].concat();
    play_all(vec![
        case("6.1: an indexed field", [ending_in(&[0x80 | 15])], Answered),
        case("6.2.1: a literal that is indexed", [ending_in(&[0x40, 1, b'x', 1, b'y', 0x80 | 62])], Answered),
        case("6.2.1: a literal with an indexed name", [ending_in(&[0x40 | 16, 1, b'y'])], Answered),
        case("6.2.3: a literal that is never indexed", [ending_in(&[0x10, 1, b'x', 1, b'y'])], Answered),
        case("5.2: a Huffman-coded string", [ending_in(&name_and(&[0x82, 0x1c, 0x64]))], Answered),
        case(
            "6.3: the table's size",
            [Frame::headers(1, END_STREAM, [&[0x20][..], &block("GET")].concat())],
            Answered,
        ),
        case("2.3.3: an index beyond the tables", [ending_in(&[0x80 | 70])], Connection(COMPRESSION)),
        case(
            "2.3.3: a name's index beyond the tables",
            [ending_in(&[0x40 | 62, 1, b'y'])],
            Connection(COMPRESSION),
        ),
        case("4.2: the table's size at the end of a block", [ending_in(&[0x20])], Connection(COMPRESSION)),
        case(
            "5.1: an integer without end",
            [ending_in(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            Connection(COMPRESSION),
        ),
        case(
            "5.2: padding of more than 7 bits",
            [ending_in(&name_and(&[0x83, 0x1c, 0x64, 0xff]))],
            Connection(COMPRESSION),
        ),
        case("5.2: padding of zeros", [ending_in(&name_and(&[0x81, 0x18]))], Connection(COMPRESSION)),
        case(
            "5.2: EOS in a string",
            [ending_in(&name_and(&[0x84, 0xff, 0xff, 0xff, 0xff]))],
            Connection(COMPRESSION),
        ),
        case(
            "5.2: a string longer than the block",
            [ending_in(&name_and(&[0x7f, 0xff, 0x7f]))],
            Connection(COMPRESSION),
        ),
        case("6.1: index 0", [ending_in(&[0x80])], Connection(COMPRESSION)),
        case(
            "6.3: a size above the one that was set",
            [Frame::headers(1, END_STREAM, [&[0x3f, 0xe2, 0x1f][..], &block("GET")].concat())],
            Connection(COMPRESSION),
        ),
    ])
    .await;
}

/// RFC 9113 §3.4: what is no preface. (The library does not ask for SETTINGS as the first frame after it.)
#[tokio::test]
async fn a_preface_that_is_none_ends_the_connection() {
    let (setup, origin) = Setup::h2_origin().await;
    let settings = Frame::settings(&[(setting::ENABLE_PUSH, 0); 4]).bytes();
    for bytes in
        [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n", &settings]
    {
        let authority = format!("127.0.0.1:{}", origin.addr().port());
        let (client, _server) = tokio::join!(setup.tls_client(&authority, NAME, &["h2"]), async {
            tokio::time::timeout(std::time::Duration::from_millis(300), origin.try_accept()).await
        });
        let mut client = H2::new(client.unwrap(), false);
        client.send_bytes(bytes).await;
        let what = format!("the end after {}", bytes.escape_ascii());
        client.find(&what, |event| *event == Event::End).await;
        assert!(!client.aside().any(|event| matches!(event, Event::Head(_))), "{what}");
    }
    expect_served(&setup).await;
}
