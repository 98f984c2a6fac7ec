//! `manent stats`: figures of a store whose flows are known.

use std::sync::Arc;

use manent::flow::{Flow, FlowError, Side, Stage, State};
use serde_json::{Value, json};

use crate::cli::{Home, flow, parse, text};

/// A flow to this host, with this status and this type.
fn to(host: &str, status: u16, media_type: &str, body: &[u8]) -> Flow {
    let mut flow = flow("/", body);
    flow.target.host = host.into();
    let response = flow.response.as_mut().unwrap();
    response.status = status;
    response.headers.push("Content-Type", media_type);
    flow
}

fn failed() -> Flow {
    let error = FlowError {
        side: Side::Server,
        stage: Stage::Connect,
        message: "refused".into(),
        ..FlowError::default()
    };
    let mut flow = Flow { state: State::Failed, error: Some(error), response: None, ..flow("/", b"") };
    flow.request.as_mut().unwrap().method = "POST".into();
    flow.timing.started_unix_ns += 60_000_000_000;
    flow
}

fn home() -> Home {
    let html = "text/HTML; charset=utf-8";
    Home::with([
        to("a.test", 200, html, &[1; 1000]),
        to("a.test", 204, "text/html", b""),
        to("b.test", 404, "application/json", &[1; 5000]),
        to("\u{1b}c.test", 500, "image/png", b"x"),
        failed(),
    ])
}

#[test]
fn figures_are_those_of_the_flows() {
    let home = home();
    home.run(&["mark", "1-3"]);
    home.run(&["comment", "2", "x"]);
    home.run(&["tag", "1-2", "+login"]);
    let stats = parse(&home.run(&["stats", "--json"]).stdout);
    let expected = [
        ("flows", json!(5)),
        ("first_mid", json!(1)),
        ("last_mid", json!(5)),
        ("request_bytes", json!(0)),
        ("response_bytes", json!(6001)),
        ("first_started", json!("2026-11-22T10:00:04.123456Z")),
        ("last_started", json!("2026-11-22T10:01:04.123456Z")),
        ("marked", json!(3)),
        ("commented", json!(1)),
        ("kinds", json!({"http": {"flows": 5, "bytes": 6001}})),
        ("states", json!({"complete": {"flows": 4, "bytes": 6001}, "failed": {"flows": 1, "bytes": 0}})),
        ("tags", json!([{"name": "login", "flows": 2}])),
    ];
    for (key, value) in expected {
        assert_eq!(stats[key], value, "{key}");
    }
    assert_eq!(stats["status_classes"]["2xx"], json!({"flows": 2, "bytes": 1000}));
    assert_eq!(stats["statuses"]["404"], json!({"flows": 1, "bytes": 5000}));
    assert_eq!(stats["hosts"]["exact"], true);
    assert_eq!(stats["hosts"]["top"][0], json!({"name": "a.test", "flows": 2, "bytes": 1000}));
    assert_eq!(stats["methods"]["top"][1], json!({"name": "POST", "flows": 1, "bytes": 0}));
    assert_eq!(stats["types"]["top"][0], json!({"name": "text/html", "flows": 2, "bytes": 1000}));
    assert!(stats["files"]["database_bytes"].as_u64().unwrap() > 4096);
    assert!(stats["files"]["segment_bytes"].as_u64().unwrap() > 5000);
    let session = &stats["sessions"][0];
    assert_eq!((&session["closed"], &session["counts"]["stored"]), (&json!(true), &json!(5)));
    assert_eq!((&session["counts"]["lost"], &session["counts"]["lost_bodies"]), (&json!(0), &json!(0)));
}

#[test]
fn people_get_columns_and_no_control_characters() {
    let home = home();
    let page = text(&home.run(&["stats", "--top", "1"]).stdout);
    assert!(
        page.starts_with("flows     5  mids 1–5\nbytes     0 in requests, 6.0k in responses\n"),
        "{page}"
    );
    assert!(page.contains("\nstatuses\n        2   1.0k  2xx\n"), "{page}");
    assert!(page.contains("\nhosts\n        2   1.0k  a.test\n\n"), "{page}");
    assert!(page.contains("5 flows stored, ") && !page.contains("LOST"), "{page}");
    let all = text(&home.run(&["stats"]).stdout);
    assert!(all.contains("\\x1bc.test") && !all.contains('\u{1b}'), "{all}");
}

#[test]
fn a_session_that_was_not_closed_is_told() {
    let home = home();
    let recorder = Arc::new(home.recorder());
    home.runtime.block_on(recorder.store(flow("/", b"x"))).unwrap();
    let stats = parse(&home.run(&["stats", "--json"]).stdout);
    assert_eq!(stats["flows"], 6);
    let ended: Vec<&Value> = stats["sessions"].as_array().unwrap().iter().map(|s| &s["ended"]).collect();
    assert!(ended.len() == 2 && ended[0].is_null() && ended[1].is_string(), "{ended:?}");
    let page = text(&home.run(&["stats"]).stdout);
    assert!(page.contains("not closed: it is running, or was cut off"), "{page}");
    home.runtime.block_on(recorder.close()).unwrap();
    let empty = parse(&Home::with([]).run(&["stats", "--json"]).stdout);
    assert_eq!((&empty["flows"], &empty["first_mid"]), (&json!(0), &Value::Null));
}
