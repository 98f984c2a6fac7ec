//! Disks that take no more. A limit on the size of files stands for one, since that needs no rights: writes beyond it fail, as
//! do those on a full disk. The clients' program fills a real one.

use std::process::Command;

use super::capture::{Capture, Origin, ended, manent, manent_after, rows, whole_and_lost};

/// Files may have so many blocks: of 512 bytes in some shells, of 1024 in others.
const LIMIT: &str = "ulimit -f 1024";

/// Segments come to their end first. Without a handler, the system ends a process that comes to such a limit (SIGXFSZ,
/// setrlimit(2)): so did it here.
#[test]
fn traffic_goes_on_when_bodies_fit_the_disk_no_more() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    let capture = Capture::start(manent_after(LIMIT, &path));
    for _ in 0..12 {
        capture.ask(&origin, 200_000);
    }
    assert!(capture.until_it_says("bodies cannot be stored").contains("File too large"));
    let (_, said) = capture.stop();
    let (whole, lost) = whole_and_lost(&path);
    assert!(whole > 0 && lost > 0 && whole + lost == 12, "{whole} whole, {lost} lost: {said}");
    // And it is as good as any store.
    let again = Capture::start(manent(&path));
    again.ask(&origin, 200_000);
    assert_eq!(again.stop().0, 0);
    assert_eq!(whole_and_lost(&path), (whole + 1, lost));
}

/// The database comes to its end: whole flows are lost, which the exit code tells.
#[test]
fn traffic_goes_on_when_flows_fit_the_disk_no_more() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let path = dir.path().join("flows.db");
    // Made without a limit: it is the log of the database that grows, by some pages a commit.
    assert_eq!(Capture::start(manent(&path)).stop().0, 0);
    let capture = Capture::start(manent_after(LIMIT, &path));
    let mut asked = 0;
    let logged = loop {
        if let Some(line) = capture.line_with("flows cannot be stored") {
            break line;
        }
        assert!(asked < 2000, "it never fails");
        capture.ask(&origin, 1500);
        asked += 1;
    };
    let (code, said) = capture.stop();
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("error[E404]: ") && said.contains("flows could not be stored"), "{said}");
    assert!(said.contains("\n  They were passed on all the same. The log says why.\n"), "{said}");
    // A line of the log is for people: when, how bad, what, and not which part of this program.
    let (_, what) = logged.split_once(" ERROR ").unwrap();
    let told = "flows cannot be stored: recording stands still, and the proxy goes on forwarding error=";
    assert!(what.starts_with(told) && what.contains(" at_mid="), "{logged}");
    assert!(!logged.contains("manent::") && !said.contains("manent::"), "{logged}\n{said}");
    let stored = rows(&path).len();
    let (whole, lost) = whole_and_lost(&path);
    assert!(lost == 0 && whole == stored && stored > 0 && stored < asked, "{stored} of {asked}: {said}");
    let again = Capture::start(manent(&path));
    again.ask(&origin, 1500);
    assert_eq!(again.stop().0, 0);
    assert_eq!(rows(&path).len(), stored + 1);
}

/// The same of a replay: each answer that could not be stored is told as that, and none is told twice or not at all.
#[test]
fn a_replay_tells_which_answers_could_not_be_stored() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let (path, into) = (dir.path().join("flows.db"), dir.path().join("answers.db"));
    let capture = Capture::start(manent(&path));
    capture.ask(&origin, 1500);
    assert_eq!(capture.stop().0, 0);
    let replay = |mut command: Command, repeat: &str| {
        command.args(["replay", "1", "--repeat", repeat, "--concurrency", "4", "--into"]).arg(&into);
        ended(command)
    };
    // Made without a limit, as above.
    assert_eq!(replay(manent(&path), "1").0, 0);
    let (code, printed, said) = replay(manent_after(LIMIT, &path), "2000");
    assert_eq!(code, 4, "{said}");
    let lost = printed.lines().filter(|line| line.ends_with("answered, but not stored")).count();
    assert!(said.contains(&format!("error[E404]: {lost} flows could not be stored")), "{lost}: {said}");
    let stored = rows(&into).len();
    assert_eq!((printed.lines().count(), stored), (2000, 2001 - lost), "{lost}: {said}");
    assert!(lost > 0 && stored > 1, "{lost} lost, {stored} stored: {said}");
}

/// Where not even an empty store fits, it is told at the start, and nothing half made is left in the way.
#[test]
fn a_store_that_cannot_be_made_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let mut command = manent_after("ulimit -f 16", &path);
    command.args(["capture", "-p", "0"]);
    let (code, _, said) = ended(command);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("error[E4"), "{said}");
    let again = Capture::start(manent(&path));
    again.ask(&Origin::start(), 10);
    assert_eq!(again.stop().0, 0);
    assert_eq!(rows(&path).len(), 1);
}
