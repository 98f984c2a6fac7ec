//! tnetstrings in one pass: what stands in them is written first, and its length put before it.
//!
//! What is elsewhere (bodies, messages) leaves a gap of which only the length is known.

use super::node::Node;

/// A value as it is written.
#[derive(Debug, Default)]
pub(super) struct Frames<'n> {
    pub(super) bytes: Vec<u8>,
    /// In their order; `at` is never past the end of `bytes`.
    pub(super) gaps: Vec<Gap<'n>>,
}

/// Where something belongs that is elsewhere.
#[derive(Debug)]
pub(super) struct Gap<'n> {
    /// Before which byte.
    pub(super) at: usize,
    pub(super) len: u64,
    pub(super) what: &'n Node,
}

impl<'n> Frames<'n> {
    /// Into this memory, which is emptied.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, gaps: Vec::new() }
    }

    /// A value without parts.
    pub(super) fn scalar(&mut self, payload: &[u8], tag: u8) {
        let (digits, from) = prefix(payload.len() as u64);
        self.bytes.extend_from_slice(&digits[from..]);
        self.bytes.extend_from_slice(payload);
        self.bytes.push(tag);
    }

    /// A list or a dict; `inside` writes what is in it.
    pub(super) fn framed(&mut self, tag: u8, inside: impl FnOnce(&mut Self)) {
        let (begin, first_gap) = (self.bytes.len(), self.gaps.len());
        inside(self);
        let gaps = &mut self.gaps[first_gap..];
        let end = self.bytes.len();
        let elsewhere = gaps.iter().fold(0, |sum: u64, gap| sum.saturating_add(gap.len));
        let (digits, from) = prefix(elsewhere.saturating_add((end - begin) as u64));
        let digits = &digits[from..];
        // What is in memory of a flow is some KiB: moving it along costs less than finding its length out before.
        self.bytes.extend_from_slice(digits);
        self.bytes.copy_within(begin..end, begin + digits.len());
        self.bytes[begin..begin + digits.len()].copy_from_slice(digits);
        gaps.iter_mut().for_each(|gap| gap.at += digits.len());
        self.bytes.push(tag);
    }

    /// Leaves a gap of `len` bytes for `what`, with the frame around it.
    pub(super) fn gap(&mut self, len: u64, tag: u8, what: &'n Node) {
        let (digits, from) = prefix(len);
        self.bytes.extend_from_slice(&digits[from..]);
        self.gaps.push(Gap { at: self.bytes.len(), len, what });
        self.bytes.push(tag);
    }
}

/// A length and a colon, at the end of an array; and where they begin in it.
fn prefix(mut len: u64) -> ([u8; 21], usize) {
    let mut digits = [b':'; 21];
    let mut from = 20;
    loop {
        from -= 1;
        digits[from] = b'0' + (len % 10).to_le_bytes()[0];
        len /= 10;
        if len == 0 {
            return (digits, from);
        }
    }
}
