//! Everything there and back; and nothing that comes in makes it panic.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::*;
use crate::flow::*;

fn bytes() -> BoxedStrategy<bytes::Bytes> {
    vec(any::<u8>(), 0..20).prop_map(bytes::Bytes::from).boxed()
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..8).prop_map(|chars| chars.into_iter().collect())
}

fn headers() -> impl Strategy<Value = Headers> {
    vec((bytes(), bytes()), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn addr() -> impl Strategy<Value = Addr> {
    (text(), any::<u16>(), any::<Option<u32>>(), any::<Option<u32>>())
        .prop_map(|(host, port, flowinfo, scope)| Addr { host, port, flowinfo, scope })
}

fn version() -> impl Strategy<Value = Version> {
    use Version::*;
    prop_oneof![Just(Http10), Just(Http11), Just(Http2), Just(Http3)]
}

fn extent() -> impl Strategy<Value = Extent> {
    any::<(u32, u64, u64, u64)>().prop_map(|(segment, offset, stored_len, len)| Extent {
        segment,
        offset,
        stored_len,
        len,
    })
}

fn body() -> impl Strategy<Value = Body> {
    use BodyEnd::*;
    let content = prop_oneof![
        Just(Content::Absent),
        bytes().prop_map(Content::Inline),
        vec(extent(), 0..3).prop_map(Content::Extents),
    ];
    let framing = prop_oneof![
        Just(Framing::None),
        Just(Framing::Length),
        Just(Framing::Chunked),
        Just(Framing::Close),
        Just(Framing::Stream)
    ];
    let end = prop_oneof![Just(Open), Just(Whole), Just(CutOff), Just(Capped), Just(Lost)];
    (content, any::<u64>(), any::<u64>(), framing, end)
        .prop_map(|(content, len, wire_len, framing, end)| Body { content, len, wire_len, framing, end })
}

fn request() -> impl Strategy<Value = Request> {
    let line = (bytes(), bytes(), version(), of(bytes()), of(bytes()), of(bytes()));
    (line, headers(), of(bytes()), any::<u64>(), body(), of(headers())).prop_map(
        |(line, headers, raw_head, head_len, body, trailers)| Request {
            method: line.0,
            target: line.1,
            version: line.2,
            scheme: line.3,
            authority: line.4,
            protocol: line.5,
            headers,
            raw_head,
            head_len,
            body,
            trailers,
        },
    )
}

fn response() -> impl Strategy<Value = Response> {
    (any::<u16>(), any::<bool>(), request()).prop_map(|(status, by_proxy, r)| Response {
        status,
        reason: r.method,
        version: r.version,
        headers: r.headers,
        raw_head: r.raw_head,
        head_len: r.head_len,
        body: r.body,
        trailers: r.trailers,
        by_proxy,
    })
}

fn tls() -> impl Strategy<Value = TlsInfo> {
    let names = (of(text()), of(text()), of(text()), of(text()), of(text()));
    (
        names,
        vec(bytes(), 0..3),
        vec(any::<u16>(), 0..4),
        of(bytes()),
        vec(bytes(), 0..3),
        any::<(bool, bool)>(),
        prop_oneof![Just(ClientAuth::NotAsked), Just(ClientAuth::Withheld), Just(ClientAuth::Presented)],
    )
        .prop_map(
            |(names, alpn_offers, cipher_offers, alpn, chain, (resumed, verified), client_auth)| TlsInfo {
                sni: names.0,
                alpn_offers,
                cipher_offers,
                version: names.1,
                cipher: names.2,
                group: names.3,
                alpn,
                resumed,
                chain,
                verified,
                error: names.4,
                client_auth,
            },
        )
}

fn client() -> impl Strategy<Value = ClientConn> {
    let connect = (bytes(), headers()).prop_map(|(authority, headers)| ConnectHead { authority, headers });
    let times = any::<(Option<u64>, Option<u64>, Option<u64>, u64, u64)>();
    let tls = (of(tls()), of(tls()));
    (any::<(u64, u32, i64)>(), of(addr()), of(addr()), text(), of(connect), tls, times, of(text())).prop_map(
        |((id, revision, started_unix_ns), peer, local, mode, connect, (proxy_tls, tls), times, error)| {
            ClientConn {
                id: ConnId(id),
                revision,
                peer,
                local,
                mode,
                started_unix_ns,
                connect,
                proxy_tls,
                tls,
                tls_start_us: times.0,
                tls_end_us: times.1,
                closed_us: times.2,
                bytes_in: times.3,
                bytes_out: times.4,
                error,
            }
        },
    )
}

fn server() -> impl Strategy<Value = ServerConn> {
    let via = (text(), addr()).prop_map(|(scheme, address)| Via { scheme, address });
    let times = any::<(Option<u64>, Option<u64>, Option<u64>, Option<u64>)>();
    let addrs = (addr(), of(addr()), of(addr()));
    (any::<(u64, u32, i64)>(), addrs, of(via), of(tls()), times, of(text())).prop_map(
        |((id, revision, started_unix_ns), (address, peer, local), via, tls, times, error)| ServerConn {
            id: ConnId(id),
            revision,
            address,
            peer,
            local,
            via,
            started_unix_ns,
            dns_us: times.0,
            connect_us: times.1,
            tls_us: times.2,
            tls,
            closed_us: times.3,
            error,
        },
    )
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
    leaf.prop_recursive(6, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((text().prop_map(Value::Text), inner), 0..4).prop_map(Value::Dict),
        ]
    })
}

