//! Which recorded request answers which (wire cases RP-01 to RP-08, RP-15, RP-16).

use manent::replay::serve::{Field, ServeOptions};

use super::{get, matching, ok, post};
use crate::harness::{Origin, Setup};

/// A capture of these requests, served; each response's body is the number of its request.
async fn served(options: ServeOptions, requests: &[String]) -> (Setup, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (number, request) in (1..).zip(requests) {
        setup.record(&origin, request, &ok(&format!("{number}"))).await;
    }
    let (serving, _) = setup.serve(ServeOptions { reuse: true, ..options }).await;
    (serving, origin)
}

/// RP-01, RP-03, RP-16.
#[tokio::test]
async fn by_default_all_but_header_fields_count() {
    let (serving, origin) = served(ServeOptions::default(), &[get("/p;x?a=1"), get("/?blank")]).await;
    let more = get("/p;x?a=1").replace("\r\n\r\n", "\r\nX-More: 1\r\n\r\n");
    serving.expect_answer(&origin, &more, &ok("1")).await;
    serving.expect_answer(&origin, &get("/?blank"), &ok("2")).await;
    for other in ["/p;y?a=1", "/p?a=1", "/p;x?a=2", "/p;x", "/?", "/"] {
        serving.expect_miss(&origin, &get(other)).await;
    }
    serving.expect_miss(&origin, &get("/p;x?a=1").replace("GET", "PUT")).await;
    origin.expect_nobody();
}

/// RP-02.
#[tokio::test]
async fn header_fields_count_when_they_are_named() {
    let with = |foo: &str| get("/").replace("\r\n\r\n", &format!("\r\n{foo}\r\n\r\n"));
    let options = matching(|matching| matching.fields.push(Field::Header("foo".into())));
    let (serving, origin) = served(options, &[with("Foo: 1"), with("X: 1")]).await;
    serving.expect_answer(&origin, &with("foo: 1\r\nOther: 2"), &ok("1")).await;
    serving.expect_answer(&origin, &get("/"), &ok("2")).await;
    let told = serving.expect_miss(&origin, &with("Foo: 2")).await;
    assert!(told.contains("header foo: recorded none, asked 2"), "{told}");
}

/// RP-04: another body is another request, unless bodies do not count; then also an empty one and none.
#[tokio::test]
async fn bodies_count_unless_told_not_to() {
    let request = post("/", "text/plain", "one");
    let (serving, origin) = served(ServeOptions::default(), std::slice::from_ref(&request)).await;
    serving.expect_answer(&origin, &request, &ok("1")).await;
    let told = serving.expect_miss(&origin, &post("/", "text/plain", "two")).await;
    assert!(told.contains("body: recorded 3 bytes, asked 3 bytes"), "{told}");
    serving.expect_miss(&origin, &post("/", "text/plain", "")).await;

    let (serving, origin) = served(matching(|matching| matching.ignore(&Field::Body)), &[request]).await;
    for body in ["one", "two", ""] {
        serving.expect_answer(&origin, &post("/", "text/plain", body), &ok("1")).await;
    }
    serving.expect_answer(&origin, &get("/").replace("GET", "POST"), &ok("1")).await;
}

/// A body is what it holds, however it comes.
#[tokio::test]
async fn framing_does_not_count() {
    let chunked = "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1\r\no\r\n2\r\nne\r\n0\r\n\r\n";
    let (serving, origin) = served(ServeOptions::default(), &[post("/", "text/plain", "one")]).await;
    serving.expect_answer(&origin, chunked, &ok("1")).await;
}

/// RP-05.
#[tokio::test]
async fn parameters_of_the_query_are_ignored_by_name() {
    let options = matching(|matching| matching.ignored_params = vec!["p1".into(), "p2".into()]);
    let (serving, origin) = served(options, &[get("/?p1=1")]).await;
    for same in ["/", "/?p1=2", "/?p2=1", "/?p1&p2=3"] {
        serving.expect_answer(&origin, &get(same), &ok("1")).await;
    }
    let told = serving.expect_miss(&origin, &get("/?p3=2")).await;
    assert!(told.contains("query p3: recorded none, asked p3=2"), "{told}");
}

