//! When things happened: one wall-clock anchor, and monotonic offsets from it.

use super::ServerConn;

/// The moments of a flow. Offsets are microseconds after its start by the monotonic clock, so none is negative
/// when the wall clock jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// The first byte of the request: nanoseconds since 1970, UTC.
    pub started_unix_ns: i64,
    /// The request's head was read whole.
    pub request_head_us: Option<u64>,
    /// The request's last byte was read.
    pub request_end_us: Option<u64>,
    /// A connection to the origin was at hand: found, or dialled and verified.
    pub connected_us: Option<u64>,
    /// The first byte of the request went to the origin.
    pub send_start_us: Option<u64>,
    /// The last byte of the request went to the origin.
    pub send_end_us: Option<u64>,
    /// The final response's head was read whole (1xx do not count).
    pub response_head_us: Option<u64>,
    /// The response's last byte was read.
    pub response_end_us: Option<u64>,
    /// The flow ended. `None` while it is open.
    pub end_us: Option<u64>,
}

/// The phases of a flow under HAR 1.2's names, in microseconds; `None` where it says `-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HarTimings {
    /// Waiting before a connection was asked for, ours and the look-up of a pooled one.
    pub blocked: Option<u64>,
    /// Name look-up; `None` on a reused connection.
    pub dns: Option<u64>,
    /// TCP connect, **with** TLS as HAR 1.2 wants it; `None` on a reused connection.
    pub connect: Option<u64>,
    /// TLS handshake; `None` in clear or on a reused connection.
    pub ssl: Option<u64>,
    /// Sending the request.
    pub send: u64,
    /// Waiting for the response's head.
    pub wait: u64,
    /// Reading the response.
    pub receive: u64,
}

impl Timing {
    /// The phases as HAR 1.2 names them. `new_server` is the connection to the origin if this flow was its first.
    #[must_use]
    pub fn har(&self, new_server: Option<&ServerConn>) -> HarTimings {
        let span = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            _ => 0,
        };
        let dns = new_server.and_then(|s| s.dns_us);
        let ssl = new_server.and_then(|s| s.tls_us);
        let connect = new_server.and_then(|s| s.connect_us).map(|tcp| tcp.saturating_add(ssl.unwrap_or(0)));
        let set_up = dns.unwrap_or(0).saturating_add(connect.unwrap_or(0));
        HarTimings {
            blocked: self.connected_us.map(|at| at.saturating_sub(set_up)),
            dns,
            connect,
            ssl,
            send: span(self.send_start_us, self.send_end_us),
            wait: span(self.send_end_us.or(self.send_start_us), self.response_head_us),
            receive: span(self.response_head_us, self.response_end_us),
        }
    }
}
