//! `manent env`: shells that run what it prints, for a proxy that is already there.

use std::path::PathBuf;

use tokio::process::Command;

use crate::harness::{Onward, Origin, Program, Proxy, Trust, clean, manent, succeed, text};

/// Each shell gets the variables, has curl ask through the proxy, and gives the variables back.
#[tokio::test]
async fn shells_run_what_is_printed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let origin = Origin::https(&trust).await;
    let onward = Onward::to(origin.port).await;
    let mut proxy = Proxy::start(dir.path(), &trust, &["--via", &onward.url()]).await;
    let eval = "before=$(env | sort)\n\
        eval \"$(manent env -p $PORT)\" || exit 3\n\
        eval \"$(manent env -p $PORT)\" || exit 4\n\
        curl -sS https://origin.test/hello || exit 5\n\
        eval \"$(manent env --unset)\" || exit 6\n\
        test \"$(env | sort)\" = \"$before\" || { echo \"$before\"; env | sort; }\n";
    let fish = "set before (env | sort | string collect)\n\
        manent env -p $PORT | source; or exit 3\n\
        manent env -p $PORT | source; or exit 4\n\
        curl -sS https://origin.test/hello; or exit 5\n\
        manent env --unset | source\n\
        test (env | sort | string collect) = $before; or begin; echo $before; env | sort; end\n";
    // Without quotes, `eval` makes one line of all.
    let one_line = eval.replace("\"$(manent", "$(manent").replace(")\" ||", ") ||");
    for (shell, commands) in
        [(Program::SH, eval), (Program::BASH, eval), (Program::SH, &one_line), (Program::FISH, fish)]
    {
        let mut command = shell_command(shell.path(), &proxy);
        let said = succeed(command.args(["-c", commands])).await;
        assert_eq!(text(&said), "hello, world\n", "in {command:?}");
    }
    proxy.stop().await;
    assert_eq!(proxy.store.records().await.len(), 4);
    assert_eq!(origin.seen().len(), 4);
}

/// The shell as a user's, who has set some of the variables, with a quotation mark in the name of a directory.
fn shell_command(shell: PathBuf, proxy: &Proxy) -> Command {
    let home = proxy.ca.parent().and_then(std::path::Path::parent).expect("the CA is in the home");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_manent")).parent().expect("a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(bin).chain(std::env::split_paths(&path));
    let mut command = clean(&shell, home);
    command.env("PATH", std::env::join_paths(path).expect("no colons"));
    command.env("PORT", proxy.port.to_string()).env("SHELL", &shell);
    command.env("MANENT_CA_DIR", proxy.ca.parent().expect("a directory"));
    command
        .env("SSL_CERT_FILE", "/it's \"mine\"")
        .env("NO_PROXY", "localhost")
        .env("NODE_OPTIONS", "--no-warnings");
    // Shells set some by themselves, and differ.
    command.env("SHLVL", "1").env("PWD", home).env("_", "x");
    command
}

/// The files stay where the CA is, and nothing is written twice.
#[tokio::test]
async fn files_lie_beside_the_ca() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let print = async || {
        let mut command = manent(dir.path());
        command.args(["env", "--json", "-p", "9", "--ca-dir"]).arg(dir.path().join("ca"));
        text(&succeed(&mut command).await)
    };
    let first = print().await;
    let paths: Vec<PathBuf> = first
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object a line"))
        .filter(|line| line["name"] == "SSL_CERT_FILE" || line["name"] == "NODE_EXTRA_CA_CERTS")
        .map(|line| line["value"].as_str().expect("it is set").into())
        .collect();
    assert_eq!(paths.len(), 2);
    for path in paths {
        assert!(path.starts_with(dir.path().join("ca/env")) && path.is_file(), "{path:?}");
    }
    assert_eq!(print().await, first);
}
