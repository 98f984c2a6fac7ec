//! RFC 9113 §3, §5.1.2, §6.5, §6.7: starting, settings, pings, many streams on one connection, and prior knowledge in clear
//! (wire cases H2-01, H2-14 to H2-16, H2-27, H2-40, H2-42, H2-43, pitfalls 70, 74, 78).

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use manent::flow::{Scheme, State, Version};
use tokio::task::JoinSet;

use crate::harness::h2::{
    COMBINATIONS, END_STREAM, Event, Frame, H2, MORE, NAME, Refusal, Speaks, code, hpack, kind, setting,
};
use crate::harness::{OK, Origin, Setup, TestCa, TlsOrigin};

/// H2-01: what the origin sees first, and one exchange.
#[tokio::test]
async fn a_connection_begins_with_preface_and_settings() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/x").await;
    let head = server.request().await;
    let kinds: Vec<_> = server.log.iter().map(|(kind, _, _)| *kind).collect();
    assert_eq!(kinds[0], kind::SETTINGS);
    assert_eq!(kinds.iter().filter(|kind| **kind == kind::HEADERS).count(), 1);
    // Nobody is told that pushes are welcome.
    assert_eq!(server.setting(setting::ENABLE_PUSH), Some(0));
    assert_eq!(
        [":method", ":scheme", ":authority", ":path"].map(|name| head.get(name)),
        ["GET", "https", NAME, "/x"]
    );
    assert!(head.end && head.stream % 2 == 1);
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.target.scheme), (State::Complete, Scheme::Https));
    let request = flow.request.as_ref().unwrap();
    assert_eq!(
        (request.version, &request.target[..], flow.url()),
        (Version::Http2, &b"/x"[..], format!("https://{NAME}:{}/x", origin.addr().port()))
    );
    let alpn = |tls: &Option<manent::flow::TlsInfo>| tls.as_ref().unwrap().alpn.clone();
    assert_eq!(alpn(&flow.client.tls).as_deref(), Some(&b"h2"[..]));
    assert_eq!(alpn(&flow.server.as_ref().unwrap().tls).as_deref(), Some(&b"h2"[..]));
}

/// H2-16, RFC 9113 §6.5.3: settings of both sides are acknowledged, also where they come late.
#[tokio::test]
async fn settings_are_acknowledged() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup
        .h2_with(&origin, &[(setting::HEADER_TABLE_SIZE, 0)], &[(setting::HEADER_TABLE_SIZE, 8192)])
        .await;
    client.get(1, "/").await;
    let head = server.request().await;
    client.until("our settings to be acknowledged", |client| client.acks == 1).await;
    server.until("our settings to be acknowledged", |server| server.acks == 1).await;
    for peer in [&mut client, &mut server] {
        peer.send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 5), (0x7777, 1)])).await;
        peer.until("the second settings to be acknowledged", |peer| peer.acks == 2).await;
    }
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// RFC 9113 §6.7: a PING is answered, with its payload.
#[tokio::test]
async fn pings_are_answered() {
    let (setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    server.request().await;
    for peer in [&mut client, &mut server] {
        peer.send(Frame::ping(0, *b"manent!?")).await;
        peer.until("the answer", |peer| peer.pongs.contains(b"manent!?")).await;
    }
}

/// H2-14: one connection to the origin carries what one client asks for at once.
#[tokio::test]
async fn requests_share_a_connection_to_the_origin() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/1").await;
    client.get(3, "/3").await;
    let (first, second) = (server.request().await, server.request().await);
    assert_ne!(first.stream, second.stream);
    // The second is answered first: streams do not wait for each other.
    for head in [&second, &first] {
        server.ok(head.stream).await;
        client.expect_ok(head.get(":path")[1..].parse().unwrap()).await;
    }
    let (one, other) = (setup.flow().await, setup.flow().await);
    assert_eq!(one.server.unwrap().id, other.server.unwrap().id);
    assert_eq!([one.server_reused, other.server_reused].iter().filter(|reused| **reused).count(), 1);
    origin.origin.expect_nobody();
}

