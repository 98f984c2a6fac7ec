//! What is opened and what is refused, modes, recovery, damage, lists.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn files_are_private_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    // Nothing that another test does at the same time depends on bits being taken away.
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let mut writer = open(&path);
    let extents = append(writer.segments(), Mid(1), &[1; 5000]);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Extents(extents))]).unwrap();
    rustix::process::umask(before);
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["f.db", "f.db-wal", "f.db-shm", "f.db-lock", "f.db-bodies/000001.seg"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode("f.db-bodies"), 0o700);
    writer.close().unwrap();
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let path = dir.path().join(name);
        let before = std::fs::read(&path).unwrap();
        let (write, read) = (Writer::open(&path, &options()).unwrap_err(), Reader::open(&path).unwrap_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(write.to_string(), read.to_string());
        write
    };
    std::fs::write(dir.path().join("text"), "no database at all, but longer than a header".repeat(9))
        .unwrap();
    std::fs::write(dir.path().join("short"), "short").unwrap();
    let other = rusqlite::Connection::open(dir.path().join("other")).unwrap();
    other.execute_batch("CREATE TABLE t(x)").unwrap();
    for name in ["text", "short", "other"] {
        assert!(matches!(refused(name), StoreError::NotAStore { .. }), "{name}");
    }
    open(&dir.path().join("newer")).close().unwrap();
    let newer = rusqlite::Connection::open(dir.path().join("newer")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(newer);
    assert!(matches!(refused("newer"), StoreError::NewerSchema { found: 99, known: schema::VERSION, .. }));
}

#[test]
fn what_cannot_be_made_or_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Writer::open(&file.join("f.db"), &options()).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    let error = Writer::open(&dir.path().join("none/f.db"), &options()).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    let error = Reader::open(&dir.path().join("none.db")).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
}

/// What a process leaves that is killed while it makes a store: a file of another name, with anything in it.
#[test]
fn a_store_that_was_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    for left in [&b""[..], b"SQLite format 3\0and no more"] {
        std::fs::write(dir.path().join("f.db-new"), left).unwrap();
        std::fs::write(dir.path().join("f.db-new-wal"), left).unwrap();
        assert!(matches!(Reader::open(&path).unwrap_err(), StoreError::NotFound { .. }));
        let mut writer = open(&path);
        commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Absent)]).unwrap();
        writer.close().unwrap();
        assert!(Reader::open(&path).unwrap().flow(Mid(1)).unwrap().is_some());
        let names = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name.to_string_lossy().contains("-new")).collect();
        assert!(names.is_empty(), "{names:?}");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_dir_all(dir.path().join("f.db-bodies")).unwrap();
    }
}

#[test]
fn a_store_in_the_place_of_an_empty_file_is_made_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut writer = open(&path);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Absent)]).unwrap();
    writer.close().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(Reader::open(&path).unwrap().flow(Mid(1)).unwrap().is_some());
}

#[test]
fn several_flows_are_those_that_each_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let there = [1, 2, 3, 5, 6, 9];
    let flows = there.map(|n| {
        let content = Content::Inline(body_bytes(Mid(n), 100 * usize::try_from(n).unwrap()).into());
        flow(Mid(n), if n == 2 { State::Open } else { State::Complete }, content)
    });
    commit(&mut writer, flows.into()).unwrap();
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    let asked: [&[u64]; 9] =
        [&[], &[1], &[4], &[1, 2, 3], &[2, 3, 4, 5, 6], &[4, 5], &[3, 2, 1], &[9, 1, 9], &[7, 8, 9, 10]];
    for mids in asked {
        let mids: Vec<Mid> = mids.iter().map(|&n| Mid(n)).collect();
        let each: Vec<Flow> = mids.iter().filter_map(|&mid| reader.flow(mid).unwrap()).collect();
        assert_eq!(reader.flows(&mids).unwrap(), each, "{mids:?}");
        assert_eq!(each.len(), mids.iter().filter(|mid| there.contains(&mid.0)).count());
    }
    // One of them is damaged: it is told which, also of several.
    let segment = dir.path().join("f.db-bodies/000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (alone, among) = (reader.flow(Mid(9)).unwrap_err(), reader.flows(&[Mid(8), Mid(9)]).unwrap_err());
    assert!(alone.to_string().contains("flow 9") && alone.to_string() == among.to_string(), "{among}");
    assert_eq!(reader.flows(&[Mid(5), Mid(6)]).unwrap().len(), 2);
}

#[test]
fn a_writer_that_died_leaves_interrupted_flows_and_its_lock_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let states = [(1, State::Open), (2, State::Complete), (3, State::Open)];
    commit(&mut writer, states.map(|(n, state)| flow(Mid(n), state, Content::Absent)).into()).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.flow(Mid(1)).unwrap().unwrap().state, State::Open);
    // Without a close: as far as the files are concerned, this is a killed process.
    drop(writer);
    let writer = open(&path);
    let state = |n| reader.flow(Mid(n)).unwrap().unwrap().state;
    assert_eq!([state(1), state(2), state(3)], [State::Interrupted, State::Complete, State::Interrupted]);
    assert_eq!(writer.next_ids(), (4, 2));
    writer.close().unwrap();
}

