//! A whole flow as one JSON object, for `show --json`.
//!
//! Nothing is lost on the way: text that is UTF-8 is a string, other bytes are `{"base64": …}`. A body is an object
//! with either `text` or `base64`, and says so where it was left out. Keys are stable; new ones may be added.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::content::{self, Message};
use super::{grpc, note};
use crate::flow::{Flow, Mid};
use crate::format::coding::Caps;
use crate::format::jsonl;
pub(super) use crate::format::jsonl::{bytes, headers};
use crate::store::Reader;

/// The flow with its bodies, each up to `max_body` bytes.
///
/// # Errors
/// If a body cannot be read from the store.
pub(super) fn flow(flow: &Flow, mid: Mid, store: &Reader, max_body: u64) -> anyhow::Result<Value> {
    let bodies = Bodies { store, max_body };
    let mut object = Value::Object(jsonl::flow(flow, Some(mid), &note::of(store, mid)?));
    if let Some(message) = &flow.request {
        let message = Message { body: &message.body, headers: Some(&message.headers) };
        bodies.put(&mut object["request"]["body"], message)?;
    }
    if let Some(message) = &flow.response {
        let message = Message { body: &message.body, headers: Some(&message.headers) };
        bodies.put(&mut object["response"]["body"], message)?;
    }
    if let Some(tunnel) = &flow.tunnel {
        for (name, body) in [("from_client", &tunnel.from_client), ("from_server", &tunnel.from_server)] {
            bodies.put(&mut object["tunnel"][name], Message { body, headers: None })?;
        }
    }
    object["grpc"] = json!(grpc::json(flow, store));
    Ok(object)
}

/// Where bodies come from, and how much of them is wanted.
struct Bodies<'a> {
    store: &'a Reader,
    max_body: u64,
}

impl Bodies<'_> {
    /// Adds the body as it was on the wire, and `decoded` beside it where it has a content-coding that can be undone.
    fn put(&self, object: &mut Value, message: Message<'_>) -> anyhow::Result<()> {
        let body = message.body;
        if content::is_absent(body) {
            object["left_out"] = "not recorded".into();
            return Ok(());
        }
        if body.recorded_len() > self.max_body {
            object["left_out"] = "longer than --max-body".into();
            return Ok(());
        }
        let mut wire = Vec::new();
        content::wire(self.store, body)?.read_to_end(&mut wire)?;
        put_bytes(object, &wire);
        let coded = message.headers.is_some_and(|headers| headers.get("content-encoding").is_some());
        if coded && !wire.is_empty() {
            object["decoded"] = self.decoded(message);
        }
        Ok(())
    }

    /// `null` where it cannot be decoded: the bytes of the wire are there all the same.
    fn decoded(&self, message: Message<'_>) -> Value {
        let mut plain = Vec::new();
        let caps = Caps { max_len: Some(self.max_body) };
        let read = content::decoded(self.store, message, caps).map(|mut body| body.read_to_end(&mut plain));
        let Ok(Ok(_)) = read else { return Value::Null };
        let mut object = json!({"len": plain.len()});
        put_bytes(&mut object, &plain);
        object
    }
}

fn put_bytes(object: &mut Value, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["base64"] = STANDARD.encode(bytes).into(),
    }
}
