//! The origin's part in a recorded WebSocket: its messages in their order, each when the client has said as much as it had
//! said before.
//!
//! Pings are answered and a close is echoed as the client sends them, whatever the record has (RFC 6455 §5.5); recorded pongs
//! are left out. What the client says is counted, not compared.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Latency;
use super::desk::Desk;
use super::recorded::pieces;
use crate::flow::{BodyEnd, Content, Message, MessageCoding, Mid, Opcode};
use crate::proxy::Talk;
use crate::websocket::{Event, Extensions, Tap, unmasked_head};

/// Speaks for the origin of a WebSocket; where that `broke_off`, so does this, after the last message.
pub(super) fn talk(desk: Arc<Desk>, mid: Mid, latency: Latency, broke_off: bool) -> Talk {
    Box::new(move |stream| {
        Box::pin(async move {
            let (read, write) = tokio::io::split(stream);
            let (heard_in, heard) = watch::channel(Heard::default());
            let (replies_in, replies) = mpsc::channel(REPLIES);
            let speaker =
                Speaker { desk, mid, latency, broke_off, write, heard, replies, closed: false, anchor: None };
            let listen = async {
                listen(read, heard_in, replies_in).await;
                std::future::pending().await
            };
            tokio::select! {
                () = speaker.run() => {}
                () = listen => {}
            }
        })
    })
}

/// What the client has said.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// Messages that came to their end.
    messages: u64,
    /// It has closed, or is gone.
    over: bool,
}

/// A control frame that is due.
#[derive(Debug)]
struct Due(Opcode, Bytes);

/// Hears the client to its end.
async fn listen(mut read: ReadHalf<DuplexStream>, heard: watch::Sender<Heard>, replies: mpsc::Sender<Due>) {
    let mut tap = Tap::of_client(Extensions::default());
    let mut buffer = BytesMut::new();
    let last = 'hearing: loop {
        buffer.reserve(READ);
        if read.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            break None;
        }
        let mut data = buffer.split().freeze();
        loop {
            let reply = match tap.next(&mut data) {
                Ok(None) => break,
                Ok(Some(Event::Ended(_))) => {
                    heard.send_modify(|heard| heard.messages += 1);
                    continue;
                }
                Ok(Some(Event::Control { opcode: Opcode::Ping, payload })) => Due(Opcode::Pong, payload),
                Ok(Some(Event::Control { opcode: Opcode::Close, mut payload })) => {
                    // The code comes back, the reason need not (RFC 6455 §5.5.1).
                    payload.truncate(2);
                    break 'hearing Some(Due(Opcode::Close, payload));
                }
                Ok(Some(_)) => continue,
                Err(_) => break 'hearing Some(Due(Opcode::Close, Bytes::from_static(&PROTOCOL_ERROR))),
            };
            if replies.send(reply).await.is_err() {
                break 'hearing None;
            }
        }
    };
    if let Some(last) = last {
        // Whoever would send it may have ended.
        let _ = replies.send(last).await;
    }
    heard.send_modify(|heard| heard.over = true);
}

struct Speaker {
    desk: Arc<Desk>,
    mid: Mid,
    latency: Latency,
    broke_off: bool,
    write: WriteHalf<DuplexStream>,
    heard: watch::Receiver<Heard>,
    replies: mpsc::Receiver<Due>,
    /// A close frame was sent.
    closed: bool,
    /// When the last message of the record passed, here and there.
    anchor: Option<(Instant, u64)>,
}

/// Why there is nothing more to be said.
enum Stop {
    /// The client has closed, or is gone.
    Over,
    /// The stream is to break off.
    Broken,
}

impl Speaker {
    async fn run(mut self) {
        let stop = match self.say_all().await {
            Ok(Ok(())) if self.broke_off => Stop::Broken,
            Ok(Ok(())) | Ok(Err(Stop::Over)) => Stop::Over,
            Ok(Err(Stop::Broken)) | Err(_) => Stop::Broken,
        };
        if let Stop::Over = stop {
            // The rest is the client's: until it closes, it is answered.
            while let Some(due) = self.replies.recv().await {
                if self.reply(due).await.is_err() {
                    break;
                }
            }
            // It may be gone.
            let _ = self.write.shutdown().await;
        }
    }

