//! What rules of the user's did to a flow.

/// A rule that acted on a flow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The rule as it was written, `block host:ads.test`. Of a field that was set only the name: its value may be a secret,
    /// and stands in [`super::Request::changed`].
    pub rule: String,
    /// When it first did: microseconds after the flow's start.
    pub at_us: u64,
    /// How often; more than once only for rules on messages.
    pub times: u64,
}