/// H2-15, pitfall 74: what the origin allows at a time is what the client is told, and what is in flight.
#[tokio::test]
async fn the_origins_stream_limit_is_the_clients() {
    let (setup, origin) = Setup::h2_origin().await;
    let limit = [(setting::MAX_CONCURRENT_STREAMS, 1)];
    let (mut client, mut server) = setup.h2_with(&origin, &[], &limit).await;
    client.get(1, "/1").await;
    let first = server.request().await;
    client.until("settings", |client| client.acks == 1).await;
    assert_eq!(client.setting(setting::MAX_CONCURRENT_STREAMS), Some(1));
    // A client that does not care is refused or waits; the origin is never asked for more than it allows.
    client.get(3, "/3").await;
    client.fence().await;
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    server.ok(first.stream).await;
    client.expect_ok(1).await;
    tokio::select! {
        second = server.request() => {
            server.ok(second.stream).await;
            client.expect_ok(3).await;
        }
        refusal = client.refusal(3) => assert_eq!(refusal, Refusal::Stream(code::REFUSED_STREAM)),
    }
    client.get(5, "/5").await;
    let third = server.request().await;
    server.ok(third.stream).await;
    client.expect_ok(5).await;
    drop(client);
    setup.expect_flows(3).await;
}

/// An origin that allows no stream yet is asked when it does.
#[tokio::test]
async fn a_stream_waits_until_the_origin_allows_it() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let none = [(setting::MAX_CONCURRENT_STREAMS, 0)];
    let (mut client, mut server) = setup.h2_with(&origin, &[], &none).await;
    client.get(1, "/").await;
    client.fence().await;
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    server.send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 3)])).await;
    let head = server.request().await;
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// One that lowers its limit later is not asked for more. Who gives up waiting is done with at once; the origin may still see
/// the request, which the library below does not take back, but cancelled.
#[tokio::test]
async fn a_stream_that_waits_for_the_origin_can_be_cancelled() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    server.until("our settings to be acknowledged", |server| server.acks == 1).await;
    server.send(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)])).await;
    server.until("the limit to be acknowledged", |server| server.acks == 2).await;
    client.get(1, "/1").await;
    let first = server.request().await;
    client.get(3, "/3").await;
    client.get(5, "/5").await;
    client.fence().await;
    client.send(Frame::rst(3, code::CANCEL)).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, &flow.request.unwrap().target[..]), (State::ClientAborted, &b"/3"[..]));
    server.fence().await;
    assert!(!server.aside().any(|event| matches!(event, Event::Head(_))));
    server.ok(first.stream).await;
    client.expect_ok(1).await;
    let mut last = server.request().await;
    if last.get(":path") == "/3" {
        server.expect_rst(last.stream, &[code::CANCEL]).await;
        last = server.request().await;
    }
    assert_eq!(last.get(":path"), "/5");
    server.ok(last.stream).await;
    client.expect_ok(5).await;
    drop(client);
    setup.expect_flows(3).await;
}

/// H2-40: many streams to an origin that speaks HTTP/1 are all answered, and connections do not grow beyond them.
#[tokio::test]
async fn a_hundred_streams_to_an_http1_origin_are_answered() {
    const STREAMS: u32 = 100;
    let ca = TestCa::new();
    let setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http1).await;
    let connections = AtomicUsize::new(0);
    let serving = async {
        let mut servers = JoinSet::new();
        loop {
            let Ok(peer) = origin.try_accept().await else { continue };
            connections.fetch_add(1, Ordering::Relaxed);
            let answer = service_fn(async |_| Ok::<_, Infallible>(hyper::Response::new(String::from("ok"))));
            servers.spawn(http1::Builder::new().serve_connection(TokioIo::new(peer.into_io()), answer));
        }
    };
    let asking = async {
        let mut client = setup.h2_client(&origin, &[]).await;
        client.until("settings", |client| client.acks == 1).await;
        assert!(client.setting(setting::MAX_CONCURRENT_STREAMS).is_none_or(|limit| limit >= STREAMS));
        for at in 0..STREAMS {
            client.get(at * 2 + 1, "/").await;
        }
        for at in 0..STREAMS {
            client.expect_ok(at * 2 + 1).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = serving => unreachable!("the origin goes on"),
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..=STREAMS as usize).contains(&connections), "{connections} connections");
    setup.expect_flows(STREAMS.into()).await;
}

