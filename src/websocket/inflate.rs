//! Undoing permessage-deflate (RFC 7692 §7.2.2) in one direction, as the bytes come.

use flate2::{Decompress, FlushDecompress, Status};

/// The decompressor of one direction. Its state is some 45 KiB, whatever it inflates.
#[derive(Debug)]
pub(super) struct Inflater {
    raw: Decompress,
    /// Each message is compressed by itself.
    starts_anew: bool,
    /// The last block said that it was the last, and nothing came since.
    at_end: bool,
    /// Such a block made us let go of the window, which later messages may refer to.
    window_lost: bool,
}

/// The bytes are not what deflate (RFC 1951) gives.
#[derive(Debug)]
pub(super) struct Corrupt;

impl Inflater {
    pub(super) fn new(starts_anew: bool) -> Self {
        Self { raw: Decompress::new(false), starts_anew, at_end: false, window_lost: false }
    }

    /// Whether a message that begins now can be inflated. Not after one with a final block (RFC 7692 §7.2.3.4), which no
    /// known implementation sends while it keeps its window: what refers back would be inflated to something else.
    pub(super) fn can_inflate(&self) -> bool {
        !self.window_lost
    }

    /// Inflates from the front of `input` into `out`; how many bytes it gave. Nothing more is to be had of this input when
    /// it is empty and `out` was not filled.
    pub(super) fn inflate(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        let mut given = 0;
        while given < out.len() {
            let (before_in, before_out) = (self.raw.total_in(), self.raw.total_out());
            let status =
                self.raw.decompress(input, &mut out[given..], FlushDecompress::None).map_err(|_| Corrupt)?;
            let taken = usize::try_from(self.raw.total_in() - before_in).unwrap_or(usize::MAX);
            let gave = usize::try_from(self.raw.total_out() - before_out).unwrap_or(usize::MAX);
            *input = input.get(taken..).unwrap_or_default();
            given += gave;
            if taken > 0 {
                self.at_end = false;
            }
            if status == Status::StreamEnd {
                self.raw.reset(false);
                self.at_end = true;
                self.window_lost = !self.starts_anew;
            }
            if input.is_empty() && given < out.len() || (taken == 0 && gave == 0) {
                break;
            }
        }
        Ok(given)
    }

    /// What the sender took away from the end of the message, to be inflated before [`Inflater::end_message`].
    pub(super) fn tail(&self) -> &'static [u8] {
        // A final block at the very end leaves no block open that the tail would complete.
        if self.at_end { &[] } else { &[0x00, 0x00, 0xff, 0xff] }
    }

    pub(super) fn end_message(&mut self) {
        if self.starts_anew {
            self.raw.reset(false);
        }
        self.at_end = false;
    }
}
