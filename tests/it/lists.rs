//! Lists: pages by key, columns, and several stores as one.

use manent::flow::{Flow, State};
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};

/// A flow that began so many seconds after the others.
fn at(seconds: i64, target: &str) -> Flow {
    let mut flow = flow(target, b"x");
    flow.timing.started_unix_ns += seconds * 1_000_000_000;
    flow
}

/// The first field of each line.
fn mids(home: &Home, args: &[&str]) -> Vec<u64> {
    let args = [&["ls"], args].concat();
    let lines = text(&home.run(&args).stdout);
    lines.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn pages_follow_each_other_by_key() {
    let home = Home::new();
    home.fill("flows.db", (0..25).map(|at| flow(&format!("/{at}"), b"")));
    let mut before = "26".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = mids(&home, &["-n", "10", "--before", &before]);
        let Some(first) = page.first() else { break };
        before = first.to_string();
        pages.splice(0..0, page);
    }
    assert_eq!(pages, (1..=25).collect::<Vec<_>>());
    assert_eq!(home.run(&["ls", "--before", "1"]).status.code(), Some(1));
    assert_eq!(mids(&home, &["-n", "3", "--after", "20"]), [21, 22, 23]);
    assert_eq!(mids(&home, &["--after", "23"]), [24, 25]);
    assert_eq!(mids(&home, &["-n", "2", "--oldest"]), [1, 2]);
    assert_eq!(mids(&home, &["-n", "2", "--before", "9"]), [7, 8]);
    assert_eq!(mids(&home, &["-n", "2", "--before", "9", "--oldest"]), [1, 2]);
    assert_eq!(mids(&home, &["-n", "2", "--after", "9", "path:2"]), [13, 21]);
    assert_eq!(mids(&home, &["-n", "1", "--before", "13", "path:2"]), [3]);
    home.refuses(&["ls", "--before", "2", "--after", "1"], 2, "cannot be used with");
}

#[test]
fn more_than_a_page_is_listed_whole_and_in_order() {
    let home = Home::new();
    home.fill("flows.db", (0..2300).map(|at| flow(&format!("/{at}"), b"")));
    assert_eq!(mids(&home, &[]), (1..=2300).collect::<Vec<_>>());
    assert_eq!(mids(&home, &["-n", "2100"]), (201..=2300).collect::<Vec<_>>());
    assert_eq!(mids(&home, &["-n", "2100", "mid:..2200"]), (101..=2200).collect::<Vec<_>>());
    assert_eq!(mids(&home, &["-n", "2001", "--oldest"]), (1..=2001).collect::<Vec<_>>());
    assert_eq!(mids(&home, &["-n", "1001", "--before", "1500"]), (499..1500).collect::<Vec<_>>());
}

