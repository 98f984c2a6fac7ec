//! Writing frames (RFC 6455 §5.2): those of a client, heads and masked payload as it comes, heads of an origin's, and
//! messages that are at hand.

use bytes::{BufMut, BytesMut};

use super::frame::mask;
use crate::flow::Opcode;

/// Writes one frame after the other into a buffer; a payload may come in several parts.
#[derive(Debug, Default)]
pub struct FrameWriter {
    mask: [u8; 4],
    /// Where in the mask the next byte of payload is.
    at: usize,
}

impl FrameWriter {
    /// Begins a frame with `len` bytes of payload, masked with `key` (which must not be guessed, RFC 6455 §5.3). `opcode` is
    /// `None` for a continuation; `is_last` ends its message; `is_deflated` may be set on the first frame of one.
    pub fn begin(
        &mut self,
        out: &mut BytesMut,
        opcode: Option<Opcode>,
        is_last: bool,
        is_deflated: bool,
        len: u64,
        key: [u8; 4],
    ) {
        let bit = |set, bit| if set { bit } else { 0 };
        let first = bit(is_last, 0x80) | bit(is_deflated, 0x40) | opcode.map_or(0, Opcode::number);
        put_head(out, first, 0x80, len);
        out.put_slice(&key);
        self.mask = key;
        self.at = 0;
    }

    /// Some of the payload of the frame that was begun.
    pub fn payload(&mut self, out: &mut BytesMut, data: &[u8]) {
        let mut key = self.mask;
        key.rotate_left(self.at);
        self.at = (self.at + data.len()) % 4;
        let start = out.len();
        out.put_slice(data);
        mask(&mut out[start..], key);
    }
}

/// The head of an unmasked frame, as an origin sends it, that is a whole message with so much payload (RFC 6455 §5.2).
#[must_use]
pub fn unmasked_head(opcode: Opcode, len: u64) -> Vec<u8> {
    let mut head = BytesMut::with_capacity(10);
    put_head(&mut head, 0x80 | opcode.number(), 0, len);
    head.to_vec()
}

/// Writes a whole message in frames of at most `fragment_len` bytes of payload, one if it is empty. `key` gives a fresh
/// masking key for each, or `None` for a message of an origin's, which is not masked (RFC 6455 §5.1).
pub fn put_message(
    out: &mut BytesMut,
    opcode: Opcode,
    payload: &[u8],
    fragment_len: usize,
    mut key: impl FnMut() -> Option<[u8; 4]>,
) {
    let mut opcode = Some(opcode);
    let mut rest = payload;
    loop {
        let (piece, after) = rest.split_at(fragment_len.max(1).min(rest.len()));
        rest = after;
        let len = piece.len() as u64;
        match key() {
            Some(key) => {
                let mut writer = FrameWriter::default();
                writer.begin(out, opcode.take(), rest.is_empty(), false, len, key);
                writer.payload(out, piece);
            }
            None => {
                let last = if rest.is_empty() { 0x80 } else { 0 };
                put_head(out, last | opcode.take().map_or(0, Opcode::number), 0, len);
                out.put_slice(piece);
            }
        }
        if rest.is_empty() {
            return;
        }
    }
}

/// The first two bytes of a frame's head, with the `mask` bit, and its length in the shortest form (RFC 6455 §5.2).
fn put_head(out: &mut BytesMut, first: u8, mask: u8, len: u64) {
    out.put_u8(first);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.put_u8(mask | short),
        (_, Ok(medium)) => {
            out.put_u8(mask | 126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(mask | 127);
            out.put_u64(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::websocket::{Event, Extensions, Tap};

    #[test]
    fn what_is_written_is_read_back() {
        for len in [0_usize, 1, 125, 126, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let (first, second) = payload.split_at(len / 3);
            let (mut out, mut writer) = (BytesMut::new(), FrameWriter::default());
            writer.begin(&mut out, Some(Opcode::Binary), false, false, first.len() as u64, [1, 2, 3, 4]);
            writer.payload(&mut out, &first[..first.len() / 2]);
            writer.payload(&mut out, &first[first.len() / 2..]);
            writer.begin(&mut out, None, true, false, second.len() as u64, [9, 8, 7, 6]);
            writer.payload(&mut out, second);
            let (mut tap, mut input, mut seen) =
                (Tap::of_client(Extensions::default()), Bytes::from(out), Vec::new());
            while let Some(event) = tap.next(&mut input).unwrap() {
                match event {
                    Event::Payload(data) => seen.extend_from_slice(&data),
                    Event::Ended(ended) => assert_eq!((ended.fragments, ended.len), (2, len as u64)),
                    Event::Begun(opcode) => assert_eq!(opcode, Opcode::Binary),
                    Event::Control { .. } => panic!("no control frame was written"),
                }
            }
            assert_eq!(seen, payload);
        }
    }

    #[test]
    fn heads_are_read_back() {
        for len in [0, 125, 126, 65_535, 65_536_u32] {
            let payload = vec![7; len as usize];
            let frame = [unmasked_head(Opcode::Binary, len.into()), payload].concat();
            let (mut tap, mut input) = (Tap::of_server(Extensions::default()), Bytes::from(frame));
            let mut seen = 0;
            while let Some(event) = tap.next(&mut input).unwrap() {
                match event {
                    Event::Payload(piece) => seen += piece.len(),
                    Event::Ended(ended) => assert_eq!((ended.len, seen), (len.into(), len as usize)),
                    Event::Begun(opcode) => assert_eq!(opcode, Opcode::Binary),
                    Event::Control { .. } => panic!("a control frame"),
                }
            }
            assert!(!tap.is_inside());
        }
    }
}
