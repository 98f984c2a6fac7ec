//! One direction of a WebSocket, followed frame by frame.

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

use super::Extensions;
use super::frame::{Frame, HeadBuffer};
use super::inflate::Inflater;
use super::utf8::Utf8;
use crate::flow::{MessageCoding, Opcode};

/// Follows one direction. See the module.
#[derive(Debug)]
pub struct Tap {
    masked: bool,
    extensions: Extensions,
    /// Of a direction for which deflate was agreed on.
    inflater: Option<Inflater>,
    head: HeadBuffer,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Payload of the control frame under way: at most 125 bytes.
    control: BytesMut,
    /// A rule was broken: what follows means nothing.
    silent: bool,
}

/// What a direction said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message began. Control frames may come before its end.
    Begun(Opcode),
    /// Some of its payload, unmasked and inflated. Never empty.
    Payload(Bytes),
    /// It is whole.
    Ended(Ended),
    /// A control frame, whole.
    Control {
        /// What it is.
        opcode: Opcode,
        /// Its payload, unmasked; at most 125 bytes.
        payload: Bytes,
    },
}

/// What is known of a message so far, or at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Payload, unmasked and inflated, bytes.
    pub len: u64,
    /// Payload of its frames as they were on the wire, bytes.
    pub wire_len: u64,
    /// Its frames.
    pub fragments: u32,
    /// What an extension made of it.
    pub coding: MessageCoding,
    /// Whether it inflated to more than [`Tap`] gives out of one message; `len` counts all.
    pub truncated: bool,
    /// Whether it is a text that is not UTF-8 (RFC 6455 §8.1). That is for its receiver to refuse, and breaks no rule of
    /// the frames. Never where `coding` is [`MessageCoding::Unknown`].
    pub not_utf8: bool,
}

/// The rule of RFC 6455 or RFC 7692 that a direction broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// RFC 6455 §5.2.
    #[error("a WebSocket frame has the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.2.
    #[error("a WebSocket frame has a reserved bit set that no extension has given a meaning")]
    ReservedBit,
    /// RFC 7692 §6: only the first frame of a message says that it is compressed.
    #[error("a WebSocket frame that does not begin a message is marked as compressed")]
    CompressedBit,
    /// RFC 6455 §5.4.
    #[error("a WebSocket message began in the middle of another")]
    Interleaved,
    /// RFC 6455 §5.4.
    #[error("a WebSocket frame continues a message that has not begun")]
    NothingToContinue,
    /// RFC 6455 §5.5.
    #[error("a WebSocket control frame is fragmented")]
    FragmentedControl,
    /// RFC 6455 §5.5.
    #[error("a WebSocket control frame is longer than 125 bytes")]
    LongControl,
    /// RFC 6455 §5.5.1.
    #[error("the payload of a WebSocket close frame is one byte long")]
    HalfCloseCode,
    /// RFC 6455 §5.1.
    #[error("a WebSocket frame of the client is not masked")]
    NotMasked,
    /// RFC 6455 §5.1.
    #[error("a WebSocket frame of the origin is masked")]
    Masked,
    /// RFC 6455 §5.2: the shortest form, and no more than 63 bits.
    #[error("a WebSocket frame has its length in a form that is not allowed")]
    BadLength,
    /// RFC 7692 §7.2.2.
    #[error("a compressed WebSocket message cannot be inflated")]
    Corrupt,
}

impl Tap {
    /// Follows what the client sends.
    #[must_use]
    pub fn of_client(extensions: Extensions) -> Self {
        let inflater = extensions.deflate.map(|deflate| Inflater::new(deflate.client_starts_anew));
        Self::new(true, extensions, inflater)
    }

    /// Follows what the origin sends.
    #[must_use]
    pub fn of_server(extensions: Extensions) -> Self {
        let inflater = extensions.deflate.map(|deflate| Inflater::new(deflate.server_starts_anew));
        Self::new(false, extensions, inflater)
    }

    fn new(masked: bool, extensions: Extensions, inflater: Option<Inflater>) -> Self {
        Self {
            masked,
            extensions,
            inflater,
            head: HeadBuffer::default(),
            frame: None,
            message: None,
            control: BytesMut::new(),
            silent: false,
        }
    }

