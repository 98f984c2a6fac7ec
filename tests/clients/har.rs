//! HAR files of other makes and ours: Chromium's, by Playwright, of the same page; and mitmproxy's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::chromium::QUIET;
use crate::harness::{
    Program, Stage, Store, assert_body, clean, decoded, finish, manent, mitmproxy, script,
    spki_sha256_base64, succeed, text,
};

/// Playwright with our script.
fn playwright(home: &Path, mode: &str, file: &Path, url: &str) -> Command {
    let mut command = clean(&Program::NODE.path(), home);
    command.arg(script("har.mjs")).arg(mode).arg(file).arg(url).arg(Program::CHROMIUM.path()).arg(home);
    // Playwright says itself whether there is a window, and what passes by the proxy.
    let is_ours =
        |argument: &&&str| !argument.starts_with("--headless") && !argument.starts_with("--proxy-bypass");
    command.args(QUIET.iter().filter(is_ours));
    if rustix::process::geteuid().is_root() {
        command.arg("--no-sandbox"); // as root it does not start with one
    }
    command
}

fn entries(har: &[u8]) -> Vec<Value> {
    let har: Value = serde_json::from_slice(har).expect("JSON");
    let mut entries = har["log"]["entries"].as_array().expect("entries").clone();
    entries.sort_by_key(|entry| entry["request"]["url"].as_str().map(str::to_owned));
    entries
}

/// Names of a message's fields, in lower case.
fn names(message: &Value) -> BTreeSet<String> {
    let fields = message["headers"].as_array().expect("headers").iter();
    fields.map(|field| field["name"].as_str().expect("a name").to_ascii_lowercase()).collect()
}

