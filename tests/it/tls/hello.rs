//! ClientHellos that are cut, broken, endless, or none: the decision waits for the whole, and no longer than it may.

use std::sync::Arc;
use std::time::Duration;

use manent::flow::{Flow, Kind, Side, Stage, State};

use crate::harness::{Cut, Origin, Peer, Setup, TestCa, TlsOrigin, handshake, hello, recut, soon};

const NAME: &str = "origin.test";

/// Serves one request to a client whose ClientHello goes out in records of `record` bytes and writes of `write`.
async fn is_served(record: usize, write: usize) {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[])).await;
    let tunnel = setup.tunnel(&origin.addr().to_string()).await.into_io();
    let config = Arc::new(setup.client_config(&[]));
    let (client, mut server) =
        tokio::join!(handshake(Cut::new(tunnel, record, write), config, NAME), origin.accept());
    let mut client = client.unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    assert_eq!(flow.client.tls.as_ref().unwrap().sni.as_deref(), Some(NAME));
}

/// A tunnel to an origin that only listens.
async fn tunnel(change: impl FnOnce(&mut manent::config::Config)) -> (Setup, Origin, Peer) {
    let (setup, origin) = (Setup::with(change).await, Origin::listen().await);
    let client = setup.tunnel(&origin.addr().to_string()).await;
    (setup, origin, client)
}

/// The flow of a client's handshake that failed; nothing of it has reached the origin.
async fn failed_handshake(setup: &mut Setup, origin: &Origin, words: &str) -> Flow {
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Tls, State::Failed));
    let error = flow.error.as_ref().unwrap();
    assert_eq!((error.side, error.stage), (Side::Client, Stage::Tls));
    assert!(error.message.contains(words), "{error:?}");
    assert_eq!(flow.request.as_ref().unwrap().method, "CONNECT");
    assert_eq!(flow.client.tls.as_ref().unwrap().error.as_ref(), Some(&error.message));
    let (seen, _) = origin.accept().await.rest().await;
    assert!(!seen.starts_with(b"\x16\x03\x01\x00\x01"), "the origin got what the client sent");
    flow
}

/// TL-11, `tls.hello-many-records` (RUSTSEC-2024-0399).
#[tokio::test]
async fn hello_in_records_of_one_byte_is_served() {
    is_served(1, usize::MAX).await;
}

/// `tls.hello-bytewise`: all peers failed here.
#[tokio::test]
async fn hello_that_comes_bytewise_is_served() {
    is_served(usize::MAX, 1).await;
    is_served(100, 1).await;
}

/// A ClientHello without end is no reason to let TLS pass unseen.
#[tokio::test]
async fn hello_of_more_than_64_kib_fails() {
    let (mut setup, origin, mut client) = tunnel(|_| {}).await;
    let long = recut(&[&hello(NAME, 0)[..5], &[1, 1, 0, 0], &vec![0; 0x1_0000]].concat(), 1 << 14);
    // The proxy need not read all of it.
    let _ = client.try_send(long).await;
    client.drain().await;
    failed_handshake(&mut setup, &origin, "64 KiB").await;
}

/// Half a ClientHello, then silence.
#[tokio::test]
async fn half_a_hello_fails_when_its_time_is_over() {
    let (mut setup, origin, mut client) =
        tunnel(|config| config.timeouts.tls = Duration::from_millis(300)).await;
    client.send(&hello(NAME, 0)[..100]).await;
    client.drain().await;
    failed_handshake(&mut setup, &origin, "no whole ClientHello in time").await;
}

/// One byte now and then does not win more time.
#[tokio::test]
async fn trickling_hello_fails_when_its_time_is_over() {
    let (mut setup, origin, mut client) =
        tunnel(|config| config.timeouts.tls = Duration::from_millis(400)).await;
    let trickle = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        for byte in hello(NAME, 20) {
            every.tick().await;
            if client.try_send([byte]).await.is_err() {
                return;
            }
        }
        panic!("the proxy waited for {NAME}'s whole ClientHello");
    };
    let failed = failed_handshake(&mut setup, &origin, "no whole ClientHello in time");
    let _ = soon("the proxy's patience to end", async { tokio::join!(trickle, failed) }).await;
}

/// TL-09: half a ClientHello, then gone.
#[tokio::test]
async fn half_a_hello_and_a_close_fails() {
    let (mut setup, origin, mut client) = tunnel(|_| {}).await;
    client.send(&hello(NAME, 0)[..100]).await;
    client.half_close().await;
    client.drain().await;
    failed_handshake(&mut setup, &origin, "closed in the middle of its ClientHello").await;
}

/// TL-10: a TLS record, and no ClientHello in it. The client gets an alert.
#[tokio::test]
async fn garbage_in_place_of_a_hello_fails() {
    for garbage in
        [&b"\x16\x03\x01\x00\x05\x02\0\0\0\0"[..], b"\x16\x03\x01\x00\x08\x01\0\0\x04\xff\xff\xff\xff"]
    {
        let (mut setup, origin, mut client) = tunnel(|_| {}).await;
        client.send(garbage).await;
        let (alert, _) = client.rest().await;
        assert!(alert.starts_with(&[0x15, 3]), "{alert:?}");
        failed_handshake(&mut setup, &origin, "").await;
    }
}

/// `tls.connect-*`: a stray CRLF between the CONNECT's end and TLS belongs to neither.
#[tokio::test]
async fn stray_line_end_before_the_hello_is_passed_over() {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &[])).await;
    let mut tunnel = setup.tunnel(&origin.addr().to_string()).await;
    tunnel.send("\r\n").await;
    let (client, _server) = tokio::join!(setup.tls_over(tunnel, NAME, &[]), origin.accept());
    assert!(client.is_ok());
}
