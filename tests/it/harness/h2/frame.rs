//! Frames as bytes (RFC 9113 §4.1, §6): any of them can be made, also those that no peer may send.

/// A frame, its payload undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// RFC 7838 §4.
pub(crate) const ALTSVC: u8 = 10;

/// No flag at all, where others stand.
pub(crate) const MORE: u8 = 0;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITIZED: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0x0;
    pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
    pub(crate) const INTERNAL_ERROR: u32 = 0x2;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub(crate) const STREAM_CLOSED: u32 = 0x5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
    pub(crate) const REFUSED_STREAM: u32 = 0x7;
    pub(crate) const CANCEL: u32 = 0x8;
    pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;
    pub(crate) const HTTP_1_1_REQUIRED: u32 = 0xd;
}

/// Settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub(crate) fn data(stream: u32, flags: u8, data: impl AsRef<[u8]>) -> Self {
        Self::new(DATA, flags, stream, data.as_ref())
    }

    /// A whole header block in one frame.
    pub(crate) fn headers(stream: u32, flags: u8, block: impl Into<Vec<u8>>) -> Self {
        Self::new(HEADERS, flags | END_HEADERS, stream, block)
    }

    pub(crate) fn continuation(stream: u32, flags: u8, block: impl Into<Vec<u8>>) -> Self {
        Self::new(CONTINUATION, flags, stream, block)
    }

    pub(crate) fn rst(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub(crate) fn settings(values: &[(u16, u32)]) -> Self {
        let one = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(SETTINGS, 0, 0, values.iter().flat_map(one).collect::<Vec<_>>())
    }

    pub(crate) fn settings_ack() -> Self {
        Self::new(SETTINGS, ACK, 0, [])
    }

    pub(crate) fn ping(flags: u8, payload: [u8; 8]) -> Self {
        Self::new(PING, flags, 0, payload)
    }

    pub(crate) fn goaway(last: u32, code: u32) -> Self {
        Self::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    pub(crate) fn window_update(stream: u32, by: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
    }

    /// A dependency, not exclusive, with the default weight.
    pub(crate) fn priority(stream: u32, on: u32) -> Self {
        Self::new(PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[15]].concat())
    }

    pub(crate) fn push_promise(stream: u32, promised: u32, block: impl AsRef<[u8]>) -> Self {
        let payload = [&promised.to_be_bytes()[..], block.as_ref()].concat();
        Self::new(PUSH_PROMISE, END_HEADERS, stream, payload)
    }

    pub(crate) fn altsvc(stream: u32, origin: &str, value: &str) -> Self {
        let len = u16::try_from(origin.len()).unwrap().to_be_bytes();
        Self::new(ALTSVC, 0, stream, [&len[..], origin.as_bytes(), value.as_bytes()].concat())
    }

    /// The same `DATA`, `HEADERS` or `PUSH_PROMISE` with this many bytes of padding.
    pub(crate) fn padded(mut self, len: u8) -> Self {
        self.flags |= PADDED;
        self.payload.insert(0, len);
        self.payload.extend(std::iter::repeat_n(0, len.into()));
        self
    }

    /// The same `HEADERS` with a priority in front (RFC 9113 §6.2); before [`Frame::padded`].
    pub(crate) fn prioritized(mut self, on: u32) -> Self {
        self.flags |= PRIORITIZED;
        self.payload.splice(0..0, [&on.to_be_bytes()[..], &[15]].concat());
        self
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let head = [len[1], len[2], len[3], self.kind, self.flags];
        [&head[..], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// Takes the first frame off `bytes`, if it is all there.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let len = u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]);
        let end = HEAD_LEN + usize::try_from(len).unwrap();
        if bytes.len() < end {
            return None;
        }
        let frame = Self {
            kind: bytes[3],
            flags: bytes[4],
            stream: number(&bytes[5..]) & 0x7fff_ffff,
            payload: bytes[HEAD_LEN..end].to_vec(),
        };
        bytes.drain(..end);
        Some(frame)
    }

    /// The payload without padding and priority.
    pub(crate) fn content(&self) -> &[u8] {
        let mut content = &self.payload[..];
        if matches!(self.kind, DATA | HEADERS | PUSH_PROMISE) && self.has(PADDED) {
            content = &content[1..content.len() - usize::from(content[0])];
        }
        if self.kind == HEADERS && self.has(PRIORITIZED) {
            content = &content[5..];
        }
        content
    }
}

/// The four bytes that `bytes` begins with, as a number.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Length, type, flags, stream.
const HEAD_LEN: usize = 9;
