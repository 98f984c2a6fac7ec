//! Connections: of a record, and of a flow's state.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::frames::Frames;
use super::moments::{maybe, node, unix_ns, us_after};
use super::node::{Dict, Node};
use super::schema::{self, TLS_VERSIONS, VIA_SCHEMES};
use super::{pem, uuid};
use crate::flow::{Addr, ClientConn, ConnId, Flow, ServerConn, TlsInfo, Value, Via};

/// Connections as they stand in a file, of the flows that were written last: many share one, and certificates cost more than
/// all else.
#[derive(Debug, Default)]
pub(super) struct Texts {
    clients: HashMap<usize, (Arc<ClientConn>, Bytes)>,
    servers: HashMap<usize, (Arc<ServerConn>, Bytes)>,
    len: usize,
}

impl Texts {
    /// The client's connection of a flow.
    pub(super) fn client(&mut self, flow: &Flow) -> Bytes {
        if !is_by_itself(&flow.client) {
            // It names what the flow went to.
            return text(&client_state(flow));
        }
        self.make_room();
        remembered(&mut self.clients, &mut self.len, &flow.client, || text(&client_state(flow)))
    }

    /// The server's.
    pub(super) fn server(&mut self, flow: &Flow) -> Bytes {
        let Some(server) = &flow.server else { return text(&server_state(flow)) };
        self.make_room();
        remembered(&mut self.servers, &mut self.len, server, || text(&server_state(flow)))
    }

    fn make_room(&mut self) {
        if self.len > MOST_TEXT {
            *self = Self::default();
        }
    }
}

/// What was made of the same connection before. One that is kept has its address for itself.
fn remembered<C>(
    known: &mut HashMap<usize, (Arc<C>, Bytes)>,
    len: &mut usize,
    conn: &Arc<C>,
    make: impl FnOnce() -> Bytes,
) -> Bytes {
    let (_, text) = known.entry(Arc::as_ptr(conn).addr()).or_insert_with(|| {
        let text = make();
        *len += text.len() + CONN_COST;
        (Arc::clone(conn), text)
    });
    text.clone()
}

fn text(conn: &Dict) -> Bytes {
    let mut frames = Frames::default();
    conn.write(&mut frames);
    frames.bytes.into()
}

/// Whether the connections of a flow are what they are by themselves, whatever else the flow is.
pub(super) fn is_by_itself(client: &ClientConn) -> bool {
    client.mode != REVERSE
}

/// The client's connection of a state. `sum` tells connections of a file apart.
pub(super) fn client_of(state: &Dict, sum: u64) -> ClientConn {
    let started = unix_ns(state, "timestamp_start").unwrap_or(0);
    let mode = state.text("proxy_mode").unwrap_or(REGULAR);
    let mut tls = tls_of(state);
    if let (Some(tls), Some(Value::Bytes(cert))) = (&mut tls, state.value("mitmcert")) {
        tls.chain = pem::decode(cert).into_iter().collect();
    }
    ClientConn {
        id: ConnId(sum | 1),
        peer: state.value("peername").and_then(addr_of),
        local: state.value("sockname").and_then(addr_of),
        mode: if mode == REGULAR { EXPLICIT.to_owned() } else { mode.to_owned() },
        started_unix_ns: started,
        tls_end_us: us_after(started, state, "timestamp_tls_setup"),
        tls,
        closed_us: us_after(started, state, "timestamp_end"),
        error: state.text("error").map(str::to_owned),
        ..ClientConn::default()
    }
}

/// The server's connection of a state; `None` where none was begun, nor an address known.
pub(super) fn server_of(state: &Dict, sum: u64) -> Option<ServerConn> {
    let started = unix_ns(state, "timestamp_start");
    let peer = state.value("peername").and_then(addr_of);
    let address = state.value("address").and_then(addr_of);
    if started.is_none() && peer.is_none() && address.is_none() {
        return None;
    }
    let started = started.unwrap_or(0);
    let connected = us_after(started, state, "timestamp_tcp_setup");
    let secured = us_after(started, state, "timestamp_tls_setup");
    let mut tls = tls_of(state);
    if let (Some(tls), Some(Value::List(certs))) = (&mut tls, state.value("certificate_list")) {
        let der = |cert: &Value| if let Value::Bytes(pem) = cert { pem::decode(pem) } else { None };
        tls.chain = certs.iter().filter_map(der).collect();
    }
    Some(ServerConn {
        id: ConnId(sum | 1),
        address: address.unwrap_or_default(),
        peer,
        local: state.value("sockname").and_then(addr_of),
        via: state.value("via").and_then(via_of),
        started_unix_ns: started,
        connect_us: connected,
        tls_us: secured.map(|secured| secured.saturating_sub(connected.unwrap_or(0))),
        tls,
        closed_us: us_after(started, state, "timestamp_end"),
        error: state.text("error").map(str::to_owned),
        ..ServerConn::default()
    })
}

