//! Whatever two strangers say to each other through the proxy, it lives, every connection ends, and every flow does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use manent::flow::{Kind, State};
use manent::store::{ListQuery, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{GET, OK, Origin, Setup, fill, soon};

/// A small generator of our own: the cases are the same in each run, so that a failure can be had again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Lines that make sense by themselves, in an order that may not.
    fn message(&mut self, first: &[&str]) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.pick(first));
        for _ in 0..self.below(5) {
            text += self.pick(FIELDS);
            text += self.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""]);
        }
        text += self.pick(&["\r\n", "\r\n", "\r\n", "\n", ""]);
        text += self.pick(BODIES);
        text.into_bytes()
    }

    /// Cuts a piece out, writes over one, or doubles one.
    pub(super) fn mutate(&mut self, text: &mut Vec<u8>) {
        for _ in 0..self.below(3) {
            if text.is_empty() {
                return;
            }
            let start = self.below(text.len());
            let end = (start + self.below(9)).min(text.len());
            match self.below(4) {
                0 => drop(text.drain(start..end)),
                1 => text[start..end].fill(u8::try_from(self.below(256)).unwrap()),
                2 => text.truncate(end),
                _ => text.extend_from_within(start..end),
            }
        }
    }
}

const REQUESTS: &[&str] = &[
    "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}",
    "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}",
    "HEAD http://{addr}/a HTTP/1.1\r\nHost: {addr}",
    "POST http://{addr}/b?c HTTP/1.1\r\nHost: {addr}",
    "POST / HTTP/1.0\r\nHost: {addr}",
    "OPTIONS * HTTP/1.1\r\nHost: {addr}",
    "CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\nGET / HTTP/1.1\r\nHost: {addr}",
    "CONNECT {addr} HTTP/1.1\r\n\r\n\x16\x03\x01\x00\x05\x01",
];
const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 999 ",
    "garbage",
];
const FIELDS: &[&str] = &[
    "Content-Length: 3",
    "Content-Length: 3",
    "Content-Length: 100",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Connection: close",
    "Connection: upgrade\r\nUpgrade: foo",
    "Connection: keep-alive, content-length",
    "Expect: 100-continue",
    "X: y",
    " folded",
    ": empty",
    "a\u{e9}: b",
];
const BODIES: &[&str] = &[
    "",
    "abc",
    "3\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    "3\r\nabc",
    "ffffffffffffffff\r\nabc",
    "abcGET / HTTP/1.1\r\nHost: {addr}\r\n\r\n",
];

/// Sends `text` in up to three pieces, then reads until the other side has ended. Where that side waits for more, ours ends.
async fn play(mut tcp: TcpStream, text: Vec<u8>, cuts: [usize; 2]) {
    let (first, rest) = text.split_at(cuts[0] % (text.len() + 1));
    let (second, third) = rest.split_at(cuts[1] % (rest.len() + 1));
    for piece in [first, second, third] {
        // A peer that was told too much may have gone.
        if tcp.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = tcp.shutdown().await;
    let mut sink = Vec::new();
    let _ = tcp.read_to_end(&mut sink).await;
}

/// CVE-2022-24766, security threat 19: what an origin with a parser of its own takes for a request is one flow of ours. A
/// smuggled request would be one more there than here.
#[tokio::test]
async fn an_independent_origin_sees_no_more_requests_than_are_recorded() {
    let setup = Setup::start().await;
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, proxy) = (origin.local_addr().unwrap(), setup.proxy.addr());
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&seen);
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = origin.accept().await {
            let counting = Arc::clone(&counting);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                counting.fetch_add(1, Ordering::Relaxed);
                async move {
                    let _ = request.into_body().collect().await;
                    Ok::<_, Infallible>(hyper::Response::new(String::from("ok")))
                }
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
        }
    });
    let mut random = Random(4711);
    // Without `CONNECT`: what is in an opaque tunnel is no flow of its own.
    let first_lines = &REQUESTS[..6];
    for _ in 0..600 {
        let mut request = random.message(first_lines);
        request.extend(random.message(first_lines));
        random.mutate(&mut request);
        let cuts = [random.below(1000), random.below(1000)];
        let client = TcpStream::connect(proxy).await.unwrap();
        soon("the end of a client", play(client, fill(&request, addr), cuts)).await;
    }
    let (_dir, config, summary) = setup.stop().await;
    serving.abort();
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert_eq!(rows.len() as u64, summary.stored);
    let sent = rows.iter().filter(|row| row.server_conn.is_some() && row.kind == Kind::Http).count();
    let answered = rows.iter().filter(|row| row.status == Some(200)).count();
    let seen = seen.load(Ordering::Relaxed);
    assert!(answered <= seen && seen <= sent, "{answered} answered, {seen} seen, {sent} sent");
    assert!(answered > 100, "only {answered} of {sent} make sense");
}

/// Wire cases §5.11: random requests against random responses, cut, written over and split.
#[tokio::test]
async fn the_proxy_outlives_300_random_exchanges() {
    let setup = Setup::with(|config| {
        config.timeouts.relay_idle = Duration::from_millis(200);
        config.timeouts.head = Duration::from_millis(200);
        config.timeouts.tls = Duration::from_millis(200);
        config.timeouts.silent_client = Duration::from_millis(20);
    })
    .await;
    let addr = setup.proxy.addr();
    let workers = (0..4u64).map(|worker| {
        tokio::spawn(async move {
            let mut random = Random(worker * 7919 + 1);
            let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let origin_addr = origin.local_addr().unwrap();
            for _ in 0..75 {
                let mut request = random.message(REQUESTS);
                let mut response = random.message(RESPONSES);
                random.mutate(&mut request);
                random.mutate(&mut response);
                let request = fill(&request, origin_addr);
                let mut cuts = || [random.below(1000), random.below(1000)];
                let (ours, theirs) = (cuts(), cuts());
                let answering = async {
                    while let Ok((tcp, _)) = origin.accept().await {
                        play(tcp, response.clone(), theirs).await;
                    }
                };
                let client = TcpStream::connect(addr).await.unwrap();
                let what = format!("the end of {}", request.escape_ascii());
                soon(&what, async {
                    tokio::select! {
                        () = play(client, request, ours) => {}
                        () = answering => {}
                    }
                })
                .await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    drop((client, server));
    let (_dir, config, summary) = setup.stop().await;
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert_eq!((rows.len() as u64, summary.lost), (summary.stored, 0));
    assert!(rows.len() > 200, "only {} flows", rows.len());
    assert!(rows.iter().all(|row| row.state != State::Open && row.state != State::Interrupted));
    // So does a flow end whose task has panicked.
    let torn =
        rows.iter().filter_map(|row| row.error.as_deref()).find(|error| error.contains("ended by the proxy"));
    assert_eq!(torn, None);
}
