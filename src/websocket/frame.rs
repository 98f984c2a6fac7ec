//! Frames (RFC 6455 §5.2): their heads as they come, and the one under way.

use bytes::{Bytes, BytesMut};

use super::Violation;
use crate::flow::Opcode;

/// The frame under way.
#[derive(Debug)]
pub(super) struct Frame {
    /// `None` for a continuation.
    pub(super) opcode: Option<Opcode>,
    pub(super) is_last: bool,
    /// The reserved bits, where they stand in its first byte.
    pub(super) reserved: u8,
    /// Payload that has not come, bytes.
    pub(super) left: u64,
    mask: Option<[u8; 4]>,
    /// Where in the mask its next byte of payload is.
    at: usize,
}

impl Frame {
    pub(super) fn is_control(&self) -> bool {
        self.opcode.is_some_and(|opcode| !opcode.is_data())
    }

    pub(super) fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// Takes what there is of its payload, unmasked.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Bytes {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        self.left -= len as u64;
        let data = input.split_to(len);
        let Some(mut mask) = self.mask else { return data };
        mask.rotate_left(self.at);
        self.at = (self.at + len) % 4;
        let mut plain = BytesMut::from(&data[..]);
        self::mask(&mut plain, mask);
        plain.freeze()
    }
}

/// Masks, or takes the mask off (RFC 6455 §5.3), eight bytes at a time.
pub(super) fn mask(data: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The head of a frame as it comes: 2 to 14 bytes (RFC 6455 §5.2).
#[derive(Debug, Default)]
pub(super) struct HeadBuffer {
    bytes: [u8; 14],
    len: usize,
}

impl HeadBuffer {
    /// Takes bytes until the head is whole; whether it is.
    pub(super) fn fill(&mut self, input: &mut Bytes) -> bool {
        loop {
            let wanted = self.wanted();
            let len = (wanted - self.len).min(input.len());
            self.bytes[self.len..self.len + len].copy_from_slice(&input.split_to(len));
            self.len += len;
            if self.len < wanted {
                return false;
            }
            if wanted == self.wanted() {
                return true;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What came of it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The frame that a whole head begins.
    pub(super) fn into_frame(self) -> Result<Frame, Violation> {
        let number = self.bytes[0] & 0x0f;
        let opcode = Opcode::from_number(number);
        if number != 0 && opcode.is_none() {
            return Err(Violation::ReservedOpcode(number));
        }
        Ok(Frame {
            opcode,
            is_last: self.bytes[0] & 0x80 != 0,
            reserved: self.bytes[0] & 0x70,
            left: self.payload_len()?,
            mask: self.mask(),
            at: 0,
        })
    }

    /// How long the head is, as far as its beginning tells.
    fn wanted(&self) -> usize {
        if self.len < 2 {
            return 2;
        }
        let mask = if self.bytes[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.len_bytes() + mask
    }

    /// Bytes of its extended length.
    fn len_bytes(&self) -> usize {
        match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_len(&self) -> Result<u64, Violation> {
        let short = u64::from(self.bytes[1] & 0x7f);
        let long = self.bytes[2..].iter().take(self.len_bytes()).fold(0, |n, &b| n << 8 | u64::from(b));
        match short {
            126 if long < 126 => Err(Violation::BadLength),
            127 if long <= 0xffff || long >> 63 != 0 => Err(Violation::BadLength),
            126 | 127 => Ok(long),
            short => Ok(short),
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        let (_, mask) = self.bytes[..self.len].split_last_chunk::<4>()?;
        (self.bytes[1] & 0x80 != 0).then_some(*mask)
    }
}
