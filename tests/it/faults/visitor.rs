//! Another program looks into the database while it is recorded into, as `sqlite3 flows.db` does.

use std::path::Path;
use std::process::Command;

use manent::record::{Recorder, RecorderOptions};
use manent::store::{Reader, StoreError};

use crate::cli::flow;

/// The database's path, in the environment of the other program.
const VISITED: &str = "MANENT_TEST_VISITED";

/// What another program finds that opens the database for writing, counts the flows and closes it.
fn visit(path: &Path) -> i64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::visitor::a_visitor_does_not_take_the_log_away", "--nocapture"])
        .env(VISITED, path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, found) = text.split_once("found: ").unwrap_or_else(|| panic!("{text}"));
    found.split_whitespace().next().unwrap().parse().unwrap()
}

fn be_the_visitor(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM flow", [], |row| row.get(0)).unwrap();
    db.close().unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), format!("\nfound: {count}\n").as_bytes()).unwrap();
}

/// Whoever closes a database last takes its log into it and deletes the log. Who is last is told by locks, and a process loses
/// its locks on a file when it closes any descriptor of it (sqlite.org/howtocorrupt.html §2.2), as our readers did when they
/// had looked at the header: then the visitor deleted the log under the recorder, and what came later was in no file.
#[tokio::test]
async fn a_visitor_does_not_take_the_log_away() {
    if let Some(path) = std::env::var_os(VISITED) {
        return be_the_visitor(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
    let first = recorder.store(flow("/1", b"")).await.unwrap();
    // All that looks at the file in this process.
    drop(Reader::open(&path).unwrap());
    assert!(recorder.collect(first).await.unwrap().is_some());
    let second = Recorder::open(&path, RecorderOptions::default()).await.unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    assert_eq!(visit(&path), 1);
    recorder.store(flow("/2", b"")).await.unwrap();
    assert_eq!(visit(&path), 2);
    recorder.close().await.unwrap();
    assert_eq!(visit(&path), 2);
}
