//! Origin, proxy, client: what every test starts with.
//!
//! A test drives both ends itself: it sends bytes as the client, accepts and answers as the origin, and asks for the flow
//! that was stored. Every wait ends after [`PATIENCE`]; nothing sleeps.

mod alone;
mod cut;
pub(crate) mod h2;
mod peer;
mod ruled;
mod serving;
mod tls;
mod websocket;

pub(crate) use alone::{is_alone, memory};
pub(crate) use cut::{Cut, recut};
pub(crate) use peer::{Origin, Peer, fill};
pub(crate) use ruled::rules;
pub(crate) use serving::expect_cut;
pub(crate) use tls::{TestCa, TlsOrigin, handshake, hello, presenting, serve_tls};
pub(crate) use websocket::{accepting, brief, frame, masked, opening};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use manent::app::{Grace, Proxy, Summary};
use manent::config::Config;
use manent::flow::{Flow, Mid, Side, Stage, State};
use manent::record::{Committed, Rotating};
use tokio::sync::broadcast::Receiver;

/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The plainest request, for [`Origin::fill`].
pub(crate) const GET: &str = "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n";
/// The plainest response.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How a flow ended: its state, and whose fault at which stage.
pub(crate) fn ending(flow: &Flow) -> (State, Option<(Side, Stage)>) {
    (flow.state, flow.error.as_ref().map(|error| (error.side, error.stage)))
}

/// `data` as a chunked body with chunks of this length, last chunk included.
pub(crate) fn chunked(data: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in data.chunks(chunk) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

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
    open: VecDeque<Mid>,
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
        Self { proxy, dir, config, commits, ended: VecDeque::new(), open: VecDeque::new() }
    }

    pub(crate) fn recorder(&self) -> &Rotating {
        self.proxy.recorder().unwrap()
    }

    /// A client connection to the proxy.
    pub(crate) async fn client(&self) -> Peer {
        Peer::connect(self.proxy.addr()).await
    }

    /// A client that has sent `request` (see [`Origin::fill`]), and the origin's end of the connection that it led to.
    pub(crate) async fn begin(&self, origin: &Origin, request: impl AsRef<[u8]>) -> (Peer, Peer) {
        let mut client = self.client().await;
        client.send(origin.fill(request)).await;
        (client, origin.accept().await)
    }

    /// The same, and the origin has read the request's head.
    pub(crate) async fn asked(&self, origin: &Origin, request: impl AsRef<[u8]>) -> (Peer, Peer) {
        let (client, mut server) = self.begin(origin, request).await;
        server.head().await;
        (client, server)
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
        let mid = self.ended().await;
        self.recorder().collect(mid).await.unwrap().unwrap()
    }

    /// The mid of the next flow that has ended and is stored.
    pub(crate) async fn ended(&mut self) -> Mid {
        while self.ended.is_empty() {
            self.next_group().await;
        }
        self.ended.pop_front().unwrap()
    }

    /// The next flow that was stored though it has not ended.
    pub(crate) async fn open_flow(&mut self) -> Flow {
        while self.open.is_empty() {
            self.next_group().await;
        }
        let mid = self.open.pop_front().unwrap();
        self.recorder().collect(mid).await.unwrap().unwrap()
    }

    async fn next_group(&mut self) {
        let group = soon("a flow to be stored", self.commits.recv()).await.unwrap();
        for committed in group.iter() {
            let list = if committed.state == State::Open { &mut self.open } else { &mut self.ended };
            list.push_back(committed.mid);
        }
    }

    /// Fails unless a new client is served as ever. Its flow is the next one.
    pub(crate) async fn expect_alive(&mut self) -> Flow {
        let origin = Origin::listen().await;
        let (mut client, mut server) = self.asked(&origin, GET).await;
        server.send(OK).await;
        client.expect(OK).await;
        let flow = self.flow().await;
        assert_eq!(flow.state, State::Complete);
        flow
    }

    /// Stops, and fails unless the store got exactly so many flows.
    pub(crate) async fn expect_flows(self, count: u64) {
        let (_dir, _config, summary) = self.stop().await;
        assert_eq!((summary.stored, summary.lost), (count, 0));
    }

    /// Stops in order.
    pub(crate) async fn stop(self) -> (Arc<tempfile::TempDir>, Config, Summary) {
        let grace = Grace { period: PATIENCE, skip: tokio_util::sync::CancellationToken::new() };
        let summary = soon("shutdown", self.proxy.shutdown(grace)).await;
        (self.dir, self.config, summary)
    }
}
