//! From mids to requests that wait for their turn: records are read on a thread that may block.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use super::cue::{self, PIECE};
use super::edit::{Edits, NewBody};
use super::prepare::{BodySource, Prepared, Refusal, prepare};
use super::queue::Queue;
use crate::flow::{Flow, Imported, Mid};
use crate::proxy::{Errand, Payload, Script};
use crate::store::{BodyReader, Reader, StoreError, Stored};

/// Takes the flows that are to be sent again, in their order.
#[derive(Debug)]
pub struct Feed {
    reader: Reader,
    path: Arc<Path>,
    edits: Arc<Edits>,
    /// How mids of this store begin in another one; `None` if answers go to this one.
    elsewhere: Option<Arc<str>>,
    speed: Option<f64>,
    queue: Arc<Queue>,
    round: u32,
}

/// Why a flow could not be handed over.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The run was stopped.
    #[error("the run was stopped")]
    Stopped,
    /// Its store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A body, or the file in place of it, could not be read.
    #[error("the body of flow {mid} cannot be read: {source}")]
    Body {
        /// The flow.
        mid: Mid,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A flow that waits for its turn.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) source: Box<Flow>,
    pub(super) mid: Mid,
    pub(super) what: Result<Box<Ready>, Refusal>,
    /// How often the list of flows was begun anew before.
    pub(super) round: u32,
}

/// A request, and where its bytes come from.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) prepared: Prepared,
    body: Body,
    /// For the script of a WebSocket, and the record.
    from: Origin,
    speed: Option<f64>,
}

#[derive(Debug)]
struct Origin {
    path: Arc<Path>,
    mid: Mid,
    elsewhere: Option<Arc<str>>,
    closed_by_client: Option<bool>,
}

#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Stored(BodyReader),
    File(PathBuf, u64),
}

impl Feed {
    pub(super) fn new(
        path: &Path,
        edits: Arc<Edits>,
        elsewhere: bool,
        speed: Option<f64>,
        queue: Arc<Queue>,
    ) -> Result<Self, StoreError> {
        let elsewhere = elsewhere.then(|| format!("{}:", path.display()).into());
        Ok(Self { reader: Reader::open(path)?, path: path.into(), edits, elsewhere, speed, queue, round: 0 })
    }

    /// The same flows come once more: recorded times count from the first of them.
    pub fn next_round(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Hands flows over; waits while enough wait for their turn. Those that are not there are passed over; what cannot be
    /// sent is told in its reply. Blocks: not for a thread of the runtime.
    ///
    /// # Errors
    /// If one cannot be read, or the run was stopped.
    pub fn send(&self, mids: &[Mid]) -> Result<(), FeedError> {
        for many in mids.chunks(READ_AT_ONCE) {
            let mut stored = self.reader.stored(many)?.into_iter().peekable();
            while stored.peek().is_some() {
                let jobs = stored.by_ref().take(AT_ONCE).map(|stored| self.job(stored));
                let jobs = jobs.filter_map(Result::transpose).collect::<Result<_, _>>()?;
                self.queue.push(jobs).map_err(|_| FeedError::Stopped)?;
            }
        }
        Ok(())
    }

    fn job(&self, stored: Stored) -> Result<Option<Job>, FeedError> {
        let source = Box::new(self.reader.decode(stored)?);
        // The reader has set it.
        let Some(mid) = source.mid else { return Ok(None) };
        let (source, what) = match self.prepared(mid, &source) {
            // Its body may have been moved since its record was read, or deleted with its flow.
            Err(error @ FeedError::Body { .. }) => match self.reader.flow(mid)? {
                None => return Ok(None),
                Some(now) if now == *source => return Err(error),
                Some(now) => {
                    let what = self.prepared(mid, &now)?;
                    (Box::new(now), what)
                }
            },
            what => (source, what?),
        };
        Ok(Some(Job { source, mid, what, round: self.round }))
    }

    fn prepared(&self, mid: Mid, source: &Flow) -> Result<Result<Box<Ready>, Refusal>, FeedError> {
        match prepare(source, &self.edits) {
            Ok(prepared) => self.ready(mid, source, prepared),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn ready(
        &self,
        mid: Mid,
        source: &Flow,
        prepared: Prepared,
    ) -> Result<Result<Box<Ready>, Refusal>, FeedError> {
        if prepared.is_websocket
            && !self.edits.allow_truncated
            && let Some(refusal) = cue::check(&self.reader, mid)?
        {
            return Ok(Err(refusal));
        }
        let unreadable = |source| FeedError::Body { mid, source };
        let body = match &prepared.body {
            BodySource::Empty => Body::Whole(Bytes::new()),
            BodySource::New(NewBody::Bytes(bytes)) => Body::Whole(bytes.clone()),
            BodySource::New(NewBody::File(path, len)) => Body::File(path.clone(), *len),
            BodySource::Stored(content, len) => {
                let mut body = self.reader.content(content)?;
                if *len <= PIECE as u64 {
                    Body::Whole(cue::piece(&mut body).map_err(unreadable)?)
                } else {
                    Body::Stored(body)
                }
            }
        };
        let from = Origin {
            path: Arc::clone(&self.path),
            mid,
            elsewhere: self.elsewhere.clone(),
            closed_by_client: source.websocket.as_ref().and_then(|websocket| websocket.closed_by_client),
        };
        Ok(Ok(Box::new(Ready { prepared, body, from, speed: self.speed })))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Ready {
    /// The errand, with a thread behind it where there is much to be read.
    pub(super) fn into_errand(self) -> Box<Errand> {
        let Self { prepared, body, from, speed } = self;
        let Origin { path, mid, elsewhere, closed_by_client } = from;
        let imported = elsewhere.map(|store| {
            let id = [&*store, &mid.to_string()].concat();
            Box::new(Imported { format: "manent store".into(), id, ..Imported::default() })
        });
        let script = prepared.is_websocket.then(|| script(path, mid, closed_by_client, speed));
        Box::new(Errand {
            request: prepared.request,
            target: prepared.target,
            dial: prepared.dial,
            name: prepared.name,
            offers: prepared.offers,
            payload: match body {
                Body::Whole(bytes) => Payload::Whole(bytes),
                Body::Stored(body) => Payload::Pieces(pieces(move || Ok(body), u64::MAX)),
                Body::File(path, len) => Payload::Pieces(pieces(move || File::open(path), len)),
            },
            trailers: prepared.trailers,
            replay_of: Some(mid),
            imported,
            script,
        })
    }
}

/// Reads what `open` gives, up to `len` bytes, a few pieces ahead. The thread ends with the reading, or when nobody takes it
/// any more.
fn pieces<R: io::Read>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
    len: u64,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut body = match open() {
            Ok(body) => body.take(len),
            // A receiver that is gone has ended for reasons of its own; so below.
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let piece = cue::piece(&mut body);
            let ends = !matches!(&piece, Ok(data) if !data.is_empty());
            if matches!(&piece, Ok(data) if data.is_empty()) || sender.blocking_send(piece).is_err() || ends {
                return;
            }
        }
    });
    receiver
}

fn script(path: Arc<Path>, mid: Mid, closed_by_client: Option<bool>, speed: Option<f64>) -> Script {
    Script::new(move |stream, answer| {
        Box::pin(async move {
            let (sender, cues) = mpsc::channel(CUES_AHEAD);
            tokio::task::spawn_blocking(move || {
                let read =
                    Reader::open(&path).and_then(|reader| cue::read(&reader, mid, closed_by_client, &sender));
                if let Err(error) = read {
                    tracing::warn!(%mid, %error, "the messages of a WebSocket could not be read to their end");
                }
            });
            super::script::play(stream, answer, cues, speed).await;
        })
    })
}

/// Records that are read in one go. Those of one group lie side by side in the order in which their flows ended, so that a few
/// hundred places hold these and little else.
const READ_AT_ONCE: usize = 128;

/// Flows that are decoded and handed over in one go: waking somebody for each costs as much as sending it, and of more they
/// would be out of the processor's caches when they are sent.
const AT_ONCE: usize = 32;

/// Pieces of a large body in memory.
const PIECES_AHEAD: usize = 4;

/// Steps of a WebSocket's script in memory, each with a piece at most.
const CUES_AHEAD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Body as FlowBody, BodyEnd, Content, Framing, Request, Scheme, State, Target};
    use crate::record::{BodySide, Recorder, RecorderOptions};
    use crate::replay::send::Pace;
    use crate::store::{Marked, Pruner, Vacuum};