#[test]
fn a_torn_tail_is_cut_and_appending_goes_on_behind_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let (first, second) = (body_bytes(Mid(1), 25_000), body_bytes(Mid(2), 5_000));
    let extents = append(writer.segments(), Mid(1), &first);
    assert_eq!(extents.len(), 1, "contiguous pieces are one extent");
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Extents(extents))]).unwrap();
    // A whole piece that no row refers to stays; half a piece goes.
    append(writer.segments(), Mid(9), &[9; 100]);
    writer.segments().wait_written(writer.segments().taken());
    drop(writer);
    let segment = dir.path().join("f.db-bodies/000001.seg");
    let whole = std::fs::read(&segment).unwrap();
    let torn = [&whole[..], &whole[..500]].concat();
    std::fs::write(&segment, torn).unwrap();
    let mut writer = open(&path);
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), whole.len() as u64);
    let extents = append(writer.segments(), Mid(2), &second);
    assert_eq!((extents[0].segment, extents[0].offset), (1, whole.len() as u64));
    commit(&mut writer, vec![flow(Mid(2), State::Complete, Content::Extents(extents))]).unwrap();
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!((loaded_body(&reader, Mid(1)), loaded_body(&reader, Mid(2))), (first.into(), second.into()));
}

#[test]
fn nothing_is_written_where_a_shortened_segment_had_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let extents = append(writer.segments(), Mid(1), &[1; 25_000]);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Extents(extents))]).unwrap();
    writer.close().unwrap();
    let segment = dir.path().join("f.db-bodies/000001.seg");
    std::fs::File::options().write(true).open(&segment).unwrap().set_len(12_000).unwrap();
    let writer = open(&path);
    assert_eq!(append(writer.segments(), Mid(2), &[2; 10])[0].segment, 2);
    writer.close().unwrap();
    let error = Reader::open(&path).unwrap().load(Mid(1), 1 << 20).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_damaged_piece_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let extents = append(writer.segments(), Mid(1), &[1; 25_000]);
    let content = Content::Extents(extents);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, content.clone())]).unwrap();
    writer.close().unwrap();
    let segment = dir.path().join("f.db-bodies/000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[15_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut read = Vec::new();
    let mut body = reader.body(&Body { content, ..Body::default() }).unwrap();
    let error = body.read_to_end(&mut read).unwrap_err();
    assert_eq!((error.kind(), read.len()), (std::io::ErrorKind::InvalidData, 10_000));
    assert_eq!(error.to_string(), "segment 000001 is damaged at offset 10032");
}

#[test]
fn a_list_pages_by_mid_from_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    assert_eq!(Reader::open(&path).unwrap().bounds().unwrap(), None);
    commit(&mut writer, (1..=9).map(|n| flow(Mid(n), State::Complete, Content::Absent)).collect()).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mids = |query| reader.list(&query).unwrap().iter().map(|row| row.mid.0).collect::<Vec<_>>();
    assert_eq!(mids(ListQuery { limit: Some(2), ..ListQuery::default() }), [9, 8]);
    let between = ListQuery { before: Some(Mid(6)), after: Some(Mid(3)), ..ListQuery::default() };
    assert_eq!(mids(between), [5, 4]);
    assert_eq!(mids(ListQuery { order: Order::OldestFirst, ..between }), [4, 5]);
    assert_eq!(reader.bounds().unwrap(), Some((Mid(1), Mid(9), 9)));
    let row = &reader.list(&ListQuery::default()).unwrap()[0];
    assert_eq!((&*row.method, &*row.path, row.status, row.client_conn), ("GET", "/", Some(200), ConnId(1)));
    writer.close().unwrap();
}

/// New reader and new writer on old files, of either version before the one that tells of truncated bodies.
#[test]
fn rows_of_older_stores_have_no_truncated_bodies() {
    for old_version in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = of_version(dir.path(), old_version);
        let truncated = |reader: &Reader| {
            let rows = reader.list(&ListQuery { order: Order::OldestFirst, ..ListQuery::default() }).unwrap();
            rows.iter().map(|row| (row.request_truncated, row.response_truncated)).collect::<Vec<_>>()
        };
        let before = Reader::open(&path).unwrap();
        assert_eq!(truncated(&before), [(false, false); 3]);
        let mut writer = open(&path);
        let mut capped = flow(Mid(4), State::Complete, Content::Inline("ab".into()));
        let body = &mut capped.response.as_mut().unwrap().body;
        (body.len, body.end) = (3, BodyEnd::Capped);
        commit(&mut writer, vec![capped]).unwrap();
        for reader in [before, Reader::open(&path).unwrap()] {
            assert_eq!(truncated(&reader)[2..], [(false, false), (false, true)]);
        }
        writer.close().unwrap();
    }
}

/// A file from elsewhere: nothing in it is run, and a record that is not one is told.
#[test]
fn a_poisoned_store_is_read_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Absent)]).unwrap();
    writer.close().unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "UPDATE flow SET state = 77, status = -5; INSERT INTO record VALUES (1, x'ffffffffffff')",
    )
    .unwrap();
    for (mid, record) in [
        (2, "record_segment, record_offset + 1, record_len"),
        (3, "999, record_offset, 1 << 60"),
        (4, "record_segment, record_offset, record_len"), // another flow's
        (5, "record_segment, -7, record_len"),
    ] {
        db.execute_batch(&format!(
            "INSERT INTO flow SELECT {mid}, session, started_unix_ns, duration_us, kind, state, method, scheme, host, port,
               path, status, request_type, response_type, request_len, response_len, error, client_conn, server_conn,
               replay_of, truncated, {record} FROM flow WHERE mid = 1"
        ))
        .unwrap();
    }
    drop(db);
    let reader = Reader::open(&path).unwrap();
    assert!(reader.flow(Mid(1)).unwrap().is_some(), "its row says where its record is");
    for mid in 2..=5 {
        assert!(matches!(reader.flow(Mid(mid)), Err(StoreError::Damaged { .. })), "flow {mid}");
    }
    let row = reader.list(&ListQuery::default()).unwrap().pop().unwrap();
    assert_eq!((row.state, row.status), (State::Failed, None));
}
