//! There and back, what others write, what is broken, and that nothing that comes in makes it panic.

mod own;
mod properties;

use std::io::{self, BufRead, Cursor, Read, Write as _};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::flow::*;
use crate::format::transfer::{DecodeError, Decoded, EncodeError, EncodeOptions, Item, Part, Sink};

/// A flow in memory.
#[derive(Debug, Default)]
struct Sample {
    flow: Flow,
    note: Note,
    messages: Vec<Message>,
}

fn reader(content: &Content) -> Option<Box<dyn Read + '_>> {
    match content {
        Content::Inline(bytes) => Some(Box::new(&bytes[..])),
        Content::Absent | Content::Extents(_) => None,
    }
}

impl Item for Sample {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        &self.note
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        let flow = &self.flow;
        let body = match part {
            Part::Request => flow.request.as_ref().map(|message| &message.body),
            Part::Response => flow.response.as_ref().map(|message| &message.body),
            Part::FromClient => flow.tunnel.as_ref().map(|tunnel| &tunnel.from_client),
            Part::FromServer => flow.tunnel.as_ref().map(|tunnel| &tunnel.from_server),
            Part::Message(_) => None,
        };
        Ok(body.and_then(|body| reader(&body.content)))
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.messages.iter().try_for_each(each)
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        let own = self.messages.iter().find(|own| own.seq == message.seq);
        Ok(own.and_then(|own| reader(&own.content)).unwrap_or_else(|| Box::new(io::empty())))
    }
}

/// Keeps everything.
#[derive(Default)]
struct Kept {
    bytes: Option<Vec<u8>>,
    messages: Vec<Message>,
}

impl Sink for Kept {
    fn begin(&mut self, _: Part) {
        assert!(self.bytes.replace(Vec::new()).is_none(), "one at a time");
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.as_mut().expect("it was begun").extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        Ok(Content::Inline(self.bytes.take().expect("it was begun").into()))
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        self.messages.push(message.clone());
        Ok(())
    }
}

