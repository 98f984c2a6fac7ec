//! Whatever a stranger sends as HTTP/2, the proxy lives, every connection ends or answers, and nothing is smuggled (wire
//! cases §5.11).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use manent::flow::{Kind, State};
use manent::store::{ListQuery, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::expect_served;
use crate::conformance::random_messages::Random;
use crate::harness::h2::{
    ACK, END_HEADERS, END_STREAM, Frame, MORE, NAME, PREFACE, code, hpack, kind, setting,
};
use crate::harness::{Peer, Setup, TlsOrigin, soon};

fn block(method: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", "/")];
    hpack::encode(&[&pseudo[..], extra].concat())
}

/// A client's frames that make sense: a few requests, and what a connection has besides.
fn conversation(random: &mut Random) -> Vec<Frame> {
    let mut frames = vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 70_000)])];
    for at in 0..=random.below(4) {
        let stream = u32::try_from(at).unwrap() * 2 + 1;
        match random.below(5) {
            0 => frames.push(Frame::headers(
                stream,
                END_STREAM,
                block("GET", &[("cookie", "a"), ("cookie", "b")]),
            )),
            1 => {
                frames
                    .push(Frame::headers(stream, MORE, block("POST", &[("content-length", "6")])).padded(3));
                frames.push(Frame::data(stream, MORE, "abc").padded(9));
                frames.push(Frame::data(stream, END_STREAM, "def"));
            }
            2 => {
                frames.push(Frame::headers(stream, MORE, block("PUT", &[("te", "trailers")])).prioritized(0));
                frames.push(Frame::data(stream, MORE, "GET / HTTP/1.1\r\n\r\n"));
                frames.push(Frame::headers(stream, END_STREAM, hpack::encode(&[("x-sum", "1")])));
            }
            3 => {
                let block = block("HEAD", &[("x", "y")]);
                frames.push(Frame::new(kind::HEADERS, END_STREAM, stream, &block[..9]));
                frames.push(Frame::continuation(stream, MORE, &block[9..20]));
                frames.push(Frame::continuation(stream, END_HEADERS, &block[20..]));
            }
            _ => {
                frames.push(Frame::headers(stream, MORE, block("POST", &[])));
                frames.push(Frame::rst(stream, code::CANCEL));
            }
        }
        match random.below(6) {
            0 => frames.push(Frame::ping(0, [7; 8])),
            1 => frames.push(Frame::window_update(stream, 1000)),
            2 => frames.push(Frame::priority(stream, 0)),
            3 => frames.push(Frame::settings_ack()),
            4 => frames.push(Frame::new(0x42, 0xff, stream, "unknown")),
            _ => {}
        }
    }
    frames
}

/// Swaps, doubles or drops a frame, or changes its type, flags or stream.
fn disorder(random: &mut Random, frames: &mut Vec<Frame>) {
    for _ in 0..random.below(3) {
        let (one, other) = (random.below(frames.len()), random.below(frames.len()));
        match random.below(6) {
            0 => frames.swap(one, other),
            1 => frames.insert(other, frames[one].clone()),
            2 if frames.len() > 1 => drop(frames.remove(one)),
            3 => frames[one].kind = u8::try_from(random.below(11)).unwrap(),
            4 => frames[one].flags ^= 1 << random.below(6),
            _ => frames[one].stream = u32::try_from(random.below(8)).unwrap(),
        }
    }
}

/// The bytes of a conversation, some of them wrong.
fn bytes(random: &mut Random, mut frames: Vec<Frame>, preface: &[u8]) -> Vec<u8> {
    if random.below(2) == 0 {
        disorder(random, &mut frames);
    }
    let mut bytes: Vec<u8> = preface.iter().copied().chain(frames.iter().flat_map(Frame::bytes)).collect();
    if random.below(2) == 0 {
        random.mutate(&mut bytes);
    }
    bytes
}

/// Sends `bytes` in pieces, ends our direction, and reads to the end.
async fn play(peer: Peer, bytes: &[u8], random: &mut Random) {
    let mut io = peer.into_io();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len().min(200)));
        rest = after;
        // A peer that was told too much may have gone.
        if soon("room to send", io.write_all(piece)).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = io.shutdown().await;
    // An end is an end, however it comes.
    let _ = soon("the end of a peer", io.read_to_end(&mut Vec::new())).await;
}

/// A proxy with little patience: what waits for a peer that says no more ends soon.
async fn impatient() -> (Setup, TlsOrigin) {
    let ca = crate::harness::TestCa::new();
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.timeouts.relay_idle = Duration::from_millis(300);
        config.timeouts.head = Duration::from_millis(300);
        config.timeouts.idle = Duration::from_millis(300);
    })
    .await;
    (setup, TlsOrigin::speaking(&ca, crate::harness::h2::Speaks::Http2).await)
}

