//! Stores that older versions left: every reading command says of them what it said then, before and after they are upgraded.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use manent::store::{Annotator, Change};
use serde_json::Value;

use crate::cli::{Home, parse, text};

/// The versions that have fixtures of this kind.
const VERSIONS: [u32; 2] = [9, 10];

fn fixtures(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store_v{version}"))
}

/// A copy of a fixture.
fn unpack(version: u32, name: &str, home: &Home) -> PathBuf {
    let path = home.path(&format!("{name}.db"));
    let packed = std::fs::File::open(fixtures(version).join(format!("{name}.db.gz"))).unwrap();
    let mut db = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut db).unwrap();
    std::fs::write(&path, db).unwrap();
    let segment = fixtures(version).join(format!("{name}.seg"));
    if segment.exists() {
        let bodies = home.path(&format!("{name}.db-bodies"));
        std::fs::create_dir(&bodies).unwrap();
        std::fs::copy(segment, bodies.join("000001.seg")).unwrap();
    }
    path
}

/// Whether all that was said then is said now. Objects may have more keys.
fn holds(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            then.iter().all(|(key, then)| now.get(key).is_some_and(|now| holds(now, then)))
        }
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| holds(now, then))
        }
        _ => now == then,
    }
}

/// Asks what was asked when the fixture called `of` was made.
fn expect_the_same(version: u32, home: &Home, of: &str, path: &Path) {
    let answers: Value = parse(&std::fs::read(fixtures(version).join("answers.json")).unwrap());
    let asked = answers[of].as_array().unwrap();
    assert!(asked.len() > 5);
    for asked in asked {
        let mut args: Vec<&str> =
            asked["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        args.extend(["-s", path.to_str().unwrap()]);
        let output = home.run(&args);
        let (now, then) = (text(&output.stdout), asked["stdout"].as_str().unwrap());
        assert_eq!(output.status.code().map(i64::from), asked["code"].as_i64(), "{args:?}");
        assert_eq!(now.lines().count(), then.lines().count(), "{args:?}");
        if !args.contains(&"--json") {
            assert_eq!(now, then, "{args:?}");
            continue;
        }
        for (now, then) in now.lines().zip(then.lines()) {
            let (now, then) = (parse(now.as_bytes()), parse(then.as_bytes()));
            assert!(holds(&now, &then), "{args:?}\n{now}\n{then}");
        }
    }
    let output = home.run(&["check", "-s", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn older_stores_say_what_they_said() {
    for (version, name) in VERSIONS.iter().flat_map(|version| [(*version, "plain"), (*version, "compressed")])
    {
        let home = Home::new();
        let path = unpack(version, name, &home);
        expect_the_same(version, &home, name, &path);
        // Opened by one that writes, and upgraded where there is a newer version.
        let mut annotator = Annotator::open(&path).unwrap();
        annotator.apply(&[manent::flow::Mid(6)], &Change::uncomment()).unwrap();
        drop(annotator);
        expect_the_same(version, &home, name, &path);
        home.fill(&format!("{name}.db"), []);
        expect_the_same(version, &home, name, &path);
    }
}

#[test]
fn older_packed_stores_say_what_the_store_said_and_are_unpacked() {
    for version in VERSIONS {
        let home = Home::new();
        let path = unpack(version, "packed", &home);
        expect_the_same(version, &home, "plain", &path);
        let again = home.path("again.db");
        let output = home.run(&["store", "unpack", path.to_str().unwrap(), again.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        expect_the_same(version, &home, "plain", &again);
        let stats = parse(&home.run(&["stats", "--json", "-s", path.to_str().unwrap()]).stdout);
        assert!(stats["files"]["packed_bytes"].as_u64().unwrap() > 10_000, "{stats}");
        let told = text(&home.run(&["stats", "-s", path.to_str().unwrap()]).stdout);
        assert!(told.contains("of the database packed bodies"), "{told}");
    }
}
