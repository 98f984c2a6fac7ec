//! A disk of 8 MiB that fills up under a capture, and that has room again: a tmpfs, in a mount namespace of its own that goes
//! away with its process. Needs root, or a system that lets everybody have namespaces (`unshare --user`).

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[path = "../faults/capture.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "it is made for the other test program, and this needs a part of it"
)]
mod capture;

use capture::{Capture, Origin, copy, manent, rows, whole_and_lost};

/// A process that does nothing but keep the disk mounted.
struct Disk {
    holder: Child,
    at: PathBuf,
}

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir(at).expect("a folder");
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // `cat` ends when its input does: when this test has ended, however.
        let script = "mount -t tmpfs -o size=8m none \"$0\" && echo mounted && exec cat";
        let mut holder = command
            .args(["--mount", "sh", "-c", script])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of the package util-linux, is installed");
        let mut line = String::new();
        let output = holder.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("it speaks UTF-8");
        assert_eq!(line, "mounted\n", "a tmpfs cannot be mounted here: run this as root");
        Self { holder, at: at.to_owned() }
    }

    /// The binary, in the namespace of the disk.
    fn manent(&self, path: &Path) -> Command {
        let plain = manent(path);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(plain.get_program()).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // The CA lies on another disk.
        command.env("MANENT_CA_DIR", self.at.with_extension("ca"));
        command
    }

    /// A path on the disk, as it is reached from outside of the namespace.
    fn outside(&self, name: &str) -> PathBuf {
        format!("/proc/{}/root{}/{name}", self.holder.id(), self.at.display()).into()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It ends by itself, too, when its input is closed.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn traffic_goes_on_on_a_full_disk_and_recording_when_there_is_room_again() {
    let (dir, origin) = (tempfile::tempdir().expect("a temporary directory"), Origin::start());
    let disk = Disk::mount(&dir.path().join("disk"));
    let filler = disk.outside("filler");
    std::fs::write(&filler, vec![0; 5 << 20]).expect("there is room for it");
    let capture = Capture::start(disk.manent(&disk.at.join("flows.db")));
    let mut asked = 0;
    let mut ask = |len| {
        capture.ask(&origin, len);
        asked += 1;
    };
    // 4 MB of bodies for 3 MiB of room, and then small flows, until the database has no room either.
    (0..20).for_each(|_| ask(200_000));
    capture.until_it_says("bodies cannot be stored");
    let mut small = 0;
    while capture.line_with("flows cannot be stored").is_none() {
        ask(1_500);
        small += 1;
        assert!(small < 5_000, "the database always has room");
    }
    std::fs::remove_file(&filler).expect("it is ours");
    // Segments are tried again after a pause, which only time ends: flows come until a body is stored again.
    let before = whole(&disk, dir.path(), 0);
    let mut copies = 1;
    while whole(&disk, dir.path(), copies) < before + 3 {
        ask(20_000);
        copies += 1;
        assert!(copies < 300, "it never stores a body again");
    }
    let (code, said) = capture.stop();
    assert!(code == 4 && said.contains("error[E404]"), "{code}: {said}");
    let copied = copied(&disk, dir.path(), "last");
    let (whole, lost) = whole_and_lost(&copied);
    let stored = rows(&copied).len();
    // All flows whose bodies found no room may be among those that found none themselves, where commits are slow.
    assert!(whole + lost == stored && stored < asked, "{whole} whole, {lost} lost of {asked}");
    assert!(said.contains(&format!("error[E404]: {} flow", asked - stored)), "{stored} of {asked}: {said}");
}

/// Large bodies that are whole in the store as its files are now.
fn whole(disk: &Disk, dir: &Path, number: usize) -> usize {
    whole_and_lost(&copied(disk, dir, &number.to_string())).0
}

fn copied(disk: &Disk, dir: &Path, name: &str) -> PathBuf {
    let to = dir.join(name);
    std::fs::create_dir(&to).expect("a folder");
    copy(&disk.outside("flows.db"), &to)
}
