//! `manent import` and `export`: what is the same for every format, and stores into stores.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use manent::flow::{
    Addr, Body, ClientConn, ConnId, Content, Flow, Message, Mid, Opcode, ServerConn, WebSocket,
};
use manent::store::{BodySide, Reader};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};
use crate::harness::PATIENCE;

/// Everything that a store has of a flow, with its bodies, but for what is its own: mids and ids.
pub(crate) fn whole(reader: &Reader, mid: u64) -> Flow {
    let mut flow = reader.load(Mid(mid), u64::MAX).unwrap().unwrap();
    flow.mid = None;
    flow.replay_of = None;
    Arc::make_mut(&mut flow.client).id.0 = 0;
    if let Some(server) = &mut flow.server {
        Arc::make_mut(server).id.0 = 0;
    }
    flow
}

fn large() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

fn message(seq: u64, payload: &[u8]) -> Message {
    let content = Content::Inline(payload.to_vec().into());
    Message {
        seq,
        from_client: seq % 2 == 1,
        opcode: Opcode::Text,
        len: payload.len() as u64,
        content,
        ..Message::default()
    }
}

/// A store with a large body, a WebSocket, connections that flows share, a replay and notes.
pub(crate) fn rich() -> Home {
    let home = Home::new();
    let recorder = home.recorder();
    home.runtime.block_on(async {
        let client = Arc::new(ClientConn {
            id: recorder.next_conn_id(),
            peer: Some(Addr { host: "127.0.0.1".to_owned(), port: 4000, ..Addr::default() }),
            ..ClientConn::default()
        });
        let server = Arc::new(ServerConn { id: recorder.next_conn_id(), ..ServerConn::default() });
        let with =
            |flow: Flow| Flow { client: Arc::clone(&client), server: Some(Arc::clone(&server)), ..flow };
        recorder.store(with(flow("/first", b"small"))).await.unwrap();
        recorder.store(with(flow("/large", &large()))).await.unwrap();
        recorder.store(Flow { replay_of: Some(Mid(2)), ..flow("/again", b"") }).await.unwrap();
        let mut ticket = recorder.admit().await;
        let mut socket = Flow {
            websocket: Some(Box::new(WebSocket {
                messages_from_client: 1,
                messages_from_server: 1,
                ..WebSocket::default()
            })),
            ..with(flow("/socket", b""))
        };
        ticket.write_open(&socket);
        let messages = ticket.messages();
        messages.push(&message(1, b"hello"));
        let mut payload = ticket.body(BodySide::MessageServer);
        payload.write(large().into()).await;
        messages.push(&Message { content: Content::Extents(payload.take_extents()), ..message(2, &large()) });
        socket.response.as_mut().unwrap().status = 101;
        socket.response.as_mut().unwrap().body = Body::default();
        ticket.finish_with_receipt(&socket).unwrap().committed().await.unwrap();
        recorder.close().await.unwrap();
    });
    home.run(&["mark", "2"]);
    home.run(&["comment", "2", "look here"]);
    home.run(&["tag", "1,4", "+login"]);
    home
}

fn rows(home: &Home, args: &[&str]) -> Vec<Value> {
    let output = home.run(args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| parse(line.as_bytes())).collect()
}

