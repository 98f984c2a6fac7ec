//! The ends of an exchange where nobody stands for the origin but an [`Answers`](crate::proxy::Answers).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use h2::Reason;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{Answer as Head, Incoming, Outgoing, Part, RequestIn, ResponseIn};
use crate::exchange::Live;
use crate::flow::{Framing, Headers, Interim, Side, Stage};
use crate::http1::{BodyLength, HeadLimits};
use crate::proxy::answers::{Answer, AnswerBody, BodyStream, Question, Reply, Talk};
use crate::proxy::error::{Error, Kind};

/// The two ends for one question: the first takes the request's body, the second gives the answer when that was whole.
pub(in crate::proxy) fn ends(
    question: Box<dyn Question>,
    length: BodyLength,
    live: &Live,
) -> (QuestionTo, AnswerFrom<'_>) {
    let (whole, asked) = oneshot::channel();
    let to = QuestionTo {
        question: Some(question),
        waiting: Vec::new(),
        queued: 0,
        ended: length == BodyLength::None,
        whole: Some(whole),
    };
    let from = AnswerFrom {
        asked,
        live,
        since: None,
        interims: Vec::new().into_iter(),
        answer: None,
        forward: None,
        talk: None,
        body: None,
    };
    (to, from)
}

/// A request on its way to whoever answers it.
#[derive(Debug)]
pub(in crate::proxy) struct QuestionTo {
    question: Option<Box<dyn Question>>,
    waiting: Vec<Bytes>,
    queued: usize,
    ended: bool,
    whole: Option<oneshot::Sender<Box<dyn Question>>>,
}

impl Outgoing for QuestionTo {
    fn queued(&self) -> usize {
        self.queued
    }

    fn queue_data(&mut self, data: &Bytes) {
        if !data.is_empty() {
            self.queued += data.len();
            self.waiting.push(data.clone());
        }
    }

    fn queue_end(&mut self, _: Option<&Headers>) {
        self.ended = true;
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if let Some(question) = &mut self.question {
            for data in self.waiting.drain(..) {
                question.take(data).await;
            }
        }
        self.queued = 0;
        if self.ended
            && let Some((whole, question)) = self.whole.take().zip(self.question.take())
        {
            // If nobody waits for the answer any more, the exchange is over.
            let _ = whole.send(question);
        }
        Ok(())
    }

    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<Error> {
        Poll::Pending
    }
}

/// The answer, as if it came from the origin.
#[derive(Debug)]
pub(in crate::proxy) struct AnswerFrom<'a> {
    asked: oneshot::Receiver<Box<dyn Question>>,
    live: &'a Live,
    /// The end of the request.
    since: Option<Instant>,
    interims: std::vec::IntoIter<(Duration, Interim)>,
    answer: Option<Box<Answer>>,
    forward: Option<Taken>,
    talk: Option<Given>,
    body: Option<Body>,
}

/// The body of an answer as it is given out.
#[derive(Debug)]
struct Body {
    bytes: AnswerBody,
    length: BodyLength,
    len: u64,
    given: u64,
    /// There are no more bytes.
    read_all: bool,
    done: bool,
    broken_off: Option<String>,
    trailers: Option<Headers>,
    /// When it began, and how long it takes; nothing of it waits where that is no time.
    began: Instant,
    over: Duration,
    wait: Option<Pin<Box<Sleep>>>,
}

impl AnswerFrom<'_> {
    /// The request's body, if the request is to go on to its origin.
    pub(in crate::proxy) fn take_forward(&mut self) -> Option<BodyStream> {
        self.forward.take().map(|taken| taken.0)
    }

    /// Who speaks for the origin, after a change of protocol.
    pub(in crate::proxy) fn take_talk(&mut self) -> Option<Talk> {
        self.talk.take().map(|given| given.0)
    }

    async fn reply(&mut self) -> Result<(), Error> {
        let Ok(question) = (&mut self.asked).await else {
            // The upload has failed, and tells why.
            return std::future::pending().await;
        };
        self.since = Some(Instant::now());
        let cut = |message| Error {
            code: Some(Reason::CANCEL.into()),
            ..Error::new(Kind::Cut, Side::Proxy, Stage::ResponseHead, message)
        };
        match question.answer().await {
            Reply::Answer(mut answer) => {
                if answer.unrecorded {
                    self.live.leave_out();
                }
                self.interims = std::mem::take(&mut answer.interim).into_iter();
                self.answer = Some(answer);
                Ok(())
            }
            Reply::Forward(body) => {
                self.forward = Some(Taken(body));
                Err(cut("passed on".to_owned()))
            }
            Reply::Cut(why) => Err(cut(why)),
        }
    }
}

/// Waits until so long after `since`.
async fn wait_until(since: Option<Instant>, after: Duration) {
    if let Some(since) = since
        && !after.is_zero()
    {
        sleep_until(since + after).await;
    }
}

