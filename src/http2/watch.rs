//! A look at the frames that the `h2` crate sends to a client: some requests it refuses by itself, with RST_STREAM or 431,
//! and tells nobody. They are flows too.
//!
//! Frame headers alone are read (RFC 9113 §4.1); nothing is changed or held back.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was sent on a stream whose request was never handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The stream.
    pub stream: u32,
    /// The code of its RST_STREAM; `None` for a response: 431, the only one that the crate gives.
    pub code: Option<u32>,
}

/// The verdicts on one connection. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The highest stream that was handed over.
    highest: u32,
    /// Streams below it that were not. Clients number without gaps, so nearly always empty.
    gaps: VecDeque<u32>,
    /// Streams that a verdict was given on, so that a second frame gives no second one.
    told: VecDeque<u32>,
    verdicts: Vec<Verdict>,
}

impl Verdicts {
    /// Notes that the request on `stream` was handed over.
    pub fn accepted(&self, stream: u32) {
        let mut inner = self.lock();
        // It was refused while it waited to be handed over: its own flow will tell.
        inner.verdicts.retain(|verdict| verdict.stream != stream);
        if stream > inner.highest {
            let first = inner.highest.saturating_add(if inner.highest == 0 { 1 } else { 2 });
            let first = first.max(stream.saturating_sub(2 * REMEMBERED));
            for skipped in (first | 1..stream).step_by(2) {
                remember(&mut inner.gaps, skipped);
            }
            inner.highest = stream;
        } else {
            inner.gaps.retain(|&gap| gap != stream);
        }
    }

    /// The verdicts since the last call. To be asked for only when no request waits to be handed over: one that was
    /// refused meanwhile is still handed over.
    #[must_use]
    pub fn take(&self) -> Vec<Verdict> {
        std::mem::take(&mut self.lock().verdicts)
    }

    /// Whether there are some.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.lock().verdicts.is_empty()
    }

    fn sent(&self, stream: u32, code: Option<u32>) {
        let mut inner = self.lock();
        let unknown = stream > inner.highest || inner.gaps.contains(&stream);
        if stream % 2 == 1 && unknown && !inner.told.contains(&stream) {
            remember(&mut inner.told, stream);
            inner.verdicts.push(Verdict { stream, code });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(list: &mut VecDeque<u32>, stream: u32) {
    if list.len() >= REMEMBERED as usize {
        list.pop_front();
    }
    list.push_back(stream);
}

/// A stream under HTTP/2 whose outgoing frames are looked at.
#[derive(Debug)]
pub struct Watch<T> {
    io: T,
    scan: Scan,
    verdicts: Verdicts,
}

impl<T> Watch<T> {
    /// Looks at what is written to `io`, from its first byte on.
    pub fn new(io: T, verdicts: Verdicts) -> Self {
        Self { io, scan: Scan::default(), verdicts }
    }
}

/// Where in the frames the bytes stand.
#[derive(Debug, Default)]
struct Scan {
    /// The frame's header, and of RST_STREAM its payload behind it.
    seen: [u8; RST_LEN],
    seen_len: usize,
    /// Payload to pass over.
    skip: usize,
}

impl Scan {
    fn look(&mut self, mut bytes: &[u8], verdicts: &Verdicts) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return;
            }
            let wanted = if self.seen_len >= HEADER && self.is_rst() { RST_LEN } else { HEADER };
            let taken = (wanted - self.seen_len).min(bytes.len());
            self.seen[self.seen_len..self.seen_len + taken].copy_from_slice(&bytes[..taken]);
            self.seen_len += taken;
            bytes = &bytes[taken..];
            if self.seen_len < HEADER || self.is_rst() && self.seen_len < RST_LEN {
                continue;
            }
            let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| self.seen[at + i]));
            match self.seen[3] {
                RST_STREAM => verdicts.sent(number(5), Some(number(HEADER))),
                HEADERS => verdicts.sent(number(5), None),
                _ => {}
            }
            // An RST_STREAM has been read whole.
            self.skip = if self.is_rst() { 0 } else { (number(0) >> 8) as usize };
            self.seen_len = 0;
        }
    }

    fn is_rst(&self) -> bool {
        self.seen[3] == RST_STREAM
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watch<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watch<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let len = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.scan.look(&buf[..len], &this.verdicts);
        Poll::Ready(Ok(len))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let len = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = len;
        for buf in bufs {
            let part = left.min(buf.len());
            this.scan.look(&buf[..part], &this.verdicts);
            left -= part;
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Length of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
/// And of a whole RST_STREAM (§6.4).
const RST_LEN: usize = HEADER + 4;
/// Frame types (§6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
/// Streams that are remembered of each kind: more than a client may have at once.
const REMEMBERED: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    fn verdicts(accepted: &[u32], bytes: &[u8], cut: usize) -> Vec<Verdict> {
        let verdicts = Verdicts::default();
        for &stream in accepted {
            verdicts.accepted(stream);
        }
        let mut scan = Scan::default();
        for part in bytes.chunks(cut) {
            scan.look(part, &verdicts);
        }
        verdicts.take()
    }

    #[test]
    fn only_streams_that_were_not_handed_over_are_told_once_however_the_bytes_are_cut() {
        let bytes = [
            frame(4, 0, &[0; 12]),
            frame(RST_STREAM, 1, &[0, 0, 0, 8]), // handed over: its flow tells
            frame(0, 1, &[RST_STREAM; 40]),
            frame(RST_STREAM, 3, &[0, 0, 0, 1]),
            frame(RST_STREAM, 3, &[0, 0, 0, 5]),
            frame(HEADERS, 9, &[0; 20]),
            frame(RST_STREAM, 9, &[0, 0, 0, 0]),
            frame(RST_STREAM, 4, &[0, 0, 0, 1]), // not a client's
        ]
        .concat();
        let wanted = [Verdict { stream: 3, code: Some(1) }, Verdict { stream: 9, code: None }];
        for cut in 1..=bytes.len() {
            assert_eq!(verdicts(&[1, 5, 7], &bytes, cut), wanted, "cut at {cut}");
        }
    }

    #[test]
    fn a_leap_in_the_numbers_costs_bounded_memory() {
        let verdicts = Verdicts::default();
        verdicts.accepted(1);
        verdicts.accepted(0x7fff_ffff);
        assert!(verdicts.lock().gaps.len() <= REMEMBERED as usize);
        verdicts.accepted(0x7fff_fffd);
        assert!(!verdicts.lock().gaps.contains(&0x7fff_fffd));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            cut in 1usize..50,
        ) {
            let _ = verdicts(&[1, 9], &bytes, cut); // only that it does not panic
        }
    }
}
