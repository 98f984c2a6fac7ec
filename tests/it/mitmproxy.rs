//! mitmproxy's flow files through the front door.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use manent::flow::{Body, Flow, Imported, Kind, Message, Mid, Opcode, Scheme, Target, Tunnel, Value};
use manent::store::Reader;

use crate::cli::{Home, flow, parse, text};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mitmproxy").join(name)
}

/// Imports a file into a new store and exports that: the store, and what was written.
#[track_caller]
fn through_a_store(file: &Path) -> (Home, Vec<u8>) {
    let home = Home::new();
    let output = home.run(&["import", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = exported(&home, "all.mitm");
    (home, written)
}

#[track_caller]
fn exported(home: &Home, name: &str) -> Vec<u8> {
    let file = home.dir.path().join(name);
    let output = home.run(&["export", "-o", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    std::fs::read(file).unwrap()
}

#[test]
fn old_files_become_new_ones_that_stay_as_they_are() {
    for name in ["0.11.mitm", "4.mitm", "11-websocket.mitm", "20.mitm"] {
        let (home, newest) = through_a_store(&fixture(name));
        let rows = text(&home.run(&["ls", "--json"]).stdout);
        let first = parse(rows.lines().next().unwrap().as_bytes());
        assert_eq!((&first["method"], &first["host"]), (&"GET".into(), &"example.org".into()), "{name}");
        let file = home.dir.path().join("all.mitm");
        let (_, again) = through_a_store(&file);
        assert!(newest == again, "{name}");
    }
}

#[test]
fn large_bodies_tunnels_and_messages_pass_through_stores() {
    let large = |seed: u8| -> Vec<u8> { (0..300_000_u32).map(|n| n.to_le_bytes()[1] ^ seed).collect() };
    let home = Home::new();
    let recorder = home.recorder();
    home.runtime.block_on(async {
        recorder.store(flow("/large", &large(1))).await.unwrap();
        let tunnel = Tunnel {
            reason: "unknown".to_owned(),
            from_client: Body::inline(large(2)),
            from_server: Body::inline(large(3)),
        };
        let target = Target { scheme: Scheme::Tcp, host: "h".to_owned(), port: 1 };
        recorder
            .store(Flow { kind: Kind::Tunnel, target, tunnel: Some(Box::new(tunnel)), ..Flow::default() })
            .await
            .unwrap();
        let mut ticket = recorder.admit().await;
        let mut socket = Flow { websocket: Some(Box::default()), ..flow("/socket", b"") };
        socket.response.as_mut().unwrap().status = 101;
        ticket.write_open(&socket);
        let messages = ticket.messages();
        for seq in 1..=600 {
            let payload = Bytes::from(format!("message {seq}"));
            messages.push(&Message {
                seq,
                from_client: seq % 2 == 0,
                opcode: if seq % 5 == 0 { Opcode::Ping } else { Opcode::Text },
                at_us: seq * 10,
                len: payload.len() as u64,
                content: manent::flow::Content::Inline(payload),
                ..Message::default()
            });
        }
        ticket.finish_with_receipt(&socket).unwrap().committed().await.unwrap();
        recorder.close().await.unwrap();
    });
    home.run(&["tag", "1", "+login"]);
    let written = exported(&home, "first.mitm");
    let (into, again) = through_a_store(&home.dir.path().join("first.mitm"));
    assert!(written == again);
    let reader = Reader::open(&into.store).unwrap();
    let load = |mid| reader.load(Mid(mid), u64::MAX).unwrap().unwrap();
    assert_eq!(load(1).response.unwrap().body.as_inline().unwrap(), &large(1)[..]);
    let tunnel = load(2).tunnel.unwrap();
    assert_eq!(tunnel.from_client.as_inline().unwrap(), &large(2)[..]);
    assert_eq!(tunnel.from_server.as_inline().unwrap(), &large(3)[..]);
    let messages = reader.messages(Mid(3), 0, 1000).unwrap();
    assert_eq!((messages.len(), messages[479].at_us), (480, 5990));
    assert_eq!(reader.notes(&[Mid(1)]).unwrap()[&Mid(1)].tags, ["login"]);
    assert_eq!(into.run(&["check"]).status.code(), Some(0));
}

#[test]
fn what_is_damaged_is_told_by_its_bytes_and_the_rest_is_imported() {
    let file = std::fs::read(fixture("20.mitm")).unwrap();
    let home = Home::new();
    let path = home.dir.path().join("hurt.mitm");
    let mut hurt = [&file[..], &file, &file, &file[..100]].concat();
    hurt[file.len() + 40] = b'?';
    std::fs::write(&path, hurt).unwrap();
    let output = home.run(&["import", path.to_str().unwrap()]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{told}");
    let (begin, next) = (file.len(), 2 * file.len());
    assert!(told.contains(&format!("bytes {begin} to {next} are passed over")), "{told}");
    assert!(
        told.contains("the file ends inside of a flow") && told.contains("2 flows (mids 1 to 2)"),
        "{told}"
    );
    std::fs::write(&path, b"1234:9:websocket;").unwrap();
    assert_eq!(home.run(&["import", path.to_str().unwrap()]).status.code(), Some(7));
}

/// What an imported file held is given back to the byte, so with `--redact` it must not be.
#[test]
fn redacted_exports_of_imported_flows_tell_no_secrets() {
    let secret = || Value::Text("hunter2".to_owned());
    let imported = Imported {
        format: "mitmproxy 21".to_owned(),
        id: "4a7f".to_owned(),
        metadata: Some(Value::Dict(vec![(Value::Text("k".to_owned()), secret())])),
        unknown: Some(secret()),
        exact: vec![
            ("type".to_owned(), Value::Text("http".to_owned())),
            ("request.path".to_owned(), Value::Bytes("/login?token=hunter2".into())),
            ("response.headers".to_owned(), Value::List(vec![])),
            ("error".to_owned(), secret()),
        ],
        backup: Some(Box::new(flow("/login?token=hunter2", b"hunter2"))),
    };
    let mut secret = flow("/login?token=hunter2&q=1", b"{\"password\":\"hunter2\"}");
    secret.imported = Some(Box::new(imported));
    secret.response.as_mut().unwrap().headers = [("Content-Type", "application/json")].into_iter().collect();
    let home = Home::with([secret]);
    for format in ["mitmproxy", "jsonl", "har"] {
        let plain = text(&home.run(&["export", "--no-redact", "--format", format]).stdout);
        let masked = text(&home.run(&["export", "--redact", "--format", format]).stdout);
        assert!(plain.contains("hunter2") && masked.contains("token=(redacted)"), "{format}: {masked}");
        assert!(!masked.contains("hunter2"), "{format}: {masked}");
    }
}
