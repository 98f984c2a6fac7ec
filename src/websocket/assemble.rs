//! One direction of a WebSocket without extensions, put together message by message, with the very bytes that each came in.
//!
//! Unlike [`super::Tap`] it holds a message back until it is whole, up to a bound, so that whoever asks it can send
//! something else in its place. Control frames between its fragments are not held back. Each byte that goes in comes out
//! once. What breaks a rule of the frames ends the assembling, and all that follows comes out as it is.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, HeadBuffer};
use crate::flow::Opcode;

/// Assembles one direction. See the module.
#[derive(Debug)]
pub struct Assembler {
    masked: bool,
    /// Bytes on the wire of a message that are held at most.
    limit: usize,
    head: HeadBuffer,
    frame: Option<Frame>,
    /// The frame under way as it came.
    raw: BytesMut,
    message: Option<Held>,
    silent: bool,
}

/// The message under way.
#[derive(Debug)]
struct Held {
    opcode: Opcode,
    raw: BytesMut,
    payload: BytesMut,
    fragments: u32,
    /// It is too long, and not held any more.
    passes: bool,
}

/// What came of a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A message, whole.
    Message {
        /// What it is: text or binary.
        opcode: Opcode,
        /// Its frames as they came.
        raw: Bytes,
        /// Its payload, unmasked.
        payload: Bytes,
        /// Frames that it came in.
        fragments: u32,
    },
    /// A control frame, as it came.
    Control(Opcode, Bytes),
    /// Bytes that are to go on as they are: some of a message that is too long, or what is not understood.
    Other(Bytes),
}

impl Assembler {
    /// For what a client sends, whose frames are masked; messages of more than `limit` bytes on the wire are not held.
    #[must_use]
    pub fn of_client(limit: usize) -> Self {
        Self::new(true, limit)
    }

    /// The same for an origin.
    #[must_use]
    pub fn of_server(limit: usize) -> Self {
        Self::new(false, limit)
    }

    fn new(masked: bool, limit: usize) -> Self {
        Self {
            masked,
            limit,
            head: HeadBuffer::default(),
            frame: None,
            raw: BytesMut::new(),
            message: None,
            silent: false,
        }
    }

