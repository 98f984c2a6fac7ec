//! `manent store pack` and `unpack`, and `--compress`: what every command reads of the result, and what a kill leaves.

use std::path::Path;
use std::time::Instant;

use manent::flow::{Content, Flow, State};
use manent::store::Reader;
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};
use crate::harness::{GET, Origin, PATIENCE, Setup};

fn home() -> Home {
    let image: Vec<u8> =
        (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    Home::with([
        flow("/small", b"small"),
        flow("/text", "a line of text\n".repeat(5000).as_bytes()),
        flow("/image", &image),
        flow("/again", "a line of text\n".repeat(5000).as_bytes()),
        Flow { state: State::Failed, response: None, ..flow("/none", b"") },
    ])
}

/// What the reading commands say of a store.
fn told(home: &Home, store: &Path) -> Vec<Vec<u8>> {
    let store = store.to_str().unwrap();
    let mut told =
        vec![home.run(&["ls", "-s", store]).stdout, home.run(&["ls", "--json", "-s", store]).stdout];
    for mid in ["1", "2", "3", "4", "5", "last"] {
        // It names the command that writes the rest of a body.
        let shown = text(&home.run(&["show", mid, "-s", store]).stdout).replace(store, "STORE");
        told.push(shown.into_bytes());
        told.push(home.run(&["show", mid, "--json", "-s", store]).stdout);
        told.push(home.run(&["cat", mid, "-s", store]).stdout);
    }
    assert!(told[0].len() > 100 && told[4].starts_with(b"small"));
    told
}

#[test]
fn every_command_reads_a_packed_store_as_it_reads_the_store() {
    let home = home();
    let [one, small, again] = ["one.db", "small.db", "again.db"].map(|name| home.dir.path().join(name));
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let output = home.run(&["store", "pack", &name(&one)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("5 flows in ") && output.stdout.is_empty());
    let output = home.run(&["store", "pack", "--compress", &name(&small), "--json"]);
    let report: Value = parse(&output.stdout);
    assert_eq!(
        (&report["flows"], &report["damaged"], &report["shared_bodies"]),
        (&5.into(), &0.into(), &1.into())
    );
    assert!(report["stored_bytes"].as_u64() < report["body_bytes"].as_u64());
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&small) < size(&one));
    let output = home.run(&["store", "unpack", &name(&small), &name(&again)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told_of_store = told(&home, &home.store);
    for path in [&one, &small, &again] {
        assert_eq!(told(&home, path), told_of_store, "{}", path.display());
    }
}

#[test]
fn refusals_say_what_to_do() {
    let home = home();
    let one = home.dir.path().join("one.db");
    let one = one.to_str().unwrap();
    home.run(&["store", "pack", one]);
    let told = home.refuses(&["store", "pack", one], 4, "error[E417]");
    assert!(told.contains("--force"), "{told}");
    let told = home.refuses(&["-p", "0", "-s", one], 4, "error[E415]");
    assert!(told.contains("manent store unpack"), "{told}");
    home.refuses(&["store", "unpack", home.store.to_str().unwrap(), "x.db"], 4, "error[E416]");
    home.refuses(&["store", "pack", home.store.to_str().unwrap(), "--force"], 4, "error[E418]");
    home.refuses(&["store", "pack", one, "--compress=0"], 2, "--compress");
    home.refuses(&["store", "pack", "-s", "/nowhere/f.db", one], 3, "error[E407]");
    assert_eq!(home.run(&["store", "pack", one, "--force"]).status.code(), Some(0));
}

#[test]
fn info_tells_what_a_store_is_and_upgrade_makes_it_new() {
    let home = home();
    let one = home.dir.path().join("one.db");
    let one = one.to_str().unwrap();
    home.run(&["store", "pack", one]);
    let info = |store: &str| parse(&home.run(&["store", "info", "--json", "-s", store]).stdout);
    let (plain, packed) = (info(home.store.to_str().unwrap()), info(one));
    assert_eq!((&plain["flows"], &plain["packed"], &plain["segments"]), (&5.into(), &Value::Null, &1.into()));
    assert_eq!(
        (&packed["flows"], &packed["last_mid"], &packed["segments"]),
        (&5.into(), &5.into(), &0.into())
    );
    assert!(packed["packed"].is_string() && packed["version"] == packed["newest_version"]);
    let lines = text(&home.run(&["store", "info", "-s", one]).stdout);
    assert!(lines.contains("flows     5 (1–5)\n") && lines.contains("bodies    packed at "), "{lines}");
    let output = home.run(&["store", "upgrade"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("already"));
    home.refuses(&["store", "upgrade", "-s", one], 4, "error[E415]");
}

#[test]
fn damage_ends_with_1_and_names_the_flow() {
    let home = home();
    let segment = home.dir.path().join("flows.db-bodies/000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let one = home.dir.path().join("one.db");
    home.refuses(&["store", "pack", one.to_str().unwrap()], 1, "warning: 1 flow could not be read whole");
    assert_eq!(home.run(&["cat", "1", "-s", one.to_str().unwrap()]).stdout, b"small");
}

/// Killed as soon as it has begun to write: the name is not there, or what has it is whole.
#[test]
fn a_killed_pack_leaves_no_half_store() {
    let home = Home::with(
        (0..300_usize).map(|n| flow(&format!("/{n}"), &vec![b'a' + (n % 26).to_le_bytes()[0]; 5000 + n])),
    );
    let one = home.dir.path().join("one.db");
    let mut child = home.command(&["store", "pack", one.to_str().unwrap()]).spawn().unwrap();
    let begun = Instant::now();
    while !home.dir.path().join("one.db-part").exists() && !one.exists() {
        assert!(begun.elapsed() < PATIENCE && child.try_wait().unwrap().is_none_or(|s| s.success()));
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if one.exists() {
        assert_eq!(Reader::open(&one).unwrap().bounds().unwrap().unwrap().2, 300);
        std::fs::remove_file(&one).unwrap();
    }
    let output = home.run(&["store", "pack", one.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let list = |store: &Path| home.run(&["ls", "-s", store.to_str().unwrap()]).stdout;
    assert_eq!(list(&one), list(&home.store));
    assert!(!home.dir.path().join("one.db-part").exists());
}

/// With `--compress`, what shrinks takes less of the disk and is the same for readers; what is compressed is left alone.
#[tokio::test]
async fn a_capture_with_compress_stores_in_less_what_shrinks() {
    let mut setup = Setup::with(|config| config.compress = Some(1)).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    let body = "a line of text\n".repeat(20_000);
    let mut stored = Vec::new();
    for (fields, pieces) in
        [("Content-Type: text/plain\r\n", 1), ("", 700), ("Content-Type: image/png\r\n", 1)]
    {
        if !stored.is_empty() {
            client.send(origin.fill(GET)).await;
            server.head().await;
        }
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        let send = async {
            server.send(head.clone()).await;
            for piece in body.as_bytes().chunks(body.len().div_ceil(pieces)) {
                server.send(piece).await;
            }
        };
        let expect = async {
            client.head().await;
            assert_eq!(client.read(body.len()).await, body.as_bytes());
        };
        tokio::join!(send, expect);
        let mid = setup.ended().await;
        let reader = Reader::open(&setup.config.store).unwrap();
        let content = reader.flow(mid).unwrap().unwrap().response.unwrap().body.content;
        let Content::Extents(extents) = &content else { panic!("it is in segments") };
        assert_eq!(extents.iter().map(|e| e.len).sum::<u64>(), body.len() as u64);
        let mut seen = String::new();
        std::io::Read::read_to_string(&mut reader.content(&content).unwrap(), &mut seen).unwrap();
        assert!(seen == body);
        stored.push(extents.iter().map(|e| e.stored_len).sum::<u64>());
    }
    assert!(stored[0] < 10_000 && stored[1] < 10_000 && stored[2] > body.len() as u64, "{stored:?}");
}
