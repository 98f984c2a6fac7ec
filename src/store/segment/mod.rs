//! Segment files: append-only, made of pieces of bodies in the order in which they passed, and of the records of flows, a
//! group's side by side.

mod append;
mod files;
pub(super) mod piece;
mod squeeze;
#[cfg(test)]
mod tests;

pub use append::{Room, Segments};
pub(super) use append::{Start, push as push_extent};
pub use files::PageCache;
#[cfg(test)]
pub(super) use files::SegmentFile;
pub(super) use files::{DiskFiles, SegmentFiles};
pub(super) use squeeze::Squeezer;

/// Which body of a flow a piece belongs to. The messages of a WebSocket that one end sent are one body here, whose pieces
/// are numbered through. The numbers are in segment files, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodySide {
    /// Of the request.
    Request = 1,
    /// Of the response.
    Response = 2,
    /// Of a tunnel, from the client.
    TunnelClient = 3,
    /// Of a tunnel, from the origin.
    TunnelServer = 4,
    /// Of messages of a WebSocket, from the client.
    MessageClient = 5,
    /// Of messages of a WebSocket, from the origin.
    MessageServer = 6,
}

/// What stands in the place of a [`BodySide`] where a piece is no part of a body but of a flow's record.
pub(super) const RECORD: u8 = 7;

/// A new file is begun when the next piece would not fit below this: small enough to be copied out when it is mostly
/// dead, large enough that a day's capture is a few dozen files.
pub(super) const SEGMENT_BYTES: u64 = 512 << 20;

/// The most data in one piece: what a reader must hold to check its sum.
pub(super) const PIECE_BYTES: usize = 256 << 10;
