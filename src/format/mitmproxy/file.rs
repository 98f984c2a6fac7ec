//! Flow files, flow by flow, also past damage.

use std::collections::HashSet;
use std::io::BufRead;

use super::convert::{self, Handshakes};
use super::node::{Dict, Node};
use super::reader::{Fault, FlowReader};
use super::record::{self, Beside};
use super::seen::Seen;
use super::source::Source;
use super::value::{self, Budget};
use crate::format::transfer::{DecodeError, Decoded, Decoder, Sink};

/// Reads flow files of versions 0.11 to 21.
pub(super) struct FlowFile {
    source: Source,
    seen: Seen,
    handshakes: Handshakes,
    /// Sums of connections to servers that flows had.
    servers: HashSet<u64>,
    flows: u64,
}

impl FlowFile {
    pub(super) fn new(file: Box<dyn BufRead + Send>) -> Self {
        Self {
            source: Source::new(file),
            seen: Seen::default(),
            handshakes: Handshakes::default(),
            servers: HashSet::new(),
            flows: 0,
        }
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Decoded, Damage> {
        let begin = self.source.position();
        let mut reader = FlowReader::new(&mut self.source, sink, &self.seen);
        let state = reader.read();
        let end = reader.end;
        let damage = |fault| Damage { fault, end };
        let mut state = state.map_err(damage)?;
        let unsuitable = |what| Damage { fault: Fault::Meaning { at: begin, what }, end };
        if !convert::is_newest(&state) || state.text("type") != Some("http") {
            open_conns(&mut state);
        }
        let version = convert::upgrade(&mut state, &mut self.handshakes).map_err(unsuitable)?;
        let io = |error| damage(Fault::Io(error));
        let mut beside = Beside {
            client: std::mem::take(&mut reader.client),
            server: std::mem::take(&mut reader.server),
            sums: reader.rows.sums.clone(),
            base: reader.rows.base,
            ..Beside::default()
        };
        if matches!(state.text("type"), Some("tcp" | "udp")) {
            beside.sides = reader.end_streams().map_err(io)?;
        }
        if self.servers.len() >= MAX_SERVERS {
            self.servers.clear();
        }
        beside.server_reused = !self.servers.insert(beside.server.sum);
        let mut rows = std::mem::take(&mut reader.rows);
        let decoded = record::decoded(state, &version, beside, &mut self.seen).map_err(unsuitable)?;
        if decoded.flow.websocket.is_some() {
            rows.finish(decoded.flow.timing.started_unix_ns, sink).map_err(io)?;
        }
        Ok(decoded)
    }

    /// Goes to where the next flow may begin.
    fn go_on(&mut self, fault: &Fault, end: Option<u64>) -> std::io::Result<()> {
        if let (Fault::Meaning { .. }, Some(end)) = (fault, end) {
            let left = (end + 1).saturating_sub(self.source.position());
            self.source.pass(left, |_| Ok(()))?;
        }
        self.source.resync()
    }
}

/// Takes connections apart that were left as they stand in the file: they were, once, before.
fn open_conns(state: &mut Dict) {
    for side in ["client_conn", "server_conn"] {
        if let Some(conn) = state.get_mut(side)
            && let Node::Written(raw) = conn
        {
            let budget = &mut Budget::new(usize::MAX);
            *conn = value::read(b'}', raw, 1, budget).map_or(Node::NULL, |value| Node::open(value, 2));
        }
    }
}

/// What is wrong with a flow, and where it says that it ends.
struct Damage {
    fault: Fault,
    end: Option<u64>,
}

impl Decoder for FlowFile {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        // An editor or a shell may have put them there.
        while matches!(self.source.peek(1)?.first(), Some(b'\n' | b'\r')) {
            self.source.take(1);
        }
        let begin = self.source.position();
        if self.source.peek(1)?.is_empty() {
            return Ok(None);
        }
        let Damage { fault, end } = match self.read(sink) {
            Ok(decoded) => {
                self.flows += 1;
                return Ok(Some(decoded));
            }
            Err(damage) => damage,
        };
        if let Fault::Io(error) = fault {
            return Err(error.into());
        }
        self.go_on(&fault, end)?;
        let (Fault::Syntax { at, what } | Fault::Meaning { at, what }) = fault else { return Ok(None) };
        let next = self.source.position();
        if self.source.peek(1)?.is_empty() && self.flows == 0 {
            return Err(DecodeError::File {
                position: at,
                what: format!("{what}; there is no flow in this file"),
            });
        }
        let passed = format!("bytes {begin} to {next} are passed over");
        Err(DecodeError::Flow { position: at, what: format!("{what}; {passed}") })
    }
}

/// Connections that are remembered, so that later flows on them are known to have found them open.
const MAX_SERVERS: usize = 1 << 16;
