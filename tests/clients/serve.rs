//! A session of Chromium's that was captured, rendered again from the store alone.

use crate::chromium::command;
use crate::harness::{Proxy, Stage, Trust, succeed, text};

#[tokio::test]
async fn a_page_renders_from_the_store_with_its_origin_gone() {
    let mut stage = Stage::new().await;
    let url = stage.https.url("/page");
    let mut chromium = command(stage.dir.path(), &stage.proxy);
    chromium.arg("--virtual-time-budget=20000");
    let captured = text(&succeed(chromium.arg("--dump-dom").arg(&url)).await);
    assert!(captured.contains("api received 17"), "{captured}");
    stage.proxy.stop().await;
    let Stage { https, http, proxy, dir } = stage;
    let port = https.port;
    drop((https, http, proxy));
    let down = async {
        // Its end is a task's, which comes when that is its turn.
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), down).await.expect("the origin goes down");

    let trust = Trust::new(dir.path());
    // With this it ends well only if each answer was given, once, and nothing else was asked for.
    let mut served = Proxy::serving(dir.path(), &trust, &["--strict"]).await;
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).expect("writable");
    let mut chromium = command(&fresh, &served);
    chromium.arg("--virtual-time-budget=20000");
    let rendered = text(&succeed(chromium.arg("--dump-dom").arg(&url)).await);
    assert_eq!(rendered, captured);
    served.stop().await;
}