fn timing() -> impl Strategy<Value = Timing> {
    any::<(i64, [Option<u64>; 8])>().prop_map(|(started_unix_ns, us)| Timing {
        started_unix_ns,
        request_head_us: us[0],
        request_end_us: us[1],
        connected_us: us[2],
        send_start_us: us[3],
        send_end_us: us[4],
        response_head_us: us[5],
        response_end_us: us[6],
        end_us: us[7],
    })
}

fn error() -> impl Strategy<Value = FlowError> {
    use Stage::*;
    let side = prop_oneof![Just(Side::Client), Just(Side::Server), Just(Side::Proxy)];
    let stage = prop_oneof![
        prop_oneof![Just(RequestHead), Just(RequestBody), Just(Target), Just(Dns), Just(Connect)],
        prop_oneof![Just(Tls), Just(ResponseHead), Just(ResponseBody), Just(Tunnel), Just(Shutdown)],
    ];
    (side, stage, text(), any::<u64>()).prop_map(|(side, stage, message, at_us)| FlowError {
        side,
        stage,
        message,
        at_us,
    })
}

/// A flow without `imported`.
fn plain_flow() -> impl Strategy<Value = Flow> {
    use State::*;
    let kind = prop_oneof![Just(Kind::Http), Just(Kind::Connect), Just(Kind::Tunnel), Just(Kind::Tls)];
    let state = prop_oneof![
        prop_oneof![Just(Open), Just(Complete), Just(ClientAborted), Just(ServerAborted)],
        prop_oneof![Just(Refused), Just(Failed), Just(Interrupted)],
    ];
    let scheme = prop_oneof![Just(Scheme::Http), Just(Scheme::Https), Just(Scheme::Tcp)];
    let target =
        (scheme, text(), any::<u16>()).prop_map(|(scheme, host, port)| Target { scheme, host, port });
    let interim = (any::<(u16, u64)>(), bytes(), headers())
        .prop_map(|((status, at_us), reason, headers)| Interim { status, reason, headers, at_us });
    let tunnel = (text(), body(), body()).prop_map(|(reason, from_client, from_server)| Tunnel {
        reason,
        from_client,
        from_server,
    });
    let websocket = (any::<Option<bool>>(), any::<Option<u16>>(), of(text()), any::<[u64; 6]>()).prop_map(
        |(closed_by_client, close_code, close_reason, counts)| WebSocket {
            closed_by_client,
            close_code,
            close_reason,
            messages_from_client: counts[0],
            messages_from_server: counts[1],
            len_from_client: counts[2],
            len_from_server: counts[3],
            bad_text_from_client: counts[4],
            bad_text_from_server: counts[5],
        },
    );
    (
        (kind, state, of(error()), target),
        (of(request()), vec(interim, 0..3), of(response()), of(tunnel), of(websocket)),
        (client(), of(server())),
        (any::<(Option<u64>, bool, Option<u64>)>(), timing()),
    )
        .prop_map(|(what, messages, conns, (ids, timing))| Flow {
            mid: ids.0.map(Mid),
            kind: what.0,
            state: what.1,
            error: what.2,
            target: what.3,
            request: messages.0,
            interim: messages.1,
            response: messages.2,
            tunnel: messages.3,
            websocket: messages.4,
            client: Arc::new(conns.0),
            server: conns.1.map(Arc::new),
            server_reused: ids.1,
            timing,
            replay_of: ids.2.map(Mid),
            imported: None,
        })
}

fn flow() -> impl Strategy<Value = Flow> {
    let imported = (text(), text(), of(value()), of(value()), vec((text(), value()), 0..3), of(plain_flow()))
        .prop_map(|(format, id, metadata, unknown, exact, backup)| Imported {
            format,
            id,
            metadata,
            unknown,
            exact,
            backup: backup.map(Box::new),
        });
    (plain_flow(), of(imported))
        .prop_map(|(flow, imported)| Flow { imported: imported.map(Box::new), ..flow })
        .boxed()
}

/// What comes back of a flow: its connections' facts are rows of their own.
fn with_bare_conns(mut flow: Flow) -> Flow {
    flow.client = Arc::new(ClientConn { id: flow.client.id, ..ClientConn::default() });
    flow.server = flow.server.map(|s| Arc::new(ServerConn { id: s.id, ..ServerConn::default() }));
    flow
}

/// The record as prost writes it: whatever it does not know left out, the rest in its order and as short as can be.
fn by_prost<M: prost::Message + Default>(record: &[u8]) -> Vec<u8> {
    M::decode(record).unwrap().encode_to_vec()
}

