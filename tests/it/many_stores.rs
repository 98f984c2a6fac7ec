//! Commands that look after a store, with several.

use crate::cli::{Home, flow, parse, text};

/// Two stores of one name, day by day, and what names both.
fn home() -> (Home, String) {
    let home = Home::new();
    let large: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    home.fill("flows-1.db", [flow("/a", b"x"), flow("/b", &large)]);
    home.fill("flows-2.db", [flow("/a", b"x"), flow("/c", &large), flow("/d", b"")]);
    let pattern = home.path("flows-*.db").to_str().unwrap().to_owned();
    (home, pattern)
}

fn paths(home: &Home, pattern: &str) -> String {
    text(&home.run(&["ls", "--columns", "path", "-s", pattern]).stdout).replace('\n', " ")
}

#[test]
fn stats_are_those_of_all_and_tell_each() {
    let (home, pattern) = home();
    let stats = parse(&home.run(&["stats", "--json", "-s", &pattern]).stdout);
    assert_eq!(
        (&stats["flows"], &stats["response_bytes"], &stats["first_mid"]),
        (&5.into(), &10_002.into(), &().into())
    );
    assert_eq!(stats["hosts"]["top"][0]["flows"], 5);
    assert_eq!(stats["files"]["segments"], 2);
    let stores: Vec<_> =
        stats["stores"].as_array().unwrap().iter().map(|s| (&s["store"], &s["flows"])).collect();
    assert_eq!(stores, [(&"flows-1.db".into(), &2.into()), (&"flows-2.db".into(), &3.into())]);
    assert_eq!(stats["stores"][0]["sessions"][0]["closed"], true);
    let told = text(&home.run(&["stats", "-s", &pattern]).stdout);
    assert!(told.starts_with("flows     5\n") && told.contains("flows-2.db"), "{told}");
    // One that cannot be read is told, and the others are counted.
    std::fs::write(home.path("flows-3.db"), "no store, but more than nothing").unwrap();
    let output = home.run(&["stats", "--json", "-s", &pattern]);
    assert_eq!((output.status.code(), &parse(&output.stdout)["flows"]), (Some(4), &5.into()));
}

#[test]
fn check_tells_damage_by_store_and_mid() {
    let (home, pattern) = home();
    let output = home.run(&["check", "-s", &pattern]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).lines().all(|line| line.contains("nothing is damaged")));
    let segment = home.path("flows-2.db-bodies/000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = home.run(&["check", "-s", &pattern]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("flows-1.db  2 flows: nothing") && told.contains("\nflows-2.db:2  "), "{told}");
    let output = home.run(&["check", "--json", "-s", &pattern]);
    let stores: Vec<_> =
        output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(parse).collect();
    assert!(stores.iter().all(|line| line["store"].is_string()), "{stores:?}");
    assert_eq!(stores.iter().filter(|line| line["store"] == "flows-2.db" && line["mid"] == 2).count(), 1);
}

#[test]
fn prune_deletes_what_matches_in_each() {
    let (home, pattern) = home();
    let told =
        home.refuses(&["prune", "1", "-s", &pattern], 2, "a mid is of one store, and 2 stores are listed");
    assert!(told.contains("-s FILE"), "{told}");
    home.refuses(&["prune", "--max-flows", "1", "-s", &pattern], 2, "limits of one store");
    let output = home.run(&["prune", "--dry-run", "--json", "path:/a", "-s", &pattern]);
    assert_eq!((output.status.code(), &parse(&output.stdout)["flows"]), (Some(0), &2.into()));
    assert_eq!(paths(&home, &pattern), "/a /b /a /c /d ");
    let output = home.run(&["prune", "--yes", "path:/a | path:/c", "-s", &pattern]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("3 flows deleted"), "{}", text(&output.stderr));
    assert_eq!(paths(&home, &pattern), "/b /d ");
    assert_eq!(home.run(&["prune", "--yes", "path:/a", "-s", &pattern]).status.code(), Some(1));
}

#[test]
fn a_flow_of_one_of_several_is_marked_by_its_store() {
    let (home, pattern) = home();
    home.refuses(&["mark", "2", "-s", &pattern], 2, "several stores have a flow with mid 2");
    home.refuses(&["mark", "1-2", "-s", &pattern], 2, "FILE:MID");
    // Nothing is changed unless all are there.
    home.refuses(&["mark", "flows-1.db:2", "flows-2.db:9", "-s", &pattern], 3, "no flow with mid 9");
    let marked = |name: &str| {
        parse(&home.run(&["stats", "--json", "-s", home.path(name).to_str().unwrap()]).stdout)["marked"]
            .clone()
    };
    assert_eq!((marked("flows-1.db"), marked("flows-2.db")), (0.into(), 0.into()));
    // A mid that only one of them has needs no name.
    let output = home.run(&["mark", "flows-1.db:2", "3", "-s", &pattern]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((marked("flows-1.db"), marked("flows-2.db")), (1.into(), 1.into()));
    for args in [["comment", "flows-2.db:1", "here"], ["tag", "flows-2.db:1", "+login"]] {
        let args = [&[args[0], "-s", &pattern], &args[1..]].concat();
        assert_eq!(home.run(&args).status.code(), Some(0), "{args:?}");
    }
    let notes = text(&home.run(&["ls", "--json", "tag:login", "-s", &pattern]).stdout);
    let note = parse(notes.as_bytes());
    assert_eq!((&note["store"], &note["comment"]), (&"flows-2.db".into(), &"here".into()));
}
