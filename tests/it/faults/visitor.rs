//! Another program looks into the database while it is recorded into, as `sqlite3 flows.db` does.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use manent::record::{Recorder, RecorderOptions};
use manent::store::{Reader, StoreError};

use crate::cli::flow;

/// Whether this process has a lock on the file (proc_locks(5)).
///
/// The kernel gives the list in parts, and leaves one out where another process, or another test, gives up one before it in
/// between. It never makes one up. So a lock that is not found is looked for again.
fn is_locked(path: &Path) -> bool {
    let number = format!(":{}", std::fs::metadata(path).unwrap().ino());
    let ours = std::process::id().to_string();
    let is_it = |lock: &str| {
        let words: Vec<&str> = lock.split_whitespace().collect();
        words.get(4) == Some(&&*ours) && words.get(5).is_some_and(|file| file.ends_with(&number))
    };
    (0..200).any(|_| {
        let found = std::fs::read_to_string("/proc/locks").unwrap().lines().any(is_it);
        if !found {
            std::thread::yield_now();
        }
        found
    })
}

/// Whoever closes a database last takes its log into it and deletes the log. Who is last is told by locks, and a process loses
/// its locks on a file when it closes any descriptor of it (sqlite.org/howtocorrupt.html §2.2), as a reader of ours did when it
/// had looked at the header.
///
/// It is the lock that is asserted and not the log, since whether the log is lost depends on the visitor's SQLite: 3.40.1
/// deletes it, and what is recorded from then on is in no file; 3.53.2, which we bundle, looks at other locks too.
#[tokio::test]
async fn looking_at_a_store_leaves_the_recorders_lock_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
    let mid = recorder.store(flow("/1", b"")).await.unwrap();
    assert!(is_locked(&path), "there is no lock to lose");
    // All that looks at the file in this process.
    let reader = Reader::open(&path).unwrap();
    assert!(is_locked(&path), "lost by opening a reader");
    drop(reader);
    assert!(is_locked(&path), "lost by closing a reader");
    assert!(recorder.collect(mid).await.unwrap().is_some());
    assert!(is_locked(&path), "lost by collecting a flow");
    let second = Recorder::open(&path, RecorderOptions::default()).await.unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    assert!(is_locked(&path), "lost by a second recorder that was refused");
    recorder.close().await.unwrap();
    assert!(!is_locked(&path), "a closed store is locked");
}
