//! `ca install`, `uninstall` and `status` on system stores in a directory of the test's own. The tool that Debian has for it is
//! a script here, which does what the real one does.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::cert;
use crate::cli::{Home, parse, text};

/// A root directory as Debian has it, and the tool.
struct Machine {
    home: Home,
    root: PathBuf,
}

impl Machine {
    fn debian() -> Self {
        let machine = Self::of("usr/local/share/ca-certificates");
        fs::create_dir_all(machine.root.join("etc/ssl/certs")).unwrap();
        fs::write(machine.bundle(), "").unwrap();
        let bin = machine.home.path("bin");
        fs::create_dir(&bin).unwrap();
        script(&bin.join("update-ca-certificates"), SCRIPT);
        machine
    }

    fn of(anchors: &str) -> Self {
        let home = Home::new();
        let root = home.path("root");
        fs::create_dir_all(root.join(anchors)).unwrap();
        Self { home, root }
    }

    fn bundle(&self) -> PathBuf {
        self.root.join("etc/ssl/certs/ca-certificates.crt")
    }

    /// Runs it with the tool in the search path, without a home directory in which there could be databases.
    fn run(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.home.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = self.home.command(args);
        command.arg("--root").arg(&self.root).env("PATH", path).env_remove("HOME").output().unwrap()
    }
}

/// A program.
fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// The part of the real one that matters: the bundle is what is in the directory, and hooks are run if there is a directory.
const SCRIPT: &str = r#"#!/bin/sh
set -eu
hooks=
while [ $# -gt 0 ]; do
    case "$1" in
        --localcertsdir) from="$2"; shift ;;
        --etccertsdir) to="$2"; shift ;;
        --hooksdir) hooks="$2"; shift ;;
    esac
    shift
