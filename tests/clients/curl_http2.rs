//! curl over HTTP/2, with TLS and by prior knowledge.

use std::fs::File;

use tokio::process::Command;

use crate::harness::{GZIP_TEXT, OverHttp2, Program, ServerStage, binary, succeed, text};

#[tokio::test]
async fn requests_of_every_kind_are_recorded_as_they_were() {
    let mut stage = stage().await;
    let url = |path: &str| stage.url("https", "https", path);
    let head = text(&succeed(curl(&stage).arg("-i").args(FIELDS).arg(url("/hello?q=a%20b&q="))).await);
    assert!(head.starts_with("HTTP/2 200 \r\n") && head.ends_with("\r\n\r\nhello, world\n"), "{head}");
    assert!(head.contains("set-cookie: a=1; Path=/\r\nset-cookie: b=2; Path=/\r\n"), "{head}");
    let head = text(&succeed(curl(&stage).arg("-I").arg(url("/hello?head"))).await);
    assert!(head.contains("content-length: 13\r\n"), "{head}");
    assert_eq!(text(&succeed(curl(&stage).arg("--compressed").arg(url("/gzip"))).await), GZIP_TEXT);
    let output = succeed(curl(&stage).args([url("/nothing"), url("/binary")])).await;
    assert!(output == binary(300_000), "{} bytes", output.len());
    let pairs = stage.assert_recorded().await;
    assert!(pairs.iter().all(|pair| pair.record.client_sni() == Some("localhost")));
}

#[tokio::test]
async fn uploads_with_and_without_a_length_are_recorded() {
    let mut stage = stage().await;
    let path = stage.dir.path().join("body");
    std::fs::write(&path, binary(200_000)).expect("writable");
    let data = format!("@{}", path.display());
    let url = |path: &str| stage.url("https", "https", path);
    let sized = succeed(curl(&stage).args(["--data-binary", &data, &url("/sized")])).await;
    let file = File::open(&path).expect("just written");
    let unsized_ = succeed(curl(&stage).args(["-T", "-", &url("/unsized")]).stdin(file)).await;
    assert_eq!([text(&sized), text(&unsized_)], ["received 200000", "received 200000"]);
    let pairs = stage.assert_recorded().await;
    let lengths: Vec<_> = pairs.iter().map(|pair| pair.seen.header("content-length")).collect();
    assert_eq!(lengths, [Some("200000"), None], "none is made up");
    assert!(pairs.iter().all(|pair| pair.seen.body == binary(200_000)));
}

#[tokio::test]
async fn trailers_reach_the_client_and_the_record() {
    let mut stage = stage().await;
    let printed = text(&succeed(curl(&stage).arg("-i").arg(stage.url("https", "https", "/trailers"))).await);
    assert!(printed.ends_with("first, secondx-checksum: 7\r\nx-more: 1\r\nx-more: 2\r\n"), "{printed}");
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs[0].record.response_trailers()[0], ("x-checksum".to_owned(), "7".to_owned()));
}

#[tokio::test]
async fn interim_responses_come_from_the_origin() {
    let mut stage = stage().await;
    let url = |path: &str| stage.url("https", "https", path);
    let early = text(&succeed(curl(&stage).arg("-i").arg(url("/early"))).await);
    let hint = "HTTP/2 103 \r\nlink: </style.css>; rel=preload\r\n\r\nHTTP/2 200 \r\n";
    assert!(early.starts_with(hint), "{early}");
    let path = stage.dir.path().join("body");
    std::fs::write(&path, binary(5000)).expect("writable");
    let expect = ["-i", "-H", "Expect: 100-continue", "-T", path.to_str().expect("UTF-8")];
    let expected = text(&succeed(curl(&stage).args(expect).arg(url("/expect"))).await);
    assert!(expected.starts_with("HTTP/2 100 \r\n\r\nHTTP/2 200 \r\n"), "{expected}");
    stage.assert_recorded().await;
}

#[tokio::test]
async fn parallel_transfers_share_one_connection() {
    let mut stage = stage().await;
    // With 300 KB each, curl 7.88 behind a proxy waits for ever, once in a hundred runs, for what it has read already.
    let urls = stage.url("https", "https", "/small?[1-20]");
    let output =
        succeed(curl(&stage).args(["--parallel", "--parallel-max", "20", "-o", "/dev/stdout", &urls])).await;
    assert_eq!(output.len(), 20 * 20_000);
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs.len(), 20);
    let first = pairs[0].record.client_conn();
    assert!(pairs.iter().all(|pair| pair.record.client_conn() == first), "one connection of the client");
    assert!(pairs.iter().all(|pair| pair.seen.connection == pairs[0].seen.connection), "one to the origin");
}

#[tokio::test]
async fn prior_knowledge_in_a_tunnel_is_http2_in_clear() {
    let mut stage = stage().await;
    let path = stage.dir.path().join("body");
    std::fs::write(&path, binary(200_000)).expect("writable");
    let data = format!("@{}", path.display());
    let url = |path: &str| stage.url("http", "http", path);
    let clear = ["--proxytunnel", "--http2-prior-knowledge"];
    // One request a command: curl 7.88 fails when it uses such a connection twice, without a proxy, too.
    assert_eq!(text(&succeed(curl(&stage).args(clear).arg(url("/hello"))).await), "hello, world\n");
    let output = succeed(curl(&stage).args(clear).arg(url("/binary"))).await;
    assert!(output == binary(300_000), "{} bytes", output.len());
    let output = succeed(curl(&stage).args(clear).args(["--data-binary", &data, &url("/sized")])).await;
    assert_eq!(text(&output), "received 200000");
    let pairs = stage.assert_recorded().await;
    assert_eq!(pairs.len(), 3);
    assert_eq!(pairs[0].record.client_sni(), None);
}

async fn stage() -> ServerStage {
    ServerStage::http2(OverHttp2::Missing).await
}

/// curl over HTTP/2 through the stage's proxy, which it trusts, without a configuration file.
fn curl(stage: &ServerStage) -> Command {
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "--max-time", "30", "--http2", "--suppress-connect-headers"]);
    curl.args(["--proxy", &stage.proxy.url(), "--cacert"]).arg(&stage.proxy.ca);
    curl
}

const FIELDS: &[&str] =
    &["-H", "x-odd: 1", "-H", "x-dup: a", "-H", "x-other;", "-H", "X-Dup: b", "-b", "a=1; b=2"];