/// RP-06.
#[tokio::test]
async fn fields_of_forms_are_ignored_by_name() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let multipart = |boundary: &str, token: &str, name: &str| {
        let part = |field: &str, value: &str| {
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n")
        };
        let body = part("token", token) + &part("name", name) + &format!("--{boundary}--\r\n");
        post("/", &format!("multipart/form-data; boundary={boundary}"), &body)
    };
    let options = matching(|matching| matching.ignored_payload_params = vec!["token".into()]);
    let recorded = [post("/", FORM, "token=1&name=a"), multipart("one", "1", "a")];
    let (serving, origin) = served(options, &recorded).await;
    for same in ["token=2&name=a", "name=a", "name=a&token"] {
        serving.expect_answer(&origin, &post("/", FORM, same), &ok("1")).await;
    }
    for other in ["token=1&name=b", "token=1", "token=1&name=a&more=1"] {
        serving.expect_miss(&origin, &post("/", FORM, other)).await;
    }
    serving.expect_answer(&origin, &multipart("two", "2", "a"), &ok("2")).await;
    serving.expect_miss(&origin, &multipart("one", "1", "b")).await;
}

/// Beyond RP-07: JSON is compared by what it means, and the page tells where it differs.
#[tokio::test]
async fn json_counts_by_value() {
    let json = |text: &str| post("/", "application/json; charset=utf-8", text);
    let (serving, origin) = served(ServeOptions::default(), &[json("{\"a\":[1,2],\"b\":\"\\u00e9\"}")]).await;
    serving.expect_answer(&origin, &json("{ \"b\": \"é\",\n \"a\": [1, 2.0] }"), &ok("1")).await;
    let told = serving.expect_miss(&origin, &json("{\"a\":[1,3],\"b\":\"é\"}")).await;
    assert!(told.contains("body: $.a[1]: recorded 2, asked 3"), "{told}");
    serving.expect_miss(&origin, &json("{\"a\":[1,2],\"b\":\"\\u00e9\"")).await;
}

/// RP-08, and `--any-origin`, which takes scheme and port as well.
#[tokio::test]
async fn any_host_will_do_if_told_so() {
    let options = matching(|matching| matching.ignore(&Field::Host));
    let (serving, origin) = served(options, &[get("/")]).await;
    let port = origin.addr().port();
    let other = format!("GET http://other.test:{port}/ HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n");
    serving.expect_answer(&origin, &other, &ok("1")).await;
    serving.expect_miss(&origin, "GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n").await;
    let options = matching(|matching| {
        [Field::Scheme, Field::Host, Field::Port].iter().for_each(|field| matching.ignore(field));
    });
    let (serving, origin) = served(options, &[get("/a")]).await;
    serving.expect_answer(&origin, "GET /a HTTP/1.1\r\nHost: localhost:9000\r\n\r\n", &ok("1")).await;
}

/// The filter says which flows answer; RP-15: one without an answer of an origin's does not.
#[tokio::test]
async fn only_what_matches_and_was_answered_answers() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.record(&origin, &get("/a"), &ok("a")).await;
    setup.record(&origin, &get("/b"), &ok("b")).await;
    let (client, server) = setup.asked(&origin, get("/dropped")).await;
    drop((server, client));
    setup.flow().await;
    let (serving, answers) = setup.serve_with(ServeOptions::default(), "!~u /b", |_| {}).await;
    assert_eq!((answers.indexed().seen, answers.indexed().answers), (2, 1));
    serving.expect_answer(&origin, &get("/a"), &ok("a")).await;
    serving.expect_miss(&origin, &get("/b")).await;
    serving.expect_miss(&origin, &get("/dropped")).await;
    origin.expect_nobody();
}

/// The page says what is recorded that comes nearest, in words that a terminal can take.
#[tokio::test]
async fn a_miss_tells_what_came_nearest() {
    let (serving, origin) =
        served(ServeOptions::default(), &[get("/items/1?x=1"), get("/items/12?x=1&y=2"), get("/other")])
            .await;
    let told = serving.expect_miss(&origin, &get("/items/12?x=1&y=3")).await;
    assert!(told.contains("nearest: flow 2, GET http://"), "{told}");
    assert!(told.contains("query y: recorded y=2, asked y=3") && !told.contains("query x"), "{told}");
    let told = serving.expect_miss(&origin, &get("/items/13")).await;
    assert!(
        told.contains("nearest: flow 1") && told.contains("path: recorded /items/1, asked /items/13"),
        "{told}"
    );
    let told =
        serving.expect_miss(&origin, "GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n\r\n").await;
    assert!(told.contains("nothing is recorded of this host or path"), "{told}");
    assert!(told.contains("text/plain") && told.contains("nosniff"), "{told}");
}
