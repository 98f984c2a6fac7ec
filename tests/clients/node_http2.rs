//! Node.js: its own http2 on a CONNECT tunnel.

use crate::harness::{OverHttp2, Pair, Program, ServerStage, binary, script, succeed, text};

#[tokio::test]
async fn requests_of_every_kind_are_recorded_as_they_were() {
    let mut stage = run("requests").await;
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs.len(), 12);
    let hello = of(&pairs, "/hello?n=1");
    let cookies: Vec<_> = hello.seen.headers.iter().filter(|(name, _)| name == "cookie").collect();
    assert_eq!(cookies.len(), 2, "crumbs stay crumbs where both sides speak HTTP/2 (RFC 9113 §8.2.3)");
    assert_eq!(hello.seen.header("x-empty"), Some(""));
    for pair in pairs.iter().filter(|pair| pair.seen.method == "POST") {
        assert!(pair.seen.body == binary(25_600), "{}", pair.seen.target);
    }
    assert_eq!(of(&pairs, "/unsized").seen.header("content-length"), None);
}

#[tokio::test]
async fn interim_responses_come_from_the_origin() {
    let mut stage = run("interim").await;
    let pairs = stage.assert_recorded().await;
    assert_eq!(of(&pairs, "/early").record.interim_statuses(), [103]);
    assert_eq!(of(&pairs, "/expect").record.interim_statuses(), [100]);
}

#[tokio::test]
async fn pieces_and_trailers_go_both_ways_at_once() {
    let mut stage = run("duplex").await;
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs[0].seen.body, b"onetwothreefourfive");
    assert_eq!(pairs[0].seen.header("te"), Some("trailers"));
    assert_eq!(pairs[0].record.request_trailers().len(), 2);
}

#[tokio::test]
async fn streams_at_the_same_time_are_kept_apart() {
    let mut stage = run("parallel").await;
    assert_eq!(stage.assert_recorded().await.len(), 50);
}

#[tokio::test]
async fn a_reset_has_the_code_of_the_other_side_and_ends_one_stream() {
    let mut stage = run("resets").await;
    let pairs = stage.pairs().await;
    for Pair { record, seen } in &pairs {
        let path = seen.target.split('?').next().unwrap_or_default();
        match path {
            // Whatever it is called, it is no good end, and the beginning of the body is there.
            "/reset" => assert_eq!((record.state(), record.status()), ("failed", None), "{record:?}"),
            "/cut" => {
                assert_eq!((record.state(), record.status()), ("server-aborted", Some(200)), "{record:?}")
            }
            "/hang" => {
                assert_eq!((record.state(), record.status()), ("client-aborted", Some(200)), "{record:?}");
                assert_eq!(seen.reset, 8, "CANCEL reaches the origin");
            }
            _ => assert_eq!(record.state(), "complete", "{record:?}"),
        }
        let beginning = if matches!(path, "/cut" | "/hang") { "begun" } else { "" };
        let body = record.shown["response"]["body"]["text"].as_str().unwrap_or_default();
        assert!(body == beginning || record.state() == "complete", "{path}: {body}");
    }
    assert_eq!(pairs.len(), 17);
}

#[tokio::test]
async fn a_graceful_goaway_ends_nothing_that_is_under_way() {
    let mut stage = run("goaway").await;
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs.len(), 12);
    let of_goaway = |round| of(&pairs, &format!("/goaway?{round}")).seen.connection;
    assert!(of_goaway(0) != of_goaway(1) && of_goaway(1) != of_goaway(2), "each on a new connection");
}

/// Runs a part of the script, which says what it does.
async fn run(part: &str) -> ServerStage {
    let stage = ServerStage::http2(OverHttp2::Missing).await;
    let mut node = Program::NODE.command(stage.dir.path());
    node.arg(script("http2.mjs")).args([part, &stage.proxy.url()]).arg(&stage.proxy.ca);
    node.args([stage.url("https", "https", ""), stage.url("http", "http", "")]);
    assert_eq!(text(&succeed(&mut node).await), "done\n");
    stage
}

fn of<'a>(pairs: &'a [Pair], path: &str) -> &'a Pair {
    pairs.iter().find(|pair| pair.seen.target == path).unwrap_or_else(|| panic!("no request for {path}"))
}
