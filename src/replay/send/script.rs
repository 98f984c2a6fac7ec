//! The client's part in a WebSocket that is opened again: its messages in their order, masked afresh, compressed as the
//! origin now agrees to; the origin's pings are answered, and its close is echoed.
//!
//! Without times, a message waits until the origin has sent as much as it had before it in the record, for what a client
//! says is often an answer. It does not wait for ever: an origin that has less to say must not hold up the rest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::cue::{Begin, Cue};
use super::pace::seconds;
use crate::flow::{Headers, Opcode};
use crate::websocket::{Deflater, Event, Extensions, FrameWriter, Tap};

/// What has come from the origin.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    messages: u64,
    /// It has begun to close, or is gone.
    closing: bool,
    gone: bool,
}

/// Plays the part until it is over. `speed` is how many times as fast as recorded; `None` does not look at the times.
pub(super) async fn play(
    stream: DuplexStream,
    answer: Headers,
    mut cues: mpsc::Receiver<Cue>,
    speed: Option<f64>,
) {
    let extensions = Extensions::of(&answer);
    let (read, write) = tokio::io::split(stream);
    let (heard_sender, heard) = watch::channel(Heard::default());
    // An end need not answer each ping of a flood.
    let (reflex_sender, reflexes) = mpsc::channel(REFLEXES);
    let ears = listen(read, extensions, heard_sender, reflex_sender);
    let mut mouth = Mouth {
        stream: write,
        out: BytesMut::new(),
        writer: FrameWriter::default(),
        deflater: extensions.deflate.and_then(Deflater::new),
        random: SystemRandom::new(),
        heard,
        reflexes,
        has_closed: false,
        began: Instant::now(),
        speed,
    };
    tokio::select! {
        () = ears => {}
        // Broken pipes end it; the relay knows why.
        _ = mouth.speak(&mut cues) => {}
    }
}

/// Follows what the origin says, to the end of its direction.
async fn listen(
    mut stream: ReadHalf<DuplexStream>,
    extensions: Extensions,
    heard: watch::Sender<Heard>,
    reflexes: mpsc::Sender<(Opcode, Bytes)>,
) {
    let mut tap = Tap::of_server(extensions);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let read = stream.read_buf(&mut buffer).await;
        if !matches!(read, Ok(1..)) {
            heard.send_modify(|heard| (heard.closing, heard.gone) = (true, true));
            // The mouth ends it, when it has seen that.
            return std::future::pending().await;
        }
        let mut input = buffer.split().freeze();
        loop {
            match tap.next(&mut input) {
                Ok(Some(Event::Ended(_))) => heard.send_modify(|heard| heard.messages += 1),
                Ok(Some(Event::Control { opcode: Opcode::Ping, payload })) => {
                    let _ = reflexes.try_send((Opcode::Pong, payload));
                }
                Ok(Some(Event::Control { opcode: Opcode::Close, payload })) => {
                    let _ = reflexes.try_send((Opcode::Close, payload));
                    heard.send_modify(|heard| heard.closing = true);
                }
                Ok(Some(_)) => {}
                // After a violation nothing can be told but the end.
                Ok(None) | Err(_) => break,
            }
        }
    }
}

struct Mouth {
    stream: WriteHalf<DuplexStream>,
    out: BytesMut,
    writer: FrameWriter,
    deflater: Option<Deflater>,
    random: SystemRandom,
    heard: watch::Receiver<Heard>,
    reflexes: mpsc::Receiver<(Opcode, Bytes)>,
    has_closed: bool,
    began: Instant,
    speed: Option<f64>,
}

impl Mouth {
    async fn speak(&mut self, cues: &mut mpsc::Receiver<Cue>) -> std::io::Result<()> {
        while let Some(cue) = cues.recv().await {
            match cue {
                Cue::Begin(begin) => {
                    self.wait_for_turn(&begin).await?;
                    if self.heard.borrow().closing {
                        break;
                    }
                    self.say(begin, cues).await?;
                }
                Cue::Over { heard, closed_by_client } => {
                    return self.take_leave(heard, closed_by_client).await;
                }
                // Only behind a beginning.
                Cue::Payload(_) | Cue::End => {}
            }
        }
        // The origin closes early, or the store broke off.
        self.until(LEAVE_TIME, |heard| heard.closing).await?;
        self.close(&NORMAL).await?;
        self.until(LEAVE_TIME, |heard| heard.gone).await
    }

    async fn wait_for_turn(&mut self, begin: &Begin) -> std::io::Result<()> {
        match self.speed {
            Some(speed) => {
                let due = seconds(Duration::from_micros(begin.at_us).as_secs_f64() / speed.max(SLOWEST));
                self.until_instant(self.began + due, |heard| heard.closing).await
            }
            None => {
                let wanted = begin.heard;
                self.until(TURN_TIME, move |heard| heard.closing || heard.messages >= wanted).await
            }
        }
    }

    /// Waits until what was heard is enough, or the time is over; answers pings meanwhile.
    async fn until(
        &mut self,
        limit: Duration,
        enough: impl Fn(&Heard) -> bool + Send,
    ) -> std::io::Result<()> {
        self.until_instant(Instant::now() + limit, enough).await
    }

