//! Dialling an origin: look-up, TCP, TLS, each with its time limit and its facts, also when it fails.
//!
//! Where an upstream proxy stands between, that is what is looked up and connected to, and then asked for the origin.
//!
//! It keeps no connections and chooses no targets. Every address is shown to a guard before anything is dialled: what
//! counts is the address that is connected to, not how it was spelled (`localhost`, `127.1`, `[::ffff:127.0.0.1]`, a
//! name that resolves to it).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::lookup::Lookups;
use super::via::{self, ViaScheme};
use super::{BoxIo, Link, ReadAhead, UpstreamProxy, Via, race};
use crate::flow::{Addr, ServerConn, Stage, TlsInfo};
use crate::tls::{self, ClientTls};

/// Time limits of [`Dialer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialOptions {
    /// For the name look-up, and again for the TCP connect to all addresses together. An upstream proxy gets twice as long
    /// for its answer: it dials, too, and must have the time to say that it failed.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub tls_timeout: Duration,
}

/// Opens connections to origins.
#[derive(Debug, Clone)]
pub struct Dialer {
    options: DialOptions,
    tls: Arc<ClientTls>,
    via: Option<Arc<Via>>,
    lookups: Arc<Lookups>,
}

/// An open connection, `TCP_NODELAY` set.
#[derive(Debug)]
pub struct Dialed {
    /// The stream.
    pub link: Link,
    /// What is known of it; id 0.
    pub conn: ServerConn,
    /// The upstream proxy at its other end, which wants requests with whole URLs ([`via::absolute_form`]) and its
    /// credentials in each ([`UpstreamProxy::authorization`]). `None`: the origin is there, as far as we can see.
    pub forwarder: Option<Arc<UpstreamProxy>>,
}

/// What an upstream HTTP proxy is asked for. Without one, and with one of SOCKS, both come to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// A connection that carries anything.
    Tunnel,
    /// One for plain requests to `http` URLs: see [`Dialed::forwarder`].
    Forwarded,
}

impl Dialed {
    /// Our end of its TCP connection and the other one, which may be an upstream proxy's; `None` if it is closed already.
    #[must_use]
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let end = |addr: &Option<Addr>| {
            let addr = addr.as_ref()?;
            Some(SocketAddr::new(addr.host.parse().ok()?, addr.port))
        };
        Some((end(&self.conn.local)?, end(&self.conn.peer)?))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DialError {
    /// [`Stage::Target`], [`Stage::Dns`], [`Stage::Connect`] or [`Stage::Tls`].
    pub stage: Stage,
    /// In words; names the address.
    pub message: String,
    /// Whether a time limit ended it.
    pub timed_out: bool,
    /// Whether the guard refused an address: it is one of our own.
    pub refused_own: bool,
    /// Why no address could be connected to, where all have the same reason.
    pub io: Option<io::ErrorKind>,
    /// Whether the origin speaks none of the protocols that it was offered.
    pub alpn_refused: bool,
    /// What is known of the connection that was tried, times included; its `error` is `message`.
    pub conn: Box<ServerConn>,
}

impl Dialer {
    /// A dialer that verifies as `tls` does.
    #[must_use]
    pub fn new(options: DialOptions, tls: Arc<ClientTls>) -> Self {
        Self { options, tls, via: None, lookups: Arc::default() }
    }

    /// The same through an upstream proxy.
    #[must_use]
    pub fn through(self, via: Via) -> Self {
        Self { via: Some(Arc::new(via)), ..self }
    }

    /// Connects to `host`, a name or an IP literal with or without brackets, for anything to be sent:
    /// [`Passage::Tunnel`]. See [`Dialer::open`].
    ///
    /// # Errors
    /// As [`Dialer::open`].
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
    ) -> Result<Dialed, DialError> {
        self.open(host, port, Passage::Tunnel, guard).await
    }

