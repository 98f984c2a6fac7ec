//! Rules of the user's that act on what passes: requests are blocked, held or changed, messages of WebSockets are changed,
//! dropped or made.
//!
//! Sans-I/O: a [`Rules`] is asked about a flow and says what is to be done; the proxy does it, and the flow notes it
//! ([`crate::flow::Applied`]). One kind of rule a file, each with its own spelling.
//!
//! A filter is asked once, when a request's head has come, so it can be about no more than that; one that asks for more is
//! refused when the rules are read (see [`crate::filter::Filter::at_request`]). Bodies are not changed.

mod ahead;
mod block;
mod delay;
mod drop;
mod error;
mod header;
mod inject;
mod messages;
mod replace;
mod set;
mod spec;

#[cfg(test)]
mod tests;

pub use block::Block;
pub use error::{Problem, RuleError};
pub use messages::{End, Fate, Injection, Judged, MessageRules};
pub use set::{RuleKind, Rules, Verdict};