fn body(entry: &Value) -> Vec<u8> {
    let content = &entry["response"]["content"];
    match content["encoding"].as_str() {
        Some("base64") => decoded(&content["text"]),
        _ => content["text"].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

async fn imported(home: &Path, file: &Path) -> Store {
    let store = Store::new(home.join("imported.db"), home);
    succeed(manent(home).arg("import").arg("--store").arg(&store.path).arg(file)).await;
    succeed(manent(home).arg("check").arg("--store").arg(&store.path)).await;
    store
}

/// A page that Chromium loaded through the proxy, with its own archive of it.
async fn recorded_page() -> (Stage, PathBuf) {
    let stage = Stage::new().await;
    let file = stage.dir.path().join("browser.har");
    let mut browser = playwright(stage.dir.path(), "record", &file, &stage.https.url("/page"));
    browser.arg(format!("--ignore-certificate-errors-spki-list={}", spki_sha256_base64(&stage.proxy.ca)));
    let said = text(&succeed(browser.env("PROXY", stage.proxy.url())).await);
    assert!(said.contains("api received 17"), "{said}");
    (stage, file)
}

#[tokio::test]
async fn the_archive_of_a_page_says_what_chromiums_says() {
    let (mut stage, file) = recorded_page().await;
    stage.proxy.stop().await;
    let ours = entries(&stage.proxy.store.ask(&["export", "--no-redact", "--format", "har"]).await);
    let theirs: Vec<Value> = entries(&std::fs::read(&file).expect("it was written"));
    let url = |entry: &Value| entry["request"]["url"].as_str().expect("a URL").to_owned();
    assert_eq!(ours.iter().map(url).collect::<Vec<_>>(), theirs.iter().map(url).collect::<Vec<_>>());
    assert_eq!(ours.len(), 6);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let what = url(ours);
        for path in ["/request/method", "/response/status", "/response/statusText", "/response/content/size"]
        {
            assert_eq!(ours.pointer(path), theirs.pointer(path), "{what} {path}");
        }
        assert_eq!(ours["request"]["queryString"], theirs["request"]["queryString"], "{what}");
        assert_eq!(names(&ours["request"]), names(&theirs["request"]), "{what} request");
        assert_eq!(names(&ours["response"]), names(&theirs["response"]), "{what} response");
        let (mine, other) = (&ours["response"]["content"], &theirs["response"]["content"]);
        assert_eq!(mine["mimeType"], other["mimeType"], "{what}");
        assert!(body(ours) == body(theirs), "{what}: bodies differ");
        assert_eq!(ours["request"]["postData"]["text"], theirs["request"]["postData"]["text"], "{what}");
        assert_eq!(ours["request"]["bodySize"], theirs["request"]["bodySize"], "{what}");
    }
}

#[tokio::test]
async fn chromiums_archive_is_imported_as_the_page_was() {
    let (mut stage, file) = recorded_page().await;
    let records = stage.records().await;
    let store = imported(stage.dir.path(), &file).await;
    let mut again = store.records().await;
    assert_eq!(again.len(), records.len());
    for record in &records {
        let at = again.iter().position(|one| one.path() == record.path()).expect("it is in the archive");
        let one = again.swap_remove(at);
        assert_eq!((one.method(), one.status()), (record.method(), record.status()));
        assert_eq!(one.host_and_port(), record.host_and_port());
        let (mid, is) = (record.mid().to_string(), one.mid().to_string());
        // Decoded: an archive has not what was on the wire.
        let plain = stage.proxy.store.ask(&["cat", &mid]).await;
        assert_body(&store, &["cat", &is], &plain).await;
    }
}

#[tokio::test]
async fn a_page_renders_in_chromium_from_our_archive_alone() {
    let (mut stage, _) = recorded_page().await;
    let url = stage.https.url("/page");
    stage.proxy.stop().await;
    let file = stage.dir.path().join("ours.har");
    std::fs::write(&file, stage.proxy.store.ask(&["export", "--format", "har"]).await).expect("written");
    let Stage { https, http, proxy, dir } = stage;
    drop((https, http, proxy));
    let said = text(&succeed(&mut playwright(dir.path(), "replay", &file, &url)).await);
    assert!(said.contains("api received 17"), "{said}");
}

#[tokio::test]
async fn mitmproxy_loads_our_archive() {
    let (mut stage, _) = recorded_page().await;
    let records = stage.records().await;
    let file = stage.dir.path().join("ours.har");
    std::fs::write(&file, stage.proxy.store.ask(&["export", "--no-redact", "--format", "har"]).await)
        .expect("written");
    let mut python = clean(&mitmproxy(), stage.dir.path());
    let out = text(&succeed(python.arg(script("mitmproxy_har.py")).arg("load").arg(&file)).await);
    let loaded: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(loaded.len(), records.len());
    for (one, record) in loaded.iter().zip(&records) {
        assert_eq!(
            (one["method"].as_str(), one["status"].as_u64()),
            (Some(record.method()), record.status())
        );
        assert!(one["url"].as_str().is_some_and(|url| url.ends_with(record.path())), "{one}");
        let fields = |name: &str| -> Vec<(String, String)> {
            serde_json::from_value(one[name].clone()).expect("fields")
        };
        assert_eq!(fields("response_headers"), record.response_headers());
        let plain = stage.proxy.store.ask(&["cat", &record.mid().to_string()]).await;
        assert!(decoded(&one["content"]) == plain, "{one}");
    }
}

#[tokio::test]
async fn mitmproxys_archive_is_imported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("theirs.har");
    let mut python = clean(&mitmproxy(), dir.path());
    succeed(python.arg(script("mitmproxy_har.py")).arg("write").arg(&file)).await;
    let store = imported(dir.path(), &file).await;
    let records = store.records().await;
    assert_eq!(records.len(), 5);
    assert_body(&store, &["cat", "1", "--raw"], b"gr\xfc\xdfe").await;
    assert_body(&store, &["cat", "2"], &[b'x'; 5000]).await;
    let binary: Vec<u8> = (0..=255).collect();
    assert_body(&store, &["cat", "3"], &binary).await;
    assert_eq!((records[2].status(), records[2].path()), (Some(404), "/i.png?a=%20b"));
    assert!(records[2].host_and_port().ends_with(":8443"), "mitmproxy's own reader loses the port");
    assert_body(&store, &["cat", "4", "--request"], b"a=1&b=%C3%A9").await;
    assert!(records[3].response_headers().contains(&("Set-Cookie".into(), "a=b; Path=/".into())));
    let messages = records[4].messages();
    let payloads: Vec<_> =
        messages.iter().map(|m| (m.from_client, m.opcode.as_str(), &m.payload[..])).collect();
    let expected: [(bool, &str, &[u8]); 3] =
        [(true, "binary", b"hello binary"), (true, "text", b"hello text"), (false, "text", b"it's me")];
    assert_eq!(payloads, expected, "mitmproxy's own reader loses them");
    let output =
        finish(manent(dir.path()).args(["export", "--format", "har", "--store"]).arg(&store.path)).await;
    assert!(output.status.success(), "{output:?}");
}
