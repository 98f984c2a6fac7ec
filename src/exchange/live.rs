//! The flow of an exchange that is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::flow::{
    Applied, Body, BodyEnd, ClientConn, Flow, FlowError, Framing, Kind, Mid, Request, ServerConn, Side,
    Stage, State, Timing,
};
use crate::record::{BodySide, BodyWriter, Rotating, Ticket};

use super::{Messages, Tee};

/// A flow that has not ended. Shared by the two directions of its exchange; each call locks for a few instructions.
#[derive(Debug)]
pub struct Live {
    started: Instant,
    inline_limit: usize,
    /// Bytes of each body that the record may keep.
    body_limit: u64,
    /// On the heap: it is large, and a flow at its beginning is handed on several times.
    inner: Box<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    flow: Flow,
    /// `None` where nothing is recorded.
    ticket: Option<Ticket>,
    written_open: bool,
    /// Nothing of it is to be stored.
    left_out: bool,
    /// The recorder has it.
    ended: bool,
}

impl Live {
    /// Admits a flow that began at `started`; waits while the recorder is full. Without a recorder the flow is built
    /// all the same, and dropped at its end.
    pub async fn begin(
        recorder: Option<&Rotating>,
        started: Instant,
        kind: Kind,
        client: Arc<ClientConn>,
    ) -> Self {
        let ticket = match recorder {
            Some(recorder) => Some(recorder.admit().await),
            None => None,
        };
        let timing = Timing { started_unix_ns: unix_ns(started), ..Timing::default() };
        let mid = ticket.as_ref().map(Ticket::mid);
        let flow = Flow { mid, kind, timing, ..Flow::of(client) };
        let inline_limit = recorder.map_or(0, Rotating::inline_limit);
        let body_limit = recorder.and_then(Rotating::body_limit).unwrap_or(u64::MAX);
        let inner =
            Box::new(Mutex::new(Inner { flow, ticket, written_open: false, left_out: false, ended: false }));
        Self { started, inline_limit, body_limit, inner }
    }

    /// Its mid, if it is recorded.
    pub fn mid(&self) -> Option<Mid> {
        self.lock().flow.mid
    }

    /// Microseconds since its first byte.
    pub fn now_us(&self) -> u64 {
        micros(self.started.elapsed())
    }

    /// Changes the flow.
    pub fn with<T>(&self, change: impl FnOnce(&mut Flow) -> T) -> T {
        change(&mut self.lock().flow)
    }

    /// Notes the moment now in one of the flow's timings, and gives it.
    pub fn mark(&self, moment: impl FnOnce(&mut Timing) -> &mut Option<u64>) -> u64 {
        let now = self.now_us();
        self.with(|flow| *moment(&mut flow.timing) = Some(now));
        now
    }

    /// Notes the connection to the origin.
    pub fn connected(&self, server: Arc<ServerConn>, reused: bool) {
        let now = self.now_us();
        self.with(|flow| {
            flow.timing.connected_us = Some(now);
            flow.server = Some(server);
            flow.server_reused = reused;
        });
    }

    /// Notes what ended the flow, unless something did before.
    pub fn fail(&self, state: State, side: Side, stage: Stage, message: impl Into<String>) {
        let at_us = self.now_us();
        self.with(|flow| {
            if flow.error.is_none() {
                flow.error = Some(FlowError { side, stage, message: message.into(), at_us });
            }
            if flow.state == State::Open {
                flow.state = state;
            }
        });
    }

    /// Notes that a rule acted.
    pub fn applied(&self, rule: &str) {
        let at_us = self.now_us();
        self.with(|flow| match flow.rules.iter_mut().find(|applied| applied.rule == rule) {
            Some(applied) => applied.times = applied.times.saturating_add(1),
            None => flow.rules.push(Applied { rule: rule.to_owned(), at_us, times: 1 }),
        });
    }

    /// Keeps the flow out of the record: it ends without a trace, and its mid is not used.
    pub fn leave_out(&self) {
        self.lock().left_out = true;
    }

    /// Notes that everything passed, unless something failed before.
    pub fn complete(&self) {
        self.with(|flow| {
            if flow.state == State::Open {
                flow.state = State::Complete;
            }
        });
    }

    /// Ends it, as dropping it does, and gives the flow as the recorder has got it.
    #[must_use]
    pub fn end(self) -> Flow {
        let end = self.now_us();
        let mut inner = self.lock();
        inner.end(end, self.body_limit);
        let nothing = Flow::of(Arc::clone(&inner.flow.client));
        std::mem::replace(&mut inner.flow, nothing)
    }

