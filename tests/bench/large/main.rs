//! One body of 10 GiB down and one up through the binary, recorded: `cargo bench --bench large`
//!
//! Behind `--` may stand `--tls`, `--http2` (in TLS, on both legs), `--gib N` or `--quick` (64 MiB), and `--binary FILE` (another build of manent).
//!
//! What it shows is no speed but three equal hashes of each body (of what was sent, what arrived, what the store gives) and
//! the most memory that the proxy's process ever had (`VmHWM`). It fails if the hashes differ or that is above 128 MiB. The
//! store lies under `target/`, needs twice the size of a body, and is deleted at the end. Origin and client are threads of
//! this process, on the same processors. Loopback only.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's product is what it prints")]

mod http2;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use blake3::Hash;
use manent::flow::{Body, BodyEnd, Mid, State};
use manent::store::Reader;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let gib: u64 = value("--gib").map_or(Ok(10), |n| n.parse()).context("--gib needs a whole number")?;
    let len = if has("--quick") { 64 << 20 } else { gib << 30 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let speaks = match () {
        () if has("--http2") => Speaks::Http2,
        () if has("--tls") => Speaks::Tls,
        () => Speaks::Clear,
    };
    let origin = Origin::start(dir.path(), speaks, len)?;
    let binary = value("--binary").map_or(env!("CARGO_BIN_EXE_manent"), String::as_str);
    let proxy = Proxy::start(&std::path::absolute(binary)?, dir.path())?;
    let client = Client { proxy: proxy.addr, origin: origin.addr, speaks, len };
    println!("{len} bytes each way, {}", speaks.words());

    let mut sent = Vec::new();
    for (name, direction) in [("down", Direction::Down), ("up", Direction::Up)] {
        let began = Instant::now();
        let (ours, theirs) = (client.exchange(dir.path(), direction)?, origin.hashes.recv()?);
        ensure!(ours == theirs, "{name}: what arrived is not what was sent");
        let speed = u128::from(len >> 10) * 1000 / 1024 / began.elapsed().as_millis().max(1);
        let (now, most) = (proxy.memory("VmRSS:")?, proxy.memory("VmHWM:")?);
        println!("{name:<5} {speed:>5} MiB/s   resident {now} MiB, at most {most} MiB");
        sent.push(ours);
    }
    let most = proxy.memory("VmHWM:")?;
    proxy.stop()?;

    let reader = Reader::open(&dir.path().join(STORE))?;
    for (at, sent) in (1..).zip(sent) {
        let flow = reader.flow(Mid(at))?.with_context(|| format!("no flow {at}"))?;
        ensure!(flow.state == State::Complete, "flow {at} is {}", flow.state.as_str());
        let bodies = [flow.request.map(|m| m.body), flow.response.map(|m| m.body)];
        let body =
            bodies.into_iter().flatten().find(|body| body.len == len).context("no body of that size")?;
        ensure!(recorded(&reader, &body)? == sent, "what is recorded in flow {at} is not what was sent");
    }
    println!("recorded whole: BLAKE3 of what was sent, what arrived and what the store gives are equal");
    ensure!(most < MOST_MIB, "{most} MiB resident, {MOST_MIB} are the limit");
    Ok(())
}

fn recorded(reader: &Reader, body: &Body) -> Result<Hash> {
    ensure!(body.end == BodyEnd::Whole, "the body ended as {:?}", body.end);
    let mut stored = reader.body(body)?;
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; BLOCK]);
    loop {
        match stored.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// What client and origin speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Clear,
    Tls,
    Http2,
}

impl Speaks {
    fn words(self) -> &'static str {
        match self {
            Speaks::Clear => "HTTP/1.1 in clear",
            Speaks::Tls => "HTTP/1.1 in TLS",
            Speaks::Http2 => "HTTP/2 in TLS",
        }
    }

    fn alpn(self) -> Vec<Vec<u8>> {
        if self == Speaks::Http2 { vec![http2::PROTOCOL.to_vec()] } else { Vec::new() }
    }
}

/// The blocks of a body, no two of them alike.
struct Blocks {
    next: u64,
    end: u64,
}

impl Blocks {
    fn of(len: u64) -> Self {
        Self { next: 0, end: len / BLOCK as u64 }
    }
}

impl Iterator for Blocks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let at = (self.next < self.end).then_some(self.next)?;
        self.next += 1;
        let mut block = vec![0xa5; BLOCK];
        block[..8].copy_from_slice(&at.to_le_bytes());
        Some(block)
    }
}

/// Sends `len` bytes, and gives their hash.
fn send(to: &mut dyn Write, len: u64) -> Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    for block in Blocks::of(len) {
        hasher.update(&block);
        to.write_all(&block)?;
    }
    to.flush()?;
    Ok(hasher.finalize())
}

/// Reads `len` bytes, and gives their hash.
fn receive(from: &mut dyn Read, len: u64) -> Result<Hash> {
    let (mut hasher, mut buffer, mut left) = (blake3::Hasher::new(), vec![0; BLOCK], len);
    while left > 0 {
        let n = from.read(&mut buffer)?;
        ensure!(n > 0, "the end, {left} bytes before it was due");
        hasher.update(&buffer[..n]);
        left = left.checked_sub(n as u64).context("more than was due")?;
    }
    Ok(hasher.finalize())
}

