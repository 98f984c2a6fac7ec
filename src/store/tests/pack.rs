//! Packing and unpacking: all that a store holds, there and back; damage on either side; and what becomes of names.

use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::flow::{Message, Tunnel};

fn go(_: CopyProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn packed(from: &Path, to: &Path, options: PackOptions) -> Result<Packed, StoreError> {
    pack(from, to, options, &mut go)
}

fn unpacked(from: &Path, to: &Path) -> Result<Packed, StoreError> {
    unpack(from, to, PackOptions::default(), &mut go)
}

fn squeezed() -> PackOptions {
    PackOptions { level: Some(1), replace: false }
}

/// All that can be read of a store.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: Vec<Row>,
    flows: Vec<Flow>,
    messages: Vec<(Message, Vec<u8>)>,
}

fn everything(path: &Path) -> Everything {
    let reader = Reader::open(path).unwrap();
    let rows = reader.list(&ListQuery::default()).unwrap();
    let flows = rows.iter().map(|row| reader.load(row.mid, 64 << 20).unwrap().unwrap()).collect();
    let mut messages = Vec::new();
    for row in &rows {
        for mut message in reader.messages(row.mid, 0, 1000).unwrap() {
            let mut payload = Vec::new();
            reader.content(&message.content).unwrap().read_to_end(&mut payload).unwrap();
            if let Content::Extents(_) = message.content {
                message.content = Content::Absent;
            }
            messages.push((message, payload));
        }
    }
    Everything { rows, flows, messages }
}

/// A part of a flow: what it is, how long, and of which bytes.
type Part = (u8, usize, u64);

/// Adds a flow for each list of parts.
fn record(path: &Path, flows: &[Vec<Part>]) {
    let mut writer = open(path);
    let mut group = Group::default();
    let (first, _) = writer.next_ids();
    for (mid, parts) in (first..).map(Mid).zip(flows) {
        let mut flow = flow(mid, State::Complete, Content::Absent);
        for (seq, &(kind, len, seed)) in (1..).zip(parts) {
            let bytes = body_bytes(Mid(seed), len);
            let outside = || Content::Extents(append(writer.segments(), mid, &bytes));
            let content = match kind % 4 {
                0 => Content::Absent,
                1 => Content::Inline(bytes.clone().into()),
                _ => outside(),
            };
            let end = if kind % 4 == 0 { BodyEnd::Lost } else { BodyEnd::Whole };
            let body = Body { content: content.clone(), len: len as u64, end, ..Body::default() };
            match kind / 4 {
                0 => flow.request.as_mut().unwrap().body = body,
                1 => flow.response.as_mut().unwrap().body = body,
                2 => {
                    let from_client = Body { content: outside(), ..Body::default() };
                    flow.tunnel =
                        Some(Box::new(Tunnel { reason: "x".into(), from_client, from_server: body }));
                }
                _ => {
                    let message =
                        Message { seq, from_client: seed % 2 == 0, content, end, ..Message::default() };
                    group.push_message(mid, &message);
                }
            }
        }
        let mut bytes = Vec::new();
        let draft = Draft::new(mid, &flow, false, &mut bytes);
        group.push(draft, &bytes);
        group.next_mid = mid.0 + 1;
    }
    writer.commit(&mut group).unwrap();
    writer.close().unwrap();
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let hash = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n << 7).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..len as u64).map(|n| hash(n).to_le_bytes()[6]).collect()
}

/// Two flows with large bodies, the second of which shrinks; where it is, packed.
fn small_packed(dir: &Path) -> PathBuf {
    let (path, to) = (dir.join("f.db"), dir.join("p.db"));
    let mut writer = open(&path);
    let first = append(writer.segments(), Mid(1), &noise(200_000));
    let second = append(writer.segments(), Mid(2), &[b'x'; 300_000]);
    let flows = (1..).zip([first, second]).map(|(n, e)| flow(Mid(n), State::Complete, Content::Extents(e)));
    commit(&mut writer, flows.collect()).unwrap();
    writer.close().unwrap();
    packed(&path, &to, squeezed()).unwrap();
    to
}

