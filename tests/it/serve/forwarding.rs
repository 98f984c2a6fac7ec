//! Misses that go on to their origin, and what is recorded of them.

use manent::flow::State;
use manent::replay::serve::{OnMiss, ServeOptions};

use super::{get, ok, on_miss, post};
use crate::harness::{OK, Origin, Peer, Setup};

/// One recorded exchange, and the rest goes to the origin.
async fn forwarding() -> (Setup, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), &ok("stored")).await;
    setup.record(&origin, &post("/form", "text/plain", "recorded"), &ok("form")).await;
    (setup.serve(on_miss(OnMiss::Forward)).await.0, origin)
}

/// Only what is missed goes on; what has been given is missed, too.
#[tokio::test]
async fn what_is_missed_is_asked_of_the_origin() {
    let (serving, origin) = forwarding().await;
    serving.expect_answer(&origin, &get("/"), &ok("stored")).await;
    origin.expect_nobody();
    for path in ["/", "/other"] {
        let (mut client, mut server) = serving.begin(&origin, get(path)).await;
        assert!(server.head().await.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
        server.send(OK).await;
        client.expect(OK).await;
    }
}

/// A body that was read to be compared goes on as it came, small and large; one that cannot match is not even read.
#[tokio::test]
async fn a_body_that_was_compared_goes_on_whole() {
    let (serving, origin) = forwarding().await;
    for len in [5, 300_000] {
        let request = post("/form", "text/plain", &"x".repeat(len));
        let (mut client, mut server) = tokio::join!(send(&serving, &origin, &request), origin.accept());
        server.head().await;
        server.expect("x".repeat(len)).await;
        server.send(OK).await;
        client.expect(OK).await;
    }
    let head = "POST http://{addr}/never HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 5\r\n\r\n";
    let (mut client, mut server) = serving.begin(&origin, head).await;
    server.head().await;
    client.send("later").await;
    server.expect("later").await;
    server.send(OK).await;
    client.expect(OK).await;
}

async fn send(serving: &Setup, origin: &Origin, request: &str) -> Peer {
    let mut client = serving.client().await;
    client.send(origin.fill(request)).await;
    client
}

/// Asked once, recorded into the store that is served, and answered from then on; answers are not recorded again.
#[tokio::test]
async fn what_was_missed_can_be_recorded_and_answers_then() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), &ok("stored")).await;
    let options = ServeOptions { reuse: true, ..on_miss(OnMiss::Record) };
    let (mut serving, answers) = setup.serve(options).await;
    serving.expect_answer(&origin, &get("/"), &ok("stored")).await;
    serving.record(&origin, &get("/new"), &ok("fresh")).await;
    for _ in 0..2 {
        serving.expect_answer(&origin, &get("/new"), &ok("fresh")).await;
        serving.expect_answer(&origin, &get("/"), &ok("stored")).await;
    }
    origin.expect_nobody();
    let counts = answers.counts();
    assert_eq!((counts.answered, counts.missed, counts.unused), (5, 1, 0));
    serving.expect_flows(1).await;
}

/// Into another store goes all that passes, answers and misses.
#[tokio::test]
async fn what_passes_can_be_recorded_into_another_store() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), &ok("stored")).await;
    let store = setup.dir.path().join("again.db");
    let (mut serving, _) = setup
        .serve_with(ServeOptions::default(), "", |config| {
            config.record = true;
            config.store = store;
        })
        .await;
    serving.expect_answer(&origin, &get("/"), &ok("stored")).await;
    let flow = serving.flow().await;
    assert_eq!((flow.state, flow.response.unwrap().by_proxy, flow.server), (State::Complete, false, None));
    serving.expect_miss(&origin, &get("/")).await;
    let flow = serving.flow().await;
    assert_eq!((flow.response.as_ref().unwrap().status, flow.response.unwrap().by_proxy), (404, true));
    serving.expect_flows(2).await;
}

/// By default nothing is.
#[tokio::test]
async fn nothing_is_recorded_unless_wanted() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), &ok("stored")).await;
    let store = setup.config.store.clone();
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    serving.expect_answer(&origin, &get("/"), &ok("stored")).await;
    serving.expect_miss(&origin, &get("/")).await;
    let (_dir, ..) = serving.stop().await;
    let reader = manent::store::Reader::open(&store).unwrap();
    assert_eq!(reader.bounds().unwrap().map(|(_, _, count)| count), Some(1));
}
