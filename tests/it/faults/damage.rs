//! Files that are taken away, replaced or cut under those who use them.

use std::path::{Path, PathBuf};

use super::capture::{Capture, Origin, ended, manent, rows};

/// A capture that has stored a flow, with a body in a segment.
fn captured(path: &Path, origin: &Origin) -> Capture {
    let capture = Capture::start(manent(path));
    capture.ask(origin, 50_000);
    while rows(path).is_empty() {}
    capture
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// What `ls` and `capture` say of it: exit code 4, and that it is damaged or none of ours; never a panic.
fn assert_told(path: &Path) {
    for args in [&["ls"][..], &["show", "1"], &["capture", "-p", "0"]] {
        let mut command = manent(path);
        command.args(args);
        let (code, _, said) = ended(command);
        assert_eq!(code, 4, "{args:?}: {said}");
        assert!(said.contains("error[E405]") || said.contains("error[E406]"), "{args:?}: {said}");
    }
}

#[test]
fn a_store_with_a_good_head_and_garbage_behind_it_is_told() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    assert_eq!(captured(&path, &origin).stop().0, 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    assert_told(&path);
    assert!(std::fs::read(&path).unwrap() == bytes, "what was told to be damaged was changed");
}

#[test]
fn a_store_that_is_cut_short_is_told() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    assert_eq!(captured(&path, &origin).stop().0, 0);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..2 * 16_384]).unwrap();
    assert_told(&path);
}

/// Somebody's script writes over the file. Traffic goes on; what cannot be stored is told at the latest by the next reader.
#[test]
fn traffic_goes_on_when_the_store_is_overwritten_with_garbage() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    let capture = captured(&path, &origin);
    std::fs::write(&path, vec![0x5a; 300_000]).unwrap();
    std::fs::write(beside(&path, "-wal"), vec![0x5a; 300_000]).unwrap();
    for len in [10, 50_000, 10, 50_000] {
        capture.ask(&origin, len);
    }
    let (code, said) = capture.stop();
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("error[E409]") && said.contains("flows cannot be stored"), "{said}");
    assert_told(&path);
}

/// The file is taken away under a capture, as a clean-up does, or something else is put in its place. What is written from
/// then on goes to a file without a name, and is lost when the capture ends: it must not end as if all were well.
#[test]
fn a_store_that_is_taken_away_under_a_capture_is_told() {
    for replaced in [false, true] {
        let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
        let path = dir.path().join("flows.db");
        let capture = captured(&path, &origin);
        std::fs::remove_file(&path).unwrap();
        if replaced {
            std::fs::write(&path, "something else").unwrap();
        }
        capture.ask(&origin, 10);
        let (code, said) = capture.stop();
        assert_eq!(code, 4, "{said}");
        assert!(said.contains("flows.db") && said.contains("taken away"), "{said}");
    }
}

/// Segments that go away lose the bodies that they held, and nothing else.
#[test]
fn traffic_and_recording_go_on_when_segments_are_taken_away() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    let capture = captured(&path, &origin);
    std::fs::remove_dir_all(beside(&path, "-bodies")).unwrap();
    capture.ask(&origin, 60_000);
    capture.ask(&origin, 10);
    let (_, said) = capture.stop();
    assert_eq!(rows(&path).len(), 3, "{said}");
    let mut command = manent(&path);
    command.args(["cat", "1"]);
    let (code, _, said) = ended(command);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("error[E405]") && said.contains("The record of flow 1"), "{said}");
    // A new segment is made where there is none.
    let again = Capture::start(manent(&path));
    again.ask(&origin, 50_000);
    assert_eq!(again.stop().0, 0);
    let mut command = manent(&path);
    command.args(["cat", "last"]);
    assert_eq!(command.output().unwrap().stdout, super::capture::body(50_000));
}
