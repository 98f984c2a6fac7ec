//! The store: flows by mid in one SQLite file, large bodies in segment files beside it.
//!
//! `manent store pack` makes one file of all this ([`pack`]), in which the segment is a table.
//!
//! `flow` holds what lists and filters ask for, `conn` the facts of a connection once, `message` the messages of WebSockets,
//! written as they pass. Bodies above the inline limit are appended, as they pass, to `<db>-bodies/000001.seg` and
//! following, and so are, a group at a time, the records, the protobuf of each flow: a row says where its record lies, a
//! record names the extents of its bodies. There is one writer (held apart by a lock file), and any number of readers (SQLite's WAL).
//!
//! Invariant: a group's segments are synced to disk **before** its transaction commits, never the other way round, so
//! that a row that survives a power cut finds its bodies.

mod answers;
mod body;
mod check;
mod checkpoint;
mod db_file;
mod draft;
mod error;
mod flows;
mod follow;
mod gaps;
mod group;
mod index;
mod info;
mod lock;
mod message;
mod name;
mod note;
mod pack;
mod paths;
mod reader;
mod record;
mod recover;
mod row;
mod schema;
mod search;
mod segment;
mod session;
mod source;
mod space;
mod stats;
#[cfg(test)]
mod tests;
mod texts;
mod top;
mod writer;
mod zone;

pub use crate::flow::Note;
pub use answers::{AnswerAt, AnswerEntry, AnswerIndex};
pub use body::BodyReader;
pub use check::{Checked, Damage};
pub use draft::Draft;
pub use error::StoreError;
pub use flows::Stored;
pub use follow::Follower;
pub use group::{Group, Outcome};
pub use index::{BodyIndexer, IndexProgress, IndexState, Indexing};
pub use info::{StoreInfo, upgrade};
pub use name::NameFormat;
pub use note::{Annotator, BadNote, Change};
pub use pack::{CopyProgress, CopyWatch, PackOptions, Packed, pack, unpack};
pub use reader::Reader;
pub use row::{ListQuery, Order, Row};
pub use search::{Explanation, MAX_BODY, Progress, Search, explain};
pub use segment::{BodySide, PageCache, Room, Segments};
pub use session::{Session, SessionCounts};
pub(crate) use space::Step;
pub use space::{Estimate, Freed, Limits, Marked, Pin, Pins, Pruner, Vacuum};
pub use stats::{Files, Stats, TopList};
pub use top::Tally;
pub(crate) use writer::Keeper;
pub use writer::{Durability, Writer, WriterOptions};
pub use zone::{Block, Blocks, Hits, HostSet, Measure, Property, UrlPattern, Urls, Zone};
