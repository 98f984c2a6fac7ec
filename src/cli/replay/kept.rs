//! What is kept of a reply until it can be told: a few numbers, where the answer is the recorded one.

use crate::flow::{Flow, FlowError, Mid};
use crate::replay::compare::{Comparison, Rules, compare_in_memory};
use crate::replay::send::{Refusal, Reply};

/// See the module.
pub(super) struct Kept {
    /// The flow that was to be sent again.
    pub(super) of: Mid,
    /// How it had ended.
    pub(super) was: Ended,
    /// How the new one has; `None` if none was sent.
    pub(super) is: Option<Ended>,
    /// Where the request went or was to go, if that is told.
    pub(super) url: Option<String>,
    /// Fields with credentials that went to another origin than recorded.
    pub(super) credentials: Vec<&'static str>,
    /// What the two answers came to, where that is known.
    pub(super) comparison: Option<Comparison>,
    /// All of it, where there is more to look at.
    pub(super) whole: Option<Box<Reply>>,
}

/// What a line tells of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Of the origin's final response.
    pub(super) status: Option<u16>,
    pub(super) duration_us: Option<u64>,
}

impl Ended {
    fn of(flow: &Flow) -> Self {
        let response = flow.response.as_ref().filter(|response| !response.by_proxy);
        Self { status: response.map(|response| response.status), duration_us: flow.timing.end_us }
    }
}

impl Kept {
    /// Does not block.
    pub(super) fn of(reply: Reply, rules: &Rules, with_url: bool) -> Self {
        let new = reply.outcome.as_ref().ok();
        let comparison = new
            .filter(|new| new.flow.error.is_none())
            .and_then(|new| compare_in_memory(&reply.source, &new.flow, rules));
        Self {
            of: reply.of,
            was: Ended::of(&reply.source),
            is: new.map(|new| Ended::of(&new.flow)),
            url: with_url.then(|| new.map_or_else(|| reply.source.url(), |new| new.flow.url())),
            credentials: new.map(|new| new.credentials.clone()).unwrap_or_default(),
            whole: comparison.is_none().then(|| Box::new(reply)),
            comparison,
        }
    }

    /// Why nothing was sent.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.whole.as_ref().and_then(|reply| reply.outcome.as_ref().err())
    }

    /// The two flows, where they were kept and the new one has ended well: their bodies are to be read.
    pub(super) fn uncompared(&self) -> Option<(&Flow, &Flow)> {
        let reply = self.whole.as_ref()?;
        let new = reply.outcome.as_ref().ok().filter(|new| new.flow.error.is_none())?;
        Some((&reply.source, &new.flow))
    }

    /// Why there is no whole answer, with the recorded flow and the new one.
    pub(super) fn failure(&self) -> Option<(&Flow, &Flow, &FlowError)> {
        let reply = self.whole.as_ref()?;
        let new = reply.outcome.as_ref().ok()?;
        Some((&reply.source, &new.flow, new.flow.error.as_ref()?))
    }
}
