//! The codec on a stream: a reader with one buffer, and a writer that gathers what belongs in one packet.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::body::{BodyError, Decoded, Decoder};
use super::head::{HeadError, HeadLimits, Parsed, find_head_end, parse_request, parse_response};
use super::write::write_fields;
use crate::flow::{Headers, Request, Response};

/// Why a message could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The stream ended inside a head.
    #[error("connection closed in the middle of a head")]
    Eof,
    /// The head was refused. Its bytes are still in [`Reader::buffer`].
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The body was refused or cut.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Reads messages from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buf: BytesMut,
    /// Bytes at the front of `buf` that are known to hold no end of a head.
    scanned: usize,
    eof: bool,
    chunk: usize,
    /// Whether a large buffer was made.
    grown: bool,
    read_len: u64,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader of `prefix` and then of `io`.
    pub fn new(io: R, prefix: BytesMut) -> Self {
        Self { io, buf: prefix, scanned: 0, eof: false, chunk: MIN_READ, grown: false, read_len: 0 }
    }

    /// What was read and not yet taken.
    pub fn buffer(&self) -> &[u8] {
        &self.buf
    }

    /// Whether the peer has ended its direction.
    pub fn at_eof(&self) -> bool {
        self.eof
    }

    /// Bytes read from the stream so far.
    pub fn read_len(&self) -> u64 {
        self.read_len
    }

    /// Passes over `len` bytes that were read, or all of them if they are fewer.
    pub fn skip(&mut self, len: usize) {
        self.buf.advance(len.min(self.buf.len()));
        self.scanned = 0;
    }

    /// Takes everything that was read and not yet taken.
    pub fn take_buffer(&mut self) -> BytesMut {
        self.scanned = 0;
        self.buf.split()
    }

    /// Gives back the stream and what was read from it.
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buf)
    }

    /// Gives back the buffer that a large message needed, if nothing is in it. To be called before a wait that may be
    /// long: thousands of connections may wait.
    pub fn relax(&mut self) {
        if self.grown && self.buf.is_empty() {
            self.buf = BytesMut::new();
            self.chunk = MIN_READ;
            self.grown = false;
        }
    }

    /// Reads once; `0` is the end. Reads grow while they fill what they are given, so that a download costs few calls and
    /// an idle connection little memory.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        if self.buf.capacity() - self.buf.len() < self.chunk / 2 {
            self.buf.reserve(self.chunk);
            self.grown |= self.chunk > KEEP_WHEN_IDLE;
        }
        let room = self.buf.capacity() - self.buf.len();
        let len = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buf))?;
        if len == 0 {
            self.eof = true;
        } else if len == room {
            self.chunk = (self.chunk * 2).min(MAX_READ);
        } else if len < self.chunk / 4 {
            self.chunk = (self.chunk / 2).max(MIN_READ);
        }
        self.read_len += len as u64;
        Poll::Ready(Ok(len))
    }

    /// See [`Reader::poll_fill`]. Cancel-safe.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Waits for the first byte of a message, passing over empty lines before it (RFC 9112 §2.2); `false` is the end of
    /// the stream. Cancel-safe.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn wait_for_message(&mut self) -> io::Result<bool> {
        loop {
            while self.buf.starts_with(b"\r\n") {
                self.buf.advance(2);
                self.scanned = 0;
            }
            if !self.buf.is_empty() && self.buf[..] != *b"\r" {
                return Ok(true);
            }
            self.relax();
            if self.fill().await? == 0 {
                return Ok(!self.buf.is_empty());
            }
        }
    }

    /// Reads a request's head. Cancel-safe.
    ///
    /// # Errors
    /// If the stream fails or ends, or the head is refused; its bytes then stay in the buffer.
    pub async fn request(&mut self, limits: &HeadLimits) -> Result<Request, ReadError> {
        self.head(limits, parse_request, request_line_is_possible).await
    }

    /// Reads a response's head. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Reader::request`].
    pub async fn response(&mut self, limits: &HeadLimits) -> Result<Response, ReadError> {
        self.head(limits, parse_response, |start, limits| match parse_response(start, limits) {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    async fn head<T>(
        &mut self,
        limits: &HeadLimits,
        parse: impl Fn(&[u8], &HeadLimits) -> Result<Parsed<T>, HeadError>,
        check_start: impl Fn(&[u8], &HeadLimits) -> Result<(), HeadError>,
    ) -> Result<T, ReadError> {
        loop {
            if let Some(end) = find_head_end(&self.buf, self.scanned) {
                if let Parsed::Head(head, len) = parse(&self.buf[..end], limits)? {
                    self.buf.advance(len);
                    self.scanned = 0;
                    return Ok(head);
                }
                // The end that was found is not one to the parser; no more bytes would change that.
                return Err(HeadError::FieldName.into());
            }
            // What cannot become a head any more is refused at once, not after a time-out.
            if self.scanned < FIRST_LOOK && !self.buf.is_empty() {
                check_start(&self.buf[..self.buf.len().min(FIRST_LOOK)], limits)?;
            }
            if self.buf.len() > limits.max_bytes {
                return Err(HeadError::TooLong { limit: limits.max_bytes }.into());
            }
            self.scanned = self.buf.len();
            if self.fill().await.map_err(ReadError::Io)? == 0 {
                return Err(ReadError::Eof);
            }
        }
    }

    /// The next part of a body. Never [`Decoded::More`].
    ///
    /// # Errors
    /// If the stream fails, or the body is cut or badly framed.
    pub fn poll_body(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Decoded, ReadError>> {
        loop {
            match decoder.decode(&mut self.buf, self.eof)? {
                Decoded::More => {
                    self.scanned = 0;
                    ready!(self.poll_fill(cx)).map_err(ReadError::Io)?;
                }
                decoded => {
                    self.scanned = 0;
                    return Poll::Ready(Ok(decoded));
                }
            }
        }
    }
}

/// Refuses the start of a request that can never become one.
fn request_line_is_possible(start: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    parse_request(start, limits).map(|_| ())
}

/// Writes messages to a stream. What is queued is sent by [`Writer::flush`], so that a head and the body that is already
/// there leave in one packet.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    out: BytesMut,
    /// Large pieces of payload that follow `out`, with what stands between them: sent from where they lie.
    tail: Vec<Bytes>,
    tail_len: usize,
    written: u64,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// A writer to `io`.
    pub fn new(io: W) -> Self {
        Self { io, out: BytesMut::new(), tail: Vec::new(), tail_len: 0, written: 0 }
    }

    /// The bytes to be sent next, for heads to be written to.
    pub fn out(&mut self) -> &mut BytesMut {
        self.settle();
        &mut self.out
    }

    /// How many bytes wait to be sent.
    pub fn queued(&self) -> usize {
        self.out.len() + self.tail_len
    }

    /// Bytes given to the stream so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Queues payload: as a chunk where `chunked`, else as it is.
    pub fn queue_data(&mut self, data: &Bytes, chunked: bool) {
        if chunked {
            self.queue_line(format_args!("{:x}\r\n", data.len()));
        }
        if data.len() >= KEEP_APART || !self.tail.is_empty() {
            self.queue_apart(data.clone());
        } else {
            self.out.put_slice(data);
        }
        if chunked {
            self.queue_line(format_args!("\r\n"));
        }
    }

    /// Queues a few bytes of framing, behind whatever is queued.
    fn queue_line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.tail.is_empty() {
            // Writing to memory cannot fail.
            let _ = (&mut self.out).writer().write_fmt(line);
        } else {
            self.queue_apart(Bytes::from(line.to_string()));
        }
    }

    fn queue_apart(&mut self, bytes: Bytes) {
        self.tail_len += bytes.len();
        self.tail.push(bytes);
    }

    /// Queues the end of a chunked body: last chunk and trailers.
    pub fn queue_last_chunk(&mut self, trailers: Option<&Headers>) {
        self.settle();
        self.out.put_slice(b"0\r\n");
        match trailers {
            Some(trailers) => write_fields(&mut self.out, trailers),
            None => self.out.put_slice(b"\r\n"),
        }
    }

    /// Sends all that is queued. Not cancel-safe: what was sent of a message cannot be taken back.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.queued() > 0 {
            self.written += self.queued() as u64;
            if self.tail.is_empty() {
                self.io.write_all(&self.out).await?;
            } else {
                self.write_all_parts().await?;
                self.tail.clear();
                self.tail_len = 0;
            }
            self.out.clear();
            if self.out.capacity() > 2 * KEEP_APART {
                self.out = BytesMut::new();
            }
            self.io.flush().await?;
        }
        Ok(())
    }

    async fn write_all_parts(&mut self) -> io::Result<()> {
        let Self { io, out, tail, .. } = self;
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(tail.len() + 1);
        slices.push(IoSlice::new(out));
        slices.extend(tail.iter().map(|part| IoSlice::new(part)));
        let mut rest = &mut slices[..];
        // Empty slices in front would make a write of nothing look like a closed stream.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let len = poll_fn(|cx| Pin::new(&mut *io).poll_write_vectored(cx, rest)).await?;
            if len == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, len);
        }
        Ok(())
    }

    /// Ends our direction: TLS close_notify, then FIN.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.io.shutdown().await
    }

    /// Gives back the stream. What is queued is dropped.
    pub fn into_inner(self) -> W {
        self.io
    }

    fn settle(&mut self) {
        for part in self.tail.drain(..) {
            self.out.put_slice(&part);
        }
        self.tail_len = 0;
    }
}

/// Smallest read: a head fits, and thousands of idle connections cost little.
const MIN_READ: usize = 4 * 1024;
/// Largest buffer that an idle connection keeps.
const KEEP_WHEN_IDLE: usize = 4 * MIN_READ;
/// Largest read: four TLS records.
const MAX_READ: usize = 64 * 1024;
/// From here on payload is sent from where it lies; below, it is copied behind what is queued.
const KEEP_APART: usize = 8 * 1024;
/// How much of a head is looked at before it is whole.
const FIRST_LOOK: usize = 8 * 1024;
