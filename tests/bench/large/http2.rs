//! The same bodies as streams of HTTP/2 in TLS, on both legs.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use anyhow::{Context as _, Result, ensure};
use blake3::{Hash, Hasher};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Blocks, Direction};

/// By its ALPN name.
pub(crate) const PROTOCOL: &[u8] = b"h2";

/// Serves one connection to its end; tells the hash of each body.
pub(crate) fn serve(tcp: TcpStream, tls: Arc<ServerConfig>, len: u64, told: &SyncSender<Hash>) -> Result<()> {
    runtime()?.block_on(async {
        let stream = TlsAcceptor::from(tls).accept(asynchronous(tcp)?).await?;
        let mut connection = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(accepted) = accepted else { return Ok(()) };
                    let (request, respond) = accepted?;
                    streams.spawn(answer(request, respond, len));
                }
                Some(hash) = streams.join_next() => told.send(hash??)?,
            }
        }
    })
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    len: u64,
) -> Result<Hash> {
    if request.method() == http::Method::PUT {
        let hash = receive(request.into_body(), len).await?;
        respond.send_response(http::Response::new(()), true)?;
        return Ok(hash);
    }
    let response = http::Response::builder().header("content-length", len).body(())?;
    send(respond.send_response(response, false)?, len).await
}

/// One exchange on a connection of its own, in a tunnel that is open.
pub(crate) fn exchange(
    tunnel: TcpStream,
    tls: Arc<ClientConfig>,
    to: SocketAddr,
    direction: Direction,
    len: u64,
) -> Result<Hash> {
    runtime()?.block_on(async {
        let name = ServerName::from(to.ip());
        let stream = TlsConnector::from(tls).connect(name, asynchronous(tunnel)?).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(PROTOCOL), "the proxy does not offer HTTP/2");
        let (send_request, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake::<_, Bytes>(stream)
            .await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut send_request = send_request.ready().await?;
        let request = http::Request::builder().uri(format!("https://{to}/"));
        let (response, hash) = match direction {
            Direction::Down => (send_request.send_request(request.body(())?, true)?.0, None),
            Direction::Up => {
                let request = request.method("PUT").header("content-length", len).body(())?;
                let (response, body) = send_request.send_request(request, false)?;
                (response, Some(send(body, len).await?))
            }
        };
        let response = response.await?;
        ensure!(response.status() == 200, "no good answer: {}", response.status());
        match hash {
            Some(hash) => Ok(hash),
            None => receive(response.into_body(), len).await,
        }
    })
}

/// Sends `len` bytes as the peer gives credit.
async fn send(mut body: SendStream<Bytes>, len: u64) -> Result<Hash> {
    let (mut hasher, mut left) = (Hasher::new(), len);
    for block in Blocks::of(len) {
        hasher.update(&block);
        let mut block = Bytes::from(block);
        while !block.is_empty() {
            body.reserve_capacity(block.len());
            let granted = poll_fn(|cx| body.poll_capacity(cx)).await.context("the stream is gone")??;
            let piece = block.split_to(granted.min(block.len()));
            left -= piece.len() as u64;
            body.send_data(piece, left == 0)?;
        }
    }
    Ok(hasher.finalize())
}

/// Reads `len` bytes and the end of the stream.
async fn receive(mut body: RecvStream, len: u64) -> Result<Hash> {
    let (mut hasher, mut left) = (Hasher::new(), len);
    while let Some(data) = body.data().await {
        let data = data?;
        hasher.update(&data);
        body.flow_control().release_capacity(data.len())?;
        left = left.checked_sub(data.len() as u64).context("more than was due")?;
    }
    ensure!(left == 0, "the end, {left} bytes before it was due");
    Ok(hasher.finalize())
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

fn asynchronous(tcp: TcpStream) -> Result<tokio::net::TcpStream> {
    tcp.set_nonblocking(true)?;
    tcp.set_nodelay(true)?;
    Ok(tokio::net::TcpStream::from_std(tcp)?)
}

/// What a stream may send ahead: enough that loopback is not what limits.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
