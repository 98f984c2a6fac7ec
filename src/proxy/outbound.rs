//! A proxy without clients: it sends requests of our own as it would send a client's, and records what becomes of them.
//!
//! The relay does not know the difference: connections, retries, both protocols, 1xx, trailers and the record are its own.

use std::io;
use std::mem::take;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::context::Context;
use super::ends::h2::request_length as http2_length;
use super::ends::own::{Bytestream, Gate, OwnBody, Unheard};
use super::error::{Error, Kind};
use super::forward::{self, Forwarded, Wanted};
use super::judge::Plan;
use super::mode::explicit::Route;
use super::origins::Origins;
use super::redact::recorded;
use super::relay::{Message, Switch};
use super::serve::{Scope, Tunneled};
use super::server::{CARRIERS_TIME, ServerOptions};
use super::shared::Shared;
use super::tunnel::{self, End, What};
use crate::exchange::{Live, Ticker};
use crate::flow::{
    ClientConn, Flow, Framing, Headers, Imported, Mid, Request, Scheme, Side, Stage, Target, Version,
};
use crate::http1::{BodyLength, Reader, Writer, request_length, upgrade_tokens};
use crate::http2::Duplex;
use crate::upstream::{Io as _, Key, Origin, Passage};
use crate::websocket::Extensions;

/// Sends requests of our own. Connections are kept between them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbound {
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    facts: Arc<ClientConn>,
    /// Those that no exchange has: a new one for each would be entered in the runtime's wheel and taken out again.
    tickers: Arc<Mutex<Vec<Ticker>>>,
}

/// A request of our own.
#[derive(Debug)]
pub struct Errand {
    /// As it goes out, without its body: see [`super::onward`].
    pub request: Request,
    /// What it is aimed at, as the flow says.
    pub target: Target,
    /// Where to connect: the target's scheme with a host and a port that may be others.
    pub dial: Target,
    /// By which name the origin is asked for and verified in TLS.
    pub name: String,
    /// What the origin is offered (ALPN, RFC 7301), in this order; in clear, HTTP/2 is begun if it alone stands here.
    pub offers: Vec<Bytes>,
    /// Its body.
    pub payload: Payload,
    /// Its trailers, which need a body that is chunked, or HTTP/2.
    pub trailers: Option<Headers>,
    /// The flow that it repeats.
    pub replay_of: Option<Mid>,
    /// Where that one is, if it is in another store.
    pub imported: Option<Box<Imported>>,
    /// What is said on the WebSocket that it opens.
    pub script: Option<Script>,
}

/// The body of a request of our own.
#[derive(Debug)]
pub enum Payload {
    /// Here, perhaps empty.
    Whole(Bytes),
    /// In pieces; an error, or an end before the promised length, breaks off the request.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Default for Payload {
    /// An empty one.
    fn default() -> Self {
        Payload::Whole(Bytes::new())
    }
}

