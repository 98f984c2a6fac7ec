//! Flows by lot, for property tests: whatever the types allow, whether it makes sense or not.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

pub(crate) fn bytes() -> BoxedStrategy<bytes::Bytes> {
    vec(any::<u8>(), 0..20).prop_map(bytes::Bytes::from).boxed()
}

pub(crate) fn text() -> BoxedStrategy<String> {
    vec(any::<char>(), 0..8).prop_map(|chars| chars.into_iter().collect()).boxed()
}

pub(crate) fn headers() -> BoxedStrategy<Headers> {
    vec((bytes(), bytes()), 0..4).prop_map(|fields| fields.into_iter().collect()).boxed()
}

pub(crate) fn addr() -> BoxedStrategy<Addr> {
    (text(), any::<u16>(), any::<Option<u32>>(), any::<Option<u32>>())
        .prop_map(|(host, port, flowinfo, scope)| Addr { host, port, flowinfo, scope })
        .boxed()
}

pub(crate) fn version() -> BoxedStrategy<Version> {
    use Version::*;
    prop_oneof![Just(Http10), Just(Http11), Just(Http2), Just(Http3)].boxed()
}

pub(crate) fn extent() -> BoxedStrategy<Extent> {
    any::<(u32, u64, u64, u64)>()
        .prop_map(|(segment, offset, stored_len, len)| Extent { segment, offset, stored_len, len })
        .boxed()
}

pub(crate) fn body() -> BoxedStrategy<Body> {
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
        .boxed()
}

pub(crate) fn request() -> BoxedStrategy<Request> {
    let line = (bytes(), bytes(), version(), of(bytes()), of(bytes()), of(bytes()), of(headers()));
    (line, headers(), of(bytes()), any::<u64>(), body(), of(headers()))
        .prop_map(|(line, headers, raw_head, head_len, body, trailers)| Request {
            method: line.0,
            target: line.1,
            version: line.2,
            scheme: line.3,
            authority: line.4,
            protocol: line.5,
            changed: line.6.map(Box::new),
            headers,
            raw_head,
            head_len,
            body,
            trailers: trailers.map(Box::new),
        })
        .boxed()
}

pub(crate) fn response() -> BoxedStrategy<Response> {
    (any::<u16>(), any::<bool>(), request())
        .prop_map(|(status, by_proxy, r)| Response {
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
        .boxed()
}

pub(crate) fn tls() -> BoxedStrategy<TlsInfo> {
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
        .prop_map(|(names, alpn_offers, cipher_offers, alpn, chain, (resumed, verified), client_auth)| {
            TlsInfo {
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
            }
        })
        .boxed()
}

pub(crate) fn client() -> BoxedStrategy<ClientConn> {
    let connect = (bytes(), headers()).prop_map(|(authority, headers)| ConnectHead { authority, headers });
    let times = any::<(Option<u64>, Option<u64>, Option<u64>, u64, u64)>();
    let tls = (of(tls()), of(tls()));
    (any::<(u64, u32, i64)>(), of(addr()), of(addr()), text(), of(connect), tls, times, of(text()))
        .prop_map(
            |(
                (id, revision, started_unix_ns),
                peer,
                local,
                mode,
                connect,
                (proxy_tls, tls),
                times,
                error,
            )| {
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
        .boxed()
}

pub(crate) fn server() -> BoxedStrategy<ServerConn> {
    let via = (text(), addr()).prop_map(|(scheme, address)| Via { scheme, address });
    let times = any::<(Option<u64>, Option<u64>, Option<u64>, Option<u64>)>();
    let addrs = (addr(), of(addr()), of(addr()));
    (any::<(u64, u32, i64)>(), addrs, of(via), of(tls()), times, of(text()))
        .prop_map(|((id, revision, started_unix_ns), (address, peer, local), via, tls, times, error)| {
            ServerConn {
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
            }
        })
        .boxed()
}

pub(crate) fn value() -> BoxedStrategy<Value> {
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
    .boxed()
}

pub(crate) fn timing() -> BoxedStrategy<Timing> {
    any::<(i64, [Option<u64>; 8])>()
        .prop_map(|(started_unix_ns, us)| Timing {
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
        .boxed()
}

pub(crate) fn error() -> BoxedStrategy<FlowError> {
    use Stage::*;
    let side = prop_oneof![Just(Side::Client), Just(Side::Server), Just(Side::Proxy)];
    let stage = prop_oneof![
        prop_oneof![Just(RequestHead), Just(RequestBody), Just(Target), Just(Dns), Just(Connect)],
        prop_oneof![Just(Tls), Just(ResponseHead), Just(ResponseBody), Just(Tunnel), Just(Shutdown)],
    ];
    (side, stage, text(), any::<u64>())
        .prop_map(|(side, stage, message, at_us)| FlowError { side, stage, message, at_us })
        .boxed()
}

/// A flow without `imported`.
pub(crate) fn plain_flow() -> BoxedStrategy<Flow> {
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
    let applied =
        (text(), any::<(u64, u64)>()).prop_map(|(rule, (at_us, times))| Applied { rule, at_us, times });
    (
        (kind, state, of(error()), target),
        (of(request()), vec(interim, 0..3), of(response()), of(tunnel), of(websocket)),
        (client(), of(server())),
        (any::<(Option<u64>, bool, Option<u64>)>(), timing(), vec(applied, 0..2)),
    )
        .prop_map(|(what, messages, conns, (ids, timing, rules))| Flow {
            mid: ids.0.map(Mid),
            kind: what.0,
            state: what.1,
            error: what.2,
            target: what.3,
            request: messages.0,
            interim: messages.1,
            response: messages.2,
            tunnel: messages.3.map(Box::new),
            websocket: messages.4.map(Box::new),
            client: Arc::new(conns.0),
            server: conns.1.map(Arc::new),
            server_reused: ids.1,
            timing,
            replay_of: ids.2.map(Mid),
            rules,
            imported: None,
        })
        .boxed()
}

pub(crate) fn flow() -> BoxedStrategy<Flow> {
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
