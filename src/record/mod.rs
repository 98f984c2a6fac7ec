//! The recorder: takes flows while they live and when they end, and has them stored in groups.
//!
//! A flow is admitted ([`Recorder::admit`]), which reserves its place in the queue and its mid; its bodies go to
//! segment files as they pass ([`Ticket::body`]), the messages of a WebSocket are stored as they end
//! ([`Ticket::messages`]); at its end it is handed over ([`Ticket::finish`]). One task takes
//! everything that came in while the last commit ran, and commits it as one group on SQLite's own thread.
//!
//! Memory is bounded by places and bytes: when they are used up, `admit` and [`BodyWriter::write`] wait, so a slow disk
//! slows the traffic. A disk that *fails* does not: what it cannot take is counted as lost, loudly, and recording goes
//! on when it can.
//!
//! Invariant: nothing says that a mid is stored before the transaction that stored it has committed; and each ticket
//! that was finished is either stored or counted as lost.

mod choice;
mod driver;
mod guests;
mod options;
mod queue;
mod recorder;
mod rotating;
#[cfg(test)]
mod tests;
mod ticket;

pub use choice::Choice;
pub use options::RecorderOptions;
pub use recorder::{Committed, RecordError, Recorder, Stats};
pub use rotating::{Clock, Rotating};
pub use ticket::{BodyWriter, MessageWriter, Receipt, Ticket};

pub use crate::store::{BodySide, Durability, PageCache};
