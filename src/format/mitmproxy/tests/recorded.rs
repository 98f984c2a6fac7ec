//! Flows that we recorded, written and read again.

use std::sync::Arc;

use super::*;
use crate::flow::{
    Addr, Body, BodyEnd, ClientConn, ConnId, ConnectHead, FlowError, Interim, Kind, Mid, Opcode, Request,
    Response, Scheme, ServerConn, Side, Stage, State, Target, Timing, TlsInfo, Tunnel, Version, WebSocket,
};

/// What a proxy records of one request.
fn recorded() -> Stored {
    let tls = TlsInfo {
        sni: Some("example.org".to_owned()),
        version: Some("TLSv1.3".to_owned()),
        cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
        alpn: Some(Bytes::from("http/1.1")),
        alpn_offers: vec![Bytes::from("http/1.1")],
        chain: vec![Bytes::from("no certificate")],
        ..TlsInfo::default()
    };
    let addr = |host: &str, port| Some(Addr { host: host.to_owned(), port, flowinfo: None, scope: None });
    let start = 1_700_000_000_123_456_789;
    let client = ClientConn {
        id: ConnId(7),
        peer: addr("127.0.0.1", 50000),
        local: addr("127.0.0.1", 8080),
        mode: "explicit".to_owned(),
        started_unix_ns: start - 5_000_000,
        connect: Some(ConnectHead {
            authority: Bytes::from("example.org:443"),
            headers: [("Host", "example.org:443")].into_iter().collect(),
        }),
        tls: Some(tls.clone()),
        tls_end_us: Some(2000),
        ..ClientConn::default()
    };
    let server = ServerConn {
        id: ConnId(9),
        address: Addr { host: "example.org".to_owned(), port: 443, flowinfo: None, scope: None },
        peer: addr("192.0.2.1", 443),
        started_unix_ns: start - 4_000_000,
        dns_us: Some(100),
        connect_us: Some(200),
        tls_us: Some(300),
        tls: Some(tls),
        ..ServerConn::default()
    };
    let flow = Flow {
        mid: Some(Mid(12)),
        kind: Kind::Http,
        state: State::Complete,
        target: Target { scheme: Scheme::Https, host: "example.org".to_owned(), port: 443 },
        request: Some(Request {
            method: Bytes::from("GET"),
            target: Bytes::from("/x"),
            headers: [("Host", "example.org")].into_iter().collect(),
            body: Body::inline(""),
            ..Request::default()
        }),
        interim: vec![Interim {
            status: 103,
            reason: Bytes::from("Early"),
            headers: [("Link", "</a>")].into_iter().collect(),
            at_us: 40,
        }],
        response: Some(Response { status: 200, body: Body::inline("hello"), ..Response::default() }),
        client: Arc::new(client),
        server: Some(Arc::new(server)),
        timing: Timing {
            started_unix_ns: start,
            request_head_us: Some(10),
            request_end_us: Some(20),
            connected_us: Some(25),
            send_start_us: Some(30),
            send_end_us: Some(35),
            response_head_us: Some(50),
            response_end_us: Some(60),
            end_us: Some(70),
        },
        ..Flow::default()
    };
    let note =
        Note { marker: Some("!".to_owned()), comment: None, tags: vec!["a".to_owned(), "b".to_owned()] };
    Stored { flow, note, messages: Vec::new() }
}

/// Writes it, reads it, and writes it again: the same bytes. What was read.
#[track_caller]
fn there_and_back(stored: &Stored) -> Vec<Stored> {
    let file = written(std::slice::from_ref(stored));
    let read = read_whole(&file);
    assert!(written(&read) == file, "{}", file.escape_ascii());
    read
}

#[test]
fn a_recorded_flow_keeps_what_has_no_field_there() {
    let mut stored = recorded();
    stored.flow.error =
        Some(FlowError { side: Side::Client, stage: Stage::Tunnel, message: "gone".to_owned(), at_us: 65 });
    stored.flow.state = State::ClientAborted;
    let response = stored.flow.response.as_mut().unwrap();
    response.raw_head = Some(Bytes::from("HTTP/1.1  200\n\n"));
    response.body.len = 5000;
    response.body.end = BodyEnd::Capped;
    let read = there_and_back(&stored).remove(0);
    let (was, is) = (&stored.flow, &read.flow);
    assert_eq!(read.note, stored.note);
    assert_eq!((is.kind, is.state, &is.target), (was.kind, was.state, &was.target));
    assert_eq!((&is.error, &is.interim, &is.client.connect), (&was.error, &was.interim, &was.client.connect));
    let (was_body, is_body) = (&was.response.as_ref().unwrap().body, &is.response.as_ref().unwrap().body);
    assert_eq!((is_body.len, is_body.end, &is_body.content), (5000, BodyEnd::Capped, &was_body.content));
    assert_eq!(is.response.as_ref().unwrap().raw_head, was.response.as_ref().unwrap().raw_head);
    // A float of seconds is good to a quarter of a microsecond.
    let near = |a: Option<u64>, b: Option<u64>| a.unwrap().abs_diff(b.unwrap()) <= 1;
    assert!((is.timing.started_unix_ns - was.timing.started_unix_ns).abs() < 300);
    assert!(near(is.timing.response_head_us, was.timing.response_head_us));
    assert_eq!((is.timing.connected_us, is.timing.end_us), (was.timing.connected_us, was.timing.end_us));
    let server = is.server.as_ref().unwrap();
    assert!(near(server.tls_us, Some(300)) && near(server.connect_us, Some(300)));
    assert!(server.tls.as_ref().unwrap().chain.is_empty(), "what is no certificate would be refused");
}

