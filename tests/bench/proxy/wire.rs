//! As much HTTP/1.1 as the load needs, with as little CPU as can be: heads with `Content-Length`, keep-alive, no chunks.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One message stream with what was read ahead of it.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
    /// Where the unread bytes of `buffer` begin; `start <= buffer.len()`.
    start: usize,
}

/// What the load looks at in a head.
pub(crate) struct Head {
    /// Method and target, or status.
    pub(crate) first: First,
    pub(crate) content_length: u64,
    /// Whether the body is chunked, which only an event stream is.
    pub(crate) chunked: bool,
    /// `Sec-WebSocket-Key` of a request, `Sec-WebSocket-Accept` of a response.
    pub(crate) websocket: Option<String>,
}

pub(crate) enum First {
    Request { method: String, target: String },
    Response { status: u16 },
}

/// Which first line to expect.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    Request,
    Response,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Wire<S> {
        Wire { stream, buffer: Vec::with_capacity(4096), start: 0 }
    }

    /// The next head; `None` if the peer closed before its first byte.
    pub(crate) async fn head(&mut self, expect: Expect) -> Result<Option<Head>> {
        loop {
            if let Some((head, len)) = parse(&self.buffer[self.start..], expect)? {
                self.start += len;
                return Ok(Some(head));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            ensure!(self.buffer.len() < 32 * 1024, "a head without end");
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => bail!("closed inside a head"),
                Ok(_) => {}
                // Proxies that end a kept connection need not send close_notify.
                Err(error) if self.buffer.is_empty() && error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(None);
                }
                Err(error) => return Err(error).context("reading a head"),
            }
        }
    }

    /// Reads `len` body bytes and checks each against [`PATTERN`] repeated.
    pub(crate) async fn body(&mut self, len: u64) -> Result<()> {
        let mut at = 0_u64;
        while at < len {
            if self.start == self.buffer.len() {
                self.buffer.clear();
                self.start = 0;
                if len > 16 * 1024 {
                    self.buffer.reserve(PATTERN.len());
                }
                let read = self.stream.read_buf(&mut self.buffer).await.context("reading a body")?;
                ensure!(read > 0, "closed at byte {at} of a body of {len}");
            }
            let unread = &self.buffer[self.start..];
            let take = usize::try_from(len - at).unwrap_or(usize::MAX).min(unread.len());
            check(at, &unread[..take])?;
            self.start += take;
            at += take as u64;
        }
        Ok(())
    }

    /// The next `len` bytes.
    pub(crate) async fn exact(&mut self, len: usize) -> Result<&[u8]> {
        while self.buffer.len() - self.start < len {
            self.read_more().await?;
        }
        self.start += len;
        Ok(&self.buffer[self.start - len..self.start])
    }

    /// The next `N` bytes.
    pub(crate) async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.exact(N).await?.try_into()?)
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> Result<&[u8]> {
        let len = loop {
            let unread = &self.buffer[self.start..];
            if let Some(len) = unread.iter().position(|byte| *byte == b'\n') {
                break len;
            }
            ensure!(unread.len() < 1024, "a line without end");
            self.read_more().await?;
        };
        let line = self.start..self.start + len;
        self.start += len + 1;
        Ok(self.buffer[line].trim_ascii_end())
    }

    async fn read_more(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "closed by the other side");
        Ok(())
    }

    /// Writes a head and a body of `len` bytes of [`PATTERN`] repeated. `head` is emptied.
    pub(crate) async fn send(&mut self, head: &mut Vec<u8>, len: u64) -> Result<()> {
        let mut left = len;
        // A small body goes out with its head, as servers do.
        if left <= 16 * 1024 {
            head.extend_from_slice(&PATTERN[..usize::try_from(left)?]);
            left = 0;
        }
        self.stream.write_all(head).await?;
        head.clear();
        while left > 0 {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(PATTERN.len());
            self.stream.write_all(&PATTERN[..take]).await?;
            left -= take as u64;
        }
        self.stream.flush().await?;
        Ok(())
    }
}

fn parse(bytes: &[u8], expect: Expect) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let (status, first) = match expect {
        Expect::Request => {
            let mut request = httparse::Request::new(&mut headers);
            let status = request.parse(bytes)?;
            let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
            (status, First::Request { method: text(request.method), target: text(request.path) })
        }
        Expect::Response => {
            let mut response = httparse::Response::new(&mut headers);
            let status = response.parse(bytes)?;
            (status, First::Response { status: response.code.unwrap_or_default() })
        }
    };
    let httparse::Status::Complete(len) = status else { return Ok(None) };
    let mut head = Head { first, content_length: 0, chunked: false, websocket: None };
    for header in headers.iter().take_while(|header| !header.name.is_empty()) {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            head.content_length = std::str::from_utf8(header.value)?.parse()?;
        } else if is("transfer-encoding") {
            head.chunked = true;
        } else if is("sec-websocket-key") || is("sec-websocket-accept") {
            head.websocket = Some(std::str::from_utf8(header.value)?.to_owned());
        }
    }
    Ok(Some((head, len)))
}

/// The N of a target `/bytes/N?…`; 0 for any other.
pub(crate) fn requested(target: &str) -> u64 {
    let number = |rest: &str| rest.split('?').next()?.parse().ok();
    target.strip_prefix("/bytes/").and_then(number).unwrap_or(0)
}

/// Checks `bytes`, which stand at `at` of a body, against [`PATTERN`] repeated.
pub(crate) fn check(at: u64, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    let mut offset = usize::try_from(at % PATTERN.len() as u64)?;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(PATTERN.len() - offset));
        ensure!(*part == PATTERN[offset..offset + part.len()], "a body differs after byte {at}");
        (rest, offset) = (after, 0);
    }
    Ok(())
}

/// What every body is made of: 64 KiB that do not repeat within themselves.
pub(crate) static PATTERN: [u8; 64 * 1024] = pattern();

const fn pattern() -> [u8; 64 * 1024] {
    let mut bytes = [0; 64 * 1024];
    // xorshift32, and of each word one byte.
    let mut state = 0x9e37_79b9_u32;
    let mut at = 0;
    while at < bytes.len() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[at] = state.to_be_bytes()[1];
        at += 1;
    }
    bytes
}
