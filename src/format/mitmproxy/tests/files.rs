//! Files of version 21 there and back, and files of old versions.

use proptest::prelude::*;

use super::*;
use crate::flow::{BodyEnd, Kind, Opcode, Scheme, State, Version};

/// A connection of version 21, in the order in which mitmproxy writes it.
pub(super) fn client() -> Value {
    dict([
        ("proxy_mode", text("regular")),
        ("mitmcert", Value::Null),
        ("timestamp_tls_setup", Value::Float(1700000000.25)),
        ("timestamp_end", Value::Null),
        ("timestamp_start", Value::Float(1700000000.1234567)),
        ("sni", text("example.org")),
        ("tls_version", text("TLSv1.3")),
        ("cipher_list", Value::List(vec![text("TLS_AES_128_GCM_SHA256")])),
        ("cipher", text("TLS_AES_128_GCM_SHA256")),
        ("alpn_offers", Value::List(vec![raw(b"h2"), raw(b"http/1.1")])),
        ("alpn", raw(b"http/1.1")),
        ("certificate_list", Value::List(vec![])),
        ("tls", Value::Bool(true)),
        ("error", Value::Null),
        ("transport_protocol", text("tcp")),
        ("id", text("5a9e5f6c-0000-4000-8000-000000000001")),
        ("sockname", Value::List(vec![text("::1"), int(8080), int(0), int(3)])),
        ("peername", Value::List(vec![text("127.0.0.1"), int(50000)])),
    ])
}

pub(super) fn server() -> Value {
    dict([
        ("via", Value::List(vec![text("http"), Value::List(vec![text("proxy"), int(3128)])])),
        ("timestamp_tcp_setup", Value::Float(1700000000.3)),
        ("address", Value::List(vec![text("example.org"), int(443)])),
        ("timestamp_tls_setup", Value::Float(1700000000.4)),
        ("timestamp_end", Value::Null),
        ("timestamp_start", Value::Float(1700000000.2)),
        ("sni", text("example.org")),
        ("tls_version", text("TLSv1.3")),
        ("cipher_list", Value::List(vec![])),
        ("cipher", Value::Null),
        ("alpn_offers", Value::List(vec![])),
        ("alpn", raw(b"")),
        ("certificate_list", Value::List(vec![])),
        ("tls", Value::Bool(true)),
        ("error", Value::Null),
        ("transport_protocol", text("tcp")),
        ("id", text("5a9e5f6c-0000-4000-8000-000000000002")),
        ("sockname", Value::Null),
        ("peername", Value::List(vec![text("192.0.2.1"), int(443)])),
    ])
}

/// A flow of version 21 whose own keys are `own`.
fn flow<const N: usize>(own: [(&str, Value); N], kind: &str) -> Value {
    let Value::Dict(mut pairs) = dict(own) else { unreachable!("a dict") };
    let Value::Dict(common) = dict([
        ("backup", Value::Null),
        ("timestamp_created", Value::Float(1700000000.5)),
        ("comment", text("")),
        (
            "metadata",
            dict([("b", int(1)), ("a", Value::List(vec![Value::Float(1e-7), Value::Null, raw(b"\xff")]))]),
        ),
        ("marked", text("")),
        ("is_replay", Value::Null),
        ("intercepted", Value::Bool(false)),
        ("server_conn", server()),
        ("client_conn", client()),
        ("error", Value::Null),
        ("id", text("5a9e5f6c-0000-4000-8000-000000000003")),
        ("type", text(kind)),
        ("version", int(21)),
    ]) else {
        unreachable!("a dict")
    };
    pairs.extend(common);
    Value::Dict(pairs)
}

fn field(name: &[u8], value: &[u8]) -> Value {
    Value::List(vec![raw(name), raw(value)])
}

