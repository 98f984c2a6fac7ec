//! Node.js: its own https through a CONNECT agent, and fetch of undici through its proxy agent.

use std::path::Path;

use crate::harness::{Program, Stage, binary, succeed, text};

#[tokio::test]
async fn https_with_a_connect_agent_is_recorded_as_it_was_on_the_wire() {
    drive("https_agent.mjs").await;
}

#[tokio::test]
async fn undici_fetch_is_recorded_as_it_was_on_the_wire() {
    drive("undici.mjs").await;
}

/// Runs `script` with proxy, CA and origin as arguments. It makes the same four requests whatever the library.
async fn drive(script: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    assert!(
        dir.join("node_modules/undici").is_dir(),
        "no node_modules: run tests/run, or `npm ci` in {}",
        dir.display()
    );
    let mut stage = Stage::new().await;
    let mut node = Program::NODE.command(stage.dir.path());
    node.arg(dir.join(script)).arg(stage.proxy.url()).arg(&stage.proxy.ca).arg(stage.https.url(""));
    assert_eq!(text(&succeed(&mut node).await), "done\n");
    let seen = stage.https.seen();
    let targets: Vec<_> = seen.iter().map(|seen| (seen.method.as_str(), seen.target.as_str())).collect();
    assert_eq!(targets, [("GET", "/hello"), ("GET", "/gzip"), ("POST", "/echo?n=1"), ("POST", "/echo?n=2")]);
    assert!(seen[2].body == binary(25_600) && seen[3].body == binary(25_600));
    assert_eq!(seen[3].header("transfer-encoding"), Some("chunked"));
    stage.assert_recorded(&seen).await;
}
