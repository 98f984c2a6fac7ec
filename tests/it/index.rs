//! `manent index`: what it says, that filters find the same with it, and that a capture keeps it up.

use std::process::Output;

use manent::flow::Headers;

use crate::cli::{Home, flow, parse, text};
use crate::harness::PATIENCE;

fn home() -> Home {
    Home::with((1..=40).map(|n| flow(&format!("/{n}"), format!("{{\"item\": \"number {n}\"}}").as_bytes())))
}

fn mids(home: &Home, filter: &str) -> Vec<u64> {
    let lines = text(&home.run(&["ls", "--json", filter]).stdout);
    lines.lines().map(|line| parse(line.as_bytes())["mid"].as_u64().unwrap()).collect()
}

/// Runs the program while a recorder of this process does its work.
fn beside(home: &Home, args: &[&str]) -> Output {
    home.runtime.block_on(async {
        let output = tokio::process::Command::from(home.command(args)).kill_on_drop(true).output();
        tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap()
    })
}

fn state(home: &Home, args: &[&str]) -> serde_json::Value {
    let done = home.run(&[&["index", "--json"], args].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    parse(&done.stdout)
}

#[test]
fn an_index_is_made_told_of_used_and_dropped() {
    let home = home();
    let none = home.run(&["index"]);
    assert_eq!(text(&none.stdout), "no index of bodies: `manent index --bodies` makes one\n");
    let found = mids(&home, "~b 'number 3'");
    assert_eq!(found, [3, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
    let explained = text(&home.run(&["ls", "--explain", "~b 'Number 3'"]).stdout);
    assert!(explained.contains("has \"number 3\"; there is no index of bodies"), "{explained}");
    let made = home.run(&["index", "--bodies"]);
    assert_eq!((made.status.code(), text(&made.stdout).as_str()), (Some(0), ""));
    assert!(
        text(&made.stderr).starts_with("index of bodies: 40 of 40 flows covered, "),
        "{}",
        text(&made.stderr)
    );
    let state_of = state(&home, &["--status"]);
    assert_eq!(
        (&state_of["on"], &state_of["covered"], &state_of["blocks"]),
        (&true.into(), &40.into(), &1.into())
    );
    assert!(state_of["bytes"].as_u64().unwrap() > 100, "{state_of}");
    assert_eq!(mids(&home, "~b 'number 3'"), found);
    let explained = text(&home.run(&["ls", "--explain", "~b 'Number 3' ~b ab"]).stdout);
    assert!(explained.contains("has \"number 3\"; the index of bodies covers 40 flows"), "{explained}");
    assert!(explained.contains("by index     no: "), "{explained}");
    let explained = parse(&home.run(&["ls", "--explain", "~b 'number 3'", "--json"]).stdout);
    assert_eq!((&explained["index"][0], &explained["indexed_flows"]), (&"\"number 3\"".into(), &40.into()));
    assert_eq!(home.run(&["check"]).status.code(), Some(0));
    home.run(&["prune", "--yes", "1-10"]);
    let state_of = state(&home, &[]);
    assert_eq!(
        (&state_of["flows"], &state_of["covered"], &state_of["bytes"]),
        (&30.into(), &0.into(), &0.into())
    );
    assert_eq!(state(&home, &["--bodies"])["covered"], 30);
    let state_of = state(&home, &["--off"]);
    assert_eq!(
        (&state_of["on"], &state_of["covered"], &state_of["bytes"]),
        (&false.into(), &0.into(), &0.into())
    );
    assert_eq!(mids(&home, "~b 'number 3'"), found[1..]);
    assert_eq!(home.run(&["vacuum"]).status.code(), Some(0));
}

#[test]
fn a_running_recorder_makes_the_index_and_drops_it() {
    let home = home();
    let recorder = home.recorder();
    let made = beside(&home, &["index", "--bodies"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(text(&made.stderr).starts_with("The running capture does it; "), "{}", text(&made.stderr));
    assert_eq!(state(&home, &[])["covered"], 40);
    // What comes later is found, whether it is in the index yet or not.
    let mut news = flow("/41", b"number 3 again");
    if let Some(response) = &mut news.response {
        response.headers = Headers::new();
    }
    home.runtime.block_on(recorder.store(news)).unwrap();
    assert_eq!(mids(&home, "~b 'number 3 again'"), [41]);
    assert_eq!(parse(&beside(&home, &["index", "--off", "--json"]).stdout)["indexed_blocks"], 0);
    home.runtime.block_on(recorder.close()).unwrap();
}

#[test]
fn an_index_of_nothing_is_refused() {
    let home = Home::new();
    home.refuses(&["index"], 3, "error[E407]");
    home.refuses(&["index", "--bodies"], 3, "error[E407]");
    home.refuses(&["index", "--bodies", "--off"], 2, "cannot be used with");
    let home = self::home();
    let packed = home.dir.path().join("one.db");
    let packed = packed.to_str().unwrap();
    home.run(&["store", "pack", packed]);
    home.refuses(&["index", "--bodies", "-s", packed], 4, "packed");
    let state = parse(&home.run(&["index", "--json", "-s", packed]).stdout);
    assert_eq!((&state["on"], &state["flows"]), (&false.into(), &40.into()));
}