pub(super) fn http() -> Value {
    let request = dict([
        ("path", raw(b"/a?b")),
        ("authority", raw(b"")),
        ("scheme", raw(b"https")),
        ("method", raw(b"POST")),
        ("port", int(443)),
        ("host", text("example.org")),
        ("timestamp_end", Value::Float(1700000000.6)),
        ("timestamp_start", Value::Float(1700000000.5)),
        ("trailers", Value::Null),
        ("content", raw(b"sent \0\xff")),
        ("headers", Value::List(vec![field(b"Host", b"example.org"), field(b"x-\xff", b"\x80")])),
        ("http_version", raw(b"HTTP/1.1")),
    ]);
    let response = dict([
        ("reason", raw(b"Fine")),
        ("status_code", int(200)),
        ("timestamp_end", Value::Null),
        ("timestamp_start", Value::Float(1700000000.7)),
        ("trailers", Value::List(vec![field(b"sum", b"1")])),
        ("content", raw(b"got")),
        ("headers", Value::List(vec![])),
        ("http_version", raw(b"HTTP/1.1")),
    ]);
    flow([("websocket", Value::Null), ("response", response), ("request", request)], "http")
}

pub(super) fn websocket(messages: Vec<Value>) -> Value {
    let mut flow = http();
    *at(&mut flow, "response.status_code") = int(101);
    *at(&mut flow, "websocket") = dict([
        ("timestamp_end", Value::Float(1700000009.0)),
        ("close_reason", text("bye")),
        ("close_code", int(1000)),
        ("closed_by_client", Value::Bool(true)),
        ("messages", Value::List(messages)),
    ]);
    flow
}

pub(super) fn message(opcode: i64, from_client: bool, content: &[u8], at: Value) -> Value {
    let flag = |flag| Value::Bool(flag);
    Value::List(vec![int(opcode), flag(from_client), raw(content), at, flag(opcode == 2), flag(from_client)])
}

pub(super) fn stream(kind: &str, messages: &[(bool, &[u8])]) -> Value {
    let message = |(from_client, content): &(bool, &[u8])| {
        Value::List(vec![Value::Bool(*from_client), raw(content), Value::Float(1700000000.987654)])
    };
    flow([("messages", Value::List(messages.iter().map(message).collect()))], kind)
}

/// That the file is written as it was read.
#[track_caller]
fn assert_same(flows: &[Value]) -> Vec<Stored> {
    let file: Vec<u8> = flows.iter().flat_map(tnet).collect();
    let read = read_whole(&file);
    assert_eq!(read.len(), flows.len());
    let again = written(&read);
    assert!(again == file, "\n{}\n{}", file.escape_ascii(), again.escape_ascii());
    read
}

#[test]
fn http_flows_come_back_to_the_byte() {
    let mut changed = http();
    *at(&mut changed, "request.content") = Value::Null;
    *at(&mut changed, "response.content") = raw(b"");
    *at(&mut changed, "request.timestamp_start") = int(1700000001);
    *at(&mut changed, "request.http_version") = raw(b"HTTP/2.0");
    *at(&mut changed, "request.authority") = raw(b"h2.example.org");
    *at(&mut changed, "marked") = text(":grapes:");
    *at(&mut changed, "comment") = text("two\nlines");
    *at(&mut changed, "backup") = http();
    *at(&mut changed, "server_conn.timestamp_start") = Value::Null;
    *at(&mut changed, "error") =
        dict([("timestamp", int(1700000002)), ("msg", text("Client disconnected."))]);
    let mut odd = http();
    *at(&mut odd, "request.method") = raw(b"CONNECT");
    *at(&mut odd, "request.path") = raw(b"");
    *at(&mut odd, "request.scheme") = raw(b"");
    *at(&mut odd, "request.authority") = raw(b"example.org:443");
    *at(&mut odd, "response.status_code") = int(-7);
    *at(&mut odd, "request.port") = int(700_000);
    *at(&mut odd, "client_conn.timestamp_end") = Value::Float(f64::NAN);
    let flows = assert_same(&[http(), changed, odd, http()]);

    let first = &flows[0].flow;
    let request = first.request.as_ref().unwrap();
    assert_eq!((first.kind, first.state, first.target.scheme), (Kind::Http, State::Complete, Scheme::Https));
    assert_eq!((first.url().as_str(), &request.method[..]), ("https://example.org/a?b", &b"POST"[..]));
    assert_eq!(request.headers.iter().nth(1), Some((&b"x-\xff"[..], &b"\x80"[..])));
    assert_eq!(request.body.as_inline().unwrap(), &b"sent \0\xff"[..]);
    assert_eq!((first.timing.request_end_us, first.timing.response_head_us), (Some(100_000), Some(200_000)));
    assert_eq!((first.server_reused, flows[3].flow.server_reused), (false, true));
    let server = first.server.as_ref().unwrap();
    assert_eq!((server.connect_us, server.tls_us), (Some(100_000), Some(100_000)));

    let second = &flows[1];
    let request = second.flow.request.as_ref().unwrap();
    assert_eq!(
        (request.version, request.authority.as_deref()),
        (Version::Http2, Some(&b"h2.example.org"[..]))
    );
    assert_eq!((&request.body.content, request.body.end), (&Content::Absent, BodyEnd::Capped));
    assert_eq!(second.flow.response.as_ref().unwrap().body.as_inline().map(Bytes::len), Some(0));
    assert_eq!(
        (second.note.marker.as_deref(), second.note.comment.as_deref()),
        (Some(":grapes:"), Some("two\nlines"))
    );
    assert_eq!(second.flow.state, State::ClientAborted);
    assert_eq!(flows[2].flow.request.as_ref().unwrap().target, "example.org:443");
}

