//! The way from a load client to the origin: through a proxy's `CONNECT` or directly, with the protocol that was wanted.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http2::Http2;
use crate::trust;
use crate::wire::{Expect, First, Wire};

pub(crate) type Http1 = Wire<TlsStream<TcpStream>>;

pub(crate) struct Route {
    /// `None` is a direct connection.
    proxy: Option<u16>,
    origin: u16,
    pub(crate) authority: String,
    http1: Arc<ClientConfig>,
    /// Offers both, as browsers do.
    http2: Arc<ClientConfig>,
}

impl Route {
    /// Reads `proxy`, `origin` and `ca`.
    pub(crate) fn from_spec(spec: &Value) -> Result<Route> {
        let port =
            |key: &str| anyhow::Ok(u16::try_from(spec[key].as_u64().with_context(|| key.to_owned())?)?);
        let ca = PathBuf::from(spec["ca"].as_str().context("ca")?);
        let origin = port("origin")?;
        Ok(Route {
            proxy: if spec["proxy"].is_null() { None } else { Some(port("proxy")?) },
            origin,
            authority: format!("{}:{origin}", trust::NAME),
            http1: trust::client(&ca, Resumption::disabled(), &[trust::HTTP1])?,
            http2: trust::client(&ca, Resumption::disabled(), &[trust::HTTP2, trust::HTTP1])?,
        })
    }

    pub(crate) async fn http1(&self) -> Result<Http1> {
        Ok(Wire::new(self.tls(&self.http1).await?))
    }

    /// # Errors
    /// Also when the other side chose another protocol than HTTP/2.
    pub(crate) async fn http2(&self) -> Result<Http2> {
        let tls = self.tls(&self.http2).await?;
        let chosen = trust::negotiated(tls.get_ref().1.alpn_protocol());
        ensure!(chosen == "h2", "the client offered h2 and http/1.1, and negotiated was {chosen}");
        Http2::handshake(tls).await
    }

    /// What is negotiated where HTTP/2 and HTTP/1.1 are offered. Costs a connection.
    pub(crate) async fn negotiated(&self) -> Result<String> {
        let tls = self.tls(&self.http2).await?;
        Ok(trust::negotiated(tls.get_ref().1.alpn_protocol()))
    }

    async fn tls(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.proxy.unwrap_or(self.origin))).await?;
        tcp.set_nodelay(true)?;
        let tcp = if self.proxy.is_some() { self.tunnel(tcp).await? } else { tcp };
        let name = ServerName::try_from(trust::NAME)?;
        Ok(TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?)
    }

    async fn tunnel(&self, tcp: TcpStream) -> Result<TcpStream> {
        let mut wire = Wire::new(tcp);
        let mut head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.authority).into_bytes();
        wire.send(&mut head, 0).await?;
        let head = wire.head(Expect::Response).await?.context("closed instead of answering CONNECT")?;
        let First::Response { status } = head.first else { bail!("not a response") };
        ensure!(status == 200, "CONNECT answered with {status}");
        Ok(wire.stream)
    }
}
