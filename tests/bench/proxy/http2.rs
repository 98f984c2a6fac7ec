//! HTTP/2 at both ends of a measurement: the load's connection, and the origin's.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::origin::response_fields;
use crate::wire::{PATTERN, requested};

/// A client's connection. It closes when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Http2 {
    pub(crate) send: SendRequest<Bytes>,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Http2 {
    pub(crate) async fn handshake<S>(stream: S) -> Result<Http2>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await
            .context("the HTTP/2 handshake")?;
        let driver = tokio::spawn(async move {
            // How it ended, its streams tell.
            let _ = connection.await;
        });
        Ok(Http2 { send, _driver: Arc::new(AbortOnDropHandle::new(driver)) })
    }
}

/// Answers the requests of one connection, each counted in `requests`.
pub(crate) async fn serve<S>(stream: S, requests: &AtomicU64, tasks: &TaskTracker) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        requests.fetch_add(1, Ordering::Relaxed);
        // A stream that breaks shows at the client, which counts errors for all.
        tasks.spawn(async move { answer(&request, respond).await.is_ok() });
    }
    Ok(())
}

async fn answer(request: &http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let len = requested(request.uri().path());
    let mut response = http::Response::builder().status(200);
    for (name, value) in response_fields() {
        response = response.header(*name, *value);
    }
    let response = response.header("content-length", len).body(())?;
    let mut body = respond.send_response(response, len == 0)?;
    let mut left = len;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(PATTERN.len());
        let offset = usize::try_from((len - left) % PATTERN.len() as u64)?;
        let want = want.min(PATTERN.len() - offset);
        body.reserve_capacity(want);
        let granted =
            poll_fn(|context| body.poll_capacity(context)).await.context("the stream is gone")??;
        let take = granted.min(want);
        left -= take as u64;
        body.send_data(Bytes::from_static(&PATTERN[offset..offset + take]), left == 0)?;
    }
    Ok(())
}

/// Above all that the load opens at a time, since a proxy may bring all clients' streams on one connection.
const STREAMS: u32 = 1024;

/// What a stream may send ahead: enough that loopback is not what limits.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