impl ResponseIn for AnswerFrom<'_> {
    async fn head(
        &mut self,
        _: &HeadLimits,
        _: &[u8],
        at_us: impl Fn() -> u64 + Send + Sync,
    ) -> Result<Head, Error> {
        if self.since.is_none() {
            self.reply().await?;
        }
        if let Some((after, interim)) = self.interims.next() {
            wait_until(self.since, after).await;
            return Ok(Head::Interim(Interim { at_us: at_us(), ..interim }));
        }
        let after = self.answer.as_ref().map_or(Duration::ZERO, |answer| answer.head_after);
        wait_until(self.since, after).await;
        let Some(answer) = self.answer.take() else {
            return Err(Error::new(Kind::Cut, Side::Proxy, Stage::ResponseHead, "answered before"));
        };
        self.talk = answer.talk.map(Given);
        let len = match &answer.body {
            AnswerBody::Inline(bytes) => bytes.len() as u64,
            AnswerBody::Stream(len, _) => *len,
        };
        self.body = Some(Body {
            bytes: answer.body,
            length: answer.length,
            len,
            given: 0,
            read_all: false,
            done: false,
            broken_off: answer.broken_off,
            trailers: answer.trailers,
            began: Instant::now(),
            over: answer.body_over,
            wait: None,
        });
        Ok(Head::Final(answer.response, answer.length))
    }

    fn poll_over(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn has_surplus(&self) -> bool {
        false
    }
}

impl Incoming for AnswerFrom<'_> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        match &mut self.body {
            Some(body) => body.poll_part(cx),
            None => Poll::Ready(Ok(Part::End(None))),
        }
    }

    fn framing(&self) -> Framing {
        self.body.as_ref().map_or(Framing::None, |body| body.length.into())
    }

    fn is_done(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.done)
    }

    fn wire_len(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.given)
    }
}

impl Body {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        ready!(self.poll_due(cx));
        let fault = |message| Error::bad_gateway(Stage::ResponseBody, message);
        if !self.read_all {
            let piece = match &mut self.bytes {
                AnswerBody::Inline(bytes) if self.given < self.len => Some(Ok(std::mem::take(bytes))),
                AnswerBody::Inline(_) => None,
                AnswerBody::Stream(_, stream) => ready!(stream.poll_next_unpin(cx)),
            };
            match piece {
                Some(Ok(data)) => {
                    self.given += data.len() as u64;
                    return Poll::Ready(Ok(Part::Data(data)));
                }
                Some(Err(error)) => {
                    let fault = fault(format!("the stored body: {error}"));
                    return Poll::Ready(Err(Error { side: Side::Proxy, ..fault }));
                }
                None => {
                    // It is due later than the last piece, and the stream must not be asked again.
                    self.read_all = true;
                    ready!(self.poll_due(cx));
                }
            }
        }
        Poll::Ready(match self.broken_off.take() {
            Some(why) => Err(fault(why)),
            None => {
                self.done = true;
                Ok(Part::End(self.trailers.take()))
            }
        })
    }

    /// Ready when what comes next is due: a piece when the time for the bytes before it is over, the end when all is.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over.is_zero() {
            return Poll::Ready(());
        }
        let share = if self.read_all { 1.0 } else { (self.given as f64 / self.len.max(1) as f64).min(1.0) };
        let left = (self.began + self.over.mul_f64(share)).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(left)));
            ready!(wait.as_mut().poll(cx));
        }
        self.wait = None;
        Poll::Ready(())
    }
}

/// A request whose body was taken before it was clear that it goes on to its origin.
#[derive(Debug)]
pub(in crate::proxy) struct TakenRequest<'a, I> {
    from: &'a mut I,
    body: Taken,
    begun: bool,
    done: bool,
    len: u64,
}

impl<'a, I: RequestIn> TakenRequest<'a, I> {
    pub(in crate::proxy) fn new(from: &'a mut I, body: BodyStream) -> Self {
        Self { from, body: Taken(body), begun: false, done: false, len: 0 }
    }
}

impl<I: RequestIn> Incoming for TakenRequest<'_, I> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        match ready!(self.body.0.poll_next_unpin(cx)) {
            Some(Ok(data)) => {
                self.begun = true;
                self.len += data.len() as u64;
                Poll::Ready(Ok(Part::Data(data)))
            }
            Some(Err(error)) => {
                let message = format!("the request's body was not kept: {error}");
                Poll::Ready(Err(Error::new(Kind::BadGateway, Side::Proxy, Stage::RequestBody, message)))
            }
            None => {
                self.done = true;
                Poll::Ready(Ok(Part::End(None)))
            }
        }
    }

    fn framing(&self) -> Framing {
        self.from.framing()
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn wire_len(&self) -> u64 {
        self.len.max(self.from.wire_len())
    }
}

impl<I: RequestIn> RequestIn for TakenRequest<'_, I> {
    async fn gone(&mut self) -> Error {
        self.from.gone().await
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    fn take_head(&mut self) -> Option<http::request::Parts> {
        self.from.take_head()
    }
}

/// Bytes that have been taken; not worth printing.
struct Taken(BodyStream);

/// The same for one who talks.
struct Given(Talk);

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taken")
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given")
    }
}
