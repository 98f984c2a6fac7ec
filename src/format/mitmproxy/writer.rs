//! Flows written as version 21, in mitmproxy's order of keys.

use std::io::{self, Write};

use super::messages::{Messages, copy};
use super::node::{Dict, Node};
use super::state;
use crate::flow::{Flow, Kind, Value};
use crate::format::transfer::{EncodeError, Encoder, Item};

/// Writes flow files. A value's length stands before it, so each flow is gone through twice: for lengths, and to be written.
#[derive(Debug, Default)]
pub(super) struct FlowWriter;

impl Encoder for FlowWriter {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        let kind = state::kind(flow);
        write(item, kind, out)?;
        // There the bytes after an upgrade are a flow of their own.
        if kind == "http" && flow.kind == Kind::Http && has_tunnel(flow) {
            write(item, "tcp", out)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn has_tunnel(flow: &Flow) -> bool {
    flow.tunnel.as_ref().is_some_and(|tunnel| tunnel.from_client.len > 0 || tunnel.from_server.len > 0)
}

fn write(item: &dyn Item, kind: &str, out: &mut dyn Write) -> Result<(), EncodeError> {
    let flow = item.flow();
    let messages = match kind {
        "http" if flow.websocket.is_some() => Messages::of_websocket(item, state::log(flow))?,
        "tcp" | "udp" => {
            let sides = flow.tunnel.as_ref().map(|tunnel| [&tunnel.from_client, &tunnel.from_server]);
            let [from_client, from_server] =
                sides.map_or([0, 0], |sides| sides.map(crate::flow::Body::recorded_len));
            let moments = [0, flow.timing.end_us.unwrap_or(0)];
            Messages::of_stream(from_client, from_server, moments.map(|us| at(flow, us)), state::log(flow))
        }
        _ => Messages::default(),
    };
    let state = state::of(flow, item.note(), messages, kind);
    if kind == "dns" && state.dict("request").is_none() {
        return Err(EncodeError::Unsuitable("a DNS flow without its question".to_owned()));
    }
    Ok(write_state(&state, item, out)?)
}

fn at(flow: &Flow, us: u64) -> f64 {
    match super::moments::node(flow.timing.started_unix_ns, us) {
        Node::Value(Value::Float(seconds)) => seconds,
        _ => 0.0,
    }
}

fn write_state(state: &Dict, item: &dyn Item, out: &mut dyn Write) -> io::Result<()> {
    let mut large = |node: &Node, out: &mut dyn Write| match node {
        Node::Body(body) => match item.body(body.part)? {
            Some(mut reader) => copy(&mut reader, body.len, out),
            None => copy(&mut io::empty(), body.len, out),
        },
        Node::Messages(messages) => messages.write(item, out),
        Node::Value(_) | Node::Dict(_) => Ok(()),
    };
    write!(out, "{}:", state.payload_len())?;
    for (key, node) in &state.0 {
        super::value::write_scalar(key.as_bytes(), b';', out)?;
        node.write(out, &mut large)?;
    }
    out.write_all(b"}")
}