#[test]
fn columns_are_chosen_by_name() {
    let home =
        Home::with([flow("/a", b"abc"), Flow { state: State::Failed, response: None, ..flow("/b", b"") }]);
    let piped = text(&home.run(&["ls", "--columns", "host,status,mid,size,took"]).stdout);
    assert_eq!(piped, "origin.test\t200\t1\t3\t1500\norigin.test\tERR\t2\t0\t1500\n");
    let json = text(&home.run(&["ls", "--json", "--columns", "status,path,response_type"]).stdout);
    assert_eq!(json.lines().next(), Some(r#"{"status":200,"path":"/a","response_type":null}"#));
    assert_eq!(home.run(&["tag", "1", "+b", "+a"]).status.code(), Some(0));
    assert_eq!(text(&home.run(&["ls", "--columns", "mid,tags"]).stdout), "1\ta,b\n2\t\n");
    let told = home.refuses(&["ls", "--columns", "mid,hots"], 2, "hots");
    assert!(told.contains("similar value exists: 'host'") && told.contains("response_len"), "{told}");
}

/// Two stores of which one goes on while the other one begins, as when stores follow the clock.
fn two_stores() -> Home {
    let home = Home::new();
    home.fill("flows-20261122.db", [at(0, "/1a"), at(1, "/1b"), at(5, "/1c")]);
    home.fill("flows-20261123.db", [at(3, "/2a"), at(9, "/2b")]);
    home
}

fn listed(home: &Home, args: &[&str]) -> Vec<(String, u64, String)> {
    let args = [args, &["--json"]].concat();
    let lines = text(&home.run(&args).stdout);
    let row = |line: &str| {
        let row = parse(line.as_bytes());
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("path"), row["mid"].as_u64().unwrap(), text("store"))
    };
    lines.lines().map(row).collect()
}

#[test]
fn several_stores_are_listed_as_one_in_order_of_time() {
    let home = two_stores();
    let (one, two) = (home.path("flows-20261122.db"), home.path("flows-20261123.db"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let pattern = home.path("flows-*.db");
    let pattern = pattern.to_str().unwrap();
    let format = home.path("flows-%Y%m%d.db");
    let row = |path: &str, mid, day: &str| (path.to_owned(), mid, format!("flows-202611{day}.db"));
    let all = [
        row("/1a", 1, "22"),
        row("/1b", 2, "22"),
        row("/2a", 1, "23"),
        row("/1c", 3, "22"),
        row("/2b", 2, "23"),
    ];
    for stores in [&["-s", pattern][..], &["-s", format.to_str().unwrap()], &["-s", two, "-s", one]] {
        assert_eq!(listed(&home, &[&["ls"], stores].concat()), all, "{stores:?}");
    }
    assert_eq!(listed(&home, &["ls", "-s", pattern, "-n", "3"]), all[2..]);
    assert_eq!(listed(&home, &["tail", "-s", pattern, "-n", "3"]), all[2..]);
    assert_eq!(listed(&home, &["ls", "-s", pattern, "-n", "2", "--oldest"]), all[..2]);
    assert_eq!(listed(&home, &["ls", "-s", pattern, "-n", "2", "~u 1"]), [all[1].clone(), all[3].clone()]);
    assert_eq!(listed(&home, &["ls", "-s", pattern, "~u /2"]), [all[2].clone(), all[4].clone()]);
    let piped = text(&home.run(&["ls", "-s", pattern, "-n", "1"]).stdout);
    assert_eq!(piped.trim_end().split('\t').next_back(), Some("flows-20261123.db"));
    // One store alone needs no name.
    assert_eq!(parse(&home.run(&["ls", "-s", one, "-n", "1", "--json"]).stdout)["store"], Value::Null);
    assert_eq!(home.run(&["ls", "-s", pattern, "~c 500"]).status.code(), Some(1));
    let told = home.refuses(&["ls", "-s", pattern, "--before", "3"], 2, "error[E004]");
    assert!(told.contains("-s FILE"), "{told}");
}

#[test]
fn many_rows_of_several_stores_keep_their_order() {
    let home = Home::new();
    for (name, start) in [("a.db", 0), ("b.db", 1)] {
        home.fill(name, (0..900).map(|n| at(2 * n + start, &format!("/{}", 2 * n + start))));
    }
    let paths = |args: &[&str]| listed(&home, args).into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
    let (a, b) = (home.path("a.db"), home.path("b.db"));
    let stores = ["-s", a.to_str().unwrap(), "-s", b.to_str().unwrap()];
    let expected = |from: i64| (from..1800).map(|n| format!("/{n}")).collect::<Vec<_>>();
    assert_eq!(paths(&[&["ls"][..], &stores].concat()), expected(0));
    assert_eq!(paths(&[&["ls", "-n", "1333"][..], &stores].concat()), expected(467));
}

#[test]
fn a_mid_of_several_stores_has_to_name_its_store() {
    let home = two_stores();
    let pattern = home.path("flows-*.db");
    let pattern = pattern.to_str().unwrap();
    let url = |args: &[&str]| parse(&home.run(&[args, &["--json"]].concat()).stdout)["url"].clone();
    let told = home.refuses(&["show", "2", "-s", pattern], 2, "several stores have a flow with mid 2");
    assert!(told.contains("flows-20261122.db, flows-20261123.db"), "{told}");
    assert!(told.contains("flows-20261122.db:2"), "{told}");
    assert_eq!(url(&["show", "flows-20261123.db:2", "-s", pattern]), "http://origin.test/2b");
    let path = format!("{}:2", home.path("flows-20261122.db").to_str().unwrap());
    assert_eq!(url(&["show", &path, "-s", pattern]), "http://origin.test/1b");
    assert_eq!(url(&["show", &path]), "http://origin.test/1b", "a path needs no -s");
    assert_eq!(url(&["show", "3", "-s", pattern]), "http://origin.test/1c", "only one has it");
    assert_eq!(url(&["show", "last", "-s", pattern]), "http://origin.test/2b");
    assert_eq!(home.run(&["cat", "flows-20261123.db:1", "-s", pattern]).stdout, b"x");
    home.refuses(&["cat", "1", "-s", pattern], 2, "error[E004]");
    home.refuses(&["show", "9", "-s", pattern], 3, "no flow with mid 9 in any of 2 stores");
    home.refuses(&["show", "nowhere.db:1", "-s", pattern], 3, "no store called nowhere.db");
}

#[test]
fn a_store_that_cannot_be_read_is_told_and_the_others_are_listed() {
    let home = two_stores();
    std::fs::write(home.path("flows-20261121.db"), "this is no store, and never was one").unwrap();
    std::fs::write(home.path("flows-20261124.db"), "").unwrap();
    let pattern = home.path("flows-*.db");
    let pattern = pattern.to_str().unwrap();
    for args in [&["ls"][..], &["tail"]] {
        let output = home.run(&[args, &["-s", pattern]].concat());
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(4), 5), "{told}");
        for name in ["flows-20261121.db", "flows-20261124.db"] {
            assert!(told.contains(&format!("{name} is not a store")), "{told}");
        }
    }
    // A store whose pages are garbage from some place on.
    let broken = home.path("flows-20261123.db");
    let mut bytes = std::fs::read(&broken).unwrap();
    bytes[8192..].fill(0xa5);
    std::fs::write(&broken, bytes).unwrap();
    let output = home.run(&["ls", "-s", pattern]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(4), 3));
    assert!(text(&output.stderr).contains("flows-20261123.db is damaged"), "{}", text(&output.stderr));
}

#[test]
fn names_of_stores_that_mean_nothing_are_refused() {
    let home = two_stores();
    let nothing = home.path("other-*.db");
    home.refuses(&["ls", "-s", nothing.to_str().unwrap()], 3, "no store matches");
    home.refuses(&["ls", "-s", "a[.db"], 2, "is no pattern");
    home.refuses(&["ls", "-s", "a-%Q.db"], 2, "error[E412]");
    home.refuses(&["-p", "0", "-s", "a.db", "-s", "b.db"], 2, "uses one store, and 2 were given");
}
