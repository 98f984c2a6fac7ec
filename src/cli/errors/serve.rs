//! What `manent serve` can fail with by itself, and how it is told.

use super::report::Report;
use super::{NO, USAGE};
use crate::cli::text;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ServeError {
    /// No flow in the store can answer a request.
    #[error("nothing to serve: no flow here holds an answer")]
    NothingToServe { seen: u64, truncated: u64 },
    /// What is served cannot be recorded into as well.
    #[error("{path} is the store that is served")]
    RecordsItself { path: String },
}

/// The message for the user.
pub(super) fn told(error: &ServeError) -> Report {
    match error {
        ServeError::NothingToServe { seen, truncated } => {
            let looked = format!("{} were looked at.", text::count(*seen, "flow"));
            let report = Report::new("E502", NO, error.to_string()).fact(looked);
            match truncated {
                0 => report.hint("manent ls FILTER   shows what matches"),
                _ => report
                    .fact(format!("{truncated} of them are not whole on record."))
                    .hint("manent serve --allow-truncated   breaks off where they do"),
            }
        }
        ServeError::RecordsItself { .. } => Report::new("E503", USAGE, error.to_string())
            .hint("manent serve --record other.db     or add to it what is missed: --on-miss record"),
    }
}
