//! Space is given back, and no live byte is lost for it: after any deletes, compactions, kills and cuts of power, each flow
//! that is left loads byte for byte as before.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::flow::{Message, Opcode};
use crate::store::space::delete as deleting;

/// A flow with a body of so many bytes, which lies in segments.
fn store(writer: &mut Writer, mid: Mid, len: usize) {
    let extents = append(writer.segments(), mid, &body_bytes(mid, len));
    commit(writer, vec![flow(mid, State::Complete, Content::Extents(extents))]).unwrap();
}

fn delete(writer: &mut Writer, mids: &[Mid]) -> Freed {
    let files = record::RecordFiles::new(Arc::new(source::Source::new(writer.keeper.paths.clone(), None)));
    let conn = &mut writer.conn;
    let plan = deleting::plan(conn, &files, mids, Marked::Keep, Duration::MAX).unwrap();
    deleting::delete(conn, &plan.doomed, Marked::Keep).unwrap()
}

/// Lets the writer tidy until it has nothing more to do.
fn tidy(writer: &mut Writer) {
    writer.keeper.space.look_now();
    while writer.keeper.tidy(&mut writer.conn).unwrap() != Step::Idle {}
    let Writer { conn, keeper } = writer;
    keeper.space.reclaimer.finish(conn, &keeper.segments).unwrap();
}

fn expect_bodies(path: &Path, left: &BTreeMap<Mid, usize>) {
    let reader = Reader::open(path).unwrap();
    let rows = reader.list(&ListQuery { order: Order::OldestFirst, ..ListQuery::default() }).unwrap();
    assert_eq!(rows.iter().map(|row| row.mid).collect::<Vec<_>>(), left.keys().copied().collect::<Vec<_>>());
    for (&mid, &len) in left {
        assert_eq!(loaded_body(&reader, mid), body_bytes(mid, len), "{mid}");
    }
}

fn segment_files(path: &Path) -> Vec<String> {
    let folder = path.with_file_name("f.db-bodies");
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_segment_of_which_nothing_lives_goes_and_its_number_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    store(&mut writer, Mid(1), 20_000);
    writer.segments().roll();
    store(&mut writer, Mid(2), 20_000);
    let freed = delete(&mut writer, &[Mid(1), Mid(9)]);
    assert!(freed.flows == 1 && freed.bytes > 20_000, "{freed:?}");
    tidy(&mut writer);
    assert_eq!(segment_files(&path), ["000002.seg"]);
    delete(&mut writer, &[Mid(2)]);
    writer.segments().roll();
    tidy(&mut writer);
    assert!(segment_files(&path).is_empty());
    writer.close().unwrap();
    let mut writer = open(&path);
    store(&mut writer, Mid(3), 20_000);
    assert_eq!(segment_files(&path), ["000003.seg"]);
    expect_bodies(&path, &[(Mid(3), 20_000)].into());
}

#[test]
fn a_mostly_dead_segment_is_copied_out_while_a_reader_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    for mid in 1..=10 {
        store(&mut writer, Mid(mid), 30_000);
    }
    writer.segments().roll();
    let reader = Reader::open(&path).unwrap();
    let old = reader.flow(Mid(7)).unwrap().unwrap().response.unwrap().body;
    let mut half_read = reader.body(&old).unwrap();
    let mut bytes = vec![0; 100];
    half_read.read_exact(&mut bytes).unwrap();
    delete(&mut writer, &[1, 2, 3, 4, 5, 6, 10].map(Mid));
    tidy(&mut writer);
    assert_eq!(segment_files(&path), ["000002.seg"]);
    // What is open is read on; what was not open yet says what happened, and can be asked for anew.
    half_read.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, body_bytes(Mid(7), 30_000));
    let late = Reader::open(&path).unwrap();
    let error = late.body(&old).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert!(error.to_string().contains("segment 000001 is gone: its flow was deleted or moved"), "{error}");
    assert_eq!(loaded_body(&reader, Mid(7)), body_bytes(Mid(7), 30_000));
    assert!(reader.load(Mid(1), 1 << 20).unwrap().is_none());
    expect_bodies(&path, &[7, 8, 9].map(|mid| (Mid(mid), 30_000)).into());
}

#[test]
fn a_body_larger_than_a_step_moves_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    store(&mut writer, Mid(1), 9 << 20);
    store(&mut writer, Mid(2), 5 << 20);
    writer.segments().roll();
    delete(&mut writer, &[Mid(1)]);
    tidy(&mut writer);
    assert_eq!(segment_files(&path), ["000002.seg"]);
    expect_bodies(&path, &[(Mid(2), 5 << 20)].into());
}

