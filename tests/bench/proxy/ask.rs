//! What the load asks of the origin, over HTTP/1.1 and over HTTP/2: the same fields as a browser's, and every answer checked.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http2::Http2;
use crate::wire::{Expect, First, Wire, check};

/// A request with the size of its body that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// The response has this many bytes.
    Get(u64),
    /// The request has this many bytes.
    Post(u64),
}

impl Ask {
    pub(crate) fn target(self) -> String {
        match self {
            Ask::Get(bytes) => format!("/bytes/{bytes}?q=1&lang=en"),
            Ask::Post(_) => "/upload".to_owned(),
        }
    }

    /// One exchange on `wire`. Returns when the response's head was there. `head` is scratch space, empty before and after.
    pub(crate) async fn over_http1<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        wire: &mut Wire<S>,
        authority: &str,
        head: &mut Vec<u8>,
    ) -> Result<Instant> {
        let (method, sent, want) = match self {
            Ask::Get(bytes) => ("GET", 0, bytes),
            Ask::Post(bytes) => ("POST", bytes, bytes % 1000),
        };
        let line = format!("{method} {} HTTP/1.1\r\nHost: {authority}\r\n", self.target());
        head.extend_from_slice(line.as_bytes());
        for (name, value) in FIELDS {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Ask::Post(bytes) = self {
            let fields = format!("Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n");
            head.extend_from_slice(fields.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        wire.send(head, sent).await?;
        let answer = wire.head(Expect::Response).await?.context("closed instead of answering")?;
        let first_byte = Instant::now();
        let First::Response { status } = answer.first else { bail!("not a response") };
        ensure!(status == 200, "answered with {status}");
        ensure!(!answer.chunked, "a chunked body: none was asked for");
        ensure!(answer.content_length == want, "a body of {} bytes for {want}", answer.content_length);
        wire.body(want).await?;
        Ok(first_byte)
    }

    /// The head of this request for hyper, over HTTP/1.1.
    pub(crate) fn plain_head(self, authority: &str) -> Result<http::Request<()>> {
        ensure!(matches!(self, Ask::Get(_)), "only GET is sent with hyper");
        let mut head = http::Request::get(self.target()).header("Host", authority);
        for (name, value) in FIELDS {
            head = head.header(*name, *value);
        }
        Ok(head.body(())?)
    }

    /// The head of this request for HTTP/2.
    pub(crate) fn http2_head(self, authority: &str) -> Result<http::Request<()>> {
        ensure!(matches!(self, Ask::Get(_)), "only GET is sent over HTTP/2");
        let mut head = http::Request::get(format!("https://{authority}{}", self.target()));
        for (name, value) in FIELDS {
            head = head.header(*name, *value);
        }
        Ok(head.body(())?)
    }
}

/// One GET of `bytes` bytes on a stream of its own. Returns when the response's head was there.
pub(crate) async fn get_http2(http2: &Http2, head: &http::Request<()>, bytes: u64) -> Result<Instant> {
    let mut ready = http2.send.clone().ready().await.context("opening a stream")?;
    let (response, _) = ready.send_request(head.clone(), true)?;
    let response = response.await.context("waiting for a response")?;
    let first_byte = Instant::now();
    ensure!(response.status() == 200, "answered with {}", response.status());
    let mut body = response.into_body();
    let mut at = 0;
    while let Some(data) = body.data().await {
        let data = data.context("reading a body")?;
        check(at, &data)?;
        at += data.len() as u64;
        body.flow_control().release_capacity(data.len())?;
    }
    ensure!(at == bytes, "a body of {at} bytes for {bytes}");
    Ok(first_byte)
}

/// The fields of each request, beside `Host`.
pub(crate) const FIELDS: &[(&str, &str)] = &[
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Cookie", "session=6f1d2a9c8b7e4f3a; theme=dark; consent=yes"),
    ("Referer", "https://localhost/"),
    ("Cache-Control", "no-cache"),
];
