//! Clients and origins that speak HTTP/2 through a proxy, in TLS and in clear.

use super::conn::H2;
use super::either::End;
use crate::harness::{Origin, Peer, Setup, TestCa, TlsOrigin};

/// A protocol on one side of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// Client and origin: all there is.
pub(crate) const COMBINATIONS: [(Speaks, Speaks); 4] = [
    (Speaks::Http1, Speaks::Http1),
    (Speaks::Http1, Speaks::Http2),
    (Speaks::Http2, Speaks::Http1),
    (Speaks::Http2, Speaks::Http2),
];

/// The name of the origins in TLS.
pub(crate) const NAME: &str = "origin.test";

impl Speaks {
    fn alpn(self) -> &'static str {
        match self {
            Speaks::Http1 => "http/1.1",
            Speaks::Http2 => "h2",
        }
    }
}

impl TlsOrigin {
    /// An origin called [`NAME`] that speaks one protocol alone.
    pub(crate) async fn speaking(ca: &TestCa, protocol: Speaks) -> Self {
        Self::listen(ca.server_config(&[NAME], &[protocol.alpn()])).await
    }

    /// Accepts the connection on which the handshake comes to its end: an origin that has refused all that was offered is
    /// asked again.
    pub(crate) async fn settle(&self) -> Peer {
        loop {
            if let Ok(peer) = self.try_accept().await {
                return peer;
            }
        }
    }

    /// The same with HTTP/2 on it.
    pub(crate) async fn h2(&self) -> H2 {
        H2::server(self.settle().await).await
    }
}

impl Setup {
    /// A proxy, and an origin that it trusts and that speaks HTTP/2.
    pub(crate) async fn h2_origin() -> (Self, TlsOrigin) {
        let ca = TestCa::new();
        let setup = Self::trusting(&ca).await;
        (setup, TlsOrigin::speaking(&ca, Speaks::Http2).await)
    }

    /// Client and origin with HTTP/2 in TLS on both sides.
    pub(crate) async fn h2(&self, origin: &TlsOrigin) -> (H2, H2) {
        self.h2_with(origin, &[], &[]).await
    }

    /// The same with settings: the client's, the origin's.
    pub(crate) async fn h2_with(
        &self,
        origin: &TlsOrigin,
        ours: &[(u16, u32)],
        theirs: &[(u16, u32)],
    ) -> (H2, H2) {
        let (client, server) = tokio::join!(self.h2_client(origin, ours), async {
            H2::server_with(origin.settle().await, theirs).await
        });
        (client, server)
    }

    /// A client with HTTP/2 in TLS, for an origin that is accepted meanwhile or need not be.
    pub(crate) async fn h2_client(&self, origin: &TlsOrigin, settings: &[(u16, u32)]) -> H2 {
        let peer = self.tls_client(&tunnel_to(&origin.origin), NAME, &["h2"]).await.unwrap();
        let mut client = H2::client_with(peer, settings).await;
        client.origin = ("https", NAME.into());
        client
    }

    /// A client that speaks HTTP/2 in clear to the proxy itself, by prior knowledge (RFC 9113 §3.3).
    pub(crate) async fn h2_clear(&self, origin: &Origin) -> H2 {
        let mut client = H2::client(self.client().await).await;
        client.origin = ("http", origin.addr().to_string());
        client
    }

    /// The same inside a tunnel.
    pub(crate) async fn h2_tunnel(&self, origin: &Origin) -> H2 {
        let mut client = H2::client(self.tunnel(&tunnel_to(origin)).await).await;
        client.origin = ("http", origin.addr().to_string());
        client
    }

    /// Client and origin in TLS that speak these protocols and no other.
    pub(crate) async fn ends(&self, ca: &TestCa, client: Speaks, server: Speaks) -> (End, End) {
        let origin = TlsOrigin::speaking(ca, server).await;
        let to = tunnel_to(&origin.origin);
        let alpn = [client.alpn()];
        let (ours, theirs) = tokio::join!(self.tls_client(&to, NAME, &alpn), origin.settle());
        let ours = match client {
            Speaks::Http1 => End::H1(ours.unwrap()),
            Speaks::Http2 => {
                let mut ours = H2::client(ours.unwrap()).await;
                ours.origin = ("https", NAME.into());
                End::H2(ours)
            }
        };
        let theirs = match server {
            Speaks::Http1 => End::H1(theirs),
            Speaks::Http2 => End::H2(H2::server(theirs).await),
        };
        (ours, theirs)
    }
}

fn tunnel_to(origin: &Origin) -> String {
    format!("127.0.0.1:{}", origin.addr().port())
}