    /// Connects to `host`, a name or an IP literal with or without brackets, or to the upstream proxy that leads there.
    /// `guard` is asked about every address that the name has (IPv4 as IPv4, also where it came mapped into IPv6); if it
    /// refuses one (`true`), none is dialled. It is asked again about the address that the socket is then connected to.
    /// Where a proxy stands between, these are the proxy's addresses; of the origin, what is no name to be looked up is
    /// shown to it, too: IP literals, numbers that are read as one, and names of loopback (RFC 6761 §6.3).
    ///
    /// Dropping the future abandons all attempts; a look-up that is under way ends by itself on its thread.
    ///
    /// # Errors
    /// When the name has no address, `guard` refuses, nobody answers, the proxy refuses, or time is up.
    pub async fn open(
        &self,
        host: &str,
        port: u16,
        passage: Passage,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
    ) -> Result<Dialed, DialError> {
        let host = bare(host);
        let mut conn = ServerConn {
            address: Addr { host: host.to_owned(), port, ..Addr::default() },
            started_unix_ns: unix_ns(),
            ..ServerConn::default()
        };
        let Some(proxy) = self.via.as_ref().and_then(|via| via.proxy_for(host)) else {
            return match self.tcp(host, port, guard, &mut conn).await {
                Ok(tcp) => Ok(Dialed { link: Link::Tcp(tcp), conn, forwarder: None }),
                Err(failure) => Err(failure.of(conn)),
            };
        };
        conn.via = Some(proxy.to_record());
        match Box::pin(self.through_proxy(proxy, host, port, passage, guard, &mut conn)).await {
            Ok((link, forwarder)) => Ok(Dialed { link, conn, forwarder }),
            Err(failure) => Err(failure.of(conn)),
        }
    }