/// H2-42, RFC 9113 §5.3.2, §5.5: priorities, frames and settings that nobody knows are passed over, on any stream.
#[tokio::test]
async fn priorities_and_unknown_frames_are_ignored() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    for peer in [&mut client, &mut server] {
        peer.send(Frame::priority(7, 3)).await;
        peer.send(Frame::new(0x42, 0xff, 0, "what is this")).await;
        peer.send(Frame::settings(&[(0xfefe, 0xffff_ffff)])).await;
    }
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")];
    let head = Frame::headers(1, END_STREAM, hpack::encode(&fields)).prioritized(0).padded(99);
    client.send(head).await;
    client.send(Frame::new(0x42, 0, 1, "and this")).await;
    client.send(Frame::priority(1, 0)).await;
    let head = server.request().await;
    server.send(Frame::new(0x42, 0, head.stream, "or that")).await;
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    let ours = |event: &&Event| matches!(event, Event::Other(frame) if frame.kind == 0x42 || frame.kind == kind::PRIORITY);
    assert_eq!((client.aside().find(ours), server.aside().find(ours)), (None, None));
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// H2-27, RFC 7838 §4: it is for the hop alone.
#[tokio::test]
async fn altsvc_frames_stay_on_their_hop() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.send(Frame::altsvc(0, "https://origin.test", "h3=\":1\"")).await;
    server.send(Frame::altsvc(head.stream, "", "h3=\":1\"")).await;
    server.ok(head.stream).await;
    client.expect_ok(1).await;
    client.fence().await;
    assert_eq!(client.aside().next(), None);
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// H2-43, pitfall 78, RFC 9113 §8.4: a push after ENABLE_PUSH=0 ends the connection to the origin, and reaches nobody.
#[tokio::test]
async fn a_push_is_refused() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let (mut client, mut server) = setup.h2(&origin).await;
    client.get(1, "/").await;
    let head = server.request().await;
    server.until("our settings to be acknowledged", |server| server.acks == 1).await;
    let promise = [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/pushed")];
    server.send(Frame::push_promise(head.stream, 2, hpack::encode(&promise))).await;
    assert_eq!(server.refusal(2).await, Refusal::Connection(code::PROTOCOL_ERROR));
    client.expect_status(1, "502").await;
    client.fence().await;
    assert!(client.log.iter().all(|(kind, _, _)| *kind != kind::PUSH_PROMISE));
    let flow = setup.flow().await;
    assert_eq!((flow.state, flow.request.unwrap().target), (State::Failed, "/".into()));
    drop(client);
    setup.expect_flows(1).await;
}

