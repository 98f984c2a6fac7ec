//! Origins that must not be trusted (`tls.upstream-*-noleak`): the client hears why inside its own TLS, the origin
//! hears nothing of the request, and the flow holds what was presented.

use std::sync::Arc;

use manent::flow::{Flow, Side, Stage, State};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rcgen::{CertificateParams, GeneralSubtree, KeyPair, NameConstraints, date_time_ymd};
use rustls::ServerConfig;

use crate::harness::{Origin, Peer, Setup, TestCa, TlsOrigin, presenting, soon};

const NAME: &str = "origin.test";

/// Sends a request with a secret in it, and gives the answer.
async fn ask(client: &mut Peer, port: u16) -> String {
    let request = format!("GET /canary HTTP/1.1\r\nHost: {NAME}:{port}\r\nAuthorization: canary\r\n\r\n");
    client.try_send(request).await.unwrap();
    let answer = client.expect_error("502 Bad Gateway\r\n").await;
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain") && head.contains("X-Content-Type-Options: nosniff"));
    assert!(!answer.contains("canary"), "{answer}");
    answer
}

/// Asks an origin with this configuration through a proxy that trusts `ca`; the reason that the client gets and that is
/// recorded must hold `words`.
async fn is_refused(ca: &TestCa, config: Arc<ServerConfig>, words: &str) -> Flow {
    let mut setup = Setup::trusting(ca).await;
    let origin = TlsOrigin::listen(config).await;
    let port = origin.addr().port();
    let authority = format!("127.0.0.1:{port}");
    let (client, server) =
        tokio::join!(setup.tls_client(&authority, NAME, &["http/1.1"]), origin.try_accept());
    // The proxy ends the handshake: there is no TLS in which a request could have come.
    assert!(server.is_err());
    let answer = ask(&mut client.unwrap(), port).await;
    assert!(answer.contains(words), "{answer}");
    origin.origin.expect_nobody();
    let flow = setup.flow().await;
    failed_at_tls(&flow, words);
    let tls = flow.server.as_ref().unwrap().tls.as_ref().unwrap();
    assert!(!tls.verified && tls.error.as_ref().unwrap().contains(words), "{tls:?}");
    flow
}

fn failed_at_tls(flow: &Flow, words: &str) {
    let error = flow.error.as_ref().unwrap();
    assert_eq!((flow.state, error.side, error.stage), (State::Failed, Side::Server, Stage::Tls), "{error:?}");
    assert!(error.message.contains(words), "{error:?}");
    assert_eq!(flow.response.as_ref().map(|r| (r.status, r.by_proxy)), Some((502, true)));
    assert_eq!(flow.request.as_ref().unwrap().target, "/canary");
}

fn presented(flow: &Flow) -> usize {
    flow.server.as_ref().unwrap().tls.as_ref().unwrap().chain.len()
}

/// TL-05.
#[tokio::test]
async fn expired_certificate_is_refused_and_recorded() {
    let ca = TestCa::new();
    let config = ca.server_config_of(&[NAME], &[], |p| p.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(presented(&is_refused(&ca, config, "expired").await), 1);
}

/// TL-05.
#[tokio::test]
async fn certificate_that_is_not_valid_yet_is_refused() {
    let ca = TestCa::new();
    let config = ca.server_config_of(&[NAME], &[], |p| p.not_before = date_time_ymd(2090, 1, 1));
    assert_eq!(presented(&is_refused(&ca, config, "not valid").await), 1);
}

/// TL-05, CVE-2015-3455.
#[tokio::test]
async fn certificate_for_another_host_is_refused() {
    let ca = TestCa::new();
    let flow = is_refused(&ca, ca.server_config(&["other.test"], &[]), "other.test").await;
    assert_eq!(presented(&flow), 1);
}

/// A name in the CN alone is none (RFC 9525 §6.3).
#[tokio::test]
async fn name_in_the_common_name_alone_is_refused() {
    let ca = TestCa::new();
    let config =
        ca.server_config_of(&[], &[], |p| p.distinguished_name.push(rcgen::DnType::CommonName, NAME));
    assert_eq!(presented(&is_refused(&ca, config, "certificate was refused").await), 1);
}

/// TL-05.
#[tokio::test]
async fn self_signed_certificate_is_refused() {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    let flow = is_refused(&TestCa::new(), presenting(cert.der().clone(), &key, &[]), "self-signed").await;
    assert_eq!(flow.server.unwrap().tls.as_ref().unwrap().chain[0], cert.der().to_vec());
}

/// TL-05, CVE-2022-27820.
#[tokio::test]
async fn certificate_of_an_unknown_authority_is_refused() {
    let config = TestCa::new().server_config(&[NAME], &[]);
    assert_eq!(presented(&is_refused(&TestCa::new(), config, "certificate was refused").await), 1);
}

/// RUSTSEC-2026-0098 and -0099.
#[tokio::test]
async fn certificate_outside_its_authority_s_names_is_refused() {
    let ca = TestCa::of(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.test".into())],
            excluded_subtrees: vec![],
        });
    });
    let flow = is_refused(&ca, ca.server_config(&[NAME], &[]), "certificate was refused").await;
    assert_eq!(presented(&flow), 1);
}

