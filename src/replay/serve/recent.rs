//! Small flows that answered last, where answers are given again and again: they need not be read anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::{Content, Flow};

/// By the keys of requests. Bounded: some 16 MiB at most.
#[derive(Debug, Default)]
pub(super) struct Recent {
    flows: Mutex<HashMap<[u8; 16], Arc<Flow>>>,
}

impl Recent {
    pub(super) fn get(&self, key: &[u8; 16]) -> Option<Arc<Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps a flow if it is small, and its answer all in its record.
    pub(super) fn keep(&self, key: [u8; 16], flow: &Arc<Flow>) {
        let small = flow.response.as_ref().is_some_and(|response| {
            let body = match &response.body.content {
                Content::Inline(bytes) => bytes.len(),
                Content::Absent => 0,
                Content::Extents(_) => return false,
            };
            let request = flow.request.as_ref().map_or(0, |request| request.headers.text_len());
            body + response.headers.text_len() + request <= MAX_BYTES
        });
        if !small || flow.websocket.is_some() {
            return;
        }
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        if flows.len() >= MAX_FLOWS {
            // All are as cheap to read again as any.
            flows.clear();
        }
        flows.insert(key, Arc::clone(flow));
    }
}

const MAX_FLOWS: usize = 1024;
const MAX_BYTES: usize = 16 << 10;
