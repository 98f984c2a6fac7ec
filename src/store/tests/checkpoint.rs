//! The WAL stays short while groups are committed, whoever reads.

use super::*;
use crate::store::checkpoint::WAL_BYTES;

/// Commits flows with long paths until about `bytes` went through the WAL; the mid that follows them.
fn fill(writer: &mut Writer, mut mid: u64, bytes: u64) -> u64 {
    let path = Bytes::from(vec![b'x'; 8000]);
    for _ in 0..bytes.div_ceil(250 * 8000) {
        let flows = (mid..mid + 250).map(|mid| {
            let mut flow = flow(Mid(mid), State::Complete, Content::Absent);
            flow.request.as_mut().unwrap().target = path.clone();
            flow
        });
        commit(writer, flows.collect()).unwrap();
        mid += 250;
    }
    mid
}

#[test]
fn the_wal_begins_anew_while_groups_are_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let wal = || std::fs::metadata(dir.path().join("f.db-wal")).unwrap().len();
    let mid = fill(&mut writer, 1, 4 * WAL_BYTES);
    assert!(wal() < 3 * WAL_BYTES, "{} MiB", wal() >> 20);

    // Somebody reads what was there, and takes his time.
    let slow = rusqlite::Connection::open(&path).unwrap();
    slow.execute_batch("BEGIN; SELECT count(*) FROM flow").unwrap();
    let mid = fill(&mut writer, mid, 3 * WAL_BYTES);
    assert!(wal() >= 3 * WAL_BYTES, "a WAL that is read must not be overwritten");
    slow.execute_batch("COMMIT").unwrap();
    let long = wal();
    let mid = fill(&mut writer, mid, 3 * WAL_BYTES);
    assert!(wal() < long + 2 * WAL_BYTES, "{} MiB after {}", wal() >> 20, long >> 20);
    writer.close().unwrap();
    let (low, high, count) = Reader::open(&path).unwrap().bounds().unwrap().unwrap();
    assert_eq!((low, high, count), (Mid(1), Mid(mid - 1), mid - 1));
}
