//! Dialling an origin: look-up, TCP, TLS, each with its time limit and its facts, also when it fails.
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

use super::{ReadAhead, race};
use crate::flow::{Addr, ServerConn, Stage, TlsInfo};
use crate::tls::{self, ClientTls};

/// Time limits of [`Dialer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialOptions {
    /// For the name look-up, and again for the TCP connect to all addresses together.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub tls_timeout: Duration,
}

/// Opens connections to origins.
#[derive(Debug, Clone)]
pub struct Dialer {
    options: DialOptions,
    tls: Arc<ClientTls>,
}

/// An open TCP connection, `TCP_NODELAY` set.
#[derive(Debug)]
pub struct Dialed {
    /// The socket.
    pub tcp: TcpStream,
    /// What is known of it; id 0.
    pub conn: ServerConn,
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
    /// Whether the origin speaks none of the protocols that it was offered.
    pub alpn_refused: bool,
    /// What is known of the connection that was tried, times included; its `error` is `message`.
    pub conn: Box<ServerConn>,
}

impl Dialer {
    /// A dialer that verifies as `tls` does.
    #[must_use]
    pub fn new(options: DialOptions, tls: Arc<ClientTls>) -> Self {
        Self { options, tls }
    }

    /// Connects to `host`, a name or an IP literal with or without brackets. `guard` is asked about every address
    /// that the name has (IPv4 as IPv4, also where it came mapped into IPv6); if it refuses one (`true`), none is
    /// dialled. It is asked again about the address that the socket is then connected to.
    ///
    /// Dropping the future abandons all attempts; a look-up that is under way ends by itself on its thread.
    ///
    /// # Errors
    /// When the name has no address, `guard` refuses, nobody answers, or time is up.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        guard: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
    ) -> Result<Dialed, DialError> {
        let began = Instant::now();
        let mut conn = ServerConn {
            address: Addr { host: bare(host).to_owned(), port, ..Addr::default() },
            started_unix_ns: unix_ns(),
            ..ServerConn::default()
        };
        let addresses = match self.resolve(host, port, &mut conn).await {
            Ok(addresses) => race::interleave(addresses),
            Err(failure) => return Err(failure.of(conn)),
        };
        if let Some(own) = addresses.iter().find(|address| guard(**address)) {
            return Err(Failure::own(&conn, *own).of(conn));
        }
        let connecting = Instant::now();
        let outcome = timeout(self.options.connect_timeout, race::connect(&addresses)).await;
        conn.connect_us = Some(micros(connecting));
        let tcp = match outcome {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(failures)) => {
                let timed_out = failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::TimedOut);
                return Err(
                    Failure { timed_out, ..Failure::at(Stage::Connect, not_connected(&failures)) }.of(conn)
                );
            }
            Err(_) => {
                let message = no_answer(&list(&addresses), self.options.connect_timeout);
                return Err(Failure { timed_out: true, ..Failure::at(Stage::Connect, message) }.of(conn));
            }
        };
        tracing::debug!(address = %conn.address, elapsed = ?began.elapsed(), "connected to the origin");
        // Fails only on a socket that is closed already, which the next read or write tells better. Without it, the
        // last piece of each message waits up to 40 ms for an acknowledgement.
        let _ = tcp.set_nodelay(true);
        let peer = tcp.peer_addr().ok();
        // `0.0.0.0` and `::` are loopback to the kernel, which shows only now.
        if let Some(own) = peer.filter(|peer| guard(canonical(*peer))) {
            return Err(Failure::own(&conn, own).of(conn));
        }
        conn.peer = peer.map(Addr::from);
        conn.local = tcp.local_addr().ok().map(Addr::from);
        Ok(Dialed { tcp, conn })
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
    ) -> Result<(TlsStream<ReadAhead<TcpStream>>, ServerConn), DialError> {
        let Dialed { tcp, mut conn } = dialed;
        let began = Instant::now();
        let outcome =
            timeout(self.options.tls_timeout, self.tls.connect(ReadAhead::new(tcp), name, alpn_offers)).await;
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
        let looked_up =
            timeout(self.options.connect_timeout, tokio::net::lookup_host((bare(host), port))).await;
        conn.dns_us = Some(micros(began));
        let found: Vec<SocketAddr> = match looked_up {
            Ok(Ok(found)) => found.map(canonical).collect(),
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
}

impl Failure {
    fn at(stage: Stage, message: String) -> Self {
        Self { stage, message, timed_out: false, refused_own: false }
    }

    fn own(conn: &ServerConn, own: SocketAddr) -> Self {
        let message = format!("{} is this proxy itself ({own})", conn.address);
        Self { refused_own: true, ..Self::at(Stage::Target, message) }
    }

    fn of(self, mut conn: ServerConn) -> DialError {
        let Self { stage, message, timed_out, refused_own } = self;
        conn.error = Some(message.clone());
        DialError { stage, message, timed_out, refused_own, alpn_refused: false, conn: Box::new(conn) }
    }
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
