//! The threads on which requests are sent: a share of the workers each, with the connections that they have opened.
//!
//! On a runtime of several threads a task runs where there is time for it, and with it goes all that it needs for its next
//! request: its connection and the buffers of that. To fetch these from the other processor's cache costs as much as the work.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::proxy::Outbound;

/// They end soon after this is dropped, and what they ran ends with them.
#[derive(Debug)]
pub(super) struct Threads {
    /// At least one.
    each: Vec<(Handle, Outbound)>,
    turn: usize,
    _stop: DropGuard,
}

impl Threads {
    /// None: workers run where they are started, on a runtime that is there, and share all connections.
    pub(super) fn none(outbound: &Outbound) -> Self {
        let each = vec![(Handle::current(), outbound.clone())];
        Self { each, turn: 0, _stop: CancellationToken::new().drop_guard() }
    }

    /// Threads for so many workers: as many as there are processors, at most. Where the system does not give them, as
    /// [`Threads::none`].
    pub(super) fn start(outbound: &Outbound, workers: usize) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from).clamp(1, workers.max(1));
        let (most, blocking) = (workers.div_ceil(count), MOST_BLOCKING.div_ceil(count));
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let started = (0..count).map(|_| Ok((start(stop.clone(), blocking)?, outbound.for_thread(most))));
        match started.collect::<io::Result<_>>() {
            Ok(each) => Self { each, turn: 0, _stop: guard },
            Err(error) => {
                tracing::warn!(%error, "requests have no threads of their own to be sent on");
                Self::none(outbound)
            }
        }
    }

    /// Where the next worker goes.
    pub(super) fn next(&mut self) -> (&Handle, Outbound) {
        self.turn = (self.turn + 1) % self.each.len();
        let (handle, outbound) = &self.each[self.turn];
        (handle, outbound.clone())
    }
}

fn start(stop: CancellationToken, blocking: usize) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()?;
    let handle = runtime.handle().clone();
    let runtime = InBackground(Some(runtime));
    thread::Builder::new().name("replay".into()).spawn(move || {
        if let Some(runtime) = &runtime.0 {
            runtime.block_on(stop.cancelled());
        }
    })?;
    Ok(handle)
}

/// A runtime that may be dropped on another's thread too, as where its own could not be had: what blocks still in it, as the
/// lookup of a name, is not waited for.
struct InBackground(Option<Runtime>);

impl Drop for InBackground {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Threads that read bodies and look up names, of all together; as many as a runtime has by default.
const MOST_BLOCKING: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// As where a thread cannot be had for it: a runtime that is dropped as it is would panic here.
    #[tokio::test]
    async fn a_runtime_without_a_thread_is_dropped_on_another() {
        drop(InBackground(Some(Builder::new_current_thread().build().unwrap())));
    }
}
