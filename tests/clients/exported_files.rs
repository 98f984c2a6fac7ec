//! Files of `manent export` in the hands of others: JSON lines and their schema, packets in tshark.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Program, Stage, binary, clean, finish, manent, python, succeed, text};

/// A store with requests over TLS and in clear, with bodies of all kinds.
async fn captured() -> Stage {
    let mut stage = Stage::new().await;
    let body = stage.dir.path().join("body");
    std::fs::write(&body, binary(100_000)).expect("writable");
    for url in [
        stage.http.url("/hello"),
        stage.https.url("/chunked"),
        stage.https.url("/binary"),
        stage.https.url("/until-close"),
    ] {
        succeed(curl(&stage).arg(url)).await;
    }
    succeed(
        curl(&stage).arg("--data-binary").arg(format!("@{}", body.display())).arg(stage.https.url("/echo")),
    )
    .await;
    stage.proxy.stop().await;
    stage
}

fn curl(stage: &Stage) -> tokio::process::Command {
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "-o", "/dev/null", "--proxy", &stage.proxy.url(), "--cacert"])
        .arg(&stage.proxy.ca);
    curl
}

async fn export(stage: &Stage, name: &str) -> std::path::PathBuf {
    let file = stage.dir.path().join(name);
    let mut export = manent(stage.dir.path());
    export.arg("export").arg("--store").arg(&stage.proxy.store.path).arg("-o").arg(&file);
    succeed(&mut export).await;
    file
}

#[tokio::test]
async fn json_lines_keep_to_their_schema_and_so_does_show() {
    let stage = captured().await;
    let file = export(&stage, "flows.jsonl").await;
    let shown = stage.dir.path().join("shown.jsonl");
    let lines = stage.proxy.store.ask(&["show", "--json", "1-5"]).await;
    std::fs::write(&shown, lines).expect("writable");
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/flow.schema.json");
    for file in [file, shown] {
        let mut check = clean(&python(), stage.dir.path());
        check.args(["-c", CHECK]).arg(&schema).arg(&file);
        let output = finish(&mut check).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "5\n");
    }
}

const CHECK: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
lines = [json.loads(line) for line in open(sys.argv[2], encoding='utf-8')]
for line in lines:
    validator.validate(line)
bad = dict(lines[0], state='gone')
assert not validator.is_valid(bad)
print(len(lines))
";

