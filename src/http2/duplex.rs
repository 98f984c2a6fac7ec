//! A stream as plain bytes, for what is tunnelled in it: the payload of an extended `CONNECT` (RFC 8441 §5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{BodyReader, BodyWriter, Part, Refused};

/// Both directions of a stream. A shutdown sends END_STREAM; a reset by the peer is an error of kind
/// [`io::ErrorKind::ConnectionReset`].
#[derive(Debug)]
pub struct Duplex {
    reader: BodyReader,
    writer: BodyWriter,
    /// What was read and not yet taken.
    rest: Bytes,
    peer: &'static str,
}

impl Duplex {
    /// A stream whose heads have passed. `peer` is who is on the other end, as errors call it.
    #[must_use]
    pub fn new(reader: BodyReader, writer: BodyWriter, peer: &'static str) -> Self {
        Self { reader, writer, rest: Bytes::new(), peer }
    }

    /// Ends the stream with RST_STREAM.
    pub fn reset(&mut self, code: u32) {
        self.writer.reset(code);
    }

    fn broken(&self, refused: &Refused) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, refused.explain(self.peer))
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            if self.reader.is_done() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.reader.poll_part(cx)) {
                Ok(Part::Data(data)) => self.rest = data,
                Ok(Part::End(_)) => return Poll::Ready(Ok(())),
                Err(error) => {
                    let text = super::explain(&error, self.peer);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, text)));
                }
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // What waits goes first, so that nothing piles up.
        if let Err(refused) = ready!(self.writer.poll_flush(cx)) {
            return Poll::Ready(Err(self.broken(&refused)));
        }
        let len = buf.len().min(MAX_WRITE);
        self.writer.queue_data(Bytes::copy_from_slice(&buf[..len]));
        match self.writer.poll_flush(cx) {
            Poll::Ready(Err(refused)) => Poll::Ready(Err(self.broken(&refused))),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(len)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.writer.poll_flush(cx));
        Poll::Ready(flushed.map_err(|refused| self.broken(&refused)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.writer.is_ended() {
            self.writer.queue_end(None);
        }
        self.poll_flush(cx)
    }
}

/// Bytes taken at a time: four frames.
const MAX_WRITE: usize = 64 * 1024;
