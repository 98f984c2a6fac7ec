//! Messages of a WebSocket that wait for the flow's start, which stands behind them in the file.

use std::io;

use super::number;
use crate::flow::{Content, Message, WebSocket};
use crate::format::transfer::Sink;

/// Messages that were read, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Rows {
    waiting: Vec<(Message, i64)>,
    waiting_bytes: usize,
    /// What times are told from, in nanoseconds since 1970: the first message's time, where more came than can wait.
    pub(super) base: Option<i64>,
    seq: u64,
    /// Counts and lengths of both directions.
    pub(super) sums: WebSocket,
}

impl Rows {
    /// Takes a message that came at `seconds` since 1970.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub(super) fn push(&mut self, mut message: Message, seconds: f64, sink: &mut dyn Sink) -> io::Result<()> {
        self.seq += 1;
        message.seq = self.seq;
        let sums = &mut self.sums;
        let (count, len) = match message.from_client {
            true => (&mut sums.messages_from_client, &mut sums.len_from_client),
            false => (&mut sums.messages_from_server, &mut sums.len_from_server),
        };
        *count += 1;
        *len = len.saturating_add(message.len);
        let at = number::nanoseconds(seconds);
        if let Some(base) = self.base {
            return hand_over(message, at, base, sink);
        }
        if let Content::Inline(bytes) = &message.content {
            self.waiting_bytes += bytes.len();
        }
        self.waiting_bytes += size_of::<(Message, i64)>();
        self.waiting.push((message, at));
        if self.waiting_bytes > MAX_WAITING {
            // The handshake is told as late as the first message, rather than every message early.
            let base = self.waiting.first().map_or(at, |(_, at)| *at);
            self.base = Some(base);
            self.finish(base, sink)?;
        }
        Ok(())
    }

    /// Hands over those that wait.
    ///
    /// # Errors
    /// If they cannot be stored.
    pub(super) fn finish(&mut self, started_unix_ns: i64, sink: &mut dyn Sink) -> io::Result<()> {
        self.waiting.drain(..).try_for_each(|(message, at)| hand_over(message, at, started_unix_ns, sink))
    }
}

fn hand_over(mut message: Message, at: i64, base: i64, sink: &mut dyn Sink) -> io::Result<()> {
    message.at_us = after_us(base, at);
    sink.message(&message)
}

/// Microseconds from `base` to `at`, both in nanoseconds; 0 if it came before.
pub(super) fn after_us(base: i64, at: i64) -> u64 {
    let ns = u64::try_from(at.saturating_sub(base)).unwrap_or(0);
    // Rounded: a float of seconds is some hundred nanoseconds off.
    ns.saturating_add(500) / 1000
}

/// What messages may take while they wait.
const MAX_WAITING: usize = 8 << 20;
