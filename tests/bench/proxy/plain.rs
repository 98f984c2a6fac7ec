//! A client over HTTP/1.1 as load generators are made: hyper's, with a task for each connection.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::wire::check;

/// A connection. It closes when it is dropped.
pub(crate) struct Plain {
    send: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Plain {
    pub(crate) async fn handshake<S>(stream: S) -> Result<Plain>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("hyper's handshake")?;
        let driver = tokio::spawn(async move {
            // How it ended, its requests tell.
            let _ = connection.await;
        });
        Ok(Plain { send, _driver: AbortOnDropHandle::new(driver) })
    }

    /// One GET of `bytes` bytes. Returns when the response's head was there.
    pub(crate) async fn get(&mut self, head: &http::Request<()>, bytes: u64) -> Result<Instant> {
        self.send.ready().await.context("waiting for the connection")?;
        let response = self.send.send_request(head.clone().map(|()| Empty::new())).await?;
        let first_byte = Instant::now();
        ensure!(response.status() == 200, "answered with {}", response.status());
        let (mut body, mut at) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.context("reading a body")?.data_ref() {
                check(at, data)?;
                at += data.len() as u64;
            }
        }
        ensure!(at == bytes, "a body of {at} bytes for {bytes}");
        Ok(first_byte)
    }
}
