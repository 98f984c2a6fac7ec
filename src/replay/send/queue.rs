//! What waits for its turn: one thread that may block fills it, and whoever has a place free takes the next.
//!
//! Between the two stands nobody who hands out: waking him for each request costs as much as sending it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::feed::Job;
use super::pace::{Pace, Pacer};

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// One permit for each job that is there. Closed when no more come.
    there: Semaphore,
    /// Where the feed waits for room.
    room: Condvar,
    /// Nothing is there, and nothing will come.
    over: CancellationToken,
}

#[derive(Debug)]
struct Waiting {
    jobs: VecDeque<Job>,
    pacer: Pacer,
    /// No more come.
    ended: bool,
    /// No more are wanted.
    stopped: bool,
}

/// Nobody takes jobs any more.
#[derive(Debug)]
pub(super) struct Stopped;

impl Queue {
    pub(super) fn new(pace: Pace) -> Self {
        let (jobs, pacer) = (VecDeque::new(), Pacer::new(pace));
        Self {
            waiting: Mutex::new(Waiting { jobs, pacer, ended: false, stopped: false }),
            there: Semaphore::new(0),
            room: Condvar::new(),
            over: CancellationToken::new(),
        }
    }

    /// Adds jobs; blocks while enough are there.
    pub(super) fn push(&self, jobs: Vec<Job>) -> Result<(), Stopped> {
        let is_full = |waiting: &mut Waiting| waiting.jobs.len() > ENOUGH && !waiting.stopped;
        let mut waiting = self.room.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        if waiting.stopped {
            return Err(Stopped);
        }
        let count = jobs.len();
        waiting.jobs.extend(jobs);
        drop(waiting);
        self.there.add_permits(count);
        Ok(())
    }

    /// No more will come.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        let is_over = waiting.jobs.is_empty();
        drop(waiting);
        self.there.close();
        if is_over {
            self.over.cancel();
        }
    }

    /// Forgets what waits, and takes no more.
    pub(super) fn stop(&self) {
        let mut waiting = self.lock();
        waiting.stopped = true;
        waiting.jobs.clear();
        drop(waiting);
        self.there.close();
        self.room.notify_all();
        self.over.cancel();
    }

    /// Waits until [`Queue::take`] gives nothing any more. Cancel-safe.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The next job, and when it is due; `None` after the last one. Cancel-safe.
    pub(super) async fn take(&self) -> Option<(Job, Instant)> {
        if let Ok(permit) = self.there.acquire().await {
            permit.forget();
        }
        // After the end, what is left goes without a permit.
        let mut waiting = self.lock();
        let job = waiting.jobs.pop_front()?;
        let due = waiting.pacer.due(job.round, job.source.timing.started_unix_ns, Instant::now());
        let (left, ended) = (waiting.jobs.len(), waiting.ended);
        drop(waiting);
        match left {
            ENOUGH => self.room.notify_one(),
            0 if ended => self.over.cancel(),
            _ => {}
        }
        Some((job, due))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as more than these wait, no more are read: each may have a body of 64 KiB with it.
const ENOUGH: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{Flow, Mid};
    use crate::replay::send::Refusal;

    fn jobs(mids: std::ops::Range<u64>) -> Vec<Job> {
        let job = |mid| Job {
            source: Box::new(Flow::default()),
            mid: Mid(mid),
            what: Err(Refusal::Open),
            round: 0,
        };
        mids.map(job).collect()
    }

    #[tokio::test]
    async fn jobs_are_taken_in_their_order_to_the_last_one() {
        let queue = Queue::new(Pace::Free);
        queue.push(jobs(0..2)).unwrap();
        queue.push(jobs(2..3)).unwrap();
        assert_eq!(queue.take().await.unwrap().0.mid, Mid(0));
        queue.end();
        assert_eq!(queue.take().await.unwrap().0.mid, Mid(1));
        assert!(!queue.over.is_cancelled());
        assert_eq!(queue.take().await.unwrap().0.mid, Mid(2));
        queue.over().await;
        assert!(queue.take().await.is_none());
    }

    #[tokio::test]
    async fn whoever_fills_it_waits_for_room_and_is_told_when_nobody_takes_any_more() {
        let queue = Arc::new(Queue::new(Pace::Free));
        queue.push(jobs(0..ENOUGH as u64 + 1)).unwrap();
        let (filling, full) = (Arc::clone(&queue), Arc::clone(&queue));
        let filled = tokio::task::spawn_blocking(move || filling.push(jobs(100..101)));
        queue.take().await.unwrap();
        filled.await.unwrap().unwrap();
        let filled = tokio::task::spawn_blocking(move || full.push(jobs(101..102)));
        queue.stop();
        assert!(filled.await.unwrap().is_err());
        queue.over().await;
        assert!(queue.take().await.is_none() && queue.push(jobs(0..1)).is_err());
    }
}
