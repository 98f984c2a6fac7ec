//! WebSockets that go on for long: readable while they do, flat in memory, and what a killed proxy leaves of them.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use manent::flow::{BodyEnd, Mid, Opcode, State};
use manent::record::{Recorder, RecorderOptions};
use manent::store::Reader;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{
    Origin, Peer, Setup, accepting, brief, ending, frame, is_alone, masked, memory, opening, soon,
};

/// Waits until so many messages of a flow are stored. They are not announced, so it looks again and again.
async fn stored(store: &Path, mid: Mid, count: u64) {
    let reader = Reader::open(store).unwrap();
    soon("messages to be stored", async {
        while reader.last_message(mid).unwrap() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The flow is there as open as soon as the protocol has changed, and messages as they pass.
#[tokio::test]
async fn an_open_websocket_is_readable() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let flow = setup.open_flow().await;
    assert_eq!((flow.state, flow.response.as_ref().map(|r| r.status)), (State::Open, Some(101)));
    for text in ["one", "two"] {
        client.send(masked(0x81, text)).await;
        server.expect(masked(0x81, text)).await;
    }
    stored(&setup.config.store, flow.mid.unwrap(), 2).await;
    assert_eq!(setup.said(&flow)[1], ("client", Opcode::Text, b"two".to_vec()));
    drop((client, server));
    let ended = setup.flow().await;
    assert_eq!((ending(&ended), ended.mid), ((State::Complete, None), flow.mid));
}

/// `--body-limit` holds for each message; what passes is whole.
#[tokio::test]
async fn a_limit_cuts_the_record_of_messages_not_what_passes() {
    for (limit, recorded) in [(0, ""), (3, "abc"), (5_000, "abcd")] {
        let (mut setup, origin) =
            (Setup::with(|config| config.body_limit = Some(limit)).await, Origin::listen().await);
        let (mut client, mut server) = setup.websocket(&origin, "").await;
        let large = vec![b'x'; 9_000];
        for message in [masked(0x82, "abcd"), masked(0x89, "abcd"), masked(0x82, &large)] {
            client.send(&message).await;
            server.expect(&message).await;
        }
        drop((client, server));
        let flow = setup.flow().await;
        let reader = Reader::open(&setup.config.store).unwrap();
        let rows = reader.messages(flow.mid.unwrap(), 0, 10).unwrap();
        let content = |at: usize| {
            let mut bytes = Vec::new();
            reader.content(&rows[at].content).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!((content(0), content(1)), (recorded.into(), recorded.into()));
        assert_eq!(content(2), vec![b'x'; usize::try_from(limit).unwrap()]);
        assert_eq!((rows[0].len, rows[1].len, rows[2].len), (4, 4, 9_000));
        let whole = if limit < 4 { BodyEnd::Capped } else { BodyEnd::Whole };
        assert_eq!((rows[0].end, rows[1].end, rows[2].end), (whole, whole, BodyEnd::Capped));
    }
}

/// More than may wait for the disk, as fast as it goes: all passes, and all is stored, in order.
#[tokio::test]
async fn a_flood_of_messages_is_stored_whole() {
    const COUNT: u32 = 24_000;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let text = |n: u32| format!("{n:0500}");
    let all: Vec<u8> = (0..COUNT).flat_map(|n| frame(0x81, text(n))).collect();
    tokio::join!(server.send(&all), client.expect(&all));
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let said = setup.said(&flow);
    assert!(said.iter().map(|said| &said.2[..]).eq((0..COUNT).map(text).map(String::into_bytes)));
}

/// 200,000 messages on one connection need no more memory than 20,000.
#[tokio::test]
async fn memory_does_not_grow_with_messages() {
    if !is_alone("websocket::memory_does_not_grow_with_messages") {
        return;
    }
    const PART: u64 = 20_000;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let (up, down) = (masked(0x81, "hello there"), frame(0x82, "hello back"));
    let (ups, downs) = (up.repeat(1000), down.repeat(1000));
    let mut before = 0;
    for part in 1..=10 {
        for _ in 0..PART / 2000 {
            tokio::join!(client.send(&ups), server.expect(&ups));
            tokio::join!(server.send(&downs), client.expect(&downs));
        }
        stored(&setup.config.store, Mid(1), part * PART).await;
        if part == 1 {
            before = memory("VmRSS:");
        }
    }
    let grown = memory("VmRSS:").saturating_sub(before);
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(
        (ending(&flow), flow.websocket.unwrap().messages_from_server),
        ((State::Complete, None), 5 * PART)
    );
    let stats = setup.recorder().stats();
    assert_eq!((stats.messages, stats.lost_messages), (10 * PART, 0));
    assert!(grown < 24 << 20, "180,000 messages took {grown} bytes of memory");
}

/// A message of 64 MiB goes to segments as it comes.
#[tokio::test]
async fn memory_does_not_grow_with_the_length_of_a_message() {
    if !is_alone("websocket::memory_does_not_grow_with_the_length_of_a_message") {
        return;
    }
    const PIECE: usize = 1 << 20;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let piece = vec![7; PIECE];
    let before = memory("VmRSS:");
    let head = [&[0x82, 127][..], &(64 * PIECE as u64).to_be_bytes()].concat();
    server.send(&head).await;
    client.expect(&head).await;
    for _ in 0..64 {
        tokio::join!(server.send(&piece), client.expect(&piece));
    }
    let grown = memory("VmHWM:") - before;
    drop((client, server));
    let flow = setup.flow().await;
    let messages = setup.messages(&flow);
    assert_eq!((ending(&flow), messages[0].len), ((State::Complete, None), 64 << 20));
    assert!(grown < 40 << 20, "a message of 64 MiB took {grown} bytes of memory");
}

/// WS-16: a proxy that is killed has lost at most the messages of its last groups; those before are there, in order.
#[tokio::test]
async fn a_killed_proxy_leaves_the_messages_that_were_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("flows.db");
    let (mut proxy, addr) = start_binary(dir.path(), &[]).await;
    let origin = Origin::listen().await;
    let mut client = Peer::connect(addr.parse().unwrap()).await;
    client.send(origin.fill(opening("http://{addr}/chat"))).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(accepting("")).await;
    client.head().await;
    let text = |n: u64| format!("message {n}");
    for n in 1..=1000 {
        client.send(masked(0x81, text(n))).await;
        server.expect(masked(0x81, text(n))).await;
    }
    // 1,000 make a group, and the rest does not wait long; then some of which nobody knows.
    stored(&store, Mid(1), 1000).await;
    for n in 1001..=1100 {
        client.send(masked(0x81, text(n))).await;
    }
    proxy.kill().await.unwrap();
    let recorder = Recorder::open(&store, RecorderOptions::default()).await.unwrap();
    let flow = recorder.collect(Mid(1)).await.unwrap().unwrap();
    assert_eq!((flow.state, flow.response.unwrap().status), (State::Interrupted, 101));
    recorder.close().await.unwrap();
    let messages = Reader::open(&store).unwrap().messages(Mid(1), 0, usize::MAX).unwrap();
    assert!(messages.len() >= 1000, "{} of 1,000 acknowledged", messages.len());
    for (n, message) in (1..).zip(&messages) {
        assert_eq!((message.seq, brief(message)), (n, ("client", Opcode::Text, text(n).into_bytes())));
    }
}

/// `manent capture` with its store in `dir`, and where it listens.
pub(crate) async fn start_binary(dir: &Path, flags: &[&str]) -> (Child, String) {
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_manent"))
        .args(["capture", "-q", "-l", "127.0.0.1:0", "-s"])
        .arg(dir.join("flows.db"))
        .arg("--ca-dir")
        .arg(dir.join("ca"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(proxy.stderr.take().unwrap()).lines();
    let addr = soon("the proxy to listen", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if let Some((_, addr)) = line.split_once("listening on ") {
                return addr.split_whitespace().next().unwrap().to_owned();
            }
        }
    })
    .await;
    (proxy, addr)
}
