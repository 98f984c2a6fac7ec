//! Many clients and streams at once, on several threads: each request is answered as its own, and each is one flow, whatever
//! became of it.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use manent::flow::State;
use manent::store::{ListQuery, Reader};
use tokio::task::JoinSet;

use crate::conformance::random_messages::Random;
use crate::harness::h2::{END_STREAM, Event, Frame, H2, MORE, code};
use crate::harness::{Setup, TlsOrigin};

const CLIENTS: usize = 6;
const ROUNDS: u32 = 12;
/// Streams of one client at a time.
const STREAMS: u32 = 8;

/// What is asked on a stream.
enum Asked {
    /// A body of this length, which comes back.
    Echo(usize),
    /// Cancelled at once.
    Cancelled,
}

/// An origin that sends back what it gets.
async fn echo(origin: &TlsOrigin) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(peer) = origin.try_accept().await else { continue };
        let service = service_fn(async |request: hyper::Request<Incoming>| {
            // A body that is cut has nobody to answer.
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::new(body)))
        });
        connections.spawn(
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(peer.into_io()), service),
        );
    }
}

/// One client's streams, some at a time.
async fn ask(mut client: H2, mut random: Random) {
    let mut stream = 1;
    for _ in 0..ROUNDS {
        let mut asked = Vec::new();
        for _ in 0..STREAMS {
            let what = match random.below(4) {
                0 => Asked::Cancelled,
                1 => Asked::Echo(0),
                2 => Asked::Echo(random.below(100)),
                _ => Asked::Echo(random.below(60_000)),
            };
            match what {
                Asked::Cancelled => {
                    client.ask(stream, MORE, ("POST", "/"), &[]).await;
                    client.send(Frame::rst(stream, code::CANCEL)).await;
                }
                Asked::Echo(0) => client.get(stream, "/").await,
                Asked::Echo(len) => {
                    client.ask(stream, MORE, ("POST", "/"), &[]).await;
                    client.body(stream, END_STREAM, &vec![b'x'; len]).await;
                }
            }
            asked.push((stream, what));
            stream += 2;
        }
        for (stream, what) in asked {
            if let Asked::Echo(len) = what {
                let head = client.expect_status(stream, "200").await;
                let body = if head.end { Vec::new() } else { client.rest_of(stream).await.0 };
                assert!(body == vec![b'x'; len], "{} of {len} bytes", body.len());
            }
        }
    }
    client.fence().await;
    let unasked = |event: &&Event| !matches!(event, Event::Rst { .. } | Event::Head(_) | Event::Data { .. });
    assert_eq!(client.aside().find(unasked), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_stream_is_one_flow() {
    let (setup, origin) = Setup::h2_origin().await;
    let origin = Arc::new(origin);
    let serving = tokio::spawn({
        let origin = Arc::clone(&origin);
        async move { echo(&origin).await }
    });
    let mut asking = JoinSet::new();
    for seed in 0..CLIENTS {
        let client = setup.h2_client(&origin, &[]).await;
        asking.spawn(ask(client, Random(u64::try_from(seed).unwrap() * 7919 + 1)));
    }
    while let Some(ended) = asking.join_next().await {
        ended.unwrap();
    }
    let (_dir, config, summary) = setup.stop().await;
    serving.abort();
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    let all = CLIENTS * (ROUNDS * STREAMS) as usize;
    assert_eq!((rows.len(), summary.stored, summary.lost), (all, all as u64, 0));
    assert_eq!(count(State::Complete) + count(State::ClientAborted), all);
    assert!(count(State::ClientAborted) > all / 8);
}
