//! Writing frames (RFC 6455 §5.2): those of a client, heads and masked payload as it comes, and heads of an origin's.

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
        out.put_u8(bit(is_last, 0x80) | bit(is_deflated, 0x40) | opcode.map_or(0, Opcode::number));
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ 0..=125), _) => out.put_u8(0x80 | len),
            (_, Ok(len)) => {
                out.put_u8(0x80 | 126);
                out.put_u16(len);
            }
            _ => {
                out.put_u8(0x80 | 127);
                out.put_u64(len);
            }
        }
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
    let mut head = vec![0x80 | opcode.number()];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => head.push(short),
        (_, Ok(medium)) => {
            head.push(126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&len.to_be_bytes());
        }
    }
    head
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
