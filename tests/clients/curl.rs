//! curl: each way of framing, over TLS and in clear.

use std::fs::File;

use tokio::process::Command;

use crate::harness::{GZIP_TEXT, Program, Stage, binary, finish, succeed, text};

#[tokio::test]
async fn get_over_https_is_recorded_as_it_was_on_the_wire() {
    let mut stage = Stage::new().await;
    let url = stage.https.url("/hello?q=a%20b&q=");
    let fields = ["-H", "X-oDD: 1", "-H", "x-dup: a", "-H", "X-Dup: b"];
    let printed =
        text(&succeed(curl(&stage).args(["-i", "--suppress-connect-headers"]).args(fields).arg(url)).await);
    assert!(printed.starts_with("HTTP/1.1 200 Fine By Me\r\n"), "{printed}");
    let kept =
        "content-LENGTH: 13\r\nSet-Cookie: a=1; Path=/\r\nx-oDD-CaSe: kept\r\nset-cookie: b=2; Path=/\r\n";
    assert!(printed.contains(kept) && printed.ends_with("\r\n\r\nhello, world\n"), "{printed}");
    let seen = stage.https.seen();
    let records = stage.assert_recorded(&seen).await;
    assert_eq!(records[0].client_sni(), Some("localhost"));
    assert_eq!(seen[0].header("proxy-connection"), None);
}

#[tokio::test]
async fn get_over_http_is_recorded_as_it_was_on_the_wire() {
    let mut stage = Stage::new().await;
    let printed = succeed(curl(&stage).args([stage.http.url("/hello"), stage.http.url("/nothing")])).await;
    assert_eq!(text(&printed), "hello, world\n");
    let seen = stage.http.seen();
    let records = stage.assert_recorded(&seen).await;
    assert_eq!(records[0].client_conn(), records[1].client_conn(), "one kept connection");
    assert_eq!(records[0].host(), "localhost");
}

#[tokio::test]
async fn a_certificate_for_an_address_is_accepted() {
    let mut stage = Stage::new().await;
    let url = format!("https://127.0.0.1:{}/hello", stage.https.port);
    assert_eq!(text(&succeed(curl(&stage).arg(url)).await), "hello, world\n");
    let seen = stage.https.seen();
    stage.assert_recorded(&seen).await;
}

#[tokio::test]
async fn a_posted_body_is_recorded_to_the_byte() {
    let mut stage = Stage::new().await;
    let file = body_file(&stage, 200_000);
    for origin in [&stage.https, &stage.http] {
        let printed =
            succeed(curl(&stage).args(["--data-binary", &format!("@{file}")]).arg(origin.url("/echo"))).await;
        assert_eq!(text(&printed), "received 200000");
    }
    let seen = [stage.https.seen(), stage.http.seen()].concat();
    assert!(seen.iter().all(|seen| seen.body == binary(200_000)));
    stage.assert_recorded(&seen).await;
}

#[tokio::test]
async fn a_chunked_upload_is_recorded_without_its_chunks() {
    let mut stage = Stage::new().await;
    let file = File::open(body_file(&stage, 70_001)).expect("just written");
    let url = stage.https.url("/echo");
    assert_eq!(text(&succeed(curl(&stage).args(["-T", "-", &url]).stdin(file)).await), "received 70001");
    let seen = stage.https.seen();
    assert_eq!(seen[0].header("transfer-encoding"), Some("chunked"));
    stage.assert_recorded(&seen).await;
}

#[tokio::test]
async fn the_origin_answers_expect_100_continue() {
    let mut stage = Stage::new().await;
    let file = body_file(&stage, 1_500_000);
    let url = stage.https.url("/echo");
    let upload = ["-H", "Expect: 100-continue", "-T", &file, &url];
    assert_eq!(text(&succeed(curl(&stage).args(upload)).await), "received 1500000");
    let seen = stage.https.seen();
    assert_eq!(seen[0].header("expect"), Some("100-continue"));
    let records = stage.assert_recorded(&seen).await;
    assert_eq!(records[0].interim_statuses(), [100]);
}

