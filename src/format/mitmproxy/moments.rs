//! Times: seconds since 1970 in a file, nanoseconds and microseconds after the start in a record.

use super::node::{Dict, Node};
use super::number;
use super::rows::after_us;
use crate::flow::Value;

/// Nanoseconds since 1970 of a time in a file; `None` where there is none.
pub(super) fn unix_ns(dict: &Dict, key: &str) -> Option<i64> {
    dict.number(key).map(number::nanoseconds)
}

/// Microseconds after `base` (nanoseconds since 1970) of a time in a file.
pub(super) fn us_after(base: i64, dict: &Dict, key: &str) -> Option<u64> {
    unix_ns(dict, key).map(|at| after_us(base, at))
}

/// A moment as it stands in a file: `us` after `base`.
pub(super) fn node(base: i64, us: u64) -> Node {
    let after = i64::try_from(us).unwrap_or(i64::MAX).saturating_mul(1000);
    Node::Value(Value::Float(number::seconds(base.saturating_add(after))))
}

/// As [`node`], null if there is none.
pub(super) fn maybe(base: i64, us: Option<u64>) -> Node {
    Node::or_null(us, |us| node(base, us))
}
