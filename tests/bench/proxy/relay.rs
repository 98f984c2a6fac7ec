//! The floor: accepts `CONNECT`, terminates TLS with a minted leaf, opens TLS to the origin and copies bytes.
//!
//! What it negotiates with the client, it offers to the origin. It reads no HTTP inside the tunnel and keeps no record. What it costs, every intercepting proxy pays.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::TaskTracker;

use crate::wire::{Expect, First, Wire};
use crate::{process, trust};

/// Size of a copy buffer: what rustls takes in one write by default.
const COPY_BYTES: usize = 64 * 1024;

/// Serves until standard input ends. Prints its port.
pub(crate) async fn serve(spec: &Value) -> Result<()> {
    let dir = PathBuf::from(spec["dir"].as_str().context("dir")?);
    let acceptor = TlsAcceptor::from(trust::server(&dir)?);
    let ca = dir.join(trust::CA_CERT);
    let connector =
        |alpn| anyhow::Ok(TlsConnector::from(trust::client(&ca, Resumption::default(), &[alpn])?));
    let connectors = Connectors { http1: connector(trust::HTTP1)?, http2: connector(trust::HTTP2)? };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let tasks = TaskTracker::new();
    let accept = async {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, connectors) = (acceptor.clone(), connectors.clone());
            // A connection that breaks shows at the client, which counts errors for all.
            tasks.spawn(async move { connection(tcp, acceptor, connectors).await.is_ok() });
        }
    };
    tokio::select! {
        () = accept => bail!("the listener failed"),
        () = process::stdin_ended() => Ok(()),
    }
}

#[derive(Clone)]
struct Connectors {
    http1: TlsConnector,
    http2: TlsConnector,
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, connectors: Connectors) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut wire = Wire::new(tcp);
    let head = wire.head(Expect::Request).await?.context("no request")?;
    let First::Request { method, target } = head.first else { bail!("not a request") };
    ensure!(method == "CONNECT", "only CONNECT");
    let mut tcp = wire.stream;
    tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut client = acceptor.accept(tcp).await?;
    let tcp = TcpStream::connect(&target).await?;
    tcp.set_nodelay(true)?;
    let host = target.rsplit_once(':').context("no port")?.0.to_owned();
    let is_http2 = client.get_ref().1.alpn_protocol() == Some(trust::HTTP2);
    let connector = if is_http2 { connectors.http2 } else { connectors.http1 };
    let mut server = connector.connect(ServerName::try_from(host)?, tcp).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await?;
    Ok(())
}
