//! Connections to origins: which may be shared by whom, and one that speaks HTTP/1.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{ReadHalf, WriteHalf};

use super::{BoxIo, Multiplexed, UpstreamProxy};
use crate::flow::{ServerConn, Target};
use crate::http1::{Reader, Writer};

/// Which origins may share a connection: what was dialled, by which name it was verified, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// What was dialled.
    pub target: Target,
    /// The name in TLS; empty in clear.
    pub name: String,
}

/// An open connection to an origin, between two exchanges or in one.
#[derive(Debug)]
pub struct Origin {
    /// What it is good for.
    pub key: Key,
    /// Its facts, as they are recorded.
    pub facts: Arc<ServerConn>,
    /// Reads responses.
    pub reader: Reader<ReadHalf<BoxIo>>,
    /// Writes requests.
    pub writer: Writer<WriteHalf<BoxIo>>,
    /// Exchanges that it has carried.
    pub used: u32,
    /// Whether it authenticated one client (NTLM, Negotiate) and must not serve another.
    pub tied: bool,
    /// The upstream proxy at its other end, if that forwards requests: see [`super::Dialed::forwarder`].
    pub forwarder: Option<Arc<UpstreamProxy>>,
    /// Tells of its close.
    closing: Closing,
}

/// A connection to an origin, whatever it speaks.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1, for one exchange at a time.
    Http1(Box<Origin>),
    /// HTTP/2.
    Http2(Arc<Multiplexed>),
}

impl Connection {
    /// What it is good for.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Connection::Http1(origin) => &origin.key,
            Connection::Http2(shared) => &shared.key,
        }
    }

    /// Its facts, as they are recorded.
    #[must_use]
    pub fn facts(&self) -> &Arc<ServerConn> {
        match self {
            Connection::Http1(origin) => &origin.facts,
            Connection::Http2(shared) => &shared.facts,
        }
    }

    /// Whether it speaks HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self, Connection::Http2(_))
    }

    /// Whether it leads to an upstream proxy that forwards requests, and so carries nothing else.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        matches!(self, Connection::Http1(origin) if origin.forwarder.is_some())
    }

    /// Whether it can carry a request now.
    pub fn is_idle(&mut self) -> bool {
        match self {
            Connection::Http1(origin) => origin.is_idle(),
            Connection::Http2(shared) => shared.is_alive(),
        }
    }
}

/// Called with a connection's last facts when it is dropped.
pub type OnClose = Arc<dyn Fn(Arc<ServerConn>) + Send + Sync>;

/// Notes the close of a connection, however that comes about.
struct Closing {
    facts: Arc<ServerConn>,
    started: Instant,
    note: Option<OnClose>,
}

impl Origin {
    /// A fresh connection.
    #[must_use]
    pub fn new(key: Key, facts: ServerConn, io: BoxIo, started: Instant) -> Self {
        let (read, write) = tokio::io::split(io);
        let facts = Arc::new(facts);
        Self {
            key,
            closing: Closing { facts: Arc::clone(&facts), started, note: None },
            facts,
            reader: Reader::new(read, BytesMut::new()),
            writer: Writer::new(write),
            used: 0,
            tied: false,
            forwarder: None,
        }
    }

    /// The same with an upstream proxy at its other end that forwards requests.
    #[must_use]
    pub fn forwarded_by(mut self, forwarder: Option<Arc<UpstreamProxy>>) -> Self {
        self.forwarder = forwarder;
        self
    }

    /// Calls `note` with its facts, the time of its close among them, when it is dropped.
    #[must_use]
    pub fn on_close(mut self, note: OnClose) -> Self {
        self.closing.note = Some(note);
        self
    }

    /// Whether it can carry a request: still open, and nothing came that nobody asked for.
    pub fn is_idle(&mut self) -> bool {
        if !self.reader.buffer().is_empty() || self.reader.at_eof() {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.reader.poll_fill(&mut cx), Poll::Pending)
    }

    /// Gives back the stream with what was read from it.
    #[must_use]
    pub fn into_io(self) -> (BoxIo, BytesMut) {
        let (read, buf) = self.reader.into_parts();
        (read.unsplit(self.writer.into_inner()), buf)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(note) = self.note.take() {
            let mut facts = ServerConn::clone(&self.facts);
            facts.revision += 1;
            facts.closed_us = Some(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
            note(Arc::new(facts));
        }
    }
}

impl std::fmt::Debug for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Closing").field("started", &self.started).finish_non_exhaustive()
    }
}