    /// A tap for one of its bodies. What the tap saw is in the flow when it is dropped.
    pub fn tee(&self, side: BodySide, framing: Framing) -> Tee<'_> {
        Tee::new(self, side, framing, self.inline_limit, self.body_limit)
    }

    /// Writes the flow as `open` if it has gone on for a second, and if the recorder's filter wants it as it is now; gives the
    /// time of the next call.
    pub fn tick(&self, now: Instant) -> Instant {
        let due = self.started + OPEN_AFTER;
        if now < due {
            return due;
        }
        self.write_open_if_wanted();
        now + Duration::from_secs(60)
    }

    fn write_open_if_wanted(&self) {
        let wanted = {
            let inner = self.lock();
            !inner.left_out && inner.ticket.as_ref().is_some_and(|ticket| ticket.is_wanted(&inner.flow))
        };
        if wanted {
            self.write_open();
        }
    }

    /// Writes the flow as `open`, unless that was done.
    fn write_open(&self) {
        let Inner { flow, ticket, written_open, left_out, .. } = &mut *self.lock();
        if !(*written_open || *left_out)
            && let Some(ticket) = ticket
        {
            ticket.write_open(flow);
            *written_open = true;
        }
    }

    /// Makes it a WebSocket, writes it as `open` at once, and gives the record of its messages.
    pub fn messages(&self) -> Messages<'_> {
        self.with(|flow| flow.websocket = Some(Box::default()));
        self.write_open();
        let writer = {
            let inner = self.lock();
            inner.ticket.as_ref().filter(|_| !inner.left_out).map(Ticket::messages)
        };
        Messages::new(self, writer, self.inline_limit, self.body_limit)
    }

    /// When [`Live::tick`] should be called first.
    pub fn first_tick(&self) -> Instant {
        self.started + OPEN_AFTER
    }

    /// When its first byte came.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// A writer for a body that is not kept in place; `None` where it is not to be recorded.
    pub(super) fn body_writer(&self, side: BodySide) -> Option<BodyWriter> {
        let inner = self.lock();
        // Of a flow that is not wanted, whatever comes, no body goes to the disk. Messages ask once and for all.
        let is_message = matches!(side, BodySide::MessageClient | BodySide::MessageServer);
        let ticket = inner.ticket.as_ref().filter(|ticket| is_message || ticket.may_be_wanted(&inner.flow));
        let writer = ticket.filter(|_| !inner.left_out)?.body(side);
        Some(if is_compressed(&inner.flow, side) { writer.compressed() } else { writer })
    }

    pub(super) fn records(&self) -> bool {
        self.lock().ticket.is_some()
    }

    pub(super) fn set_body(&self, side: BodySide, body: Body) {
        self.with(|flow| {
            let slot = match side {
                BodySide::Request => flow.request.as_mut().map(|request| &mut request.body),
                BodySide::Response => flow.response.as_mut().map(|response| &mut response.body),
                BodySide::TunnelClient => flow.tunnel.as_mut().map(|tunnel| &mut tunnel.from_client),
                BodySide::TunnelServer => flow.tunnel.as_mut().map(|tunnel| &mut tunnel.from_server),
                // Messages are rows of their own.
                BodySide::MessageClient | BodySide::MessageServer => None,
            };
            if let Some(slot) = slot {
                *slot = body;
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves a flow that is still whole enough to be recorded.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let end = self.now_us();
        self.lock().end(end, self.body_limit);
    }
}

impl Inner {
    /// Brings the flow to its end and hands it to the recorder, unless that was done.
    fn end(&mut self, end: u64, body_limit: u64) {
        if self.ended {
            return;
        }
        self.ended = true;
        let Inner { flow, ticket, left_out, .. } = self;
        if flow.state == State::Open {
            flow.state = State::Failed;
            flow.error.get_or_insert_with(|| FlowError {
                side: Side::Proxy,
                stage: Stage::Shutdown,
                message: "ended by the proxy before the exchange was over".into(),
                at_us: end,
            });
        }
        flow.timing.end_us = Some(end);
        // A body that nobody tapped, of a request that was answered before it was read, did not pass.
        if let Some(Request { body, .. }) = &mut flow.request
            && body.end == BodyEnd::Open
        {
            body.end = if body.framing == Framing::None { BodyEnd::Whole } else { BodyEnd::CutOff };
        }
        // Nor did what was to go through a tunnel that has led nowhere.
        if let Some(tunnel) = &mut flow.tunnel {
            for body in [&mut tunnel.from_client, &mut tunnel.from_server] {
                if body.end == BodyEnd::Open {
                    body.end = BodyEnd::CutOff;
                }
            }
        }
        // An answer of our own is no exception, though no tap saw it.
        if let Some(response) = &mut flow.response {
            response.body.cap(body_limit);
        }
        match ticket.take() {
            Some(ticket) if *left_out => ticket.leave_out(flow),
            Some(ticket) => ticket.finish(flow),
            None => {}
        }
    }
}

/// Whether a body is compressed already, by what its message says. Tunnels are as a rule: they carry TLS.
fn is_compressed(flow: &Flow, side: BodySide) -> bool {
    let headers = match side {
        BodySide::Request => flow.request.as_ref().map(|request| &request.headers),
        BodySide::Response => flow.response.as_ref().map(|response| &response.headers),
        BodySide::TunnelClient | BodySide::TunnelServer => return true,
        BodySide::MessageClient | BodySide::MessageServer => None,
    };
    let Some(headers) = headers else { return false };
    let is_coded =
        headers.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let media_type = headers.get("content-type").unwrap_or_default();
    let begins =
        |prefix: &[u8]| media_type.get(..prefix.len()).is_some_and(|t| t.eq_ignore_ascii_case(prefix));
    is_coded || (COMPRESSED.iter().any(|prefix| begins(prefix)) && !begins(b"image/svg"))
}

/// How media types of compressed data begin (IANA).
const COMPRESSED: [&[u8]; 7] = [
    b"image/",
    b"video/",
    b"audio/",
    b"font/woff",
    b"application/zip",
    b"application/gzip",
    b"application/zstd",
];

/// A flow that goes on for so long is written as `open`, so that a killed proxy leaves a trace of it.
const OPEN_AFTER: Duration = Duration::from_secs(1);

/// The wall-clock time of an instant of the monotonic clock, by the difference to now.
fn unix_ns(at: Instant) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(at.elapsed());
    i64::try_from(then.as_nanos()).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