#[test]
fn a_store_into_a_store_gives_new_mids_and_keeps_all_the_rest() {
    let (from, into) = (rich(), Home::with([flow("/mine", b"mine"), flow("/too", b"too")]));
    let told = rows(&into, &["import", "--json", from.store.to_str().unwrap()]);
    let pairs: Vec<_> = told[..4].iter().map(|row| (row["was"].as_u64(), row["mid"].as_u64())).collect();
    assert_eq!(pairs, (1..=4).map(|n| (Some(n), Some(n + 2))).collect::<Vec<_>>());
    assert_eq!((&told[4]["imported"], &told[4]["damaged"], told.len()), (&4.into(), &0.into(), 5));
    let (old, new) = (Reader::open(&from.store).unwrap(), Reader::open(&into.store).unwrap());
    for mid in 1..=4 {
        assert_eq!(whole(&old, mid), whole(&new, mid + 2), "{mid}");
        assert_eq!(
            old.notes(&[Mid(mid)]).unwrap().remove(&Mid(mid)),
            new.notes(&[Mid(mid + 2)]).unwrap().remove(&Mid(mid + 2))
        );
    }
    assert_eq!(new.flow(Mid(5)).unwrap().unwrap().replay_of, Some(Mid(4)));
    let conns = |mid| {
        let flow = new.flow(Mid(mid)).unwrap().unwrap();
        (flow.client.id, flow.server.map(|server| server.id))
    };
    assert_eq!(conns(3), conns(4), "what shared a connection still does");
    assert_ne!(conns(1).0, conns(3).0);
    let (was, now) = (old.messages(Mid(4), 0, 9).unwrap(), new.messages(Mid(6), 0, 9).unwrap());
    assert_eq!((was.len(), now.len()), (2, 2));
    for (was, now) in was.iter().zip(&now) {
        let bytes = |reader: &Reader, message: &Message| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut reader.content(&message.content).unwrap(), &mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&old, was), bytes(&new, now));
        assert_eq!((was.seq, was.from_client, was.len), (now.seq, now.from_client, now.len));
    }
    assert_eq!(into.run(&["check"]).status.code(), Some(0));
}

#[test]
fn what_is_known_is_skipped_as_often_as_it_is_there() {
    let (from, into) = (rich(), Home::new());
    let from = from.store.to_str().unwrap().to_owned();
    for (known, imported) in [(0, 4), (4, 0)] {
        let told = rows(&into, &["import", "--json", "--skip-known", &from]);
        let last = told.last().unwrap();
        assert_eq!((&last["known"], &last["imported"]), (&known.into(), &imported.into()));
    }
    let told = rows(&into, &["import", "--json", "--filter", "~u large", &from]);
    assert_eq!(
        (&told.last().unwrap()["imported"], &told.last().unwrap()["left_out"]),
        (&1.into(), &3.into())
    );
}

