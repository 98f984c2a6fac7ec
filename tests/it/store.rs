//! What the store holds of what passed: whole bodies in bounded memory, no credentials, and what becomes of traffic when
//! it cannot take any more.

use std::io::Read as _;
use std::path::Path;

use manent::flow::{BodyEnd, Content, Flow, State};

use crate::harness::{GET, OK, Origin, Peer, Setup, is_alone, memory, soon};

/// Byte `at` of the large bodies here.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}

const LEN: u64 = 64 << 20;
const PIECE: u64 = 1 << 20;

async fn send_large(peer: &mut Peer) {
    for piece in 0..LEN / PIECE {
        let piece: Vec<u8> = (piece * PIECE..(piece + 1) * PIECE).map(byte).collect();
        peer.send(&piece).await;
    }
}

async fn expect_large(peer: &mut Peer) {
    for piece in 0..LEN / PIECE {
        let seen = peer.read(usize::try_from(PIECE).unwrap()).await;
        assert!(seen.iter().zip(piece * PIECE..).all(|(&seen, at)| seen == byte(at)));
    }
}

/// `body.large`: down and up, through segments, whole, and in constant memory.
#[tokio::test]
async fn large_bodies_are_recorded_whole_in_bounded_memory() {
    if !is_alone("store::large_bodies_are_recorded_whole_in_bounded_memory") {
        return;
    }
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.expect_alive().await;
    let before = memory("VmRSS:");
    let put = format!("PUT http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {LEN}\r\n\r\n");
    let (mut client, mut server) = setup.asked(&origin, put).await;
    tokio::join!(send_large(&mut client), expect_large(&mut server));
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
    client.head().await;
    tokio::join!(send_large(&mut server), expect_large(&mut client));
    let grown = memory("VmHWM:") - before;
    let path = setup.config.store.clone();
    let (_dir, ..) = setup.stop().await;
    let reader = manent::store::Reader::open(&path).unwrap();
    let flow = reader.flow(manent::flow::Mid(2)).unwrap().unwrap();
    assert_eq!(flow.state, State::Complete);
    for body in [flow.request.unwrap().body, flow.response.unwrap().body] {
        assert_eq!((body.len, body.end), (LEN, BodyEnd::Whole));
        let mut at = 0;
        for seen in std::io::BufReader::new(reader.body(&body).unwrap()).bytes() {
            assert_eq!(seen.unwrap(), byte(at), "at {at}");
            at += 1;
        }
        assert_eq!(at, LEN);
    }
    assert!(grown < 40 << 20, "{grown} bytes more for {LEN} each way");
}

/// Where a body stops to be part of its record: one byte less, just as much, one byte more, in one piece and in many.
#[tokio::test]
async fn bodies_around_the_inline_limit_are_recorded_whole() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let limit = setup.recorder().inline_limit();
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    for (len, pieces) in
        [(limit - 1, 1), (limit, 1), (limit + 1, 1), (limit, 7), (limit + 1, 7), (4 * limit, 400)]
    {
        let body: Vec<u8> = (0..len as u64).map(byte).collect();
        client.send(origin.fill(GET)).await;
        server.head().await;
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n")).await;
        client.head().await;
        for piece in body.chunks(len.div_ceil(pieces)) {
            server.send(piece).await;
            client.expect(piece).await;
        }
        let mid = setup.flow().await.mid.unwrap();
        let reader = manent::store::Reader::open(&setup.config.store).unwrap();
        let kept = reader.flow(mid).unwrap().unwrap().response.unwrap().body;
        assert_eq!(matches!(kept.content, Content::Inline(_)), len <= limit, "{len}");
        let loaded = reader.load(mid, 1 << 20).unwrap().unwrap().response.unwrap().body;
        assert_eq!((loaded.as_inline().unwrap(), loaded.end), (&body.into(), BodyEnd::Whole));
    }
}

/// Whether any file below `dir` holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| {
        match entry.file_type().unwrap().is_dir() {
            true => holds(&entry.path(), bytes),
            false => std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|w| w == bytes),
        }
    })
}

