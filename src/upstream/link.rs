//! The stream to an origin before anything is spoken on it: its socket, or what an upstream proxy has made of one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{BoxIo, Io, ReadAhead};

/// See the module. A socket of its own is not behind a pointer: nearly all are.
#[derive(Debug)]
pub enum Link {
    /// A TCP connection: to the origin, or to a proxy in clear that has said all it had to say.
    Tcp(TcpStream),
    /// Through a proxy in TLS, or with bytes that came right behind the proxy's answer.
    Proxied(Box<ReadAhead<BoxIo>>),
}

impl Link {
    /// A stream on which `read` came already.
    pub(super) fn after(self, read: BytesMut) -> Self {
        match self {
            link if read.is_empty() => link,
            Link::Tcp(tcp) => Link::Proxied(Box::new(ReadAhead::after(read, Box::new(tcp)))),
            // Nothing is kept in there: what it had was given before it read anew.
            Link::Proxied(inner) => Link::Proxied(Box::new(ReadAhead::after(read, inner))),
        }
    }

    /// Waits until the other side says something, or closes. What it says stays to be read. An error shows again to
    /// whoever reads.
    ///
    /// Dropping this future loses nothing.
    pub async fn speaks(&mut self) {
        match self {
            Link::Tcp(tcp) => drop(tcp.peek(&mut [0]).await),
            Link::Proxied(inner) => drop(inner.fill().await),
        }
    }
}

impl Io for Link {
    fn reset_on_drop(&mut self) {
        match self {
            Link::Tcp(tcp) => tcp.reset_on_drop(),
            Link::Proxied(inner) => inner.reset_on_drop(),
        }
    }
}

impl Io for Box<ReadAhead<BoxIo>> {
    fn reset_on_drop(&mut self) {
        self.as_mut().reset_on_drop();
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Link::Proxied(inner) => Pin::new(inner).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Link::Proxied(inner) => Pin::new(inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Link::Proxied(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Link::Tcp(tcp) => tcp.is_write_vectored(),
            Link::Proxied(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Link::Proxied(inner) => Pin::new(inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Link::Proxied(inner) => Pin::new(inner).poll_shutdown(cx),
        }
    }
}
