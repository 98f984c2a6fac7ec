//! One client connection, from accept to close.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll, ready};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use super::context::Context;
use super::forward::HTTP2;
use super::mode::{Mode, reverse, socks5, transparent};
use super::origins::Origins;
use super::serve::{self, End, Scope};
use super::server::Entry;
use super::shared::Shared;
use super::{bypass, detect, intercept, proxy_tls, serve_h2, tunnel};
use crate::exchange::Ticker;
use crate::flow::{ClientConn, Version};
use crate::http1::{Reader, Writer};
use crate::upstream::{BoxIo, Io};

/// A client connection's state, whatever stage it is at.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    /// Its facts so far.
    pub(super) facts: Arc<ClientConn>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// How it came in.
    mode: Arc<Mode>,
    pub(super) started: Instant,
    pub(super) ticker: Ticker,
    /// Its place among all connections: whether it is idle, and the token that ends it when it is.
    pub(super) entry: Entry,
    /// Its connections to origins.
    pub(super) origins: Arc<Origins>,
    socket: Arc<SocketState>,
}

/// The two directions of a client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) reader: Reader<ReadHalf<BoxIo>>,
    pub(super) writer: Writer<WriteHalf<BoxIo>>,
}

impl Stream {
    /// A stream with `prefix` put back in front of it.
    pub(super) fn new(io: BoxIo, prefix: BytesMut) -> Self {
        let (read, write) = tokio::io::split(io);
        Self { reader: Reader::new(read, prefix), writer: Writer::new(write) }
    }

    /// Gives back the stream and what was read from it.
    pub(super) fn into_io(self) -> (BoxIo, BytesMut) {
        let (read, buf) = self.reader.into_parts();
        (read.unsplit(self.writer.into_inner()), buf)
    }

    /// Ends the connection so that the client notices: RST, and no close_notify in TLS.
    pub(super) fn reset(self) {
        let (mut io, _) = self.into_io();
        io.reset_on_drop();
    }
}

impl Client {
    /// Takes over an accepted connection.
    pub(super) fn new(
        shared: Arc<Shared>,
        mode: Arc<Mode>,
        peer: SocketAddr,
        local: SocketAddr,
        entry: Entry,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let facts = ClientConn {
            id: shared.next_conn_id(),
            peer: Some(peer.into()),
            local: Some(local.into()),
            mode: mode.as_str().into(),
            started_unix_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            ..ClientConn::default()
        };
        let origins = Arc::new(Origins::new(Arc::clone(&shared.pool)));
        Self {
            shared,
            facts: Arc::new(facts),
            peer,
            local,
            mode,
            started: Instant::now(),
            ticker: Ticker::new(),
            entry,
            origins,
            socket: Arc::default(),
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self, tcp: TcpStream) {
        let original = matches!(*self.mode, Mode::Transparent).then(|| transparent::original(&tcp)).flatten();
        let socket = Socket { tcp, state: Arc::clone(&self.socket) };
        let stream = Stream::new(Box::new(socket), BytesMut::new());
        let mode = Arc::clone(&self.mode);
        match &*mode {
            Mode::Explicit => self.explicit(stream).await,
            Mode::Reverse(target) => reverse::run(&mut self, stream, target).await,
            Mode::Socks5 => self.socks5(stream).await,
            Mode::Transparent => self.transparent(stream, original).await,
        }
    }

    /// Serves a client that knows that we are a proxy.
    async fn explicit(&mut self, mut stream: Stream) {
        let mut end = serve::run(self, &mut stream, &Scope::Explicit).await;
        if let End::Tls = end {
            // On the heap, and gone before the first request, as in a tunnel.
            match Box::pin(proxy_tls::accept(self, stream)).await {
                Some(inner) => stream = inner,
                None => return,
            }
            end = serve::run(self, &mut stream, &Scope::Explicit).await;
        }
        match end {
            // TLS inside of TLS is none that we were asked for: it was refused as a head that is none.
            End::Close | End::Tls => {}
            End::Reset => stream.reset(),
            End::Http2 => self.serve_http2(stream, Scope::Explicit).await,
            End::Connect(connect) => {
                if let Some(opened) = intercept::connect(self, &mut stream, *connect).await {
                    self.tunnel(stream, opened).await;
                }
            }
        }
    }

    /// Serves a client that asks by SOCKS5.
    async fn socks5(&mut self, mut stream: Stream) {
        if let Some(opened) = Box::pin(socks5::accept(self, &mut stream)).await {
            self.tunnel(stream, opened).await;
        }
    }

    /// Serves a client that takes us for its origin; `None` if that cannot be told, as its connection has ended.
    async fn transparent(&mut self, stream: Stream, original: Option<SocketAddr>) {
        let Some(original) = original else { return };
        if let Some((stream, opened)) = Box::pin(transparent::accept(self, stream, original)).await {
            self.tunnel(stream, opened).await;
        }
    }

    /// How it came in.
    pub(super) fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Serves what comes through a tunnel that a `CONNECT` opened, or what comes to the same.
    async fn tunnel(&mut self, mut stream: Stream, mut opened: intercept::Opened) {
        let first = detect::first_bytes(self, &mut stream, &mut opened.origin).await;
        if let Some(reason) = bypass::reason(self, &mut stream, &opened, &first).await {
            return Box::pin(tunnel::opaque(self, stream, opened, reason)).await;
        }
        let (stream, scope) = match first {
            detect::First::Nothing => return,
            detect::First::BrokenTls(reason) => return intercept::broken_tls(self, opened, reason).await,
            detect::First::Opaque(reason) => {
                return Box::pin(tunnel::opaque(self, stream, opened, reason)).await;
            }
            detect::First::Http => {
                let scope = intercept::plain_scope(self, opened, Version::Http11);
                (stream, scope)
            }
            detect::First::Http2 => {
                let scope = intercept::plain_scope(self, opened, Version::Http2);
                return self.serve_http2(stream, scope).await;
            }
            // On the heap, and gone before the first request: handshakes are large, connections many.
            detect::First::Tls => match Box::pin(intercept::tls(self, stream, opened)).await {
                Some((mut stream, mut scope)) => {
                    if Box::pin(bypass::distrusts(self, &mut stream, &mut scope)).await {
                        return;
                    }
                    (stream, scope)
                }
                None => return,
            },
        };
        self.serve_as_agreed(stream, scope).await;
    }

    /// Serves what comes in TLS that was ended for the client, or in clear, by what was agreed on.
    pub(super) async fn serve_as_agreed(&mut self, stream: Stream, scope: Scope) {
        let chosen = self.facts.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        match chosen {
            Some(HTTP2) => self.serve_http2(stream, scope).await,
            _ => self.serve_http1(stream, scope).await,
        }
    }

    async fn serve_http1(&mut self, mut stream: Stream, scope: Scope) {
        let end = serve::run(self, &mut stream, &scope).await;
        match end {
            // In TLS, too, a client may know better than its ALPN says.
            End::Http2 => return self.serve_http2(stream, scope).await,
            End::Reset => stream.reset(),
            End::Close | End::Connect(_) | End::Tls => {}
        }
        if let Scope::Tunnel(tunneled) = &scope {
            intercept::unasked(self, tunneled).await;
        }
    }

    pub(super) async fn serve_http2(&mut self, stream: Stream, scope: Scope) {
        let scope = Arc::new(scope);
        // Apart from the others: its future is large, and lives as long as the connection.
        Box::pin(serve_h2::run(self, stream, Arc::clone(&scope))).await;
        if let Scope::Tunnel(tunneled) = &*scope {
            intercept::unasked(self, tunneled).await;
        }
    }

    /// What an exchange on this connection needs of it.
    pub(super) fn context(&mut self) -> Context<'_> {
        Context {
            ticker: &mut self.ticker,
            shared: &self.shared,
            local: self.local.ip(),
            origins: &self.origins,
        }
    }

