//! Out of a store: flows, one after the other, through an encoder.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::item::Few;
use crate::flow::Mid;
use crate::format::transfer::{EncodeError, Encoder};
use crate::store::{Reader, StoreError};

/// What of the flows is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// Bodies of more bytes than this are left out, as if a cap had kept them out of the record.
    pub max_body: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { max_body: u64::MAX }
    }
}

/// What was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Flows that were written.
    pub flows: u64,
    /// Flows that the format has no room for.
    pub unsuitable: u64,
    /// Flows that could not be read.
    pub damaged: u64,
    /// Flows that were written without messages of their WebSockets that could not be read.
    pub incomplete: u64,
}

/// What becomes of one flow.
#[derive(Debug)]
pub enum ExportEvent<'a> {
    /// It was written.
    Written(Mid),
    /// The format has no room for it.
    Unsuitable(Mid, &'a str),
    /// It is damaged, and nothing of it was written.
    Damaged(Mid, &'a StoreError),
    /// It was written without what is damaged of it.
    Incomplete(Mid, &'a str),
}

/// Why an export ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written, or a body not be read any more.
    #[error("flow {mid}: {source}")]
    Flow {
        /// The flow that was being written.
        mid: Mid,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes some flows of a store, in the order of `mids`. Those that were deleted meanwhile are passed over. The caller calls
/// [`Encoder::finish`] after the last of possibly several calls. `watch` is told of each flow and may stop it behind
/// any.
///
/// # Errors
/// If the store can no longer be read at all, or the output not be written. A damaged flow is told, and the next one written.
pub fn export(
    reader: &Reader,
    mids: &[Mid],
    options: ExportOptions,
    encoder: &mut dyn Encoder,
    out: &mut dyn Write,
    watch: &mut dyn FnMut(ExportEvent<'_>) -> ControlFlow<()>,
) -> Result<Exported, ExportError> {
    let mut done = Exported::default();
    for some in mids.chunks(Few::MOST) {
        let mut few = Few::read(reader, some, options.max_body);
        for &mid in some {
            let flow = match few.item(mid) {
                Ok(None) => continue,
                Ok(Some(item)) => match encoder.flow(&item, out) {
                    Ok(()) => {
                        done.flows += 1;
                        match item.what_is_lost() {
                            None => watch(ExportEvent::Written(mid)),
                            Some(what) => {
                                done.incomplete += 1;
                                watch(ExportEvent::Incomplete(mid, &what))
                            }
                        }
                    }
                    Err(EncodeError::Unsuitable(why)) => {
                        done.unsuitable += 1;
                        watch(ExportEvent::Unsuitable(mid, &why))
                    }
                    Err(EncodeError::Io(source)) => return Err(ExportError::Flow { mid, source }),
                },
                Err(error @ StoreError::Damaged { .. }) => {
                    done.damaged += 1;
                    watch(ExportEvent::Damaged(mid, &error))
                }
                Err(error) => return Err(error.into()),
            };
            if flow.is_break() {
                return Ok(done);
            }
        }
    }
    Ok(done)
}

impl std::ops::AddAssign for Exported {
    fn add_assign(&mut self, more: Self) {
        self.flows += more.flows;
        self.unsuitable += more.unsuitable;
        self.damaged += more.damaged;
        self.incomplete += more.incomplete;
    }
}
