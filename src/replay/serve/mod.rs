//! Server replay: requests answered from a store, in the place of their origins.
//!
//! [`StoreAnswers`] is an [`Answers`](crate::proxy::Answers) that a proxy asks ([`crate::app::Proxy::start_answering`]). When
//! it is opened, each flow that can answer is entered into an index by the sum of what its request must have in common with
//! one that it answers (`key`, `payload`; [`crate::store::AnswerIndex`]). A request then costs one look there and the
//! reading of one record; large bodies stream from the store (`recorded`), as do a WebSocket's messages (`talk`). What has
//! been given out is known by a bit a flow (`used`). Where nothing is found, `miss` says what came nearest.
//!
//! It deliberately does not touch the network: what is to go on to an origin is given back to the proxy.

mod answers;
mod desk;
mod faults;
mod index;
mod json;
mod kept;
mod key;
mod miss;
mod options;
mod payload;
mod queue;
mod recent;
mod recorded;
mod refresh;
mod talk;
mod used;

pub use answers::StoreAnswers;
pub use desk::Counts;
pub use faults::{Fault, Faults};
pub use index::Indexed;
pub use key::{Field, Match};
pub use options::{Latency, OnMiss, ServeOptions, ServeOrder};