fn tunnel_to(origin: &TlsOrigin) -> String {
    format!("127.0.0.1:{}", origin.addr().port())
}

/// What reaches an independent origin is recorded, each request once; the proxy outlives all of it.
#[tokio::test]
async fn the_proxy_outlives_300_random_clients() {
    let (setup, origin) = impatient().await;
    let seen = AtomicUsize::new(0);
    let seen = Arc::new(seen);
    let serving = async {
        let mut connections = JoinSet::new();
        loop {
            let Ok(peer) = origin.try_accept().await else { continue };
            let counting = Arc::clone(&seen);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                counting.fetch_add(1, Ordering::Relaxed);
                async move {
                    // A body may be cut.
                    let _ = request.into_body().collect().await;
                    Ok::<_, Infallible>(hyper::Response::new(String::from("ok")))
                }
            });
            connections.spawn(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(peer.into_io()), service),
            );
        }
    };
    let playing = async {
        for seed in 0..300 {
            let mut random = Random(seed * 7919 + 1);
            let frames = conversation(&mut random);
            let bytes = bytes(&mut random, frames, PREFACE);
            let client = setup.tls_client(&tunnel_to(&origin), NAME, &["h2"]).await.unwrap();
            play(client, &bytes, &mut random).await;
        }
    };
    tokio::select! {
        () = playing => {}
        () = serving => unreachable!("the origin goes on"),
    }
    expect_served(&setup).await;
    let (_dir, config, summary) = setup.stop().await;
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert_eq!((rows.len() as u64, summary.lost), (summary.stored, 0));
    assert!(rows.iter().all(|row| row.state != State::Open && row.state != State::Interrupted));
    // So does a flow end whose task has panicked.
    let torn =
        rows.iter().filter_map(|row| row.error.as_deref()).find(|error| error.contains("ended by the proxy"));
    assert_eq!(torn, None);
    let sent = rows.iter().filter(|row| row.server_conn.is_some() && row.kind == Kind::Http).count();
    let answered = rows.iter().filter(|row| row.status == Some(200)).count();
    let seen = seen.load(Ordering::Relaxed) + 1;
    assert!(answered <= seen && seen <= sent, "{answered} answered, {seen} seen, {sent} sent");
    assert!(answered > 100, "only {answered} of {sent} make sense");
}

/// The other side: an origin's frames, right and wrong. The client always gets an answer, a reset or an end.
#[tokio::test]
async fn the_proxy_outlives_200_random_origins() {
    let (setup, origin) = impatient().await;
    for seed in 0..200 {
        let mut random = Random(seed * 104_729 + 1);
        let head = |fields: &[(&str, &str)]| Frame::headers(1, MORE, hpack::encode(fields));
        let mut frames =
            vec![Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 9)]), Frame::settings_ack()];
        if random.below(3) == 0 {
            frames.push(head(&[(":status", "103"), ("link", "</a>")]));
        }
        frames.push(head(&[(":status", "200"), ("content-length", "6")]).padded(2));
        frames.push(Frame::data(1, MORE, "abc").padded(9));
        if random.below(2) == 0 {
            frames.push(Frame::data(1, END_STREAM, "def"));
        } else {
            frames.push(Frame::data(1, MORE, "def"));
            frames.push(Frame::headers(1, END_STREAM, hpack::encode(&[("x-sum", "1")])));
        }
        frames.push(Frame::goaway(1, code::NO_ERROR));
        frames.push(Frame::ping(ACK, [0; 8]));
        let bytes = bytes(&mut random, frames, b"");
        let mut cuts = Random(seed);
        let answering = async {
            loop {
                play(origin.settle().await, &bytes, &mut cuts).await;
            }
        };
        let asking = async {
            let mut client = setup.h2_client(&origin, &[]).await;
            client.get(1, "/").await;
            client.over(1).await;
        };
        tokio::select! {
            () = asking => {}
            () = answering => unreachable!("the origin goes on"),
        }
    }
    expect_served(&setup).await;
    let (_dir, config, summary) = setup.stop().await;
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert_eq!((rows.len() as u64, summary.lost), (summary.stored, 0));
    assert!(rows.iter().all(|row| row.state != State::Open && row.state != State::Interrupted));
    let torn =
        rows.iter().filter_map(|row| row.error.as_deref()).find(|error| error.contains("ended by the proxy"));
    assert_eq!(torn, None);
    assert!(rows.iter().filter(|row| row.state == State::Complete).count() > 50);
}
