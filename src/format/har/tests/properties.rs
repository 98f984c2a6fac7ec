//! Any flow there and back, and bytes of any kind.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;

use super::{Sample, archive, gzip, read_all};
use crate::flow::arbitrary::{bytes, client, server, text, version};
use crate::flow::*;

fn headers() -> impl Strategy<Value = Headers> {
    let name = prop_oneof![bytes(), Just(Bytes::from_static(b"content-encoding"))];
    let value = prop_oneof![bytes(), Just(Bytes::from_static(b"gzip"))];
    vec((name, value), 0..4)
        .prop_map(|fields| fields.into_iter().filter(|(n, v)| !n.is_empty() || !v.is_empty()).collect())
}

fn body() -> impl Strategy<Value = Body> {
    use BodyEnd::*;
    let bytes = prop_oneof![
        bytes(),
        text().prop_map(Bytes::from),
        bytes().prop_map(|bytes| Bytes::from(gzip(&bytes))),
        Just(Bytes::from(vec![b'x'; 300_000]))
    ];
    let framing =
        prop_oneof![Just(Framing::None), Just(Framing::Chunked), Just(Framing::Stream), Just(Framing::Close)];
    let end = prop_oneof![Just(Open), Just(Whole), Just(CutOff), Just(Capped), Just(Lost)];
    (of(bytes), 0u64..9, any::<u32>(), framing, end).prop_map(|(bytes, more, wire, framing, end)| {
        let content = bytes.map_or(Content::Absent, Content::Inline);
        let body = Body { content, ..Body::default() };
        let len = body.recorded_len() + more;
        Body { len, wire_len: len + u64::from(wire), framing, end, ..body }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let target = prop_oneof![
        bytes(),
        Just(Bytes::from_static(b"/a?b=c&d=%20")),
        Just(Bytes::from_static(b"http://x/")),
        Just(Bytes::from_static(b"*"))
    ];
    let method = prop_oneof![Just(Bytes::from_static(b"GET")), vec(any::<u8>(), 1..5).prop_map(Bytes::from)];
    let line = (method, target, version(), of(bytes()), of(bytes()), of(bytes()));
    (line, headers(), of(bytes()), any::<u64>(), body(), of(headers())).prop_map(
        |(
            (method, target, version, scheme, authority, protocol),
            headers,
            raw_head,
            head_len,
            body,
            trailers,
        )| Request {
            method,
            target,
            version,
            headers,
            raw_head,
            head_len,
            body,
            changed: trailers.clone().map(Box::new),
            trailers: trailers.map(Box::new),
            scheme,
            authority,
            protocol,
        },
    )
}

fn response() -> impl Strategy<Value = Response> {
    (100u16..1000, bytes(), any::<bool>(), request()).prop_map(|(status, reason, by_proxy, other)| Response {
        status,
        reason,
        by_proxy,
        version: other.version,
        headers: other.headers,
        raw_head: other.raw_head,
        head_len: other.head_len,
        body: other.body,
        trailers: other.trailers,
    })
}

/// Times that HAR has in floats of milliseconds, and sums of them, must be what those can hold.
fn conns() -> impl Strategy<Value = (ClientConn, Option<ServerConn>)> {
    let short = |us: Option<u64>| us.map(|us| us >> 8);
    let server = server().prop_map(move |server| ServerConn {
        connect_us: short(server.connect_us),
        tls_us: short(server.tls_us),
        ..server
    });
    (client(), of(server))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(|n| Value::Int(n.to_string())),
        any::<f64>().prop_filter("NaN is not itself", |f| !f.is_nan()).prop_map(Value::Float),
        bytes().prop_map(Value::Bytes),
        text().prop_map(Value::Text),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::List),
            vec((inner.clone(), inner), 0..3).prop_map(Value::Dict),
        ]
    })
}

fn imported() -> impl Strategy<Value = Imported> {
    (text(), of(value()), of(value()), vec((text(), value()), 0..3)).prop_map(
        |(id, metadata, unknown, exact)| Imported {
            format: "mitmproxy 21".to_owned(),
            id,
            metadata,
            unknown,
            exact,
            backup: None,
        },
    )
}

fn web_socket() -> impl Strategy<Value = (WebSocket, Vec<Message>)> {
    let message = (any::<(bool, u32, u64, u32, bool, bool)>(), 0usize..5, body());
    let facts = (any::<Option<bool>>(), any::<Option<u16>>(), of(text()), 1u64..9);
    (facts, vec(message, 0..4)).prop_map(|((closed_by_client, close_code, close_reason, count), messages)| {
        let opcodes = [Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];
        let messages = messages.into_iter().zip(1..).map(|((facts, opcode, body), seq)| Message {
            seq,
            from_client: facts.0,
            opcode: opcodes[opcode],
            at_us: u64::from(facts.1),
            len: body.len,
            wire_len: facts.2,
            coding: MessageCoding::Deflate,
            fragments: facts.3,
            injected: facts.4,
            dropped: facts.5,
            end: body.end,
            content: body.content,
        });
        let ws = WebSocket {
            closed_by_client,
            close_code,
            close_reason,
            messages_from_client: count,
            ..WebSocket::default()
        };
        (ws, messages.collect())
    })
}

