//! Every example runs, ends well, and shows what it says.

use std::path::Path;
use std::process::Command;

/// Runs the example's binary, which cargo builds with the tests and puts beside them.
fn run(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let output = Command::new(&binary).output().unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn capture_shows_the_flow_by_its_mid() {
    let shown = run("capture");
    assert!(
        shown.contains("/hello Complete, 6 bytes: manent") && shown.contains("stored 1, lost 0"),
        "{shown}"
    );
}

#[test]
fn serve_answers_from_the_store_with_the_origin_gone() {
    let shown = run("serve");
    assert!(
        shown.contains("1 of 1 flows can answer") && shown.contains("query n: recorded n=1, asked n=2"),
        "{shown}"
    );
    assert!(shown.contains("\r\n\r\nmanent") && shown.contains("1 answered, 1 missed"), "{shown}");
}

#[test]
fn store_and_collect_gives_back_what_was_stored() {
    let shown = run("store_and_collect");
    assert!(shown.contains("mids 1 and 2") && shown.contains("with 1048576 bytes of body"), "{shown}");
}

#[test]
fn replay_shows_what_went_out_and_what_differs() {
    let shown = run("replay");
    assert!(
        shown.contains("X-Case: kept") && shown.contains("X-Added: now") && shown.contains("1 → 2"),
        "{shown}"
    );
    assert!(shown.contains("path: \"$.n\"") && !shown.contains("greeting\""), "{shown}");
}

#[test]
fn export_and_import_gives_back_what_was_written() {
    let shown = run("export_and_import");
    assert!(shown.contains("1 flow, ") && shown.contains(" bytes of har"), "{shown}");
    assert!(shown.contains(r#"200 Fine: Some(b"\0 and \xff stay as they are")"#), "{shown}");
}
