//! How a recorder is opened.

use std::time::Duration;

use super::{Durability, PageCache};
use crate::filter::Filter;
use crate::store::Limits;

/// What a recorder may use, and what it promises.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// Flows that may be admitted and not yet committed.
    pub queue_places: usize,
    /// Bytes that may wait for the disk: half for bodies, half for finished flows.
    pub queue_bytes: usize,
    /// Bodies up to this many bytes are kept in the record, larger ones in segment files.
    pub inline_limit: usize,
    /// Bytes of each body that is recorded while it passes, `None` for all of them. A cap limits the record, never the
    /// traffic. [`Recorder::store`](super::Recorder::store) stores what it gets.
    pub body_limit: Option<u64>,
    /// How long a flow for which nobody waits may wait for others to go with. Fewer, larger groups cost less.
    pub linger: Duration,
    /// zstd's level for bodies outside of records that shrink by it; `None` to store them as they passed.
    pub compress: Option<i32>,
    /// What a commit promises.
    pub durability: Durability,
    /// Which flows are stored of those that pass, `None` for all; asked at their end. It must ask for nothing that
    /// [`Filter::unanswerable_at_end`] tells. [`Recorder::store`](super::Recorder::store) stores what it gets.
    pub filter: Option<Filter>,
    /// A name for this session, as people gave it.
    pub label: String,
    /// Where the proxy listens.
    pub listen: String,
    /// What the store may hold.
    pub limits: Limits,
    /// What becomes of the system's copy of bodies that were written.
    pub cache: PageCache,
}

impl RecorderOptions {
    /// For flows that come as fast as they can be stored, and that nobody looks at yet: an import. `label` names the session.
    #[must_use]
    pub fn bulk(label: impl Into<String>) -> Self {
        Self { label: label.into(), cache: PageCache::GiveBack, ..Self::default() }
    }
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            queue_places: 16_384,
            queue_bytes: 16 << 20,
            inline_limit: 2048,
            body_limit: None,
            compress: None,
            linger: Duration::from_millis(30),
            durability: Durability::Full,
            filter: None,
            label: String::new(),
            listen: String::new(),
            limits: Limits::default(),
            cache: PageCache::default(),
        }
    }
}