#[test]
fn other_orders_of_keys_come_back_too() {
    // mitmproxy turns what it loaded around when it saves it.
    let mut turned = http();
    for path in ["backup", "metadata", "client_conn", "response"] {
        if path == "backup" {
            *at(&mut turned, path) = http();
        }
        if let Value::Dict(pairs) = at(&mut turned, path) {
            pairs.reverse();
        }
    }
    if let Value::Dict(pairs) = &mut turned {
        pairs.reverse();
    }
    assert_same(&[turned]);
}

#[test]
fn websockets_come_back_to_the_byte() {
    let messages = vec![
        message(1, true, b"hello", Value::Float(1700000001.1234567)),
        message(2, false, b"\0\xff", int(1700000002)),
        message(1, false, b"", Value::Float(1700000003.0)),
    ];
    let flows = assert_same(&[websocket(messages), websocket(vec![])]);
    let websocket = flows[0].flow.websocket.as_ref().unwrap();
    assert_eq!((websocket.close_code, websocket.closed_by_client), (Some(1000), Some(true)));
    assert_eq!((websocket.messages_from_client, websocket.len_from_server), (1, 2));
    let first = &flows[0].messages[0];
    assert_eq!((first.opcode, first.at_us, first.injected), (Opcode::Text, 623_457, true));
    assert_eq!(flows[0].messages[1].at_us, 1_500_000);
}

#[test]
fn many_messages_come_back_to_the_byte() {
    // A store takes each as it comes: what has gone by takes no room.
    let content = [b'x'; 100];
    let many: Vec<_> =
        (0..100_000).map(|n| message(1, n % 2 == 0, &content, int(1_700_000_000 + n))).collect();
    let flows = assert_same(&[websocket(many)]);
    // What is more than waits for the flow's start is told from the first message.
    assert_eq!(flows[0].flow.timing.started_unix_ns, 1_700_000_000_000_000_000);
    assert_eq!(flows[0].messages[99_999].at_us, 99_999_000_000);
}

#[test]
fn streams_and_dns_come_back_to_the_byte() {
    let tcp = stream("tcp", &[(true, b"a"), (false, b"bb"), (true, b""), (true, b"ccc")]);
    let question = dict([("class_", int(1)), ("type", int(28)), ("name", text("example.org"))]);
    let answer = dict([
        ("data", raw(&[0; 16])),
        ("ttl", int(60)),
        ("class_", int(1)),
        ("type", int(28)),
        ("name", text("example.org")),
    ]);
    let dns_message = |answers| {
        dict([
            ("additionals", Value::List(vec![])),
            ("authorities", Value::List(vec![])),
            ("answers", Value::List(answers)),
            ("questions", Value::List(vec![question.clone()])),
            ("response_code", int(0)),
            ("reserved", int(0)),
            ("recursion_available", Value::Bool(false)),
            ("recursion_desired", Value::Bool(true)),
            ("truncation", Value::Bool(false)),
            ("authoritative_answer", Value::Bool(false)),
            ("op_code", int(0)),
            ("query", Value::Bool(true)),
            ("id", int(42)),
            ("timestamp", Value::Float(1700000000.5)),
        ])
    };
    let dns = flow([("response", dns_message(vec![answer])), ("request", dns_message(vec![]))], "dns");
    let flows = assert_same(&[tcp, stream("udp", &[(false, b"x"), (false, b"x")]), dns, stream("tcp", &[])]);
    let tunnel = flows[0].flow.tunnel.as_ref().unwrap();
    assert_eq!(tunnel.from_client.as_inline().unwrap(), "accc");
    assert_eq!((tunnel.from_server.as_inline().unwrap(), tunnel.from_server.len), (&Bytes::from("bb"), 2));
    assert_eq!(flows[0].flow.target.host_port(), "example.org:443");
    let reasons: Vec<_> = flows.iter().map(|it| it.flow.tunnel.as_ref().unwrap().reason.as_str()).collect();
    assert_eq!(reasons, ["tcp", "udp", "dns", "tcp"]);
}

