//! Names that are looked up: one question at a time for each name, whoever asks.
//!
//! A look-up takes a thread and, through the system's resolver, some files. A browser opens six connections to a host at once,
//! and a replay as many as it is told to. Whoever comes while a name is looked up gets the same answer; nothing is kept
//! beyond that, so that each later connection sees what the system says then.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};

/// The addresses of a name, with port 0, or why there are none.
pub(super) type Found = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

type UnderWay = BoxFuture<'static, Found>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    under_way: Mutex<HashMap<String, WeakShared<UnderWay>>>,
}

impl Lookups {
    /// Looks a name up, or waits for who does already. Dropping this future leaves the question to the others, if there are any.
    pub(super) async fn find(&self, host: &str) -> Found {
        self.find_by(host, |host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(Arc::new)?;
                Ok(found.collect())
            })
        })
        .await
    }

    fn find_by(&self, host: &str, ask: impl FnOnce(String) -> UnderWay) -> Shared<UnderWay> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = under_way.get(host).and_then(WeakShared::upgrade) {
            return asked;
        }
        if under_way.len() >= MANY {
            under_way.retain(|_, asked| asked.upgrade().is_some());
        }
        let asked = ask(host.to_owned()).shared();
        if let Some(weak) = asked.downgrade() {
            under_way.insert(host.to_owned(), weak);
        }
        asked
    }
}

/// Names that may be there before those that nobody waits for are looked for.
const MANY: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_asks_for_a_name_that_is_looked_up_gets_the_same_answer() {
        let (lookups, asked) = (Lookups::default(), Arc::new(AtomicUsize::new(0)));
        let question = |answer: oneshot::Receiver<u16>| {
            let asked = Arc::clone(&asked);
            move |_| -> UnderWay {
                asked.fetch_add(1, Ordering::Relaxed);
                Box::pin(
                    async move { Ok([SocketAddr::from(([127, 0, 0, 1], answer.await.unwrap()))].into()) },
                )
            }
        };
        let nobody = || oneshot::channel().1;
        let (answer, first) = oneshot::channel();
        let mut one = lookups.find_by("a.test", question(first));
        let two = lookups.find_by("a.test", question(nobody()));
        assert!((&mut one).now_or_never().is_none());
        // Who asked first may go.
        drop(one);
        answer.send(7).unwrap();
        assert_eq!(two.clone().await.unwrap()[0].port(), 7);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        drop(two);
        // Nobody waits any more, so it is looked up anew; and so is another name.
        for name in ["a.test", "b.test"] {
            let (answer, later) = oneshot::channel();
            answer.send(8).unwrap();
            assert_eq!(lookups.find_by(name, question(later)).await.unwrap()[0].port(), 8);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_are_forgotten() {
        let lookups = Lookups::default();
        for number in 0..10 * MANY {
            let _ = lookups.find_by(&number.to_string(), |_| Box::pin(async { Ok([].into()) })).await;
        }
        assert!(lookups.under_way.lock().unwrap().len() <= MANY);
    }
}
