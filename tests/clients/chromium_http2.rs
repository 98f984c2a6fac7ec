//! Headless Chromium over HTTP/2: EventSource, answers and uploads in pieces, a WebSocket.

use serde_json::{Value, json};

use crate::chromium;
use crate::harness::{OverHttp2, Pair, Record, ServerStage, succeed, text};

#[tokio::test]
async fn streams_of_a_page_pass_as_they_come_and_are_recorded() {
    let pairs = open_page(OverHttp2::Missing).await;
    let socket = of(&pairs, "/ws");
    assert_eq!((socket.seen.version.as_str(), socket.record.request_version()), ("HTTP/1.1", "HTTP/1.1"));
    assert_eq!((socket.record.state(), socket.record.status()), ("complete", Some(101)));
}

#[tokio::test]
async fn a_websocket_over_http2_passes_where_the_origin_offers_it() {
    let pairs = open_page(OverHttp2::Offered).await;
    let socket = of(&pairs, "/ws");
    assert_eq!((socket.seen.method.as_str(), socket.record.protocol()), ("CONNECT", Some("websocket")));
    assert_eq!((socket.record.state(), socket.record.status()), ("complete", Some(200)));
}

/// Opens the page, which tells the origin what it saw, and checks its report and the records.
async fn open_page(websockets: OverHttp2) -> Vec<Pair> {
    let mut stage = ServerStage::http2(websockets).await;
    let mut chromium = chromium::command(stage.dir.path(), &stage.proxy);
    chromium.arg("--dump-dom").arg(stage.url("https", "https", "/page"));
    let dom = text(&succeed(&mut chromium).await);
    assert!(dom.contains("&quot;") || dom.contains("\"upload\""), "the script ran: {dom}");
    let pairs = stage.pairs().await;
    let report: Value = serde_json::from_slice(&of(&pairs, "/report").seen.body).expect("JSON");
    assert_eq!(report, expected());
    for pair in &pairs {
        match pair.seen.target.as_str() {
            "/ws" => assert_socket(&pair.record),
            "/events?name=left" => {
                assert_eq!(
                    (pair.record.state(), pair.seen.reset),
                    ("client-aborted", 8),
                    "{:?}",
                    pair.record
                );
            }
            _ => pair.assert_exact(&stage.proxy.store).await,
        }
    }
    pairs
}

/// Three messages each way, then the client's close and its echo.
fn assert_socket(record: &Record) {
    let messages = record.messages();
    for from_client in [true, false] {
        let passed = messages.iter().filter(|message| message.from_client == from_client);
        let passed: Vec<_> = passed.map(|message| (message.opcode.as_str(), &message.payload[..])).collect();
        let long = "x".repeat(100_000);
        let expected: [(&str, &[u8]); 4] = [
            ("text", "héllo".as_bytes()),
            ("binary", &[0, 1, 254, 255]),
            ("text", long.as_bytes()),
            ("close", b"\x0f\xa1enough"),
        ];
        assert!(passed == expected, "{record:?}");
    }
    assert_eq!(record.close(), (Some(4001), "enough", Some(true)));
}

fn expected() -> Value {
    json!({
        "events": [["message", "one", ""], ["message", "two\nlines", "2"], ["last", "three", "2"]],
        "leftEvents": "one",
        "download": ["alpha", "beta", "gamma"],
        "upload": [["5", "8", "10"], "received 10"],
        "socket": [["héllo", [0, 1, 254, 255], 100_000], 4001, "enough", true],
        "protocols": ["h2"],
    })
}

fn of<'a>(pairs: &'a [Pair], path: &str) -> &'a Pair {
    pairs.iter().find(|pair| pair.seen.target == path).unwrap_or_else(|| panic!("no request for {path}"))
}
