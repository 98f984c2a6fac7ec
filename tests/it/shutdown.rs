//! The end in order: what is under way may finish, the rest is told and recorded, and nothing finished is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use manent::app::Grace;
use manent::flow::{BodyEnd, Flow, Mid, Side, Stage, State};
use manent::store::{ListQuery, Reader};
use tokio_util::sync::CancellationToken;

use crate::harness::{GET, OK, Origin, Setup, soon};

/// All flows in the store of a proxy that has ended, in their order.
fn stored(path: &Path) -> Vec<Flow> {
    let reader = Reader::open(path).unwrap();
    let mut mids: Vec<Mid> = reader.list(&ListQuery::default()).unwrap().iter().map(|row| row.mid).collect();
    mids.sort_unstable();
    mids.iter().map(|&mid| reader.load(mid, 1 << 20).unwrap().unwrap()).collect()
}

/// Ends with this grace; `meanwhile` begins when the shutdown has, which an idle client's end shows.
async fn stop(setup: Setup, period: Duration, meanwhile: impl Future<Output = ()>) -> Vec<Flow> {
    let mut idle = setup.client().await;
    idle.send("OPTIONS / HTTP/1.1\r\nHost: idle.test\r\nMax-Forwards: 0\r\n\r\n").await;
    assert!(idle.head().await.starts_with("HTTP/1.1 200 "));
    let Setup { proxy, dir, config, .. } = setup;
    let grace = Grace { period, skip: CancellationToken::new() };
    let meanwhile = async {
        idle.expect_end().await;
        meanwhile.await;
    };
    let (summary, ()) = soon("shutdown", async { tokio::join!(proxy.shutdown(grace), meanwhile) }).await;
    let mut flows = stored(&config.store);
    assert_eq!((summary.stored, summary.lost), (flows.len() as u64, 0));
    drop(dir);
    flows.retain(|flow| flow.request.as_ref().unwrap().method != "OPTIONS");
    flows
}

#[tokio::test]
async fn exchange_under_way_finishes_in_the_grace() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    let addr = setup.proxy.addr();
    let flows = stop(setup, Duration::from_secs(8), async {
        assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "still accepts");
        server.send(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        client.expect("ok").await;
        client.expect_end().await;
    })
    .await;
    assert_eq!(flows.iter().map(|flow| flow.state).collect::<Vec<_>>(), [State::Complete]);
}

/// A body that runs to the close would look whole if the connection just ended.
#[tokio::test]
async fn exchange_that_outlasts_the_grace_is_recorded_as_ended_by_us() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\n\r\nhalf a").await;
    client.head().await;
    client.expect("half a").await;
    let flows = stop(setup, Duration::from_millis(200), client.expect_break()).await;
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.state, error.side, error.stage), (State::Failed, Side::Proxy, Stage::Shutdown));
    let body = &flow.response.as_ref().unwrap().body;
    assert_eq!((body.as_inline().unwrap().as_ref(), body.end), (&b"half a"[..], BodyEnd::CutOff));
    server.drain().await;
}

/// The same of a tunnel, and of a request of which half has come.
#[tokio::test]
async fn tunnel_and_half_a_request_are_recorded_too() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut tunnel = setup.tunnel(&origin.addr().to_string()).await;
    tunnel.send("\0hello").await;
    let mut server = origin.accept().await;
    server.expect("\0hello").await;
    let mut half = setup.client().await;
    half.send("GET http://origin.test/ HT").await;
    let flows = stop(setup, Duration::from_millis(200), async {
        half.drain().await;
        tunnel.expect_break().await;
    })
    .await;
    assert_eq!(flows.len(), 2);
    for flow in flows {
        let error = flow.error.unwrap();
        assert_eq!((flow.state, error.side, error.stage), (State::Failed, Side::Proxy, Stage::Shutdown));
    }
}

/// A second signal skips the grace, never the drain.
#[tokio::test]
async fn second_signal_skips_the_grace() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, _server) = setup.asked(&origin, GET).await;
    let Setup { proxy, dir, config, .. } = setup;
    let grace = Grace { period: Duration::from_secs(3600), skip: CancellationToken::new() };
    grace.skip.cancel();
    let summary = soon("shutdown", proxy.shutdown(grace)).await;
    client.drain().await;
    assert_eq!((summary.stored, stored(&config.store)[0].state), (1, State::Failed));
    drop(dir);
}

/// What has ended is stored, however much it is and however soon the end comes.
#[tokio::test]
async fn nothing_finished_is_lost() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, GET.repeat(300)).await;
    for _ in 0..300 {
        server.head().await;
        server.send(OK).await;
        client.expect(OK).await;
    }
    let flows = stop(setup, Duration::from_secs(8), client.expect_end()).await;
    assert_eq!(flows.len(), 300);
    let mids: Vec<u64> = flows.iter().map(|flow| flow.mid.unwrap().0).collect();
    assert!(mids.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{mids:?}");
    assert!(flows.iter().all(|flow| flow.state == State::Complete));
}

/// Invariant 1: one mid from admission to the end.
#[tokio::test]
async fn long_flow_is_stored_open_and_then_updated() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    let open = setup.open_flow().await;
    assert_eq!((open.state, open.response), (State::Open, None));
    assert_eq!(open.request.unwrap().method, "GET");
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.mid, flow.state), (open.mid, State::Complete));
    setup.expect_flows(1).await;
}

/// What a killed process leaves: the files as they are at some moment. The flow that was open then is interrupted, and
/// the next one gets a mid of its own.
#[tokio::test]
async fn open_flow_of_a_killed_proxy_is_interrupted() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (_client, _server) = setup.asked(&origin, GET).await;
    let open = setup.open_flow().await;
    let left = Arc::new(tempfile::tempdir().unwrap());
    for file in std::fs::read_dir(setup.dir.path()).unwrap().map(Result::unwrap) {
        let to = left.path().join(file.file_name());
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to).unwrap();
        } else if file.file_name().to_string_lossy().ends_with("-bodies") {
            std::fs::create_dir(&to).unwrap();
            for segment in std::fs::read_dir(file.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(segment.path(), to.join(segment.file_name())).unwrap();
            }
        }
    }
    let mut config = setup.config.clone();
    config.store = left.path().join(config.store.file_name().unwrap());
    let mut next = Setup::resume(left, config).await;
    let swept = next.recorder().collect(open.mid.unwrap()).await.unwrap().unwrap();
    assert_eq!(swept.state, State::Interrupted);
    assert!(next.expect_alive().await.mid > open.mid);
}