fn tls_of(state: &Dict) -> Option<TlsInfo> {
    let list = |key: &str| match state.value(key) {
        Some(Value::List(members)) => members.clone(),
        _ => Vec::new(),
    };
    let text = |key: &str| state.text(key).map(str::to_owned);
    let tls = TlsInfo {
        sni: text("sni"),
        alpn_offers: list("alpn_offers")
            .into_iter()
            .filter_map(|offer| if let Value::Bytes(bytes) = offer { Some(bytes) } else { None })
            .collect(),
        version: text("tls_version"),
        cipher: text("cipher"),
        alpn: state.bytes("alpn").cloned(),
        ..TlsInfo::default()
    };
    let begun = state.truth("tls") == Some(true) || state.number("timestamp_tls_setup").is_some();
    (begun || tls != TlsInfo::default()).then_some(tls)
}

fn addr_of(value: &Value) -> Option<Addr> {
    let Value::List(parts) = value else { return None };
    let number = |at: usize| match parts.get(at) {
        Some(Value::Int(text)) => text.parse::<u32>().ok(),
        _ => None,
    };
    let Some(Value::Text(host)) = parts.first() else { return None };
    let port = u16::try_from(number(1)?).ok()?;
    // mitmproxy's word for an end that is not known.
    if host.is_empty() && port == 0 {
        return None;
    }
    Some(Addr { host: host.clone(), port, flowinfo: number(2), scope: number(3) })
}

fn via_of(value: &Value) -> Option<Via> {
    let Value::List(parts) = value else { return None };
    let (Some(Value::Text(scheme)), Some(address)) = (parts.first(), parts.get(1)) else { return None };
    Some(Via { scheme: scheme.clone(), address: addr_of(address)? })
}

/// What is written of the client's connection.
pub(super) fn client_state(flow: &Flow) -> Dict {
    let conn = &*flow.client;
    let tls = conn.tls.as_ref().or(conn.proxy_tls.as_ref());
    let started = conn.started_unix_ns;
    let shown = tls.and_then(|tls| tls.chain.first()).filter(|der| pem::is_der_certificate(der));
    let failed = conn.error.as_ref().or(tls.and_then(|tls| tls.error.as_ref()));
    let setup = tls.and(conn.tls_end_us);
    Dict::of([
        ("proxy_mode", Node::text(mode(flow))),
        ("mitmcert", Node::or_null(shown, |der| Node::bytes(pem::encode(der)))),
        ("timestamp_tls_setup", maybe(started, setup)),
        ("timestamp_end", maybe(started, conn.closed_us)),
        ("timestamp_start", node(started, 0)),
        ("sni", sni(tls)),
        ("tls_version", tls_version(tls)),
        ("cipher_list", Node::Value(Value::List(Vec::new()))),
        ("cipher", cipher(tls)),
        ("alpn_offers", alpn_offers(tls)),
        ("alpn", alpn(tls)),
        ("certificate_list", Node::Value(Value::List(Vec::new()))),
        ("tls", Node::bool(tls.is_some())),
        ("error", Node::or_null(failed, Node::text)),
        ("transport_protocol", Node::text("tcp")),
        ("id", Node::text(conn_id(started, conn.id, 0))),
        ("sockname", conn.local.as_ref().map_or_else(nowhere, end)),
        ("peername", conn.peer.as_ref().map_or_else(nowhere, end)),
    ])
}

