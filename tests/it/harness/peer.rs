//! One end of a connection, driven by the test byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::soon;

/// A client or an origin's side of a connection.
pub(crate) struct Peer {
    io: Box<dyn Io>,
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the close of the connection an abrupt one, where there is nothing on top of TCP.
    fn break_on_close(&mut self) {}
}

impl Io for TcpStream {
    fn break_on_close(&mut self) {
        self.set_zero_linger().unwrap();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for tokio_rustls::client::TlsStream<T> {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for tokio_rustls::server::TlsStream<T> {}

impl Peer {
    pub(crate) fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io) }
    }

    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let tcp = soon("connect", TcpStream::connect(addr)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::new(tcp)
    }

    /// Takes the stream out, for TLS to be put on it.
    pub(crate) fn into_io(self) -> Box<dyn Io> {
        self.io
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to a peer that may have gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        soon("room to send", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await
    }

    /// Sends one byte at a time.
    pub(crate) async fn trickle(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
        }
    }

    /// Reads exactly these bytes, and fails on the first difference.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let wanted = bytes.as_ref();
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            let mut buf = vec![0; wanted.len() - seen.len()];
            let what = format!("\"{}\" after \"{}\"", wanted.escape_ascii(), seen.escape_ascii());
            let len = soon(&what, self.io.read(&mut buf)).await.unwrap();
            seen.extend_from_slice(&buf[..len]);
            let same = wanted.starts_with(&seen) && len > 0;
            assert!(same, "wanted {}\n   got {}", wanted.escape_ascii(), seen.escape_ascii());
        }
    }

    /// Reads a head: up to and including the first empty line.
    pub(crate) async fn head(&mut self) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let what = format!("the end of a head after \"{}\"", seen.escape_ascii());
            let byte = soon(&what, self.io.read_u8()).await;
            seen.push(byte.unwrap_or_else(|error| panic!("{error} in a head after {}", seen.escape_ascii())));
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub(crate) async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        soon("bytes", self.io.read_exact(&mut buf)).await.unwrap();
        buf
    }

    /// Reads what is there, at least a byte.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        let mut buf = Vec::with_capacity(1 << 16);
        assert!(soon("something", self.io.read_buf(&mut buf)).await.unwrap() > 0, "the end");
        buf
    }

    /// Reads a chunked body without trailers to its end, and gives its payload.
    pub(crate) async fn read_chunked(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.read(1).await);
            }
            let size = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let mut chunk = self.read(size + 2).await;
            assert!(chunk.ends_with(b"\r\n"));
            chunk.truncate(size);
            if size == 0 {
                return data;
            }
            data.extend(chunk);
        }
    }

    /// Reads to the end; an error is an end too.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        let mut seen = Vec::new();
        let end = soon("the end of the connection", self.io.read_to_end(&mut seen)).await;
        (seen, end.map(|_| ()))
    }

    /// Reads to the end and lets go of what came and how it ended.
    pub(crate) async fn drain(&mut self) {
        drop(self.rest().await);
    }

    /// Fails unless the next thing is an end that nobody takes for a clean one.
    pub(crate) async fn expect_break(&mut self) {
        let (rest, end) = self.rest().await;
        assert!(
            rest.is_empty() && end.is_err(),
            "wanted a break, got \"{}\" and {end:?}",
            rest.escape_ascii()
        );
    }

    /// Fails unless the next thing is a clean end.
    pub(crate) async fn expect_end(&mut self) {
        let (rest, end) = self.rest().await;
        assert!(
            rest.is_empty() && end.is_ok(),
            "wanted the end, got \"{}\" and {end:?}",
            rest.escape_ascii()
        );
    }

    /// Breaks the connection with a reset. TCP alone: not for TLS.
    pub(crate) fn reset(mut self) {
        self.io.break_on_close();
    }

    /// Ends our direction only.
    pub(crate) async fn half_close(&mut self) {
        soon("half-close", self.io.shutdown()).await.unwrap();
    }

    /// Reads the answer to a refused request, up to the close; its status line must begin with this. Gives the whole.
    pub(crate) async fn expect_error(&mut self, status: &str) -> String {
        let (answer, _) = self.rest().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "wanted {status}, got {answer}");
        answer
    }
}

/// An origin that the test answers for.
pub(crate) struct Origin {
    listener: TcpListener,
}

impl Origin {
    pub(crate) async fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// `text` with this origin's address in place of each `{addr}`.
    pub(crate) fn fill(&self, text: impl AsRef<[u8]>) -> Vec<u8> {
        fill(text.as_ref(), self.addr())
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(self.accept_tcp().await)
    }

    /// The bare socket, to be reset.
    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        let (tcp, _) = soon("a connection to the origin", self.listener.accept()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// Fails if anybody has connected.
    pub(crate) fn expect_nobody(&self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(self.listener.poll_accept(&mut cx).is_pending(), "somebody connected to the origin");
    }
}

/// `text` with `addr` in place of each `{addr}`.
pub(crate) fn fill(mut text: &[u8], addr: SocketAddr) -> Vec<u8> {
    const MARK: &[u8] = b"{addr}";
    let mut filled = Vec::new();
    while let Some(at) = text.windows(MARK.len()).position(|w| w == MARK) {
        filled.extend_from_slice(&text[..at]);
        filled.extend_from_slice(addr.to_string().as_bytes());
        text = &text[at + MARK.len()..];
    }
    filled.extend_from_slice(text);
    filled
}