done
: > "$to/ca-certificates.crt"
for file in "$from"/*.crt; do
    [ ! -e "$file" ] || cat "$file" >> "$to/ca-certificates.crt"
done
[ ! -d "$hooks" ] || for hook in "$hooks"/*; do "$hook"; done
"#;

#[test]
fn it_is_trusted_after_install_and_not_after_uninstall() {
    let machine = Machine::debian();
    let installed = machine.run(&["ca", "install", "system"]);
    let told = text(&installed.stderr);
    assert_eq!(installed.status.code(), Some(0), "{told}");
    assert!(told.contains("made a new certificate authority") && told.contains("is trusted now"), "{told}");
    let pem = fs::read_to_string(cert(&machine.home)).unwrap();
    assert_eq!(fs::read_to_string(machine.bundle()).unwrap(), pem);
    let again = text(&machine.run(&["ca", "install", "system"]).stderr);
    assert!(again.contains("is trusted already"), "{again}");

    let status = machine.run(&["ca", "status", "--json"]);
    assert_eq!(status.status.code(), Some(0));
    let status = parse(&status.stdout);
    assert_eq!((&status["trusted"], &status["stores"][0]["state"]), (&true.into(), &"trusted".into()));
    assert_eq!((&status["only"], &status["problem"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert!(status["days_left"].as_i64().unwrap() > 700);

    let removed = machine.run(&["ca", "uninstall", "system"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed.stderr));
    assert!(text(&removed.stderr).contains("is removed"));
    assert_eq!(fs::read_to_string(machine.bundle()).unwrap(), "");
    assert_eq!(fs::read_dir(machine.root.join("usr/local/share/ca-certificates")).unwrap().count(), 0);
    assert_eq!(machine.run(&["ca", "status"]).status.code(), Some(1), "trusted nowhere");
}

#[test]
fn a_dry_run_prints_the_commands_and_changes_nothing() {
    let machine = Machine::debian();
    let refused = machine.run(&["ca", "install", "system", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(3), "it makes no CA, either: {}", text(&refused.stderr));
    machine.home.run(&["ca", "create"]);
    let planned = machine.run(&["ca", "install", "system", "--dry-run"]);
    let lines = text(&planned.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("# system: "));
    assert!(lines[1].starts_with("install -m 0644 ") && lines[1].contains("/ca/manent-ca.pem "), "{lines:?}");
    assert!(lines[2].starts_with("update-ca-certificates --certsconf "), "{lines:?}");
    assert!(lines[2].ends_with(" --hooksdir /dev/null"), "{lines:?}");
    assert_eq!(fs::read_to_string(machine.bundle()).unwrap(), "");
    // What is printed is what would be done.
    let path = format!("{}:{}", machine.home.path("bin").display(), std::env::var("PATH").unwrap());
    let script = text(&planned.stdout);
    let shell = std::process::Command::new("sh").args(["-ec", &script]).env("PATH", path).output().unwrap();
    assert!(shell.status.success(), "{}", text(&shell.stderr));
    assert_eq!(machine.run(&["ca", "status"]).status.code(), Some(0));
}

/// What is below `--root` may be of somebody's who wants to have it run here: a `keytool` and a hook of the image once were,
/// the first by `ca status` alone.
#[test]
fn nothing_of_another_root_is_executed() {
    let machine = Machine::debian();
    let (image, here) = (machine.home.path("image-ran"), machine.home.path("keytool-ran"));
    let java = machine.root.join("usr/lib/jvm/x");
    let hooks = machine.root.join("etc/ca-certificates/update.d");
    for dir in [&java.join("bin"), &java.join("lib/security"), &hooks] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(java.join("lib/security/cacerts"), "of a kind that only keytool can read").unwrap();
    for program in [java.join("bin/keytool"), hooks.join("hook")] {
        script(&program, &format!("#!/bin/sh\n: > '{}'\n", image.display()));
    }
    script(&machine.home.path("bin/keytool"), &format!("#!/bin/sh\n: > '{}'\n", here.display()));

    let installed = machine.run(&["ca", "install", "system"]);
    assert_eq!(installed.status.code(), Some(0), "{}", text(&installed.stderr));
    assert_eq!(machine.run(&["ca", "status"]).status.code(), Some(0));
    assert!(here.exists(), "this machine's keytool is asked");
    let planned = text(&machine.run(&["ca", "install", "java", "--dry-run"]).stdout);
    assert!(planned.contains("\nkeytool -importcert "), "{planned}");
    machine.run(&["ca", "install", "java"]);
    assert_eq!(machine.run(&["ca", "uninstall", "system"]).status.code(), Some(0));
    assert!(!image.exists());
}

/// Absolute links in an image are meant inside of it. From outside they lead to this machine's own store, which was written
/// to through them.
#[test]
fn links_that_lead_out_of_another_root_are_not_followed() {
    for place in ["usr/local/share/ca-certificates", "etc/ssl/certs", "etc/ssl", "usr/share"] {
        let machine = Machine::debian();
        let (link, outside) = (machine.root.join(place), machine.home.path("outside"));
        fs::create_dir_all(outside.join("certs")).unwrap();
        let _ = fs::remove_dir_all(&link); // of those, one is not there
        symlink(&outside, &link).unwrap();
        for verb in ["install", "uninstall"] {
            let output = machine.run(&["ca", verb, "system"]);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(6), "{place}: {told}");
            assert!(told.contains(" leads out of "), "{place}: {told}");
        }
        let status = text(&machine.run(&["ca", "status"]).stdout);
        assert!(status.contains("it cannot be told: ") && status.contains(" leads out of "), "{status}");
        let untouched =
            fs::read_dir(&outside).unwrap().count() + fs::read_dir(outside.join("certs")).unwrap().count();
        assert_eq!(untouched, 1, "{place}");
    }
    // A file that is not there yet would be made there.
    let machine = Machine::debian();
    fs::remove_file(machine.bundle()).unwrap();
    symlink(machine.home.path("outside.crt"), machine.bundle()).unwrap();
    assert_eq!(machine.run(&["ca", "install", "system"]).status.code(), Some(6));
    // A link that stays below is as good as a directory.
    let machine = Machine::debian();
    fs::rename(machine.root.join("etc/ssl"), machine.root.join("etc/tls")).unwrap();
    symlink("tls", machine.root.join("etc/ssl")).unwrap();
    let output = machine.run(&["ca", "install", "system"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn what_was_replaced_is_found_and_taken_out() {
    let machine = Machine::debian();
    machine.run(&["ca", "install", "system"]);
    machine.home.run(&["ca", "rotate"]);
    let status = machine.run(&["ca", "status"]);
    assert_eq!(status.status.code(), Some(1), "the new one is trusted nowhere");
    let told = text(&status.stdout);
    assert!(told.contains("is still trusted: system ") && told.contains("ca uninstall --old"), "{told}");
    machine.run(&["ca", "install", "system"]);
    let removed = machine.run(&["ca", "uninstall", "--old", "system"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed.stderr));
    let pem = fs::read_to_string(cert(&machine.home)).unwrap();
    assert_eq!(fs::read_to_string(machine.bundle()).unwrap(), pem, "the new one stays");
}

/// A rotation that is broken off between its steps has kept what it did not come to replace.
#[test]
fn what_a_rotation_has_kept_and_not_replaced_is_no_older_one() {
    let machine = Machine::debian();
    machine.run(&["ca", "install", "system"]);
    fs::hard_link(cert(&machine.home), cert(&machine.home).with_file_name("manent-ca-20260101.pem")).unwrap();
    let told = text(&machine.run(&["ca", "status"]).stdout);
    assert!(told.contains(": trusted") && !told.contains("is still trusted"), "{told}");
    let removed = machine.run(&["ca", "uninstall", "--old", "system"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed.stderr));
    assert_eq!(
        fs::read(machine.bundle()).unwrap(),
        fs::read(cert(&machine.home)).unwrap(),
        "it stays trusted"
    );
}

#[test]
fn every_layout_has_its_commands() {
    for (anchors, command) in [
        ("etc/pki/ca-trust/source/anchors", "update-ca-trust extract"),
        ("etc/ca-certificates/trust-source/anchors", "update-ca-trust"),
        ("etc/pki/trust/anchors", "update-ca-certificates"),
    ] {
        let machine = Machine::of(anchors);
        machine.home.run(&["ca", "create"]);
        let planned = text(&machine.run(&["ca", "install", "system", "--dry-run"]).stdout);
        let last = planned.lines().last().unwrap();
        assert!(planned.contains(&format!("/root/{anchors}/manent-ca-")), "{planned}");
        // In another root, its own tools work on it.
        assert!(last.contains("chroot ") && last.ends_with(command), "{planned}");
    }
}

#[test]
fn a_tool_that_fails_is_told_and_what_it_left_is_seen() {
    let machine = Machine::debian();
    let tool = machine.home.path("bin").join("update-ca-certificates");
    fs::write(&tool, "#!/bin/sh\necho 'no, not today' >&2\nexit 3\n").unwrap();
    let output = machine.run(&["ca", "install", "system"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("failed: no, not today") && told.contains("error[E609]"), "{told}");
    let status = text(&machine.run(&["ca", "status"]).stdout);
    assert!(status.contains("it is there, and update-ca-certificates has not been run"), "{status}");
    // A tool that says yes and does nothing is not believed.
    fs::write(&tool, "#!/bin/sh\n").unwrap();
    let output = machine.run(&["ca", "install", "system"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
}

#[test]
fn stores_that_are_not_there_are_told_apart() {
    let machine = Machine::of("nothing");
    let told = |args: &[&str], code: i32| {
        let output = machine.run(args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        told
    };
    machine.home.run(&["ca", "create"]);
    assert!(told(&["ca", "install"], 3).contains("error[E608]: no trust store was found"));
    assert!(told(&["ca", "install", "system"], 3).contains("of the kind system"));
    assert!(told(&["ca", "install", "nss"], 3).contains("no HOME"));
    assert!(told(&["ca", "install", "java"], 3).contains("no Java was found"));
    machine.home.refuses(&["ca", "install", "gnome"], 2, "invalid value 'gnome'");
    for (system, word) in [("macos", "add-trusted-cert"), ("windows", "-addstore")] {
        let output = machine.run(&["ca", "install", system]);
        assert!(output.status.success() && text(&output.stdout).contains(word), "{output:?}");
        let output = machine.run(&["ca", "uninstall", system]);
        assert!(output.status.success() && !text(&output.stdout).is_empty(), "{output:?}");
    }
}

#[test]
fn status_without_a_ca_and_with_a_key_in_its_certificate_says_so() {
    let home = Home::new();
    let told = home.refuses(&["ca", "status"], 3, "error[E606]: there is no CA in");
    assert!(told.contains("hint: manent ca create"), "{told}");
    home.run(&["ca", "create"]);
    let both = fs::read_to_string(cert(&home)).unwrap()
        + &fs::read_to_string(cert(&home).with_extension("key")).unwrap();
    fs::write(cert(&home), both).unwrap();
    home.refuses(&["ca", "install", "windows"], 6, "holds a private key");
}

/// Directories of somebody else's: the commands are told, and nothing is done. Root may write everywhere, so where the tests
/// run as root, the binary runs as nobody.
#[test]
fn without_the_right_the_commands_are_told() {
    let machine = Machine::debian();
    let mut command = machine.home.command(&["ca", "install", "system", "--root"]);
    let anchors = machine.root.join("usr/local/share/ca-certificates");
    fs::set_permissions(&anchors, Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        let dir = machine.home.dir.path();
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        // The folders above the binary need not be open to others.
        let (binary, link) = (env!("CARGO_BIN_EXE_manent"), dir.join("manent"));
        fs::hard_link(binary, &link).or_else(|_| fs::copy(binary, &link).map(|_| ())).unwrap();
        fs::create_dir(dir.join("ca")).unwrap();
        chown(dir.join("ca"), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut as_nobody = std::process::Command::new(link);
        as_nobody.args(command.get_args());
        as_nobody.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        as_nobody.uid(NOBODY).gid(NOBODY);
        command = as_nobody;
    }
    let path = format!("{}:{}", machine.home.path("bin").display(), std::env::var("PATH").unwrap());
    let output = command.arg(&machine.root).env("PATH", path).env_remove("HOME").output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("needs another right than yours"), "{told}");
    assert!(told.contains("hint: sudo install -m 0644 "), "{told}");
    assert!(told.contains("hint: sudo update-ca-certificates --certsconf "), "{told}");
    assert_eq!(fs::read_dir(&anchors).unwrap().count(), 0);
    fs::set_permissions(&anchors, Permissions::from_mode(0o755)).unwrap();
}

/// A user that has nothing: `nobody`, on most systems.
const NOBODY: u32 = 65_534;
