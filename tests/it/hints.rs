//! Commands in hints: pasted into a shell, they mean the store, the CA and the settings that were meant.

use std::process::{Command, Output};

use crate::cli::{Home, flow, text};

/// Runs a line as a shell does, where `manent` is this binary and nothing else is known of the home.
fn pasted(home: &Home, line: &str) -> Output {
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_manent")).parent().unwrap();
    let path = std::env::join_paths([dir, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    Command::new("sh")
        .args(["-c", line])
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.dir())
        .output()
        .unwrap()
}

#[test]
fn a_hint_names_the_store_that_was_given() {
    let home = Home::new();
    home.fill("the other's.db", [flow("/a", b"the body")]);
    let path = home.path("the other's.db");
    let store = path.to_str().unwrap();
    let quoted = format!("'{}'", store.replace('\'', "'\\''"));
    let told = home.refuses(&["-s", store, "show", "9"], 3, "");
    let hint = told.lines().last().unwrap().strip_prefix("  hint: ").unwrap();
    assert_eq!(
        hint,
        format!("manent -s {quoted} show last   shows the newest; manent -s {quoted} ls   lists them")
    );
    for command in hint.split("; ").map(|part| part.split("   ").next().unwrap()) {
        let output = pasted(&home, command);
        assert!(output.status.success() && text(&output.stdout).contains("/a"), "{command}: {output:?}");
    }
    // A variable holds for what is pasted, too.
    let told = home.refuses(&["show", "9"], 3, "");
    assert!(told.contains("hint: manent run -- curl "), "{told}");
    // What names one already keeps it.
    let first = home.recorder_in("the other's.db");
    let told = home.refuses(&["-p", "0", "-s", store], 4, "");
    let hint = format!("manent -s {quoted} ls     second recording: manent -s other.db");
    assert!(told.contains(&hint), "{told}");
    home.runtime.block_on(first.close()).unwrap();
}

#[test]
fn a_hint_names_the_ca_and_the_settings_that_were_given() {
    let home = Home::new();
    let (dir, config) = (home.path("my ca"), home.path("c.toml"));
    std::fs::write(&config, "").unwrap();
    let (dir, config) = (dir.to_str().unwrap(), config.to_str().unwrap());
    let told = home.refuses(&["ca", "status", "--ca-dir", dir, "--config", config], 3, "");
    let hint = told.lines().last().unwrap().strip_prefix("  hint: ").unwrap();
    assert_eq!(hint, format!("manent --config {config} --ca-dir '{dir}' ca create"));
    assert!(pasted(&home, hint).status.success());
    assert!(home.path("my ca/manent-ca.pem").exists());
}

#[test]
fn what_run_has_recorded_is_found_by_what_it_says() {
    let home = Home::new();
    let store = home.path("run.db");
    let ran = home.run(&["run", "-s", store.to_str().unwrap(), "--", "sh", "-c", "exit 3"]);
    assert_eq!(ran.status.code(), Some(3));
    home.fill("run.db", [flow("/a", b"")]);
    let listed = home.run(&["ls", "-s", store.to_str().unwrap(), "--explain", "~b key"]);
    let told = text(&listed.stdout);
    let store = store.display();
    assert!(told.contains(&format!("`manent -s {store} index --bodies` makes one")), "{told}");
}