#[test]
fn payloads_of_messages_move_too_and_die_with_their_flow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    store(&mut writer, Mid(1), 90_000);
    for mid in [Mid(2), Mid(3)] {
        store(&mut writer, mid, 10);
        let mut group = Group::default();
        let content = Content::Extents(append(writer.segments(), mid, &body_bytes(mid, 15_000)));
        let opcode = Opcode::Binary;
        group.push_message(mid, &Message { seq: 1, len: 15_000, opcode, content, ..Message::default() });
        writer.commit(&mut group).unwrap();
    }
    writer.segments().roll();
    let freed = delete(&mut writer, &[Mid(1), Mid(3)]);
    assert!(freed.bytes > 105_000, "{freed:?}");
    tidy(&mut writer);
    assert_eq!(segment_files(&path), ["000002.seg"]);
    let reader = Reader::open(&path).unwrap();
    let mut payload = Vec::new();
    let messages = reader.messages(Mid(2), 0, 9).unwrap();
    reader.content(&messages[0].content).unwrap().read_to_end(&mut payload).unwrap();
    assert_eq!(payload, body_bytes(Mid(2), 15_000));
    assert!(reader.messages(Mid(3), 0, 9).unwrap().is_empty());
}

/// The body of a flow that is under way lies in a segment, and no row says so yet.
#[test]
fn what_is_under_way_is_never_taken_for_dead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    store(&mut writer, Mid(1), 90_000);
    let pin = writer.pins().pin(Mid(2));
    let extents = append(writer.segments(), Mid(2), &body_bytes(Mid(2), 30_000));
    writer.segments().roll();
    delete(&mut writer, &[Mid(1)]);
    tidy(&mut writer);
    commit(&mut writer, vec![flow(Mid(2), State::Complete, Content::Extents(extents))]).unwrap();
    drop(pin);
    expect_bodies(&path, &[(Mid(2), 30_000)].into());
    writer.keeper.space.reclaimer.forgive();
    tidy(&mut writer);
    assert_eq!(segment_files(&path), ["000002.seg"]);
    expect_bodies(&path, &[(Mid(2), 30_000)].into());
}

/// A kill after the commit that dropped a segment, before its file was gone; and before that commit.
#[test]
fn a_kill_at_either_side_of_the_unlink_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    store(&mut writer, Mid(1), 90_000);
    store(&mut writer, Mid(2), 10_000);
    writer.segments().roll();
    delete(&mut writer, &[Mid(1)]);
    let first = dir.path().join("f.db-bodies/000001.seg");
    let bytes = std::fs::read(&first).unwrap();
    tidy(&mut writer);
    assert!(!first.exists());
    // As if the unlink had not happened.
    writer.conn.execute("INSERT INTO segment (number, len, dropped) VALUES (1, 0, 1)", []).unwrap();
    std::fs::write(&first, bytes).unwrap();
    drop(writer);
    let writer = open(&path);
    assert!(!first.exists());
    let rows: i64 =
        writer.conn.query_row("SELECT count(*) FROM segment WHERE dropped", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 0);
    expect_bodies(&path, &[(Mid(2), 10_000)].into());
}

#[test]
fn a_store_keeps_to_its_number_of_flows_oldest_first_and_marked_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let limits = Limits { max_flows: Some(5), ..Limits::default() };
    let mut writer = Writer::open(&path, &WriterOptions { limits, ..options() }).unwrap();
    let notes = "CREATE TABLE IF NOT EXISTS note (mid INTEGER PRIMARY KEY, marker TEXT, comment TEXT) STRICT;
        CREATE TABLE IF NOT EXISTS tag (mid INTEGER, name TEXT, PRIMARY KEY (mid, name)) STRICT, WITHOUT ROWID;
        INSERT INTO note (mid, marker) VALUES (2, ':default:'), (3, '');";
    writer.conn.execute_batch(notes).unwrap();
    for mid in 1..=20 {
        store(&mut writer, Mid(mid), 3000);
    }
    tidy(&mut writer);
    expect_bodies(&path, &[2, 17, 18, 19, 20].map(|mid| (Mid(mid), 3000)).into());
    store(&mut writer, Mid(21), 3000);
    tidy(&mut writer);
    expect_bodies(&path, &[2, 18, 19, 20, 21].map(|mid| (Mid(mid), 3000)).into());
    assert_eq!(writer.keeper.space.freed.flows, 16);
}

