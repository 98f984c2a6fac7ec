//! The WebSockets of Python's websockets, in clear and over TLS.

use serde_json::Value;

use crate::harness::{Record, ServerStage, clean, pairs, python, script, succeed, text};

#[tokio::test]
async fn every_kind_of_message_passes_over_tls() {
    drive("wss", "tls").await;
}

#[tokio::test]
async fn every_kind_of_message_passes_in_clear() {
    drive("ws", "clear").await;
}

/// Runs the client, which checks what it gets, and compares what the server saw with what was recorded.
async fn drive(scheme: &str, port: &str) {
    let mut stage = ServerStage::python("websocket_server.py").await;
    let mut command = clean(&python(), stage.dir.path());
    command.arg(script("websocket_client.py")).arg(stage.proxy.url()).arg(stage.url(scheme, port, ""));
    if scheme == "wss" {
        command.arg(&stage.proxy.ca);
    }
    assert_eq!(text(&succeed(&mut command).await), "done\n");
    let (records, mut seen) = stage.finish().await;
    let paths: Vec<&str> = records.iter().map(Record::path).collect();
    // They come one after the other, but the server is free to be done with them in another order.
    seen.sort_by_key(|seen| paths.iter().position(|path| Some(*path) == seen["path"].as_str()));
    let arrived: Vec<&str> = seen.iter().filter_map(|seen| seen["path"].as_str()).collect();
    assert_eq!(paths, arrived);
    assert_eq!(records.len(), 20);
    for (record, seen) in records.iter().zip(&seen) {
        assert_exact(record, seen);
    }
}

fn assert_exact(record: &Record, seen: &Value) {
    let path = record.path();
    assert_eq!(record.status(), Some(101), "{record:?}");
    // Of a connection that is cut no more is known than that it has ended.
    assert!(path == "/cut" || record.state() == "complete", "{record:?}");
    assert_eq!(record.request_headers(), pairs(&seen["fields"]), "{path} request");
    assert_eq!(record.response_headers(), pairs(&seen["response_fields"]), "{path} response");
}