fn decode_all(record: &bytes::Bytes) {
    let _ = (decode_flow(record), decode_client_conn(record), decode_server_conn(record));
    let _ = decode_extents(record);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connections_come_back_as_they_were(client in client(), server in server()) {
        prop_assert_eq!(decode_client_conn(&encode_client_conn(&client).into()).unwrap(), client);
        prop_assert_eq!(decode_server_conn(&encode_server_conn(&server).into()).unwrap(), server);
    }

    #[test]
    fn connections_are_written_as_prost_would(client in client(), server in server()) {
        let (client, server) = (encode_client_conn(&client), encode_server_conn(&server));
        prop_assert_eq!(by_prost::<pb::ClientConn>(&client), client);
        prop_assert_eq!(by_prost::<pb::ServerConn>(&server), server);
    }

    #[test]
    fn extents_come_back_as_they_were_and_are_written_as_prost_would(extents in vec(extent(), 0..4)) {
        let record = encode_extents(&extents);
        prop_assert_eq!(by_prost::<pb::Extents>(&record), record.clone());
        prop_assert_eq!(decode_extents(&record.into()).unwrap(), extents);
    }

    #[test]
    fn random_bytes_never_panic(record in vec(any::<u8>(), 0..300)) {
        decode_all(&record.into());
    }
}

/// A strategy's tree of such large values, unoptimised, needs more stack than a test thread has.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn runner() -> TestRunner {
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
}

#[test]
fn a_flow_comes_back_as_it_was() {
    on_a_large_stack(|| {
        let there_and_back = |flow: Flow| {
            let back = decode_flow(&encode_flow(&flow).into()).unwrap();
            prop_assert_eq!(back, with_bare_conns(flow));
            Ok(())
        };
        runner().run(&flow(), there_and_back).unwrap();
    });
}

/// With the test above: every field has the number and type that the schema says, and stands there once.
#[test]
fn a_flow_is_written_as_prost_would() {
    on_a_large_stack(|| {
        // Used for flow after flow, as the store does: it must not matter what it held.
        let buffer = std::cell::RefCell::new(b"an earlier record".to_vec());
        let there_and_back = |flow: Flow| {
            let record = &mut *buffer.borrow_mut();
            encode_flow_into(&flow, record);
            prop_assert_eq!(&by_prost::<pb::Flow>(record), record);
            Ok(())
        };
        runner().run(&flow(), there_and_back).unwrap();
    });
}

#[test]
fn mutated_records_never_panic() {
    on_a_large_stack(|| {
        let changes = vec((any::<Index>(), any::<u8>()), 1..10);
        let mutate = |(flow, changes, cut): (Flow, Vec<(Index, u8)>, Index)| {
            let mut record = encode_flow(&flow);
            for (at, byte) in changes {
                let at = at.index(record.len());
                record[at] = byte;
            }
            record.truncate(cut.index(record.len()) + 1);
            decode_all(&record.into());
            Ok(())
        };
        runner().run(&(flow(), changes, any::<Index>()), mutate).unwrap();
    });
}

#[test]
fn nesting_is_cut_off_where_a_reader_would_refuse_it() {
    let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let with = |metadata| {
        let imported = Imported { metadata: Some(metadata), ..Imported::default() };
        Flow { imported: Some(Box::new(imported)), ..Flow::default() }
    };
    let whole = with(nested(60));
    assert_eq!(decode_flow(&encode_flow(&whole).into()).unwrap(), whole);
    let mut backups = with(nested(5000));
    for _ in 0..200 {
        let imported = Imported { backup: Some(Box::new(backups)), ..Imported::default() };
        backups = Flow { imported: Some(Box::new(imported)), ..Flow::default() };
    }
    decode_flow(&encode_flow(&backups).into()).unwrap();
    decode_flow(&encode_flow(&with(nested(5000))).into()).unwrap();
}

/// A record within a record within a record, by hand: field 6 (backup) of field 18 (imported).
#[test]
fn a_hostile_depth_is_refused_without_exhausting_the_stack() {
    let field = |key: &[u8], inner: &[u8]| {
        let mut out = key.to_vec();
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    };
    for (levels, readable) in [(40, true), (49, true), (60, false), (5000, false)] {
        let record = (0..levels).fold(Vec::new(), |inner, _| field(&[0x92, 0x01], &field(&[0x32], &inner)));
        assert_eq!(decode_flow(&record.into()).is_ok(), readable, "{levels} levels");
    }
}

#[test]
fn numbers_of_a_newer_writer_are_taken_for_what_is_nearest() {
    // Field 2 (kind), 3 (state) and 5 (scheme) as varint 99, field 7 (port) as 70,000, and a field 999 of 2 bytes.
    let record = [0x10, 99, 0x18, 99, 0x28, 99, 0x38, 0xf0, 0xa2, 0x04, 0xba, 0x3e, 2, 1, 2];
    let flow = decode_flow(&bytes::Bytes::from(record.to_vec())).unwrap();
    assert_eq!((flow.kind, flow.state, flow.target.scheme), (Kind::Http, State::Failed, Scheme::Tcp));
    assert_eq!(flow.target.port, u16::MAX);
}
