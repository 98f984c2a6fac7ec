//! Several answers to one request, and none left (RP-09, RP-10, RP-12 to RP-14).

use std::time::Duration;

use manent::flow::{Body, Mid};
use manent::flow::{Flow, Kind, Request, Response, Scheme, State, Target, Timing};
use manent::record::{Recorder, RecorderOptions};
use manent::replay::serve::{Latency, OnMiss, ServeOptions, ServeOrder};

use super::{get, ok, on_miss};
use crate::harness::{Origin, Setup, all, expect_cut};

/// Two answers to one request.
async fn two() -> (Setup, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/"), &ok("first")).await;
    setup.record(&origin, &get("/"), &ok("second")).await;
    (setup, origin)
}

/// RP-09, RP-13: in their order, each once; then what a miss comes to, and not the network.
#[tokio::test]
async fn answers_are_given_once_in_their_order_and_then_none() {
    let (setup, origin) = two().await;
    let (serving, answers) = setup.serve(ServeOptions::default()).await;
    for body in ["first", "second"] {
        serving.expect_answer(&origin, &get("/"), &ok(body)).await;
    }
    for _ in 0..3 {
        let told = serving.expect_miss(&origin, &get("/")).await;
        assert!(told.contains("all of its answers have been given (flow 1 was the first)"), "{told}");
    }
    let counts = answers.counts();
    assert_eq!((counts.answered, counts.missed, counts.unused), (2, 3, 0));
    origin.expect_nobody();
}

#[tokio::test]
async fn the_newest_can_come_first() {
    let (setup, origin) = two().await;
    let (serving, _) = setup.serve(ServeOptions { order: ServeOrder::Last, ..ServeOptions::default() }).await;
    for body in ["second", "first"] {
        serving.expect_answer(&origin, &get("/"), &ok(body)).await;
    }
    serving.expect_miss(&origin, &get("/")).await;
}

/// RP-10, in both orders.
#[tokio::test]
async fn an_answer_can_be_given_again_and_again() {
    for (order, body) in [(ServeOrder::First, "first"), (ServeOrder::Last, "second")] {
        let (setup, origin) = two().await;
        let (serving, answers) =
            setup.serve(ServeOptions { reuse: true, order, ..ServeOptions::default() }).await;
        for _ in 0..3 {
            serving.expect_answer(&origin, &get("/"), &ok(body)).await;
        }
        assert_eq!((answers.counts().answered, answers.counts().unused), (3, 1));
    }
}

/// A flow that began `hours` after the first, answered with its number.
fn at(hours: i64, number: &str) -> Flow {
    let target = Target { scheme: Scheme::Http, host: "h.test".into(), port: 80 };
    let request = Request { method: "GET".into(), target: "/".into(), ..Request::default() };
    let response = Response {
        status: 200,
        reason: "OK".into(),
        headers: [("Content-Length", "1")].into_iter().collect(),
        body: Body::inline(number.to_owned()),
        ..Response::default()
    };
    Flow {
        kind: Kind::Http,
        state: State::Complete,
        target,
        request: Some(request),
        response: Some(response),
        timing: Timing { started_unix_ns: hours * 3_600_000_000_000, ..Timing::default() },
        ..Flow::default()
    }
}

/// The session's time counts: now is its beginning, whatever came first into the store.
#[tokio::test]
async fn the_nearest_in_time_can_come_first() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    let (dir, config, _) = setup.stop().await;
    let recorder = Recorder::open(&config.store, RecorderOptions::default()).await.unwrap();
    for (hours, number) in [(9, "9"), (0, "0"), (1, "1"), (5, "5")] {
        recorder.store(at(hours, number)).await.unwrap();
    }
    recorder.close().await.unwrap();
    let setup = Setup::resume(dir, config).await;
    let (serving, _) =
        setup.serve(ServeOptions { order: ServeOrder::Nearest, ..ServeOptions::default() }).await;
    for body in ["0", "1", "5", "9"] {
        serving
            .expect_answer(&origin, "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n", &ok(body))
            .await;
    }
    serving.expect_miss(&origin, "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n").await;
}

/// Nobody gets what another got, however many ask at the same time.
#[tokio::test]
async fn each_answer_is_given_to_one_client() {
    const COUNT: usize = 60;
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for n in 0..COUNT {
        setup.record(&origin, &get("/"), &ok(&format!("{n:02}"))).await;
    }
    let (serving, answers) = setup.serve(ServeOptions::default()).await;
    let mut seen = all((0..COUNT + 10)
        .map(|_| serving.answer(&origin, "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")))
    .await;
    seen.retain(|answer| answer.starts_with("HTTP/1.1 200"));
    seen.sort();
    assert!(seen.iter().map(|answer| &answer[answer.len() - 2..]).eq((0..COUNT).map(|n| format!("{n:02}"))));
    assert_eq!((answers.counts().missed, answers.counts().unused), (10, 0));
}