#[tokio::test]
async fn head_has_no_body() {
    let mut stage = Stage::new().await;
    let printed = text(&succeed(curl(&stage).arg("-I").arg(stage.https.url("/hello"))).await);
    assert!(printed.contains("content-LENGTH: 13\r\n"), "{printed}");
    let seen = stage.https.seen();
    stage.assert_recorded(&seen).await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_recorded_as_such() {
    let mut stage = Stage::new().await;
    for path in ["/hello", "/chunked"] {
        succeed(curl(&stage).arg("--http1.0").arg(stage.https.url(path))).await;
        succeed(curl(&stage).arg("--http1.0").arg(stage.http.url(path))).await;
    }
    let (https, http) = (stage.https.seen(), stage.http.seen());
    let seen: Vec<_> = https.into_iter().zip(http).flat_map(|(one, other)| [one, other]).collect();
    assert!(seen.iter().all(|seen| seen.version == "HTTP/1.1"), "each hop speaks its own version");
    let records = stage.assert_recorded(&seen).await;
    assert!(records.iter().all(|record| record.request_version() == "HTTP/1.0"), "{records:#?}");
}

#[tokio::test]
async fn a_compressed_body_is_kept_compressed_and_shown_decoded() {
    let mut stage = Stage::new().await;
    let printed = succeed(curl(&stage).arg("--compressed").arg(stage.https.url("/gzip"))).await;
    assert_eq!(text(&printed), GZIP_TEXT);
    let seen = stage.https.seen();
    let records = stage.assert_recorded(&seen).await;
    let decoded = stage.proxy.store.ask(&["cat", &records[0].mid().to_string()]).await;
    assert_eq!(text(&decoded), GZIP_TEXT);
}

#[tokio::test]
async fn chunks_trailers_and_bodies_ended_by_close_pass() {
    let mut stage = Stage::new().await;
    let urls = ["/chunked", "/until-close", "/binary"].map(|path| stage.https.url(path));
    let output = finish(curl(&stage).args(urls)).await;
    let text = b"first, secondends with the connection".as_slice();
    assert!(output.stdout == [text, &binary(300_000)].concat(), "{}", output.status);
    let seen = stage.https.seen();
    let records = stage.assert_recorded(&seen).await;
    assert_eq!(records[0].response_trailers(), [("X-Checksum".to_owned(), "7".to_owned())]);
}

/// `curl --proxy https://…`: TLS with the proxy itself, and TLS in a tunnel inside of it.
#[tokio::test]
async fn curl_speaks_tls_with_the_proxy_itself() {
    let mut stage = Stage::new().await;
    let proxy = format!("https://localhost:{}", stage.proxy.port);
    let command = || {
        let mut command = curl(&stage);
        command.args(["--proxy", &proxy, "--proxy-cacert"]).arg(&stage.proxy.ca);
        command
    };
    for origin in [&stage.https, &stage.http] {
        assert_eq!(text(&succeed(command().arg(origin.url("/hello"))).await), "hello, world\n");
    }
    let seen = [stage.https.seen(), stage.http.seen()].concat();
    for record in stage.assert_recorded(&seen).await {
        let info = &record.shown["client"]["proxy_tls"];
        assert_eq!(info["sni"], "localhost", "{info}");
        // Older ones offer nothing to a proxy.
        assert!(matches!(info["alpn"].as_str(), None | Some("http/1.1")), "{info}");
    }
}

/// curl through the stage's proxy, which it trusts, without a configuration file.
fn curl(stage: &Stage) -> Command {
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "--max-time", "30", "--proxy", &stage.proxy.url(), "--cacert"])
        .arg(&stage.proxy.ca);
    curl
}

/// The path of a file of `len` bytes.
fn body_file(stage: &Stage, len: usize) -> String {
    let path = stage.dir.path().join(format!("body-{len}"));
    std::fs::write(&path, binary(len)).expect("writable");
    path.to_str().expect("UTF-8").to_owned()
}
