//! One write for all that a connection has to say.
//!
//! The `h2` crate hands its stream each DATA frame of 256 bytes or more by itself, and flushes behind it: a TLS record and a
//! system call a response, however many are ready. Here they are gathered until whoever drives the connection has done
//! all that there was to do and flushes, or until there are too many.
//!
//! Invariant: whoever polls the connection calls [`Cork::poll_flush`] before it returns, so that nothing stays behind, and
//! what comes from then on is seen.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream under HTTP/2 that keeps what is written until its [`Cork`] is flushed.
#[derive(Debug)]
pub struct Corked<S>(Arc<Mutex<Inner<S>>>);

/// The other handle on a [`Corked`] stream: that of the driver of the connection.
#[derive(Debug)]
pub struct Cork<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    io: S,
    /// What was taken and not yet written begins at `at`. `at <= buf.len()`.
    buf: Vec<u8>,
    at: usize,
    /// Whether something was written to `io` since it was flushed.
    unflushed: bool,
    /// Before the handshake is over, nobody would flush: everything passes at once.
    corked: bool,
    /// What became of a flush, for the connection to find.
    error: Option<io::Error>,
    /// Whether `io` had nothing to read since the last flush, and knows whom to wake: it need not be asked for each of
    /// many requests.
    is_dry: bool,
}

impl<S> Corked<S> {
    /// A stream that writes to `io`; at once until [`Cork::cork`] is called.
    pub fn new(io: S) -> (Self, Cork<S>) {
        let inner =
            Inner { io, buf: Vec::new(), at: 0, unflushed: false, corked: false, error: None, is_dry: false };
        let inner = Arc::new(Mutex::new(inner));
        (Self(Arc::clone(&inner)), Cork(inner))
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// From now on, what is written waits for [`Cork::poll_flush`].
    pub fn cork(&self) {
        lock(&self.0).corked = true;
    }

    /// Writes what has gathered; ready when all of it is on its way. An error is given to the connection, which is woken
    /// for it.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.0);
        inner.is_dry = false;
        if inner.buf.is_empty() && !inner.unflushed {
            return Poll::Ready(());
        }
        if let Err(error) = ready!(inner.poll_flush(cx)) {
            inner.drop_buffer();
            inner.unflushed = false;
            inner.error = Some(error);
            cx.waker().wake_by_ref();
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// Writes what has gathered to the stream below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.buf.len() {
            let len = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buf[self.at..]))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.at += len;
        }
        self.drop_buffer();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn drop_buffer(&mut self) {
        self.at = 0;
        if self.buf.capacity() <= KEPT {
            self.buf.clear();
        } else {
            // A new one, since one that shrinks is copied, whether something is in it or not.
            self.buf = Vec::with_capacity(KEPT);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        if !self.corked || self.buf.len() >= LIMIT {
            ready!(self.poll_drain(cx))?;
        }
        if !self.corked {
            self.unflushed = true;
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        let before = self.buf.len();
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if before + wanted > self.buf.capacity().max(KEPT) {
            // Where it is more than usual, it is likely to become much: copied once at most.
            self.buf.reserve_exact(LIMIT.saturating_sub(before));
        }
        for buf in bufs {
            let room = LIMIT.saturating_sub(self.buf.len());
            self.buf.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        Poll::Ready(Ok(self.buf.len() - before))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if let Some(error) = inner.error.take() {
            return Poll::Ready(Err(error));
        }
        if inner.is_dry {
            return Poll::Pending;
        }
        let read = Pin::new(&mut inner.io).poll_read(cx, buf);
        inner.is_dry = inner.corked && read.is_pending();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        match inner.error.take() {
            Some(error) => Poll::Ready(Err(error)),
            None if inner.corked => Poll::Ready(Ok(())),
            None => inner.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is gathered at most, in bytes: four TLS records, as many as rustls takes at a time.
const LIMIT: usize = 64 << 10;

/// What an idle connection keeps of that.
const KEPT: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes as many bytes as it has room for.
    #[derive(Debug, Default)]
    struct Sink {
        room: usize,
        writes: Vec<usize>,
        bytes: Vec<u8>,
        flushed: usize,
        broken: bool,
        reads: usize,
    }

    impl AsyncRead for Sink {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.reads += 1;
            Poll::Pending
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = buf.len().min(self.room);
            if len == 0 {
                return Poll::Pending;
            }
            self.room -= len;
            self.writes.push(len);
            self.bytes.extend_from_slice(&buf[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.bytes.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(stream: &mut Corked<Sink>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(stream).poll_write_vectored(&mut cx, &[IoSlice::new(bytes), IoSlice::new(b"")])
    }

    #[test]
    fn many_writes_leave_as_one_and_in_order() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut stream, cork) = Corked::new(Sink { room: usize::MAX, ..Sink::default() });
        assert!(matches!(write(&mut stream, b"preface "), Poll::Ready(Ok(8))));
        assert_eq!(lock(&cork.0).io.bytes, b"preface ", "before it is corked, it leaves at once");
        cork.cork();
        for part in [&b"a"[..], b"bc", b"def"] {
            assert!(matches!(write(&mut stream, part), Poll::Ready(Ok(n)) if n == part.len()));
            assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        }
        assert_eq!(lock(&cork.0).io.writes, [8]);
        assert!(cork.poll_flush(&mut cx).is_ready());
        let inner = lock(&cork.0);
        assert_eq!((&inner.io.writes[..], &inner.io.bytes[..]), (&[8, 6][..], &b"preface abcdef"[..]));
        assert_eq!(inner.io.flushed, 14);
    }

    #[test]
    fn a_peer_that_does_not_read_holds_the_writer_up() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut stream, cork) = Corked::new(Sink { room: 10, ..Sink::default() });
        cork.cork();
        let mut taken = 0;
        while let Poll::Ready(written) = write(&mut stream, &[7; 1000]) {
            taken += written.unwrap();
            assert!(taken <= LIMIT + 10, "it takes without bound");
        }
        assert!(taken >= LIMIT);
        assert!(cork.poll_flush(&mut cx).is_pending());
        lock(&cork.0).io.room = usize::MAX;
        assert!(cork.poll_flush(&mut cx).is_ready());
        assert_eq!(lock(&cork.0).io.bytes, vec![7; taken]);
        assert!(lock(&cork.0).buf.capacity() <= KEPT);
    }

    #[test]
    fn what_has_nothing_to_read_is_asked_once_between_two_flushes() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut stream, cork) = Corked::new(Sink::default());
        let mut reads = |wanted, why| {
            for _ in 0..2 {
                let mut buf = [0; 8];
                assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut buf)).is_pending());
            }
            assert_eq!(lock(&cork.0).io.reads, wanted, "{why}");
        };
        reads(2, "before it is corked, nobody says when to ask again");
        cork.cork();
        reads(3, "once");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(cork.poll_flush(&mut cx).is_ready(), "with nothing to write");
        reads(4, "once more");
    }

    #[test]
    fn the_connection_learns_that_a_flush_failed() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut stream, cork) = Corked::new(Sink { broken: true, ..Sink::default() });
        cork.cork();
        assert!(matches!(write(&mut stream, b"abc"), Poll::Ready(Ok(3))));
        assert!(cork.poll_flush(&mut cx).is_ready());
        let told = Pin::new(&mut stream).poll_flush(&mut cx);
        assert!(matches!(told, Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe));
        assert!(cork.poll_flush(&mut cx).is_ready(), "it is told once");
    }
}