    async fn say_all(&mut self) -> io::Result<Result<(), Stop>> {
        let (mut after, mut said) = (0, 0);
        loop {
            let mid = self.mid;
            let page = self.desk.with_reader(move |_, reader| reader.messages(mid, after, PAGE)).await?;
            let page = page.map_err(io::Error::other)?;
            let Some(last) = page.last() else { return Ok(Ok(())) };
            after = last.seq;
            // As the client saw it: what it said, and what reached it.
            let seen = |m: &Message| if m.from_client { !m.injected } else { !m.dropped };
            for message in page.into_iter().filter(seen) {
                if message.from_client {
                    said += u64::from(message.opcode.is_data());
                    let wait_for = if message.opcode == Opcode::Close { u64::MAX } else { said };
                    if message.opcode.is_data() || message.opcode == Opcode::Close {
                        if let Err(stop) = self.wait_for(wait_for).await? {
                            return Ok(Err(stop));
                        }
                        self.anchor = Some((Instant::now(), message.at_us));
                    }
                } else if message.opcode != Opcode::Pong {
                    self.wait_until(&message).await?;
                    if let Err(stop) = self.say(&message).await? {
                        return Ok(Err(stop));
                    }
                }
            }
        }
    }

    /// Waits until the client has said so many messages, and answers its pings meanwhile.
    async fn wait_for(&mut self, messages: u64) -> io::Result<Result<(), Stop>> {
        loop {
            let heard = *self.heard.borrow_and_update();
            if heard.messages >= messages {
                return Ok(Ok(()));
            }
            if heard.over {
                return Ok(Err(Stop::Over));
            }
            tokio::select! {
                Some(due) = self.replies.recv() => self.reply(due).await?,
                changed = self.heard.changed() => if changed.is_err() {
                    return Ok(Err(Stop::Over));
                },
            }
        }
    }

    /// Waits until a message is due.
    async fn wait_until(&mut self, message: &Message) -> io::Result<()> {
        if self.latency == Latency::Recorded {
            let (since, at_us) = self.anchor.unwrap_or((Instant::now(), message.at_us));
            let due = since + Duration::from_micros(message.at_us.saturating_sub(at_us));
            loop {
                tokio::select! {
                    () = sleep_until(due) => break,
                    Some(due) = self.replies.recv() => self.reply(due).await?,
                }
            }
            self.anchor = Some((Instant::now(), message.at_us));
        }
        while let Ok(due) = self.replies.try_recv() {
            self.reply(due).await?;
        }
        Ok(())
    }

    async fn say(&mut self, message: &Message) -> io::Result<Result<(), Stop>> {
        if self.closed {
            return Ok(Err(Stop::Over));
        }
        if message.coding == MessageCoding::Unknown {
            tracing::warn!(mid = %self.mid, message = message.seq, "a message in an unknown extension cannot be sent");
            return Ok(Err(Stop::Broken));
        }
        self.write.write_all(&unmasked_head(message.opcode, message.len)).await?;
        match &message.content {
            Content::Absent => {}
            Content::Inline(bytes) => self.write.write_all(bytes).await?,
            Content::Extents(_) => {
                let content = message.content.clone();
                let body = self.desk.with_reader(move |_, reader| reader.content(&content)).await?;
                let mut body = pieces(body.map_err(io::Error::other)?);
                while let Some(piece) = body.next().await {
                    self.write.write_all(&piece?).await?;
                }
            }
        }
        self.write.flush().await?;
        self.closed |= message.opcode == Opcode::Close;
        let recorded = match &message.content {
            Content::Absent => 0,
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Extents(extents) => {
                extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.len))
            }
        };
        let whole = message.end == BodyEnd::Whole && recorded == message.len;
        Ok(if whole { Ok(()) } else { Err(Stop::Broken) })
    }

    async fn reply(&mut self, Due(opcode, payload): Due) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.closed = opcode == Opcode::Close;
        self.write.write_all(&unmasked_head(opcode, payload.len() as u64)).await?;
        self.write.write_all(&payload).await?;
        self.write.flush().await
    }
}

/// Close code 1002 (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: [u8; 2] = 1002_u16.to_be_bytes();

/// Answers that may wait for their turn; a client that sends more pings waits.
const REPLIES: usize = 16;

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// Messages in memory at a time.
const PAGE: usize = 64;
