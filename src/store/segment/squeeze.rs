//! The data of a piece made smaller, where that pays.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use zstd::bulk::Compressor;

/// Makes zstd frames, one after the other.
pub(in crate::store) struct Squeezer {
    zstd: Compressor<'static>,
    frame: Vec<u8>,
}

impl Squeezer {
    /// `level` is one of zstd's own, from 1.
    ///
    /// # Errors
    /// If zstd has no memory, or no such level.
    pub(in crate::store) fn new(level: i32) -> io::Result<Self> {
        Ok(Self { zstd: Compressor::new(level)?, frame: Vec::new() })
    }

    /// The data of a piece as a frame; `None` where that would save too little: images, and what has a content-coding.
    pub(in crate::store) fn squeeze(&mut self, data: &[u8]) -> Option<&[u8]> {
        self.frame.clear();
        self.frame.reserve(data.len());
        // It ends with an error where the frame would be longer than the data.
        let len = self.zstd.compress_to_buffer(data, &mut self.frame).ok()?;
        (len > 0 && len <= data.len() - data.len() / WORTH).then(|| &self.frame[..len])
    }
}

/// As [`Squeezer::squeeze`], with one that this thread keeps: making one takes as long as a body of some KiB.
pub(super) fn squeezed(data: &[u8], level: i32) -> Option<Bytes> {
    thread_local! {
        static KEPT: RefCell<Option<(i32, Squeezer)>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(of, _)| *of != level) {
            *kept = Squeezer::new(level).ok().map(|squeezer| (level, squeezer));
        }
        let (_, squeezer) = kept.as_mut()?;
        squeezer.squeeze(data).map(Bytes::copy_from_slice)
    })
}

impl std::fmt::Debug for Squeezer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Squeezer").finish_non_exhaustive()
    }
}

/// The part of the data that a frame has to save: less is not worth that each reader decodes it.
const WORTH: usize = 8;
