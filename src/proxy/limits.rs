//! Every wait and every buffer that a peer controls has its limit here.

use std::time::Duration;

use crate::http1::HeadLimits;

/// Limits of the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Limits on a request's and a response's head.
    pub head: HeadLimits,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// For a whole ClientHello and for the rest of the handshake with the client, each.
    pub tls_timeout: Duration,
    /// Between two requests on a client connection, and for the first.
    pub idle_timeout: Duration,
    /// Without progress in either direction of an exchange or a tunnel. There is no limit on the whole.
    pub relay_timeout: Duration,
    /// How long a client may be silent after `CONNECT` before it is taken for one that waits for the server.
    pub silent_client: Duration,
    /// Between two PINGs on a connection to an origin that speaks HTTP/2.
    pub ping_every: Duration,
    /// For the answer to one; the origin is given up without it.
    pub ping_answer: Duration,
    /// Client connections at once.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            relay_timeout: Duration::from_secs(600),
            silent_client: Duration::from_millis(300),
            ping_every: Duration::from_secs(50),
            ping_answer: Duration::from_mins(1),
            max_connections: 8192,
        }
    }
}

/// 1xx responses before a final one. Origins send one or two; a flood of them is an attack.
pub(super) const MAX_INTERIM: usize = 32;
/// Bytes that a client may send ahead while its request is being answered.
pub(super) const MAX_READ_AHEAD: usize = 64 * 1024;
/// Queued bytes at which a relay sends before it reads on: four TLS records in one call.
pub(super) const FLUSH_AT: usize = 64 * 1024;
/// Bytes kept of a head that could not be parsed.
pub(super) const MAX_BAD_HEAD: usize = 64 * 1024;
/// What is still read of a client that we have refused, so that our answer reaches it before a reset does.
pub(super) const LINGER_BYTES: usize = 1024 * 1024;
/// And for how long.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(1);
