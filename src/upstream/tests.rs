//! Dialling on loopback: who is reached, what is recorded, and what is said when nobody is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{DialError, DialOptions, Dialed, Dialer, Link, race};
use crate::flow::{Addr, Stage};
use crate::tls::{ClientTls, Roots, Verification};

fn dialer(limit: Duration) -> Dialer {
    let tls = ClientTls::new(&Roots::none(), Verification::On).unwrap();
    Dialer::new(DialOptions { connect_timeout: limit, tls_timeout: limit }, Arc::new(tls))
}

async fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn connect(host: &str, port: u16) -> Result<Dialed, DialError> {
    dialer(Duration::from_secs(5)).connect(host, port, &|_| false).await
}

/// A port on which nothing listens, and nothing will as long as the socket lives.
fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_literal_is_dialled_without_a_look_up() {
    let (_listener, address) = listener("127.0.0.1:0").await;
    let dialed = connect("127.0.0.1", address.port()).await.unwrap();
    let Link::Tcp(tcp) = &dialed.link else { panic!("{:?}", dialed.link) };
    assert!(tcp.nodelay().unwrap());
    let local = tcp.local_addr().ok().map(Addr::from);
    let conn = dialed.conn;
    assert_eq!(conn.peer, Some(Addr::from(address)));
    assert_eq!(conn.local, local);
    assert_eq!((conn.dns_us, conn.error), (None, None));
    assert!(conn.connect_us.is_some() && conn.started_unix_ns > 0);
}

#[tokio::test]
async fn brackets_of_a_literal_are_not_part_of_it() {
    let (_listener, address) = listener("[::1]:0").await;
    for host in ["[::1]", "::1"] {
        let conn = connect(host, address.port()).await.unwrap().conn;
        assert_eq!(conn.address.host, "::1");
        assert_eq!(conn.peer, Some(Addr::from(address)));
    }
}

#[tokio::test]
async fn a_name_is_looked_up_and_the_family_that_answers_is_taken() {
    let (_listener, address) = listener("127.0.0.1:0").await;
    let conn = connect("localhost", address.port()).await.unwrap().conn;
    assert_eq!(conn.address.host, "localhost");
    assert_eq!(conn.peer, Some(Addr::from(address)));
    assert!(conn.dns_us.is_some());
}

#[tokio::test]
async fn nobody_there_is_said_plainly() {
    let (_socket, address) = closed_port();
    let error = connect("127.0.0.1", address.port()).await.unwrap_err();
    assert_eq!(error.message, format!("connection refused by {address} (nothing listens there)"));
    assert_eq!((error.stage, error.timed_out, error.refused_own), (Stage::Connect, false, false));
    assert_eq!(error.conn.error.as_deref(), Some(&*error.message));
    assert!(error.conn.connect_us.is_some() && error.conn.peer.is_none());
}

#[tokio::test]
async fn what_is_no_host_is_not_asked_of_the_resolver() {
    for host in ["", "a b", "a\0b", "a/b", "a\nb", "http://x", "münchen.example", &"a".repeat(300)] {
        let error = connect(host, 80).await.unwrap_err();
        assert_eq!(error.stage, Stage::Target, "{host:?}: {error}");
        assert!(!error.message.contains(|letter: char| letter.is_control()));
    }
}

/// `.invalid` never resolves (RFC 6761 §6.4); without a resolver the message is another one.
#[tokio::test]
async fn an_unknown_host_is_a_failed_look_up() {
    let error = connect("nobody.invalid", 80).await.unwrap_err();
    assert_eq!(error.stage, Stage::Dns);
    assert!(error.message.contains("nobody.invalid"), "{error}");
    assert!(error.conn.dns_us.is_some() && error.conn.connect_us.is_none());
}