#[test]
fn notes_that_were_changed_since_are_written() {
    let mut file = http();
    *at(&mut file, "comment") = text("no \0 note");
    *at(&mut file, "metadata") = dict([("tags", Value::List(vec![text("b"), text("a")])), ("x", int(1))]);
    let mut flows = assert_same(&[file.clone()]);
    assert_eq!(
        (flows[0].note.comment.as_deref(), &flows[0].note.tags[..]),
        (None, &["a".to_owned(), "b".to_owned()][..])
    );
    flows[0].note =
        Note { marker: Some("!".to_owned()), comment: Some("new".to_owned()), tags: vec!["c".to_owned()] };
    *at(&mut file, "comment") = text("new");
    *at(&mut file, "marked") = text("!");
    *at(&mut file, "metadata.tags") = Value::List(vec![text("c")]);
    assert_eq!(written(&flows).escape_ascii().to_string(), tnet(&file).escape_ascii().to_string());
}

#[test]
fn what_mitmproxy_would_refuse_is_not_written() {
    let refused = [
        ("client_conn.tls_version", text("TLSv9")),
        ("client_conn.proxy_mode", text("teleport")),
        ("client_conn.mitmcert", raw(b"no certificate")),
        ("client_conn.timestamp_start", Value::Null),
        ("server_conn.address", Value::List(vec![text("h")])),
        ("server_conn.via", Value::List(vec![text("ftp"), Value::List(vec![text("h"), int(1)])])),
        ("server_conn.certificate_list", Value::List(vec![Value::Null])),
        ("request.headers", Value::List(vec![Value::List(vec![raw(b"only a name")])])),
        ("request.host", int(7)),
        ("response.reason", Value::Null),
        ("error", text("words")),
        ("metadata", Value::Int("9".repeat(5000))),
    ];
    for (path, value) in refused {
        let mut file = http();
        *at(&mut file, path) = value.clone();
        if let Value::Dict(pairs) = &mut file {
            pairs.push((text("news"), int(1)));
        }
        let read = read_whole(&tnet(&file));
        let unknown = read[0].flow.imported.as_ref().unwrap().unknown.clone();
        assert_eq!(unknown, Some(dict([("news", int(1))])), "kept, though not written");
        let mut again = super::super::value::read(b'}', &payload(&written(&read)), 0, &mut budget()).unwrap();
        assert_ne!(*at(&mut again, path), value, "{path}");
        assert!(matches!(&again, Value::Dict(pairs) if pairs.len() == 16), "{again:?}");
    }
}

/// What of one value is between its length and its tag.
fn payload(file: &[u8]) -> Bytes {
    let colon = file.iter().position(|&b| b == b':').unwrap();
    Bytes::copy_from_slice(&file[colon + 1..file.len() - 1])
}

fn budget() -> super::super::value::Budget {
    super::super::value::Budget::new(1 << 30)
}