    /// A TCP connection. What is learnt of it is noted in `conn`.
    async fn tcp(
        &self,
        host: &str,
        port: u16,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
        conn: &mut ServerConn,
    ) -> Result<TcpStream, Failure> {
        let began = Instant::now();
        let addresses = race::interleave(self.resolve(host, port, conn).await?);
        if let Some(own) = addresses.iter().find(|address| guard(**address)) {
            return Err(Failure::own(host, port, *own));
        }
        let connecting = Instant::now();
        let outcome = timeout(self.options.connect_timeout, race::connect(&addresses)).await;
        conn.connect_us = Some(micros(connecting));
        let tcp = match outcome {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(failures)) => {
                let timed_out = failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::TimedOut);
                let kind = failures.first().map(|(_, error)| error.kind());
                let shared = kind.filter(|kind| failures.iter().all(|(_, error)| error.kind() == *kind));
                let failure = Failure::at(Stage::Connect, not_connected(&failures));
                return Err(Failure { timed_out, io: shared, ..failure });
            }
            Err(_) => {
                let message = no_answer(&list(&addresses), self.options.connect_timeout);
                return Err(Failure { timed_out: true, ..Failure::at(Stage::Connect, message) });
            }
        };
        tracing::debug!(address = %conn.address, elapsed = ?began.elapsed(), "connected");
        // Fails only on a socket that is closed already, which the next read or write tells better. Without it, the
        // last piece of each message waits up to 40 ms for an acknowledgement.
        let _ = tcp.set_nodelay(true);
        let peer = tcp.peer_addr().ok();
        // `0.0.0.0` and `::` are loopback to the kernel, which shows only now.
        if let Some(own) = peer.filter(|peer| guard(canonical(*peer))) {
            return Err(Failure::own(host, port, own));
        }
        conn.peer = peer.map(Addr::from);
        conn.local = tcp.local_addr().ok().map(Addr::from);
        Ok(tcp)
    }

    /// A connection through `proxy`, ready for what `passage` says, and the proxy if it is the one that is to be spoken to.
    async fn through_proxy(
        &self,
        proxy: &Arc<UpstreamProxy>,
        host: &str,
        port: u16,
        passage: Passage,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
        conn: &mut ServerConn,
    ) -> Result<(Link, Option<Arc<UpstreamProxy>>), Failure> {
        self.is_target(host, port, guard).await?;
        let tcp = self.tcp(proxy.host(), proxy.port(), guard, conn).await.map_err(|f| f.of_proxy(proxy))?;
        let began = Instant::now();
        let link = match proxy.scheme() {
            ViaScheme::Https => self.tls_with(proxy, tcp).await?,
            ViaScheme::Http | ViaScheme::Socks5 => Link::Tcp(tcp),
        };
        let (link, forwarder) = match (passage, proxy.scheme()) {
            (Passage::Forwarded, ViaScheme::Http | ViaScheme::Https) => (link, Some(Arc::clone(proxy))),
            _ => (self.tunnel(proxy, link, host, port).await?, None),
        };
        conn.connect_us = conn.connect_us.map(|connect_us| connect_us + micros(began));
        Ok((link, forwarder))
    }

    /// Fails if a proxy must not be asked for `host`: it is none, or it is ourselves, whoever looks it up.
    async fn is_target(
        &self,
        host: &str,
        port: u16,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
    ) -> Result<(), Failure> {
        if host.parse::<IpAddr>().is_err()
            && let Some(message) = not_a_host(host)
        {
            return Err(Failure::at(Stage::Target, message));
        }
        if !names_address(host) {
            return Ok(());
        }
        // Nobody is asked: such names are answered on this machine. One that is not is the proxy's to refuse.
        let Ok(found) = self.resolve(host, port, &mut ServerConn::default()).await else { return Ok(()) };
        match found.into_iter().find(|address| guard(*address)) {
            Some(own) => Err(Failure::own(host, port, own)),
            None => Ok(()),
        }
    }

    /// TLS with the proxy itself: HTTP/1.1 is all that is wanted of it.
    async fn tls_with(&self, proxy: &UpstreamProxy, tcp: TcpStream) -> Result<Link, Failure> {
        let limit = self.options.tls_timeout;
        let offers = [Bytes::from_static(b"http/1.1")];
        let handshake = self.tls.connect(ReadAhead::new(tcp), proxy.host(), &offers);
        let failed = |message: String| Failure::at(Stage::Tls, message).of_proxy(proxy);
        match timeout(limit, handshake).await {
            Ok(Ok((stream, _))) => Ok(Link::Proxied(Box::new(ReadAhead::new(Box::new(stream) as BoxIo)))),
            Ok(Err(error)) => Err(failed(error.message)),
            Err(_) => {
                let message = format!("no answer to the TLS handshake within {}", seconds(limit));
                Err(Failure { timed_out: true, ..failed(message) })
            }
        }
    }

    async fn tunnel(
        &self,
        proxy: &UpstreamProxy,
        mut link: Link,
        host: &str,
        port: u16,
    ) -> Result<Link, Failure> {
        let limit = self.options.connect_timeout * 2;
        match timeout(limit, via::open_tunnel(&mut link, proxy, host, port)).await {
            Ok(Ok(read)) => Ok(link.after(read)),
            Ok(Err(error)) => Err(Failure::at(Stage::Connect, format!("upstream proxy {proxy} {error}"))),
            Err(_) => {
                let message =
                    format!("upstream proxy {proxy} did not connect to {host} within {}", seconds(limit));
                Err(Failure { timed_out: true, ..Failure::at(Stage::Connect, message) })
            }
        }
    }

    /// Shakes hands as a client of `name`, offering `alpn_offers` in their order. No byte of a request can leave
    /// before this succeeded.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    /// When the origin does not speak TLS, its certificate is refused, or time is up.
    pub async fn handshake(
        &self,
        dialed: Dialed,
        name: &str,
        alpn_offers: &[Bytes],
    ) -> Result<(TlsStream<ReadAhead<Link>>, ServerConn), DialError> {
        let Dialed { link, mut conn, .. } = dialed;
        let began = Instant::now();
        let outcome =
            timeout(self.options.tls_timeout, self.tls.connect(ReadAhead::new(link), name, alpn_offers))
                .await;
        conn.tls_us = Some(micros(began));
        match outcome {
            Ok(Ok((stream, info))) => {
                conn.tls = Some(info);
                Ok((stream, conn))
            }
            Ok(Err(error)) => {
                conn.tls = Some(*error.info);
                let alpn_refused = error.alpn_refused;
                Err(DialError { alpn_refused, ..Failure::at(Stage::Tls, error.message).of(conn) })
            }
            Err(_) => {
                let message = format!(
                    "no answer to the TLS handshake from {} within {}",
                    conn.peer.as_ref().unwrap_or(&conn.address),
                    seconds(self.options.tls_timeout)
                );
                let offered = self.tls.offered(name, alpn_offers);
                conn.tls = Some(TlsInfo { error: Some(message.clone()), ..offered });
                Err(Failure { timed_out: true, ..Failure::at(Stage::Tls, message) }.of(conn))
            }
        }
    }

    /// All addresses of `host`.
    async fn resolve(
        &self,
        host: &str,
        port: u16,
        conn: &mut ServerConn,
    ) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(ip) = bare(host).parse::<IpAddr>() {
            return Ok(vec![canonical(SocketAddr::new(ip, port))]);
        }
        if let Some(message) = not_a_host(bare(host)) {
            return Err(Failure::at(Stage::Target, message));
        }
        let began = Instant::now();
        let looked_up = timeout(self.options.connect_timeout, self.lookups.find(bare(host))).await;
        conn.dns_us = Some(micros(began));
        let found: Vec<SocketAddr> = match looked_up {
            Ok(Ok(found)) => {
                let at_port = |mut address: SocketAddr| {
                    address.set_port(port);
                    canonical(address)
                };
                found.iter().copied().map(at_port).collect()
            }
            Ok(Err(error)) => return Err(Failure::at(Stage::Dns, not_found(host, &error))),
            Err(_) => {
                let limit = seconds(self.options.connect_timeout);
                let message = format!("no answer to the look-up of {host} within {limit}");
                return Err(Failure { timed_out: true, ..Failure::at(Stage::Dns, message) });
            }
        };
        if found.is_empty() {
            return Err(Failure::at(Stage::Dns, format!("no such host: {host}")));
        }
        Ok(found)
    }
}

