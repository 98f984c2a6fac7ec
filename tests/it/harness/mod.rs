//! Origin, proxy, client: what every test starts with.
//!
//! A test drives both ends itself: it sends bytes as the client, accepts and answers as the origin, and asks for the flow
//! that was stored. Every wait ends after [`PATIENCE`]; nothing sleeps.

mod cut;
mod peer;
mod tls;

pub(crate) use cut::{Cut, recut};
pub(crate) use peer::{Origin, Peer};
pub(crate) use tls::{TestCa, TlsOrigin, hello, presenting};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use manent::app::{Grace, Proxy, Summary};
use manent::config::Config;
use manent::flow::{Flow, Mid, State};
use manent::record::{Committed, Recorder};
use tokio::sync::broadcast::Receiver;

/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `work`, or fails the test.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits for all of `work`, side by side.
pub(crate) async fn all<F: Future>(work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut work: Vec<_> = work.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, output) in work.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = one.as_mut().poll(cx) {
                *output = Some(value);
            }
        }
        match work.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    work.into_iter().filter_map(|(_, output)| output).collect()
}

/// A running proxy with a store of its own.
pub(crate) struct Setup {
    pub(crate) proxy: Proxy,
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) config: Config,
    commits: Receiver<Arc<[Committed]>>,
    ended: VecDeque<Mid>,
}

impl Setup {
    /// A proxy with the defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A proxy whose settings `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config::new(dir.path().join("flows.db"), dir.path().join("ca"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        change(&mut config);
        Self::resume(dir, config).await
    }

    /// A proxy on a directory that another one has left.
    pub(crate) async fn resume(dir: Arc<tempfile::TempDir>, config: Config) -> Self {
        let proxy = Proxy::start(config.clone()).await.unwrap();
        let commits = proxy.recorder().unwrap().commits();
        Self { proxy, dir, config, commits, ended: VecDeque::new() }
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        self.proxy.recorder().unwrap()
    }

    /// A client connection to the proxy.
    pub(crate) async fn client(&self) -> Peer {
        Peer::connect(self.proxy.addr()).await
    }

    /// A client connection with a tunnel to `authority`, ready for its first byte.
    pub(crate) async fn tunnel(&self, authority: &str) -> Peer {
        let mut client = self.client().await;
        client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        client.expect("HTTP/1.1 200 Connection established\r\n\r\n").await;
        client
    }

    /// The next flow that has ended and is stored, in the order of the commits, with its bodies.
    pub(crate) async fn flow(&mut self) -> Flow {
        while self.ended.is_empty() {
            let group = soon("a flow to be stored", self.commits.recv()).await.unwrap();
            self.ended.extend(group.iter().filter(|c| c.state != State::Open).map(|c| c.mid));
        }
        let mid = self.ended.pop_front().unwrap();
        self.recorder().collect(mid).await.unwrap().unwrap()
    }

    /// Stops in order.
    pub(crate) async fn stop(self) -> (Arc<tempfile::TempDir>, Config, Summary) {
        let grace = Grace { period: PATIENCE, skip: tokio_util::sync::CancellationToken::new() };
        let summary = soon("shutdown", self.proxy.shutdown(grace)).await;
        (self.dir, self.config, summary)
    }
}
