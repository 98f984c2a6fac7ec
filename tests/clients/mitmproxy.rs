//! The real mitmproxy: it loads the flow files that we write, and we give back those that it writes.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{
    Program, Record, ServerStage, Stage, Store, clean, decoded, finish, manent, mitmproxy, pairs, python,
    script, succeed, text,
};

/// mitmproxy's Python with our script.
fn flows(home: &Path) -> Command {
    let mut command = clean(&mitmproxy(), home);
    command.arg(script("mitmproxy_flows.py"));
    command
}

/// What mitmproxy loads from a file: the state of each flow.
async fn loaded(home: &Path, file: &Path) -> Vec<Value> {
    let out = succeed(flows(home).arg("load").arg(file)).await;
    text(&out).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Imports a file into a new store and exports it again. What it said, and what was written.
async fn through_a_store(home: &Path, file: &Path) -> (Option<i32>, String, Vec<u8>) {
    let store = Store::new(home.join(format!("{}.db", file.file_name().expect("a file").display())), home);
    let output = finish(manent(home).arg("import").arg("--store").arg(&store.path).arg(file)).await;
    let written = store.ask(&["export", "--format", "mitmproxy"]).await;
    assert_eq!(
        finish(manent(home).arg("check").arg("--store").arg(&store.path)).await.status.code(),
        Some(0)
    );
    (output.status.code(), text(&output.stderr), written)
}

#[tokio::test]
async fn files_of_mitmproxy_come_back_to_the_byte() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, again) = (dir.path().join("first.mitm"), dir.path().join("again.mitm"));
    succeed(flows(dir.path()).arg("write").arg(&file)).await;
    succeed(flows(dir.path()).arg("resave").arg(&file).arg(&again)).await;
    for file in [&file, &again] {
        let (code, told, written) = through_a_store(dir.path(), file).await;
        assert_eq!(code, Some(0), "{told}");
        let read = std::fs::read(file).expect("it was written");
        let differs = read.iter().zip(&written).position(|(a, b)| a != b).unwrap_or(read.len());
        let near = |bytes: &[u8]| {
            bytes[differs.saturating_sub(200).min(bytes.len())..bytes.len().min(differs + 100)]
                .escape_ascii()
                .to_string()
        };
        assert!(read == written, "at {differs}:\n{}\n{}", near(&read), near(&written));
    }
}

#[tokio::test]
async fn what_is_whole_of_a_damaged_file_is_imported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("whole.mitm");
    succeed(flows(dir.path()).arg("write").arg(&file)).await;
    let whole = std::fs::read(&file).expect("it was written");
    let states = loaded(dir.path(), &file).await;
    let third =
        whole.windows(36).position(|window| Some(window) == states[2]["id"].as_str().map(str::as_bytes));
    let mut hurt = whole.clone();
    hurt[third.expect("its id is in the file") - 3] = b'x';
    hurt.truncate(whole.len() - 5);
    let damaged = dir.path().join("damaged.mitm");
    std::fs::write(&damaged, &hurt).expect("a file");
    let (code, told, written) = through_a_store(dir.path(), &damaged).await;
    assert_eq!(code, Some(7), "{told}");
    assert!(told.contains("are passed over") && told.contains("the file ends inside of a flow"), "{told}");
    let left = dir.path().join("left.mitm");
    std::fs::write(&left, &written).expect("a file");
    let ids = |states: &[Value]| states.iter().map(|state| state["id"].clone()).collect::<Vec<_>>();
    let mut due = ids(&states);
    due.remove(2);
    due.pop();
    assert_eq!(ids(&loaded(dir.path(), &left).await), due);
}

/// Exports a store and lets mitmproxy load it.
async fn exported(store: &Store, home: &Path) -> Vec<Value> {
    let file = home.join("exported.mitm");
    store.ask(&["export", "-o", file.to_str().expect("UTF-8")]).await;
    loaded(home, &file).await
}

