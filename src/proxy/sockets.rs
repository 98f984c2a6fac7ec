//! The WebSockets that are open, by mid, for whoever wants to say something on one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::flow::{Mid, Opcode};
use crate::rules::End;

/// Sends messages on WebSockets that are open, in the name of either end. Clones are for the same proxy.
#[derive(Debug, Clone)]
pub struct Injector {
    sockets: Arc<Sockets>,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InjectError {
    /// No open WebSocket has this mid.
    #[error("no WebSocket with this mid is open")]
    NotOpen,
    /// It closed, or what passes on it is not understood.
    #[error("the WebSocket has been closed, or breaks the protocol")]
    Closed,
    /// An extension is in use that we do not know: the end could not read a plain message for sure.
    #[error("the WebSocket uses an extension that is not known")]
    Extension,
    /// Only text and binary messages are sent.
    #[error("a message is text or binary, and no control frame")]
    NotData,
    /// A text is not UTF-8 (RFC 6455 §8.1).
    #[error("a text message must be UTF-8")]
    NotUtf8,
}

/// A message on its way to be sent.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) opcode: Opcode,
    pub(super) payload: Bytes,
    /// The rule that made it, by its place.
    pub(super) rule: Option<usize>,
    /// Who waits for it.
    pub(super) done: Option<oneshot::Sender<Result<(), InjectError>>>,
}

impl Errand {
    /// Tells who waits, if anybody does.
    pub(super) fn tell(self, result: Result<(), InjectError>) {
        if let Some(done) = self.done {
            // He may have gone.
            let _ = done.send(result);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_mid: HashMap<Mid, Entry>,
    /// Numbers of entries: with stores that follow the clock, two flows may have one mid.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    to_client: mpsc::Sender<Errand>,
    to_server: mpsc::Sender<Errand>,
    is_readable: bool,
}

/// An entry, until it is dropped.
#[derive(Debug)]
pub(super) struct Registered<'a> {
    sockets: &'a Sockets,
    mid: Mid,
    number: u64,
}

impl Sockets {
    /// Enters a WebSocket that has opened, whose messages may be read as they are unless `is_readable` is false.
    pub(super) fn register(
        &self,
        mid: Mid,
        to_client: mpsc::Sender<Errand>,
        to_server: mpsc::Sender<Errand>,
        is_readable: bool,
    ) -> Registered<'_> {
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        open.by_mid.insert(mid, Entry { number, to_client, to_server, is_readable });
        Registered { sockets: self, mid, number }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut open = self.sockets.lock();
        if open.by_mid.get(&self.mid).is_some_and(|entry| entry.number == self.number) {
            open.by_mid.remove(&self.mid);
        }
    }
}

impl Injector {
    pub(super) fn new(sockets: Arc<Sockets>) -> Self {
        Self { sockets }
    }

    /// Sends a message to one of the ends of the WebSocket with this mid, as if it came from the other, and records it as
    /// injected. It stands between two messages of the other end, and goes uncompressed, which both ends can read whatever
    /// they have agreed on (RFC 7692 §6). Rules do not look at it. With stores that follow the clock, the WebSocket that
    /// opened last is meant of several with one mid.
    ///
    /// Waits until it is sent, however long the end takes no bytes, or its peer is in the middle of a message. Dropping
    /// this future does not call it back.
    ///
    /// # Errors
    /// If there is no such WebSocket, it closes before, or the message is none.
    pub async fn inject(&self, mid: Mid, to: End, opcode: Opcode, payload: Bytes) -> Result<(), InjectError> {
        if !opcode.is_data() {
            return Err(InjectError::NotData);
        }
        if opcode == Opcode::Text && std::str::from_utf8(&payload).is_err() {
            return Err(InjectError::NotUtf8);
        }
        let sender = {
            let open = self.sockets.lock();
            let entry = open.by_mid.get(&mid).ok_or(InjectError::NotOpen)?;
            if !entry.is_readable {
                return Err(InjectError::Extension);
            }
            if to == End::Client { entry.to_client.clone() } else { entry.to_server.clone() }
        };
        let (done, sent) = oneshot::channel();
        let errand = Errand { opcode, payload, rule: None, done: Some(done) };
        sender.send(errand).await.map_err(|_| InjectError::Closed)?;
        sent.await.unwrap_or(Err(InjectError::Closed))
    }
}

/// Messages that wait for one end: whoever makes more waits.
pub(super) const WAITING: usize = 16;
