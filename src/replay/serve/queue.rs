//! Reading that waits for a thread where it may block.
//!
//! A thread takes all that waits, and does it on one state of the store: under load, requests then share the price of
//! waking it and of finding that state, which are more than that of a look-up. Another thread helps where much waits. What
//! waits is bounded by the requests that are under way, each of which waits for its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::Reader;

/// Something to be done with a reader, or with the reason why there is none.
pub(super) type Job = Box<dyn FnOnce(Result<&Reader, &str>) + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that are at work.
    threads: usize,
    /// Readers that no thread has.
    readers: Vec<Reader>,
}

impl Queue {
    pub(super) fn new(reader: Reader) -> Self {
        let queue = Self::default();
        queue.lock().readers.push(reader);
        queue
    }

    /// Adds a job. `true`: a thread has to be started that calls [`Queue::work`].
    pub(super) fn push(&self, job: Job) -> bool {
        let mut waiting = self.lock();
        waiting.jobs.push_back(job);
        let starts = waiting.threads == 0 || (waiting.jobs.len() > BATCH && waiting.threads < MAX_THREADS);
        waiting.threads += usize::from(starts);
        starts
    }

    /// Works until nothing waits. `open` makes a reader if all are at work; `together` says whether what waits is done on one
    /// state of the store.
    pub(super) fn work(&self, open: impl FnOnce() -> Result<Reader, String>, together: bool) {
        let at_hand = self.lock().readers.pop();
        let reader = at_hand.map_or_else(open, Ok);
        loop {
            let jobs: Vec<Job> = {
                let mut waiting = self.lock();
                let count = waiting.jobs.len().min(BATCH);
                if count == 0 {
                    waiting.threads -= 1;
                    waiting.readers.extend(reader);
                    return;
                }
                waiting.jobs.drain(..count).collect()
            };
            let all = |reader: Result<&Reader, &str>| {
                for job in jobs {
                    // Whoever waits for one that panics sees that nothing comes.
                    if catch_unwind(AssertUnwindSafe(|| job(reader))).is_err() {
                        tracing::error!("reading from the store ended in a panic");
                    }
                }
            };
            match &reader {
                Ok(reader) if together => reader.at_once(|| all(Ok(reader))),
                Ok(reader) => all(Ok(reader)),
                Err(error) => all(Err(error)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Jobs that are done together: a millisecond's work, as a rule.
const BATCH: usize = 32;

/// Each has a connection to the store and a few of its files.
const MAX_THREADS: usize = 4;
