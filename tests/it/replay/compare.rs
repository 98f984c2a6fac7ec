//! `manent diff`: what counts, what does not, and what is said of it.

use manent::flow::{Body, Flow, Headers};
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};

/// A flow whose response has these fields and this body.
fn answered(fields: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Flow {
    let mut flow = flow("/a", b"");
    let response = flow.response.as_mut().unwrap();
    response.headers = fields.iter().copied().collect::<Headers>();
    response.body = Body::inline(body.into());
    flow
}

const JSON: (&str, &str) = ("Content-Type", "application/json; charset=utf-8");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// What is said of two flows, and the exit code.
fn diff(was: Flow, is: Flow, flags: &[&str]) -> (i32, String) {
    let home = Home::with([was, is]);
    let output = home.run(&[&["diff", "1", "2", "-q"][..], flags].concat());
    (output.status.code().unwrap(), text(&output.stdout))
}

#[test]
fn the_same_by_the_rules_is_the_same() {
    let gzip = |body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        std::io::Write::write_all(&mut encoder, body.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let coded = |level: u32, body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        std::io::Write::write_all(&mut encoder, body.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let long = "abc ".repeat(500);
    for (was, is, flags) in [
        (answered(&[("A", "1"), ("B", "2")], "x"), answered(&[("b", "2"), ("a", "1")], "x"), &[][..]),
        (
            answered(&[("Date", "1"), ("Connection", "close")], "x"),
            answered(&[("Date", "2"), ("Age", "3")], "x"),
            &[],
        ),
        (answered(&[JSON], r#"{"a":1,"b":[1.0]}"#), answered(&[JSON], "{\"b\": [1],\n \"a\": 1}"), &[]),
        (
            answered(&[JSON], r#"{"a":1,"t":5}"#),
            answered(&[JSON], r#"{"a":1,"t":6}"#),
            &["--ignore-json", "$.t"],
        ),
        (
            answered(&[("Set-Cookie", "1")], ""),
            answered(&[("Set-Cookie", "2")], ""),
            &["--ignore-header", "set-cookie"],
        ),
        (
            answered(&[TEXT, ("Content-Encoding", "gzip")], coded(1, &long)),
            answered(&[TEXT, ("Content-Encoding", "gzip")], coded(9, &long)),
            &[],
        ),
    ] {
        assert_eq!(diff(was, is, flags), (0, String::new()), "{flags:?}");
    }
    let plain = answered(&[TEXT], "hello");
    let zipped = answered(&[TEXT, ("Content-Encoding", "gzip")], gzip("hello"));
    assert_eq!(diff(plain, zipped, &["--ignore-header", "content-encoding"]), (0, String::new()));
}

#[test]
fn differences_are_shown_by_what_they_are() {
    let mut gone = answered(&[], "");
    gone.response.as_mut().unwrap().status = 410;
    for (was, is, flags, shown) in [
        (answered(&[], ""), gone, &[][..], "status   200 → 410\n"),
        (
            answered(&[("ETag", "1"), ("E", "x")], ""),
            answered(&[("etag", "2"), ("e", "x")], ""),
            &[],
            "header   ETag\n  - 1\n  + 2\n",
        ),
        (
            answered(&[("Date", "1")], ""),
            answered(&[("Date", "2")], ""),
            &["--strict"],
            "header   Date\n  - 1\n  + 2\n",
        ),
        (
            answered(&[("A", "1"), ("B", "2")], ""),
            answered(&[("B", "2"), ("A", "1")], ""),
            &["--header-order"],
            "header order\n  - A, B\n  + B, A\n",
        ),
        (
            answered(&[JSON], r#"{"a":[{"b":1}],"c":2}"#),
            answered(&[JSON], r#"{"a":[{"b":"x"},null]}"#),
            &[],
            "body     JSON\n  $.a[0].b  1 → \"x\"\n  $.a[1]  + null\n  $.c  - 2\n",
        ),
        (
            answered(&[TEXT], "a\nb\nc\n"),
            answered(&[TEXT], "a\nB\x1b[31m\nc\n"),
            &[],
            "body     text\n  @@ -1,3 +1,3 @@\n   a\n  -b\n  +B\\x1b[31m\n   c\n",
        ),
        (
            answered(&[], b"\xff\x00\x01".to_vec()),
            answered(&[], b"\xff\x00\x02\x03".to_vec()),
            &[],
            "body     differs from byte 2 on (3 bytes → 4 bytes)\n",
        ),
    ] {
        assert_eq!(diff(was, is, flags), (1, shown.to_owned()), "{flags:?}");
    }
}

#[test]
fn json_output_has_the_same() {
    let home = Home::with([
        answered(&[JSON, ("Date", "1")], "[1]"),
        answered(&[JSON, ("Date", "2"), ("X", "y")], "[2]"),
    ]);
    let output = home.run(&["diff", "1", "2", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let object: Value = parse(&output.stdout);
    assert_eq!((&object["mid"], &object["other"], &object["same"]), (&1.into(), &2.into(), &false.into()));
    assert_eq!(object["left_out"], serde_json::json!(["date"]));
    assert_eq!(
        object["differences"],
        serde_json::json!([
            {"what": "header", "name": "X", "was": [], "is": ["y"]},
            {"what": "body", "as": "json", "changes": [{"path": "$[0]", "was": "1", "is": "2"}], "more": 0},
        ])
    );
}

/// What is not there is no equal of anything; requests can be compared, too.
#[test]
fn missing_messages_cut_bodies_and_requests() {
    let mut cut = answered(&[], "half");
    cut.response.as_mut().unwrap().body.end = manent::flow::BodyEnd::CutOff;
    let (code, shown) = diff(answered(&[], "half"), cut, &[]);
    assert_eq!(
        (code, &shown[..]),
        (1, "body     cannot be compared: the second it was cut off after 4 bytes\n")
    );
    let none = Flow { response: None, ..flow("/a", b"") };
    let (code, shown) = diff(flow("/a", b""), none, &[]);
    assert!(code == 1 && shown.starts_with("message  the second has none: "), "{shown}");
    let (code, shown) = diff(flow("/a", b"x"), flow("/b", b"x"), &["--request"]);
    assert_eq!((code, &shown[..]), (1, "request line\n  - GET /a\n  + GET /b\n"));
    assert_eq!(diff(flow("/a", b"x"), flow("/b", b"x"), &[]).0, 0);
}

/// Bodies that are too large to be taken apart are compared as streams.
#[test]
fn large_bodies_are_compared_byte_by_byte() {
    let large = vec![b'a'; 17 << 20];
    let mut other = large.clone();
    other[16_900_000] = b'b';
    let same = diff(answered(&[TEXT], large.clone()), answered(&[TEXT], large.clone()), &[]);
    assert_eq!(same, (0, String::new()));
    let (code, shown) = diff(answered(&[TEXT], large), answered(&[TEXT], other), &[]);
    assert_eq!((code, &shown[..39]), (1, "body     differs from byte 16900000 on "));
}
