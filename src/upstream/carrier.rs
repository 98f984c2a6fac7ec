//! Who carries a shared connection: a task of its own, or the task of the client whose exchanges run on it.
//!
//! With one task for both legs, what one packet brings is dealt with in one go, and what it leads to on the other leg
//! leaves in one packet; nothing is woken on another thread in between. The connection's own task stands by, and goes on
//! where the client's leaves off.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The work of a connection, shared by those who may do it.
pub(super) struct Carrier {
    /// `None` when it is done.
    work: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    adopted: AtomicBool,
    /// The task that stands by.
    stand_by: AtomicWaker,
}

impl Carrier {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(Box::pin(work))),
            adopted: AtomicBool::new(false),
            stand_by: AtomicWaker::new(),
        })
    }

    /// Does the work whenever nobody else does, to its end.
    pub(super) async fn stand_by(self: Arc<Self>) {
        poll_fn(|cx| {
            // First, so that whoever leaves off after the look finds it.
            self.stand_by.register(cx.waker());
            if self.adopted.load(Ordering::Acquire) && !self.is_done() {
                Poll::Pending
            } else {
                self.poll(cx)
            }
        })
        .await;
    }

    /// Takes the work over, unless somebody has.
    pub(super) fn adopt(self: &Arc<Self>) -> Option<Adopted> {
        let free = self.adopted.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        free.then(|| Adopted { carrier: Arc::clone(self) })
    }

    fn is_done(&self) -> bool {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = work.as_mut() else { return Poll::Ready(()) };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            *work = None;
        }
        polled
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("adopted", &self.adopted).finish_non_exhaustive()
    }
}

/// The work of a connection that was taken over. It has to be polled from now on; dropping it gives the work back.
#[derive(Debug)]
pub struct Adopted {
    carrier: Arc<Carrier>,
}

impl Adopted {
    /// Does what there is to do; ready when the connection has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.poll(cx)
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.carrier.adopted.store(false, Ordering::Release);
        self.carrier.stand_by.wake();
    }
}