/// The archive of these flows.
fn archive(samples: &[Sample]) -> Vec<u8> {
    let mut encoder = super::encoder(&EncodeOptions::default());
    let mut out = Vec::new();
    for sample in samples {
        encoder.flow(sample, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out
}

/// All that is in it: flows with their messages, and what went wrong.
fn read_all(archive: &[u8]) -> Vec<Result<(Decoded, Vec<Message>), DecodeError>> {
    read_from(Box::new(Cursor::new(archive.to_vec())))
}

fn read_from(archive: Box<dyn BufRead + Send>) -> Vec<Result<(Decoded, Vec<Message>), DecodeError>> {
    let mut decoder = super::decoder(archive);
    let mut all = Vec::new();
    loop {
        let mut kept = Kept::default();
        match decoder.next(&mut kept) {
            Ok(None) => return all,
            Ok(Some(decoded)) => all.push(Ok((decoded, kept.messages))),
            Err(error) => {
                let is_last = !matches!(error, DecodeError::Flow { .. });
                all.push(Err(error));
                if is_last {
                    return all;
                }
            }
        }
    }
}

/// The flows of an archive that is sound.
fn flows(archive: &Json) -> Vec<(Decoded, Vec<Message>)> {
    read_all(archive.to_string().as_bytes()).into_iter().map(|one| one.unwrap()).collect()
}

fn entry(url: &str) -> Json {
    json!({
        "startedDateTime": "2026-11-25T10:00:00.000Z", "time": 12.5,
        "request": {"method": "GET", "url": url, "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "queryString": [], "headersSize": -1, "bodySize": -1},
        "response": {"status": 200, "statusText": "OK", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "content": {"size": 2, "mimeType": "text/plain", "text": "hi"}, "redirectURL": "", "headersSize": -1,
            "bodySize": 2},
        "cache": {}, "timings": {"blocked": 1, "dns": -1, "connect": -1, "ssl": -1, "send": 0.5, "wait": 10, "receive": 1}
    })
}

fn log(entries: &[Json]) -> Json {
    json!({"log": {"version": "1.2", "creator": {"name": "x", "version": "1"}, "entries": entries}})
}

fn body_of(decoded: &Decoded) -> &[u8] {
    decoded.flow.response.as_ref().unwrap().body.as_inline().unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn with_response(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Sample {
    let request = Request {
        method: "GET".into(),
        target: "/x?a=1".into(),
        body: Body::inline(""),
        ..Request::default()
    };
    let response = Response {
        status: 200,
        headers: headers.iter().copied().collect(),
        body: Body::inline(body),
        ..Response::default()
    };
    let target = Target { scheme: Scheme::Https, host: "a.example".into(), port: 8443 };
    Sample {
        flow: Flow { target, request: Some(request), response: Some(response), ..Flow::default() },
        ..Sample::default()
    }
}

#[test]
fn a_body_stands_as_browsers_write_it_and_comes_back_as_it_was() {
    let page = "<p>é</p>".repeat(100);
    let long = page.repeat(2000);
    let latin = "caf\u{e9} \u{20ac}";
    type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, Option<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (&[("Content-Type", "text/html")], page.clone().into_bytes(), Some(&page)),
        (&[("Content-Encoding", "gzip")], gzip(page.as_bytes()), Some(&page)),
        (&[("Content-Type", "text/html; charset=iso-8859-1")], b"caf\xe9 \x80".to_vec(), Some(latin)),
        (&[], b"\x89PNG\0\xff".to_vec(), None),
        (&[("Content-Encoding", "gzip")], gzip(b"\x89PNG\0\xff"), None),
        (&[("Content-Encoding", "gzip")], b"no gzip".to_vec(), None),
        (&[("Content-Encoding", "nosuch")], b"what".to_vec(), None),
        (&[], Vec::new(), Some("")),
        (&[], long.clone().into_bytes(), Some(&long)),
        (&[("Content-Encoding", "gzip")], gzip(&[0xff; 1_000_000]), None),
    ];
    for (headers, body, text) in cases {
        let sample = with_response(headers, body.clone());
        let out = archive(std::slice::from_ref(&sample));
        let parsed: Json = serde_json::from_slice(&out).unwrap();
        let content = &parsed["log"]["entries"][0]["response"]["content"];
        match text {
            Some(text) => {
                assert_eq!((content["text"].as_str(), content["encoding"].as_str()), (Some(text), None));
                assert!(content["size"].as_u64().is_some_and(|size| size >= text.chars().count() as u64));
            }
            None => assert_eq!(content["encoding"], "base64", "{content}"),
        }
        let back = read_all(&out).pop().unwrap().unwrap().0;
        assert_eq!(back.flow.response, sample.flow.response, "{headers:?}");
    }
}

#[test]
fn the_archive_is_as_the_standard_says() {
    let mut sample = with_response(
        &[
            ("Set-Cookie", "a=1; Path=/; HttpOnly; SameSite=Lax; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
            ("Location", "/y"),
        ],
        "hello",
    );
    let request = sample.flow.request.as_mut().unwrap();
    request.headers = [("Cookie", "b=2; c=x=y"), ("Content-Type", "application/x-www-form-urlencoded")]
        .into_iter()
        .collect();
    request.body = Body::inline("q=1+2");
    sample.flow.timing = Timing {
        started_unix_ns: 1_462_197_690_123_456_789,
        connected_us: Some(1500),
        send_start_us: Some(1500),
        send_end_us: Some(1600),
        response_head_us: Some(5600),
        response_end_us: Some(6000),
        ..Timing::default()
    };
    sample.note.comment = Some("look".into());
    let out: Json = serde_json::from_slice(&archive(&[sample])).unwrap();
    let entry = &out["log"]["entries"][0];
    assert_eq!((&out["log"]["version"], &out["log"]["creator"]["name"]), (&json!("1.2"), &json!("manent")));
    assert_eq!(entry["startedDateTime"], "2016-05-02T14:01:30.123456Z");
    assert_eq!((&entry["time"], &entry["comment"]), (&json!(6), &json!("look")));
    assert_eq!(entry["request"]["url"], "https://a.example:8443/x?a=1");
    assert_eq!(entry["request"]["queryString"], json!([{"name": "a", "value": "1"}]));
    assert_eq!(
        entry["request"]["cookies"],
        json!([{"name": "b", "value": "2"}, {"name": "c", "value": "x=y"}])
    );
    assert_eq!(
        entry["request"]["postData"],
        json!({"mimeType": "application/x-www-form-urlencoded", "params": [{"name": "q", "value": "1 2"}], "text": "q=1+2"})
    );
    let cookie = json!({"name": "a", "value": "1", "path": "/", "sameSite": "Lax", "expires": "2026-10-21T07:28:00Z",
        "httpOnly": true, "secure": false});
    assert_eq!(entry["response"]["cookies"], json!([cookie]));
    assert_eq!(entry["response"]["redirectURL"], "/y");
    assert_eq!(entry["response"]["content"], json!({"mimeType": "x-unknown", "text": "hello", "size": 5}));
    let timings =
        json!({"blocked": 1.5, "dns": -1, "connect": -1, "ssl": -1, "send": 0.1, "wait": 4, "receive": 0.4});
    assert_eq!(entry["timings"], timings);
}

#[test]
fn what_has_no_request_is_told_and_an_empty_archive_is_one() {
    let mut encoder = super::encoder(&EncodeOptions::default());
    let mut out = Vec::new();
    let error = encoder.flow(&Sample::default(), &mut out).unwrap_err();
    assert!(matches!(error, EncodeError::Unsuitable(_)) && out.is_empty());
    encoder.finish(&mut out).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&out).unwrap()["log"]["entries"], json!([]));
    assert!(read_all(&out).is_empty());
    assert!(
        super::sniff(&out) && super::sniff(b"\xef\xbb\xbf\n{ \"log\":{") && !super::sniff(b"{\"mid\":1}")
    );
}

#[test]
fn chromes_habits_are_understood() {
    let mut one = entry("https://a.example/p?q#fragment");
    one["_initiator"] = json!({"type": "script", "stack": {"callFrames": []}});
    one["_resourceType"] = json!("fetch");
    one["connection"] = json!("4711");
    one["serverIPAddress"] = json!("[::1]");
    one["pageref"] = json!("page_1");
    one["request"]["httpVersion"] = json!("h2");
    one["request"]["headers"] = json!([{"name": ":authority", "value": "a.example"}, {"name": ":path", "value": "/p?q"},
        {"name": ":method", "value": "GET"}, {"name": ":scheme", "value": "https"}, {"name": "accept", "value": "*/*"}]);
    one["response"]["headers"] =
        json!([{"name": "set-cookie", "value": "a=1\r\nb=2"}, {"name": "content-encoding", "value": "br"}]);
    one["response"]["httpVersion"] = json!("h2");
    one["response"]["_transferSize"] = json!(120);
    let mut file = json!({"log": {}});
    file["log"]["pages"] = json!([{"id": "page_1", "title": "T", "startedDateTime": "x", "pageTimings": {}}]);
    file["log"]["entries"] = json!([one.clone(), one]);
    let read = flows(&file);
    let flow = &read[0].0.flow;
    let request = flow.request.as_ref().unwrap();
    assert_eq!((&request.target[..], request.version), (&b"/p?q"[..], Version::Http2));
    assert_eq!(
        (request.authority.as_deref(), request.scheme.as_deref()),
        (Some(&b"a.example"[..]), Some(&b"https"[..]))
    );
    assert_eq!(request.headers, [("accept", "*/*")].into_iter().collect());
    let response = flow.response.as_ref().unwrap();
    let fields: Headers =
        [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-encoding", "br")].into_iter().collect();
    assert_eq!(response.headers, fields);
    let mut plain = Vec::new();
    let codings = crate::format::coding::codings(&response.headers).unwrap();
    crate::format::coding::undo(body_of(&read[0].0), &codings, Default::default())
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain, b"hi");
    let server = flow.server.as_ref().unwrap();
    assert_eq!(server.peer.as_ref().unwrap().to_string(), "[::1]:443");
    assert!(flow.server_reused && server.id == read[1].0.flow.server.as_ref().unwrap().id && server.id.0 > 0);
    // Given back as it was: the page, the initiator, the spelling of the version.
    let samples = read.into_iter().map(|(decoded, _)| Sample { flow: decoded.flow, ..Sample::default() });
    let again: Json = serde_json::from_slice(&archive(&samples.collect::<Vec<_>>())).unwrap();
    assert_eq!(again["log"]["pages"], file["log"]["pages"]);
    let (was, is) = (&file["log"]["entries"][0], &again["log"]["entries"][0]);
    for name in ["_initiator", "_resourceType", "pageref", "timings"] {
        assert_eq!(is[name], was[name], "{name}");
    }
    assert_eq!(is["request"]["httpVersion"], "h2");
}

#[test]
fn a_response_that_never_came_is_an_error() {
    let mut one = entry("http://a.example/");
    one["response"] = json!({"status": 0, "statusText": "", "httpVersion": "", "headers": [], "content": {"size": 0},
        "_error": "net::ERR_CONNECTION_REFUSED"});
    let flow = flows(&log(&[one])).pop().unwrap().0.flow;
    assert!(flow.response.is_none() && flow.state == State::Failed);
    assert_eq!(flow.error.unwrap().message, "net::ERR_CONNECTION_REFUSED");
}

#[test]
fn web_sockets_are_read_as_chrome_writes_them_and_written_so() {
    let mut one = entry("wss://a.example/ws");
    one["response"]["status"] = json!(101);
    one["_resourceType"] = json!("websocket");
    one["_webSocketMessages"] = json!([
        {"type": "send", "time": 1_795_600_800.25, "opcode": 1, "data": "héllo"},
        {"type": "receive", "time": 1_795_600_800.5, "opcode": 2, "data": "AP8="},
        {"type": "receive", "time": 1_795_600_801, "opcode": 2, "data": "no base64!"},
    ]);
    let (decoded, messages) = flows(&log(&[one])).pop().unwrap();
    assert_eq!((decoded.flow.target.scheme, decoded.flow.target.port), (Scheme::Https, 443));
    let payload = |message: &Message| match &message.content {
        Content::Inline(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    };
    let seen: Vec<_> =
        messages.iter().map(|m| (m.seq, m.from_client, m.opcode, m.at_us, payload(m))).collect();
    assert_eq!(seen[0], (1, true, Opcode::Text, 250_000, "héllo".as_bytes().to_vec()));
    assert_eq!(seen[1], (2, false, Opcode::Binary, 500_000, vec![0, 255]));
    assert_eq!(seen[2].4, b"no base64!");
    let ws = decoded.flow.websocket.as_ref().unwrap();
    assert_eq!((ws.messages_from_client, ws.messages_from_server, ws.len_from_server), (1, 2, 12));
    let out: Json =
        serde_json::from_slice(&archive(&[Sample { flow: decoded.flow, messages, ..Sample::default() }]))
            .unwrap();
    let entry = &out["log"]["entries"][0];
    assert_eq!(
        (&entry["request"]["url"], &entry["_resourceType"]),
        (&json!("wss://a.example/ws"), &json!("websocket"))
    );
    let first = json!({"type": "send", "time": 1_795_600_800.25, "opcode": 1, "data": "héllo"});
    assert_eq!(
        (&entry["_webSocketMessages"][0], &entry["_webSocketMessages"][1]["data"]),
        (&first, &json!("AP8="))
    );
}

#[test]
fn text_that_is_bytes_in_disguise_becomes_these_bytes() {
    let with = |text: &str, size: u64, compression: Option<i64>| {
        let mut one = entry("http://a.example/");
        one["response"]["content"] = json!({"text": text, "size": size, "compression": compression});
        body_of(&flows(&log(&[one])).pop().unwrap().0).to_vec()
    };
    let all: String = (0..=255).map(char::from).collect();
    assert_eq!(with(&all, 256, Some(0)), (0..=255).collect::<Vec<u8>>());
    assert_eq!(with("\u{e9}", 21, Some(-20)), [0xe9]);
    assert_eq!(with("é", 2, None), "é".as_bytes());
    assert_eq!(with("é€", 2, None), "é€".as_bytes());
    assert_eq!(with("é", 0, None), "é".as_bytes());
}

#[test]
fn faults_of_many_tools_are_borne() {
    let bare = json!({"request": {"url": "http://a.example"}});
    let slack = {
        let mut one = entry("http://a.example/s");
        one["request"]["headers"] = json!([["Accept", "*/*"], ["x"]]);
        one["response"]["headers"] = json!({"Server": "s"});
        one["response"]["status"] = json!("200");
        one
    };
    let nulls = json!({"startedDateTime": null, "time": null, "request": {"method": "POST", "url": "http://a.example/f",
        "httpVersion": null, "headers": null, "postData": {"mimeType": "application/x-www-form-urlencoded",
        "params": [{"name": "a b", "value": "c&d"}]}}, "response": {"status": 204, "content": null, "headers": []},
        "timings": null});
    let missing = {
        let mut one = entry("http://a.example/i.png");
        one["response"]["content"] = json!({"size": 999, "mimeType": "image/png", "comment": "not included"});
        one["startedDateTime"] = json!("2026-11-25T12:00:00.0000000+02:00");
        one
    };
    let read = flows(&log(&[bare, slack, nulls, missing]));
    assert_eq!(read[0].0.flow.path(), b"/");
    let of = |at: usize| &read[at].0.flow;
    assert_eq!(of(1).request.as_ref().unwrap().headers, [("Accept", "*/*"), ("x", "")].into_iter().collect());
    assert_eq!(of(1).response.as_ref().unwrap().headers, [("Server", "s")].into_iter().collect());
    assert_eq!(of(2).request.as_ref().unwrap().body.as_inline().unwrap(), "a+b=c%26d");
    let absent = &of(3).response.as_ref().unwrap().body;
    assert_eq!((&absent.content, absent.len, absent.end), (&Content::Absent, 999, BodyEnd::Capped));
    assert_eq!(of(3).timing.started_unix_ns, of(1).timing.started_unix_ns);
    assert_eq!(of(1).timing.response_end_us, Some(12_500));
}

#[test]
fn texts_come_in_any_order_and_any_escape() {
    let text = r#"{"log":{"entries":[{"response":{"status":200,"content":{"encoding":"base64","text":"aGk\u003d"}},
        "request":{"url":"http:\/\/a.example\/\ud83d\ude00"}},
        {"request":{"url":"http://a.example/"},"response":{"content":{"text":"\udcff\ud800x\u00e9 \ud83d\ude00"},"status":200}}]}}"#;
    let with_bom = ["\u{feff}", text].concat();
    let read: Vec<_> = read_all(with_bom.as_bytes()).into_iter().map(|one| one.unwrap().0).collect();
    assert_eq!((body_of(&read[0]), read[0].flow.path()), (&b"hi"[..], "/\u{1f600}".as_bytes()));
    // Python's way to write a byte that is no UTF-8, and half a character.
    assert_eq!(body_of(&read[1]), b"\xff\xef\xbf\xbdx\xc3\xa9 \xf0\x9f\x98\x80");
    let error = read_all(b"\xff\xfe{\0").pop().unwrap().unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
}