    async fn until_instant(
        &mut self,
        end: Instant,
        enough: impl Fn(&Heard) -> bool + Send,
    ) -> std::io::Result<()> {
        loop {
            let mut heard = self.heard.clone();
            tokio::select! {
                biased;
                reflex = self.reflexes.recv() => match reflex {
                    Some((Opcode::Close, payload)) => {
                        self.close(&payload).await?;
                    }
                    Some((opcode, payload)) => self.control(opcode, &payload).await?,
                    None => return Ok(()),
                },
                // The ears never end before the mouth.
                () = async { drop(heard.wait_for(&enough).await) } => {
                    return self.answer_what_is_there().await;
                }
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    async fn answer_what_is_there(&mut self) -> std::io::Result<()> {
        while let Ok((opcode, payload)) = self.reflexes.try_recv() {
            match opcode {
                Opcode::Close => self.close(&payload).await?,
                opcode => self.control(opcode, &payload).await?,
            }
        }
        Ok(())
    }

    /// Says one message, in as many frames as it was recorded in, as far as those can be had without keeping it.
    async fn say(&mut self, begin: Begin, cues: &mut mpsc::Receiver<Cue>) -> std::io::Result<()> {
        if begin.is_deflated && begin.opcode.is_data() && self.deflater.is_some() {
            return self.say_deflated(begin, cues).await;
        }
        self.has_closed |= begin.opcode == Opcode::Close;
        let frames = u64::from(begin.fragments.max(1)).min(begin.len.max(1));
        let mut number = 0;
        let mut left_in_frame = 0;
        let (share, rest) = (begin.len / frames, begin.len % frames);
        let mut data = Bytes::new();
        loop {
            if left_in_frame == 0 && number < frames {
                left_in_frame = share + u64::from(number < rest);
                let opcode = (number == 0).then_some(begin.opcode);
                number += 1;
                let key = self.key();
                self.writer.begin(&mut self.out, opcode, number == frames, false, left_in_frame, key);
                continue;
            }
            if data.is_empty() {
                match cues.recv().await {
                    Some(Cue::Payload(more)) => data = more,
                    Some(Cue::End) => return self.flush().await,
                    _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
                continue;
            }
            let now = data.split_to(usize::try_from(left_in_frame).unwrap_or(usize::MAX).min(data.len()));
            left_in_frame -= now.len() as u64;
            self.writer.payload(&mut self.out, &now);
            if self.out.len() >= WRITE {
                self.flush().await?;
            }
        }
    }

    /// The length of what is compressed is known at its end alone, so a long message goes in frames of what there is.
    async fn say_deflated(&mut self, begin: Begin, cues: &mut mpsc::Receiver<Cue>) -> std::io::Result<()> {
        let mut coded = BytesMut::new();
        let mut opcode = Some(begin.opcode);
        loop {
            let Some(deflater) = &mut self.deflater else { return Ok(()) };
            let is_last = match cues.recv().await {
                Some(Cue::Payload(data)) => {
                    deflater.push(&data, &mut coded);
                    false
                }
                Some(Cue::End) => {
                    deflater.end(&mut coded);
                    true
                }
                _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            };
            if is_last || coded.len() >= WRITE {
                let pieces = if is_last && opcode.is_some() { begin.fragments.max(1) } else { 1 };
                self.frames(&mut opcode, &coded.split(), pieces, is_last);
                self.flush().await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn frames(&mut self, opcode: &mut Option<Opcode>, coded: &[u8], count: u32, is_last: bool) {
        let count = usize::try_from(count).unwrap_or(1).min(coded.len().max(1));
        let (share, rest) = (coded.len() / count, coded.len() % count);
        let mut from = 0;
        for number in 0..count {
            let to = from + share + usize::from(number < rest);
            let (first, last) = (opcode.is_some(), is_last && number + 1 == count);
            let key = self.key();
            self.writer.begin(&mut self.out, opcode.take(), last, first, (to - from) as u64, key);
            self.writer.payload(&mut self.out, &coded[from..to]);
            from = to;
        }
    }

    async fn control(&mut self, opcode: Opcode, payload: &[u8]) -> std::io::Result<()> {
        if self.has_closed {
            return Ok(()); // nothing may follow a close frame (RFC 6455 §5.5.1)
        }
        let key = self.key();
        self.writer.begin(&mut self.out, Some(opcode), true, false, payload.len() as u64, key);
        self.writer.payload(&mut self.out, payload);
        self.flush().await
    }

    async fn close(&mut self, payload: &[u8]) -> std::io::Result<()> {
        self.control(Opcode::Close, payload).await?;
        self.has_closed = true;
        Ok(())
    }

    /// Ends as the recorded client did: it closed, it was told to, or it just went.
    async fn take_leave(&mut self, heard: u64, closed_by_client: Option<bool>) -> std::io::Result<()> {
        if !self.has_closed {
            self.until(LEAVE_TIME, move |now| now.closing || now.messages >= heard).await?;
        }
        if closed_by_client == Some(false) {
            self.until(LEAVE_TIME, |heard| heard.closing).await?;
        }
        if closed_by_client.is_some() || self.heard.borrow().closing {
            self.close(&NORMAL).await?;
            self.until(LEAVE_TIME, |heard| heard.gone).await?;
        }
        Ok(())
    }

    fn key(&self) -> [u8; 4] {
        let mut key = [0; 4];
        // It fails where the system has no randomness; then nothing is masked, which no origin takes amiss.
        let _ = self.random.fill(&mut key);
        key
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        let out = self.out.split();
        let written = timeout(STUCK_TIME, self.stream.write_all(&out)).await;
        written.map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}

/// Payload of a close frame that says 1000, normal closure (RFC 6455 §7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// How long the origin may take to say what it had said before the client's next message.
const TURN_TIME: Duration = Duration::from_secs(2);

/// How long each step of the farewell may take.
const LEAVE_TIME: Duration = Duration::from_secs(5);

/// How long an origin may leave unread what it is sent. The relay's own limit is longer.
const STUCK_TIME: Duration = Duration::from_secs(600);

/// Below this, a speed is none.
const SLOWEST: f64 = 1e-6;

/// Pings that may wait for their answers.
const REFLEXES: usize = 16;

const READ: usize = 16 * 1024;

/// Bytes that are sent at once.
const WRITE: usize = 32 * 1024;