/// A [`DialError`] before it has its connection.
struct Failure {
    stage: Stage,
    message: String,
    timed_out: bool,
    refused_own: bool,
    io: Option<io::ErrorKind>,
}

impl Failure {
    fn at(stage: Stage, message: String) -> Self {
        Self { stage, message, timed_out: false, refused_own: false, io: None }
    }

    fn own(host: &str, port: u16, own: SocketAddr) -> Self {
        let address = Addr { host: host.to_owned(), port, ..Addr::default() };
        let message = format!("{address} is this proxy itself ({own})");
        Self { refused_own: true, ..Self::at(Stage::Target, message) }
    }

    /// The same, told as what the upstream proxy is to blame for.
    fn of_proxy(self, proxy: &UpstreamProxy) -> Self {
        Self { message: format!("upstream proxy {proxy}: {}", self.message), ..self }
    }

    fn of(self, mut conn: ServerConn) -> DialError {
        let Self { stage, message, timed_out, refused_own, io } = self;
        conn.error = Some(message.clone());
        DialError { stage, message, timed_out, refused_own, io, alpn_refused: false, conn: Box::new(conn) }
    }
}

/// Whether a host is an address, or is looked up without asking anybody: an IP literal, what the resolver reads as one
/// (`127.1`, `0x7f000001`), or a name of loopback (RFC 6761 §6.3).
fn names_address(host: &str) -> bool {
    let rooted = host.trim_end_matches('.');
    let last = rooted.rsplit('.').next().unwrap_or_default();
    let is_number = |text: &str| {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        digits.map_or_else(
            || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
            |digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        )
    };
    host.contains(':') || is_number(last) || last.eq_ignore_ascii_case("localhost")
}

/// An IPv4 address in IPv6's clothes as the IPv4 address that it is, so that the guard need not know both.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Without the brackets of an IPv6 literal.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Why the resolver is not asked: it would take some of these for something else, or fail without a reason.
fn not_a_host(host: &str) -> Option<String> {
    if !host.is_ascii() {
        return tls::server_name(host).err().map(|error| error.to_string());
    }
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%'));
    (host.is_empty() || host.len() > 254 || host.bytes().any(odd))
        .then(|| format!("{:?} is not a host name", host.chars().take(80).collect::<String>()))
}

/// Why a look-up failed. The standard library gives the resolver's text, and no code.
fn not_found(host: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit(": ").next().unwrap_or(&text);
    let unknown = ["not known", "No address associated", "nodename nor servname", "No such host"];
    if unknown.iter().any(|known| reason.contains(known)) {
        format!("no such host: {host}")
    } else {
        format!("cannot look up {host}: {}", reason.to_lowercase())
    }
}

/// Why no address could be connected to: reason by reason, addresses that share one together.
fn not_connected(failures: &[(SocketAddr, io::Error)]) -> String {
    let mut reasons: Vec<(io::ErrorKind, &io::Error, Vec<SocketAddr>)> = Vec::new();
    for (address, error) in failures {
        match reasons.iter_mut().find(|(kind, ..)| *kind == error.kind()) {
            Some((.., addresses)) => addresses.push(*address),
            None => reasons.push((error.kind(), error, vec![*address])),
        }
    }
    let words = reasons.iter().map(|(kind, error, addresses)| {
        let at = list(addresses);
        match kind {
            io::ErrorKind::ConnectionRefused => format!("connection refused by {at} (nothing listens there)"),
            io::ErrorKind::TimedOut => format!("no answer from {at}"),
            io::ErrorKind::NetworkUnreachable => format!("no network to reach {at}"),
            io::ErrorKind::HostUnreachable => format!("no route to {at}"),
            io::ErrorKind::AddrNotAvailable => format!("no free local port or address to reach {at}"),
            _ => format!("cannot connect to {at}: {error}"),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

fn no_answer(at: &str, limit: Duration) -> String {
    format!("no answer from {at} within {}", seconds(limit))
}

fn list(addresses: &[SocketAddr]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = addresses.iter().take(SHOWN).map(SocketAddr::to_string).collect();
    let more = addresses.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(" and ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// `10 s`, `0.5 s`.
fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn unix_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