fn sql(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_the_same_when_it_is_packed_and_when_it_is_unpacked(
        flows in vec(vec((0..16_u8, prop_oneof![0..3000_usize, 0..300_000_usize], 0..3_u64), 0..4), 0..5),
        level in prop_oneof![Just(None), Just(Some(1))],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let [from, one, again] = ["f.db", "one.db", "again.db"].map(|name| dir.path().join(name));
        record(&from, &flows);
        let before = everything(&from);
        let report = packed(&from, &one, PackOptions { level, replace: false }).unwrap();
        prop_assert_eq!((report.flows, report.damaged), (flows.len() as u64, 0));
        // It needs nothing beside it.
        let moved = dir.path().join("moved.db");
        std::fs::rename(&one, &moved).unwrap();
        prop_assert_eq!(&everything(&moved), &before);
        prop_assert_eq!(unpacked(&moved, &again).unwrap().damaged, 0);
        std::fs::remove_file(&moved).unwrap();
        prop_assert_eq!(&everything(&again), &before);
        // It goes on where the first ended.
        record(&again, &flows);
        let after = everything(&again);
        prop_assert_eq!(&after.flows[after.flows.len() - flows.len()..].len(), &flows.len());
        prop_assert!(before.flows.iter().all(|flow| after.flows.contains(flow)));
    }
}

#[test]
fn equal_bodies_are_there_once_and_only_what_flows_refer_to() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to, again] = ["f.db", "p.db", "a.db"].map(|name| dir.path().join(name));
    // A body that no flow has, then three that are equal, and two too short to be looked for.
    let writer = open(&from);
    append(writer.segments(), Mid(99), &[1; 500_000]);
    writer.close().unwrap();
    let part = |len| vec![(6, len, 1)];
    record(&from, &[part(100_000), part(100_000), part(100_000), part(3000), part(3000)]);
    let report = packed(&from, &to, PackOptions::default()).unwrap();
    assert_eq!((report.shared_bodies, report.shared_bytes, report.body_bytes), (2, 200_000, 106_000));
    assert!(std::fs::metadata(&to).unwrap().len() < 300_000);
    assert_eq!(everything(&to), everything(&from));
    // In segment files each has its own.
    assert_eq!(unpacked(&to, &again).unwrap().body_bytes, 306_000);
    assert_eq!(everything(&again), everything(&from));
}

#[test]
fn what_shrinks_is_stored_in_less_and_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let to = small_packed(dir.path());
    let extents = |path: &Path, mid| {
        let flow = Reader::open(path).unwrap().flow(mid).unwrap().unwrap();
        let Content::Extents(extents) = flow.response.unwrap().body.content else { panic!("it has extents") };
        let sum = |of: fn(&Extent) -> u64| extents.iter().map(of).sum::<u64>();
        (sum(|e| e.len), sum(|e| e.stored_len))
    };
    assert!(extents(&to, Mid(2)).1 < 1000);
    assert_eq!(extents(&to, Mid(2)).0, 300_000);
    // Packed again and unpacked without a word of it.
    let [twice, again] = ["t.db", "a.db"].map(|name| dir.path().join(name));
    packed(&to, &twice, PackOptions::default()).unwrap();
    unpacked(&twice, &again).unwrap();
    for path in [&twice, &again] {
        assert!(extents(path, Mid(2)).1 < 1000);
        assert_eq!(everything(path), everything(&dir.path().join("f.db")));
    }
}

#[test]
fn a_store_is_packed_while_it_is_written_and_its_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["f.db", "p.db"].map(|name| dir.path().join(name));
    record(&from, &vec![vec![(6, 5000, 1), (4, 3000, 2)]; 250]);
    let before = everything(&from);
    let mut writer = open(&from);
    let mut late = Some(flow(Mid(1000), State::Complete, Content::Absent));
    let report = pack(&from, &to, PackOptions::default(), &mut |progress| {
        if let Some(late) = late.take() {
            assert!(progress.flows < progress.of_flows);
            commit(&mut writer, vec![late]).unwrap();
            std::fs::remove_file(dir.path().join("f.db-bodies/000001.seg")).unwrap();
        }
        ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().damaged, 0);
    writer.close().unwrap();
    assert_eq!(everything(&to), before);
}

#[test]
fn older_stores_are_packed_too() {
    for version in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let from = of_version(dir.path(), version);
        let to = dir.path().join("p.db");
        assert_eq!(packed(&from, &to, PackOptions::default()).unwrap().damaged, 0);
        assert_eq!(everything(&to), everything(&from));
    }
}

