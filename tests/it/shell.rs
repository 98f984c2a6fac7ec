//! What belongs to the shell: help, completions, pages of the manual, the pager.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::cli::{Home, flow, text};

#[test]
fn short_help_is_short_and_long_help_is_long() {
    let home = Home::new();
    let of = |args: &[&str]| text(&home.run(args).stdout);
    for command in [&["capture"][..], &["run"], &["export"], &["ca", "export"], &["config", "show"]] {
        let (short, long) = (of(&[command, &["--help"]].concat()), of(&[&["help"], command].concat()));
        assert_eq!(short, of(&[command, &["-h"]].concat()));
        assert!(long.len() > short.len(), "{command:?}");
        assert!(short.contains(&format!("`manent help {}` tells more.", command.join(" "))), "{short}");
        assert!(long.contains("Exit code"), "{long}");
        assert!(long.contains("[config.toml: store] [env: MANENT_STORE]"), "{long}");
    }
    assert!(of(&["help"]).contains("Exit codes:\n  0  done"));
    let capture = of(&["help", "capture"]);
    assert!(capture.contains("[config.toml: max-age] [env: MANENT_MAX_AGE]"), "{capture}");
    // The one that is no setting of `run`.
    let run = of(&["help", "run"]);
    assert!(run.contains("--listen") && !run.contains("MANENT_LISTEN"), "{run}");
    assert!(!capture.contains("--no-insecure"), "what takes a switch back is understood, and not listed");
}

#[test]
fn completions_are_made_for_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = home.run(&["completions", shell]);
        let script = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(script.contains("max-age") && script.contains("completions"), "{shell}");
    }
    home.refuses(&["completions", "tcsh"], 2, "bash");
    // A reader that leaves early is no error, and no panic.
    let mut child =
        home.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// What bash offers, asked as bash asks.
#[test]
fn bash_completes_commands_and_flags() {
    let home = Home::new();
    let script = home.path("manent.bash");
    std::fs::write(&script, home.run(&["completions", "bash"]).stdout).unwrap();
    let script = script.to_str().unwrap();
    assert!(Command::new("bash").args(["-n", script]).status().unwrap().success());
    let offered = |words: &str, last: &str| {
        let ask = format!(
            ". {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _manent manent {last} ''; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        let words = text(&output.stdout);
        words.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered("manent expo", "expo"), ["export"]);
    assert_eq!(offered("manent capture --max-a", "--max-a"), ["--max-age"]);
    assert_eq!(offered("manent config in", "in"), ["init"]);
    assert_eq!(offered("manent capture --no-insec", "--no-insec"), [] as [&str; 0]);
}

#[test]
fn each_command_has_a_page_of_the_manual() {
    let home = Home::new();
    let page = text(&home.run(&["man"]).stdout);
    assert!(page.contains(".TH manent 1") && page.contains("manent\\-capture(1)"), "{page}");
    let capture = text(&home.run(&["man", "capture"]).stdout);
    assert!(capture.contains("MANENT_MAX_AGE") && capture.contains("Exit codes"), "{capture}");
    home.refuses(&["man", "captrue"], 2, "there is no command `captrue`");
    let dir = home.path("man/man1");
    let output = home.run(&["man", "--dir", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut pages: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    pages.sort();
    for name in ["manent.1", "manent-capture.1", "manent-ca-export.1", "manent-config-show.1", "manent-man.1"]
    {
        assert!(pages.iter().any(|page| page == name), "{name} in {pages:?}");
    }
    assert_eq!(std::fs::read_to_string(dir.join("manent-capture.1")).unwrap(), capture);
}

/// Both ends of a terminal.
fn terminal() -> (std::fs::File, OwnedFd) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (terminal.into(), slave.into())
}

/// What a command leaves on a terminal, and its exit code.
fn on_terminal(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let (mut master, slave) = terminal();
    let mut command = home.command(args);
    command.env_remove("PAGER").env_remove("LESS").env("TERM", "xterm").envs(variables.iter().copied());
    let mut child = command.stdout(slave).stderr(Stdio::null()).spawn().unwrap();
    // The command holds its own end of the terminal.
    drop(command);
    let mut shown = Vec::new();
    // EIO where nobody holds the other end any more.
    let _ = master.read_to_end(&mut shown);
    (text(&shown), child.wait().unwrap().code())
}

#[test]
fn long_output_goes_through_the_pager_on_a_terminal_alone() {
    let home = Home::with((0..50).map(|n| flow(&format!("/{n}"), b"x")));
    let pager = [("MANENT_PAGER", "sed 's/^/paged: /'"), ("NO_COLOR", "1")];
    for args in
        [&["ls"][..], &["show", "1"], &["filter"], &["stats"], &["help", "capture"], &["config", "show"]]
    {
        let (shown, code) = on_terminal(&home, args, &pager);
        assert_eq!(code, Some(0), "{args:?}: {shown}");
        assert!(
            shown.lines().count() > 5 && shown.lines().all(|line| line.starts_with("paged: ")),
            "{args:?}: {shown}"
        );
    }
    for (args, variables) in [
        (&["ls", "--no-pager"][..], &pager[..]),
        (&["ls"], &[("PAGER", "sed 's/^/paged: /'"), ("MANENT_PAGER", "")]),
        (&["ls"], &[("PAGER", "cat")]),
        (&["ls"], &[("PAGER", "sed 's/^/paged: /'"), ("TERM", "dumb")]),
        (&["ls"], &[("MANENT_PAGER", "/nowhere/pager")]),
        (&["cat", "1"], &pager),
    ] {
        let (shown, code) = on_terminal(&home, args, variables);
        assert_eq!(code, Some(0), "{args:?}");
        assert!(!shown.is_empty() && !shown.contains("paged"), "{args:?} {variables:?}: {shown}");
    }
    // Colours survive it, and the width is the terminal's.
    let (shown, _) = on_terminal(&home, &["ls"], &[("PAGER", "sed 's/^/paged: /'")]);
    assert!(shown.contains("\u{1b}["), "{shown:?}");
    let piped = home.command(&["ls"]).envs(pager).output().unwrap();
    assert!(!text(&piped.stdout).contains("paged"));
}

/// Leaving the pager ends the command, quietly, and with it what it had still to say.
#[test]
fn a_pager_that_is_left_early_ends_the_command() {
    let home = Home::with((0..3000).map(|n| flow(&format!("/{n}"), b"x")));
    let (shown, code) = on_terminal(&home, &["ls", "-n", "3000"], &[("MANENT_PAGER", "head -n 3")]);
    assert_eq!((shown.lines().count(), code), (3, Some(0)), "{shown}");
    // As does a terminal's own Ctrl-C in the pager: it is not ours to end by.
    let (shown, code) = on_terminal(&home, &["ls"], &[("MANENT_PAGER", "kill -INT $PPID; tail -n 1")]);
    assert_eq!((shown.lines().count(), code), (1, Some(0)), "{shown}");
}

#[test]
fn output_to_a_pipe_that_is_closed_ends_quietly() {
    let home = Home::new();
    for args in [&["help", "capture"][..], &["config", "show"], &["man"]] {
        let mut child = home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    }
}
