//! Ends that are not of the traffic's making: time-outs on the way to an origin, and shutdown (pitfalls 61, 63).

use std::sync::Arc;
use std::time::Duration;

use manent::app::Grace;
use manent::flow::{BodyEnd, Side, Stage, State};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::harness::{GET, OK, Origin, Peer, Setup, ending};

/// Pitfall 61: an origin that does not answer to the dialling is given up in time.
#[tokio::test]
async fn a_dial_that_takes_too_long_is_a_gateway_time_out() {
    // A listener whose queue is full answers nobody.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let _filler = Peer::connect(addr).await;
    let mut setup = Setup::with(|config| config.timeouts.connect = Duration::from_millis(100)).await;
    for request in [
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
    ] {
        let mut client = setup.client().await;
        client.send(request).await;
        client.expect_error("504").await;
        assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Connect))));
    }
}

/// Pitfall 61: so is one that says nothing to a TLS handshake.
#[tokio::test]
async fn a_handshake_that_takes_too_long_is_a_gateway_time_out() {
    let mut setup = Setup::with(|config| config.timeouts.tls = Duration::from_millis(100)).await;
    let origin = Origin::listen().await;
    let (mut client, _server) =
        setup.begin(&origin, "GET https://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n").await;
    client.expect_error("504").await;
    assert_eq!(ending(&setup.flow().await), (State::Failed, Some((Side::Server, Stage::Tls))));
}

/// Pitfall 63: what is under way at a shutdown may end; its connection takes no further request.
#[tokio::test]
async fn a_shutdown_lets_exchanges_end() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    let exchange = async {
        client.send(origin.fill(GET)).await;
        server.send(OK).await;
        client.head().await;
        client.expect("ok").await;
        client.expect_end().await;
    };
    let ((), (_dir, _config, summary)) = tokio::join!(exchange, setup.stop());
    assert_eq!((summary.stored, summary.lost), (1, 0));
}

/// Pitfall 63: what does not end in time is recorded as ended by us.
#[tokio::test]
async fn a_shutdown_without_grace_records_what_it_cut() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    let skip = CancellationToken::new();
    skip.cancel();
    let (dir, config) = (Arc::clone(&setup.dir), setup.config.clone());
    let summary = setup.proxy.shutdown(Grace { period: Duration::from_secs(9), skip }).await;
    assert_eq!((summary.stored, summary.lost), (1, 0));
    setup = Setup::resume(dir, config).await;
    let mid = manent::store::Reader::open(&setup.config.store).unwrap().bounds().unwrap().unwrap().0;
    let flow = setup.recorder().collect(mid).await.unwrap().unwrap();
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Proxy, Stage::Shutdown))));
    assert_eq!(flow.response.unwrap().body.end, BodyEnd::CutOff);
}

/// Pitfall 40: a tunnel in which nothing passes for too long ends, for both.
#[tokio::test]
async fn a_quiet_tunnel_times_out() {
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(100)).await;
    let origin = Origin::listen().await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    let mut server = origin.accept().await;
    client.send("\0").await;
    server.expect("\0").await;
    assert!(client.rest().await.1.is_err() && server.rest().await.1.is_err());
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Failed, Some((Side::Proxy, Stage::Tunnel))));
    assert_eq!(flow.tunnel.unwrap().from_client.as_inline().unwrap(), "\0");
}

/// Pitfall 130: the moments of a flow stand in the order in which they happened.
#[tokio::test]
async fn timings_rise() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let port = origin.addr().port();
    let request = format!(
        "POST http://localhost:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 2\r\n\r\n"
    );
    let (mut client, mut server) = setup.asked(&origin, request).await;
    client.send("ok").await;
    server.expect("ok").await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    let t = flow.timing;
    let moments = [
        t.request_head_us,
        t.connected_us,
        t.send_start_us,
        t.request_end_us,
        t.send_end_us,
        t.response_head_us,
        t.response_end_us,
        t.end_us,
    ];
    assert!(moments.iter().all(Option::is_some) && moments.is_sorted(), "{moments:?}");
    let server = flow.server.unwrap();
    assert!(server.dns_us.is_some() && server.connect_us.is_some() && server.tls_us.is_none());
    assert_eq!((server.address.host.as_str(), server.peer.as_ref().unwrap().port), ("localhost", port));
}
