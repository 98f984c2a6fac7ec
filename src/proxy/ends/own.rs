//! The ends of an exchange that no client stands behind: a request of our own, and the place of its answer.
//!
//! What the answer says goes to the record alone. A body that was announced with `Expect: 100-continue` waits for the
//! origin's word, as a client's would, but not for ever (RFC 9110 §10.1.1).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::{Incoming, Outgoing, Part, RequestIn, ResponseOut};
use crate::flow::{Framing, Headers, Interim, Response, Side, Stage};
use crate::http1::BodyLength;
use crate::proxy::error::{Error, Kind};

/// Where the bytes of a body of ours come from.
#[derive(Debug)]
pub(in crate::proxy) enum Bytestream {
    /// Here.
    Whole(Bytes),
    /// In pieces, as they are read.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// The body of a request of ours.
#[derive(Debug)]
pub(in crate::proxy) struct OwnBody {
    from: Bytestream,
    trailers: Option<Headers>,
    framing: Framing,
    /// What its head has promised.
    promised: Option<u64>,
    len: u64,
    is_done: bool,
    /// `None` where it does not wait, or does no longer.
    waits: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    gate: Arc<Gate>,
    /// Made at the first look: most bodies never wait.
    patience: Option<Pin<Box<Sleep>>>,
}

/// How far the answer has come, for a body that waits for it.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Gate {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Gate {
    const SHUT: u8 = 0;
    /// 100 has come.
    const OPEN: u8 = 1;
    /// The final answer has begun.
    const ANSWERED: u8 = 2;
    /// It is whole.
    const OVER: u8 = 3;

    fn set(&self, state: u8) {
        self.state.fetch_max(state, Ordering::AcqRel);
        self.waker.wake();
    }
}

impl OwnBody {
    /// A body of this length. It waits if there is a gate.
    pub(in crate::proxy) fn new(
        from: Bytestream,
        trailers: Option<Headers>,
        length: BodyLength,
        framing: Framing,
        gate: Option<Arc<Gate>>,
    ) -> Self {
        let promised = if let BodyLength::Length(len) = length { Some(len) } else { None };
        let waits = gate.map(|gate| Waiting { gate, patience: None });
        Self { from, trailers, framing, promised, len: 0, is_done: false, waits }
    }

    /// Ready when it need not wait any more.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(waiting) = &mut self.waits else { return Poll::Ready(Ok(())) };
        waiting.gate.waker.register(cx.waker());
        match waiting.gate.state.load(Ordering::Acquire) {
            Gate::SHUT => {
                let patience =
                    waiting.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(CONTINUE_TIME)));
                ready!(patience.as_mut().poll(cx));
            }
            // The relay asks once more when the answer is whole.
            Gate::ANSWERED => return Poll::Pending,
            Gate::OVER => {
                let message = "answered before the body was asked for";
                return Poll::Ready(Err(Error::client_gone(Stage::RequestBody, message)));
            }
            _ => {}
        }
        self.waits = None;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> Result<Part, Error> {
        if let Some(promised) = self.promised
            && promised != self.len
        {
            return Err(broken(format!("the body has {} bytes, and {promised} were promised", self.len)));
        }
        self.is_done = true;
        Ok(Part::End(self.trailers.take()))
    }
}

impl Incoming for OwnBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        ready!(self.poll_gate(cx))?;
        let data = match &mut self.from {
            Bytestream::Whole(bytes) if bytes.is_empty() => None,
            Bytestream::Whole(bytes) => Some(std::mem::take(bytes)),
            Bytestream::Pieces(pieces) => match ready!(pieces.poll_recv(cx)) {
                Some(Ok(data)) => Some(data),
                Some(Err(error)) => return Poll::Ready(Err(broken(error.to_string()))),
                None => None,
            },
        };
        Poll::Ready(match data {
            Some(data) => {
                self.len += data.len() as u64;
                Ok(Part::Data(data))
            }
            None => self.end(),
        })
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn wire_len(&self) -> u64 {
        self.len
    }
}

impl RequestIn for OwnBody {
    async fn gone(&mut self) -> Error {
        std::future::pending().await
    }

    fn has_begun(&self) -> bool {
        self.len > 0
    }
}

fn broken(message: String) -> Error {
    Error::new(Kind::Ended, Side::Proxy, Stage::RequestBody, message)
}

/// Where the answer to a request of ours goes: nowhere, the record has it.
#[derive(Debug)]
pub(in crate::proxy) struct Unheard {
    gate: Arc<Gate>,
}

impl Unheard {
    pub(in crate::proxy) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

impl Outgoing for Unheard {
    fn queued(&self) -> usize {
        0
    }

    fn queue_data(&mut self, _: &Bytes) {}

    fn queue_end(&mut self, _: Option<&Headers>) {
        self.gate.set(Gate::OVER);
    }

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<Error> {
        Poll::Pending
    }
}

impl ResponseOut for Unheard {
    fn queue_interim(&mut self, interim: &Interim) {
        if interim.status == 100 {
            self.gate.set(Gate::OPEN);
        }
    }

    fn queue_head(
        &mut self,
        _: &Response,
        _: Option<HeaderMap>,
        length: BodyLength,
        keep: bool,
    ) -> Result<bool, Error> {
        self.gate.set(if length == BodyLength::None { Gate::OVER } else { Gate::ANSWERED });
        Ok(keep)
    }

    fn queue_switch(&mut self, _: &Response) -> Result<(), Error> {
        self.gate.set(Gate::OVER);
        Ok(())
    }
}

/// How long a body waits for `100 Continue`: what curl waits. Origins that do not know the expectation never say it.
const CONTINUE_TIME: Duration = Duration::from_secs(1);