#[test]
fn a_store_keeps_to_its_size_and_age() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    // The WAL is in it, and taken in only beyond 16 MiB.
    let limits = Limits { max_size_bytes: Some(24 << 20), ..Limits::default() };
    let mut writer = Writer::open(&path, &WriterOptions { limits, ..options() }).unwrap();
    for mid in 1..=60 {
        store(&mut writer, Mid(mid), 1 << 20);
        tidy(&mut writer);
    }
    let reader = Reader::open(&path).unwrap();
    let (low, high, count) = reader.bounds().unwrap().unwrap();
    assert!(high == Mid(60) && low.0 == 61 - count && (8..24).contains(&count), "{low} {count}");
    let folder = dir.path().join("f.db-bodies").read_dir().unwrap();
    let bytes: u64 = folder.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 24 << 20, "{bytes}");
    drop((reader, writer));
    // Their clock began in 1970.
    let limits = Limits { max_age: Some(Duration::from_secs(3600)), ..Limits::default() };
    let mut writer = Writer::open(&path, &WriterOptions { limits, ..options() }).unwrap();
    tidy(&mut writer);
    expect_bodies(&path, &BTreeMap::new());
}

#[test]
fn vacuum_finds_what_was_never_counted_and_makes_the_files_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    for mid in 1..=200 {
        store(&mut writer, Mid(mid), 10_000);
        // Of a flow that never ended.
        append(writer.segments(), Mid(10_000), &[1; 5000]);
    }
    delete(&mut writer, &(1..=150).map(Mid).collect::<Vec<_>>());
    writer.close().unwrap();
    let size = || {
        let files = [path.clone(), dir.path().join("f.db-wal")].into_iter();
        let folder = dir.path().join("f.db-bodies").read_dir().unwrap();
        let files = files.chain(folder.map(|entry| entry.unwrap().path()));
        files.map(|file| std::fs::metadata(file).map_or(0, |m| m.len())).sum::<u64>()
    };
    let before = size();
    let estimate = Reader::open(&path).unwrap().reclaimable(|_, _| {}).unwrap();
    assert!(estimate.dead_bytes > 2_400_000, "{estimate:?}");
    let mut vacuum = Vacuum::open(&path).unwrap();
    assert!(matches!(Vacuum::open(&path), Err(StoreError::Locked { .. })));
    let measured = vacuum.measure(|_, _| {}).unwrap();
    assert_eq!(measured.dead_bytes, estimate.dead_bytes);
    let no_room = Estimate { need_bytes: u64::MAX, ..measured };
    assert!(matches!(vacuum.run(&no_room, |_, _| {}), Err(StoreError::NoRoom { .. })));
    vacuum.run(&measured, |_, _| {}).unwrap();
    let bytes = vacuum.close().unwrap();
    assert!(size() <= bytes && size() + 2_400_000 < before, "{before} {bytes} {}", size());
    expect_bodies(&path, &(151..=200).map(|mid| (Mid(mid), 10_000)).collect());
}

/// A capture that runs for months, each flow by a connection and to a host of its own: what is kept beside flows is bounded by
/// their number, too.
#[test]
fn connections_and_hosts_that_nothing_refers_to_go_with_their_flows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let limits = Limits { max_flows: Some(300), ..Limits::default() };
    let durability = Durability::Normal;
    let mut writer = Writer::open(&path, &WriterOptions { limits, durability, ..options() }).unwrap();
    let mut most = 0;
    for group in 0..60_u64 {
        let mut all = Group::default();
        for n in 1..=100 {
            let mid = Mid(group * 100 + n);
            let mut flow = flow(mid, State::Complete, Content::Absent);
            flow.target.host = format!("host{mid}.test");
            // One connection goes on for ever.
            let id = if n == 50 { ConnId(1) } else { ConnId(mid.0 + 1) };
            flow.client = Arc::new(ClientConn { id, mode: format!("{mid}"), ..ClientConn::default() });
            let mut bytes = Vec::new();
            let draft = Draft::new(mid, &flow, false, &mut bytes);
            all.push(draft, &bytes);
            (all.next_mid, all.next_conn) = (mid.0 + 1, mid.0 + 2);
        }
        writer.commit(&mut all).unwrap();
        tidy(&mut writer);
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            writer.conn.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
        };
        most = most.max(count("conn")).max(count("host"));
    }
    // 300 that are left, and those of a thousand flows that are deleted between two looks.
    assert!((300..1700).contains(&most), "{most}");
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    for mid in (5701..=6000).map(Mid) {
        let flow = reader.flow(mid).unwrap().unwrap();
        assert_eq!(flow.target.host, format!("host{mid}.test"));
        if mid.0 % 100 == 50 {
            assert!(!flow.client.mode.is_empty(), "{mid} has lost its connection");
        } else {
            assert_eq!(flow.client.mode, mid.to_string());
        }
    }
    let checked = reader.check(|damage| panic!("{damage:?}") as Result<(), StoreError>, |_, _| ()).unwrap();
    assert_eq!((checked.flows, checked.damages), (300, 0));
}

