//! The README's quick start, word for word, in a home that is empty.
//!
//! Two things are other than on a user's machine. `cargo install --path .` is not run again, since it builds what is under test:
//! the binary stands on the search path, as it would after it. And `example.com` is not asked: the machine is one behind a
//! company's proxy (`MANENT_VIA`), which leads there to an origin on loopback, whose CA it trusts (`MANENT_UPSTREAM_CA`).

use std::path::Path;

use crate::harness::{Onward, Origin, Program, Store, Trust, clean, finish, text};

/// From a checkout to a request of curl over HTTPS that is on record.
const MOST_COMMANDS: usize = 3;

#[tokio::test]
async fn the_readme_leads_to_a_recorded_request() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let origin = Origin::https(&trust).await;
    let onward = Onward::to(origin.port).await;
    let home = dir.path().join("home");
    std::fs::create_dir(&home).expect("a directory");
    let steps = steps();
    let (build, rest) = steps.split_first().expect("there are commands");
    assert_eq!(build.command, "cargo install --path .", "this test knows no other way to the binary");
    let captured = steps.iter().position(|step| step.command.contains("curl")).expect("curl is asked");
    assert!(captured < MOST_COMMANDS, "{steps:?}");
    assert!(steps[captured].command.contains(" https://example.com/"));
    let mut output_of_ls = String::new();
    for step in rest {
        let output = finish(&mut shell(&home, &trust, &onward, &step.command)).await;
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{}: {said}", step.command);
        if !step.output.is_empty() {
            assert_eq!(said, step.output, "{}", step.command);
        }
        if step.command == "manent ls" {
            output_of_ls = said;
        }
    }
    assert!(
        output_of_ls.contains("https\thttps://example.com/") || output_of_ls.contains("https://example.com/")
    );
    let store = Store::new(home.join(".local/share/manent/flows.db"), &home);
    let records = store.records().await;
    assert_eq!((records.len(), origin.seen().len()), (1, 1), "{records:#?}");
    assert_eq!(onward.refused(), [""; 0]);
}

/// A command of the README, and what it prints, if that is told.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

/// The first block of commands below the heading.
fn steps() -> Vec<Step> {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("readable");
    let (_, section) = readme.split_once("\n## Quick start\n").expect("the heading");
    let (_, block) = section.split_once("```console\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            // What is behind a hash is for people, here as in a shell.
            let command = command.split(" #").next().unwrap_or_default().trim_end().to_owned();
            steps.push(Step { command, output: String::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| !line.is_empty()) {
            step.output += &format!("{line}\n");
        }
    }
    steps
}

fn shell(home: &Path, trust: &Trust, onward: &Onward, command: &str) -> tokio::process::Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_manent")).parent().expect("a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(bin).chain(std::env::split_paths(&path));
    let mut shell = clean(&Program::SH.path(), home);
    shell.env("PATH", std::env::join_paths(path).expect("no colons")).current_dir(home);
    shell.env("MANENT_VIA", onward.url()).env("MANENT_UPSTREAM_CA", &trust.ca_path);
    shell.args(["-c", command]);
    shell
}
