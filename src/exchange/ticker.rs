//! Time limits for one connection, with one timer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

/// A wait took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("timed out")]
pub struct Elapsed;

/// The timer of a connection. A timer of its own for each wait would be entered in the runtime's wheel and taken out
/// several times a request; this one is moved only when it is too late for a deadline, about once a second.
#[derive(Debug)]
pub struct Ticker {
    sleep: Pin<Box<Sleep>>,
}

impl Ticker {
    /// A timer that first rings in a minute.
    #[must_use]
    pub fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now() + Duration::from_secs(60))) }
    }

    /// Waits for `work`, but not longer than `limit`. Dropping this future drops `work`.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit is over first.
    pub async fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let deadline = Instant::now() + limit;
        let tick = |now| if now >= deadline { Err(Elapsed) } else { Ok(deadline) };
        self.watch(deadline, tick, work).await
    }

    /// Waits for `work`, and calls `tick` from `first` on: it gives the time of the next call, or an error that ends the
    /// wait. It may be called earlier than it asked for.
    ///
    /// # Errors
    /// What `tick` gives.
    pub async fn watch<T, E>(
        &mut self,
        first: Instant,
        mut tick: impl FnMut(Instant) -> Result<Instant, E>,
        work: impl Future<Output = T>,
    ) -> Result<T, E> {
        if self.sleep.deadline() > first {
            self.sleep.as_mut().reset(first);
        }
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            while self.sleep.as_mut().poll(cx).is_ready() {
                match tick(Instant::now()) {
                    Ok(next) => self.sleep.as_mut().reset(next),
                    Err(error) => {
                        // Never leave a timer behind that rings at once.
                        self.sleep.as_mut().reset(Instant::now() + Duration::from_secs(60));
                        return Poll::Ready(Err(error));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Default for Ticker {
    fn default() -> Self {
        Self::new()
    }
}
