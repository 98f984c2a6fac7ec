//! Letting others go first, so that what many streams send leaves in one packet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// How many exchanges a connection has under way. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Active(Arc<AtomicUsize>);

impl Active {
    /// Counts an exchange, for as long as what it gives is kept.
    #[must_use]
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }

    fn are_several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Entered(Active);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future that carries a connection of HTTP/2. Each time it is woken while several exchanges are under way, it goes to
/// the end of its worker's queue once before it runs: the streams that became ready by the same packet have then queued
/// their frames, and all of them go out with one call. Without this, the first stream's frame wakes the connection,
/// which the scheduler runs next.
#[derive(Debug)]
pub struct Gather<F> {
    work: Pin<Box<F>>,
    active: Active,
    waited: bool,
}

impl<F: Future> Gather<F> {
    /// Carries out `work`, which is that of the exchanges in `active`.
    pub fn new(work: F, active: Active) -> Self {
        Self { work: Box::pin(work), active, waited: false }
    }
}

impl<F: Future> Future for Gather<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.waited = !self.waited && self.active.are_several();
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.work.as_mut().poll(cx)
    }
}