/// One that a recorder's filter leaves out in the end, when people have noted something beside it.
#[test]
fn nothing_of_a_flow_that_is_taken_out_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    commit(&mut writer, vec![flow(Mid(1), State::Open, Content::Absent)]).unwrap();
    let mut annotator = Annotator::open(&path).unwrap();
    annotator.apply(&[Mid(1)], &Change::mark("x").unwrap()).unwrap();
    annotator.apply(&[Mid(1)], &Change::tags(vec!["a".into()], Vec::new()).unwrap()).unwrap();
    let mut group = Group::default();
    let content = Content::Extents(append(writer.segments(), Mid(1), &body_bytes(Mid(1), 15_000)));
    let opcode = Opcode::Binary;
    group.push_message(Mid(1), &Message { seq: 1, len: 15_000, opcode, content, ..Message::default() });
    writer.commit(&mut group).unwrap();
    group.clear();
    (group.next_mid, group.next_conn) = (2, 2);
    group.remove(Mid(1));
    writer.commit(&mut group).unwrap();
    let number = |sql: &str| writer.conn.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    for table in ["flow", "record", "message", "note", "tag", "zone", "zone_url"] {
        assert_eq!(number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    let len = std::fs::metadata(dir.path().join("f.db-bodies/000001.seg")).unwrap().len();
    assert_eq!(u64::from(number("SELECT dead FROM segment")), len);
}

/// As somebody who cleans up a folder does, while it is recorded into.
#[test]
fn a_segment_file_that_is_taken_away_is_noticed_and_recording_goes_on() {
    for replaced in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.db");
        let first = dir.path().join("f.db-bodies/000001.seg");
        let mut writer = open(&path);
        store(&mut writer, Mid(1), 20_000);
        // So that it is not read from a file that is open.
        let stored = |writer: &mut Writer, mid: Mid| {
            let extents = append(writer.segments(), mid, &body_bytes(mid, 20_000));
            commit(writer, vec![flow(mid, State::Complete, Content::Extents(extents))]).unwrap()
        };
        std::fs::remove_file(&first).unwrap();
        if replaced {
            std::fs::write(&first, "something else").unwrap();
        }
        let outcome = stored(&mut writer, Mid(2));
        assert_eq!((outcome.lost_bodies, outcome.lost_in), (1, vec![Mid(2)]));
        assert_eq!(stored(&mut writer, Mid(3)).lost_bodies, 0);
        let reader = Reader::open(&path).unwrap();
        assert_eq!(loaded_body(&reader, Mid(3)), body_bytes(Mid(3), 20_000));
        let body = reader.flow(Mid(2)).unwrap().unwrap().response.unwrap().body;
        assert_eq!(body.end, BodyEnd::Lost);
        let mut damaged = Vec::new();
        let found = |damage: &Damage| -> Result<(), StoreError> {
            damaged.extend(damage.mid);
            Ok(())
        };
        reader.check(found, |_, _| ()).unwrap();
        assert_eq!(damaged, [Mid(1)]);
        tidy(&mut writer);
        writer.close().unwrap();
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Store(Vec<usize>),
    Delete(Vec<prop::sample::Index>),
    Roll,
    Tidy,
    Reopen,
    Vacuum,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => prop::collection::vec(1..60_000_usize, 1..6).prop_map(Deed::Store),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 1..8).prop_map(Deed::Delete),
        2 => Just(Deed::Roll),
        2 => Just(Deed::Tidy),
        1 => Just(Deed::Reopen),
        1 => Just(Deed::Vacuum),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_deleted_and_moved_the_rest_stays_as_it_was(deeds in prop::collection::vec(deed(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.db");
        // Syncs take time, and the power is not cut here.
        let options = WriterOptions { durability: Durability::Normal, ..options() };
        let mut writer = Some(Writer::open(&path, &options).unwrap());
        let mut left = BTreeMap::new();
        let mut next = 1;
        for deed in deeds {
            let open = writer.as_mut().unwrap();
            match deed {
                Deed::Store(lens) => for len in lens {
                    store(open, Mid(next), len);
                    left.insert(Mid(next), len);
                    next += 1;
                },
                Deed::Delete(which) => {
                    let mids: Vec<Mid> = left.keys().copied().collect();
                    let doomed: Vec<Mid> = which.iter().filter(|_| !mids.is_empty()).map(|i| *i.get(&mids)).collect();
                    delete(open, &doomed);
                    left.retain(|mid, _| !doomed.contains(mid));
                }
                Deed::Roll => open.segments().roll(),
                Deed::Tidy => tidy(open),
                Deed::Reopen => {
                    drop(writer.take());
                    writer = Some(Writer::open(&path, &options).unwrap());
                }
                Deed::Vacuum => {
                    drop(writer.take());
                    let mut vacuum = Vacuum::open(&path).unwrap();
                    let measured = vacuum.measure(|_, _| {}).unwrap();
                    vacuum.run(&measured, |_, _| {}).unwrap();
                    vacuum.close().unwrap();
                    writer = Some(Writer::open(&path, &options).unwrap());
                }
            }
        }
        expect_bodies(&path, &left);
    }
}
