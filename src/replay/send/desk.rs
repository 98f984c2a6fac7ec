//! Where replies wait for the commits of their flows, and then for whoever asks for them.
//!
//! A reply comes here from the task that sent its request, and is told with all others of its commit: a wake-up a commit,
//! rather than some for each. How many can be here is bounded by the run's window.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::run::Reply;
use crate::flow::{Mid, State};
use crate::record::Committed;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<Replies>,
    /// Something is ready, or all is over.
    news: Notify,
}

#[derive(Debug, Default)]
struct Replies {
    waiting: HashMap<Mid, Reply>,
    /// Committed before we heard of them from the other side.
    early: HashSet<Mid>,
    ready: Vec<Reply>,
    /// No more will come.
    over: bool,
    /// Nobody will ask for them.
    unwanted: bool,
}

impl Desk {
    /// A reply, which is told when its flow is committed; at once, if there is none that could be.
    pub(super) fn sent(&self, reply: Reply) {
        let mut state = self.lock();
        if state.unwanted {
            return;
        }
        match reply.outcome.as_ref().ok().and_then(|answered| answered.mid) {
            Some(mid) if !state.early.remove(&mid) => {
                state.waiting.insert(mid, reply);
            }
            _ => {
                state.ready.push(reply);
                drop(state);
                self.news.notify_one();
            }
        }
    }

    /// What was committed together.
    pub(super) fn committed(&self, group: &[Committed]) {
        let ended = group.iter().filter(|committed| committed.state != State::Open);
        self.tell(ended.map(|committed| committed.mid));
    }

    /// These flows are in the store.
    pub(super) fn tell(&self, mids: impl Iterator<Item = Mid>) {
        let mut state = self.lock();
        if state.unwanted {
            return;
        }
        for mid in mids {
            match state.waiting.remove(&mid) {
                Some(reply) => state.ready.push(reply),
                None => {
                    state.early.insert(mid);
                }
            }
        }
        let is_ready = !state.ready.is_empty();
        drop(state);
        if is_ready {
            self.news.notify_one();
        }
    }

    /// The flows whose commits are waited for, rising.
    pub(super) fn waiting(&self) -> Vec<Mid> {
        let mut mids: Vec<Mid> = self.lock().waiting.keys().copied().collect();
        mids.sort_unstable();
        mids
    }

    /// These were not stored, if they wait still, and are told so.
    pub(super) fn give_up(&self, mids: &[Mid]) {
        let mut state = self.lock();
        for mid in mids {
            let Some(mut reply) = state.waiting.remove(mid) else { continue };
            if let Ok(answered) = &mut reply.outcome {
                answered.mid = None;
            }
            state.ready.push(reply);
        }
        drop(state);
        self.news.notify_one();
    }

    /// No more will come: what waits still was not stored.
    pub(super) fn end(&self) {
        self.give_up(&self.waiting());
        self.lock().over = true;
        self.news.notify_one();
    }

    /// Nobody asks any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.unwanted = true;
        let forgotten = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.ready));
        drop(state);
        // Each gives its place in the window back.
        drop(forgotten);
    }

    /// All replies that are ready, at least one; `None` when all is over. For one caller at a time. Cancel-safe.
    pub(super) async fn ready(&self) -> Option<Vec<Reply>> {
        loop {
            {
                let mut state = self.lock();
                if !state.ready.is_empty() {
                    return Some(std::mem::take(&mut state.ready));
                }
                if state.over {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Replies> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;
    use crate::replay::send::{Answered, Refusal};

    fn reply(of: u64, mid: Option<u64>) -> Reply {
        let (mid, flow) = (mid.map(Mid), Flow::default());
        Reply::new(Mid(of), Ok(Box::new(Answered { mid, flow, credentials: Vec::new() })))
    }

    async fn told(desk: &Desk) -> Vec<(u64, Option<u64>)> {
        let ready = desk.ready().await.unwrap();
        let mid =
            |reply: &Reply| reply.outcome.as_ref().ok().and_then(|answered| answered.mid).map(|mid| mid.0);
        ready.iter().map(|reply| (reply.of.0, mid(reply))).collect()
    }

    #[tokio::test]
    async fn replies_are_told_when_their_flows_are_stored_whichever_is_heard_first() {
        let desk = Desk::default();
        desk.sent(reply(1, Some(11)));
        desk.sent(reply(2, Some(12)));
        desk.tell([Mid(12), Mid(13)].into_iter());
        assert_eq!(told(&desk).await, [(2, Some(12))]);
        desk.sent(reply(3, Some(13)));
        desk.sent(Reply::new(Mid(4), Err(Refusal::Open)));
        assert_eq!(told(&desk).await, [(3, Some(13)), (4, None)]);
        assert_eq!(desk.waiting(), [Mid(11)]);
        desk.end();
        assert_eq!(told(&desk).await, [(1, None)]);
        assert!(desk.ready().await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_for_nobody() {
        let desk = Desk::default();
        desk.sent(reply(1, Some(11)));
        desk.close();
        desk.sent(reply(2, None));
        desk.end();
        assert!(desk.ready().await.is_none() && desk.waiting().is_empty());
    }
}