#[test]
fn one_damaged_flow_costs_that_flow() {
    let (from, into) = (rich(), Home::new());
    let flow = Reader::open(&from.store).unwrap().flow(Mid(2)).unwrap().unwrap();
    damage(&from, &flow.response.unwrap().body.content);
    let output = into.run(&["import", from.store.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(7));
    let told = text(&output.stderr);
    assert!(
        told.contains("at 2: ")
            && told.contains("3 flows (mids 1 to 3)")
            && told.contains("1 could not be read"),
        "{told}"
    );
    assert_eq!(into.run(&["check"]).status.code(), Some(0));
}

/// Spoils a byte of the first extent.
fn damage(home: &Home, content: &Content) {
    let segment = home.dir.path().join("flows.db-bodies/000001.seg");
    let Content::Extents(extents) = content else { panic!("what is large is in a segment") };
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from(extents[0].offset).unwrap() + 1000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

/// One payload of a WebSocket that was damaged ended an export with masking, and one of mitmproxy's flow files.
#[test]
fn one_damaged_message_costs_that_message() {
    let from = rich();
    let stored = Reader::open(&from.store).unwrap().messages(Mid(4), 0, 9).unwrap();
    damage(&from, &stored[1].content);
    for (name, flag) in [
        ("a.jsonl", "--no-redact"),
        ("b.jsonl", "--redact"),
        ("c.har", "--no-redact"),
        ("d.har", "--redact"),
        ("e.mitm", "--no-redact"),
        ("f.mitm", "--redact"),
        ("g.db", "--redact"),
    ] {
        let file = from.path(name);
        let output = from.run(&["export", flag, "-o", file.to_str().unwrap()]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{name}: {told}");
        assert!(told.contains("warning: flow 4 is not whole: message 2 is damaged"), "{name}: {told}");
        assert!(told.contains("4 flows; 1 not whole"), "{name}: {told}");
        let into = Home::new();
        assert_eq!(into.run(&["import", file.to_str().unwrap()]).status.code(), Some(0), "{name}");
        let messages = Reader::open(&into.store).unwrap().messages(Mid(4), 0, 9).unwrap();
        let lens = messages.iter().map(|message| match &message.content {
            Content::Inline(bytes) => bytes.len(),
            _ => 0,
        });
        assert_eq!(lens.collect::<Vec<_>>(), [5, 0], "{name}: {messages:?}");
    }
    let into = Home::new();
    let output = into.run(&["import", from.store.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("at 4: message 2 is damaged"), "{}", text(&output.stderr));
    assert_eq!(rows(&into, &["ls", "--json"]).len(), 4);
}

/// A part of a store as one, in one file, whose mids begin anew; replays refer to the new ones.
#[test]
fn a_selection_becomes_a_store_of_its_own() {
    let from = rich();
    let file = from.path("part.db");
    let part = file.to_str().unwrap();
    let output = from.run(&["export", "2-4", "-o", part]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (old, new) = (Reader::open(&from.store).unwrap(), Reader::open(&file).unwrap());
    assert_eq!(new.bounds().unwrap(), Some((Mid(1), Mid(3), 3)));
    for mid in 1..=3 {
        assert_eq!(whole(&old, mid + 1), whole(&new, mid), "{mid}");
        let note = |reader: &Reader, mid: u64| reader.notes(&[Mid(mid)]).unwrap().remove(&Mid(mid));
        assert_eq!(note(&old, mid + 1), note(&new, mid));
    }
    assert_eq!(new.flow(Mid(2)).unwrap().unwrap().replay_of, Some(Mid(1)));
    let lens = |reader: &Reader, mid: u64| {
        let messages = reader.messages(Mid(mid), 0, 9).unwrap();
        messages.iter().map(|message| (message.seq, message.len)).collect::<Vec<_>>()
    };
    assert_eq!(lens(&old, 4), lens(&new, 3));
    let names: Vec<_> = from.dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("export")), "{names:?}");
    assert!(!from.path("part.db-bodies").exists());

    from.refuses(&["export", "1", "-o", part], 2, "error[E703]");
    from.refuses(&["export", "--format", "db"], 2, "error[E704]");
    from.refuses(&["export", "--force", "-o", from.store.to_str().unwrap()], 4, "error[E418]");
    let output = from.run(&["export", "1", "--force", "-o", part]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(Reader::open(&file).unwrap().bounds().unwrap(), Some((Mid(1), Mid(1), 1)));
}

/// Each store has mids and ids of connections of its own, from 1: flows of the second were given connections of the first.
#[test]
fn flows_of_several_stores_keep_their_own_connections_and_replays() {
    let home = Home::new();
    let on = |port: u16, flow: Flow| {
        let started_unix_ns = i64::from(port) * 1_000_000_000;
        let address = Addr { host: "127.0.0.1".to_owned(), port, ..Addr::default() };
        let (id, peer) = (ConnId(1), Some(address.clone()));
        let client = ClientConn { id, started_unix_ns, peer, ..ClientConn::default() };
        let server = ServerConn { id: ConnId(2), started_unix_ns, address, ..ServerConn::default() };
        Flow { client: Arc::new(client), server: Some(Arc::new(server)), ..flow }
    };
    let again = |port| Flow { replay_of: Some(Mid(1)), ..on(port, flow("/again", b"")) };
    home.fill("flows-1.db", [on(4001, flow("/kept", b"one")), again(4001)]);
    home.fill("flows-2.db", [on(4002, flow("/left-out", b"two")), again(4002)]);
    let both = home.path("flows-*.db");
    for (name, is_store) in [("all.db", true), ("all.jsonl", false), ("all.har", false)] {
        let (file, into) = (home.path(name), home.path(&format!("of-{name}.db")));
        let (file, into) = (file.to_str().unwrap(), into.to_str().unwrap());
        let output =
            home.run(&["export", "path:/kept | path:/again", "-s", both.to_str().unwrap(), "-o", file]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        if !is_store {
            assert_eq!(home.run(&["import", file, "-s", into]).status.code(), Some(0));
        }
        let reader = Reader::open(Path::new(if is_store { file } else { into })).unwrap();
        let told = |mid| {
            let flow = reader.flow(Mid(mid)).unwrap().unwrap();
            (flow.client.peer.as_ref().unwrap().port, flow.server.as_ref().unwrap().address.port)
        };
        assert_eq!([1, 2, 3].map(told), [(4001, 4001), (4001, 4001), (4002, 4002)], "{name}");
        if is_store {
            let replay_of = |mid| reader.flow(Mid(mid)).unwrap().unwrap().replay_of;
            assert_eq!([2, 3].map(replay_of), [Some(Mid(1)), None]);
        }
    }
}

/// Ended while it was written: neither the store nor what it was made from is left.
#[test]
fn an_interrupted_export_into_a_store_leaves_nothing() {
    let home = Home::new();
    interrupt_export(&home, "part.db", ".manent-export-", Signal::INT);
    assert!(!home.path("part.db-part").exists());
}

/// What was begun is taken away again, and a link that lies where it might be begun leads nowhere.
#[test]
fn an_interrupted_export_into_a_file_leaves_nothing() {
    let home = Home::new();
    std::os::unix::fs::symlink(home.path("elsewhere"), home.path("out.har.part")).unwrap();
    interrupt_export(&home, "out.har", ".out.har.", Signal::TERM);
    assert!(!home.path("elsewhere").exists());
}

/// Exports into the file `to`, and sends `signal` as soon as there is something whose name starts with `begun`.
fn interrupt_export(home: &Home, to: &str, begun: &str, signal: Signal) {
    home.fill("flows.db", (0..5000).map(|n| flow(&format!("/{n}"), &[b'x'; 5000])));
    let (from, to) = (home.path("flows.db"), home.path(to));
    let is_begun = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().starts_with(begun)
    };
    let left = || home.dir().read_dir().unwrap().any(is_begun);
    let mut child =
        home.command(&["export", "-s", from.to_str().unwrap(), "-o", to.to_str().unwrap()]).spawn().unwrap();
    let started = Instant::now();
    while !left() {
        assert!(started.elapsed() < PATIENCE && child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    rustix::process::kill_process(Pid::from_child(&child), signal).unwrap();
    let ended = child.wait().unwrap();
    // It had all of it by then, or nothing.
    assert_eq!(ended.code(), Some(if to.exists() { 0 } else { 4 }));
    assert!(!left());
}

/// A pipe that is not read from holds an export up, which a signal ends as it ends any program.
#[test]
fn an_export_that_waits_for_its_reader_is_ended_by_a_signal() {
    let home = Home::new();
    home.fill("flows.db", (0..200).map(|n| flow(&format!("/{n}"), &[b'x'; 5000])));
    let (from, to) = (home.path("flows.db"), home.path("pipe.har"));
    rustix::fs::mknodat(rustix::fs::CWD, &to, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(&to, flags, rustix::fs::Mode::empty()).unwrap();
    let mut child =
        home.command(&["export", "-s", from.to_str().unwrap(), "-o", to.to_str().unwrap()]).spawn().unwrap();
    let started = Instant::now();
    // It has begun, and has far more to write than a pipe holds.
    while !matches!(rustix::io::read(&reader, &mut [0; 1]), Ok(1)) {
        assert!(started.elapsed() < PATIENCE && child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = loop {
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                panic!("it goes on");
            }
            None => std::thread::yield_now(),
        }
    };
    assert_eq!(ended.code(), None, "ended by the signal itself");
    assert!(!to.metadata().unwrap().is_file());
}

/// A store is not replaced by what is read of it, whatever the format.
#[test]
fn an_export_does_not_replace_its_store() {
    let home = Home::new();
    home.fill("flows.db", [flow("/", b"x")]);
    let store = home.path("flows.db");
    let store = store.to_str().unwrap();
    let output = home.run(&["export", "-s", store, "--format", "har", "--force", "-o", store]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(home.run(&["export", "-s", store, "--format", "har"]).status.code(), Some(0));
}

/// A file that may not become large enough for a body, as on a disk that is full: the store without it was taken for whole.
#[test]
fn an_export_into_a_store_that_loses_a_body_is_none() {
    let home = Home::new();
    home.fill("flows.db", [flow("/small", b"small")]);
    let recorder = home.recorder_in("flows.db");
    home.runtime.block_on(async {
        let ticket = recorder.admit().await;
        let mut body = ticket.body(BodySide::Response);
        body.write(vec![b'x'; 8 << 20].into()).await;
        let mut large = flow("/large", b"");
        let content = Content::Extents(body.take_extents());
        large.response.as_mut().unwrap().body = Body { content, len: 8 << 20, ..Body::default() };
        ticket.finish_with_receipt(&large).unwrap().committed().await.unwrap();
        recorder.close().await.unwrap();
    });
    let (from, to) = (home.path("flows.db"), home.path("part.db"));
    let [from, to] = [&from, &to].map(|path| path.to_str().unwrap());
    let line = "ulimit -f 4000 && exec \"$0\" export -s \"$1\" -o \"$2\"";
    let output = std::process::Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_manent"), from, to])
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert!(
        output.status.code().is_some_and(|code| code > 0) && told.contains("could not be stored"),
        "{told}"
    );
    assert!(!Path::new(to).exists());
}

/// Sixteen megabytes of `[0,0,…]` were half a gigabyte of values.
#[test]
fn values_are_bounded_by_the_memory_that_they_take() {
    let from = rich();
    let output = from.run(&["export", "--format", "jsonl", "1"]);
    let line = text(&output.stdout);
    let bloated = |value: &str, count: usize| {
        let many = vec![value; count].join(",");
        line.replacen("\"imported\":null", &format!("\"imported\":null,\"more\":[{many}]"), 1)
    };
    let file = from.path("bloated.jsonl");
    // As many as another tool's data may be; then too many of each kind.
    let lines =
        [bloated("0", 50_000), bloated("0", 500_000), line.clone(), bloated("{}", 200_000), line.clone()];
    std::fs::write(&file, lines.concat()).unwrap();
    let into = Home::new();
    let output = into.run(&["import", file.to_str().unwrap()]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{told}");
    assert_eq!(told.matches("more beside the bodies of a flow than fits into memory").count(), 2, "{told}");
    assert!(told.contains("3 flows") && told.contains("2 could not be read"), "{told}");
}

#[test]
fn what_cannot_be_imported_or_exported_is_told() {
    let home = Home::with([flow("/a", b"a")]);
    let path = |name: &str| home.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("noise"), b"\x00\x01 neither this nor that").unwrap();
    home.refuses(&["import", &path("noise")], 7, "error[E701]");
    home.refuses(&["import", &path("nowhere")], 3, "error[E212]");
    home.refuses(&["import", "--format", "nosuch", &path("noise")], 7, "error[E701]");
    home.refuses(&["import", home.store.to_str().unwrap()], 4, "error[E418]");
    home.refuses(&["export", "-o", &path("out.nosuch")], 2, "error[E702]");
    home.refuses(&["export", "--format", "nosuch"], 2, "error[E702]");
    assert_eq!(rows(&home, &["ls", "--json"]).len(), 1, "nothing was changed");
}

/// Each escape of a body in JSON comes by itself; pieces of one byte took a header each, and a hundred times as long.
#[test]
fn bodies_that_come_in_small_pieces_are_stored_in_large_ones() {
    let body = "\"\n".repeat(50_000);
    let home = Home::with([flow("/quotes", body.as_bytes())]);
    for format in ["jsonl", "har"] {
        let file = home.path(format);
        let written = home.run(&["export", "--no-redact", "--format", format, "-o", file.to_str().unwrap()]);
        assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
        let into = Home::new();
        let read = into.run(&["import", file.to_str().unwrap()]);
        assert_eq!(read.status.code(), Some(0), "{}", text(&read.stderr));
        let reader = Reader::open(&into.store).unwrap();
        let stored = reader.flow(Mid(1)).unwrap().unwrap().response.unwrap().body;
        assert!(
            matches!(&stored.content, Content::Extents(extents) if extents.len() <= 2),
            "{format}: {stored:?}"
        );
        let loaded = reader.load(Mid(1), u64::MAX).unwrap().unwrap().response.unwrap().body;
        assert_eq!(loaded.as_inline().unwrap(), body.as_bytes());
    }
}
