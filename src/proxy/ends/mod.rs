//! The four ends of an exchange, whatever protocol each speaks: the client's request comes in and goes on to the origin,
//! the origin's answer comes in and goes on to the client.
//!
//! The relay knows these traits alone, so that each combination of protocols is the same code.

pub(super) mod h1;
pub(super) mod h2;
pub(super) mod own;
pub(super) mod stored;

use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::error::Error;
use crate::flow::{Framing, Headers, Interim, Response};
use crate::http1::{BodyLength, HeadLimits};

/// What came of a body.
#[derive(Debug)]
pub(super) enum Part {
    /// Payload; may be empty.
    Data(Bytes),
    /// Its end, and the trailers that came with it.
    End(Option<Headers>),
}

/// Where a body comes from. Errors name side and stage.
pub(super) trait Incoming: Send {
    /// The next part. Not to be called after the end or an error.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>>;

    /// How its end is told, as it is recorded.
    fn framing(&self) -> Framing;

    /// Whether its end came.
    fn is_done(&self) -> bool;

    /// Bytes on the wire so far, framing included.
    fn wire_len(&self) -> u64;
}

/// Where a message goes. Its head is queued or sent before the first call.
pub(super) trait Outgoing: Send {
    /// How much waits to be sent: 0 is nothing, bytes otherwise.
    fn queued(&self) -> usize;

    /// Queues payload.
    fn queue_data(&mut self, data: &Bytes);

    /// Queues the end, with trailers where the protocol has a place for them.
    fn queue_end(&mut self, trailers: Option<&Headers>);

    /// Sends all that is queued, as fast as the peer takes it.
    fn flush(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ready when the peer has said that it takes no more, or is gone; pending for ever where it cannot say so.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Error>;
}

/// The client's request.
pub(super) trait RequestIn: Incoming {
    /// After the body: waits until the client is gone; for ever, where [`Outgoing::poll_refused`] of the answer tells.
    fn gone(&mut self) -> impl Future<Output = Error> + Send;

    /// The same before the body, of which nothing is taken.
    fn gone_early(&mut self) -> impl Future<Output = Error> + Send {
        std::future::pending()
    }

    /// Whether something of the body was taken, so that the request cannot be sent again.
    fn has_begun(&self) -> bool;

    /// Its head in HTTP/2's own form, once: what is sent on as it is need not be built anew.
    fn take_head(&mut self) -> Option<http::request::Parts> {
        None
    }
}

/// The origin's answer.
pub(super) trait ResponseIn: Incoming {
    /// The next head: interim ones, then the final one.
    fn head(
        &mut self,
        limits: &HeadLimits,
        method: &[u8],
        at_us: impl Fn() -> u64 + Send + Sync,
    ) -> impl Future<Output = Result<Answer, Error>> + Send;

    /// After the answer: ready when the origin wants no more of the request.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// After the answer: whether something came that nobody asked for.
    fn has_surplus(&self) -> bool;

    /// As [`RequestIn::take_fields`], of the final head.
    fn take_fields(&mut self) -> Option<HeaderMap> {
        None
    }
}

/// A head that came from an origin.
#[derive(Debug)]
pub(super) enum Answer {
    /// 1xx, not 101.
    Interim(Interim),
    /// The final one, and what follows it.
    Final(Response, BodyLength),
}

/// The answer on its way to the client.
pub(super) trait ResponseOut: Outgoing {
    /// Queues a 1xx response, where the client can take one.
    fn queue_interim(&mut self, interim: &Interim);

    /// Queues the final head. `fields` are those of `response` in HTTP/2's own form, where it came in that; `length` is
    /// the body's as it came from the origin; `keep` says whether the connection can be kept after it. Gives whether it
    /// can.
    ///
    /// # Errors
    /// If the head has no form in the client's protocol.
    fn queue_head(
        &mut self,
        response: &Response,
        fields: Option<HeaderMap>,
        length: BodyLength,
        keep: bool,
    ) -> Result<bool, Error>;

    /// Queues the head of a response after which the connection or the stream carries something else.
    ///
    /// # Errors
    /// As [`ResponseOut::queue_head`].
    fn queue_switch(&mut self, response: &Response) -> Result<(), Error>;
}
