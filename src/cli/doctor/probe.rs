//! A request on trial: through a proxy like the user's to an origin of our own over TLS on both legs, and back out of a store.
//!
//! All of it is in this process, on loopback, in a directory that is thrown away. The CA that signs is the user's, where
//! it can be used.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Finding;
use crate::app::{Grace, Proxy};
use crate::cli::text;
use crate::config::{Config, Timeouts};
use crate::flow::State;
use crate::store::Reader;
use crate::tls::{Alpn, Ca, ClientTls, Leaves, Roots, Verification};

/// Sends it.
pub(super) fn finding(config: &Config) -> Finding {
    let began = Instant::now();
    match tried(config) {
        Ok(what) => {
            let took = text::duration_us(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            Finding::good("probe", format!("{what} ({took})"))
        }
        Err(error) => {
            let message = format!("a request on trial did not come through: {error:#}");
            Finding::bad(
                "probe",
                message,
                "mend what is said above first; then: manent doctor -vv   tells each step",
            )
        }
    }
}

fn tried(config: &Config) -> anyhow::Result<String> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async { tokio::time::timeout(PATIENCE, probe(config, dir.path())).await });
    // What hangs has been told, and is not waited for.
    runtime.shutdown_background();
    outcome.map_err(|_| anyhow!("it took longer than {}s", PATIENCE.as_secs()))?
}

async fn probe(config: &Config, dir: &Path) -> anyhow::Result<String> {
    let store = dir.join("flows.db");
    let mut own = Config::new(store.clone(), config.ca_dir.clone());
    let loaded = match &config.ca_files {
        Some(files) => Ca::load_files(&files.cert, files.key.as_deref()),
        None => Ca::load(&config.ca_dir),
    };
    // A name that the CA may sign for. Where it cannot be used, which has been told, one of our own takes its place.
    let host = loaded.ok().and_then(|ca| host_for(&ca));
    let signer = if host.is_some() { "your CA" } else { "a CA of its own" };
    match host {
        Some(_) => own.ca_files.clone_from(&config.ca_files),
        None => own.ca_dir = dir.join("ca"),
    }
    let host = host.unwrap_or_else(|| "localhost".to_owned());

    let origin_dir = dir.join("origin");
    let leaves = Leaves::new(Arc::new(Ca::load_or_create(&origin_dir)?))?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port on 127.0.0.1")?;
    let port = listener.local_addr()?.port();
    let acceptor = TlsAcceptor::from(leaves.server_config(&host, Alpn::Http11)?);
    own.listen = vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    own.upstream_ca = vec![crate::cli::ca::cert_file(&origin_dir)];
    own.timeouts = Timeouts { grace: Duration::from_secs(1), ..own.timeouts };

    let proxy = Proxy::start(own).await.context("the proxy does not start")?;
    let served = async { answer(&listener, &acceptor).await.context("at the origin") };
    let asked = async { ask(&proxy, &host, port).await.context("at the client") };
    let exchanged = tokio::try_join!(served, asked);
    let summary =
        proxy.shutdown(Grace { period: Duration::from_secs(1), skip: CancellationToken::new() }).await;
    exchanged?;
    ensure!(summary.stored == 1 && summary.lost == 0, "{} flows were stored, and 1 was sent", summary.stored);
    let mid = tokio::task::spawn_blocking(move || read_back(&store)).await??;
    Ok(format!("a request over TLS, signed by {signer}, was relayed, recorded as mid {mid} and read back"))
}

/// A host that the CA may sign for, and that leads to this machine or is no matter.
fn host_for(ca: &Ca) -> Option<String> {
    let cert = ca.certificate().ok()?;
    let permitted =
        cert.constraints().permitted().iter().map(|name| name.to_string().trim_start_matches('.').to_owned());
    let below = permitted.clone().map(|name| format!("probe.{name}"));
    let usual = ["localhost", "127.0.0.1"].map(str::to_owned);
    // The tunnel is to 127.0.0.1, and the name is what TLS asks for: another address cannot be asked for so.
    let is_possible = |host: &String| host == "127.0.0.1" || host.parse::<std::net::IpAddr>().is_err();
    let mut hosts = usual.into_iter().chain(permitted).chain(below);
    hosts.find(|host| is_possible(host) && !host.contains('/') && ca.permits(host))
}

/// Serves one connection with one answer.
async fn answer(listener: &TcpListener, acceptor: &TlsAcceptor) -> anyhow::Result<()> {
    let (tcp, _) = listener.accept().await?;
    let mut tls = acceptor.accept(tcp).await?;
    head(&mut tls).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", BODY.len());
    tls.write_all(head.as_bytes()).await?;
    tls.write_all(BODY).await?;
    tls.shutdown().await?;
    Ok(())
}

/// Asks through the proxy, as a client that trusts its CA.
async fn ask(proxy: &Proxy, host: &str, port: u16) -> anyhow::Result<()> {
    let mut tcp = TcpStream::connect(proxy.addr()).await?;
    let connect = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    tcp.write_all(connect.as_bytes()).await?;
    let answered = head(&mut tcp).await?;
    ensure!(
        answered.starts_with("HTTP/1.1 200 "),
        "the tunnel was refused: {}",
        answered.lines().next().unwrap_or("")
    );
    let path = proxy.ca().cert_path().context("the CA has no file")?.to_owned();
    let tls = ClientTls::new(&Roots::load(&[path], None)?, Verification::On)?;
    let connected = tls.connect(tcp, host, &[Bytes::from_static(b"http/1.1")]).await;
    let (mut tls, _) =
        connected.map_err(|error| anyhow!("our certificate was refused: {}", error.message))?;
    tls.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut response = Vec::new();
    tls.take(MOST).read_to_end(&mut response).await?;
    ensure!(
        response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(BODY),
        "another answer came back: {}",
        String::from_utf8_lossy(&response).lines().next().unwrap_or_default()
    );
    Ok(())
}

/// Finds the flow in the store, and checks that it is what passed.
fn read_back(store: &Path) -> anyhow::Result<crate::flow::Mid> {
    let reader = Reader::open(store)?;
    let (mid, ..) = reader.bounds()?.context("the store holds no flow")?;
    let flow = reader.load(mid, MOST)?.context("the flow is not there")?;
    let (Some(request), Some(response)) = (&flow.request, &flow.response) else {
        bail!("the record lacks {}", if flow.request.is_none() { "the request" } else { "the response" });
    };
    let is_same = flow.state == State::Complete
        && request.target[..] == *PATH.as_bytes()
        && response.status == 200
        && response.body.as_inline().is_some_and(|body| body[..] == *BODY);
    ensure!(is_same, "the record is not what passed");
    Ok(mid)
}

/// Reads to the blank line after a head.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16_384, "a head without an end");
        head.push(stream.read_u8().await.context("the connection ended in a head")?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

const PATH: &str = "/manent-doctor";
const BODY: &[u8] = b"what passed is kept";
/// Bytes; far more than the answer has.
const MOST: u64 = 65_536;
/// It takes some 50 ms; on a machine that is very busy, a hundred times that.
const PATIENCE: Duration = Duration::from_secs(15);
