//! Client replay: recorded requests go out again, as their origins saw them the first time, and the answers are new flows.
//!
//! [`prepare`] makes a request of a record, with the user's changes; [`Run`] sends what its [`Feed`] is given, at a pace, and
//! tells of each answer once its flow is committed. On the wire it is the proxy's own relay that speaks
//! ([`crate::proxy::Outbound`]). Redirects are not followed; nothing is sent to listeners of ours.

mod cue;
mod desk;
mod edit;
mod feed;
mod pace;
mod prepare;
mod queue;
mod run;
mod script;
mod threads;

pub use edit::{BadEdit, Edits, NewBody, ToOrigin};
pub use feed::{Feed, FeedError};
pub use pace::Pace;
pub use prepare::{BodySource, Prepared, Refusal, prepare};
pub use run::{Answered, Reply, Run, SendOptions, Settled};