    /// The next thing that `input`, which goes on where the last one ended, says; `None` when it is used up and more is
    /// needed. After an error all that comes is passed over.
    ///
    /// # Errors
    /// The first time that a rule is broken.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, Violation> {
        if self.silent {
            input.clear();
            return Ok(None);
        }
        let next = self.advance(input);
        if next.is_err() {
            input.clear();
            self.silent = true;
        }
        next
    }

    /// What is known of the message that has begun and not ended.
    #[must_use]
    pub fn unfinished(&self) -> Option<Ended> {
        self.message.as_ref().map(|message| message.facts(Utf8::is_broken))
    }

    /// Whether an end now would cut a frame or a message. Not once it has gone silent.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.silent && (!self.head.is_empty() || self.frame.is_some() || self.message.is_some())
    }

    /// Whether a rule was broken.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Event>, Violation> {
        loop {
            if let Some(piece) = self.inflate()? {
                return Ok(Some(Event::Payload(piece)));
            }
            let Some(mut frame) = self.frame.take() else {
                if !self.head.fill(input) {
                    return Ok(None);
                }
                if let Some(event) = self.begin_frame()? {
                    return Ok(Some(event));
                }
                continue;
            };
            if frame.left == 0 {
                match self.end_frame(frame)? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            if input.is_empty() {
                self.frame = Some(frame);
                return Ok(None);
            }
            let data = frame.take(input);
            let is_control = frame.is_control();
            self.frame = Some(frame);
            if is_control {
                self.control.extend_from_slice(&data);
            } else if let Some(piece) = self.payload(data) {
                return Ok(Some(Event::Payload(piece)));
            }
        }
    }

    /// Judges a frame by its head, and makes it the one under way.
    fn begin_frame(&mut self) -> Result<Option<Event>, Violation> {
        let frame = std::mem::take(&mut self.head).into_frame()?;
        match (frame.is_masked(), self.masked) {
            (false, true) => return Err(Violation::NotMasked),
            (true, false) => return Err(Violation::Masked),
            _ => {}
        }
        let reserved = frame.reserved;
        if frame.is_control() {
            if reserved != 0 && !self.extensions.unknown {
                return Err(Violation::ReservedBit);
            }
            if !frame.is_last {
                return Err(Violation::FragmentedControl);
            }
            if frame.left > 125 {
                return Err(Violation::LongControl);
            }
            self.frame = Some(frame);
            return Ok(None);
        }
        let coding = self.coding(reserved, frame.opcode.is_some())?;
        let left = frame.left;
        let begun = frame.opcode;
        match (&self.message, begun) {
            (Some(_), Some(_)) => return Err(Violation::Interleaved),
            (None, None) => return Err(Violation::NothingToContinue),
            (None, Some(opcode)) => self.message = Some(Message::new(coding, opcode)),
            (Some(_), None) => {}
        }
        if let Some(message) = &mut self.message {
            let facts = &mut message.facts;
            facts.fragments = facts.fragments.saturating_add(1);
            facts.wire_len = facts.wire_len.saturating_add(left);
            if coding == MessageCoding::Unknown {
                facts.coding = coding;
            }
        }
        self.frame = Some(frame);
        Ok(begun.map(Event::Begun))
    }

    /// What the reserved bits of a data frame say.
    fn coding(&self, reserved: u8, begins: bool) -> Result<MessageCoding, Violation> {
        const COMPRESSED: u8 = 0x40;
        match (reserved, &self.inflater) {
            (0, _) => Ok(MessageCoding::Plain),
            _ if self.extensions.unknown => Ok(MessageCoding::Unknown),
            (COMPRESSED, Some(_)) if !begins => Err(Violation::CompressedBit),
            (COMPRESSED, Some(inflater)) if inflater.can_inflate() => Ok(MessageCoding::Deflate),
            (COMPRESSED, Some(_)) => Ok(MessageCoding::Unknown),
            _ => Err(Violation::ReservedBit),
        }
    }

    /// Takes in payload of a message: to be inflated, or to be given out as it is.
    fn payload(&mut self, data: Bytes) -> Option<Bytes> {
        let message = self.message.as_mut()?;
        if message.facts.coding == MessageCoding::Deflate {
            message.coded = data;
            message.drained = false;
            return None;
        }
        message.facts.len += data.len() as u64;
        message.read(&data);
        Some(data)
    }

    /// The next piece that what was taken in inflates to.
    fn inflate(&mut self) -> Result<Option<Bytes>, Violation> {
        let (Some(message), Some(inflater)) = (&mut self.message, &mut self.inflater) else {
            return Ok(None);
        };
        while !message.drained {
            let mut out = [0; PIECE];
            let mut coded = &message.coded[..];
            let len = inflater.inflate(&mut coded, &mut out).map_err(|_| Violation::Corrupt)?;
            let taken = message.coded.len() - coded.len();
            message.coded.advance(taken);
            // A full piece may have more behind it, also when no input is left.
            message.drained = len < out.len();
            if message.drained && !message.coded.is_empty() {
                return Err(Violation::Corrupt);
            }
            message.read(&out[..len]);
            let before = message.facts.len;
            message.facts.len += len as u64;
            message.facts.truncated |= message.facts.len > MAX_INFLATED;
            // What is too much is inflated all the same: the window is needed for what follows.
            let keep = usize::try_from(MAX_INFLATED.saturating_sub(before)).unwrap_or(len).min(len);
            if keep > 0 {
                return Ok(Some(Bytes::copy_from_slice(&out[..keep])));
            }
        }
        Ok(None)
    }

    /// Ends a frame, and with the last of its frames a message.
    fn end_frame(&mut self, frame: Frame) -> Result<Option<Event>, Violation> {
        if let Some(opcode) = frame.opcode.filter(|opcode| !opcode.is_data()) {
            let payload = self.control.split().freeze();
            if opcode == Opcode::Close && payload.len() == 1 {
                return Err(Violation::HalfCloseCode);
            }
            return Ok(Some(Event::Control { opcode, payload }));
        }
        let Some(message) = self.message.as_mut().filter(|_| frame.is_last) else { return Ok(None) };
        if message.facts.coding == MessageCoding::Deflate
            && let Some(inflater) = &mut self.inflater
        {
            if !std::mem::replace(&mut message.tail_given, true) {
                message.coded = Bytes::from_static(inflater.tail());
                message.drained = message.coded.is_empty();
                // Come back when it is inflated.
                self.frame = Some(frame);
                return Ok(None);
            }
            inflater.end_message();
        }
        let ended = message.facts(Utf8::would_be_broken);
        self.message = None;
        Ok(Some(Event::Ended(ended)))
    }
}