#[tokio::test]
async fn tshark_reads_the_same_requests_statuses_and_bodies() {
    let stage = captured().await;
    let file = export(&stage, "flows.pcapng").await;
    let fields = ["http.request.method", "http.request.uri", "http.response.code", "http.file_data"];
    let rows = tshark(&stage, &file, "http", &fields).await;
    let requests: Vec<_> =
        rows.iter().filter(|row| !row[0].is_empty()).map(|row| (row[0].as_str(), path(&row[1]))).collect();
    let paths = ["/hello", "/chunked", "/binary", "/until-close", "/echo"];
    assert_eq!(requests.iter().map(|(_, path)| *path).collect::<Vec<_>>(), paths);
    let responses: Vec<_> = rows.iter().filter(|row| !row[2].is_empty()).collect();
    assert!(responses.len() == 5 && responses.iter().all(|row| row[2] == "200"), "{rows:?}");
    let objects = stage.dir.path().join("objects");
    let mut command = Program::TSHARK.command(stage.dir.path());
    command.arg("-r").arg(&file).arg("--export-objects").arg(format!("http,{}", objects.display())).arg("-q");
    succeed(&mut command).await;
    let object = |name: &str| std::fs::read(objects.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(object("hello"), b"hello, world\n");
    assert_eq!(object("chunked"), b"first, second");
    assert!(object("binary") == binary(300_000));
    assert!(object("echo") == binary(100_000));
}

#[tokio::test]
async fn nothing_that_tshark_reads_is_malformed() {
    let stage = captured().await;
    let file = export(&stage, "flows.pcapng").await;
    let filter = "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0";
    let mut command = Program::TSHARK.command(stage.dir.path());
    command.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-r"]).arg(&file);
    let bad = text(&succeed(command.args(["-Y", filter])).await);
    assert_eq!(bad, "");
    let comments = tshark(&stage, &file, "frame.comment", &["frame.comment"]).await;
    assert!(comments.len() == 5 && comments[0][0].contains("mid 1, http http://localhost:"), "{comments:?}");
}

/// HTTP/2 and a WebSocket, which no client here speaks to such origins: read from JSON lines.
#[tokio::test]
async fn tshark_reads_http2_and_websockets_as_such() {
    let stage = captured().await;
    let file = export(&stage, "flows.jsonl").await;
    let lines = std::fs::read_to_string(&file).expect("just written");
    let line: Value = serde_json::from_str(lines.lines().next().expect("five")).expect("JSON");
    let mut http2 = line.clone();
    for (key, value) in
        [("version", "HTTP/2.0"), ("scheme", "https"), ("authority", "h2.test"), ("target", "/two")]
    {
        http2["request"][key] = value.into();
    }
    http2["response"]["version"] = "HTTP/2.0".into();
    http2["request"]["raw_head"] = Value::Null;
    let mut socket = line.clone();
    socket["request"]["raw_head"] = Value::Null;
    socket["request"]["target"] = "/socket".into();
    let field = |name: &str, value: &str| serde_json::json!({"name": name, "value": value});
    let upgrade = [field("Connection", "Upgrade"), field("Upgrade", "websocket"), field("Host", "a.test")];
    let key = field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    socket["request"]["headers"] = upgrade.iter().cloned().chain([key]).collect();
    socket["response"] = serde_json::json!({
        "status": 101, "reason": "Switching Protocols", "version": "HTTP/1.1", "body": {"end": "whole"},
        "headers": [upgrade[0], upgrade[1], field("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")],
    });
    socket["websocket"] = serde_json::json!({"messages_from_client": 1, "messages_from_server": 1});
    let message = |seq: u64, from_client: bool, words: &str| serde_json::json!({"seq": seq, "from_client": from_client, "opcode": "text", "end": "whole", "len": words.len(), "text": words});
    socket["messages"] =
        serde_json::json!([message(1, true, "to the server"), message(2, false, "to the client")]);
    let edited = stage.dir.path().join("edited.jsonl");
    std::fs::write(&edited, format!("{http2}\n{socket}\n")).expect("writable");
    let store = stage.dir.path().join("edited.db");
    for (command, file) in [("import", &edited), ("export", &stage.dir.path().join("edited.pcapng"))] {
        let mut manent = manent(stage.dir.path());
        manent.arg(command).arg("--store").arg(&store);
        if command == "export" {
            manent.arg("-o");
        }
        succeed(manent.arg(file)).await;
    }
    let packets = stage.dir.path().join("edited.pcapng");
    let rows = tshark(
        &stage,
        &packets,
        "http2.headers.path || http2.headers.status",
        &["http2.headers.authority", "http2.headers.path", "http2.headers.status"],
    )
    .await;
    assert_eq!(rows, [["h2.test", "/two", ""], ["", "", "200"]]);
    let rows = tshark(&stage, &packets, "websocket", &["websocket.payload.text"]).await;
    let rows: Vec<_> = rows.iter().map(|row| row[0].replace(':', "")).collect();
    assert!(rows.len() == 2, "{rows:?}");
    let hex = |words: &str| words.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (row, words) in rows.iter().zip(["to the server", "to the client"]) {
        assert!(row == words || *row == hex(words), "{rows:?}");
    }
    let mut command = Program::TSHARK.command(stage.dir.path());
    command.arg("-r").arg(&packets).args(["-Y", "_ws.malformed || tcp.analysis.flags"]);
    assert_eq!(text(&succeed(&mut command).await), "");
}

/// The fields of the packets that match.
async fn tshark(stage: &Stage, file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Program::TSHARK.command(stage.dir.path());
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let rows = text(&succeed(&mut command).await);
    rows.lines().map(|row| row.split('\t').map(str::to_owned).collect()).collect()
}

/// Of a target, which is absolute where it was sent to a proxy in clear.
fn path(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    }
}
