//! Two processes that replace the CA of a directory at the same time: one comes after the other, so that key and certificate
//! are always of one CA.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use manent::tls::{Ca, Kept};

use crate::cli::Home;

/// One `ca rotate`, under way.
fn rotation(home: &Home) -> Child {
    home.command(&["ca", "rotate", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every pair that is in `dir`, by the certificate; each has to load.
fn pairs(dir: &Path) -> Vec<Vec<u8>> {
    let kept = Kept::certificates(dir).unwrap().into_iter().map(|cert| {
        let key = cert.with_extension("key");
        Ca::load_files(&cert, Some(&key)).unwrap_or_else(|error| panic!("{}: {error}", cert.display()))
    });
    let all = kept.chain([Ca::load(dir).unwrap()]);
    let mut certs: Vec<Vec<u8>> = all.map(|ca| ca.cert_der().to_vec()).collect();
    certs.sort();
    certs.dedup();
    certs
}

#[test]
fn two_rotations_at_once_are_two_rotations() {
    const ROUNDS: usize = 6;
    let home = Home::new();
    assert!(home.run(&["ca", "create"]).status.success());
    for _ in 0..ROUNDS {
        let (mut one, mut other) = (rotation(&home), rotation(&home));
        assert!(one.wait().unwrap().success() && other.wait().unwrap().success());
    }
    assert_eq!(pairs(&home.path("ca")).len(), 1 + 2 * ROUNDS, "none is lost, none has another's key");
}

/// The first one is this test, which has the lock for as long as it likes.
#[cfg(target_os = "linux")]
#[test]
fn a_rotation_waits_for_the_one_before() {
    let home = Home::new();
    assert!(home.run(&["ca", "create"]).status.success());
    let dir = home.path("ca");
    let before = pairs(&dir);
    let lock = File::open(&dir).unwrap();
    lock.lock().unwrap();
    let mut second = rotation(&home);
    let pid = second.id().to_string();
    // A process that waits for a lock stands behind an arrow there (proc_locks(5)).
    let waits = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let waiting = locks.lines().filter(|line| line.contains("-> FLOCK"));
        waiting.filter_map(|line| line.split_whitespace().nth(5)).any(|waiting| waiting == pid)
    };
    while !waits() {
        assert!(second.try_wait().unwrap().is_none(), "it does not wait");
        std::thread::yield_now();
    }
    assert_eq!(pairs(&dir), before);
    drop(lock);
    assert!(second.wait().unwrap().success());
    assert_eq!(pairs(&dir).len(), 2);
}
