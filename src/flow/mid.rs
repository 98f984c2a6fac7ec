//! The ticket of a flow.

/// The id of a flow in its store: `MID INTEGER PRIMARY KEY`, from 1 upwards, rising in the order in which requests
/// arrived, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mid(pub u64);

impl std::fmt::Display for Mid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
