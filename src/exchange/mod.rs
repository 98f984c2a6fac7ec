//! A flow while it is alive.
//!
//! [`Live`] is the only place where a [`crate::flow::Flow`] is built. However its exchange ends (an answer, an early
//! return, a cancelled task, a panic), dropping it closes the flow and hands it to the recorder, exactly once.

mod live;
mod messages;
mod tee;
mod ticker;

pub use live::Live;
pub use messages::{Mark, MessageTee, Messages};
pub use tee::Tee;
pub use ticker::{Elapsed, Ticker};
