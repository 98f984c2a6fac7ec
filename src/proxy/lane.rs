//! One direction of a WebSocket: its bytes go on untouched, between two messages a message of ours may be put, and where
//! rules concern it, each message is held until they have said what becomes of it. What is held when the direction breaks goes
//! on, and on record, as it came: what no rule has judged is not changed by having been held.
//!
//! Where rules concern a WebSocket it has no extensions (see [`crate::rules::Rules::request`]), so a message is its bytes.
//! Else the bytes are never changed: a message of ours stands between two others and is not compressed, so it touches
//! neither the frames nor the window of a compressor (RFC 7692 §6, §7.2.3.2).

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::sockets::{Errand, InjectError, WAITING};
use super::tunnel::Broken;
use crate::exchange::{Live, Mark, MessageTee};
use crate::flow::Opcode;
use crate::http1::{Reader, Writer};
use crate::rules::{End, Fate, Injection, Judged, MessageRules};
use crate::websocket::{Assembler, Piece, put_message};

/// See the module.
pub(super) struct Lane<'a> {
    pub(super) live: &'a Live,
    pub(super) last_us: &'a AtomicU64,
    pub(super) tee: MessageTee<'a>,
    /// The end that it comes from.
    pub(super) from: End,
    /// Messages of ours for the end that it goes to.
    pub(super) inbox: mpsc::Receiver<Errand>,
    /// Present where rules concern it.
    pub(super) judge: Option<Judge<'a>>,
}

/// What is needed to judge the messages of a direction.
pub(super) struct Judge<'a> {
    rules: &'a MessageRules,
    /// Messages of ours for the other end.
    other: mpsc::Sender<Errand>,
    assembler: Assembler,
    /// What was read and the assembler has not taken.
    input: Bytes,
    /// Something is being recorded: if it is never done, what would follow it on record would not be what followed.
    recording: bool,
    /// When the message under way began.
    since_us: u64,
    /// A close frame went by.
    closed: bool,
    /// It was told that a message was too long to be held.
    told_of_long: bool,
    /// It was told that the frames are not understood any more.
    told_of_broken: bool,
}

/// What comes next.
enum Next {
    Data,
    End,
    Errand(Errand),
}

impl<'a> Judge<'a> {
    pub(super) fn new(rules: &'a MessageRules, from: End, other: mpsc::Sender<Errand>) -> Self {
        let assembler = match from {
            End::Client => Assembler::of_client(MOST_HELD),
            End::Server => Assembler::of_server(MOST_HELD),
        };
        Self {
            rules,
            other,
            assembler,
            input: Bytes::new(),
            recording: false,
            since_us: 0,
            closed: false,
            told_of_long: false,
            told_of_broken: false,
        }
    }

    /// Says once that what comes is not judged, as it goes on all the same: the user may count on his rules.
    fn tell_of_unjudged(&mut self, mid: Option<u64>) {
        if self.assembler.is_silent() {
            if !std::mem::replace(&mut self.told_of_broken, true) {
                tracing::warn!(mid, "rules do not look at what follows a frame that breaks the protocol");
            }
        } else if !std::mem::replace(&mut self.told_of_long, true) {
            tracing::warn!(
                mid,
                "a message was not held for the rules: it has more than {} MiB, or too much is held already",
                MOST_HELD >> 20
            );
        }
    }
}

