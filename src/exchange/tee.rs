//! A tap on a body that passes: small ones are kept, large ones go on to the store as they come, and a cap limits what is
//! recorded of each, never what passes.

use bytes::{Bytes, BytesMut};

use crate::flow::{Body, BodyEnd, Content, Framing};
use crate::record::{BodySide, BodyWriter};

use super::Live;

/// Sees every byte of one body and never changes one. Dropping it without [`Tee::end`] records a body that was cut off.
#[derive(Debug)]
pub struct Tee<'a> {
    live: &'a Live,
    side: BodySide,
    kept: Kept,
    inline_limit: usize,
    /// Bytes that may be recorded: the first ones.
    limit: u64,
    len: u64,
    wire_len: u64,
    framing: Framing,
    end: BodyEnd,
}

#[derive(Debug)]
enum Kept {
    /// Nothing is recorded.
    Off,
    /// One piece so far, shared with the traffic: most bodies never have a second.
    One(Bytes),
    /// Several small pieces.
    Many(BytesMut),
    /// More than is kept in place.
    Out(BodyWriter),
}

impl<'a> Tee<'a> {
    pub(super) fn new(
        live: &'a Live,
        side: BodySide,
        framing: Framing,
        inline_limit: usize,
        limit: u64,
    ) -> Self {
        let kept = if live.records() { Kept::One(Bytes::new()) } else { Kept::Off };
        Self { live, side, kept, inline_limit, limit, len: 0, wire_len: 0, framing, end: BodyEnd::CutOff }
    }

    /// Records a piece; waits while the recorder has more than it may hold. A future that is dropped while it waits has
    /// not recorded the piece.
    pub async fn write(&mut self, data: &Bytes) {
        let passed = self.len + data.len() as u64;
        let len = passed.min(self.limit);
        let capped;
        let data = match usize::try_from(len.saturating_sub(self.len)) {
            Ok(0) => {
                self.len = passed;
                return;
            }
            Ok(room) if room < data.len() => {
                // A few bytes in the record must not keep a large buffer of the traffic's alive.
                capped = match room <= self.inline_limit {
                    true => Bytes::copy_from_slice(&data[..room]),
                    false => data.slice(..room),
                };
                &capped
            }
            _ => data,
        };
        let fits = usize::try_from(len).is_ok_and(|len| len <= self.inline_limit);
        match &mut self.kept {
            Kept::Off => {}
            Kept::One(first) if fits && first.is_empty() => *first = data.clone(),
            Kept::One(first) if fits => {
                let mut all = BytesMut::with_capacity(self.inline_limit);
                all.extend_from_slice(first);
                all.extend_from_slice(data);
                self.kept = Kept::Many(all);
            }
            Kept::Many(all) if fits => all.extend_from_slice(data),
            Kept::Out(writer) => writer.write(data.clone()).await,
            Kept::One(_) | Kept::Many(_) => {
                let Some(writer) = self.live.body_writer(self.side) else { return };
                let before = match std::mem::replace(&mut self.kept, Kept::Out(writer)) {
                    Kept::One(first) => first,
                    Kept::Many(all) => all.freeze(),
                    Kept::Off | Kept::Out(_) => Bytes::new(),
                };
                if let Kept::Out(writer) = &mut self.kept {
                    if !before.is_empty() {
                        writer.write(before).await;
                    }
                    writer.write(data.clone()).await;
                }
            }
        }
        self.len = passed;
    }

    /// Tells how the body ended and how many bytes it took on the wire, framing included.
    pub fn end(&mut self, end: BodyEnd, wire_len: u64) {
        self.end = end;
        self.wire_len = wire_len;
    }

    /// Bytes of payload so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte passed so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Tee<'_> {
    fn drop(&mut self) {
        let content = match std::mem::replace(&mut self.kept, Kept::Off) {
            Kept::Off => Content::Absent,
            Kept::One(bytes) => Content::Inline(bytes),
            Kept::Many(bytes) => Content::Inline(bytes.freeze()),
            Kept::Out(mut writer) => Content::Extents(writer.extents()),
        };
        self.live.set_body(
            self.side,
            Body {
                content,
                len: self.len,
                wire_len: self.wire_len.max(self.len),
                framing: self.framing,
                // A body that was cut off as well stays so: that the record is shorter than what passed tells of the cap.
                end: if self.end == BodyEnd::Whole && self.len > self.limit {
                    BodyEnd::Capped
                } else {
                    self.end
                },
            },
        );
    }
}
