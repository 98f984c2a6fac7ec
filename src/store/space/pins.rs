//! Flows whose pieces may lie in segments without a row that says so: they are under way, or wait for their commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::Mid;

/// The flows that are pinned. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<Mid, usize>>>);

/// Keeps the pieces of a flow from being taken for dead, until it is dropped. That must be after the flow's commit.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    mid: Mid,
}

impl Pins {
    /// Pins a flow. To be done before its first piece is appended.
    #[must_use]
    pub fn pin(&self, mid: Mid) -> Pin {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(mid).or_insert(0) += 1;
        Pin { pins: self.clone(), mid }
    }

    pub(super) fn contains(&self, mid: Mid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&mid)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pins.get_mut(&self.mid) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.mid);
            }
        }
    }
}
