//! Letting others go first, so that what many streams send leaves in one packet.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that carries a connection of HTTP/2. Each time it is woken it goes to the end of its worker's queue once
/// before it runs: the streams that became ready by the same packet have then queued their frames, and all of them go
/// out with one call. Without this, the first stream's frame wakes the connection, which the scheduler runs next.
#[derive(Debug)]
pub struct Gather<F> {
    work: Pin<Box<F>>,
    waited: bool,
}

impl<F: Future> Gather<F> {
    /// Carries out `work`.
    pub fn new(work: F) -> Self {
        Self { work: Box::pin(work), waited: false }
    }
}

impl<F: Future> Future for Gather<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.work.as_mut().poll(cx)
    }
}