#[test]
fn a_broken_entry_costs_that_entry() {
    let entries: Vec<Json> = (0..5).map(|n| entry(&format!("http://a.example/{n}"))).collect();
    let whole = log(&entries).to_string();
    let at = |n: usize| whole.find(&format!("http://a.example/{n}")).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone().into_bytes();
        change(&mut bytes);
        let found = read_all(&bytes);
        let paths: Vec<String> = found
            .iter()
            .flatten()
            .map(|(decoded, _)| String::from_utf8(decoded.flow.path().to_vec()).unwrap())
            .collect();
        let errors: Vec<String> =
            found.into_iter().filter_map(|one| one.err()).map(|e| e.to_string()).collect();
        (paths.join(""), errors)
    };
    // A quote that is gone, brackets that do not match, a comma too many.
    for (what, with) in
        [("\"time\"", "\"time"), ("\"cookies\":[]", "\"cookies\":}}]]"), ("\"cache\"", ",\"cache\"")]
    {
        let (paths, errors) = damage(&|bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let place = at(2) - 40 + text[at(2) - 40..].find(what).unwrap();
            let place = if what == "\"cache\"" { text[..at(2)].rfind(what).unwrap() } else { place };
            bytes.splice(place..place + what.len(), with.bytes());
        });
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(errors[0].starts_with("at byte "), "{errors:?}");
        assert_eq!(paths.len(), 8, "{what}: four of five are there, {paths}");
    }
    let (paths, errors) = damage(&|bytes| bytes.truncate(at(3)));
    assert_eq!((paths.as_str(), errors.len()), ("/0/1/2", 1));
    assert!(
        errors[0].contains(&format!("at byte {}", at(3))) && errors[0].contains("ends too early"),
        "{errors:?}"
    );
    // What is JSON and no entry.
    let mut odd = entries.clone();
    odd[1] = json!(7);
    odd[2] = json!({"request": {"url": "data:text/plain,x"}});
    odd[3]["response"]["content"] = json!({"text": "%%%", "encoding": "base64"});
    let found = read_all(log(&odd).to_string().as_bytes());
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false, true]);
}

