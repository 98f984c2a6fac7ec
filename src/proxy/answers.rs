//! The seam for whoever answers requests in the place of their origins: a store that is replayed, or a program's own.
//!
//! With an [`Answers`], a proxy accepts, intercepts and reads as ever, and then asks it instead of dialling: no name is
//! looked up and no connection to an origin begun, unless it passes a request on. Nothing here knows where answers come from.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::DuplexStream;

use crate::flow::{Headers, Interim, Request, Response, Target};
use crate::http1::BodyLength;

/// Answers requests. One of these serves all connections of a proxy at the same time.
pub trait Answers: fmt::Debug + Send + Sync {
    /// Whether it may pass a request on to its origin. Tunnels of anything but HTTP are refused where it does not.
    fn forwards(&self) -> bool;

    /// Takes a request's head, before anything of its body is read.
    fn ask<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Asking>;
}

/// A request's head, found to be well formed.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// As the client sent it.
    pub request: &'a Request,
    /// The origin that it is for.
    pub target: &'a Target,
    /// Path and query, or `*`.
    pub path: &'a [u8],
    /// Whether a body follows.
    pub has_body: bool,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Asking {
    /// It goes on to its origin.
    Forward,
    /// It is answered when its body has been read.
    Question(Box<dyn Question>),
}

/// A request whose body is being read.
pub trait Question: fmt::Debug + Send {
    /// Takes the next piece of the body. The client is not read from meanwhile.
    fn take(&mut self, data: Bytes) -> BoxFuture<'_, ()>;

    /// The body is whole.
    fn answer(self: Box<Self>) -> BoxFuture<'static, Reply>;
}

/// What a request comes to.
pub enum Reply {
    /// It is answered.
    Answer(Box<Answer>),
    /// It goes on to its origin, with its body, which was taken.
    Forward(BodyStream),
    /// The connection is cut, or the stream reset, without an answer; with the reason, for the record.
    Cut(String),
}

/// Pieces of a body, in their order. An error breaks off the message.
pub type BodyStream = BoxStream<'static, io::Result<Bytes>>;

/// Speaks for the origin once the protocol has changed: it is given the client's stream.
pub type Talk = Box<dyn FnOnce(DuplexStream) -> BoxFuture<'static, ()> + Send>;

/// An answer, and when it comes. All times count from the end of the request.
pub struct Answer {
    /// 1xx responses, each with its time.
    pub interim: Vec<(Duration, Interim)>,
    /// When the head comes.
    pub head_after: Duration,
    /// The head; its body is left out of account.
    pub response: Response,
    /// How the end of the body is told. A `Content-Length` in the head must say the same; with [`BodyLength::None`] there is
    /// no body.
    pub length: BodyLength,
    /// The body, in its content-coding.
    pub body: AnswerBody,
    /// How long the body takes, from the head on.
    pub body_over: Duration,
    /// Why the body breaks off where `body` ends, if it does: the client sees a broken message.
    pub broken_off: Option<String>,
    /// Trailer fields.
    pub trailers: Option<Headers>,
    /// Present where the answer changes the protocol: to a WebSocket, or to what `Upgrade` names.
    pub talk: Option<Talk>,
    /// Whether the exchange is kept out of the proxy's own record.
    pub unrecorded: bool,
}

/// The bytes of an answer's body.
pub enum AnswerBody {
    /// At hand.
    Inline(Bytes),
    /// Of this length, to come.
    Stream(u64, BodyStream),
}

impl Answer {
    /// An answer that comes at once, with this body and its length.
    #[must_use]
    pub fn inline(response: Response, body: Bytes) -> Self {
        let length = BodyLength::Length(body.len() as u64);
        Self::new(response, length, AnswerBody::Inline(body))
    }

    /// An answer that comes at once.
    #[must_use]
    pub fn new(response: Response, length: BodyLength, body: AnswerBody) -> Self {
        Self {
            interim: Vec::new(),
            head_after: Duration::ZERO,
            response,
            length,
            body,
            body_over: Duration::ZERO,
            broken_off: None,
            trailers: None,
            talk: None,
            unrecorded: false,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("response", &self.response)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => answer.fmt(f),
            Self::Forward(_) => f.write_str("Forward"),
            Self::Cut(why) => f.debug_tuple("Cut").field(why).finish(),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => f.debug_tuple("Inline").field(&bytes.len()).finish(),
            Self::Stream(len, _) => f.debug_tuple("Stream").field(len).finish(),
        }
    }
}
