//! What a server replay is told.

use std::time::Duration;

use super::{Faults, Match};

/// All settings of a server replay. The defaults are mitmproxy's, but for a miss: nothing goes on to the network unless that
/// was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeOptions {
    /// What a request must have in common with a recorded one.
    pub matching: Match,
    /// Whether an answer is given again and again, rather than once.
    pub reuse: bool,
    /// Which of several answers to one request comes first.
    pub order: ServeOrder,
    /// Whether dates in answers are moved by the time since they were recorded.
    pub refresh: bool,
    /// What becomes of a request to which no answer is left.
    pub on_miss: OnMiss,
    /// When answers come.
    pub latency: Latency,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// Whether answers are given whose bodies are not whole on record for reasons other than their origins': they break off
    /// where the record does. Without it they are left out.
    pub allow_truncated: bool,
}

/// The order of several answers to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServeOrder {
    /// As they were recorded.
    #[default]
    First,
    /// The newest first.
    Last,
    /// The one that was recorded at the time nearest to that of the request, each counted from its beginning: the first flow
    /// of the record, the first request of the replay. So a page that is asked for now and then changes as it did.
    Nearest,
}

/// What becomes of a request that finds no answer, or none that has not been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// It is answered with this status and a page that says what came nearest.
    Status(u16),
    /// Its connection is cut.
    Kill,
    /// It goes on to its origin.
    Forward,
    /// The same, and the flow that the proxy records of it answers from then on.
    Record,
}

/// When answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Latency {
    /// At once.
    #[default]
    None,
    /// As late as they were recorded: head, 1xx responses, body and messages.
    Recorded,
    /// So long after the request.
    Fixed(Duration),
}

impl OnMiss {
    /// Whether requests may go on to origins.
    #[must_use]
    pub fn forwards(self) -> bool {
        matches!(self, Self::Forward | Self::Record)
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            matching: Match::default(),
            reuse: false,
            order: ServeOrder::default(),
            refresh: true,
            on_miss: OnMiss::Status(404),
            latency: Latency::default(),
            faults: Faults::default(),
            allow_truncated: false,
        }
    }
}
