//! The bodies of flows and messages on their way from one store into another, in constant memory.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use rusqlite::Connection;

use super::super::message;
use super::super::reader::Reader;
use super::super::segment::piece::{Coding, Piece};
use super::super::segment::{BodySide, PIECE_BYTES, Squeezer, push_extent};
use super::{CopyProgress, CopyWatch, Packed, StoreError};
use crate::codec;
use crate::flow::{Body, BodyEnd, Content, Extent, Flow, Mid};

/// Where bodies go.
pub(super) trait Sink {
    /// Where a body of this sum and length is, if there is one already.
    fn find(&mut self, sum: &blake3::Hash, len: u64) -> rusqlite::Result<Option<Extent>>;
    /// Remembers where a body is.
    fn remember(&mut self, sum: &blake3::Hash, extent: &Extent) -> rusqlite::Result<()>;
    /// Whether bodies are asked for by their sum at all.
    fn shares(&self) -> bool;
    /// Writes the header and the data of a piece, one behind the other: the number of the segment, and the offset in it.
    fn put(&mut self, header: &[u8], data: &[u8]) -> Result<(u32, u64), StoreError>;
    /// Writes what is left.
    fn finish(self) -> Result<(), StoreError>;
}

/// Copies bodies, and counts.
pub(super) struct Copier<'a, S> {
    reader: &'a Reader,
    pub(super) sink: S,
    to: &'a Path,
    watch: CopyWatch<'a>,
    progress: CopyProgress,
    /// Bytes that were copied when the watch was last told.
    told: u64,
    report: Packed,
    buffer: Vec<u8>,
    /// Whether all bodies are tried to be made smaller, not only those that were.
    squeezes: bool,
    squeezer: Option<Squeezer>,
}

impl<'a, S: Sink> Copier<'a, S> {
    pub(super) fn new(
        reader: &'a Reader,
        sink: S,
        to: &'a Path,
        (of_flows, level): (u64, Option<i32>),
        watch: CopyWatch<'a>,
    ) -> Self {
        let progress = CopyProgress { of_flows, ..CopyProgress::default() };
        let (report, buffer) = (Packed::default(), vec![0; PIECE_BYTES]);
        // Without memory for zstd, bodies are stored as they are.
        let squeezer = Squeezer::new(level.unwrap_or(LEVEL)).ok();
        Self {
            reader,
            sink,
            to,
            watch,
            progress,
            told: 0,
            report,
            buffer,
            squeezes: level.is_some(),
            squeezer,
        }
    }

    /// Copies the bodies of a flow; its record with their places in the copy. `None` if its record cannot be read.
    pub(super) fn flow(&mut self, mid: Mid, record: io::Result<Bytes>) -> Result<Option<Bytes>, StoreError> {
        self.report.flows += 1;
        self.progress.flows += 1;
        if self.progress.flows.is_multiple_of(100) {
            self.tell()?;
        }
        let Ok(record) = record else {
            self.damaged(mid);
            return Ok(None);
        };
        // What is poison here stays so there.
        let Ok(mut flow) = codec::decode_flow(&record) else {
            self.damaged(mid);
            return Ok(Some(record));
        };
        let (mut moved, mut whole) = (false, true);
        for (side, body) in bodies(&mut flow) {
            let Content::Extents(extents) = &body.content else { continue };
            let (extents, is_whole) = self.content(mid, side, extents)?;
            body.content = Content::Extents(extents);
            if !is_whole {
                body.end = BodyEnd::Lost;
            }
            (moved, whole) = (true, whole && is_whole);
        }
        if !whole {
            self.damaged(mid);
        }
        Ok(Some(if moved { codec::encode_flow(&flow).into() } else { record }))
    }

    /// Copies the payloads of messages whose rows are in the copy, and tells them their new places.
    pub(super) fn messages(&mut self, to: &Connection) -> Result<(), StoreError> {
        let path = self.to;
        let fail = |e| StoreError::sqlite(path, "writing messages", e);
        let (mut mid, mut seq) = (Mid(0), 0);
        while let Some((next_mid, next_seq, from_client, extents)) =
            message::next_outside(to, mid, seq).map_err(fail)?
        {
            (mid, seq) = (next_mid, next_seq);
            let side = if from_client { BodySide::MessageClient } else { BodySide::MessageServer };
            let (extents, whole) = match codec::decode_extents(&extents) {
                Ok(extents) => self.content(mid, side, &extents)?,
                Err(_) => (Vec::new(), false),
            };
            if !whole {
                self.damaged(mid);
            }
            message::move_payload(to, mid, seq, &extents, whole).map_err(fail)?;
        }
        Ok(())
    }

    /// Writes what is left; what was copied.
    pub(super) fn finish(mut self) -> Result<Packed, StoreError> {
        self.tell()?;
        self.sink.finish()?;
        Ok(self.report)
    }

