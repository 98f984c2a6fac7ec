//! Flow files, flow by flow, also past damage.

use std::collections::HashSet;
use std::hash::RandomState;
use std::io::BufRead;

use super::convert::{self, Handshakes};
use super::reader::{Fault, FlowReader};
use super::record::{self, Beside};
use super::source::Source;
use crate::format::transfer::{DecodeError, Decoded, Decoder, Sink};

/// Reads flow files of versions 0.11 to 21.
pub(super) struct FlowFile {
    source: Source,
    hasher: RandomState,
    handshakes: Handshakes,
    /// Sums of connections to servers that flows had.
    servers: HashSet<u64>,
    flows: u64,
}

impl FlowFile {
    pub(super) fn new(file: Box<dyn BufRead + Send>) -> Self {
        Self {
            source: Source::new(file),
            hasher: RandomState::new(),
            handshakes: Handshakes::default(),
            servers: HashSet::new(),
            flows: 0,
        }
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Decoded, Damage> {
        let begin = self.source.position();
        let mut reader = FlowReader::new(&mut self.source, sink, &self.hasher);
        let state = reader.read();
        let end = reader.end;
        let damage = |fault| Damage { fault, end };
        let mut state = state.map_err(damage)?;
        let unsuitable = |what| Damage { fault: Fault::Meaning { at: begin, what }, end };
        let version = convert::upgrade(&mut state, &mut self.handshakes).map_err(unsuitable)?;
        let io = |error| damage(Fault::Io(error));
        let mut beside = Beside {
            client_sum: reader.client_sum,
            server_sum: reader.server_sum,
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
        beside.server_reused = !self.servers.insert(beside.server_sum);
        let decoded = record::decoded(state, &version, beside).map_err(unsuitable)?;
        if decoded.flow.websocket.is_some() {
            reader.end_rows(decoded.flow.timing.started_unix_ns).map_err(io)?;
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
