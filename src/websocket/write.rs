//! The head of a frame that is sent.

use crate::flow::Opcode;

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
