//! The streams that connections are made of.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// A stream of any kind: TCP, TLS on it, either with bytes put back in front.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {
    /// Makes the stream's socket send RST when it is dropped, so that the peer cannot take the end for a clean one.
    fn reset_on_drop(&mut self);
}

/// See [`Io`].
pub type BoxIo = Box<dyn Io>;

impl Io for TcpStream {
    fn reset_on_drop(&mut self) {
        // A socket that is already gone needs no reset.
        let _ = self.set_zero_linger();
    }
}

impl<S: Io> Io for tokio_rustls::client::TlsStream<S> {
    fn reset_on_drop(&mut self) {
        self.get_mut().0.reset_on_drop();
    }
}

impl<S: Io> Io for tokio_rustls::server::TlsStream<S> {
    fn reset_on_drop(&mut self) {
        self.get_mut().0.reset_on_drop();
    }
}

impl Io for BoxIo {
    fn reset_on_drop(&mut self) {
        self.as_mut().reset_on_drop();
    }
}

/// A socket under TLS that is read ahead while much comes.
///
/// rustls reads 4 KiB at a time: four calls a record. Here a read that fills what it was given is followed by one of
/// 64 KiB; small messages pass as they are, and an idle connection keeps no buffer.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    buf: BytesMut,
    /// Whether the last read found more than it could take.
    more: bool,
}

impl<S> ReadAhead<S> {
    /// A stream that reads from `inner`.
    pub fn new(inner: S) -> Self {
        Self::after(BytesMut::new(), inner)
    }

    /// A stream that reads `prefix`, which was read from `inner` before, and then from `inner`.
    pub fn after(prefix: BytesMut, inner: S) -> Self {
        Self { inner, buf: prefix, more: false }
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Waits for something to be read, and keeps it for whoever reads. `false` is the end.
    ///
    /// Dropping this future loses nothing.
    ///
    /// # Errors
    /// If the stream breaks.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.buf.is_empty() {
            self.buf.reserve(AHEAD / 16);
            poll_fn(|cx| poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buf)).await?;
        }
        Ok(!self.buf.is_empty())
    }
}

/// Four TLS records.
const AHEAD: usize = 64 * 1024;

impl<S: Io> Io for ReadAhead<S> {
    fn reset_on_drop(&mut self) {
        self.inner.reset_on_drop();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buf.is_empty() && this.more {
            this.buf.reserve(AHEAD);
            match poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.buf) {
                Poll::Ready(Ok(len)) => this.more = len >= AHEAD / 4,
                other => {
                    this.buf = BytesMut::new();
                    this.more = false;
                    return other.map_ok(|_| ());
                }
            }
        }
        if this.buf.is_empty() {
            let room = buf.remaining();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            this.more = room > 0 && buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        let len = this.buf.len().min(buf.remaining());
        buf.put_slice(&this.buf[..len]);
        this.buf.advance(len);
        if this.buf.is_empty() && !this.more {
            this.buf = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
