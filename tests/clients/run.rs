//! `manent run -- COMMAND`: clients that know nothing of a proxy or a CA.

use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use crate::harness::{Origin, Program, Record, Store, Trust, assert_exact, finish, manent, python, text};

#[tokio::test]
async fn curl_needs_no_setting_up() {
    let url_last = |url: &str| vec!["-sS".to_owned(), url.to_owned()];
    assert_captured(Program::CURL.path(), url_last).await;
}

#[tokio::test]
async fn python_with_requests_needs_no_setting_up() {
    let script = "import requests, sys; print(requests.get(sys.argv[1], timeout=30).text, end='')";
    assert_captured(python(), |url| vec!["-c".to_owned(), script.to_owned(), url.to_owned()]).await;
}

#[tokio::test]
async fn python_with_urllib_needs_no_setting_up() {
    let script =
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).read().decode(), end='')";
    assert_captured(python(), |url| vec!["-c".to_owned(), script.to_owned(), url.to_owned()]).await;
}

#[tokio::test]
async fn node_with_fetch_needs_no_setting_up() {
    let script = "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))";
    assert_captured(Program::NODE.path(), |url| vec!["-e".to_owned(), script.to_owned(), url.to_owned()])
        .await;
}

#[tokio::test]
async fn node_with_https_needs_no_setting_up() {
    let script = "require('https').get(process.argv[1], r => r.pipe(process.stdout))";
    assert_captured(Program::NODE.path(), |url| vec!["-e".to_owned(), script.to_owned(), url.to_owned()])
        .await;
}

#[tokio::test]
async fn the_exit_code_is_the_commands() {
    let (output, records, _) =
        run(PathBuf::from("/bin/sh"), |_| vec!["-c".to_owned(), "exit 7".to_owned()]).await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(records.len(), 0);
}

/// Checks that the command printed the origin's answer, and that the store holds what passed.
async fn assert_captured(program: PathBuf, args: impl Fn(&str) -> Vec<String>) {
    let (output, records, stage) = run(program, args).await;
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stdout), "hello, world\n", "nothing but what the command prints");
    let seen = stage.origin.seen();
    assert_eq!((records.len(), seen.len()), (1, 1), "{records:#?}");
    assert_exact(&stage.store, &records[0], &seen[0]).await;
}

struct Scene {
    origin: Origin,
    store: Store,
    _dir: tempfile::TempDir,
}

/// Runs `program` under `manent run` with what `args` makes of the URL, and gives what the store then holds.
async fn run(program: PathBuf, args: impl Fn(&str) -> Vec<String>) -> (Output, Vec<Record>, Scene) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let origin = Origin::https(&trust).await;
    let store = Store::new(dir.path().join("flows.db"), dir.path());
    let mut command = manent_run(dir.path(), &trust, &store);
    command.arg(program).args(args(&origin.url("/hello")));
    let output = finish(&mut command).await;
    let records = store.records().await;
    (output, records, Scene { origin, store, _dir: dir })
}

/// `manent run … --`, on a machine with settings of its own.
pub(crate) fn manent_run(home: &Path, trust: &Trust, store: &Store) -> Command {
    let mut command = manent(home);
    // Such settings are on many machines; `run` has to override them.
    for name in ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    {
        command.env(name, "/nowhere");
    }
    for name in ["NO_PROXY", "no_proxy", "no_grpc_proxy"] {
        command.env(name, "localhost");
    }
    command.env("grpc_proxy", "http://127.0.0.1:9");
    command.arg("run").arg("--store").arg(&store.path).arg("--ca-dir").arg(home.join("ca"));
    command.arg("--upstream-ca").arg(&trust.ca_path).arg("--");
    command
}