    /// Copies a body: where it is in the copy, and whether all of it could be read.
    fn content(
        &mut self,
        mid: Mid,
        side: BodySide,
        extents: &[Extent],
    ) -> Result<(Vec<Extent>, bool), StoreError> {
        let path = self.to;
        let fail = |e| StoreError::sqlite(path, "looking for equal bodies", e);
        let content = Content::Extents(extents.to_vec());
        let len = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.len));
        let sum = if len >= SHARED_BYTES && self.sink.shares() { self.sum(&content)? } else { None };
        if let Some(sum) = &sum
            && let Some(extent) = self.sink.find(sum, len).map_err(fail)?
        {
            self.report.shared_bodies += 1;
            self.report.shared_bytes += len;
            return Ok((vec![extent], true));
        }
        let stored_len = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.stored_len));
        let mut squeezes = self.squeezes || stored_len < len;
        let (mut reader, mut placed, mut seq) = (self.reader.content(&content)?, Vec::new(), 0);
        let whole = loop {
            let (filled, end) = fill(&mut reader, &mut self.buffer);
            if filled > 0 {
                let extent = self.piece((mid, side, seq), filled, &mut squeezes)?;
                self.report.body_bytes += extent.len;
                self.report.stored_bytes += extent.stored_len;
                self.progress.bytes += extent.len;
                push_extent(&mut placed, extent);
                seq += 1;
                if self.progress.bytes - self.told > TOLD_BYTES {
                    self.tell()?;
                }
            }
            if end.is_err() || filled < self.buffer.len() {
                break end.is_ok();
            }
        };
        if let (Some(sum), [extent], true) = (&sum, &placed[..], whole) {
            self.sink.remember(sum, extent).map_err(fail)?;
        }
        Ok((placed, whole))
    }

    /// Writes the first `len` bytes of the buffer as a piece.
    fn piece(
        &mut self,
        (mid, side, seq): (Mid, BodySide, u64),
        len: usize,
        squeezes: &mut bool,
    ) -> Result<Extent, StoreError> {
        let data = &self.buffer[..len];
        let frame = self.squeezer.as_mut().filter(|_| *squeezes).and_then(|s| s.squeeze(data));
        // Where the first piece does not shrink, the others will not.
        *squeezes = frame.is_some();
        let (coding, stored) = frame.map_or((Coding::Plain, data), |frame| (Coding::Zstd, frame));
        let stored_len = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        let piece = Piece { len: stored_len, mid: mid.0, seq, side: side as u8, coding };
        let (segment, offset) = self.sink.put(&piece.header(stored), stored)?;
        Ok(Extent { segment, offset, stored_len: piece.stored_len(), len: len as u64 })
    }

    /// The sum of a body; `None` if it cannot be read.
    fn sum(&mut self, content: &Content) -> Result<Option<blake3::Hash>, StoreError> {
        let mut reader = self.reader.content(content)?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let (filled, end) = fill(&mut reader, &mut self.buffer);
            hasher.update(&self.buffer[..filled]);
            if end.is_err() {
                return Ok(None);
            }
            if filled < self.buffer.len() {
                return Ok(Some(hasher.finalize()));
            }
        }
    }

    fn tell(&mut self) -> Result<(), StoreError> {
        self.told = self.progress.bytes;
        match (self.watch)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Stopped { path: self.to.to_owned() }),
        }
    }

    fn damaged(&mut self, mid: Mid) {
        if self.report.damaged_mids.contains(&mid) {
            return;
        }
        self.report.damaged += 1;
        if self.report.damaged_mids.len() < NAMED {
            self.report.damaged_mids.push(mid);
        }
    }
}

/// The bodies of a flow, those of what it was before it was edited among them.
fn bodies(flow: &mut Flow) -> Vec<(BodySide, &mut Body)> {
    let mut bodies = Vec::new();
    let mut next = Some(flow);
    while let Some(flow) = next {
        bodies.extend(flow.request.as_mut().map(|r| (BodySide::Request, &mut r.body)));
        bodies.extend(flow.response.as_mut().map(|r| (BodySide::Response, &mut r.body)));
        if let Some(tunnel) = &mut flow.tunnel {
            bodies.push((BodySide::TunnelClient, &mut tunnel.from_client));
            bodies.push((BodySide::TunnelServer, &mut tunnel.from_server));
        }
        next = flow.imported.as_mut().and_then(|imported| imported.backup.as_deref_mut());
    }
    bodies
}

/// Fills the buffer; how much there was, and what ended it early.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(e)),
        }
    }
    (filled, Ok(()))
}

/// The shortest body that is looked for among those before it. Below it, the look costs more than the bytes.
const SHARED_BYTES: u64 = 4096;

/// The effort for bodies that were made smaller before, where no other is asked for: zstd's own default.
const LEVEL: i32 = 3;

/// How often the watch is told of a large body.
const TOLD_BYTES: u64 = 8 << 20;

/// How many damaged flows are named.
const NAMED: usize = 100;
