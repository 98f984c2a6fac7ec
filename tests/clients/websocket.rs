//! The WebSockets of Python's websockets, in clear and over TLS.

use serde_json::Value;

use crate::harness::{
    Message, Proxy, Record, ServerStage, Trust, clean, decoded, pairs, python, script, succeed, text,
};

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
    // The server has gone. The client offers compression once more, and is answered from the store.
    let trust = Trust::new(stage.dir.path());
    let mut served = Proxy::serving(stage.dir.path(), &trust, &[]).await;
    let mut command = clean(&python(), stage.dir.path());
    command.arg(script("websocket_client.py")).arg(served.url()).arg(stage.url(scheme, port, ""));
    if scheme == "wss" {
        command.arg(&served.ca);
    }
    assert_eq!(text(&succeed(command.env("SERVED", "1")).await), "done\n");
    served.stop().await;
}

fn assert_exact(record: &Record, seen: &Value) {
    let path = record.path();
    assert_eq!(record.status(), Some(101), "{record:?}");
    // Of a connection that is cut no more is known than that it has ended.
    assert!(path == "/cut" || record.state() == "complete", "{record:?}");
    assert_eq!(record.request_headers(), pairs(&seen["fields"]), "{path} request");
    assert_eq!(record.response_headers(), pairs(&seen["response_fields"]), "{path} response");

    let messages = record.messages();
    for (word, from_client) in [("received", true), ("sent", false)] {
        let log = seen["log"].as_array().expect("a list").iter().filter(|entry| entry[0] == word);
        let passed: Vec<_> = log.map(|entry| payload(&entry[1])).collect();
        let data = messages.iter().filter(|message| message.from_client == from_client && message.is_data());
        let recorded: Vec<_> = data.map(|message| (message.opcode.as_str(), &message.payload[..])).collect();
        assert!(
            recorded.iter().copied().eq(passed.iter().map(|(opcode, bytes)| (*opcode, &bytes[..]))),
            "{path}: {word}"
        );
    }
    let (code, reason, by_client) = record.close();
    assert_eq!(
        (code, reason),
        (seen["close"][0].as_u64(), seen["close"][1].as_str().expect("a reason")),
        "{path}"
    );
    let closer = if path == "/cut" { None } else { Some(!path.starts_with("/close")) };
    assert_eq!(by_client, closer, "{path}");
    assert_frames(path, &messages);
}

/// What the server does not tell of: control frames, fragments and compression.
fn assert_frames(path: &str, messages: &[Message]) {
    let of = |from_client: bool, opcode: &str| -> Vec<&[u8]> {
        let such = messages.iter().filter(|one| one.from_client == from_client && one.opcode == opcode);
        such.map(|one| &one.payload[..]).collect()
    };
    match path {
        "/pings" => {
            assert_eq!(of(false, "ping"), [&b""[..], b"payload", &[0; 125]]);
            assert_eq!(of(true, "pong"), [&b""[..], b"payload", &[0; 125], b"unasked"]);
            assert_eq!(of(true, "ping"), [&b""[..], b"mine", &[0xff; 125]]);
            assert_eq!(of(false, "pong"), of(true, "ping"));
        }
        "/fragments" => {
            let fragments: Vec<u64> =
                messages.iter().filter(|one| one.is_data()).map(|one| one.fragments).collect();
            assert_eq!(fragments, [3, 4, 5, 6, 4, 5], "each side ends with an empty one");
        }
        "/echo?takeover" | "/echo?none" | "/echo?client" | "/echo?windows" | "/fragments?deflate" => {
            let mut data = messages.iter().filter(|message| message.is_data());
            assert!(data.all(|message| message.coding == "deflate"), "{path}");
        }
        _ => assert!(messages.iter().all(|message| message.coding == "plain"), "{path}"),
    }
    let closes = if path == "/cut" { 0 } else { 1 };
    assert_eq!([of(true, "close").len(), of(false, "close").len()], [closes; 2], "{path}");
}

/// Opcode and bytes of a message in the server's log.
fn payload(message: &Value) -> (&'static str, Vec<u8>) {
    match message.as_str() {
        Some(text) => ("text", text.as_bytes().to_vec()),
        None => ("binary", decoded(&message["base64"])),
    }
}
