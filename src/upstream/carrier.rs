//! Who carries a shared connection: a task of its own, or the task of the client whose exchanges run on it.
//!
//! With one task for both legs, what one packet brings is dealt with in one go, and what it leads to on the other leg
//! leaves in one packet; nothing is woken on another thread in between. The connection's own task stands by, and goes on
//! where the client's leaves off.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The work of a connection, shared by those who may do it.
pub(super) struct Carrier {
    state: Mutex<State>,
    /// The task that stands by.
    stand_by: AtomicWaker,
}

/// Looked at and acted upon under one lock: whoever polls the work last is woken for it, so the task that stands by must
/// not poll it once somebody else has taken it over.
struct State {
    /// `None` when it is done.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    adopted: bool,
}

impl Carrier {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let state = State { work: Some(Box::pin(work)), adopted: false };
        Arc::new(Self { state: Mutex::new(state), stand_by: AtomicWaker::new() })
    }

    /// Does the work whenever nobody else does, to its end.
    pub(super) async fn stand_by(self: Arc<Self>) {
        poll_fn(|cx| {
            // First, so that whoever leaves off after the look finds it.
            self.stand_by.register(cx.waker());
            let mut state = self.lock();
            if state.adopted && state.work.is_some() { Poll::Pending } else { state.poll(cx) }
        })
        .await;
    }

    /// Takes the work over, unless somebody has.
    pub(super) fn adopt(self: &Arc<Self>) -> Option<Adopted> {
        let was_adopted = std::mem::replace(&mut self.lock().adopted, true);
        (!was_adopted).then(|| Adopted { carrier: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = self.work.as_mut() else { return Poll::Ready(()) };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("adopted", &self.lock().adopted).finish_non_exhaustive()
    }
}

/// The work of a connection that was taken over. It must be polled at once and from then on; dropping it gives the work
/// back.
#[derive(Debug)]
pub struct Adopted {
    carrier: Arc<Carrier>,
}

impl Adopted {
    /// Does what there is to do; ready when the connection has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.lock().poll(cx)
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.carrier.lock().adopted = false;
        self.carrier.stand_by.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_who_has_the_work_does_it_and_it_goes_back_in_time() {
        let polls = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&polls);
        let carrier = Carrier::new(poll_fn(move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) < 2 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (mut own, mut other) = (Context::from_waker(&waker), Context::from_waker(Waker::noop()));
        let mut stand_by = Box::pin(Arc::clone(&carrier).stand_by());

        let mut adopted = carrier.adopt().unwrap();
        assert!(carrier.adopt().is_none());
        assert!(adopted.poll(&mut other).is_pending());
        assert!(stand_by.as_mut().poll(&mut own).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 1, "the task that stands by has polled");

        drop(adopted);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(stand_by.as_mut().poll(&mut own).is_pending());
        let mut adopted = carrier.adopt().unwrap();
        assert!(adopted.poll(&mut other).is_ready());
        assert!(stand_by.as_mut().poll(&mut own).is_ready(), "it ends with the work, whoever did it");
    }
}
