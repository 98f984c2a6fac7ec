//! What can go wrong with trust stores, and how it is told.

use super::report::{Report, causes};
use super::{NOT_FOUND, TLS};
use crate::cli::text;
use crate::tls::CaError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum TrustError {
    /// A store was asked for by its kind, and there is none.
    #[error("there is no trust store of the kind {kind}: {why}")]
    NoStore { kind: &'static str, why: &'static str },
    /// There is none of any kind.
    #[error("no trust store was found")]
    NoStoreAtAll,
    /// A CA is to be replaced, and nobody says what the new one may sign for.
    #[error("what the CA in {path} is limited to cannot be told")]
    LimitsUnknown {
        path: String,
        #[source]
        source: CaError,
    },
    /// Some stores are not as they should be.
    #[error("not every store could be changed")]
    NotDone {
        /// How many, because a tool failed or is missing.
        failed: usize,
        /// The commands that need another right.
        not_allowed: Vec<String>,
    },
}

/// The message for the user.
pub(super) fn told(error: &TrustError) -> Report {
    match error {
        TrustError::NoStore { .. } => Report::new("E608", NOT_FOUND, error.to_string())
            .hint("manent ca export   writes the certificate, to be installed by hand"),
        TrustError::NoStoreAtAll => Report::new("E608", NOT_FOUND, error.to_string())
            .fact("Looked for: the system's, NSS databases in the home directory, Java.")
            .hint("manent ca export   writes the certificate, to be installed by hand"),
        TrustError::LimitsUnknown { .. } => Report::new("E601", TLS, causes(error))
            .fact("Nothing was changed. A new CA has the limits of the old one, unless others are given:")
            .hint("manent ca rotate --only DOMAIN|RANGE   signs for these alone")
            .hint("manent ca rotate --any-host            signs for any host"),
        TrustError::NotDone { failed, not_allowed } => {
            let mut report = Report::new("E609", TLS, error.to_string());
            if *failed > 0 {
                report =
                    report.fact(format!("{} failed, as told above.", text::count(*failed as u64, "store")));
            }
            if !not_allowed.is_empty() {
                report = report.fact("These commands have to be run by someone who may:");
            }
            not_allowed.iter().fold(report, |report, command| report.hint(command.clone()))
        }
    }
}