#[test]
fn mids_are_known_again() {
    let mut decoder = decoder(Box::new(io::Cursor::new(written(&[recorded()]))));
    let read = decoder.next(&mut Memory::default()).unwrap().unwrap();
    assert_eq!(read.flow.mid, Some(Mid(12)));
}

#[test]
fn control_frames_stay_at_home() {
    let mut stored = recorded();
    stored.flow.websocket = Some(Box::new(WebSocket { close_code: Some(1000), ..WebSocket::default() }));
    let message = |seq, opcode, content: &str| Message {
        seq,
        opcode,
        from_client: seq % 2 == 0,
        at_us: seq * 1000,
        len: content.len() as u64,
        content: Content::Inline(Bytes::copy_from_slice(content.as_bytes())),
        ..Message::default()
    };
    stored.messages = vec![
        message(1, Opcode::Text, "one"),
        message(2, Opcode::Ping, "ping"),
        message(3, Opcode::Binary, "two"),
        message(4, Opcode::Close, "\x03\u{68}"),
    ];
    stored.messages[2].len = 100;
    let read = there_and_back(&stored).remove(0);
    let got: Vec<_> =
        read.messages.iter().map(|it| (it.opcode, it.at_us, inline(&it.content).unwrap().clone())).collect();
    assert_eq!(got, [(Opcode::Text, 1000, Bytes::from("one")), (Opcode::Binary, 3000, Bytes::from("two"))]);
    let metadata = read.flow.imported.unwrap().metadata.unwrap();
    let cut = at(&mut metadata.clone(), "manent.cut_messages").clone();
    assert_eq!(cut, int(1));
}

#[test]
fn tunnels_are_tcp_flows() {
    let mut stored = recorded();
    stored.flow.kind = Kind::Tunnel;
    stored.flow.target.scheme = Scheme::Tcp;
    (stored.flow.request, stored.flow.response) = (None, None);
    stored.flow.tunnel = Some(Box::new(Tunnel {
        reason: "unknown".to_owned(),
        from_client: Body::inline("ask"),
        from_server: Body::inline("answer"),
    }));
    let read = there_and_back(&stored).remove(0);
    let tunnel = read.flow.tunnel.unwrap();
    assert_eq!((read.flow.kind, tunnel.reason.as_str()), (Kind::Tunnel, "unknown"));
    assert_eq!(
        (tunnel.from_client.as_inline(), tunnel.from_server.as_inline()),
        (Some(&"ask".into()), Some(&"answer".into()))
    );
    // What follows an upgrade is a flow of its own there.
    let mut upgraded = recorded();
    upgraded.flow.tunnel = stored.flow.tunnel.clone();
    let read = there_and_back(&upgraded);
    let kinds: Vec<_> = read.iter().map(|it| it.flow.kind).collect();
    let ids: Vec<_> = read.iter().map(|it| &it.flow.imported.as_ref().unwrap().id).collect();
    assert_eq!(kinds, [Kind::Http, Kind::Tunnel]);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn flows_without_a_request_are_written_too() {
    for kind in [Kind::Tls, Kind::Http, Kind::Connect] {
        let mut stored = recorded();
        stored.flow.kind = kind;
        (stored.flow.request, stored.flow.response, stored.flow.server) = (None, None, None);
        stored.flow.state = State::Failed;
        let read = there_and_back(&stored).remove(0);
        assert_eq!((read.flow.kind, read.flow.state), (kind, State::Failed));
    }
    let empty = Stored { flow: Flow { mid: Some(Mid(1)), ..Flow::default() }, ..Stored::default() };
    there_and_back(&empty);
}

#[test]
fn a_request_of_each_form_has_its_authority() {
    let authority = |version, method: &str, target: &str, authority: Option<&str>| {
        let mut stored = recorded();
        let request = stored.flow.request.as_mut().unwrap();
        request.version = version;
        request.method = Bytes::copy_from_slice(method.as_bytes());
        request.target = Bytes::copy_from_slice(target.as_bytes());
        request.authority = authority.map(|it| Bytes::copy_from_slice(it.as_bytes()));
        let read = there_and_back(&stored).remove(0).flow.request.unwrap();
        assert_eq!(read.target, target, "{target}");
    };
    authority(Version::Http11, "GET", "/x", None);
    authority(Version::Http11, "OPTIONS", "*", None);
    authority(Version::Http11, "GET", "https://h:1/x?y", None);
    authority(Version::Http11, "CONNECT", "h:1", None);
    authority(Version::Http2, "GET", "/x", Some("h"));
    authority(Version::Http2, "CONNECT", "h:1", Some("h:1"));
}

#[test]
fn a_damaged_body_is_an_error_of_the_output() {
    struct Short(Stored);
    impl Item for Short {
        fn flow(&self) -> &Flow {
            &self.0.flow
        }
        fn note(&self) -> &Note {
            &self.0.note
        }
        fn body(&self, _: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
            Ok(Some(Box::new(&b"hel"[..])))
        }
        fn in_memory(&self, _: Part) -> Option<&Bytes> {
            None
        }
        fn messages(&self, _: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
            Ok(())
        }
        fn payload(&self, _: &Message) -> io::Result<Box<dyn Read + '_>> {
            Ok(Box::new(io::empty()))
        }
    }
    let result = encoder(&EncodeOptions::default()).flow(&Short(recorded()), &mut Vec::new());
    assert!(
        matches!(&result, Err(EncodeError::Io(error)) if error.kind() == io::ErrorKind::InvalidData),
        "{result:?}"
    );
}