/// What is written of the server's connection, also where there is none.
pub(super) fn server_state(flow: &Flow) -> Dict {
    let none = Arc::default();
    let conn = flow.server.as_ref().unwrap_or(&none);
    let tls = conn.tls.as_ref();
    let started = conn.started_unix_ns;
    let begun = flow.server.is_some() && started != 0;
    let connected = conn.connect_us.map(|us| us.saturating_add(conn.dns_us.unwrap_or(0)));
    let secured = conn.tls_us.map(|us| us.saturating_add(connected.unwrap_or(0)));
    let certs = tls.into_iter().flat_map(|tls| &tls.chain).filter(|der| pem::is_der_certificate(der));
    let failed = conn.error.as_ref().or(tls.and_then(|tls| tls.error.as_ref()));
    Dict::of([
        (
            "via",
            Node::or_null(
                conn.via.as_ref().filter(|via| VIA_SCHEMES.contains(&via.scheme.as_str())),
                |via| {
                    let address = host_and_port(&via.address);
                    Node::Value(Value::List(vec![Value::Text(via.scheme.clone()), address]))
                },
            ),
        ),
        ("timestamp_tcp_setup", maybe(started, connected)),
        (
            "address",
            match conn.address.host.is_empty() {
                true => Node::NULL,
                false => Node::Value(host_and_port(&conn.address)),
            },
        ),
        ("timestamp_tls_setup", maybe(started, secured)),
        ("timestamp_end", maybe(started, conn.closed_us)),
        ("timestamp_start", maybe(started, begun.then_some(0))),
        ("sni", sni(tls)),
        ("tls_version", tls_version(tls)),
        ("cipher_list", Node::Value(Value::List(Vec::new()))),
        ("cipher", cipher(tls)),
        ("alpn_offers", alpn_offers(tls)),
        ("alpn", alpn(tls)),
        (
            "certificate_list",
            Node::Value(Value::List(certs.map(|der| Value::Bytes(pem::encode(der))).collect())),
        ),
        ("tls", Node::bool(tls.is_some())),
        ("error", Node::or_null(failed, Node::text)),
        ("transport_protocol", Node::text("tcp")),
        // Without a connection, still one for each flow.
        (
            "id",
            Node::text(match &flow.server {
                Some(_) => conn_id(started, conn.id, 1),
                None => conn_id(flow.timing.started_unix_ns, ConnId(flow.mid.map_or(0, |mid| mid.0)), 3),
            }),
        ),
        ("sockname", Node::or_null(conn.local.as_ref(), end)),
        ("peername", Node::or_null(conn.peer.as_ref(), end)),
    ])
}

/// mitmproxy's word for how a client came in.
fn mode(flow: &Flow) -> String {
    let mode = flow.client.mode.as_str();
    if mode == REVERSE {
        let target = &flow.target;
        let reverse = format!("reverse:{}://{}", target.scheme.as_str(), target.authority());
        return if schema::is_mode(&reverse) { reverse } else { REGULAR.to_owned() };
    }
    if schema::is_mode(mode) { mode.to_owned() } else { REGULAR.to_owned() }
}

fn conn_id(started: i64, id: ConnId, side: u64) -> String {
    uuid::text(started.cast_unsigned(), id.0 << 2 | side)
}

fn sni(tls: Option<&TlsInfo>) -> Node {
    Node::or_null(tls.and_then(|tls| tls.sni.as_ref()), Node::text)
}

fn cipher(tls: Option<&TlsInfo>) -> Node {
    Node::or_null(tls.and_then(|tls| tls.cipher.as_ref()), Node::text)
}

fn alpn(tls: Option<&TlsInfo>) -> Node {
    Node::or_null(tls.and_then(|tls| tls.alpn.clone()), |alpn: Bytes| Node::bytes(alpn))
}

fn alpn_offers(tls: Option<&TlsInfo>) -> Node {
    let offers = tls.into_iter().flat_map(|tls| tls.alpn_offers.iter().cloned());
    Node::Value(Value::List(offers.map(Value::Bytes).collect()))
}

fn tls_version(tls: Option<&TlsInfo>) -> Node {
    let version = tls.and_then(|tls| tls.version.as_ref());
    Node::or_null(version.filter(|version| TLS_VERSIONS.contains(&version.as_str())), Node::text)
}

fn nowhere() -> Node {
    end(&Addr::default())
}

fn end(addr: &Addr) -> Node {
    let mut parts = vec![Value::Text(addr.host.clone()), Value::Int(addr.port.to_string())];
    if addr.flowinfo.is_some() || addr.scope.is_some() {
        parts.push(Value::Int(addr.flowinfo.unwrap_or(0).to_string()));
        parts.push(Value::Int(addr.scope.unwrap_or(0).to_string()));
    }
    Node::Value(Value::List(parts))
}

fn host_and_port(addr: &Addr) -> Value {
    Value::List(vec![Value::Text(addr.host.clone()), Value::Int(addr.port.to_string())])
}

/// What texts of connections may take, with the connections. A chain of certificates has some KiB.
const MOST_TEXT: usize = 4 << 20;

/// What a connection takes beside its text, certificates not counted twice.
const CONN_COST: usize = 1 << 10;

/// Our word for a client that takes us for the origin.
const REVERSE: &str = "reverse";

/// Our word and mitmproxy's for a client that knows of its proxy.
const EXPLICIT: &str = "explicit";
const REGULAR: &str = "regular";
