//! Requests that could not be sent again, and how it is told: the first of them, since the others are in the list above it.

use super::report::Report;
use crate::flow::{Flow, FlowError, Mid, Scheme, Target};

/// See the module.
#[derive(Debug, thiserror::Error)]
#[error("replay of {} failed: {}", .first.of, .first.why)]
pub(in crate::cli) struct ReplayFailed {
    pub(in crate::cli) first: Failed,
    /// How many were answered, and of how many.
    pub(in crate::cli) answered: (u64, u64),
    /// Whether it is the network's, or that of TLS.
    pub(in crate::cli) exit: u8,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Failed {
    of: Mid,
    why: String,
    /// Where it went, and where it had gone when it was recorded, if that is somewhere else.
    moved: Option<(String, String)>,
}

impl Failed {
    /// What became of flow `of`, which was recorded as `source`.
    pub(in crate::cli) fn new(of: Mid, source: &Flow, new: &Flow, error: &FlowError) -> Self {
        let origin = |target: &Target| match target.scheme {
            Scheme::Tcp => target.host_port(),
            scheme => format!("{}://{}", scheme.as_str(), target.authority()),
        };
        let moved = (new.target != source.target).then(|| (origin(&new.target), origin(&source.target)));
        Self { of, why: error.message.clone(), moved }
    }
}

/// The message for the user.
pub(super) fn told(error: &ReplayFailed) -> Report {
    let (answered, all) = error.answered;
    let report = Report::new("E501", error.exit, error.to_string());
    let moved = error.first.moved.as_ref();
    report
        .facts(moved.map(|(to, recorded)| format!("--to {to} replaced the recorded origin {recorded}")))
        .fact(format!("answered: {answered} of {all}"))
}
