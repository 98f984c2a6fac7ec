//! An origin whose answers are fixed to the byte, and which keeps what it saw to the byte.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Trust;

pub(crate) struct Origin {
    pub(crate) port: u16,
    scheme: &'static str,
    log: Arc<Mutex<Vec<Seen>>>,
    /// Aborted when the origin is dropped.
    accepting: JoinHandle<()>,
}

/// One request as it reached the origin, and the answer as it was sent.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    /// HTTP/2's `:authority`; elsewhere only where a test asks for it.
    pub(crate) authority: Option<String>,
    /// Names and values as they stood on the wire.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The statuses of the 1xx responses, 101 not among them.
    pub(crate) interim: Vec<u64>,
    /// 0 if there was none.
    pub(crate) status: u16,
    pub(crate) response_headers: Vec<(String, String)>,
    /// The body without its framing, in its content-coding.
    pub(crate) response_body: Vec<u8>,
    pub(crate) response_trailers: Vec<(String, String)>,
    /// The code of HTTP/2 that the stream was reset with, 0 for none.
    pub(crate) reset: u64,
    /// Which of the origin's HTTP/2 connections it came on.
    pub(crate) connection: Option<u64>,
}

impl Seen {
    /// The first value of a request header, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for Seen {
    /// Bodies by their length: they are long, and compared where they matter.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {} {} ({} bytes)", self.method, self.target, self.version, self.body.len())?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "  {name}: {value}"))?;
        writeln!(f, "{} ({} bytes)", self.status, self.response_body.len())?;
        self.response_headers.iter().try_for_each(|(name, value)| writeln!(f, "  {name}: {value}"))
    }
}

impl Origin {
    pub(crate) async fn https(trust: &Trust) -> Origin {
        Origin::start("https", Some(TlsAcceptor::from(Arc::clone(&trust.server))), None).await
    }

    /// One that gives away the files below `dir`, `index` for a directory.
    pub(crate) async fn of_files(trust: &Trust, dir: &Path) -> Origin {
        Origin::start("https", Some(TlsAcceptor::from(Arc::clone(&trust.server))), Some(dir.to_owned())).await
    }

    pub(crate) async fn http() -> Origin {
        Origin::start("http", None, None).await
    }

    async fn start(scheme: &'static str, tls: Option<TlsAcceptor>, files: Option<PathBuf>) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        let accepting = tokio::spawn(async move {
            let connections = TaskTracker::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, log, files) = (tls.clone(), Arc::clone(&shared), files.clone());
                // A connection that breaks shows at the client, or as what the log lacks.
                connections.spawn(async move { connection(tcp, tls, files.as_deref(), &log).await.is_ok() });
            }
        });
        Origin { port, scheme, log, accepting }
    }

    /// A URL on `localhost`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.port)
    }

    /// Everything seen so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    files: Option<&Path>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    match tls {
        Some(tls) => serve(tls.accept(tcp).await?, files, log).await,
        None => serve(tcp, files, log).await,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    files: Option<&Path>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut peer = Peer { stream, unread: Vec::new() };
    while let Some(mut seen) = peer.head().await? {
        if seen.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            peer.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            seen.interim.push(100);
        }
        seen.body = peer.body(&seen).await?;
        let reply = files.map_or_else(|| Reply::to(&seen), |dir| Reply::file(dir, &seen.target));
        let mut wire = format!("HTTP/1.1 {} Fine By Me\r\n", reply.status).into_bytes();
        for (name, value) in &reply.headers {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        let silent = seen.method == "HEAD" || reply.status == 204;
        wire.extend_from_slice(if silent { b"" } else { &reply.framed });
        seen.status = reply.status;
        seen.response_headers = reply.headers;
        seen.response_trailers = if silent { Vec::new() } else { reply.trailers };
        seen.response_body = if silent { Vec::new() } else { reply.body };
        // Logged before it is sent: whoever has the answer finds it in the log.
        log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        peer.stream.write_all(&wire).await?;
        peer.stream.flush().await?;
        if reply.closes {
            peer.stream.shutdown().await?;
            break;
        }
    }
    Ok(())
}

/// The other end of a connection, with what was read ahead.
struct Peer<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn head(&mut self) -> std::io::Result<Option<Seen>> {
        let head = loop {
            if let Some(end) = self.unread.windows(4).position(|at| at == b"\r\n\r\n") {
                break String::from_utf8_lossy(&self.take(end + 4)).into_owned();
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        };
        let mut lines = head.trim_end().split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_owned(), value.trim_matches(' ').to_owned())).collect();
        Ok(Some(Seen { method, target, version, headers, ..Seen::default() }))
    }

    async fn body(&mut self, head: &Seen) -> std::io::Result<Vec<u8>> {
        if head.header("transfer-encoding").is_none() {
            let len = head.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
            return self.exactly(len).await;
        }
        let mut body = Vec::new();
        loop {
            let size = self.line().await?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            body.extend(self.exactly(size).await?);
            // The line end of the chunk, or of an empty trailer section: clients here send none.
            self.line().await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|at| at == b"\r\n") {
                return Ok(String::from_utf8_lossy(&self.take(end + 2)).into_owned());
            }
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn exactly(&mut self, len: usize) -> std::io::Result<Vec<u8>> {
        while self.unread.len() < len {
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(len))
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        self.stream.read_buf(&mut self.unread).await
    }
}