    /// Whether nothing is held, so that a message of somebody else's may stand here.
    #[must_use]
    pub fn is_between(&self) -> bool {
        !self.silent && self.head.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// Whether a rule was broken: what comes is not understood any more.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The next piece; `None` when `input`, which goes on where the last one ended, is used up.
    pub fn next(&mut self, input: &mut Bytes) -> Option<Piece> {
        loop {
            if self.silent {
                return (!input.is_empty()).then(|| Piece::Other(std::mem::take(input)));
            }
            let Some(mut frame) = self.frame.take() else {
                if !self.head.fill(input) {
                    return None;
                }
                if let Some(piece) = self.begin() {
                    return Some(piece);
                }
                continue;
            };
            if frame.left > 0 {
                if input.is_empty() {
                    self.frame = Some(frame);
                    return None;
                }
                let before = input.clone();
                let data = frame.take(input);
                self.raw.extend_from_slice(&before[..before.len() - input.len()]);
                if let Some(held) = self.message.as_mut().filter(|held| !frame.is_control() && !held.passes) {
                    held.payload.extend_from_slice(&data);
                }
            }
            let ended = frame.left == 0;
            let piece = match frame.opcode.filter(|opcode| !opcode.is_data()) {
                Some(opcode) => ended.then(|| Piece::Control(opcode, self.raw.split().freeze())),
                None => self.data(&frame, ended),
            };
            if !ended {
                self.frame = Some(frame);
            }
            if piece.is_some() {
                return piece;
            }
        }
    }

    /// What is held, at the end of the direction.
    pub fn end(&mut self) -> Option<Bytes> {
        let mut rest = self.message.take().map(|held| held.raw).unwrap_or_default();
        rest.extend_from_slice(&self.raw.split());
        rest.extend_from_slice(std::mem::take(&mut self.head).as_bytes());
        self.silent = true;
        (!rest.is_empty()).then(|| rest.freeze())
    }

    /// Takes the head of a frame; gives what was held if it breaks a rule.
    fn begin(&mut self) -> Option<Piece> {
        self.raw.extend_from_slice(self.head.as_bytes());
        let Ok(frame) = std::mem::take(&mut self.head).into_frame() else { return self.give_up() };
        let is_sound = frame.is_masked() == self.masked
            && frame.reserved == 0
            && match (frame.opcode, &self.message) {
                _ if frame.is_control() => frame.is_last && frame.left <= 125,
                (Some(_), None) | (None, Some(_)) => true,
                (Some(_), Some(_)) | (None, None) => false,
            };
        if !is_sound {
            return self.give_up();
        }
        if !frame.is_control() {
            let held = self.message.get_or_insert_with(|| Held {
                opcode: frame.opcode.unwrap_or_default(),
                raw: BytesMut::new(),
                payload: BytesMut::new(),
                fragments: 0,
                passes: false,
            });
            held.fragments = held.fragments.saturating_add(1);
        }
        self.frame = Some(frame);
        None
    }

    fn give_up(&mut self) -> Option<Piece> {
        self.end().map(Piece::Other)
    }

    /// Goes on with a message whose frame under way is `frame`.
    fn data(&mut self, frame: &Frame, ended: bool) -> Option<Piece> {
        let held = self.message.as_mut()?;
        held.raw.extend_from_slice(&self.raw.split());
        if held.raw.len() > self.limit {
            held.passes = true;
            held.payload = BytesMut::new();
        }
        let is_whole = ended && frame.is_last;
        if held.passes {
            let raw = held.raw.split().freeze();
            if is_whole {
                self.message = None;
            }
            return Some(Piece::Other(raw));
        }
        if !is_whole {
            return None;
        }
        let Held { opcode, raw, payload, fragments, .. } = self.message.take()?;
        Some(Piece::Message { opcode, raw: raw.freeze(), payload: payload.freeze(), fragments })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::websocket::put_message;

    fn all(assembler: &mut Assembler, bytes: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let (mut pieces, mut at, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
        while at < bytes.len() {
            let to = (at + cuts.next().map_or(bytes.len(), |cut| *cut + 1)).min(bytes.len());
            let mut input = Bytes::copy_from_slice(&bytes[at..to]);
            while let Some(piece) = assembler.next(&mut input) {
                pieces.push(piece);
            }
            assert!(input.is_empty());
            at = to;
        }
        pieces
    }

    fn bytes_of(pieces: &[Piece]) -> Vec<u8> {
        let raw = pieces.iter().map(|piece| match piece {
            Piece::Message { raw, .. } | Piece::Control(_, raw) | Piece::Other(raw) => &raw[..],
        });
        raw.collect::<Vec<_>>().concat()
    }

    #[test]
    fn control_frames_overtake_the_message_that_they_interrupt() {
        let stream = b"\x01\x03foo\x89\x01p\x00\x00\x8a\x00\x80\x03bar\x82\x00";
        for cut in 0..20 {
            let mut assembler = Assembler::of_server(1000);
            let pieces = all(&mut assembler, stream, &[cut]);
            let message = |opcode, raw: &'static [u8], payload: &'static [u8], fragments| Piece::Message {
                opcode,
                raw: raw.into(),
                payload: payload.into(),
                fragments,
            };
            let expected = [
                Piece::Control(Opcode::Ping, (&b"\x89\x01p"[..]).into()),
                Piece::Control(Opcode::Pong, (&b"\x8a\x00"[..]).into()),
                message(Opcode::Text, b"\x01\x03foo\x00\x00\x80\x03bar", b"foobar", 3),
                message(Opcode::Binary, b"\x82\x00", b"", 1),
            ];
            assert_eq!(pieces, expected, "{cut}");
            assert!(assembler.is_between());
        }
    }

    #[test]
    fn what_is_too_long_is_not_held() {
        let mut assembler = Assembler::of_server(10);
        let long = [&b"\x02\x08aaaaaaaa\x80\x08bbbbbbbb"[..], b"\x81\x01c"].concat();
        let pieces = all(&mut assembler, &long, &[3]);
        assert_eq!(bytes_of(&pieces), long);
        let messages = pieces.iter().filter(|piece| matches!(piece, Piece::Message { .. }));
        assert_eq!(messages.count(), 1);
        assert_eq!(pieces.len(), 3, "it came in several: {pieces:?}");
    }

    #[test]
    fn what_breaks_a_rule_comes_out_with_all_that_follows() {
        for bad in
            [&b"\x83\x00"[..], b"\x81\x81abcdx", b"\x01\x01a\x81\x01b", b"\x80\x00", b"\xc1\x00", b"\x09\x00"]
        {
            let mut assembler = Assembler::of_server(100);
            let stream = [b"\x81\x02ok", bad, b"\x81\x01x"].concat();
            let pieces = all(&mut assembler, &stream, &[0]);
            assert!(matches!(pieces[0], Piece::Message { .. }));
            assert!(pieces[1..].iter().all(|piece| matches!(piece, Piece::Other(_))), "{pieces:?}");
            assert_eq!(bytes_of(&pieces), stream);
            assert!(assembler.is_silent());
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x01), Just(0x80)], 0..80),
            cuts in proptest::collection::vec(0usize..9, 1..5),
            limit in 0usize..30,
            masked: bool,
        ) {
            let mut assembler = if masked { Assembler::of_client(limit) } else { Assembler::of_server(limit) };
            let mut pieces = all(&mut assembler, &bytes, &cuts);
            pieces.extend(assembler.end().map(Piece::Other));
            let mut seen = bytes_of(&pieces);
            let mut expected = bytes.clone();
            // Control frames overtake, so only what they are is the same.
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn messages_come_back_as_they_were_written(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4),
            cuts in proptest::collection::vec(0usize..70, 1..5),
            fragment in 1usize..200,
            masked: bool,
        ) {
            let mut out = BytesMut::new();
            for message in &messages {
                put_message(&mut out, Opcode::Binary, message, fragment, || masked.then_some([1, 2, 3, 4]));
            }
            let mut assembler = if masked { Assembler::of_client(9999) } else { Assembler::of_server(9999) };
            let pieces = all(&mut assembler, &out, &cuts);
            prop_assert_eq!(pieces.len(), messages.len());
            for (piece, message) in pieces.iter().zip(&messages) {
                let Piece::Message { payload, fragments, .. } = piece else { panic!("{piece:?}") };
                prop_assert_eq!(&payload[..], &message[..]);
                prop_assert_eq!(*fragments as usize, message.len().div_ceil(fragment).max(1));
            }
            prop_assert_eq!(bytes_of(&pieces), out.to_vec());
        }
    }
}