/// The message under way.
#[derive(Debug)]
struct Message {
    facts: Ended,
    /// What is to be inflated.
    coded: Bytes,
    /// Whether all that came is inflated.
    drained: bool,
    tail_given: bool,
    /// Of a text.
    utf8: Option<Utf8>,
}

impl Message {
    fn new(coding: MessageCoding, opcode: Opcode) -> Self {
        let facts = Ended { coding, ..Ended::default() };
        let utf8 = (opcode == Opcode::Text).then(Utf8::default);
        Self { facts, coded: Bytes::new(), drained: true, tail_given: false, utf8 }
    }

    /// Looks at payload, unmasked and inflated.
    fn read(&mut self, data: &[u8]) {
        if let Some(utf8) = &mut self.utf8 {
            utf8.feed(data);
        }
    }

    fn facts(&self, is_broken: impl Fn(&Utf8) -> bool) -> Ended {
        let not_utf8 =
            self.facts.coding != MessageCoding::Unknown && self.utf8.as_ref().is_some_and(is_broken);
        Ended { not_utf8, ..self.facts }
    }
}

/// What is inflated at a time. Arbitrary: as large as a TLS record.
const PIECE: usize = 16 * 1024;

/// What is given out of one compressed message. A thousandth of it on the wire can inflate to so much, and the disk of the
/// store should not be a stranger's to fill; a page's messages are far smaller, and bodies are decoded up to as much.
const MAX_INFLATED: u64 = 64 << 20;