/// Threat 13: credentials for the proxy go neither to an origin nor into the store, however the request that brings them
/// ends. Those for an origin are part of what is recorded.
#[tokio::test]
async fn credentials_for_the_proxy_are_stored_nowhere() {
    const SECRET: &str = "c2VjcmV0LWNhbmFyeQ";
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup
        .begin(
            &origin,
            format!(
                "POST http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\nAuthorization: Basic kept-canary\r\nproxy-AUTHORIZATION: \
                 Basic {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nProxy-Authorization: Basic {SECRET}\r\n\r\n"
            ),
        )
        .await;
    let head = server.head().await;
    assert!(head.contains("kept-canary") && !head.contains(SECRET) && !head.contains("roxy-"), "{head}");
    server.expect("0\r\n\r\n").await;
    server.send(OK).await;
    client.expect(OK).await;
    for bad in [
        format!("GET / HTTP/1.1\r\nProxy-Authorization: Basic {SECRET}\r\nbad name: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nProxy-Authorization:\r\n Basic {SECRET}\r\n\r\n"),
        format!("GET / HTTP/1.1\nproxy-authorization : Basic {SECRET}\n\n"),
        format!("CONNECT nowhere.invalid:0 HTTP/1.1\r\nProxy-Authorization: Basic {SECRET}\r\n\r\n"),
        format!("GET http://x.invalid/ HTTP/1.1\r\nProxy-Authorization: Basic {SECRET}"),
    ] {
        let mut client = setup.client().await;
        client.send(bad).await;
        client.half_close().await;
        client.drain().await;
    }
    // While the WAL is there, and when it is not.
    assert!(!holds(setup.dir.path(), SECRET.as_bytes()));
    let (dir, _, summary) = setup.stop().await;
    assert_eq!(summary.stored, 6);
    assert!(!holds(dir.path(), SECRET.as_bytes()) && holds(dir.path(), b"kept-canary"));
}

/// Takes the store's table away, or gives it back: every commit fails in between.
fn rename(path: &Path, from: &str, to: &str) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    db.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
}

/// A request and its answer's first line.
async fn ask(setup: &Setup, origin: &Origin) -> String {
    let mut client = setup.client().await;
    client.send(origin.fill(GET)).await;
    let serve = async {
        let mut server = origin.accept().await;
        server.head().await;
        server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        head = client.head() => head,
        () = serve => unreachable!(),
    }
}

/// Threat 24: traffic goes on, and what was lost is counted; then recording goes on, too.
#[tokio::test]
async fn traffic_goes_on_when_the_store_fails() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    rename(&setup.config.store, "flow", "flow_away");
    for _ in 0..3 {
        assert!(ask(&setup, &origin).await.starts_with("HTTP/1.1 204 "));
    }
    soon("the loss to be noticed", async {
        while setup.recorder().stats().lost < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rename(&setup.config.store, "flow_away", "flow");
    assert_eq!(setup.expect_alive().await.state, State::Complete);
    let (_dir, _, summary) = setup.stop().await;
    assert_eq!((summary.stored, summary.lost), (1, 3));
}

/// With `--require-recording` nothing passes unrecorded, neither requests nor tunnels, until it works again.
#[tokio::test]
async fn requests_are_refused_when_recording_is_required_and_fails() {
    let mut setup = Setup::with(|config| config.require_recording = true).await;
    let origin = Origin::listen().await;
    rename(&setup.config.store, "flow", "flow_away");
    assert!(ask(&setup, &origin).await.starts_with("HTTP/1.1 204 "));
    soon("the failure to be noticed", async {
        while !setup.recorder().is_failing() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for request in [GET, "CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n"] {
        let mut client = setup.client().await;
        client.send(origin.fill(request)).await;
        let answer = client.expect_error("503 Service Unavailable\r\n").await;
        assert!(answer.contains("proxy request head: recording does not work"), "{answer}");
    }
    origin.expect_nobody();
    rename(&setup.config.store, "flow_away", "flow");
    // The refusal of this one is the first to be stored again.
    let refused = refused_then_stored(&mut setup, &origin).await;
    assert_eq!((refused.state, refused.response.unwrap().status), (State::Refused, 503));
    assert!(ask(&setup, &origin).await.starts_with("HTTP/1.1 204 "));
}

async fn refused_then_stored(setup: &mut Setup, origin: &Origin) -> Flow {
    let mut client = setup.client().await;
    client.send(origin.fill(GET)).await;
    client.expect_error("503 Service Unavailable\r\n").await;
    setup.flow().await
}
