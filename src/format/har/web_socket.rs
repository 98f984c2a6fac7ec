//! Messages of WebSockets while they wait: a record of fixed size for each, their data being in the spool.

use std::io::Read;

use crate::flow::{BodyEnd, MessageCoding};
use crate::format::json::JsonError;

use super::restore;
use super::spool::Run;
use super::typed::Typed;

/// A message as an archive has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) kind: MessageKind,
    /// As in the archive; [`NO_OPCODE`] where it says nothing that is one.
    pub(super) opcode: u8,
    /// 0 where it is not known.
    pub(super) unix_ns: i64,
    pub(super) data: Run,
    /// The payload in base64, where `data` is not it.
    pub(super) exact: Option<Run>,
    /// What our own archives say besides.
    pub(super) ours: Option<Ours>,
}

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum MessageKind {
    FromClient,
    #[default]
    FromServer,
    /// It is none, but tells that the WebSocket failed.
    Error,
}

/// See [`crate::flow::Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ours {
    pub(super) len: u64,
    pub(super) wire_len: u64,
    pub(super) fragments: u32,
    pub(super) coding: MessageCoding,
    pub(super) end: BodyEnd,
    pub(super) injected: bool,
    pub(super) dropped: bool,
    pub(super) recorded: bool,
}

/// How long a record is.
pub(super) const RECORD_LEN: usize = 69;

/// What [`Record::opcode`] is where there is none.
pub(super) const NO_OPCODE: u8 = 0xff;

/// Chrome's words; `outgoing` and `incoming` are others'.
pub(super) fn kind(word: &str) -> MessageKind {
    match word {
        "send" | "outgoing" | "request" => MessageKind::FromClient,
        "error" => MessageKind::Error,
        _ => MessageKind::FromServer,
    }
}

/// Seconds since 1970 as decimal text in nanoseconds, exactly where they are written without an exponent; 0 if they are none.
pub(super) fn unix_ns(seconds: &str) -> i64 {
    let exact = || {
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        if digits.is_empty() || !is_digits(digits) || !is_digits(fraction) {
            return None;
        }
        let nanos: i64 = format!("{:0<9.9}", fraction).parse().ok()?;
        let ns = digits.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)?;
        Some(if digits.len() == whole.len() { ns } else { -ns })
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float that is too large becomes the largest integer"
    )]
    exact().or_else(|| seconds.parse::<f64>().ok().map(|s| (s * 1e9) as i64)).unwrap_or(0)
}

impl Ours {
    /// What our own archives say of a message.
    ///
    /// # Errors
    /// If it is no JSON, or cannot be read.
    pub(super) fn read<R: Read>(typed: &mut Typed<'_, R>) -> Result<Self, JsonError> {
        const CODINGS: [MessageCoding; 3] =
            [MessageCoding::Plain, MessageCoding::Deflate, MessageCoding::Unknown];
        let mut ours = Self { fragments: 1, end: BodyEnd::Whole, recorded: true, ..Self::default() };
        typed.object(|typed, name| {
            match name {
                "len" => ours.len = typed.count()?,
                "wire_len" => ours.wire_len = typed.count()?,
                "fragments" => ours.fragments = typed.int()?.unwrap_or(1),
                "coding" => ours.coding = typed.word(&CODINGS, MessageCoding::as_str)?.unwrap_or_default(),
                "end" => ours.end = restore::body_end(typed)?,
                "injected" => ours.injected = typed.flag()?.unwrap_or(false),
                "dropped" => ours.dropped = typed.flag()?.unwrap_or(false),
                "recorded" => ours.recorded = typed.flag()?.unwrap_or(true),
                _ => typed.skip()?,
            }
            Ok(())
        })?;
        Ok(ours)
    }
}

impl Record {
    /// All of it.
    pub(super) fn to_bytes(self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let kind = match self.kind {
            MessageKind::FromServer => 0,
            MessageKind::FromClient => 1,
            MessageKind::Error => 2,
        };
        bytes[0] = kind;
        bytes[1] = self.opcode;
        let exact = self.exact.map_or([u64::MAX, 0], |run| [run.at, run.len]);
        let ours = self.ours.unwrap_or_default();
        let numbers = [
            self.unix_ns.cast_unsigned(),
            self.data.at,
            self.data.len,
            exact[0],
            exact[1],
            ours.len,
            ours.wire_len,
            u64::from(ours.fragments),
        ];
        for (at, number) in numbers.iter().enumerate() {
            bytes[2 + at * 8..10 + at * 8].copy_from_slice(&number.to_le_bytes());
        }
        let coding = match ours.coding {
            MessageCoding::Plain => 0,
            MessageCoding::Deflate => 1,
            MessageCoding::Unknown => 2,
        };
        let end = BodyEnd::ALL.iter().position(|end| *end == ours.end).and_then(|at| u8::try_from(at).ok());
        let flags = u8::from(ours.injected)
            | u8::from(ours.recorded) << 1
            | u8::from(self.ours.is_some()) << 2
            | u8::from(ours.dropped) << 3;
        bytes[66..69].copy_from_slice(&[coding, end.unwrap_or(0), flags]);
        bytes
    }

    /// The same the other way.
    pub(super) fn from_bytes(bytes: &[u8; RECORD_LEN]) -> Self {
        let number = |at: usize| {
            bytes[2 + at * 8..10 + at * 8]
                .iter()
                .rev()
                .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let kind = match bytes[0] {
            0 => MessageKind::FromServer,
            1 => MessageKind::FromClient,
            _ => MessageKind::Error,
        };
        let coding = match bytes[66] {
            0 => MessageCoding::Plain,
            1 => MessageCoding::Deflate,
            _ => MessageCoding::Unknown,
        };
        let ours = Ours {
            len: number(5),
            wire_len: number(6),
            fragments: u32::try_from(number(7)).unwrap_or(u32::MAX),
            coding,
            end: BodyEnd::ALL.get(usize::from(bytes[67])).copied().unwrap_or_default(),
            injected: bytes[68] & 1 != 0,
            dropped: bytes[68] & 8 != 0,
            recorded: bytes[68] & 2 != 0,
        };
        Self {
            kind,
            opcode: bytes[1],
            unix_ns: number(0).cast_signed(),
            data: Run { at: number(1), len: number(2) },
            exact: (number(3) != u64::MAX).then(|| Run { at: number(3), len: number(4) }),
            ours: (bytes[68] & 4 != 0).then_some(ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let ours = Ours {
            len: 1,
            wire_len: 2,
            fragments: 3,
            coding: MessageCoding::Deflate,
            end: BodyEnd::Capped,
            ..Ours::default()
        };
        let record = Record {
            kind: MessageKind::FromClient,
            opcode: 8,
            unix_ns: -5,
            data: Run { at: 1 << 40, len: 7 },
            exact: Some(Run { at: 3, len: 0 }),
            ours: Some(Ours { injected: true, dropped: true, recorded: true, ..ours }),
        };
        assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        assert_eq!(Record::from_bytes(&Record::default().to_bytes()), Record::default());
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(unix_ns("1700000000.123456789"), 1_700_000_000_123_456_789);
        assert_eq!(unix_ns("1700000000"), 1_700_000_000_000_000_000);
        assert_eq!(unix_ns("-1.5"), -1_500_000_000);
        assert_eq!(unix_ns("1.7e9"), 1_700_000_000_000_000_000);
        assert_eq!(unix_ns("1.1234567899"), 1_123_456_789);
        for none in ["", "x", ".", "-"] {
            assert_eq!(unix_ns(none), 0, "{none}");
        }
        assert_eq!(unix_ns("99999999999999"), i64::MAX);
    }
}
