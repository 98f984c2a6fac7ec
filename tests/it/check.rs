//! `manent check`: damage of every sort is told by mid, and nothing else is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manent::flow::{ClientConn, Flow, ServerConn};
use serde_json::{Value, json};

use crate::cli::{Home, flow, parse, text};

/// A flow with connections.
fn connected(target: &str, body: &[u8]) -> Flow {
    let client = Arc::new(ClientConn { mode: "explicit".into(), ..ClientConn::default() });
    Flow { client, server: Some(Arc::new(ServerConn::default())), ..flow(target, body) }
}

/// Five flows; the bodies of the third and the fourth are in segments.
fn home() -> Home {
    let large = |n: u8| (0..30_000_u32).map(|i| i.to_le_bytes()[0] ^ n).collect::<Vec<u8>>();
    Home::with([
        connected("/1", b"one"),
        connected("/2", b"two"),
        connected("/3", &large(3)),
        connected("/4", &large(4)),
        connected("/5", b""),
    ])
}

/// A store to be damaged.
struct Store {
    db: PathBuf,
    segment: PathBuf,
}

impl Store {
    fn copy(home: &Home, dir: &Path) -> Self {
        let store = Self { db: dir.join("flows.db"), segment: dir.join("flows.db-bodies/000001.seg") };
        std::fs::create_dir(dir.join("flows.db-bodies")).unwrap();
        std::fs::copy(&home.store, &store.db).unwrap();
        std::fs::copy(home.dir.path().join("flows.db-bodies/000001.seg"), &store.segment).unwrap();
        store
    }

    fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(&self.db).unwrap();
        db.execute_batch(sql).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    /// Where the record of a flow lies, header of its piece included.
    fn record(&self, mid: u64) -> usize {
        let db = rusqlite::Connection::open(&self.db).unwrap();
        let sql = "SELECT record_offset FROM flow WHERE mid = ?1";
        db.query_row(sql, [i64::try_from(mid).unwrap()], |row| row.get::<_, isize>(0)).unwrap().unsigned_abs()
    }

    /// Where the first piece of these bytes lies.
    fn find(&self, bytes: &[u8]) -> usize {
        let segment = std::fs::read(&self.segment).unwrap();
        segment.windows(bytes.len()).position(|window| window == bytes).unwrap()
    }

    fn flip(&self, at: usize) {
        let mut segment = std::fs::read(&self.segment).unwrap();
        segment[at] ^= 1;
        std::fs::write(&self.segment, segment).unwrap();
    }
}

/// What is said of a store that `damage` has damaged: the lines, and the summary. Neither file is changed by that.
fn checked(home: &Home, damage: impl FnOnce(&Store)) -> (Vec<String>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::copy(home, dir.path());
    damage(&store);
    let files = || (std::fs::read(&store.db).unwrap(), std::fs::read(&store.segment).ok());
    let before = files();
    let output = home.run(&["check", "--json", "-s", store.db.to_str().unwrap()]);
    assert!(files() == before, "a check changes nothing");
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| parse(line.as_bytes())).collect();
    let (summary, damages) = lines.split_last().expect("a summary");
    let code = if damages.is_empty() { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(summary["damages"], damages.len());
    let told = |line: &Value| {
        format!("{} {}: {}", line["mid"], line["part"].as_str().unwrap(), line["damage"].as_str().unwrap())
    };
    (damages.iter().map(told).collect(), summary.clone())
}

#[test]
fn a_sound_store_is_clean() {
    let home = home();
    let (damages, summary) = checked(&home, |_| ());
    assert_eq!(damages, [""; 0]);
    assert_eq!((&summary["flows"], &summary["bodies"]), (&json!(5), &json!(10)));
    assert_eq!((&summary["dead_bytes"], &summary["missing_messages"]), (&json!(0), &json!(0)));
    let output = home.run(&["check"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "5 flows: nothing is damaged\n".into())
    );
    // As long as a recorder has it, too.
    let recorder = home.recorder();
    home.runtime.block_on(recorder.store(flow("/6", &[6; 9000]))).unwrap();
    assert!(text(&home.run(&["check"]).stdout).starts_with("6 flows: nothing is damaged"));
    home.runtime.block_on(recorder.close()).unwrap();
    assert_eq!(Home::with([]).run(&["check"]).status.code(), Some(0));
}

#[test]
fn stores_of_before_are_clean() {
    for version in ["store_v1", "store_v3"] {
        let home = Home::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version);
        let packed = std::fs::File::open(fixture.join("flows.db.gz")).unwrap();
        let mut db = std::fs::File::create(&home.store).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut db).unwrap();
        let bodies = home.dir.path().join("flows.db-bodies");
        std::fs::create_dir(&bodies).unwrap();
        std::fs::copy(fixture.join("000001.seg"), bodies.join("000001.seg")).unwrap();
        let output = home.run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{version}: {}", text(&output.stdout));
        home.run(&["stats"]);
        assert_eq!(home.run(&["stats"]).status.code(), Some(0));
    }
}