/// TL-06. What reaches the origin is a ClientHello, and nothing after it.
#[tokio::test]
async fn origin_that_does_not_speak_tls_gets_no_request() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let port = origin.addr().port();
    let talk = async {
        let mut server = origin.accept().await;
        server.send("220 mail.test ready\r\n").await;
        server.rest().await.0
    };
    let authority = format!("127.0.0.1:{port}");
    let (client, seen) = tokio::join!(setup.tls_client(&authority, NAME, &["http/1.1"]), talk);
    assert!(ask(&mut client.unwrap(), port).await.contains("does not speak TLS"));
    assert!(seen.starts_with(&[0x16, 3]) && !seen.windows(6).any(|w| w == b"canary"));
    failed_at_tls(&setup.flow().await, "does not speak TLS");
    origin.expect_nobody();
}

/// TL-09, on the other side.
#[tokio::test]
async fn origin_that_closes_in_the_handshake_is_told_and_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let port = origin.addr().port();
    let talk = async { drop(origin.accept().await.read(50).await) };
    let authority = format!("127.0.0.1:{port}");
    let (client, ()) = tokio::join!(setup.tls_client(&authority, NAME, &["http/1.1"]), talk);
    let answer = ask(&mut client.unwrap(), port).await;
    assert!(answer.contains("upstream TLS handshake: the server"), "{answer}");
    failed_at_tls(&setup.flow().await, "the server");
}

/// A silent origin costs `timeouts.tls`, and is told as one.
#[tokio::test]
async fn origin_that_never_answers_the_handshake_is_a_time_out() {
    let setup = Setup::with(|config| config.timeouts.tls = std::time::Duration::from_millis(400)).await;
    let (mut setup, origin) = (setup, Origin::listen().await);
    let authority = origin.addr().to_string();
    let mut client = setup.tls_client(&authority, NAME, &[]).await.unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    let answer = client.expect_error("504 Gateway Timeout\r\n").await;
    assert!(answer.contains("upstream TLS handshake"), "{answer}");
    let error = setup.flow().await.error.unwrap();
    assert_eq!((error.side, error.stage), (Side::Server, Stage::Tls));
}

/// A client that asked for nothing has still tried: the refused origin is a flow without an answer.
#[tokio::test]
async fn refused_origin_is_recorded_also_without_a_request() {
    let mut setup = Setup::start().await;
    let origin = TlsOrigin::listen(TestCa::new().server_config(&[NAME], &[])).await;
    let authority = origin.addr().to_string();
    let (client, _) = tokio::join!(setup.tls_client(&authority, NAME, &[]), origin.try_accept());
    drop(client);
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (manent::flow::Kind::Tls, State::Failed));
    let error = flow.error.as_ref().unwrap();
    assert_eq!((error.side, error.stage, presented(&flow)), (Side::Server, Stage::Tls, 1));
}

/// squid PR 306, CVE-2021-41611: texts of a certificate come as text, and not as lines or markup of ours.
#[tokio::test]
async fn hostile_texts_in_a_certificate_stay_inside_the_message() {
    let ca = TestCa::new();
    let config = ca.server_config_of(&["other.test"], &[], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "<script>\r\n\x1b]52;c;\x07");
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let flow = is_refused(&ca, config, "expired").await;
    assert!(!flow.error.unwrap().message.contains(|c: char| c.is_control()));
    let body = flow.response.unwrap().body.as_inline().unwrap().clone();
    let lines: Vec<&[u8]> = body.trim_ascii().split(|&byte| byte == b'\n').collect();
    assert!(lines.len() == 3 && lines[2].starts_with(b"hint: --upstream-ca FILE"), "{body:?}");
    assert!(!lines.concat().iter().any(u8::is_ascii_control), "{body:?}");
}

/// TL-04: Squid's and others' parsers of certificates fell over: 500 changed ones, and the proxy still serves (seeded).
#[tokio::test]
async fn mutated_certificates_never_end_the_proxy() {
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let key = KeyPair::generate().unwrap();
    let good = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let origin = Origin::listen().await;
    let authority = origin.addr().to_string();
    for _ in 0..500 {
        let der = mutant(&mut runner, good.der());
        let config = presenting(der.into(), &key, &[]);
        let accept = async {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            soon("the end of the handshake", acceptor.accept(origin.accept_tcp().await)).await.is_err()
        };
        let (client, refused) = tokio::join!(setup.tls_client(&authority, NAME, &[]), accept);
        assert!(client.is_ok() && refused);
    }
    let origin = TlsOrigin::listen(ca.server_config(&[NAME], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, NAME).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    assert!(server.head().await.starts_with("GET / HTTP/1.1\r\n"));
}

/// `good` with some bytes changed, cut out or put in.
fn mutant(runner: &mut TestRunner, good: &[u8]) -> Vec<u8> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4);
    let mut der = good.to_vec();
    for (at, byte, kind) in edits.new_tree(runner).unwrap().current() {
        let at = at.index(der.len());
        match kind {
            0 | 1 => der[at] = byte,
            2 => der.insert(at, byte),
            _ => drop(der.remove(at)),
        }
    }
    der
}
