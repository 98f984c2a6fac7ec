//! The answers of a store, as a proxy asks for them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast::Receiver;

use super::desk::{Counts, Desk};
use super::faults::Fault;
use super::index::Indexed;
use super::kept::Kept;
use super::key::{BodySum, Field, HeadSum, Parts, asks_for_websocket};
use super::miss::{self, AskedBody, Missed};
use super::payload::{Kind, MAX_VALUE, value_sum};
use super::recorded::Asker;
use super::{OnMiss, ServeOptions};
use crate::filter::Filter;
use crate::flow::{Request, Target};
use crate::proxy::{Answer, Answers, Asked, Asking, Question, Reply};
use crate::record::Committed;
use crate::store::{Reader, StoreError};

/// Answers requests from the flows of a store. Give it to [`crate::app::Proxy::start_answering`].
///
/// The store is only read, and may be written meanwhile; what is recorded after the opening does not answer, unless
/// [`StoreAnswers::follow`] is called. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct StoreAnswers {
    desk: Arc<Desk>,
}

impl StoreAnswers {
    /// Opens a store, and looks at each of its flows, or at those that match `filter`; `progress` is told how far that has
    /// come. Blocks: some seconds for a million flows.
    ///
    /// # Errors
    /// If the store cannot be read, or there is no room for the index among the temporary files.
    pub fn open(
        store: &Path,
        filter: Option<&Filter>,
        options: ServeOptions,
        progress: &mut dyn FnMut(&Indexed),
    ) -> Result<Self, StoreError> {
        Desk::open(store, filter, options, progress).map(|desk| Self { desk: Arc::new(desk) })
    }

    /// What was found at the opening.
    #[must_use]
    pub fn indexed(&self) -> Indexed {
        self.desk.indexed
    }

    /// With [`OnMiss::Record`]: takes in what is recorded into the store, as `commits` tell
    /// ([`crate::record::Rotating::commits`]). Blocks for a moment.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn follow(&self, commits: Receiver<Arc<[Committed]>>) -> Result<(), StoreError> {
        self.desk.follow(commits)
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.desk.counts()
    }
}

impl Answers for StoreAnswers {
    fn forwards(&self) -> bool {
        self.desk.options.on_miss.forwards()
    }

    fn ask<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Asking> {
        Box::pin(async move {
            let question = Box::new(StoreQuestion::new(Arc::clone(&self.desk), asked));
            if !(asked.has_body && self.forwards()) {
                return Asking::Question(question);
            }
            // A body that no answer depends on goes on as it comes, however large it is.
            let desk = Arc::clone(&self.desk);
            let looked =
                desk.with_reader(move |desk, reader| match desk.index.has_head(question.sums.head) {
                    Ok(false) => {
                        question.miss(reader, None);
                        None
                    }
                    // An error shows again where it is answered.
                    Ok(true) | Err(_) => Some(question),
                });
            match looked.await {
                Ok(Some(question)) => Asking::Question(question),
                Ok(None) => Asking::Forward,
                Err(error) => {
                    tracing::error!(%error, "cannot look for an answer");
                    Asking::Forward
                }
            }
        })
    }
}

/// A request that is being read.
#[derive(Debug)]
struct StoreQuestion {
    desk: Arc<Desk>,
    request: Request,
    target: Target,
    path: Bytes,
    sums: HeadSum,
    asker: Asker,
    body: BodyIn,
}

/// What is made of a request's body.
#[derive(Debug)]
struct BodyIn {
    /// Where its bytes count.
    hasher: Option<Box<blake3::Hasher>>,
    kind: Kind,
    /// Where it is to be looked at as a whole, or may go on to the origin.
    kept: Option<Kept>,
    len: u64,
}

impl StoreQuestion {
    fn new(desk: Arc<Desk>, asked: &Asked<'_>) -> Self {
        let request = asked.request;
        let matching = &desk.options.matching;
        let counts = asked.has_body && matching.has(&Field::Body);
        let ignores = !matching.ignored_payload_params.is_empty();
        let kind = if counts { Kind::of(&request.headers, ignores) } else { Kind::Bytes };
        let keeps = asked.has_body && (kind != Kind::Bytes || desk.options.on_miss.forwards());
        let sums = parts(request, asked.target, asked.path).sum(matching);
        Self {
            request: request.clone(),
            target: asked.target.clone(),
            path: Bytes::copy_from_slice(asked.path),
            sums,
            asker: Asker::of(request),
            body: BodyIn {
                hasher: counts.then(|| Box::new(BodySum::hasher())),
                kind,
                kept: keeps.then(Kept::default),
                len: 0,
            },
            desk,
        }
    }

    /// The answer, where it is at hand. Does not block.
    fn recent(&self) -> Option<Answer> {
        let body = match &self.body.hasher {
            None => BodySum::NONE,
            Some(hasher) if self.body.kind == Kind::Bytes => BodySum::of_bytes(hasher),
            Some(_) => return None,
        };
        self.desk.recent(&self.sums.key(body), &self.asker)
    }

