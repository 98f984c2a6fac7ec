//! A flow as `manent ls --json` and `manent show --json` tell it. Only this file knows their keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Seen;
use super::command::finish;
use super::proxy::{Store, manent};

pub(crate) struct Record {
    /// The object of `ls`.
    pub(crate) row: Value,
    /// The object of `show`.
    pub(crate) shown: Value,
}

impl std::fmt::Debug for Record {
    /// The row only: the whole holds bodies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} error: {}", self.row, self.shown["error"])
    }
}

impl Record {
    pub(crate) fn mid(&self) -> u64 {
        self.row["mid"].as_u64().expect("mid")
    }

    pub(crate) fn state(&self) -> &str {
        self.row["state"].as_str().expect("state")
    }

    pub(crate) fn method(&self) -> &str {
        self.row["method"].as_str().expect("method")
    }

    pub(crate) fn host(&self) -> &str {
        self.row["host"].as_str().expect("host")
    }

    pub(crate) fn host_and_port(&self) -> String {
        format!("{}:{}", self.host(), self.row["port"])
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        self.row["path"].as_str().expect("path")
    }

    pub(crate) fn status(&self) -> Option<u64> {
        self.row["status"].as_u64()
    }

    pub(crate) fn client_conn(&self) -> u64 {
        self.row["client_conn"].as_u64().expect("client_conn")
    }

    pub(crate) fn request_version(&self) -> &str {
        self.shown["request"]["version"].as_str().expect("request.version")
    }

    pub(crate) fn response_version(&self) -> &str {
        self.shown["response"]["version"].as_str().expect("response.version")
    }

    /// HTTP/2's `:authority`.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.shown["request"]["authority"].as_str()
    }

    /// HTTP/2's `:protocol`.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.shown["request"]["protocol"].as_str()
    }

    pub(crate) fn reason(&self) -> &str {
        self.shown["response"]["reason"].as_str().expect("response.reason")
    }

    pub(crate) fn request_headers(&self) -> Vec<(String, String)> {
        pairs(&self.shown["request"]["headers"])
    }

    pub(crate) fn response_headers(&self) -> Vec<(String, String)> {
        pairs(&self.shown["response"]["headers"])
    }

    pub(crate) fn request_trailers(&self) -> Vec<(String, String)> {
        trailers(&self.shown["request"])
    }

    pub(crate) fn response_trailers(&self) -> Vec<(String, String)> {
        trailers(&self.shown["response"])
    }

    /// What passed on a WebSocket, control frames among it.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let messages = self.shown["messages"].as_array().expect("messages");
        assert_eq!(self.shown["messages_left"], 0);
        messages.iter().map(Message::from_json).collect()
    }

    /// Code and reason of a WebSocket's end, and whether it was the client that began it.
    pub(crate) fn close(&self) -> (Option<u64>, &str, Option<bool>) {
        let websocket = &self.shown["websocket"];
        let reason = websocket["close_reason"].as_str().unwrap_or_default();
        (websocket["close_code"].as_u64(), reason, websocket["closed_by_client"].as_bool())
    }

    /// The statuses of the 1xx responses.
    pub(crate) fn interim_statuses(&self) -> Vec<u64> {
        let interim = self.shown["interim"].as_array().expect("interim");
        interim.iter().filter_map(|one| one["status"].as_u64()).collect()
    }

    /// The host name of the client's ClientHello.
    pub(crate) fn client_sni(&self) -> Option<&str> {
        self.shown["client"]["tls"]["sni"].as_str()
    }
}

/// A message of a WebSocket, or a control frame.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) from_client: bool,
    /// `text`, `binary`, `close`, `ping` or `pong`.
    pub(crate) opcode: String,
    /// Inflated where it was compressed.
    pub(crate) payload: Vec<u8>,
    pub(crate) fragments: u64,
    /// `plain` or `deflate`.
    pub(crate) coding: String,
}