/// What the origin answers.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    /// `body` as it goes on the wire.
    framed: Vec<u8>,
    closes: bool,
}

impl Reply {
    fn to(seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap_or_default();
        let sized = |kind: &str, body: &[u8]| Reply::new(kind, body.to_vec());
        match (seen.method.as_str(), path) {
            ("POST" | "PUT", _) => sized("text/plain", format!("received {}", seen.body.len()).as_bytes()),
            (_, "/hello") => sized("text/plain", b"hello, world\n")
                .with("Set-Cookie", "a=1; Path=/")
                .with("x-oDD-CaSe", "kept")
                .with("set-cookie", "b=2; Path=/"),
            (_, "/gzip") => {
                Reply::new("text/plain; charset=utf-8", gzip(GZIP_TEXT)).with("Content-Encoding", "gzip")
            }
            (_, "/chunked") => Reply::chunked(b"first, ", b"second"),
            (_, "/until-close") => Reply::until_close(b"ends with the connection"),
            (_, "/nothing") => Reply { status: 204, headers: Vec::new(), ..sized("", b"") },
            (_, "/binary") => Reply::new("application/octet-stream", binary(300_000)),
            (_, "/page") => sized("text/html; charset=utf-8", PAGE.as_bytes()),
            (_, "/style.css") => sized("text/css", b"body { background: url(/pixel.png?css=1) }\n"),
            (_, "/app.js") => sized("text/javascript", SCRIPT.as_bytes()),
            (_, "/pixel.png") => sized("image/png", PIXEL),
            (_, path) if path.starts_with("/numbered/") => sized("application/octet-stream", &numbered(path)),
            _ => Reply { status: 404, ..sized("text/plain", b"no such thing\n") },
        }
    }

    /// A file below `dir`.
    fn file(dir: &Path, target: &str) -> Reply {
        let path = target.split('?').next().unwrap_or_default().trim_matches('/');
        let place = dir.join(path);
        let place = if place.is_dir() { place.join("index") } else { place };
        let body = std::fs::read(&place).ok().filter(|_| !path.contains(".."));
        let kind = match path.rsplit('.').next() {
            Some("whl" | "tgz" | "crate") => "application/octet-stream",
            _ if body.as_ref().is_some_and(|body| body.starts_with(b"<")) => "text/html",
            _ => "application/json",
        };
        match body {
            Some(body) => Reply::new(kind, body),
            None => Reply { status: 404, ..Reply::new("text/plain", b"no such file\n".to_vec()) },
        }
    }

    fn new(kind: &str, body: Vec<u8>) -> Reply {
        let headers = [("Content-Type", kind.to_owned()), ("content-LENGTH", body.len().to_string())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Reply { status: 200, headers, framed: body.clone(), body, trailers: Vec::new(), closes: false }
    }

    fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn chunked(first: &[u8], second: &[u8]) -> Reply {
        let mut framed = Vec::new();
        for piece in [first, second] {
            framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\nX-Checksum: 7\r\n\r\n");
        let headers = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let trailers = vec![("X-Checksum".to_owned(), "7".to_owned())];
        Reply { status: 200, headers, body: [first, second].concat(), trailers, framed, closes: false }
    }

    fn until_close(body: &[u8]) -> Reply {
        let headers = vec![("Connection".to_owned(), "close".to_owned())];
        let (body, framed, trailers) = (body.to_vec(), body.to_vec(), Vec::new());
        Reply { status: 200, headers, body, trailers, framed, closes: true }
    }
}

/// `len` bytes of every value, zero and control characters among them.
pub(crate) fn binary(len: usize) -> Vec<u8> {
    (0..=u8::MAX).rev().cycle().take(len).collect()
}

/// The body of `/numbered/N/LEN`: LEN bytes that no other N has.
pub(crate) fn numbered(path: &str) -> Vec<u8> {
    let mut parts = path.split('/').skip(2);
    let number = parts.next().unwrap_or_default();
    let len = parts.next().and_then(|len| len.parse().ok()).unwrap_or(0);
    format!("<{number}>").into_bytes().into_iter().cycle().take(len).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

pub(crate) const GZIP_TEXT: &str = "compressed, kompaktiert, ø, compressed, kompaktiert, ø\n";

const PAGE: &str = "<!doctype html><html><head><title>page</title><link rel=icon href=data:,>\
<link rel=stylesheet href=/style.css></head><body><img src=/pixel.png?img=1><p id=out>waiting</p>\
<script src=/app.js></script></body></html>\n";

const SCRIPT: &str = "fetch('/api?from=js', {method: 'POST', body: JSON.stringify({said: 'h\\u00e9llo'})})\
.then(r => r.text()).then(t => { document.getElementById('out').textContent = 'api ' + t; });\n";

/// A PNG of one transparent pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\x0bIDATx\x9cc`\0\x02\0\0\x05\0\x01z^\xab?\0\0\0\0IEND\xaeB`\x82";