/// RP-12.
#[tokio::test]
async fn a_miss_is_answered_as_told() {
    for (status, line) in [
        (204, "HTTP/1.1 204 No Content\r\n"),
        (400, "HTTP/1.1 400 Bad Request\r\n"),
        (404, "HTTP/1.1 404 Not Found\r\n"),
        (500, "HTTP/1.1 500 Internal Server Error\r\n"),
    ] {
        let (setup, origin) = two().await;
        let (serving, _) = setup.serve(on_miss(OnMiss::Status(status))).await;
        let answer = serving.answer(&origin, &get("/other")).await;
        assert!(answer.starts_with(line), "{answer}");
        assert_eq!(answer.contains("no recorded answer"), status != 204, "{answer}");
        // The connection goes on.
        let mut client = serving.client().await;
        client.send(origin.fill(get("/other").replace("GET", "HEAD") + &get("/"))).await;
        client.head().await;
        client.expect(ok("first")).await;
    }
}

#[tokio::test]
async fn a_miss_can_cut_the_connection() {
    let (setup, origin) = two().await;
    let (serving, _) = setup.serve(on_miss(OnMiss::Kill)).await;
    let mut client = serving.client().await;
    client.send(origin.fill(get("/other"))).await;
    expect_cut(&mut client).await;
    serving.expect_answer(&origin, &get("/"), &ok("first")).await;
    origin.expect_nobody();
}

/// RP-14: a day after, all dates are a day later; how the arithmetic goes is for unit tests.
#[tokio::test]
async fn dates_are_moved_by_the_age_unless_told_not_to() {
    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: {OLD}\r\nExpires: {OLD}\r\nSet-Cookie: a=1; Expires={OLD}; Path=/\r\nContent-Length: 0\r\n\r\n"
    );
    let mut flow = at(0, "");
    flow.response.as_mut().unwrap().headers = [
        ("Date", OLD),
        ("Expires", OLD),
        ("Set-Cookie", "a=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Path=/"),
        ("Content-Length", "0"),
    ]
    .into_iter()
    .collect();
    flow.response.as_mut().unwrap().body = Body::inline("");
    for refresh in [false, true] {
        let (setup, origin) = (Setup::start().await, Origin::listen().await);
        let (dir, config, _) = setup.stop().await;
        let recorder = Recorder::open(&config.store, RecorderOptions::default()).await.unwrap();
        assert_eq!(recorder.store(flow.clone()).await.unwrap(), Mid(1));
        recorder.close().await.unwrap();
        let setup = Setup::resume(dir, config).await;
        let (serving, _) = setup.serve(ServeOptions { refresh, ..ServeOptions::default() }).await;
        let seen = serving.answer(&origin, "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n").await;
        match refresh {
            false => assert_eq!(seen, answer),
            true => {
                // It was recorded in 1970: 24 years before its dates.
                assert!(!seen.contains("1994") && seen.matches("; Path=/").count() == 1, "{seen}");
                assert_eq!(seen.len(), answer.len());
            }
        }
    }
}

/// What was slow is slow again, if that is wanted, or all of it by so much.
#[tokio::test]
async fn answers_come_when_they_are_due() {
    let mut flow = at(0, "1");
    flow.timing = Timing {
        request_end_us: Some(1_000),
        response_head_us: Some(81_000),
        response_end_us: Some(141_000),
        ..flow.timing
    };
    for (latency, least) in [(Latency::Recorded, 140), (Latency::Fixed(Duration::from_millis(90)), 90)] {
        let (setup, origin) = (Setup::start().await, Origin::listen().await);
        let (dir, config, _) = setup.stop().await;
        let recorder = Recorder::open(&config.store, RecorderOptions::default()).await.unwrap();
        recorder.store(flow.clone()).await.unwrap();
        recorder.close().await.unwrap();
        let setup = Setup::resume(dir, config).await;
        let (serving, _) = setup.serve(ServeOptions { latency, ..ServeOptions::default() }).await;
        let mut client = serving.client().await;
        let begin = std::time::Instant::now();
        let close = "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n";
        client.send(origin.fill(close)).await;
        client.drain().await;
        assert!(begin.elapsed() >= Duration::from_millis(least), "{latency:?} {:?}", begin.elapsed());
    }
}