    /// Flows wait between the reading of their record and that of their body, for minutes at a slow pace.
    #[tokio::test]
    async fn a_body_that_was_moved_since_is_read_where_it_is_now() {
        const LEN: usize = 50_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.db");
        let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
        for n in 1..=40 {
            let ticket = recorder.admit().await;
            let mut writer = ticket.body(BodySide::Request);
            writer.write(vec![n; LEN].into()).await;
            let len = LEN as u64;
            let body = FlowBody {
                content: Content::Extents(writer.take_extents()),
                len,
                wire_len: len,
                framing: Framing::Length,
                end: BodyEnd::Whole,
            };
            let headers =
                [("Host", "origin.test"), ("Content-Length", &*LEN.to_string())].into_iter().collect();
            let request =
                Request { method: "POST".into(), target: "/".into(), headers, body, ..Request::default() };
            let flow = Flow {
                mid: Some(ticket.mid()),
                state: State::Complete,
                target: Target { scheme: Scheme::Http, host: "origin.test".into(), port: 80 },
                request: Some(request),
                ..Flow::default()
            };
            ticket.finish_with_receipt(&flow).unwrap().committed().await.unwrap();
        }
        recorder.close().await.unwrap();
        let queue = Arc::new(Queue::new(Pace::Free));
        let feed = Feed::new(&path, Arc::default(), false, None, queue).unwrap();
        // By another reader: this one would have the file open in which both lie.
        let mut stored = Reader::open(&path).unwrap().stored(&[Mid(39), Mid(40)]).unwrap().into_iter();
        let (deleted, moved) = (stored.next().unwrap(), stored.next().unwrap());
        let mut pruner = Pruner::open(&path).unwrap();
        pruner.delete(&(1..=39).map(Mid).collect::<Vec<_>>(), Marked::Delete).unwrap();
        pruner.finish(|_, _| {}).unwrap();
        let mut vacuum = Vacuum::open(&path).unwrap();
        let measured = vacuum.measure(|_, _| {}).unwrap();
        vacuum.run(&measured, |_, _| {}).unwrap();
        vacuum.close().unwrap();
        let job = feed.job(moved).unwrap().unwrap();
        let Body::Whole(body) = job.what.unwrap().body else { panic!("it is small enough to be read") };
        assert!(body == vec![40; LEN]);
        // The file is gone in which it was.
        assert!(feed.job(deleted).unwrap().is_none());
    }
}
