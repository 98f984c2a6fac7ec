//! What a store may hold, and how much of what it holds is too much.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::row::sqlite_int;
use super::usage::Usage;

/// What a store may hold. Flows beyond it are deleted, those with the lowest mids first; flows that are marked or under way
/// stay, and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Flows that began longer ago go.
    pub max_age: Option<Duration>,
    /// Bytes of database, WAL and segments. An eighth of it is kept free for what is dead and not reclaimed yet.
    pub max_size_bytes: Option<u64>,
    /// Flows.
    pub max_flows: Option<u64>,
}

/// What of a store is beyond its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Excess {
    /// Flows.
    pub(super) flows: u64,
    /// Bytes of flows.
    pub(super) bytes: u64,
    /// Flows that began before are too old: nanoseconds since 1970.
    pub(super) cutoff: Option<i64>,
}

impl Limits {
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Segments of this size are small enough that the dead parts of two, the oldest and the one before it, do not count.
    pub(super) fn roll_bytes(&self) -> Option<u64> {
        self.max_size_bytes.map(|max| (max / 16).max(LEAST_SEGMENT))
    }

    /// Bytes that may be live.
    fn live_bytes(&self) -> Option<u64> {
        self.max_size_bytes.map(|max| max - max / 8)
    }

    /// Whether the files are larger than they may be.
    pub(super) fn are_files_over(&self, usage: &Usage) -> bool {
        self.max_size_bytes.is_some_and(|max| usage.bytes > max)
    }

    /// What is too much of so many flows that take so many bytes.
    pub(super) fn excess(&self, flows: u64, usage: &Usage) -> Excess {
        Excess {
            flows: self.max_flows.map_or(0, |max| flows.saturating_sub(max)),
            bytes: self.live_bytes().map_or(0, |max| usage.live().saturating_sub(max)),
            cutoff: self.max_age.map(|age| sqlite_int(unix_ns().saturating_sub(nanos(age)))),
        }
    }

    /// How many of a thousand parts of a limit there are beyond it, of the limit that is exceeded most. `oldest` is the start
    /// of the oldest flow, if that is known.
    pub(super) fn over_per_mille(&self, flows: u64, usage: &Usage, oldest: Option<i64>) -> u64 {
        let over = |is: u64, max: u64| is.saturating_sub(max).saturating_mul(1000) / max.max(1);
        let age = |max: Duration| {
            let oldest = oldest.map_or(u64::MAX, i64::cast_unsigned);
            over(unix_ns().saturating_sub(oldest), nanos(max))
        };
        let flows = self.max_flows.map_or(0, |max| over(flows, max));
        let bytes = self.max_size_bytes.map_or(0, |max| over(usage.bytes, max));
        flows.max(bytes).max(self.max_age.map_or(0, age))
    }
}

impl Excess {
    /// Whether nothing can be too much.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a flow goes that began then, where so much is gone already.
    pub(super) fn takes(&self, started_unix_ns: i64, flows: u64, bytes: u64) -> bool {
        flows < self.flows || bytes < self.bytes || self.cutoff.is_some_and(|cutoff| started_unix_ns < cutoff)
    }
}

fn unix_ns() -> u64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Smaller files would be many.
const LEAST_SEGMENT: u64 = 1 << 20;