#[test]
fn a_flipped_byte_is_told_by_its_flow() {
    let home = home();
    let (damages, summary) = checked(&home, |store| store.flip(store.record(2) + 40));
    assert!(damages.len() == 1 && damages[0].starts_with("2 record: the record of flow 2"), "{damages:?}");
    assert_eq!((&summary["flows"], &summary["damaged_flows"]), (&json!(5), &json!(1)));
    let body: Vec<u8> = (0..200_u8).map(|i| i ^ 3).collect();
    let (damages, _) = checked(&home, |store| store.flip(store.find(&body) + 100));
    let told = "3 response body: segment 000001 is damaged at offset ";
    assert!(damages.len() == 1 && damages[0].starts_with(told), "{damages:?}");
    // Whatever of it is flipped.
    for at in [0, 5, 9, 17, 24, 26, 30] {
        let (damages, _) = checked(&home, |store| store.flip(store.find(&body) - 32 + at));
        assert!(damages.len() == 1 && damages[0].starts_with(told), "{at}: {damages:?}");
    }
}

#[test]
fn a_segment_that_was_cut_or_is_gone_is_told_by_its_flows() {
    let home = home();
    let (damages, _) = checked(&home, |store| {
        let file = std::fs::File::options().write(true).open(&store.segment).unwrap();
        let cut = store.find(&(0..200_u8).map(|i| i ^ 4).collect::<Vec<u8>>()) + 1000;
        file.set_len(cut as u64).unwrap();
    });
    let mids: Vec<&str> = damages.iter().map(|told| &told[..told.find(':').unwrap()]).collect();
    assert_eq!(mids, ["4 record", "5 record"], "{damages:?}");
    let (damages, summary) = checked(&home, |store| std::fs::remove_file(&store.segment).unwrap());
    assert_eq!((damages.len(), &summary["damaged_flows"]), (5, &json!(5)), "{damages:?}");
}

#[test]
fn rows_that_are_not_those_of_their_records_are_told() {
    let home = home();
    let told = |sql: &str| checked(&home, |store| store.sql(sql)).0;
    let row = |mid, column: &str| format!("{mid} row: its {column} is not that of its record");
    assert_eq!(told("UPDATE flow SET status = 500 WHERE mid = 1"), [row(1, "status")]);
    assert_eq!(
        told("UPDATE flow SET path = '/x', port = 81 WHERE mid = 5"),
        [row(5, "port"), row(5, "path")]
    );
    assert_eq!(told("UPDATE flow SET response_len = 7 WHERE mid = 3"), [row(3, "response length")]);
    assert_eq!(
        told("DELETE FROM conn WHERE side = 1 AND id = (SELECT client_conn FROM flow WHERE mid = 2)").len(),
        1
    );
    let gone = told("DELETE FROM conn WHERE side = 2 AND id = (SELECT server_conn FROM flow WHERE mid = 2)");
    assert!(gone.len() == 1 && gone[0].starts_with("2 connection: that of the server"), "{gone:?}");
    let hosts = told("DELETE FROM host");
    assert_eq!((hosts.len(), &*hosts[0]), (10, "1 row: the host that it names is not there"));
    let other =
        told("UPDATE flow SET record_offset = (SELECT record_offset FROM flow WHERE mid = 1) WHERE mid = 2");
    assert!(other.len() == 1 && other[0].starts_with("2 record: "), "{other:?}");
    let poison = "UPDATE flow SET record_segment = NULL WHERE mid = 4; INSERT INTO record VALUES (4, ";
    for bytes in
        ["x'ffffffffffff'", "CAST(replace(hex(zeroblob(5000)), '00', 'z') || x'0a' AS BLOB)", "zeroblob(9)"]
    {
        let damages = told(&format!("{poison}{bytes})"));
        assert!(damages.iter().all(|told| told.starts_with("4 ")) && !damages.is_empty(), "{damages:?}");
    }
    assert!(told("UPDATE conn SET pbuf = x'ffff' WHERE side = 1 AND id = (SELECT client_conn FROM flow WHERE mid = 1)")[0]
        .starts_with("1 record: connection "));
}

#[test]
fn what_no_row_refers_to_is_no_damage() {
    let home = home();
    let (damages, summary) = checked(&home, |store| store.sql("DELETE FROM flow WHERE mid = 3"));
    assert_eq!(damages, [""; 0]);
    assert!(summary["dead_bytes"].as_u64().unwrap() > 30_000, "{summary}");
}

/// The database itself, page by page: it is told, or the store is refused as no store, and nothing panics.
#[test]
fn a_damaged_database_is_told() {
    let home = home();
    let len = std::fs::metadata(&home.store).unwrap().len();
    let mut told = 0;
    for page in 1..len / 8192 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::copy(&home, dir.path());
        let mut db = std::fs::read(&store.db).unwrap();
        let at = usize::try_from(page * 8192).unwrap();
        db[at..at + 12].fill(0xa5);
        std::fs::write(&store.db, db).unwrap();
        let output = home.run(&["check", "-s", store.db.to_str().unwrap()]);
        assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
        assert!(matches!(output.status.code(), Some(1 | 4)), "page {page}: {output:?}");
        told += usize::from(output.status.code() == Some(1));
    }
    assert!(told > 3, "{told}");
}