#[test]
fn old_versions_are_read() {
    let file = |name: &str| {
        let path = format!("{}/tests/fixtures/mitmproxy/{name}.mitm", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    for name in ["0.11", "0.14", "0.17", "0.18", "1.0", "2.0", "4", "7", "9", "10", "13", "18", "20"] {
        let flows = read_whole(&file(name));
        let flow = &flows[0].flow;
        assert_eq!(flow.url(), "https://example.org/path?query", "{name}");
        let (request, response) = (flow.request.as_ref().unwrap(), flow.response.as_ref().unwrap());
        assert_eq!(
            (&request.method[..], response.status, &response.reason[..]),
            (&b"GET"[..], 200, &b"OK"[..]),
            "{name}"
        );
        assert_eq!(request.body.as_inline().unwrap(), "sent", "{name}");
        assert_eq!(response.body.as_inline().unwrap(), "received", "{name}");
        assert_eq!(flow.timing.response_head_us, Some(1_500_000), "{name}");
        assert_eq!(flow.client.peer.as_ref().unwrap().to_string(), "127.0.0.1:50000", "{name}");
        assert_eq!(flow.server.as_ref().unwrap().address.to_string(), "example.org:443", "{name}");
        let imported = flow.imported.as_ref().unwrap();
        assert_eq!(imported.format, format!("mitmproxy {name}"));
        // As version 21 it is whole, and from then on the same.
        let newest = written(&flows);
        let again = read_whole(&newest);
        assert_eq!(again[0].flow.imported.as_ref().unwrap().format, "mitmproxy 21");
        assert!(again[0].flow.imported.as_ref().unwrap().unknown.is_none());
        assert!(written(&again) == newest, "{name}");
    }
}

#[test]
fn old_websockets_are_joined_with_their_handshakes() {
    let path = format!("{}/tests/fixtures/mitmproxy/11-websocket.mitm", env!("CARGO_MANIFEST_DIR"));
    let flows = read_whole(&std::fs::read(path).unwrap());
    let facts: Vec<_> = flows.iter().map(|it| (it.flow.url(), it.messages.len())).collect();
    let url = "https://example.org/path?query".to_owned();
    assert_eq!(facts, [(url.clone(), 0), (url, 2), ("http://unknown/".to_owned(), 2)]);
    let joined = flows[1].flow.websocket.as_ref().unwrap();
    assert_eq!((joined.closed_by_client, joined.close_code), (Some(true), Some(1000)));
    assert_eq!(inline(&flows[1].messages[0].content).unwrap(), "hello");
    let newest = written(&flows);
    assert!(written(&read_whole(&newest)) == newest);
}

#[test]
fn versions_that_are_not_known_are_refused_and_passed_over() {
    for (version, due) in [
        (Value::List(vec![int(0), int(10)]), "version 0.10"),
        (int(22), "version 22, which is newer"),
        (text("x"), "says no version"),
    ] {
        let mut other = http();
        *at(&mut other, "version") = version;
        let file = [tnet(&http()), tnet(&other), tnet(&http())].concat();
        let (flows, errors) = read(&file);
        assert_eq!((flows.len(), errors.len()), (2, 1));
        assert!(errors[0].to_string().contains(due), "{}", errors[0]);
    }
}

proptest! {
    #[test]
    fn any_content_comes_back(
        bodies: [Option<Vec<u8>>; 2],
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        times: [f64; 4],
        path: Vec<u8>,
        names in ".{0,9}",
        status: u16,
        messages: Vec<(bool, Vec<u8>, f64)>,
        pieces: Vec<(bool, Vec<u8>)>,
    ) {
        let content = |body: &Option<Vec<u8>>| body.as_ref().map_or(Value::Null, |body| raw(body));
        let mut file = websocket(messages.iter().map(|(c, b, at)| message(1, *c, b, Value::Float(*at))).collect());
        *at(&mut file, "request.content") = content(&bodies[0]);
        *at(&mut file, "response.content") = content(&bodies[1]);
        *at(&mut file, "response.headers") = Value::List(fields.iter().map(|(n, v)| field(n, v)).collect());
        *at(&mut file, "request.timestamp_start") = Value::Float(times[0]);
        *at(&mut file, "request.timestamp_end") = Value::Float(times[1]);
        *at(&mut file, "timestamp_created") = Value::Float(times[2]);
        *at(&mut file, "server_conn.timestamp_tcp_setup") = Value::Float(times[3]);
        *at(&mut file, "request.path") = raw(&path);
        *at(&mut file, "request.authority") = raw(&path);
        *at(&mut file, "request.host") = text(&names);
        *at(&mut file, "client_conn.sni") = text(&names);
        *at(&mut file, "marked") = text(&names);
        *at(&mut file, "response.status_code") = int(status.into());
        let pieces: Vec<_> = pieces.iter().map(|(c, b)| (*c, &b[..])).collect();
        let file = [tnet(&file), tnet(&stream("tcp", &pieces))].concat();
        prop_assert!(written(&read_whole(&file)) == file);
    }
}
