//! The two ends of a body: what comes on a stream, and what goes.
//!
//! Flow control is end to end: credit goes back to the sender only when what it paid for was taken, and nothing is sent
//! for which the receiver has given none.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::head::{fields, header_map};
use crate::flow::Headers;

/// What came of a body.
#[derive(Debug)]
pub enum Part {
    /// Payload of one DATA frame; may be empty.
    Data(Bytes),
    /// END_STREAM, and the trailers that came with it.
    End(Option<Headers>),
}

/// Reads a body.
#[derive(Debug)]
pub struct BodyReader {
    stream: RecvStream,
    /// Bytes that were given out and not yet credited.
    owed: usize,
    len: u64,
    frames: u64,
    data_over: bool,
    done: bool,
}

impl BodyReader {
    /// The body of a message that came.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, owed: 0, len: 0, frames: 0, data_over: false, done: false }
    }

    /// Whether END_STREAM came with the head, so that there is no body.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.len == 0 && self.stream.is_end_stream()
    }

    /// The next part. Asking for it says that the one before was taken: its credit goes back.
    ///
    /// # Errors
    /// If the stream or the connection broke.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, h2::Error>> {
        self.settle();
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.len += data.len() as u64;
                    self.frames += 1;
                    return Poll::Ready(Ok(Part::Data(data)));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        self.done = true;
        Poll::Ready(Ok(Part::End(trailers.map(|map| fields(&map)))))
    }

    /// Gives back the credit for what was taken.
    pub fn settle(&mut self) {
        if self.owed > 0 {
            // Fails only for more than came.
            let _ = self.stream.flow_control().release_capacity(self.owed);
            self.owed = 0;
        }
    }

    /// Whether its end came.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether payload, or the end, was given out.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.len > 0 || self.done
    }

    /// Bytes of DATA frames so far, with their headers; padding is not told by the crate.
    #[must_use]
    pub fn wire_len(&self) -> u64 {
        self.len + 9 * self.frames
    }
}

/// Why a body goes no further: the peer, or the connection to it, is no longer there for it.
#[derive(Debug)]
pub struct Refused {
    /// The code of the peer's RST_STREAM, if that was it.
    pub code: Option<u32>,
    /// What the crate says of it, where it says more than that the stream is closed.
    pub error: Option<h2::Error>,
}

/// Writes a body.
#[derive(Debug)]
pub struct BodyWriter {
    stream: SendStream<Bytes>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// What comes after the queue.
    end: Option<Option<Headers>>,
    ended: bool,
}

impl BodyWriter {
    /// The body of a message whose head was sent; `ended` if END_STREAM went with it.
    #[must_use]
    pub fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { stream, queue: VecDeque::new(), queued: 0, end: None, ended }
    }

    /// The same with payload that has waited for it, in pieces.
    #[must_use]
    pub fn with_queue(self, queue: VecDeque<Bytes>) -> Self {
        let queued = queue.iter().map(Bytes::len).sum();
        Self { queue, queued, ..self }
    }

    /// Bytes that wait for [`BodyWriter::flush`]; 1 where only an end waits.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.max(usize::from(self.end.is_some()))
    }

    /// Queues payload. An empty piece says nothing and goes nowhere.
    pub fn queue_data(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.queued += data.len();
            self.queue.push_back(data);
        }
    }

    /// Queues the end, with trailers or without.
    pub fn queue_end(&mut self, trailers: Option<Headers>) {
        self.end = Some(trailers);
    }

    /// Sends what is queued, as the peer lets it. Dropping the future leaves the rest queued.
    ///
    /// # Errors
    /// If the peer has reset the stream, or the connection broke.
    pub async fn flush(&mut self) -> Result<(), Refused> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// See [`BodyWriter::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        while let Some(front) = self.queue.front_mut() {
            self.stream.reserve_capacity(self.queued);
            let room = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => return Poll::Ready(Err(self.refused(Some(error), cx))),
                    None => return Poll::Ready(Err(self.refused(None, cx))),
                },
                room => room,
            };
            let part = front.split_to(room.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.queued -= part.len();
            let last = self.queue.is_empty() && matches!(self.end, Some(None));
            if let Err(error) = self.stream.send_data(part, last) {
                return Poll::Ready(Err(self.refused(Some(error), cx)));
            }
            if last {
                self.end = None;
                self.ended = true;
            }
        }
        let sent = match self.end.take() {
            None => return Poll::Ready(Ok(())),
            Some(None) => self.stream.send_data(Bytes::new(), true),
            Some(Some(trailers)) => match header_map(trailers.iter()) {
                Ok(map) => self.stream.send_trailers(map),
                // Names that no token are cannot have come by our parsers; the body's end matters more.
                Err(_) => self.stream.send_data(Bytes::new(), true),
            },
        };
        self.ended = true;
        Poll::Ready(match sent {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(Some(error), cx)),
        })
    }

    /// Ready when the peer has reset the stream or is gone. Pending wakes the task then.
    pub fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Refused> {
        match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => Poll::Ready(Refused { code: Some(reason.into()), error: None }),
            Err(error) => Poll::Ready(Refused { code: None, error: Some(error) }),
        }
    }

    /// Ends the stream with RST_STREAM, unless it has ended.
    pub fn reset(&mut self, code: u32) {
        self.stream.send_reset(Reason::from(code));
    }

    /// Whether the end was sent.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Of several reasons, the peer's own is the one to tell.
    fn refused(&mut self, error: Option<h2::Error>, cx: &mut Context<'_>) -> Refused {
        match self.stream.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => Refused { code: Some(reason.into()), error },
            Poll::Ready(Err(error)) => Refused { code: None, error: Some(error) },
            Poll::Pending => Refused { code: None, error },
        }
    }
}

impl Refused {
    /// In words, as [`super::explain`].
    #[must_use]
    pub fn explain(&self, peer: &str) -> String {
        match (self.code, &self.error) {
            (Some(code), _) => format!("stream reset by {peer}: {:?}", Reason::from(code)),
            (None, Some(error)) => super::explain(error, peer),
            (None, None) => format!("stream closed by {peer}"),
        }
    }
}
