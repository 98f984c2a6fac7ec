//! A client's stream whose first flight (the ClientHello) goes out in other pieces than rustls cut it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::Io;

/// See the module.
pub(crate) struct Cut {
    io: Box<dyn Io>,
    /// Bytes of handshake in a record of the first flight.
    record: usize,
    /// Bytes in a write of it.
    write: usize,
    queue: Vec<u8>,
    begun: bool,
}

impl Cut {
    pub(crate) fn new(io: Box<dyn Io>, record: usize, write: usize) -> Self {
        Self { io, record, write, queue: Vec::new(), begun: false }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let len = self.queue.len().min(self.write);
            let len = ready!(Pin::new(&mut self.io).poll_write(cx, &self.queue[..len]))?;
            self.queue.drain(..len);
        }
        Poll::Ready(Ok(()))
    }
}

/// The same handshake bytes in records of `size`.
pub(crate) fn recut(hello: &[u8], size: usize) -> Vec<u8> {
    let message = &hello[5..];
    let cut = |piece: &[u8]| {
        let len = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[0x16, 3, 1, len[0], len[1]], piece].concat()
    };
    message.chunks(size).flat_map(cut).collect()
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.queue = recut(buf, self.record);
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
