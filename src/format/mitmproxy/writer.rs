//! Flows written as version 21, in mitmproxy's order of keys.

use std::io::{self, Write};

use super::conns::Texts;
use super::frames::Frames;
use super::messages::{Messages, copy};
use super::node::Node;
use super::state;
use crate::flow::{Flow, Kind, Value};
use crate::format::transfer::{EncodeError, Encoder, Item};

/// Writes flow files. A value's length stands before it, so what of a flow is in memory is made first, and bodies go between.
#[derive(Debug, Default)]
pub(super) struct FlowWriter {
    conns: Texts,
    /// Used again for each flow.
    bytes: Vec<u8>,
}

impl Encoder for FlowWriter {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        let kind = state::kind(flow);
        self.write(item, kind, out)?;
        // There the bytes after an upgrade are a flow of their own.
        if kind == "http" && flow.kind == Kind::Http && has_tunnel(flow) {
            self.write(item, "tcp", out)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

impl FlowWriter {
    fn write(&mut self, item: &dyn Item, kind: &str, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        let messages = match kind {
            "http" if flow.websocket.is_some() => Messages::of_websocket(item, state::log(flow))?,
            "tcp" | "udp" => {
                let sides = flow.tunnel.as_ref().map(|tunnel| [&tunnel.from_client, &tunnel.from_server]);
                let [from_client, from_server] =
                    sides.map_or([0, 0], |sides| sides.map(crate::flow::Body::recorded_len));
                let moments = [0, flow.timing.end_us.unwrap_or(0)].map(|us| at(flow, us));
                Messages::of_stream(from_client, from_server, moments, state::log(flow))
            }
            _ => Messages::default(),
        };
        let state = state::of(flow, item.note(), messages, kind, &mut self.conns);
        if kind == "dns" && state.dict("request").is_none() {
            return Err(EncodeError::Unsuitable("a DNS flow without its question".to_owned()));
        }
        let mut frames = Frames::new(std::mem::take(&mut self.bytes));
        state.write(&mut frames);
        write_frames(&frames, item, out)?;
        self.bytes = frames.bytes;
        self.bytes.shrink_to(KEPT_BYTES);
        Ok(())
    }
}

fn has_tunnel(flow: &Flow) -> bool {
    flow.tunnel.as_ref().is_some_and(|tunnel| tunnel.from_client.len > 0 || tunnel.from_server.len > 0)
}

fn at(flow: &Flow, us: u64) -> f64 {
    match super::moments::node(flow.timing.started_unix_ns, us) {
        Node::Value(Value::Float(seconds)) => seconds,
        _ => 0.0,
    }
}

fn write_frames(frames: &Frames<'_>, item: &dyn Item, out: &mut dyn Write) -> io::Result<()> {
    let mut written = 0;
    for gap in &frames.gaps {
        out.write_all(&frames.bytes[written..gap.at])?;
        written = gap.at;
        match gap.what {
            Node::Body(body) => match item.in_memory(body.part) {
                Some(bytes) if bytes.len() as u64 == body.len => out.write_all(bytes)?,
                _ => match item.body(body.part)? {
                    Some(mut reader) => copy(&mut reader, body.len, out)?,
                    None => copy(&mut io::empty(), body.len, out)?,
                },
            },
            Node::Messages(messages) => messages.write(item, out)?,
            Node::Value(_) | Node::Dict(_) | Node::Fields(_) | Node::Written(_) => {}
        }
    }
    out.write_all(&frames.bytes[written..])
}

/// What is kept of the memory for a flow: most need some KiB.
const KEPT_BYTES: usize = 64 << 10;