pub(super) fn sample() -> impl Strategy<Value = Sample> {
    let kind = prop_oneof![
        Just(Kind::Http),
        Just(Kind::Http),
        Just(Kind::Connect),
        Just(Kind::Tunnel),
        Just(Kind::Tls)
    ];
    let scheme = prop_oneof![Just(Scheme::Http), Just(Scheme::Https), Just(Scheme::Tcp)];
    let host = prop_oneof![text(), Just("a.example".to_owned()), Just("::1".to_owned())];
    let target = (scheme, host, any::<u16>()).prop_map(|(scheme, host, port)| Target { scheme, host, port });
    let error = (text(), any::<u64>()).prop_map(|(message, at_us)| FlowError {
        side: Side::Proxy,
        stage: Stage::Tls,
        message,
        at_us,
    });
    let interim = (100u16..200, bytes(), headers(), any::<u64>())
        .prop_map(|(status, reason, headers, at_us)| Interim { status, reason, headers, at_us });
    let tunnel = (text(), body(), body()).prop_map(|(reason, from_client, from_server)| Tunnel {
        reason,
        from_client,
        from_server,
    });
    // So that times of messages, which are absolute, stay what a clock can show.
    let timing = (0i64..4_000_000_000_000_000_000, any::<[Option<u32>; 8]>());
    let note = (of("[a-z]{1,3}"), of("[ -~é]{1,9}"), vec("[a-z]{1,3}", 0..3));
    (
        (kind, target, of(error), request(), vec(interim, 0..2), of(response())),
        (of(tunnel), of(web_socket()), conns(), any::<bool>(), timing),
        (any::<Option<u64>>(), any::<Option<u64>>(), of(imported()), note),
    )
        .prop_map(|(what, passed, (mid, replay_of, imported, note))| {
            let (kind, target, error, request, interim, response) = what;
            let (tunnel, ws, (client, server), server_reused, (started_unix_ns, us)) = passed;
            let us = us.map(|us| us.map(u64::from));
            let (websocket, messages) = ws.map_or((None, Vec::new()), |(ws, messages)| (Some(ws), messages));
            let flow = Flow {
                mid: mid.map(Mid),
                kind,
                state: State::Interrupted,
                error,
                target,
                request: Some(request),
                interim,
                response,
                tunnel: tunnel.map(Box::new),
                websocket: websocket.map(Box::new),
                client: Arc::new(client),
                server_reused: server_reused && server.is_some(),
                server: server.map(Arc::new),
                timing: Timing {
                    started_unix_ns,
                    request_head_us: us[0],
                    request_end_us: us[1],
                    connected_us: us[2],
                    send_start_us: us[3],
                    send_end_us: us[4],
                    response_head_us: us[5],
                    response_end_us: us[6],
                    end_us: us[7],
                },
                replay_of: replay_of.map(Mid),
                rules: vec![Applied { rule: "block ~d \"é\"".to_owned(), at_us: u64::MAX, times: 1 }],
                imported: imported.map(Box::new),
            };
            Sample { flow, note: Note { marker: note.0, comment: note.1, tags: note.2 }, messages }
        })
}

/// A strategy's tree of such large values, unoptimised, needs more stack than a test thread has.
pub(super) fn run(cases: u32, test: impl Fn(&mut TestRunner) + Send + 'static) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let work = move || test(&mut TestRunner::new(config));
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn all_of_a_flow_comes_back_but_what_it_was_edited_from() {
    run(96, |runner| {
        let there_and_back = |samples: Vec<Sample>| {
            let out = archive(&samples);
            prop_assert!(serde_json::from_slice::<Json>(&out).is_ok());
            let back = read_all(&out);
            prop_assert_eq!(back.len(), samples.len());
            for (back, sample) in back.into_iter().zip(samples) {
                let (decoded, messages) = back.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(&decoded.flow, &sample.flow);
                prop_assert_eq!(decoded.note, sample.note);
                prop_assert_eq!(messages, sample.messages);
            }
            Ok(())
        };
        runner.run(&vec(sample(), 1..3), there_and_back).unwrap();
    });
}

#[test]
fn changed_bytes_never_panic_and_always_end() {
    run(96, |runner| {
        let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
        let mutate = |(samples, changes): (Vec<Sample>, Vec<(prop::sample::Index, u8)>)| {
            let mut out = archive(&samples);
            for (at, byte) in changes {
                let at = at.index(out.len());
                out[at] = byte;
            }
            // Each error is about another place.
            prop_assert!(read_all(&out).len() <= samples.len() + 8);
            Ok(())
        };
        runner.run(&(vec(sample(), 1..3), changes), mutate).unwrap();
    });
}

#[test]
fn any_text_never_panics() {
    run(256, |runner| {
        let pieces = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\"log\""),
            Just("\"entries\""),
            Just("\"request\""),
            Just("\"url\""),
            Just("\"http://a/\""),
            Just("\"response\""),
            Just("-1"),
            Just("null"),
            Just("\"content\""),
            Just("\"text\""),
            Just("\"_manent\""),
            Just("\"bodies\""),
            Just("\\u"),
            Just("\"headers\""),
            Just("\"_webSocketMessages\""),
            Just("1e999"),
            Just("\"startedDateTime\""),
            Just(" "),
        ];
        let begins = prop_oneof![
            Just(""),
            Just("{\"log\":{\"entries\":["),
            Just("{\"log\":{\"entries\":[{\"request\":{\"url\":\"http://a/\"},")
        ];
        runner
            .run(&(begins, vec(pieces, 0..30)), |(begin, pieces)| {
                let _ = read_all([begin, &pieces.concat()].concat().as_bytes()); // only that it does neither panic nor hang
                Ok(())
            })
            .unwrap();
    });
}
