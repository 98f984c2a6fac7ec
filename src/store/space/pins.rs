//! Flows whose pieces may lie in segments without a row that says so: they are under way, or wait for their commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delete::bodies;
use crate::flow::{Content, Flow, Mid};

/// The flows that are pinned, and news of bytes that no row will ever name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pinned: BTreeMap<Mid, usize>,
    /// Bytes by segment.
    dead: BTreeMap<u32, u64>,
}

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
        *self.lock().pinned.entry(mid).or_insert(0) += 1;
        Pin { pins: self.clone(), mid }
    }

    pub(super) fn contains(&self, mid: Mid) -> bool {
        self.lock().pinned.contains_key(&mid)
    }

    /// Tells that the bodies of a flow will not be stored after all.
    pub fn left_out(&self, flow: &Flow) {
        let mut flow = flow.clone();
        let mut state = self.lock();
        for body in bodies(&mut flow) {
            let Content::Extents(extents) = &body.content else { continue };
            for extent in extents {
                *state.dead.entry(extent.segment).or_default() += extent.stored_len;
            }
        }
    }

    /// What was told since the last call.
    pub(super) fn take_dead(&self) -> BTreeMap<u32, u64> {
        std::mem::take(&mut self.lock().dead)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        if let Some(count) = state.pinned.get_mut(&self.mid) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&self.mid);
            }
        }
    }
}