/// RFC 9113 §3.3: a client that knows says so with its first bytes, to the proxy and inside a tunnel.
#[tokio::test]
async fn prior_knowledge_in_clear_is_served() {
    for tunnel in [false, true] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        let mut client = match tunnel {
            true => setup.h2_tunnel(&origin).await,
            false => setup.h2_clear(&origin).await,
        };
        client.get(1, "/clear").await;
        let mut server = origin.accept().await;
        // By prior knowledge too, or in HTTP/1, which every origin in clear speaks.
        let first = server.read(4).await;
        if first == b"PRI " {
            server.expect(&crate::harness::h2::PREFACE[4..]).await;
            let mut server = H2::new(server, false);
            server.send(Frame::settings(&[])).await;
            let head = server.request().await;
            assert_eq!((head.get(":scheme"), head.get(":path")), ("http", "/clear"));
            server.ok(head.stream).await;
            client.expect_ok(1).await;
        } else {
            assert!(server.head().await.starts_with("/clear HTTP/1.1\r\n"));
            server.send(OK).await;
            client.expect_ok(1).await;
        }
        let flow = setup.flow().await;
        let request = flow.request.as_ref().unwrap();
        assert_eq!((flow.state, request.version), (State::Complete, Version::Http2));
        assert_eq!(request.scheme.as_deref(), Some(&b"http"[..]));
        assert_eq!(flow.url(), format!("http://{}/clear", origin.addr()));
    }
}

/// A client of the proxy in clear asks for several origins on one connection: each gets its own.
#[tokio::test]
async fn each_request_to_the_explicit_port_names_its_origin() {
    let (mut setup, first, second) = (Setup::start().await, Origin::listen().await, Origin::listen().await);
    let mut client = setup.h2_clear(&first).await;
    for (stream, origin) in [(1, &first), (3, &second)] {
        client.origin.1 = origin.addr().to_string();
        client.ask(stream, MORE, ("POST", "/"), &[("content-length", "0")]).await;
        client.data(stream, END_STREAM, "").await;
        let _server = origin.accept().await;
        client.send(Frame::rst(stream, code::CANCEL)).await;
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.target.port), (State::ClientAborted, origin.addr().port()));
    }
}

/// A client in clear that asks for an https URL gets it from an origin in TLS, whatever that speaks.
#[tokio::test]
async fn an_https_url_in_clear_is_asked_for_in_tls() {
    let ca = TestCa::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut setup = Setup::trusting(&ca).await;
        let alpn = if speaks == Speaks::Http1 { "http/1.1" } else { "h2" };
        let origin = TlsOrigin::listen(ca.server_config(&["127.0.0.1"], &[alpn])).await;
        let mut client = setup.h2_clear(&origin.origin).await;
        client.origin.0 = "https";
        client.get(1, "/").await;
        let mut server = origin.settle().await;
        let first = server.read(4).await;
        if first == b"PRI " {
            server.expect(&crate::harness::h2::PREFACE[4..]).await;
            let mut server = H2::new(server, false);
            server.send(Frame::settings(&[])).await;
            let head = server.request().await;
            server.ok(head.stream).await;
            client.expect_ok(1).await;
        } else {
            assert!(server.head().await.starts_with("/ HTTP/1.1\r\n"));
            server.send(OK).await;
            client.expect_ok(1).await;
        }
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.target.scheme), (State::Complete, Scheme::Https));
        assert!(flow.server.as_ref().unwrap().tls.as_ref().unwrap().verified);
    }
}

/// Pitfall 70, RFC 7301: the client is offered what the origin speaks.
#[tokio::test]
async fn alpn_is_mirrored() {
    let ca = TestCa::new();
    for (_, speaks) in &COMBINATIONS[..2] {
        let setup = Setup::trusting(&ca).await;
        let origin = TlsOrigin::speaking(&ca, *speaks).await;
        let authority = format!("127.0.0.1:{}", origin.addr().port());
        let (client, _server) =
            tokio::join!(setup.tls_client(&authority, NAME, &["h2", "http/1.1"]), origin.settle());
        // A client that takes it for the other would get no answer that makes sense.
        let mut client = client.unwrap();
        match speaks {
            Speaks::Http1 => {
                client.send("GET / HTTP/9.9\r\n\r\n").await;
                client.expect("HTTP/1.1 ").await;
            }
            Speaks::Http2 => {
                let mut client = H2::client(client).await;
                client.until("settings", |client| client.acks == 1).await;
            }
        }
    }
}
