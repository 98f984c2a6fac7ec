//! What `show` says of gRPC calls: message borders instead of bytes, trailers, the status. The flows are stored directly:
//! how they come over HTTP/2 is another matter.

use manent::flow::{Body, BodyEnd, Flow, Headers, Request, Response, State};
use serde_json::{Value, json};

use crate::cli::{Home, flow, parse, text};

fn fields(fields: &[(&str, &str)]) -> Headers {
    fields.iter().copied().collect()
}

fn message(flags: u8, payload: &[u8]) -> Vec<u8> {
    [&[flags], &u32::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

/// A call with these bodies and trailers.
fn call(media_type: &str, request: &[u8], response: &[u8], trailers: Option<Headers>) -> Flow {
    let flow = flow("/pkg.Greeter/Hello", b"");
    let typed = |body: &[u8]| (fields(&[("content-type", media_type)]), Body::inline(body.to_vec()));
    let (request_headers, request_body) = typed(request);
    let (headers, body) = typed(response);
    Flow {
        request: Some(Request { headers: request_headers, body: request_body, ..flow.request.unwrap() }),
        response: Some(Response {
            headers,
            body,
            trailers: trailers.map(Box::new),
            ..flow.response.unwrap()
        }),
        ..flow
    }
}

fn shown(home: &Home, mid: &str) -> (String, Value) {
    let page = text(&home.run(&["show", mid]).stdout);
    let json = parse(&home.run(&["show", mid, "--json"]).stdout)["grpc"].take();
    (page, json)
}

#[test]
fn messages_trailers_and_status_are_listed() {
    let request = message(0, b"\x0a\x05world");
    let response = [message(0, b"\x0a\x02hi"), message(1, &[0xff; 300]), message(0, b"")].concat();
    let trailers = fields(&[("grpc-status", "5"), ("grpc-message", "no%20such%0athing %1b[2J"), ("x", "y")]);
    let home = Home::with([call("application/grpc+proto", &request, &response, Some(trailers))]);
    let (page, grpc) = shown(&home, "1");
    for line in [
        "(1 message)\n     1  offset 0           7 bytes\n",
        "(3 messages)\n     1  offset 0           4 bytes\n     2  offset 9           300 bytes, compressed\n",
        "     3  offset 314         0 bytes\n",
        "(trailers)\ngrpc-status: 5\ngrpc-message: no%20such%0athing %1b[2J\nx: y\n",
        "gRPC status 5 NOT_FOUND: no such\\nthing \\x1b[2J\n",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let message = |offset, len, compressed| json!({"offset": offset, "len": len, "compressed": compressed, "cut": false});
    assert_eq!(grpc["request_messages"], json!([message(0, 7, false)]));
    let expected = json!([message(0, 4, false), message(9, 300, true), message(314, 0, false)]);
    assert_eq!(grpc["response_messages"], expected);
    assert_eq!((&grpc["status"], &grpc["status_name"]), (&5.into(), &"NOT_FOUND".into()));
    assert_eq!(grpc["status_message"], "no such\nthing \u{1b}[2J");
    assert_eq!(home.run(&["cat", "1"]).stdout, response);
}

#[test]
fn trailers_only_and_grpc_web_have_a_status_too() {
    let mut at_once = call("application/grpc", &message(0, b"x"), b"", None);
    at_once.response.as_mut().unwrap().headers.push("grpc-status", "12");
    let web = [message(0, b"hi"), message(0x80, b"grpc-status: 0\r\ngrpc-message: fine\r\n")].concat();
    let web = call("application/grpc-web+proto", &message(0, b"x"), &web, None);
    let home = Home::with([at_once, web, flow("/plain", b"text")]);
    let (page, grpc) = shown(&home, "1");
    assert!(page.contains("\ngRPC status 12 UNIMPLEMENTED\n"), "{page}");
    assert_eq!((&grpc["status"], &grpc["response_messages"]), (&12.into(), &json!([])));
    let (page, grpc) = shown(&home, "2");
    assert!(page.contains("(1 message)\n") && page.contains("\ngRPC status 0 OK: fine\n"), "{page}");
    assert_eq!((&grpc["status"], &grpc["response_message_count"]), (&0.into(), &1.into()));
    assert_eq!(grpc["web_trailers"][1], json!({"name": "grpc-message", "value": "fine"}));
    assert_eq!(shown(&home, "3").1, Value::Null);
}

/// A stream that was cut, and one of which the record holds only the beginning.
#[test]
fn cut_and_capped_messages_say_so() {
    let whole = [message(0, b"one"), message(0, b"second")].concat();
    let mut cut = call("application/grpc", b"", &whole[..15], None);
    cut.state = State::ServerAborted;
    cut.response.as_mut().unwrap().body.end = BodyEnd::CutOff;
    let mut capped = call("application/grpc", b"", &whole[..10], None);
    let body = &mut capped.response.as_mut().unwrap().body;
    (body.len, body.end) = (19, BodyEnd::Capped);
    let mut unknown = call("application/grpc", b"", &whole, None);
    unknown.response.as_mut().unwrap().headers.push("content-encoding", "rot13");
    let home = Home::with([cut, capped, unknown]);
    let (page, grpc) = shown(&home, "1");
    assert!(page.contains("     2  offset 8           6 bytes, cut off after 2 of them\n"), "{page}");
    assert!(page.contains("(body of 15 bytes: It was cut off on the wire.)"), "{page}");
    assert_eq!((&grpc["response_messages"][1]["cut"], &grpc["status"]), (&true.into(), &Value::Null));
    let (page, grpc) = shown(&home, "2");
    assert!(
        page.contains("     2  offset 8           ? bytes, cut off") && page.contains("--body-limit"),
        "{page}"
    );
    assert_eq!(
        grpc["response_messages"][1],
        json!({"offset": 8, "len": null, "compressed": false, "cut": true})
    );
    let (page, grpc) = shown(&home, "3");
    assert!(page.contains("`rot13` is not known"), "{page}");
    assert!(grpc["response_messages_error"].as_str().unwrap().contains("rot13"), "{grpc}");
}

/// A long stream lies in segments, and is listed up to a limit.
#[test]
fn long_streams_are_counted_and_listed_in_part() {
    let body = message(0, b"tick").repeat(12_345);
    let home = Home::with([call("application/grpc", &body, b"", None)]);
    let (page, grpc) = shown(&home, "1");
    assert!(page.contains("(12345 messages)\n") && page.contains("        and 2345 more\n"), "{page}");
    assert_eq!(grpc["request_message_count"], 12_345);
    let listed = grpc["request_messages"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[9_999]["offset"]), (10_000, &(9_999 * 9).into()));
}
