//! A capture that ends, and its store served in its place.

use std::collections::VecDeque;
use std::sync::Arc;

use manent::app::Proxy;
use manent::config::Config;
use manent::filter::Filter;
use manent::replay::serve::{OnMiss, ServeOptions, StoreAnswers};
use tokio::sync::broadcast;

use super::{Origin, Peer, Setup, soon};

impl Setup {
    /// Lets one exchange pass and waits until it is stored. Texts are as for [`Origin::fill`].
    pub(crate) async fn record(&mut self, origin: &Origin, request: &str, response: &str) {
        let (mut client, mut server) = self.begin(origin, request).await;
        server.head().await;
        if let Some((_, body)) = request.split_once("\r\n\r\n") {
            server.expect(body).await;
        }
        server.send(origin.fill(response)).await;
        client.expect(origin.fill(response)).await;
        drop((client, server));
        self.flow().await;
    }

    /// Ends the capture and serves what it has recorded.
    pub(crate) async fn serve(self, options: ServeOptions) -> (Self, StoreAnswers) {
        self.serve_with(options, "", |_| {}).await
    }

    /// The same of what matches, with changed settings.
    pub(crate) async fn serve_with(
        self,
        options: ServeOptions,
        filter: &str,
        change: impl FnOnce(&mut Config),
    ) -> (Self, StoreAnswers) {
        let (dir, mut config, _) = self.stop().await;
        let records = options.on_miss == OnMiss::Record;
        config.record = records;
        change(&mut config);
        let filter = (!filter.is_empty()).then(|| Filter::parse(filter).unwrap());
        let store = dir.path().join("flows.db");
        let open = move || StoreAnswers::open(&store, filter.as_ref(), options, &mut |_| {});
        let answers = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
        let proxy = Proxy::start_answering(config.clone(), Arc::new(answers.clone())).await.unwrap();
        let commits = match proxy.recorder() {
            Some(recorder) => {
                if records {
                    answers.follow(recorder.commits()).unwrap();
                }
                recorder.commits()
            }
            None => broadcast::channel(1).1,
        };
        (Self { proxy, dir, config, commits, ended: VecDeque::new(), open: VecDeque::new() }, answers)
    }

    /// Fails unless a new client that sends `request` gets `response`, byte for byte.
    pub(crate) async fn expect_answer(&self, origin: &Origin, request: &str, response: &str) {
        let mut client = self.client().await;
        client.send(origin.fill(request)).await;
        client.expect(origin.fill(response)).await;
    }

    /// What a new client gets that sends `request` and then waits for the end: head and body.
    pub(crate) async fn answer(&self, origin: &Origin, request: &str) -> String {
        let mut client = self.client().await;
        client.send(origin.fill(request)).await;
        let head = client.head().await;
        let len = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let body = client.read(len.unwrap_or(0)).await;
        head + &String::from_utf8_lossy(&body)
    }

    /// Fails unless a new client that sends `request` finds no answer.
    pub(crate) async fn expect_miss(&self, origin: &Origin, request: &str) -> String {
        let answer = self.answer(origin, request).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        answer
    }
}

/// Fails unless a client's connection is cut without a byte.
pub(crate) async fn expect_cut(client: &mut Peer) {
    let (rest, end) = soon("a cut", client.rest()).await;
    assert!(rest.is_empty() && end.is_err(), "{} {end:?}", rest.escape_ascii());
}
