//! One direction of a WebSocket without extensions, put together message by message, with the very bytes that each came in.
//!
//! Unlike [`super::Tap`] it holds a message back until it is whole, up to a bound, so that whoever asks it can send
//! something else in its place. Control frames between its fragments are not held back. Each byte that goes in comes out
//! once. All assemblers together hold no more than 64 MiB; what does not fit passes as what is too long.
//! What breaks a rule of the frames ends the assembling, and all that follows comes out as it is.

use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// For the message under way, or the one that was given out last.
    reserved: Reserved,
    silent: bool,
}

/// The message under way.
#[derive(Debug)]
struct Held {
    opcode: Opcode,
    /// Its frames as they came. The payload is taken out of them when they are whole, so that it is not held twice.
    raw: Vec<u8>,
    fragments: u32,
    /// It is too long, or too much is held elsewhere: it is not held any more.
    passes: bool,
}

/// Room for a message, of that which all share. Dropping it gives it back.
#[derive(Debug, Default)]
struct Reserved(usize);

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
            reserved: Reserved::default(),
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
        // Whoever asks for the next piece has done with the last one.
        if self.message.as_ref().is_none_or(|held| held.passes) {
            self.reserved.release();
        }
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
                let len = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
                frame.left -= len as u64;
                self.raw.extend_from_slice(&input.split_to(len));
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
        (!rest.is_empty()).then(|| rest.into())
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
                raw: Vec::new(),
                fragments: 0,
                passes: false,
            });
            held.fragments = held.fragments.saturating_add(1);
            // What will be too long is not held until it is.
            let len = frame.left.saturating_add((held.raw.len() + self.raw.len()) as u64);
            held.passes |= len > self.limit as u64;
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
        let came = self.raw.split();
        let len = held.raw.len() + came.len();
        if !held.passes && len > held.raw.capacity() {
            // Doubled, as there may be many small frames, but not beyond what may come. A length is the peer's word only, so
            // nothing is reserved for it before it comes.
            let most = match frame.is_last {
                true => len.saturating_add(usize::try_from(frame.left).unwrap_or(usize::MAX)),
                false => self.limit.max(len),
            };
            let capacity = held.raw.capacity().saturating_mul(2).clamp(len, most);
            held.passes = !self.reserved.grow_to(capacity);
            if !held.passes {
                held.raw.reserve_exact(capacity - held.raw.len());
            }
        }
        held.raw.extend_from_slice(&came);
        let is_whole = ended && frame.is_last;
        if held.passes {
            let raw = std::mem::take(&mut held.raw).into();
            if is_whole {
                self.message = None;
            }
            return Some(Piece::Other(raw));
        }
        if !is_whole {
            return None;
        }
        let Held { opcode, raw, fragments, .. } = self.message.take()?;
        let raw = Bytes::from(raw);
        let payload = payload_of(&raw);
        Some(Piece::Message { opcode, raw, payload, fragments })
    }
}

impl Reserved {
    /// Whether there was room for so many bytes in all; if not, it stays as it is.
    fn grow_to(&mut self, len: usize) -> bool {
        let more = len.saturating_sub(self.0);
        if HELD_BY_ALL.fetch_add(more, Ordering::Relaxed).saturating_add(more) > MOST_HELD_BY_ALL {
            HELD_BY_ALL.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.0 += more;
        true
    }

    fn release(&mut self) {
        HELD_BY_ALL.fetch_sub(std::mem::take(&mut self.0), Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.release();
    }
}

/// The payload, unmasked, of the frames of a whole message. That of a single frame which is not masked is not copied.
fn payload_of(raw: &Bytes) -> Bytes {
    let (mut rest, mut payload) = (raw.clone(), BytesMut::new());
    loop {
        let mut head = HeadBuffer::default();
        if !head.fill(&mut rest) {
            return payload.freeze();
        }
        // Each head was looked at when it came, so this is the end only by a mistake of ours.
        let Ok(mut frame) = head.into_frame() else { return payload.freeze() };
        let piece = frame.take(&mut rest);
        if payload.is_empty() && rest.is_empty() {
            return piece;
        }
        payload.extend_from_slice(&piece);
    }
}

/// Bytes that all assemblers of the process hold at most: sixteen of the longest messages, or some thousands of usual ones.
const MOST_HELD_BY_ALL: usize = 64 << 20;

/// What of it is in use.
static HELD_BY_ALL: AtomicUsize = AtomicUsize::new(0);

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
    fn what_is_announced_as_too_long_is_not_held_at_all() {
        let mut assembler = Assembler::of_server(1000);
        let mut input = Bytes::from_static(b"\x82\x7e\x03\xffabc");
        let piece = assembler.next(&mut input);
        assert_eq!(piece, Some(Piece::Other((&b"\x82\x7e\x03\xffabc"[..]).into())));
        assert!(!assembler.is_between() && assembler.end().is_none());
    }

    #[test]
    fn room_is_given_back() {
        let mut assembler = Assembler::of_server(1000);
        let mut input = Bytes::from_static(b"\x82\x05hello\x82\x05he");
        assert!(matches!(assembler.next(&mut input), Some(Piece::Message { .. })));
        assert_eq!(assembler.reserved.0, 7, "until the next one is asked for");
        assert_eq!(assembler.next(&mut input), None);
        assert_eq!(assembler.reserved.0, 4, "what came, not what was announced");
        assert!(matches!(assembler.next(&mut Bytes::from_static(b"llo")), Some(Piece::Message { .. })));
        assert_eq!(assembler.reserved.0, 7);
        assert_eq!(assembler.next(&mut Bytes::new()), None);
        assert_eq!(assembler.reserved.0, 0);
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
