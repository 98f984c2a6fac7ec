//! Giving space back: flows are deleted, segments are dropped or copied out, the database is made smaller.
//!
//! Deleting takes rows away (`delete`, and `oldest` for the many that a limit takes) and counts how many bytes of each segment died by it (`segment.dead`, a lower bound: what belongs
//! to flows that never ended is not in it). A segment that is mostly dead is walked piece by piece, what is still live in it is
//! appended to the current segment, and then its file goes. Freed pages of the database are used again by SQLite; its file
//! gets smaller when somebody asks for it ([`Vacuum`]). `auto_vacuum` is left off: rows are a tenth of a store, and its pointer
//! maps would be written with each insert.
//!
//! Invariants: a segment's file is unlinked only after the transaction by which nothing refers to it is on disk. Each flow's
//! pieces are its own: a walk finds the flows of a segment by the mids in its pieces. Bytes of a flow that is under way are
//! never taken for dead ([`Pins`]).

mod count;
pub(super) mod delete;
mod keep;
mod limits;
mod oldest;
mod pins;
mod prune;
mod reclaim;
mod relocate;
mod sweep;
mod unlink;
mod usage;
mod vacuum;

pub(super) use delete::take_out;
pub use delete::{Freed, Marked};
pub(super) use keep::Space;
pub(crate) use keep::Step;
pub use limits::Limits;
pub use pins::{Pin, Pins};
pub use prune::Pruner;
pub(super) use prune::options;
pub(super) use reclaim::finish_drops;
pub(super) use sweep::Swept;
pub use vacuum::{Estimate, Vacuum};