/// Reads a head, and gives its first line. Byte by byte: what follows is not ours to read.
fn head(from: &mut dyn Read) -> Result<String> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        seen.extend(byte);
    }
    Ok(String::from_utf8_lossy(&seen).lines().next().unwrap_or_default().to_owned())
}

trait Io: Read + Write {}
impl<T: Read + Write> Io for T {}

/// Answers GET with a body and reads that of PUT, a connection at a time; tells the hash of each.
struct Origin {
    addr: SocketAddr,
    hashes: std::sync::mpsc::Receiver<Hash>,
}

impl Origin {
    fn start(dir: &Path, speaks: Speaks, len: u64) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let cert = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
        std::fs::write(dir.join(ORIGIN_CERT), cert.pem())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)?;
        config.alpn_protocols = speaks.alpn();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let (told, hashes) = std::sync::mpsc::sync_channel(2);
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (config, told) = (Arc::clone(&config), told.clone());
                // Side by side: the proxy keeps connections of HTTP/2.
                std::thread::spawn(move || {
                    let served = tcp.map_err(Into::into).and_then(|tcp| match speaks {
                        Speaks::Http2 => http2::serve(tcp, config, len, &told),
                        Speaks::Tls => serve(tcp, Some(config), len, &told),
                        Speaks::Clear => serve(tcp, None, len, &told),
                    });
                    if let Err(error) = served {
                        eprintln!("origin: {error:#}");
                    }
                });
            }
        });
        Ok(Self { addr, hashes })
    }
}

fn serve(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, len: u64, told: &SyncSender<Hash>) -> Result<()> {
    let mut stream: Box<dyn Io> = match tls {
        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config)?, tcp)),
        None => Box::new(tcp),
    };
    let hash = if head(&mut stream)?.starts_with("PUT ") {
        let hash = receive(&mut stream, len)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        hash
    } else {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
        send(&mut stream, len)?
    };
    stream.flush()?;
    Ok(told.send(hash)?)
}

struct Client {
    proxy: SocketAddr,
    origin: SocketAddr,
    speaks: Speaks,
    len: u64,
}

impl Client {
    /// One body on a connection of its own; its hash.
    fn exchange(&self, dir: &Path, direction: Direction) -> Result<Hash> {
        if self.speaks == Speaks::Http2 {
            return http2::exchange(self.tunnel()?, self.tls(dir)?, self.origin, direction, self.len);
        }
        if direction == Direction::Down {
            let mut stream = self.ask(dir, "GET", "")?;
            ensure!(head(&mut stream)?.contains(" 200 "), "no good answer");
            return receive(&mut stream, self.len);
        }
        let mut stream = self.ask(dir, "PUT", &format!("Content-Length: {}\r\n", self.len))?;
        let hash = send(&mut stream, self.len)?;
        ensure!(head(&mut stream)?.contains(" 200 "), "no good answer");
        Ok(hash)
    }

    /// A connection of HTTP/1.1 on which the request's head has been sent.
    fn ask(&self, dir: &Path, method: &str, fields: &str) -> Result<Box<dyn Io>> {
        let to = self.origin;
        if self.speaks == Speaks::Clear {
            let mut tcp = TcpStream::connect(self.proxy)?;
            write!(tcp, "{method} http://{to}/ HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n")?;
            return Ok(Box::new(tcp));
        }
        let connection = ClientConnection::new(self.tls(dir)?, ServerName::from(to.ip()))?;
        let mut stream = StreamOwned::new(connection, self.tunnel()?);
        write!(stream, "{method} / HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n")?;
        Ok(Box::new(stream))
    }

    fn tunnel(&self) -> Result<TcpStream> {
        let (mut tcp, to) = (TcpStream::connect(self.proxy)?, self.origin);
        write!(tcp, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")?;
        ensure!(head(&mut tcp)?.contains(" 200 "), "no tunnel");
        Ok(tcp)
    }

    fn tls(&self, dir: &Path) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.join("ca/manent-ca.pem"))?)?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = self.speaks.alpn();
        Ok(Arc::new(config))
    }
}

/// The binary; killed if it is dropped before [`Proxy::stop`].
struct Proxy {
    process: Child,
    addr: SocketAddr,
}

impl Proxy {
    fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let mut process = Command::new(binary)
            .args(["-q", "-p", "0", "-s", STORE, "--ca-dir", "ca", "--upstream-ca", ORIGIN_CERT])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let talk = process.stderr.take().context("its standard error")?;
        let mut talk = BufReader::new(talk);
        talk.read_line(&mut line)?;
        // Whatever it says later goes to ours, so that it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut talk, &mut std::io::stderr()));
        let addr = line.split("listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let addr = addr.with_context(|| format!("manent did not start: {line}"))?.parse()?;
        Ok(Self { process, addr })
    }

    /// A figure of its memory, MiB.
    fn memory(&self, what: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).context("no such figure")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024)
    }

    fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while self.process.try_wait()?.is_none() {
            ensure!(began.elapsed() < Duration::from_secs(60), "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(self.process.wait()?.success(), "it ended badly");
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

const STORE: &str = "flows.db";
const ORIGIN_CERT: &str = "origin.pem";

/// Bytes that are sent, read and hashed at a time.
const BLOCK: usize = 1 << 20;

/// What issue item 4 allows, MiB.
const MOST_MIB: u64 = 128;