    /// The whole request is there: answers it. Blocks.
    fn decide(mut self, reader: &Reader) -> Reply {
        let body = match self.body.sum(&self.desk) {
            Ok(body) => body,
            Err(error) => return self.failed(&format!("the request's body could not be kept: {error}")),
        };
        let key = self.sums.key(body);
        let mut found = self.desk.take(reader, &key, &self.asker);
        if let Ok(None) = found
            && asks_for_websocket(&self.request)
        {
            // One that was refused with an answer like any other is on record as any other.
            let parts = Parts { websocket: false, ..parts(&self.request, &self.target, &self.path) };
            let plain = parts.sum(&self.desk.options.matching).key(BodySum::NONE);
            found = self.desk.take(reader, &plain, &self.asker);
        }
        match found {
            Ok(Some(answer)) => Reply::Answer(Box::new(answer)),
            Ok(None) => {
                let page = self.miss(reader, Some(key));
                self.missed(page)
            }
            Err(error) => self.failed(&format!("the store cannot be read: {error}")),
        }
    }

    /// Counts a miss and tells of it, and gives the page for the client.
    fn miss(&self, reader: &Reader, key: Option<[u8; 16]>) -> String {
        self.desk.count_miss();
        let parts = parts(&self.request, &self.target, &self.path);
        let bytes = self.body.kept.as_ref().map_or(&[][..], Kept::beginning);
        let body = AskedBody { len: self.body.len, bytes };
        let missed = Missed { parts, sums: &self.sums, key, body };
        let nearest = miss::nearest(&self.desk, reader, &missed).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for what came nearest");
            None
        });
        let (method, target) = (&self.request.method, &self.target);
        let request = miss::request_line(method, target.scheme, &target.authority(), &self.path);
        let mid = nearest.as_ref().map(|nearest| nearest.mid.0);
        let differs = match &nearest {
            None => "nothing is recorded of this host or path".to_owned(),
            Some(nearest) if nearest.differences.is_empty() => "all answers have been given".to_owned(),
            Some(nearest) => nearest.differences.join("; "),
        };
        match self.desk.options.on_miss.forwards() {
            true => tracing::info!(request, nearest = mid, differs, "no recorded answer, asking the origin"),
            false => tracing::warn!(request, nearest = mid, differs, "no recorded answer"),
        }
        miss::page(&request, nearest.as_ref())
    }

    fn missed(self, page: String) -> Reply {
        match self.desk.options.on_miss {
            OnMiss::Status(status) => self.local(status, page),
            OnMiss::Kill => Reply::Cut("no recorded answer".to_owned()),
            OnMiss::Forward | OnMiss::Record => match self.body.kept.map(Kept::into_stream) {
                None => Reply::Forward(stream::empty().boxed()),
                Some(Ok(body)) => Reply::Forward(body),
                Some(Err(error)) => Reply::Cut(format!("the request's body could not be kept: {error}")),
            },
        }
    }

    fn failed(&self, why: &str) -> Reply {
        tracing::error!(why, "cannot answer");
        self.local(500, format!("manent: {why}\n"))
    }

    /// An answer of our own; not a thing to be recorded into the store that answers.
    fn local(&self, status: u16, page: String) -> Reply {
        let unrecorded = self.desk.options.on_miss == OnMiss::Record;
        Reply::Answer(Box::new(Answer { unrecorded, ..miss::local(status, self.asker.is_head, page) }))
    }
}

impl BodyIn {
    fn sum(&mut self, desk: &Desk) -> std::io::Result<BodySum> {
        let Some(hasher) = &self.hasher else { return Ok(BodySum::NONE) };
        if self.kind != Kind::Bytes
            && let Some(kept) = &mut self.kept
        {
            if let Some(error) = kept.failure() {
                return Err(error);
            }
            let ignored = desk.options.matching.payload_params();
            if let Some(body) = kept.whole(MAX_VALUE)?
                && let Some(sum) = value_sum(&self.kind, &body, &ignored).filter(|_| !body.is_empty())
            {
                return Ok(BodySum::of_value(sum));
            }
        }
        Ok(BodySum::of_bytes(hasher))
    }
}

impl Question for StoreQuestion {
    fn take(&mut self, data: Bytes) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.body.len += data.len() as u64;
            if let Some(hasher) = &mut self.body.hasher {
                hasher.update(&data);
            }
            if let Some(kept) = &mut self.body.kept {
                kept.push(data).await;
            }
        })
    }

    fn answer(self: Box<Self>) -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            let desk = Arc::clone(&self.desk);
            match desk.options.faults.of(desk.number()) {
                None => {}
                Some(fault) => {
                    desk.count_fault();
                    return match fault {
                        Fault::Reset => Reply::Cut("a fault on purpose".to_owned()),
                        Fault::Status(status) => {
                            self.local(status, "manent: a fault on purpose\n".to_owned())
                        }
                    };
                }
            }
            if let Some(answer) = self.recent() {
                return Reply::Answer(Box::new(answer));
            }
            match desk.with_reader(move |_, reader| self.decide(reader)).await {
                Ok(reply) => reply,
                Err(error) => {
                    tracing::error!(%error, "cannot answer");
                    Reply::Answer(Box::new(miss::local(
                        500,
                        false,
                        format!("manent: cannot answer: {error}\n"),
                    )))
                }
            }
        })
    }
}

fn parts<'a>(request: &'a Request, target: &'a Target, path: &'a [u8]) -> Parts<'a> {
    Parts {
        method: &request.method,
        websocket: asks_for_websocket(request),
        scheme: target.scheme,
        host: &target.host,
        port: target.port,
        target: path,
        headers: Some(&request.headers),
    }
}