#[test]
fn hostile_archives_are_refused_or_survived() {
    let deep = format!("{{\"log\":{}", "[".repeat(1_000_000));
    assert!(read_all(deep.as_bytes()).pop().unwrap().is_err());
    let long = "x".repeat(17 << 20);
    let mut one = entry("http://a.example/1");
    one["request"]["headers"] = json!([{"name": "a", "value": long}]);
    let found = read_all(log(&[one, entry("http://a.example/2")]).to_string().as_bytes());
    assert!(found[0].as_ref().unwrap_err().to_string().contains("16 MiB") && found[1].is_ok());
    let mut one = entry("http://a.example/1");
    one["_huge"] = json!("y".repeat(3 << 20));
    let found = flows(&log(&[one]));
    let told = format!("{:?}", found[0].0.flow.imported.as_ref().unwrap().metadata);
    assert!(told.contains("left_out") && told.contains("_huge"), "{told}");
    for none in [&b""[..], b"[]", b"{}", b"{\"log\":{}}", b"\x00"] {
        assert!(matches!(read_all(none).pop(), Some(Err(DecodeError::File { .. }))), "{none:?}");
    }
}

#[test]
fn what_stands_behind_an_archive_is_told() {
    let found =
        read_all([log(&[entry("http://a.example/")]).to_string(), "}".to_owned()].concat().as_bytes());
    assert!(
        found[0].is_ok() && found[1].as_ref().unwrap_err().to_string().contains("behind the end"),
        "{found:?}"
    );
}

/// Names, and parameters without a text, are kept as well: a small compressed file could fill the memory with them.
#[test]
fn whatever_is_kept_of_a_head_is_bounded() {
    let names: Vec<String> = (0..300_000).map(|n| format!("\"{n}\":\"\"")).collect();
    for head in [
        format!("\"headers\":{{{}}}", names.join(",")),
        format!(
            "\"headers\":[],\"postData\":{{\"mimeType\":\"a/b\",\"params\":[{}]}}",
            ["{}"].repeat(300_000).join(",")
        ),
    ] {
        let archive = format!(
            "{{\"log\":{{\"version\":\"1.2\",\"entries\":[{{\"startedDateTime\":\"2026-11-25T10:00:00.000Z\",\
             \"request\":{{\"method\":\"POST\",\"url\":\"http://a.test/\",{head}}}}}]}}}}"
        );
        let read = read_all(archive.as_bytes());
        let [Err(error)] = &read[..] else { panic!("{} read", read.len()) };
        assert!(error.to_string().contains("larger than 16 MiB"), "{error}");
    }
}
