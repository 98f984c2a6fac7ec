//! Notes from below: older stores, a store that can only be read, two who write, reading leniently.

use super::*;
use crate::store::db_file::DbFile;
use crate::store::lock::Lock;
use crate::store::paths::Paths;

/// A store of `count` flows, without a writer.
fn store(dir: &Path, count: u64) -> PathBuf {
    let path = dir.join("f.db");
    let mut writer = open(&path);
    commit(&mut writer, (1..=count).map(|n| flow(Mid(n), State::Complete, Content::Absent)).collect())
        .unwrap();
    writer.close().unwrap();
    path
}

#[test]
fn an_older_store_is_upgraded_unless_a_writer_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = of_version(dir.path(), 1);
    let before = std::fs::read(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.notes(&[Mid(1)]).unwrap().is_empty());
    assert!(reader.sessions(9).unwrap().iter().all(|session| session.counts.is_none()));
    let lock = Lock::take(&Paths::of(&path)).unwrap();
    let error = Annotator::open(&path).unwrap_err();
    assert!(
        matches!(error, StoreError::OlderWriter { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(lock);
    let mut annotator = Annotator::open(&path).unwrap();
    // The lock was for the upgrade alone.
    open(&path).close().unwrap();
    assert_eq!(annotator.apply(&[Mid(1), Mid(99)], &Change::mark("x").unwrap()).unwrap(), 1);
    for reader in [reader, Reader::open(&path).unwrap()] {
        let notes = reader.notes(&[Mid(1), Mid(2), Mid(99)]).unwrap();
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[&Mid(1)].marker.as_deref(), Some("x"));
        assert_eq!(reader.flow(Mid(3)).unwrap().unwrap().state, State::Complete);
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    assert!(matches!(Annotator::open(&path), Err(StoreError::NotFound { .. })));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Annotator::open(&path), Err(StoreError::NotAStore { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

/// SQLite opens a file that cannot be written for reading instead, and says nothing.
#[test]
fn a_store_that_can_only_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path(), 1);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(&path, flags).unwrap();
    let error = Annotator::over(conn, Paths::of(&path), DbFile::find(&path).unwrap().unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
}

/// A commit that finds the annotator at work waits for it, and the other way round.
#[test]
fn recorder_and_annotator_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    commit(&mut writer, vec![flow(Mid(1), State::Complete, Content::Absent)]).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO tag VALUES (1, 'slow')").unwrap();
    let mut annotator = Annotator::open(&path).unwrap();
    std::thread::scope(|threads| {
        let (begun, begins) = std::sync::mpsc::channel();
        let also_begun = begun.clone();
        let commits = threads.spawn(move || {
            begun.send(()).unwrap();
            commit(&mut writer, vec![flow(Mid(2), State::Complete, Content::Absent)]).unwrap();
            writer.close().unwrap();
        });
        let notes = threads.spawn(move || {
            also_begun.send(()).unwrap();
            annotator.apply(&[Mid(1)], &Change::comment("c").unwrap()).unwrap()
        });
        begins.recv().unwrap();
        begins.recv().unwrap();
        assert!(!commits.is_finished() && !notes.is_finished());
        other.execute_batch("COMMIT").unwrap();
        commits.join().unwrap();
        assert_eq!(notes.join().unwrap(), 1);
    });
    let reader = Reader::open(&path).unwrap();
    assert!(reader.flow(Mid(2)).unwrap().is_some());
    let note = reader.notes(&[Mid(1)]).unwrap().remove(&Mid(1)).unwrap();
    assert_eq!(note, Note { marker: None, comment: Some("c".into()), tags: vec!["slow".into()] });
}

#[test]
fn notes_outlive_the_flow_that_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    commit(&mut writer, vec![flow(Mid(1), State::Open, Content::Absent)]).unwrap();
    let mut annotator = Annotator::open(&path).unwrap();
    annotator.apply(&[Mid(1)], &Change::mark("x").unwrap()).unwrap();
    annotator.apply(&[Mid(1)], &Change::tags(vec!["a".into()], Vec::new()).unwrap()).unwrap();
    let (ended, mut bytes) = (flow(Mid(1), State::Complete, Content::Absent), Vec::new());
    let draft = Draft::new(Mid(1), &ended, true, &mut bytes);
    let mut group = Group::default();
    (group.next_mid, group.next_conn) = (2, 2);
    group.push(draft, &bytes);
    writer.commit(&mut group).unwrap();
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.flow(Mid(1)).unwrap().unwrap().state, State::Complete);
    let note = reader.notes(&[Mid(1)]).unwrap().remove(&Mid(1)).unwrap();
    assert_eq!((note.marker.as_deref(), &note.tags[..]), (Some("x"), &["a".to_owned()][..]));
}

/// All or nothing, and no row is left that says nothing.
#[test]
fn a_change_is_whole_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path(), 2);
    let mut annotator = Annotator::open(&path).unwrap();
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("t{n}")).collect::<Vec<_>>();
    annotator.apply(&[Mid(2)], &Change::tags(names(0..100), Vec::new()).unwrap()).unwrap();
    let one_more = Change::tags(names(100..101), Vec::new()).unwrap();
    let error = annotator.apply(&[Mid(1), Mid(2)], &one_more).unwrap_err();
    assert!(matches!(error, StoreError::TooManyTags { mid: Mid(2), limit: 100 }), "{error}");
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.notes(&[Mid(1), Mid(2)]).unwrap().keys().collect::<Vec<_>>(), [&Mid(2)]);
    for change in
        [Change::mark("x").unwrap(), Change::comment("c").unwrap(), Change::unmark(), Change::uncomment()]
    {
        annotator.apply(&[Mid(1)], &change).unwrap();
    }
    let db = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = db.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

/// A file from elsewhere: what no annotator would write is cut, and no list ends for it.
#[test]
fn poisoned_notes_are_read_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path(), 2);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "INSERT INTO note VALUES (1, CAST(x'ff00' AS TEXT), CAST(zeroblob(1000000) AS TEXT)), (-5, 'x', NULL);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 1000)
         INSERT INTO tag SELECT 2, n || CAST(zeroblob(200) AS TEXT) FROM n;",
    )
    .unwrap();
    let reader = Reader::open(&path).unwrap();
    let notes = reader.notes(&[Mid(1), Mid(2), Mid(u64::MAX)]).unwrap();
    assert_eq!(notes.len(), 2);
    let longest = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    assert!(longest(&notes[&Mid(1)].marker) <= 400 && longest(&notes[&Mid(1)].comment) <= 4 << 16);
    assert!(notes[&Mid(2)].tags.len() <= 100);
    reader.stats(5, |_, _| ()).unwrap();
}
