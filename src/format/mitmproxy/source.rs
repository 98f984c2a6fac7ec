//! The bytes of a flow file: where we are in them, a look ahead, and the way to the next flow after damage.

use std::io::{self, BufRead};

/// Reads on, and knows how many bytes came before. A few bytes can be looked at before they are taken.
pub(super) struct Source {
    inner: Box<dyn BufRead + Send>,
    /// What had to be looked at across the end of what `inner` had at hand, and was not taken: `kept[start..]`. It comes before
    /// the rest; mostly there is none.
    kept: Vec<u8>,
    start: usize,
    position: u64,
}

impl Source {
    pub(super) fn new(inner: Box<dyn BufRead + Send>) -> Self {
        Self { inner, kept: Vec::new(), start: 0, position: 0 }
    }

    /// Bytes that were taken.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes that come next: at least `wanted` (at most [`LOOK_AHEAD`]) unless the file ends before, and as many more as are
    /// at hand.
    pub(super) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.start == self.kept.len() {
            let at_hand = fill(&mut *self.inner)?.len();
            if at_hand >= wanted || at_hand == 0 {
                return fill(&mut *self.inner);
            }
            self.kept.clear();
            self.start = 0;
        }
        while self.kept.len() - self.start < wanted {
            let more = fill(&mut *self.inner)?;
            let len = more.len().min(wanted);
            if len == 0 {
                break;
            }
            self.kept.extend_from_slice(&more[..len]);
            self.inner.consume(len);
        }
        Ok(&self.kept[self.start..])
    }

    /// Takes `len` bytes of what [`Source::peek`] gave.
    pub(super) fn take(&mut self, len: usize) {
        let of_kept = len.min(self.kept.len() - self.start);
        self.start += of_kept;
        self.inner.consume(len - of_kept);
        self.position += len as u64;
    }

    /// The next byte; `None` at the end of the file.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        let next = self.peek(1)?.first().copied();
        if next.is_some() {
            self.take(1);
        }
        Ok(next)
    }

    /// Gives the next `len` bytes to `each`, in pieces. Whether there were as many.
    pub(super) fn pass(
        &mut self,
        len: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut left = len;
        while left > 0 {
            let piece = self.peek(1)?;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            if n == 0 {
                return Ok(false);
            }
            each(&piece[..n])?;
            self.take(n);
            left -= n as u64;
        }
        Ok(true)
    }

    /// Goes on to what looks like the beginning of a flow, at once or behind the end of another value; or to the end of the
    /// file.
    pub(super) fn resync(&mut self) -> io::Result<()> {
        while !looks_like_flow(self.peek(LOOK_AHEAD)?) {
            // A flow follows a flow, so it follows a brace. What looks like one elsewhere is inside of a body.
            loop {
                let bytes = self.peek(1)?;
                let brace = memchr::memchr(b'}', bytes);
                let next = brace.map_or(bytes.len(), |at| at + 1);
                if next == 0 {
                    return Ok(());
                }
                self.take(next);
                if brace.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What is at hand, or comes next; empty at the end.
fn fill(inner: &mut (dyn BufRead + Send)) -> io::Result<&[u8]> {
    // Twice, because a loop may not give back what it borrowed: the second time it is at hand.
    while let Err(error) = inner.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    inner.fill_buf()
}

/// Whether these bytes begin a flow: a length, and a key that a flow has at its top.
pub(super) fn looks_like_flow(bytes: &[u8]) -> bool {
    let Some((len, rest)) = length(bytes) else { return false };
    let Some((key_len, rest)) = length(rest) else { return false };
    let key_len = usize::try_from(key_len).unwrap_or(usize::MAX);
    let Some((key, tag)) = rest.split_at_checked(key_len) else { return false };
    len > 100 && matches!(tag.first(), Some(b';' | b',')) && KEYS.iter().any(|known| known.as_bytes() == key)
}

/// Digits and a colon, and what is behind them.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > MAX_DIGITS || bytes.get(digits) != Some(&b':') {
        return None;
    }
    let value =
        bytes[..digits].iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
    Some((value, &bytes[digits + 1..]))
}

/// Digits of a length; mitmproxy reads no longer one at the top.
pub(super) const MAX_DIGITS: usize = 12;

/// Two lengths, the longest key and a tag fit.
pub(super) const LOOK_AHEAD: usize = 64;

/// What a flow of any version may have at its top, and hence begin with.
const KEYS: &[&str] = &[
    "backup",
    "client_conn",
    "close_code",
    "close_message",
    "close_reason",
    "close_sender",
    "comment",
    "error",
    "id",
    "intercepted",
    "is_replay",
    "marked",
    "messages",
    "metadata",
    "mode",
    "request",
    "response",
    "server_conn",
    "timestamp_created",
    "type",
    "version",
    "websocket",
];

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn source(bytes: &[u8], capacity: usize) -> Source {
        Source::new(Box::new(BufReader::with_capacity(capacity, io::Cursor::new(bytes.to_vec()))))
    }

    #[test]
    fn flows_are_known_by_how_they_begin() {
        for yes in ["1234:9:websocket;0:~", "101:7:version,1:", "999999999999:2:id;"] {
            assert!(looks_like_flow(yes.as_bytes()), "{yes}");
        }
        for no in
            ["", "1234:", "99:2:id;", "1234:4:path;", "1234:2:id#", "1234:3:id;", "x", "1234567890123:2:id;"]
        {
            assert!(!looks_like_flow(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn the_next_flow_is_found_behind_a_brace() {
        let garbage = [b"x1234:2:id;}}".repeat(20_000), b" 1234:2:id;}".to_vec()].concat();
        let file = [&garbage[..], b"1234:2:id;36:"].concat();
        for capacity in [1, 7, 100_000] {
            let mut source = source(&file, capacity);
            source.resync().unwrap();
            assert_eq!(source.position(), garbage.len() as u64);
            source.take(5);
            source.resync().unwrap();
            assert_eq!((source.position(), source.byte().unwrap()), (file.len() as u64, None));
        }
    }

    proptest! {
        #[test]
        fn all_bytes_pass_once(bytes: Vec<u8>, capacity in 1usize..9, first in 0u64..40) {
            let mut source = source(&bytes, capacity);
            let mut seen = Vec::new();
            let mut pass = |source: &mut Source, len| {
                source.pass(len, |piece| { seen.extend_from_slice(piece); Ok(()) }).unwrap()
            };
            let len = bytes.len() as u64;
            prop_assert_eq!(pass(&mut source, first), first <= len);
            prop_assert_eq!(source.position(), first.min(len));
            prop_assert!(!pass(&mut source, 1 + len.saturating_sub(first)));
            prop_assert_eq!(source.position(), len);
            prop_assert_eq!(seen, bytes);
        }
    }
}