#[tokio::test]
async fn recorded_flows_are_loaded_by_mitmproxy() {
    let mut stage = Stage::new().await;
    let curl = |args: &[&str]| {
        let mut command = Program::CURL.command(stage.dir.path());
        command
            .args(["-sS", "-o", "/dev/null", "--proxy", &stage.proxy.url()])
            .arg("--cacert")
            .arg(&stage.proxy.ca);
        command.args(args);
        command
    };
    succeed(&mut curl(&[&stage.https.url("/hello?a=b")])).await;
    succeed(&mut curl(&["--data-binary", "x\u{e9}y", "-H", "X-Case: Kept", &stage.http.url("/upload")]))
        .await;
    // Nobody listens there.
    let failed = finish(&mut curl(&["--max-time", "20", "https://127.0.0.1:9/"])).await;
    assert!(!failed.status.success());
    let records = stage.records().await;
    let mid = records[0].mid().to_string();
    for args in [&["tag", &mid, "+login"][..], &["mark", &mid]] {
        // Options stand before the mids.
        let (command, rest) = args.split_first().expect("a command");
        let mut noted = manent(stage.dir.path());
        noted.arg(command).arg("--store").arg(&stage.proxy.store.path).args(rest);
        succeed(&mut noted).await;
    }
    let states = exported(&stage.proxy.store, stage.dir.path()).await;
    assert_eq!(states.len(), records.len());
    for (record, state) in records.iter().zip(&states) {
        assert_eq!(state["metadata"]["mid"].as_u64(), Some(record.mid()));
        assert_same_fields(record, state);
    }
    assert_eq!(
        (&states[0]["metadata"]["tags"][0], &states[0]["marked"]),
        (&"login".into(), &":default:".into())
    );
    assert_eq!(states[0]["server_conn"]["tls_version"], "TLSv1.3");
    assert!(!states[0]["server_conn"]["certificate_list"][0].is_null());
    assert!(!states[0]["client_conn"]["mitmcert"].is_null());
    assert_eq!(bytes(&states[1]["request"]["content"]), "x\u{e9}y".as_bytes());
    assert!(states[2]["error"]["msg"].as_str().is_some_and(|why| !why.is_empty()), "{}", states[2]["error"]);
}

#[tokio::test]
async fn recorded_websockets_are_loaded_by_mitmproxy() {
    let mut stage = ServerStage::python("websocket_server.py").await;
    let mut command = clean(&python(), stage.dir.path());
    command.arg(script("websocket_client.py")).arg(stage.proxy.url()).arg(stage.url("ws", "clear", ""));
    assert_eq!(text(&succeed(&mut command).await), "done\n");
    let (records, _) = stage.finish().await;
    let states = exported(&stage.proxy.store, stage.dir.path()).await;
    assert_eq!(states.len(), records.len());
    for (record, state) in records.iter().zip(&states) {
        assert_same_fields(record, state);
        let messages = record.messages();
        let data = messages.iter().filter(|message| message.is_data());
        let due: Vec<_> = data
            .map(|message| {
                let opcode = if message.opcode == "text" { 1 } else { 2 };
                (Some(opcode), Some(message.from_client), message.payload.clone())
            })
            .collect();
        let loaded = state["websocket"]["messages"].as_array().expect("messages").iter();
        let loaded: Vec<_> =
            loaded.map(|message| (message[0].as_u64(), message[1].as_bool(), bytes(&message[2]))).collect();
        assert!(loaded == due, "{}", record.path());
        let (code, ..) = record.close();
        assert_eq!(state["websocket"]["close_code"].as_u64(), code, "{}", record.path());
    }
}

fn assert_same_fields(record: &Record, state: &Value) {
    let request = &state["request"];
    assert_eq!(text(&bytes(&request["path"])), record.path());
    assert_eq!(fields(&request["headers"]), record.request_headers());
    assert_eq!(state["response"]["status_code"].as_u64(), record.status());
    if record.status().is_some() {
        assert_eq!(fields(&state["response"]["headers"]), record.response_headers());
    }
}

/// As [`pairs`], of bytes.
fn fields(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| Value::String(text(&bytes(value)));
    let list = list.as_array().expect("a list of fields").iter();
    pairs(&list.map(|field| Value::Array(vec![text(&field[0]), text(&field[1])])).collect())
}

fn bytes(value: &Value) -> Vec<u8> {
    decoded(&value["base64"])
}
