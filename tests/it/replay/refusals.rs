//! What is not sent, and why.

use super::{Scene, captured, done};
use crate::harness::{OK, Origin, Setup};

const GET: &str = "GET http://{addr}/a HTTP/1.1\r\nHost: {addr}\r\n\r\n";

#[tokio::test]
async fn bad_command_lines_and_unknown_mids_are_refused() {
    let (scene, origin) = captured(&[GET], OK).await;
    for (args, code, words) in [
        (&["replay", "9"][..], 3, "error[E201]: no flow with mid 9"),
        (&["replay", "status="], 2, "error[E003]"),
        (&["replay", "1", "status=200"], 2, "mids and a filter do not go together"),
        (&["replay", "1", "--to", "h:80"], 2, "is no origin: it has no scheme"),
        (&["replay", "1", "--to", "http://h/p"], 2, "it has a path"),
        (&["replay", "1", "--keep-host"], 2, "--to"),
        (&["replay", "1", "-H", "X"], 2, "is no header field"),
        (&["replay", "1", "-H", "Content-Length: 3"], 2, "follows from the body"),
        (&["replay", "1", "-H", "Connection: close"], 2, "belongs to the connection"),
        (&["replay", "1", "--remove-header", "host"], 2, "host"),
        (&["replay", "1", "--speed", "2x"], 2, "--as-recorded"),
        (&["replay", "1", "--rate", "0/s"], 2, "a rate is"),
        (&["replay", "1", "-j", "0"], 2, "more than zero"),
        (&["replay", "1", "--body", "/nowhere/x"], 3, "cannot read /nowhere/x"),
        (&["replay", "1", "--ignore-json", "a..", "--diff"], 2, "is no path in JSON"),
        (&["replay", "1", "--via", "ftp://x"], 2, "--via"),
        (&["diff", "1", "x"], 2, "a mid is a whole number"),
        (&["diff", "1", "7"], 3, "no flow with mid 7"),
    ] {
        let done = scene.run(args).await;
        done.expect(code);
        assert!(done.err.contains(words), "{args:?}: {}", done.err);
    }
    origin.expect_nobody();
}

/// A body that is not on record is not sent as if it were whole, unless one asks for it: then the length fits what goes out.
#[tokio::test]
async fn truncated_requests_are_refused_unless_asked_for() {
    const POST: &str = "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 6\r\n\r\nabcdef";
    let mut setup = Setup::with(|config| config.body_limit = Some(4)).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, POST).await;
    server.expect("abcdef").await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    let scene = Scene::of(setup).await;
    let refused = scene.run(&["replay", "1"]).await;
    assert!(refused.expect(1).contains("not sent: its request body is not whole: 4 of 6 bytes are recorded"));
    assert!(scene.run(&["replay", "1", "--dry-run"]).await.expect(1).contains("not sent"));
    origin.expect_nobody();

    let replay = scene.start(&["replay", "1", "--allow-truncated"]);
    let mut server = origin.accept().await;
    assert!(server.head().await.contains("Content-Length: 4\r\n"));
    server.expect("abcd").await;
    server.send(OK).await;
    done(replay).await.expect(0);
}

/// What was never sent to an origin, or is no request, is not sent; what can be goes out all the same (RP-18).
#[tokio::test]
async fn what_is_no_request_is_left_out() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    // A head that cannot be read, a request that was refused, one that is aimed at the proxy, and an opaque tunnel.
    for bad in ["G(T / HTTP/1.1\r\n\r\n", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut client = setup.client().await;
        client.send(bad).await;
        client.expect_error("400").await;
        setup.flow().await;
    }
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    let mut server = origin.accept().await;
    client.send("\0unknown").await;
    server.expect("\0unknown").await;
    drop((client, server));
    setup.flow().await;
    let scene = Scene::of(setup).await;
    let replay = scene.start(&["replay", "1-4", "--json"]);
    super::answer(&origin, OK).await;
    let done = done(replay).await;
    done.expect(1);
    let mut told = done.json();
    told.sort_by_key(|told| told["replay_of"].as_u64());
    let not_sent: Vec<_> = told.iter().map(|told| told["not_sent"].as_str().unwrap_or("sent")).collect();
    assert_eq!(
        not_sent,
        [
            "it is a head that could not be read, not a request that can be sent again",
            "it was refused and never sent to an origin",
            "sent",
            "it is a tunnel, not a request that can be sent again",
        ]
    );
    assert!(done.err.contains("1 request sent, 1 same status and body, 3 not sent"), "{}", done.err);
}

/// A store has one writer: the second is told what to do. And a listener of the first is never sent anything.
#[tokio::test]
async fn a_capture_on_the_store_is_respected() {
    let (scene, origin) = captured(&[GET], OK).await;
    let mut capture = scene.start(&["capture", "-p", "0"]);
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(capture.stderr.take().unwrap()));
    let ready = crate::harness::soon("the capture", lines.next_line()).await.unwrap().unwrap();
    let addr = ready.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().to_owned();

    let refused = scene.run(&["replay", "1"]).await;
    refused.expect(4);
    assert!(refused.err.contains("error[E401]") && refused.err.contains("--into"), "{}", refused.err);

    let into = scene.path("other.db");
    let to = format!("http://{addr}");
    let refused = scene.run(&["replay", "1", "--into", &into, "--to", &to]).await;
    assert!(refused.expect(5).contains("is this proxy itself"), "{}", refused.out);
    origin.expect_nobody();
}
