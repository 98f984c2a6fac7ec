//! A WebSocket and its messages (RFC 6455).

use super::{BodyEnd, Content};

/// What passed on a WebSocket, and how it ended (RFC 6455 §7). Its messages are rows of their own: see [`Message`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebSocket {
    /// Whether the client sent the first close frame; `None` where none was seen.
    pub closed_by_client: Option<bool>,
    /// Code of the first close frame; 1005 if it had none, 1006 if the connection ended without one (RFC 6455 §7.1.5).
    /// `None` while it is open, and where the frames could not be followed to the end.
    pub close_code: Option<u16>,
    /// Reason in the first close frame, with bytes that are not UTF-8 replaced; `None` where there was no code.
    pub close_reason: Option<String>,
    /// Messages and control frames from the client, and what we made as if it were. One that was cut off counts too. Rows of messages may be fewer
    /// where the store failed.
    pub messages_from_client: u64,
    /// The same from the origin.
    pub messages_from_server: u64,
    /// Their payload from the client, bytes, inflated where it was.
    pub len_from_client: u64,
    /// The same from the origin.
    pub len_from_server: u64,
    /// Text messages from the client that are not UTF-8 (RFC 6455 §8.1).
    pub bad_text_from_client: u64,
    /// The same from the origin.
    pub bad_text_from_server: u64,
}

impl WebSocket {
    /// How many messages and control frames passed, both ways.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages_from_client.saturating_add(self.messages_from_server)
    }
}

/// One message of a WebSocket, put together from its fragments, or one control frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Its number on this WebSocket, from 1, over both directions, in the order in which messages came to their end.
    pub seq: u64,
    /// Whether the client sent it; else the origin did.
    pub from_client: bool,
    /// What it is.
    pub opcode: Opcode,
    /// When its first frame came: microseconds after the flow's start.
    pub at_us: u64,
    /// Payload bytes that passed, unmasked and inflated, recorded or not.
    pub len: u64,
    /// Payload bytes of its frames as they were on the wire. Not `len` where `coding` is [`MessageCoding::Deflate`].
    pub wire_len: u64,
    /// What an extension had made of it.
    pub coding: MessageCoding,
    /// Frames that it came in; at least 1.
    pub fragments: u32,
    /// Whether we made it, and neither of the two ends did.
    pub injected: bool,
    /// Whether it was kept from the other end: by a rule, which may have sent an injected one in its place.
    pub dropped: bool,
    /// Whether it came to its end. [`BodyEnd::Capped`] where it inflated to more than is recorded.
    pub end: BodyEnd,
    /// Its payload, or where that is.
    pub content: Content,
}

/// What a frame is (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opcode {
    /// A message in UTF-8. That is for the receiver to check: what is recorded is what passed.
    Text,
    /// A message of any bytes.
    #[default]
    Binary,
    /// The beginning, or the echo, of the end. Its payload begins with a code.
    Close,
    /// A question whether the other end is alive.
    Ping,
    /// The answer.
    Pong,
}

impl Opcode {
    /// Its number on the wire; `None` for a continuation and for numbers that are reserved.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    /// Whether it is a message, and not a control frame (RFC 6455 §5.5).
    #[must_use]
    pub fn is_data(self) -> bool {
        matches!(self, Opcode::Text | Opcode::Binary)
    }

    /// `text`, `binary`, `close`, `ping` or `pong`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
        }
    }
}

/// What an extension made of a message on the wire (RFC 6455 §5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageCoding {
    /// Nothing.
    #[default]
    Plain,
    /// It was compressed (RFC 7692); what is recorded is inflated.
    Deflate,
    /// Something that we cannot undo; what is recorded is as it was on the wire.
    Unknown,
}

impl MessageCoding {
    /// `plain`, `deflate` or `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MessageCoding::Plain => "plain",
            MessageCoding::Deflate => "deflate",
            MessageCoding::Unknown => "unknown",
        }
    }
}