impl Lane<'_> {
    pub(super) async fn run<R, W>(
        mut self,
        reader: &mut Reader<R>,
        writer: &mut Writer<W>,
    ) -> Result<(), Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let broken = self.relay(reader, writer).await.err();
        // After a write that failed there is nobody to send it to; the drop of the lane records it.
        if !matches!(broken, Some(Broken::Write(_)))
            && let Some(judge) = &mut self.judge
            && let Some(rest) = judge.assembler.end()
        {
            let mark = Mark { at_us: Some(judge.since_us), ..Mark::default() };
            self.record(&rest, mark).await;
            writer.queue_data(&rest, false);
            let sent = self.flush(writer).await;
            // Where the reader failed first, that is what is told.
            if broken.is_none() {
                sent.map_err(Broken::Write)?;
            }
        }
        if let Some(broken) = broken {
            return Err(broken);
        }
        self.tee.end();
        // The peer may have closed both directions already.
        let _ = writer.shutdown().await;
        Ok(())
    }

    /// Passes on what comes, to its end.
    async fn relay<R, W>(&mut self, reader: &mut Reader<R>, writer: &mut Writer<W>) -> Result<(), Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let opening = self.judge.as_ref().map(|judge| judge.rules.opening()).unwrap_or_default();
        let from = self.from;
        for injection in opening.into_iter().filter(|injection| injection.to != from) {
            self.inject(errand(injection), writer).await.map_err(Broken::Write)?;
        }
        loop {
            if reader.buffer().is_empty() {
                match self.next(reader).await {
                    Ok(Next::Data) => {}
                    Ok(Next::End) => return Ok(()),
                    Ok(Next::Errand(errand)) => {
                        self.inject(errand, writer).await.map_err(Broken::Write)?;
                        continue;
                    }
                    // TLS that ends without close_notify ends all the same: what is inside has its own end.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(Broken::Read(error)),
                }
            }
            let data = reader.take_buffer().freeze();
            self.pass(data, writer).await.map_err(Broken::Write)?;
        }
    }

    async fn next<R: AsyncRead + Unpin>(&mut self, reader: &mut Reader<R>) -> io::Result<Next> {
        let may_inject = self.is_between() || self.is_over();
        poll_fn(|cx| {
            if let Poll::Ready(read) = reader.poll_fill(cx) {
                return Poll::Ready(read.map(|len| if len == 0 { Next::End } else { Next::Data }));
            }
            match may_inject.then(|| self.inbox.poll_recv(cx)) {
                Some(Poll::Ready(Some(errand))) => Poll::Ready(Ok(Next::Errand(errand))),
                // Nobody can send one any more.
                Some(Poll::Ready(None) | Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }

    /// Whether a message of ours may stand here.
    fn is_between(&self) -> bool {
        match &self.judge {
            Some(judge) => judge.assembler.is_between() && !judge.closed,
            None => self.tee.is_between(),
        }
    }

    /// Whether none ever will again.
    fn is_over(&self) -> bool {
        match &self.judge {
            Some(judge) => judge.closed || judge.assembler.is_silent(),
            None => self.tee.is_over(),
        }
    }

    async fn pass<W: AsyncWrite + Unpin>(
        &mut self,
        mut data: Bytes,
        writer: &mut Writer<W>,
    ) -> io::Result<()> {
        if let Some(judge) = &mut self.judge {
            judge.input = data;
            return Box::pin(self.judged(writer)).await;
        }
        if self.inbox.is_empty() {
            return self.send(&data, writer).await;
        }
        // The stream may never pause, so it is cut where a message ends.
        while !data.is_empty() {
            let mut rest = data.clone();
            self.tee.write_some(&mut rest).await;
            let passed = data.split_to(data.len() - rest.len());
            writer.queue_data(&passed, false);
            self.inject_waiting(writer).await?;
        }
        self.flush(writer).await
    }

    /// Sends the messages of ours that wait, if they may stand here. No more than may wait at once: whoever makes them without
    /// a pause must not stop the direction.
    async fn inject_waiting<W: AsyncWrite + Unpin>(&mut self, writer: &mut Writer<W>) -> io::Result<()> {
        for _ in 0..WAITING {
            if !self.is_between() && !self.is_over() {
                break;
            }
            let Ok(errand) = self.inbox.try_recv() else { break };
            self.inject(errand, writer).await?;
        }
        Ok(())
    }

    async fn send<W: AsyncWrite + Unpin>(&mut self, data: &Bytes, writer: &mut Writer<W>) -> io::Result<()> {
        self.set_recording(true);
        self.tee.write(data).await;
        self.set_recording(false);
        writer.queue_data(data, false);
        self.flush(writer).await
    }

    /// Records whole messages of either end, or of ours, or what there is of one.
    async fn record(&mut self, data: &Bytes, mark: Mark) {
        self.set_recording(true);
        self.tee.write_marked(data, mark).await;
        self.set_recording(false);
    }

    fn set_recording(&mut self, recording: bool) {
        if let Some(judge) = &mut self.judge {
            judge.recording = recording;
        }
    }

    async fn flush<W: AsyncWrite + Unpin>(&mut self, writer: &mut Writer<W>) -> io::Result<()> {
        writer.flush().await?;
        self.last_us.store(self.live.now_us(), Ordering::Relaxed);
        Ok(())
    }

    /// Lets rules look at each message of what was read.
    async fn judged<W: AsyncWrite + Unpin>(&mut self, writer: &mut Writer<W>) -> io::Result<()> {
        loop {
            let now = self.live.now_us();
            let Some(judge) = &mut self.judge else { return Ok(()) };
            if judge.assembler.is_between() {
                judge.since_us = now;
            }
            let Some(piece) = judge.assembler.next(&mut judge.input) else { break };
            match piece {
                Piece::Message { opcode, raw, payload, fragments } => {
                    let judged = judge.rules.judge(self.from, opcode, &payload);
                    // The end that it goes to may be slow.
                    drop(payload);
                    let mark = Mark { at_us: Some(judge.since_us), ..Mark::default() };
                    let in_fragments = fragments > 1;
                    self.carry_out(judged, (opcode, &raw, in_fragments), mark, writer).await?;
                }
                Piece::Control(opcode, raw) => {
                    judge.closed |= opcode == Opcode::Close;
                    self.send(&raw, writer).await?;
                }
                Piece::Other(raw) => {
                    judge.tell_of_unjudged(self.live.mid().map(|mid| mid.0));
                    self.send(&raw, writer).await?;
                }
            }
            // The stream may never pause.
            self.inject_waiting(writer).await?;
        }
        self.flush(writer).await
    }

    async fn carry_out<W: AsyncWrite + Unpin>(
        &mut self,
        judged: Judged,
        (opcode, raw, in_fragments): (Opcode, &Bytes, bool),
        mark: Mark,
        writer: &mut Writer<W>,
    ) -> io::Result<()> {
        match judged.fate {
            Fate::Pass => {
                self.record(raw, mark).await;
                writer.queue_data(raw, false);
            }
            Fate::Drop { rule } => {
                self.note(rule);
                self.record(raw, Mark { dropped: true, ..mark }).await;
            }
            Fate::Replace { text, rules } => {
                rules.into_iter().for_each(|rule| self.note(rule));
                self.record(raw, Mark { dropped: true, ..mark }).await;
                // Where its fragments would end now is nobody's to say.
                let fragment_len = if in_fragments { FRAGMENT } else { usize::MAX };
                self.say(opcode, &text, fragment_len, writer).await;
            }
        }
        self.flush(writer).await?;
        for injection in judged.injections {
            if injection.to == self.from {
                self.hand_over(errand(injection), writer).await?;
            } else {
                self.inject(errand(injection), writer).await?;
            }
        }
        Ok(())
    }

    /// Has the other direction send a message. That waits for room; meanwhile what is asked of this one is done, or two that
    /// wait for each other would wait for ever.
    async fn hand_over<W: AsyncWrite + Unpin>(
        &mut self,
        errand: Errand,
        writer: &mut Writer<W>,
    ) -> io::Result<()> {
        loop {
            let Some(judge) = &self.judge else { return Ok(()) };
            let asked = tokio::select! {
                biased;
                room = judge.other.reserve() => {
                    // A direction that has ended sends nothing more.
                    if let Ok(room) = room {
                        room.send(errand);
                    }
                    return Ok(());
                }
                Some(asked) = self.inbox.recv() => asked,
            };
            self.inject(asked, writer).await?;
        }
    }

    /// Sends a message of ours.
    async fn inject<W: AsyncWrite + Unpin>(
        &mut self,
        errand: Errand,
        writer: &mut Writer<W>,
    ) -> io::Result<()> {
        if self.is_over() {
            errand.tell(Err(InjectError::Closed));
            return Ok(());
        }
        self.say(errand.opcode, &errand.payload, usize::MAX, writer).await;
        self.flush(writer).await?;
        if let Some(rule) = errand.rule {
            self.note(rule);
        }
        errand.tell(Ok(()));
        Ok(())
    }

    /// Records and queues a message of ours, in the name of the end that this direction comes from.
    async fn say<W: AsyncWrite + Unpin>(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        fragment_len: usize,
        writer: &mut Writer<W>,
    ) {
        let random = SystemRandom::new();
        let mut key = || {
            let mut key = [0; 4];
            // It fails where the system has no randomness; then nothing is masked, which no origin takes amiss.
            let _ = random.fill(&mut key);
            key
        };
        let mut out = BytesMut::new();
        put_message(&mut out, opcode, payload, fragment_len, || (self.from == End::Client).then(&mut key));
        let out = out.freeze();
        self.record(&out, Mark { injected: true, ..Mark::default() }).await;
        writer.queue_data(&out, false);
    }

    fn note(&self, rule: usize) {
        if let Some(judge) = &self.judge {
            self.live.applied(judge.rules.text(rule));
        }
    }
}

impl Drop for Lane<'_> {
    /// Records what is held where the lane is given up: the time is over, the proxy stops, the other direction broke.
    fn drop(&mut self) {
        let Some(judge) = self.judge.as_mut().filter(|judge| !judge.recording) else { return };
        let mark = Mark { at_us: Some(judge.since_us), ..Mark::default() };
        let rest = [judge.assembler.end().unwrap_or_default(), std::mem::take(&mut judge.input)];
        for data in rest.iter().filter(|data| !data.is_empty()) {
            let write = pin!(self.tee.write_marked(data, mark));
            // If the recorder has no room for it at once, some of it is missing: it was cut off anyhow.
            if write.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                return;
            }
        }
    }
}

fn errand(injection: Injection) -> Errand {
    Errand { opcode: Opcode::Text, payload: injection.text, rule: Some(injection.rule), done: None }
}

/// Bytes of a message that are held for rules; a longer one goes on as it comes. Messages of pages are far smaller, and each
/// direction of a connection may hold so many.
const MOST_HELD: usize = 4 << 20;

/// Payload of a frame of a changed message that came in several: a page or so, as in mitmproxy.
const FRAGMENT: usize = 4000;