#[test]
fn older_stores_are_upgraded_without_a_capture() {
    for version in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = of_version(dir.path(), version);
        let before = everything(&path);
        let info = |path| StoreInfo::of(&Reader::open(path).unwrap()).unwrap();
        assert_eq!((info(&path).version, info(&path).segments), (version, 1));
        let newest = info(&path).newest;
        assert_eq!(upgrade(&path).unwrap(), (version, newest));
        assert_eq!(upgrade(&path).unwrap(), (newest, newest));
        assert_eq!((info(&path).version, everything(&path)), (newest, before));
    }
}

#[test]
fn damage_is_told_by_mid_and_what_can_be_read_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["f.db", "p.db"].map(|name| dir.path().join(name));
    record(&from, &[vec![(6, 30_000, 1)], vec![(6, 30_000, 2)]]);
    let segment = dir.path().join("f.db-bodies/000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[15_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let report = packed(&from, &to, PackOptions::default()).unwrap();
    assert_eq!((report.damaged, report.damaged_mids), (1, vec![Mid(1)]));
    let reader = Reader::open(&to).unwrap();
    let body = |mid| reader.load(mid, 1 << 20).unwrap().unwrap().response.unwrap().body;
    assert_eq!((body(Mid(1)).end, body(Mid(2)).end), (BodyEnd::Lost, BodyEnd::Whole));
    assert_eq!(body(Mid(1)).as_inline().unwrap(), &body_bytes(Mid(1), 30_000)[..10_000]);
    // A record that cannot be read leaves its row.
    sql(&from, "UPDATE flow SET record_offset = record_offset + 1 WHERE mid = 2");
    let options = PackOptions { replace: true, ..PackOptions::default() };
    assert_eq!(packed(&from, &to, options).unwrap().damaged_mids, [Mid(1), Mid(2)]);
    let reader = Reader::open(&to).unwrap();
    assert_eq!(reader.list(&ListQuery::default()).unwrap().len(), 2);
    assert!(matches!(reader.flow(Mid(2)), Err(StoreError::Damaged { .. })));
}

#[test]
fn poison_in_a_packed_store_is_an_error_and_no_panic() {
    for poison in [
        "DELETE FROM chunk",
        "DELETE FROM chunk WHERE at = 0",
        "DELETE FROM chunk WHERE at > 0",
        "DROP TABLE chunk",
        "UPDATE chunk SET data = substr(data, 1, 100)",
        "UPDATE chunk SET data = zeroblob(40000000)",
        "UPDATE chunk SET data = x''",
        "UPDATE chunk SET at = -at - 1",
        "UPDATE chunk SET at = at + 9223372036854000000",
        "INSERT INTO chunk SELECT at + 7, data FROM chunk",
        "UPDATE chunk SET data = cast(replace(hex(data), '00', '11') AS BLOB)",
        "DROP TABLE chunk; CREATE TABLE chunk (at, data); INSERT INTO chunk VALUES ('a', 'b'), (0, 1.5), (NULL, NULL)",
        "DROP TABLE chunk; CREATE VIEW chunk AS SELECT 0 AS at, x'00' AS data",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = small_packed(dir.path());
        sql(&path, poison);
        let reader = Reader::open(&path).unwrap();
        let damaged = |mid| match reader.load(mid, 1 << 20) {
            Err(StoreError::Damaged { detail, .. }) => detail.contains("segment"),
            Err(error) => panic!("{poison}: {error}"),
            Ok(flow) => flow.unwrap().response.unwrap().body.content == Content::Absent,
        };
        // Rows that overlap are a matter for a body that begins in one.
        let first = damaged(Mid(1));
        assert!(first || damaged(Mid(2)), "{poison}");
        // Heads are all there, and a copy of it is made as far as it goes.
        assert_eq!(reader.flow(Mid(2)).unwrap().unwrap().state, State::Complete);
        let report = unpacked(&path, &dir.path().join("a.db")).unwrap();
        assert_eq!(report.damaged_mids.contains(&Mid(1)), first, "{poison}");
        assert!(report.damaged > 0, "{poison}");
    }
}

