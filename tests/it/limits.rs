//! Clients that ask for too much: of our patience, our connections, our memory, or of ourselves.

use std::time::Duration;

use manent::flow::{Kind, Side, Stage, State};

use crate::harness::{GET, OK, Origin, Peer, Setup, all, is_alone, memory, soon};

/// Answers every request on every connection with a body of `len` bytes, and counts them.
async fn serve(origin: &Origin, len: usize, served: &std::cell::Cell<usize>) {
    let mut server = origin.accept().await.into_io();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len));
    let mut seen = Vec::new();
    loop {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        match server.read_buf(&mut seen).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            seen.drain(..end + 4);
            served.set(served.get() + 1);
            if server.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// `h1.pipeline-flood`: a client that sends 10,000 requests and reads nothing fills no memory: the proxy neither reads on
/// nor asks the origin on, and in the end gives up.
#[tokio::test]
async fn pipelined_requests_of_a_client_that_reads_nothing_are_not_asked() {
    const NAME: &str = "limits::pipelined_requests_of_a_client_that_reads_nothing_are_not_asked";
    if !is_alone(NAME) {
        return;
    }
    let mut setup = Setup::with(|config| config.timeouts.relay_idle = Duration::from_millis(500)).await;
    let (origin, served) = (Origin::listen().await, std::cell::Cell::new(0));
    let mut client = setup.client().await;
    let before = memory("VmRSS:");
    let flood = async {
        let requests = origin.fill(GET).repeat(10_000);
        let _ = client.try_send(requests).await;
    };
    let gone = async {
        loop {
            let flow = setup.flow().await;
            if flow.state != State::Complete {
                return flow;
            }
        }
    };
    let (.., last) = tokio::join!(serve(&origin, 16 << 10, &served), flood, gone);
    assert_eq!(last.state, State::ClientAborted);
    assert!(served.get() < 2_000, "{} requests went on", served.get());
    assert!(memory("VmHWM:") - before < 32 << 20, "{} of {before}", memory("VmHWM:"));
}

/// `h1.slowloris`: more slow clients than there are places. The one that has been waited for longest goes.
#[tokio::test]
async fn slow_clients_cannot_keep_a_good_one_out() {
    let mut setup = Setup::with(|config| config.limits.max_connections = 20).await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        let mut client = setup.client().await;
        client.trickle("GET http://origin.test/ HT").await;
        slow.push(client);
    }
    setup.expect_slow_ones_gone(40).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    for client in &mut slow[..40] {
        client.drain().await;
    }
    for client in &mut slow[41..] {
        client.send("T").await;
    }
}

impl Setup {
    /// So many half requests must have been ended by the proxy.
    async fn expect_slow_ones_gone(&mut self, count: usize) {
        for _ in 0..count {
            let flow = self.flow().await;
            let error = flow.error.as_ref().unwrap();
            assert_eq!((flow.state, error.side, error.stage), (State::Failed, Side::Proxy, Stage::Shutdown));
        }
    }
}

/// Issue item 8.
#[tokio::test]
async fn two_thousand_idle_connections_are_fine() {
    if !is_alone("limits::two_thousand_idle_connections_are_fine") {
        return;
    }
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.expect_alive().await;
    let before = memory("VmRSS:");
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(setup.client().await);
    }
    setup.expect_alive().await;
    let each = (memory("VmRSS:") - before) / 2_000;
    assert!(each < 24 << 10, "{each} bytes a connection, its client's end included");
    // Any of them still works, the oldest first.
    for at in [0, 1_000, 1_999] {
        idle[at].send(origin.fill(GET)).await;
        let mut server = origin.accept().await;
        server.head().await;
        server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert!(idle[at].head().await.starts_with("HTTP/1.1 204 "));
    }
    soon("shutdown", setup.stop()).await;
    all(idle.iter_mut().map(Peer::drain)).await;
}

/// `prod.api-via-proxy` (CVE-2025-23217): our own port under every name that it has, by GET and by CONNECT. None is
/// dialled: there are as many flows as requests.
#[tokio::test]
async fn requests_to_ourselves_are_refused_under_every_name() {
    let mut setup = Setup::start().await;
    let port = setup.proxy.addr().port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:0.0.0.0]",
        "0",
        "[::1]",
    ];
    let mut refused = 0;
    for host in hosts {
        for line in [format!("GET http://{host}:{port}/"), format!("CONNECT {host}:{port}")] {
            let mut client = setup.client().await;
            client.send(format!("{line} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")).await;
            let answer = client.expect_error("").await;
            let flow = setup.flow().await;
            assert!(matches!(flow.kind, Kind::Http | Kind::Connect), "{line}: {:?}", flow.kind);
            let ours = answer.starts_with("HTTP/1.1 400 ") && answer.contains("this proxy itself");
            // `[::1]` is another listener's address, and some resolvers know no octal.
            assert!(ours || answer.starts_with("HTTP/1.1 502 "), "{line}: {answer}");
            refused += usize::from(ours);
        }
    }
    assert!(refused >= 20, "{refused}");
    setup.expect_flows(2 * hosts.len() as u64).await;
}

/// The same of a listener on all addresses, which has those of the machine, too.
#[tokio::test]
async fn listener_on_all_addresses_is_found_under_each() {
    let setup = Setup::with(|config| {
        config.listen = vec!["0.0.0.0:0".parse().unwrap()];
        config.access.open = true;
    })
    .await;
    let port = setup.proxy.addr().port();
    for host in ["127.0.0.1", "127.0.0.2", "127.8.9.10", "localhost", "0.0.0.0"] {
        let mut client = Peer::connect(([127, 0, 0, 1], port).into()).await;
        client.send(format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = client.expect_error("400 Bad Request\r\n").await;
        assert!(answer.contains("this proxy itself"), "{host}: {answer}");
    }
    setup.expect_flows(5).await;
}

/// Memory follows what goes on, not what once did: connections that carried a large body each way and wait now.
#[tokio::test]
async fn idle_connections_give_back_what_a_large_body_needed() {
    if !is_alone("limits::idle_connections_give_back_what_a_large_body_needed") {
        return;
    }
    const LEN: usize = 256 << 10;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.expect_alive().await;
    let (body, mut kept) = (vec![b'x'; LEN], Vec::new());
    let mut before = 0;
    for at in 0..200 {
        let put = format!("PUT http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {LEN}\r\n\r\n");
        let (mut client, mut server) = setup.asked(&origin, put).await;
        let (_, seen) = tokio::join!(client.send(&body), server.read(LEN));
        assert_eq!(seen.len(), LEN);
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
        client.head().await;
        let _ = tokio::join!(server.send(&body), client.read(LEN));
        assert_eq!(setup.flow().await.state, State::Complete);
        kept.push((client, server));
        // What the recorder and the allocator keep for good, they have by now.
        if at == 49 {
            before = memory("VmRSS:");
        }
    }
    let each = (memory("VmRSS:").saturating_sub(before)) / 150;
    assert!(each < 40 << 10, "{each} bytes a connection, its peers' ends included");
}