/// A client's part in a WebSocket: it gets the client's end of the stream, and the fields of the origin's answer.
pub struct Script(Box<dyn FnOnce(DuplexStream, Headers) -> BoxFuture<'static, ()> + Send>);

impl Script {
    /// What `play` does until its future ends; then our direction is closed.
    pub fn new(play: impl FnOnce(DuplexStream, Headers) -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self(Box::new(play))
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Sent {
    /// The flow as it is handed to the recorder; its mid is not to be told before it is committed.
    pub flow: Box<Flow>,
}

impl Outbound {
    /// How the client's side of its flows is called.
    pub const MODE: &str = "replay";

    /// With these parts, of which the leaves and what is passed through are not used. `own` are addresses to which nothing
    /// is sent: listeners of ours, in whatever process.
    #[must_use]
    pub fn new(options: ServerOptions, own: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared::new(options, own, Vec::new()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let facts = Arc::new(ClientConn {
            id: shared.next_conn_id(),
            mode: Self::MODE.into(),
            started_unix_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            ..ClientConn::default()
        });
        let origins = Arc::new(Origins::new(Arc::clone(&shared.pool)));
        Self { shared, origins, facts, tickers: Arc::default() }
    }

    /// The same for those who send on one thread, `most` requests at a time, while others do on others. They have connections of
    /// HTTP/1 to themselves: what comes on a connection is told to the runtime in which it was opened, and what belongs to it is
    /// in that processor's cache.
    #[must_use]
    pub fn for_thread(&self, most: usize) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            origins: Arc::new(Origins::of_some(&self.origins, most)),
            // At each request it is counted how many hold it.
            facts: Arc::new(ClientConn::clone(&self.facts)),
            tickers: Arc::default(),
        }
    }

    /// Sends a request, and waits until its answer is whole. Redirects are answers like others.
    ///
    /// Dropping this future ends the exchange, which is recorded as ended by us.
    pub async fn send(&self, mut errand: Box<Errand>) -> Sent {
        let live = Live::begin(
            self.shared.recorder.as_ref(),
            Instant::now(),
            crate::flow::Kind::Http,
            Arc::clone(&self.facts),
        )
        .await;
        let empty = matches!(&errand.payload, Payload::Whole(bytes) if bytes.is_empty());
        let length = match errand.request.version {
            Version::Http2 => http2_length(&errand.request, empty && errand.trailers.is_none()),
            _ => request_length(&errand.request),
        };
        let now = live.now_us();
        live.with(|flow| {
            flow.timing.request_head_us = Some(now);
            flow.timing.request_end_us = (length == Ok(BodyLength::None)).then_some(now);
            flow.target = errand.target.clone();
            flow.request = Some(recorded(&errand.request, length.ok()));
            flow.replay_of = errand.replay_of;
            flow.imported = errand.imported.take();
        });
        let done = match length {
            Ok(length) => {
                let mut ticker = self.tickers().pop().unwrap_or_default();
                let done = self.exchange(&mut ticker, &live, &mut errand, length).await;
                self.tickers().push(ticker);
                done
            }
            Err(error) => Err(Error::bad_request(Stage::RequestHead, error.to_string())),
        };
        match done {
            Ok(()) => live.complete(),
            Err(error) => {
                tracing::debug!(error = %error, "a request of ours failed");
                error.record(&live);
            }
        }
        Sent { flow: Box::new(live.end()) }
    }

    /// Closes all connections. What is under way breaks off.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.origins.close();
        self.shared.pool.close();
        self.shared.carriers.close();
        // As at the end of a server.
        let _ = tokio::time::timeout(CARRIERS_TIME, self.shared.carriers.wait()).await;
    }

    fn tickers(&self) -> MutexGuard<'_, Vec<Ticker>> {
        self.tickers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(
        &self,
        ticker: &mut Ticker,
        live: &Live,
        errand: &mut Errand,
        length: BodyLength,
    ) -> Result<(), Error> {
        let Errand { request, target, dial, name, offers, payload, trailers, script, .. } = errand;
        let (target, dial, offers) = (take(target), take(dial), take(offers));
        let (payload, trailers, script) = (take(payload), take(trailers), take(script));
        let is_http2 = request.version == Version::Http2;
        let plan = Plan {
            route: Route { target, origin_form: request.target.clone(), authority: None },
            length,
            host: request.authority.clone().filter(|_| is_http2),
            max_forwards: None,
            own_answer: None,
            way: None,
            tunnel: false,
        };
        let prior_knowledge = offers.iter().all(|offer| offer[..] == *forward::HTTP2) && !offers.is_empty();
        let switch = match () {
            () if is_http2 && request.protocol.is_some() => Switch::Connect,
            () if !is_http2 && upgrade_tokens(request).is_some() => Switch::Upgrade,
            () => Switch::Never,
        };
        // What a proxy on the way forwards by itself, and what has to go through it unread.
        let plain = dial.scheme == Scheme::Http && switch == Switch::Never && !prior_knowledge;
        let passage = if plain { Passage::Forwarded } else { Passage::Tunnel };
        let name = if dial.scheme == Scheme::Https { take(name) } else { String::new() };
        let scope = Scope::Tunnel(Box::new(Tunneled {
            wanted: Wanted { key: Key { target: dial, name }, offers, prior_knowledge, passage },
            identity: None,
            broken: Mutex::default(),
            opened_by: None,
            first: Mutex::default(),
            reverse: None,
            by_address: false,
        }));
        let message = Message { request, length, client_keeps: true, switch };
        let gate = Arc::new(Gate::default());
        let waits = length != BodyLength::None && request.headers.has_token("expect", "100-continue");
        let framing = if is_http2 { Framing::Stream } else { length.into() };
        let from = match payload {
            Payload::Whole(bytes) => Bytestream::Whole(bytes),
            Payload::Pieces(pieces) => Bytestream::Pieces(pieces),
        };
        let mut from = OwnBody::new(from, trailers, length, framing, waits.then(|| Arc::clone(&gate)));
        let mut to = Unheard::new(gate);
        let mut cx = Context {
            ticker: &mut *ticker,
            shared: &self.shared,
            local: IpAddr::V4(Ipv4Addr::LOCALHOST),
            origins: &self.origins,
        };
        match forward::forward(&mut cx, &scope, live, &message, &plan, &mut from, &mut to).await? {
            // Where somebody answers in the place of origins there is no other end to play with; here nobody does.
            Forwarded::Answered(_) | Forwarded::SwitchedHere(_) => Ok(()),
            Forwarded::SwitchedHttp1(origin) => {
                let extensions = live.with(|flow| tunnel::websocket_extensions(flow));
                // On the heap, as what is rare: each request has a new future of this one.
                Box::pin(self.play_http1(ticker, live, script.zip(extensions), *origin)).await
            }
            Forwarded::SwitchedHttp2(reader, writer) => {
                let fields = live.with(|flow| flow.response.as_ref().map(|r| r.headers.clone()));
                let extensions = fields.map(|fields| Extensions::of(&fields));
                let stream = Duplex::new(reader, writer, "the origin");
                let (read, write) = tokio::io::split(stream);
                let far =
                    End { reader: &mut Reader::new(read, BytesMut::new()), writer: &mut Writer::new(write) };
                Box::pin(self.play(ticker, live, script.zip(extensions), far)).await
            }
        }
    }

    async fn play_http1(
        &self,
        ticker: &mut Ticker,
        live: &Live,
        part: Option<(Script, Extensions)>,
        mut origin: Origin,
    ) -> Result<(), Error> {
        let far = End { reader: &mut origin.reader, writer: &mut origin.writer };
        let played = self.play(ticker, live, part, far).await;
        if played.is_err() {
            origin.into_io().0.reset_on_drop();
        }
        played
    }

    /// Plays the client's part of a WebSocket, with the tunnel's own relay between it and the origin.
    async fn play<R, W>(
        &self,
        ticker: &mut Ticker,
        live: &Live,
        part: Option<(Script, Extensions)>,
        far: End<'_, R, W>,
    ) -> Result<(), Error>
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        let Some((Script(play), extensions)) = part else {
            let message = "the origin changed to a protocol that there is nothing to say in";
            return Err(Error::new(Kind::Ended, Side::Proxy, Stage::Tunnel, message));
        };
        let fields = live.with(|flow| flow.response.as_ref().map(|r| r.headers.clone())).unwrap_or_default();
        let (near, client) = tokio::io::duplex(PIPE);
        let (read, write) = tokio::io::split(near);
        let near = End { reader: &mut Reader::new(read, BytesMut::new()), writer: &mut Writer::new(write) };
        let mut relayed =
            pin!(tunnel::copy_both(ticker, &self.shared, live, near, far, What::WebSocket(extensions)));
        tokio::select! {
            relayed = &mut relayed => return relayed,
            () = play(client, fields) => {}
        }
        match tokio::time::timeout(FAREWELL_TIME, relayed).await {
            Ok(relayed) => relayed,
            // All was said, and an origin that does not hang up is not waited for.
            Err(_) => Ok(()),
        }
    }
}

/// How long an origin may take to end a WebSocket that we have ended.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// What may wait between a script and the relay.
const PIPE: usize = 64 * 1024;