#[test]
fn a_body_gives_as_many_bytes_as_its_record_says_or_an_error() {
    for len in [0, 1, 199_999, 200_001, u64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let path = small_packed(dir.path());
        let mut flow = Reader::open(&path).unwrap().flow(Mid(1)).unwrap().unwrap();
        if let Content::Extents(extents) = &mut flow.response.as_mut().unwrap().body.content {
            assert_eq!(extents.len(), 1);
            extents[0].len = len;
        }
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute("UPDATE record SET pbuf = ?1 WHERE mid = 1", [crate::codec::encode_flow(&flow)])
            .unwrap();
        let reader = Reader::open(&path).unwrap();
        let content = reader.flow(Mid(1)).unwrap().unwrap().response.unwrap().body.content;
        let error = reader.content(&content).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{len}");
    }
}

#[test]
fn a_packed_store_is_not_written_and_another_is_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let path = small_packed(dir.path());
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Writer::open(&path, &options()), Err(StoreError::Packed { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(Reader::open(&path).unwrap().is_packed());
    let plain = dir.path().join("f.db");
    assert!(!Reader::open(&plain).unwrap().is_packed());
    assert!(matches!(unpacked(&plain, &dir.path().join("a.db")), Err(StoreError::NotPacked { .. })));
}

#[test]
fn only_a_store_that_nobody_writes_is_replaced_and_only_when_asked() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let to = small_packed(dir.path());
    let from = dir.path().join("f.db");
    let force = PackOptions { replace: true, ..PackOptions::default() };
    assert!(matches!(packed(&from, &to, PackOptions::default()), Err(StoreError::Exists { .. })));
    assert!(matches!(packed(&from, &from, force), Err(StoreError::Same { .. })));
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let text = dir.path().join("text");
    std::fs::write(&text, "somebody's only copy").unwrap();
    assert!(matches!(packed(&from, &text, force), Err(StoreError::NotAStore { .. })));
    assert_eq!(std::fs::read(&text).unwrap(), b"somebody's only copy");
    // Another store, with a log and segments of its own, first while it is written.
    let other = dir.path().join("o.db");
    record(&other, &[vec![(6, 9000, 7)]]);
    let writer = open(&other);
    assert!(matches!(packed(&from, &other, force), Err(StoreError::Locked { .. })));
    drop(writer);
    packed(&from, &other, force).unwrap();
    assert_eq!(everything(&other), everything(&from));
    assert!(!dir.path().join("o.db-bodies").exists() && !dir.path().join("o.db-wal").exists());
    // And back, over a store with segments, which are exchanged too.
    let third = dir.path().join("t.db");
    record(&third, &vec![vec![(6, 9000, 7)]; 9]);
    unpack(&to, &third, force, &mut go).unwrap();
    assert_eq!(everything(&third), everything(&from));
    record(&third, &[vec![(6, 9000, 7)]]);
    // A folder of segments of a store that is gone is not taken over.
    std::fs::rename(dir.path().join("t.db-bodies"), dir.path().join("n.db-bodies")).unwrap();
    assert!(matches!(unpacked(&to, &dir.path().join("n.db")), Err(StoreError::Exists { .. })));
}

#[test]
fn a_copy_that_is_stopped_or_was_killed_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let to = small_packed(dir.path());
    let names = || {
        let mut names: Vec<_> = dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let (from, copy) = (dir.path().join("f.db"), dir.path().join("c.db"));
    let mut stop = |_| ControlFlow::Break(());
    assert!(matches!(pack(&from, &copy, PackOptions::default(), &mut stop), Err(StoreError::Stopped { .. })));
    assert!(matches!(unpack(&to, &copy, PackOptions::default(), &mut stop), Err(StoreError::Stopped { .. })));
    assert_eq!(names(), before);
    // What a killed one leaves.
    std::fs::create_dir(dir.path().join("c.db-part-bodies")).unwrap();
    std::fs::write(dir.path().join("c.db-part-bodies/000009.seg"), "half").unwrap();
    std::fs::copy(&to, dir.path().join("c.db-part")).unwrap();
    unpacked(&to, &copy).unwrap();
    assert_eq!(everything(&copy), everything(&from));
    assert!(!dir.path().join("c.db-part").exists() && !dir.path().join("c.db-bodies/000009.seg").exists());
}

#[test]
fn a_store_that_is_replaced_while_it_is_read_gives_no_bytes_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let to = small_packed(dir.path());
    let reader = Reader::open(&to).unwrap();
    packed(&dir.path().join("f.db"), &to, PackOptions { replace: true, ..squeezed() }).unwrap();
    let error = reader.load(Mid(1), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
}