    /// Adds to the connection's facts.
    pub(super) fn learn(&mut self, change: impl FnOnce(&mut ClientConn)) {
        let facts = Arc::make_mut(&mut self.facts);
        change(facts);
        facts.revision += 1;
    }

    /// Notes whether a close now would cut something short: see [`Socket`].
    pub(super) fn set_unfinished(&self, unfinished: bool) {
        self.socket.unfinished.store(unfinished, Ordering::Relaxed);
    }

    /// Microseconds since it was accepted.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(recorder) = self.shared.recorder.clone() {
            let closed_us = self.now_us();
            let (bytes_in, bytes_out) =
                (self.socket.read.load(Ordering::Relaxed), self.socket.written.load(Ordering::Relaxed));
            self.learn(|facts| {
                facts.closed_us = Some(closed_us);
                facts.bytes_in = bytes_in;
                facts.bytes_out = bytes_out;
            });
            recorder.client_conn_changed(Arc::clone(&self.facts));
        }
    }
}

/// What a connection and its socket, somewhere below TLS, know of each other.
#[derive(Debug, Default)]
struct SocketState {
    /// Bytes read.
    read: AtomicU64,
    /// Bytes written.
    written: AtomicU64,
    /// Whether something has begun to pass whose end the client could not tell from a clean close.
    unfinished: AtomicBool,
}

/// A client's socket, which counts what passes. If it is dropped in the middle of an answer, whatever the reason (the
/// grace of a shutdown is over, a panic), it sends RST: a body that runs to the close would look whole otherwise.
#[derive(Debug)]
struct Socket {
    tcp: TcpStream,
    state: Arc<SocketState>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.state.unfinished.load(Ordering::Relaxed) {
            self.tcp.reset_on_drop();
        }
    }
}

impl Io for Socket {
    fn reset_on_drop(&mut self) {
        self.tcp.reset_on_drop();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.state.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.state.written.fetch_add(len as u64, Ordering::Relaxed);
        Poll::Ready(Ok(len))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs))?;
        self.state.written.fetch_add(len as u64, Ordering::Relaxed);
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