impl Message {
    fn from_json(message: &Value) -> Message {
        let payload = match message["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => decoded(&message["base64"]),
        };
        assert_eq!(message["len"].as_u64(), u64::try_from(payload.len()).ok(), "{message}");
        assert_eq!(message["end"], "whole");
        Message {
            from_client: message["from_client"].as_bool().expect("from_client"),
            opcode: message["opcode"].as_str().expect("opcode").to_owned(),
            payload,
            fragments: message["fragments"].as_u64().expect("fragments"),
            coding: message["coding"].as_str().expect("coding").to_owned(),
        }
    }

    pub(crate) fn is_data(&self) -> bool {
        matches!(self.opcode.as_str(), "text" | "binary")
    }
}

/// Absent ones and an empty section are the same here: origins and clients do not tell them apart.
fn trailers(message: &Value) -> Vec<(String, String)> {
    if message["trailers"].is_null() { Vec::new() } else { pairs(&message["trailers"]) }
}

/// Fields as an array of `{"name": …, "value": …}`.
fn pairs(fields: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a field is text").to_owned();
    let fields = fields.as_array().unwrap_or_else(|| panic!("not a list of fields: {fields}"));
    fields.iter().map(|field| (text(&field["name"]), text(&field["value"]))).collect()
}

/// Checks that the store holds of `record` what the origin saw and sent, to the byte.
pub(crate) async fn assert_exact(store: &Store, record: &Record, seen: &Seen) {
    assert_eq!((record.method(), record.path()), (seen.method.as_str(), seen.target.as_str()), "{record:#?}");
    assert_eq!((record.state(), record.status()), ("complete", Some(u64::from(seen.status))), "{record:#?}");
    let is_http2 = seen.version == "HTTP/2.0";
    assert_eq!(record.reason(), if is_http2 { "" } else { "Fine By Me" });
    // Order, case and repeats; what belongs to one hop only is the client's in the record and ours at the origin.
    let in_order = |fields| if is_http2 { by_name(fields) } else { fields };
    assert_eq!(
        in_order(end_to_end(record.request_headers())),
        in_order(end_to_end(seen.headers.clone())),
        "{} request",
        seen.target
    );
    let sent = in_order(seen.response_headers.clone());
    assert_eq!(in_order(record.response_headers()), sent, "{} response", seen.target);
    let trailers = (record.request_trailers(), record.response_trailers());
    assert_eq!(trailers, (seen.trailers.clone(), seen.response_trailers.clone()), "{}", seen.target);
    assert_eq!(record.interim_statuses(), seen.interim, "{}", seen.target);
    let mid = record.mid().to_string();
    assert_body(store, &["cat", &mid, "--request", "--raw"], &seen.body).await;
    assert_body(store, &["cat", &mid, "--raw"], &seen.response_body).await;
}

/// Whatever the command says of an absent body, it prints none.
pub(crate) async fn assert_body(store: &Store, args: &[&str], body: &[u8]) {
    let output = finish(manent(&store.home).args(args).arg("--store").arg(&store.path)).await;
    assert!(output.status.success() || body.is_empty(), "{args:?}: {output:?}");
    assert!(
        output.stdout == body,
        "{args:?}: {} bytes printed that are not the {} that passed",
        output.stdout.len(),
        body.len()
    );
}

/// By name, those of one name in their order: HTTP/2 says nothing of the order of names, and libraries keep none.
fn by_name(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// Bytes that stand in JSON as base64; none where nothing stands.
pub(crate) fn decoded(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().unwrap_or_default()).expect("base64")
}

/// `headers` without those that end at each hop (RFC 9110 §7.6.1).
pub(crate) fn end_to_end(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let of_hop = |name: &str| HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop));
    headers.into_iter().filter(|(name, _)| !of_hop(name)).collect()
}

const HOP_BY_HOP: &[&str] =
    &["connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