#[tokio::test]
async fn the_guard_sees_every_address_and_one_refusal_is_enough() {
    let (listener, address) = listener("127.0.0.1:0").await;
    let seen = Mutex::new(Vec::new());
    let guard = |address: SocketAddr| {
        seen.lock().unwrap().push(address);
        address.ip().is_loopback()
    };
    let dialer = dialer(Duration::from_secs(5));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"] {
        let error = dialer.connect(host, address.port(), &guard).await.unwrap_err();
        assert!(error.refused_own && error.stage == Stage::Target, "{host}: {error}");
        assert!(error.message.contains("this proxy itself"));
        assert!(error.conn.connect_us.is_none());
    }
    assert!(seen.lock().unwrap().contains(&address));
    let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(accepted.is_err(), "nothing was dialled");
    // The unspecified address means loopback to the kernel, which only the connected socket tells.
    let error = dialer.connect("0.0.0.0", address.port(), &guard).await.unwrap_err();
    assert!(error.refused_own, "{error}");
}

/// A listener whose queue is full does not answer: the kernel drops the SYN.
async fn silent() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        fill.push(stream);
    }
    (listener, address, fill)
}

#[tokio::test]
async fn no_answer_ends_with_the_time_limit() {
    let (_listener, address, _fill) = silent().await;
    let limit = Duration::from_millis(200);
    let error = dialer(limit).connect("127.0.0.1", address.port(), &|_| false).await.unwrap_err();
    assert_eq!(error.message, format!("no answer from {address} within 0.2 s"));
    assert!(error.timed_out && error.stage == Stage::Connect);
    assert!(error.conn.connect_us.unwrap() >= 200_000);
}

#[tokio::test]
async fn a_silent_address_delays_the_next_by_a_quarter_of_a_second_only() {
    let (_listener, dead, _fill) = silent().await;
    let (_alive_listener, alive) = listener("127.0.0.1:0").await;
    let began = std::time::Instant::now();
    let stream = race::connect(&[dead, alive]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), alive);
    // No upper bound: it would measure how busy the machine is. The kernel's own limit for `dead` is two minutes.
    assert!(began.elapsed() >= Duration::from_millis(245));
}

#[tokio::test]
async fn a_refusal_leads_to_the_next_address() {
    let (_socket, refusing) = closed_port();
    let (_listener, alive) = listener("127.0.0.1:0").await;
    assert_eq!(race::connect(&[refusing, alive]).await.unwrap().peer_addr().unwrap(), alive);
    let failures = race::connect(&[refusing, refusing]).await.unwrap_err();
    assert_eq!(failures.len(), 2);
}

#[tokio::test]
async fn a_silent_server_ends_the_handshake_with_the_time_limit() {
    let (_listener, address) = listener("127.0.0.1:0").await;
    let dialer = dialer(Duration::from_millis(100));
    let dialed = dialer.connect("127.0.0.1", address.port(), &|_| false).await.unwrap();
    let offers = [Bytes::from_static(b"http/1.1")];
    let error = dialer.handshake(dialed, "a.example", &offers).await.unwrap_err();
    assert_eq!(error.message, format!("no answer to the TLS handshake from {address} within 0.1 s"));
    assert!(error.timed_out && error.stage == Stage::Tls);
    let tls = error.conn.tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_deref(), &tls.alpn_offers[..]), (Some("a.example"), &offers[..]));
    assert!(error.conn.tls_us.unwrap() >= 100_000 && error.conn.peer.is_some());
}

#[tokio::test]
async fn no_byte_reaches_a_server_that_is_not_who_it_should_be() {
    let (listener, address) = listener("127.0.0.1:0").await;
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let origin = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await?;
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await?;
        stream.read_u8().await
    });
    let dialer = dialer(Duration::from_secs(5));
    let dialed = dialer.connect("127.0.0.1", address.port(), &|_| false).await.unwrap();
    let error = dialer.handshake(dialed, "a.example", &[]).await.unwrap_err();
    assert!(error.message.contains("self-signed"), "{error}");
    assert_eq!((error.stage, error.timed_out), (Stage::Tls, false));
    assert_eq!(error.conn.tls.as_ref().unwrap().chain, [&cert.der()[..]]);
    assert!(error.conn.tls_us.is_some());
    assert!(origin.await.unwrap().is_err());
}
