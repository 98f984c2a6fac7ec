//! `manent doctor`: what it finds, on a setup of the test's own, and that it changes nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use crate::cli::{Home, flow, parse, text};

/// Runs it on a free port, with nothing of this machine's variables or stores but what `set` sets.
fn doctor(home: &Home, args: &[&str], set: &[(&str, &str)]) -> Output {
    let mut command = home.command(&["doctor"]);
    let kept = ["PATH", "MANENT_STORE", "MANENT_CA_DIR"];
    let values: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(values.into_iter().filter(|(name, _)| kept.contains(&name.to_str().unwrap())));
    command.env("HOME", home.dir.path()).envs(set.iter().copied());
    if !args.contains(&"-p") {
        command.args(["-p", "0"]);
    }
    command.args(args).output().unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| parse(line.as_bytes())).collect()
}

/// The level and the message of the first finding of a check that holds `word`.
fn find<'a>(findings: &'a [Value], check: &str, word: &str) -> &'a Value {
    let of_check =
        |finding: &&Value| finding["check"] == check && finding["message"].as_str().unwrap().contains(word);
    findings.iter().find(of_check).unwrap_or_else(|| panic!("no {check} with {word}: {findings:#?}"))
}

#[test]
fn a_sound_setup_is_all_well_and_nothing_is_changed() {
    let home = Home::with([flow("/a", b"a")]);
    home.run(&["ca", "create"]);
    let output = doctor(&home, &[], &[]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", text(&output.stderr));
    for word in [
        "✓ ca       CN=manent CA ",
        "✓ port     any free one",
        "1 flow, ",
        "✓ clock    ",
        "✓ probe    a request over TLS, signed by your CA",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(text(&output.stderr).contains("all well"), "{}", text(&output.stderr));
    let left: Vec<String> = fs::read_dir(home.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let ours = |name: &String| name == "ca" || name.starts_with("flows.db");
    assert!(left.iter().all(ours), "{left:?}");
}

/// Nothing is there yet: no fault, and nothing is made.
#[test]
fn an_empty_home_is_well_and_stays_empty() {
    let home = Home::new();
    let output = doctor(&home, &["--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found = findings(&output);
    assert_eq!(find(&found, "ca", "none yet")["mend"], "manent ca create");
    assert_eq!(find(&found, "store", "none yet")["level"], "ok");
    assert_eq!(find(&found, "probe", "signed by a CA of its own")["level"], "ok");
    assert_eq!(fs::read_dir(home.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_limited_ca_is_tried_with_a_host_of_its_own() {
    for (only, signer) in
        [("example.com", "your CA"), ("10.0.0.0/8", "a CA of its own"), ("127.0.0.1", "your CA")]
    {
        let home = Home::new();
        home.run(&["ca", "create", "--only", only]);
        let output = doctor(&home, &["--json"], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        let found = findings(&output);
        find(&found, "ca", &format!("it signs for {only} only"));
        find(&found, "probe", signer);
    }
}

#[test]
fn what_is_wrong_is_told_with_what_mends_it() {
    let home = Home::new();
    home.run(&["ca", "create"]);
    let key = home.dir.path().join("ca/manent-ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&home.store, "this is text and no database").unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let output = doctor(&home, &["-p", &port, "--json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let found = findings(&output);
    assert_eq!(find(&found, "ca", "can be read by others")["mend"], format!("chmod 600 '{}'", key.display()));
    assert_eq!(find(&found, "store", "not a manent store")["level"], "bad");
    let taken = find(&found, "port", &format!("(pid {})", std::process::id()));
    assert!(taken["level"] == "bad" && taken["mend"].as_str().unwrap().contains("manent -p 0"), "{taken}");
    assert_eq!(find(&found, "probe", "signed by a CA of its own")["level"], "ok", "the rest works");
    let talk = text(&doctor(&home, &["-p", &port], &[]).stderr);
    assert!(talk.contains("3 things are wrong"), "{talk}");
}

#[test]
fn variables_of_the_environment_are_looked_at() {
    let home = Home::new();
    home.run(&["ca", "create"]);
    let bundle = home.path("roots.pem");
    fs::write(&bundle, include_str!("../../certs/test-ca.pem")).unwrap();
    let set = [
        ("HTTPS_PROXY", "http://me:secret@proxy.test:3128"),
        ("NO_PROXY", "localhost"),
        ("REQUESTS_CA_BUNDLE", bundle.to_str().unwrap()),
    ];
    let output = doctor(&home, &["--json"], &set);
    assert_eq!(output.status.code(), Some(0), "warnings are no faults");
    let found = findings(&output);
    assert_eq!(find(&found, "env", "HTTPS_PROXY leads to proxy.test:3128")["level"], "warning");
    find(&found, "env", "NO_PROXY leads clients past manent to localhost");
    find(&found, "env", "roots.pem lacks our certificate");
    assert!(!text(&output.stdout).contains("secret"));
    fs::copy(home.dir.path().join("ca/manent-ca.pem"), &bundle).unwrap();
    find(&findings(&doctor(&home, &["--json"], &set)), "env", "roots.pem has our certificate");
}

#[test]
fn a_recorder_that_runs_is_no_fault() {
    let home = Home::new();
    let recorder = home.recorder();
    let output = doctor(&home, &["--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    find(&findings(&output), "store", "no flow yet");
    home.runtime.block_on(recorder.close()).unwrap();
}

#[test]
fn a_bad_flag_is_a_usage_error() {
    let home = Home::new();
    home.refuses(&["doctor", "-l", "0.0.0.0:8080"], 2, "error[E102]");
    home.refuses(&["doctor", "--nosuch"], 2, "--nosuch");
}
