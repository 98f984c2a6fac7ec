//! What a handshake settled, as facts of a record.

use bytes::Bytes;
use rustls::server::{Acceptor, ClientHello};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::Verification;
use crate::flow::TlsInfo;

/// What a client asked for, before anything was agreed.
#[must_use]
pub fn describe_hello(hello: &ClientHello<'_>) -> TlsInfo {
    TlsInfo {
        sni: hello.server_name().map(str::to_owned),
        alpn_offers: hello.alpn().into_iter().flatten().map(Bytes::copy_from_slice).collect(),
        cipher_offers: hello.cipher_suites().iter().map(|&suite| suite.into()).collect(),
        ..TlsInfo::default()
    }
}

/// What the client asks for whose ClientHello, whole, stands at the beginning of `bytes`; `None` if it cannot be read.
#[must_use]
pub fn read_hello(mut bytes: &[u8]) -> Option<TlsInfo> {
    let mut acceptor = Acceptor::default();
    loop {
        if acceptor.read_tls(&mut bytes).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(describe_hello(&accepted.client_hello()));
        }
    }
}

/// A handshake with a client that succeeded. `hello` is [`describe_hello`]'s, `presented` is
/// [`Leaves::chain`](super::Leaves::chain)'s. A resumed session stands on that chain though it was not sent again.
#[must_use]
pub fn describe_server_side(
    conn: &rustls::ServerConnection,
    hello: TlsInfo,
    presented: Vec<Bytes>,
) -> TlsInfo {
    TlsInfo { chain: presented, ..agreed(conn, hello) }
}

/// A handshake with an origin that succeeded. `offered` has what we asked for.
#[must_use]
pub fn describe_client_side(
    conn: &rustls::ClientConnection,
    offered: TlsInfo,
    verification: Verification,
) -> TlsInfo {
    let certs = conn.peer_certificates().unwrap_or_default();
    TlsInfo {
        chain: certs.iter().map(|cert| Bytes::copy_from_slice(cert)).collect(),
        verified: verification == Verification::On,
        ..agreed(conn, offered)
    }
}

fn agreed(conn: &CommonState, offered: TlsInfo) -> TlsInfo {
    TlsInfo {
        version: conn.protocol_version().map(version),
        cipher: conn.negotiated_cipher_suite().map(|suite| cipher(suite.suite())),
        group: conn.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
        alpn: conn.alpn_protocol().map(Bytes::copy_from_slice),
        resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
        ..offered
    }
}

fn version(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
        ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
        other => format!("{other:?}"),
    }
}

/// rustls puts the version into the names of TLS 1.3's suites, IANA does not.
fn cipher(suite: rustls::CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}
