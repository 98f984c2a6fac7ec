//! There and back; text that people write; and nothing that comes in makes it panic.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::sample::{Sample, body, decoded, encoded, request};
use super::super::transfer::{DecodeError, EncodeError, EncodeOptions};
use super::{FORMAT, parse};
use crate::flow::*;

fn file(samples: &[Sample]) -> String {
    String::from_utf8(encoded(&FORMAT, samples, &EncodeOptions::default()).unwrap()).unwrap()
}

fn read(file: &str) -> Vec<Flow> {
    decoded(&FORMAT, file.as_bytes()).into_iter().map(|one| one.unwrap().flow).collect()
}

fn answered(request: Request, response: Response) -> Sample {
    let flow = Flow { request: Some(request), response: Some(response), ..Flow::default() };
    Sample { flow, ..Sample::default() }
}

fn get(headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().copied().collect();
    Request { method: "GET".into(), target: "/x".into(), headers, ..Request::default() }
}

#[test]
fn messages_are_written_as_they_were_and_read_again() {
    let mut chunked = answered(
        get(&[("Host", "a.test:443")]),
        Response {
            status: 200,
            reason: "Fine".into(),
            headers: [("transfer-encoding", "chunked")].into_iter().collect(),
            body: body(b"hello", Framing::Chunked),
            trailers: Some(Box::new([("X-Sum", "1")].into_iter().collect())),
            ..Response::default()
        },
    );
    chunked.flow.interim.push(Interim { status: 103, reason: "Early".into(), ..Interim::default() });
    let raw = "GET  /x HTTP/1.1\r\nHost:a\r\n\r\n";
    let odd = answered(
        Request { raw_head: Some(raw.into()), ..get(&[("Host", "a")]) },
        Response { status: 204, reason: "No".into(), ..Response::default() },
    );
    let text = file(&[chunked.clone(), odd]);
    let expected = "GET /x HTTP/1.1\r\nHost: a.test:443\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 Fine\r\n\
        transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET  /x HTTP/1.1\r\nHost:a\r\n\r\n\
        HTTP/1.1 204 No\r\n\r\n";
    assert_eq!(text, expected);
    let flows = read(&text);
    let response = flows[0].response.as_ref().unwrap();
    assert_eq!(
        (flows[0].url(), flows[0].state, &flows[0].interim),
        ("https://a.test/x".to_owned(), State::Complete, &chunked.flow.interim)
    );
    assert_eq!(
        (response.body.as_inline(), response.body.wire_len),
        (Some(&Bytes::from_static(b"hello")), 25)
    );
    assert_eq!(response.trailers, chunked.flow.response.as_ref().unwrap().trailers);
    assert_eq!(flows[1].request.as_ref().unwrap().raw_head, Some(raw.into()));
    assert_eq!(flows.len(), 2);
}

#[test]
fn http2_is_written_as_a_gateway_would_send_it_on() {
    let request = Request {
        version: Version::Http2,
        authority: Some("a.test".into()),
        body: body(b"hello", Framing::Stream),
        ..get(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])
    };
    let response = Response {
        status: 404,
        version: Version::Http2,
        body: body(b"", Framing::Stream),
        ..Response::default()
    };
    let expected = "GET /x HTTP/1.1\r\nHost: a.test\r\ncookie: a=1; b=2\r\nx: y\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(file(&[answered(request, response)]), expected);
}

#[test]
fn nothing_is_written_behind_a_message_without_an_end() {
    let close = Response { status: 200, body: body(b"rest", Framing::Close), ..Response::default() };
    let mut cut = Body { len: 9, ..body(b"half", Framing::Length) };
    cut.end = BodyEnd::CutOff;
    let cut = Response {
        status: 200,
        headers: [("Content-Length", "9")].into_iter().collect(),
        body: cut,
        ..Response::default()
    };
    for (response, state) in [(close, State::Complete), (cut, State::ServerAborted)] {
        let sample = answered(get(&[]), response);
        let both = encoded(&FORMAT, &[sample.clone(), sample.clone()], &EncodeOptions::default());
        assert!(matches!(both, Err(EncodeError::Unsuitable(why)) if why.contains("by itself")));
        let flow = read(&file(&[sample])).remove(0);
        assert_eq!((flow.state, flow.response.unwrap().body.len), (state, 4));
    }
}

#[test]
fn text_that_people_write_is_read() {
    let flows = read(
        "\n\nPOST http://a.test:81/x HTTP/1.1\nContent-Length: 2\nA: b\n c\n\nhi\n\nHEAD /y HTTP/2\nHost: b.test\n\nHTTP/2 200\nContent-Length: 5\n\nGET / HTTP/1.0",
    );
    assert_eq!(
        flows.iter().map(Flow::url).collect::<Vec<_>>(),
        ["http://a.test:81/x", "https://b.test/y", "/"]
    );
    let request = flows[0].request.as_ref().unwrap();
    assert_eq!(
        (request.headers.get("a"), request.body.as_inline()),
        (Some(&b"b c"[..]), Some(&Bytes::from_static(b"hi")))
    );
    assert!(request.raw_head.is_some());
    assert_eq!(
        (flows[0].state, flows[1].state, flows[2].state),
        (State::Interrupted, State::Complete, State::Interrupted)
    );
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nall of it")[0].response.as_ref().unwrap().body.len, 9);
    for (bad, word) in [
        ("GET\n\n", "request line"),
        ("GET / HTTP/9\n\n", "HTTP/1.0"),
        ("G(T / HTTP/1.1\n\n", "token"),
        ("GET / HTTP/1.1\nx\n\n", "colon"),
        ("HTTP/1.1 20 OK\n\n", "status line"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nxyz\n", "chunk"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nxyz\n", "longer"),
        ("POST / HTTP/1.1\nContent-Length: -1\n\n", "Content-Length"),
    ] {
        let told = decoded(&FORMAT, bad.as_bytes()).remove(0).unwrap_err();
        assert!(matches!(&told, DecodeError::File { what, .. } if what.contains(word)), "{bad}: {told}");
    }
    assert!(
        parse::sniff(b"GET /x HTTP/1.1\r\n")
            && parse::sniff(b"HTTP/1.1 200 OK")
            && !parse::sniff(b"curl http://a HTTP/3")
    );
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(samples in proptest::collection::vec(request(), 1..4)) {
        let read = decoded(&FORMAT, &encoded(&FORMAT, &samples, &EncodeOptions::default()).unwrap());
        prop_assert_eq!(read.len(), samples.len());
        for (read, written) in read.into_iter().zip(&samples) {
            let (read, written) = (read.unwrap().flow.request.unwrap(), written.flow.request.as_ref().unwrap());
            prop_assert_eq!((&read.method, &read.target, &read.headers), (&written.method, &written.target, &written.headers));
            prop_assert_eq!((read.body.as_inline(), read.body.framing), (written.body.as_inline(), written.body.framing));
            prop_assert_eq!(read.raw_head, None);
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in "(GET / |HTTP/1.1 ?|200 OK\n|Content-Length: ?|Transfer-Encoding: chunked\r\n|[0-9a]|[ -~]|\n|\r\n)*", bytes: Vec<u8>) {
        let _ = (decoded(&FORMAT, text.as_bytes()), decoded(&FORMAT, &bytes));
    }
}
