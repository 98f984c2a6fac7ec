//! Python's httpx over HTTP/2.

use crate::harness::{
    OverHttp2, Pair, Server, ServerStage, Store, Trust, binary, clean, python, script, succeed, text,
};
use crate::run::manent_run;

#[tokio::test]
async fn httpx_is_recorded_as_it_was_on_the_wire() {
    let mut stage = ServerStage::http2(OverHttp2::Missing).await;
    let mut command = clean(&python(), stage.dir.path());
    command.arg(script("httpx_client.py")).arg(stage.proxy.url()).arg(&stage.proxy.ca);
    command.arg(stage.url("https", "https", ""));
    assert_eq!(text(&succeed(&mut command).await), "done\n");
    let pairs = stage.pairs().await;
    assert_eq!(pairs.len(), 42);
    for pair in &pairs {
        match pair.seen.target.as_str() {
            "/hang" => assert_eq!((pair.record.state(), pair.seen.reset), ("client-aborted", 8)),
            "/reset?code=2" => assert_eq!(pair.record.state(), "failed"),
            _ => pair.assert_exact(&stage.proxy.store).await,
        }
        if pair.seen.target.ends_with("sized") {
            assert!(pair.seen.body == binary(25_600), "{}", pair.seen.target);
        }
    }
    let first = pairs[0].record.client_conn();
    assert!(pairs.iter().all(|pair| pair.record.client_conn() == first), "all on one connection");
}

#[tokio::test]
async fn httpx_needs_no_setting_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trust = Trust::new(dir.path());
    let mut server = Server::http2(&trust, dir.path(), OverHttp2::Missing).await;
    let store = Store::new(dir.path().join("flows.db"), dir.path());
    let mut command = manent_run(dir.path(), &trust, &store);
    let get = "import httpx, sys; print(httpx.Client(http2=True).get(sys.argv[1]).text, end='')";
    command.arg(python()).args(["-c", get, &server.url("https", "https", "/hello")]);
    assert_eq!(text(&succeed(&mut command).await), "hello, world\n");
    let pairs = Pair::all(store.records().await, &server.finish().await);
    assert_eq!(pairs.len(), 1);
    pairs[0].assert_exact(&store).await;
}
