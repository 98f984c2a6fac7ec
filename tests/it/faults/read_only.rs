//! Stores that may be read and not written. Nothing keeps root from writing, so where the tests run as root, the binary runs
//! as somebody else.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::capture::{Capture, Origin, copy, ended, manent};

/// A user that has nothing: `nobody`, on most systems.
const NOBODY: u32 = 65_534;

/// A store with one flow in a folder of its own, and what it takes to use it as somebody who is not root.
struct Guest {
    dir: tempfile::TempDir,
    folder: PathBuf,
    store: PathBuf,
    is_root: bool,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            // The folders above the binary need not be open to others: it gets another name in one that is.
            set_mode(dir.path(), 0o755);
            let (binary, link) = (env!("CARGO_BIN_EXE_manent"), dir.path().join("manent"));
            std::fs::hard_link(binary, &link).or_else(|_| std::fs::copy(binary, &link).map(|_| ())).unwrap();
            set_mode(&link, 0o755);
            let ca = dir.path().join("ca");
            std::fs::create_dir(&ca).unwrap();
            set_mode(&ca, 0o700);
            chown(&ca, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { store: folder.join("flows.db"), folder, dir, is_root }
    }

    fn manent(&self) -> Command {
        if !self.is_root {
            return manent(&self.store);
        }
        let mut command = Command::new(self.dir.path().join("manent"));
        command.env_clear().env("MANENT_STORE", &self.store).env("MANENT_CA_DIR", self.dir.path().join("ca"));
        command.uid(NOBODY).gid(NOBODY);
        command
    }

    /// Gives everything to whom the binary will run as, with these modes of folder and files.
    fn hand_over(&self, folder: u32, files: u32) {
        for entry in self.folder.read_dir().unwrap().map(Result::unwrap) {
            set_mode(&entry.path(), if entry.path().is_dir() { 0o500 } else { files });
            if self.is_root {
                chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        if self.is_root {
            chown(&self.folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        set_mode(&self.folder, folder);
    }

    fn ls(&self) -> (i32, String, String) {
        let mut command = self.manent();
        command.arg("ls");
        ended(command)
    }

    fn capture(&self) -> (i32, String, String) {
        let mut command = self.manent();
        command.args(["capture", "-p", "0"]);
        ended(command)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        set_mode(&self.folder, 0o700);
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_store_that_may_only_be_read_is_read_and_capturing_into_it_is_refused() {
    let guest = Guest::new();
    let capture = Capture::start(manent(&guest.store));
    capture.ask(&Origin::start(), 100);
    assert_eq!(capture.stop().0, 0);
    for (folder, files) in [(0o555, 0o444), (0o755, 0o444)] {
        guest.hand_over(folder, files);
        let before = std::fs::read(&guest.store).unwrap();
        let (code, printed, said) = guest.ls();
        assert_eq!((code, printed.lines().count()), (0, 1), "folder {folder:o}, files {files:o}: {said}");
        let (code, _, said) = guest.capture();
        assert_eq!(code, 4, "folder {folder:o}, files {files:o}: {said}");
        assert!(
            said.contains("error[E402]: cannot write to") && said.contains("permission denied"),
            "{said}"
        );
        assert!(said.contains("\n  It is yours, and read-only (mode 0444).\n  hint: chmod u+w "), "{said}");
        assert!(said.ends_with("\n  hint: manent -s FILE   records elsewhere\n"), "{said}");
        assert!(std::fs::read(&guest.store).unwrap() == before, "a refused writer has changed the store");
        set_mode(&guest.folder, 0o700);
    }
}

/// Who may not even read it is not told of writing.
#[test]
fn a_store_that_may_not_be_read_is_told_so() {
    let (guest, origin) = (Guest::new(), Origin::start());
    let capture = Capture::start(manent(&guest.store));
    capture.ask(&origin, 10);
    assert_eq!(capture.stop().0, 0);
    guest.hand_over(0o700, 0o000);
    let (code, _, said) = guest.ls();
    assert_eq!(code, 4, "{said}");
    let store = guest.store.display();
    assert_eq!(
        said,
        format!(
            "error[E402]: cannot read {store}: permission denied
  It is yours, and nobody may read it (mode 0000).
  hint: chmod u+rw {store}
  hint: manent -s FILE   uses another store\n"
        )
    );
}

/// SQLite cannot read a log without a file of shared memory beside it, which it cannot make there. The flows in the log are
/// not to be taken for not there: better no answer than a wrong one.
#[test]
fn a_log_that_cannot_be_read_is_told_and_not_passed_over() {
    let (guest, origin) = (Guest::new(), Origin::start());
    let path = guest.dir.path().join("flows.db");
    let capture = Capture::start(manent(&path));
    capture.ask(&origin, 100);
    // Stored, and in the log alone.
    while super::capture::rows(&path).is_empty() {}
    copy(&path, &guest.folder);
    capture.kill();
    guest.hand_over(0o555, 0o444);
    let (code, printed, said) = guest.ls();
    assert_eq!((code, printed.as_str()), (4, ""), "{said}");
    assert!(said.contains("flows.db-wal") && said.contains("hint:"), "{said}");
    guest.hand_over(0o755, 0o644);
    assert_eq!(guest.ls().1.lines().count(), 1);
}
