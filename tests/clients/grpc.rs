//! gRPC's own client and server (grpcio): calls of every kind, and how they end.

use std::io::Read as _;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{
    Record, Server, ServerStage, Store, Trust, assert_body, clean, decoded, python, script, succeed, text,
};
use crate::run::manent_run;

#[tokio::test]
async fn calls_over_tls_are_recorded_with_their_trailers() {
    let mut stage = ServerStage::python("grpc_server.py").await;
    let mut client = client(&stage, "tls");
    succeed_with(client.arg(&stage.proxy.ca)).await;
    let (records, log) = stage.finish().await;
    assert_recorded(&stage.proxy.store, &records, &log).await;
}

#[tokio::test]
async fn calls_in_clear_are_recorded_with_their_trailers() {
    let mut stage = ServerStage::python("grpc_server.py").await;
    succeed_with(&mut client(&stage, "clear")).await;
    let (records, log) = stage.finish().await;
    assert_recorded(&stage.proxy.store, &records, &log).await;
}

#[tokio::test]
async fn grpc_needs_no_setting_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let mut server = Server::python(&trust, dir.path(), "grpc_server.py").await;
    let store = Store::new(dir.path().join("flows.db"), dir.path());
    let mut command = manent_run(dir.path(), &trust, &store);
    command.arg(python()).arg(script("grpc_client.py"));
    command.arg(format!("localhost:{}", server.port("tls"))).arg("from-environment");
    succeed_with(&mut command).await;
    assert_recorded(&store, &store.records().await, &server.finish().await).await;
}

/// gRPC takes its proxy from the environment alone.
fn client(stage: &ServerStage, port: &str) -> Command {
    let mut command = clean(&python(), stage.dir.path());
    command.arg(script("grpc_client.py")).arg(format!("localhost:{}", stage.server.port(port)));
    command.env("grpc_proxy", stage.proxy.url());
    command
}

async fn succeed_with(command: &mut Command) {
    assert_eq!(text(&succeed(command).await), "done\n");
}

/// Checks each call by what the server said of it, and how it ended.
async fn assert_recorded(store: &Store, records: &[Record], log: &[Value]) {
    let methods: Vec<&str> = records.iter().map(|record| record.path().trim_start_matches(THINGS)).collect();
    let expected = "Unary Unary ServerStream ClientStream Duplex Refused Missing HalfWay Never Never";
    assert_eq!(methods.join(" "), expected);
    // The server logs nothing of what it does not have.
    let calls = records.iter().filter(|record| !record.path().ends_with("Missing"));
    for (record, call) in calls.zip(log) {
        assert_eq!(record.path().trim_start_matches(THINGS), call["method"].as_str().expect("a method"));
        assert_eq!((record.request_version(), record.response_version()), ("HTTP/2.0", "HTTP/2.0"));
        assert_messages(store, record, call).await;
    }
    let ends: Vec<_> = records.iter().map(end).collect();
    let after = |status: &str| ("complete", Some(status.to_owned()), None);
    let at_once = |status: &str| ("complete", None, Some(status.to_owned()));
    assert_eq!(ends[..5], ["0"; 5].map(after), "in trailers");
    assert_eq!(ends[5..8], [at_once("9"), at_once("12"), after("15")], "9 and 12 in trailers-only responses");
    assert_eq!(ends[9], ("client-aborted", None, None), "cancelled");
    assert_unary(&records[0]);
}

/// The state, `grpc-status` in the trailers, and `grpc-status` in the head.
fn end(record: &Record) -> (&str, Option<String>, Option<String>) {
    (
        record.state(),
        value(&record.response_trailers(), "grpc-status"),
        value(&record.response_headers(), "grpc-status"),
    )
}

fn assert_unary(record: &Record) {
    let (asked, head, after) =
        (record.request_headers(), record.response_headers(), record.response_trailers());
    let all = |fields: &[(String, String)], name: &str| -> Vec<String> {
        fields.iter().filter(|(have, _)| have == name).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(all(&asked, "x-dup"), ["a", "b"]);
    assert_eq!(
        (all(&asked, "x-raw-bin"), all(&asked, "te")),
        (vec!["AP8".to_owned()], vec!["trailers".to_owned()])
    );
    assert_eq!(
        (all(&head, "x-initial"), all(&head, "x-initial-bin")),
        (vec!["yes".to_owned()], vec!["AP8".to_owned()])
    );
    assert_eq!(
        (all(&after, "x-after"), all(&after, "x-after-bin")),
        (vec!["one".to_owned(), "two".to_owned()], vec!["/gE".to_owned()])
    );
}

/// Checks both bodies: each message behind its flag and its length.
async fn assert_messages(store: &Store, record: &Record, call: &Value) {
    let mid = record.mid().to_string();
    if value(&record.request_headers(), "grpc-encoding").as_deref() == Some("gzip") {
        let body = store.ask(&["cat", &mid, "--request", "--raw"]).await;
        assert_eq!(body[0], 1, "compressed");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[5..]).read_to_end(&mut plain).expect("gzip");
        assert_eq!(plain, decoded(&call["received"][0]));
    } else {
        assert_body(store, &["cat", &mid, "--request", "--raw"], &framed(&call["received"])).await;
        // Of a call that was cancelled the store has what had passed, and says that it is not all.
        if record.state() == "complete" {
            assert_body(store, &["cat", &mid, "--raw"], &framed(&call["sent"])).await;
        }
    }
}

fn framed(messages: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages.as_array().expect("a list") {
        let message = decoded(message);
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        body.extend_from_slice(&message);
    }
    body
}

fn value(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone())
}

const THINGS: &str = "/manent.test.Things/";
