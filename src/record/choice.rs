//! What of all that passes is recorded and kept, as it may be changed while recorders run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use crate::filter::Filter;
use crate::store::Limits;

/// The part of [`super::RecorderOptions`] that may be changed: see there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Which flows are stored of those that pass.
    pub filter: Option<Filter>,
    /// Bytes of each body that is recorded, of bodies that begin from now on.
    pub body_limit: Option<u64>,
    /// What the store may hold.
    pub limits: Limits,
}

/// The choice of now, of a recorder and those that follow it.
#[derive(Debug)]
pub(super) struct Current {
    filter: ArcSwapOption<Filter>,
    /// `u64::MAX` for all.
    body_limit: AtomicU64,
    limits: Mutex<Limits>,
}

impl Current {
    pub(super) fn new(choice: Choice) -> Self {
        let current = Self {
            filter: ArcSwapOption::default(),
            body_limit: AtomicU64::default(),
            limits: Mutex::default(),
        };
        current.change(choice);
        current
    }

    pub(super) fn change(&self, choice: Choice) {
        self.filter.store(choice.filter.map(Arc::new));
        self.body_limit.store(choice.body_limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = choice.limits;
    }

    pub(super) fn filter(&self) -> Guard<Option<Arc<Filter>>> {
        self.filter.load()
    }

    pub(super) fn body_limit(&self) -> Option<u64> {
        Some(self.body_limit.load(Ordering::Relaxed)).filter(|&limit| limit != u64::MAX)
    }

    pub(super) fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
