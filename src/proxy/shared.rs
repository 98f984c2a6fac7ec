//! What all connections of one proxy share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::answers::Answers;
use super::limits::Limits;
use super::passthrough::Passthrough;
use super::server::{KEEP_ORIGINS, ServerOptions};
use super::site::{Checks, Site};
use super::sockets::Sockets;
use crate::flow::ConnId;
use crate::record::Rotating;
use crate::rules::Rules;
use crate::tls::Leaves;
use crate::upstream::{Dialer, Memo, Pool};

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) recorder: Option<Rotating>,
    /// Whether requests are refused while recording does not work.
    pub(super) require_recording: bool,
    /// Who answers in the place of origins, if anybody does.
    pub(super) answers: Option<Arc<dyn Answers>>,
    /// Rules of the user's, if there are any.
    pub(super) rules: Option<Arc<Rules>>,
    /// WebSockets that are open.
    pub(super) sockets: Arc<Sockets>,
    pub(super) leaves: Leaves,
    pub(super) dialer: Dialer,
    pub(super) pool: Arc<Pool>,
    /// What origins insist on speaking.
    pub(super) memo: Memo,
    /// The tasks that carry connections to origins which many exchanges share.
    pub(super) carriers: TaskTracker,
    /// Which tunnels are left unread.
    pub(super) passthrough: Passthrough,
    /// Who may use the proxy.
    pub(super) access: Access,
    /// Our own listeners: nothing is dialled there.
    pub(super) own: Vec<SocketAddr>,
    /// Those of them that know explicit clients.
    pub(super) explicit: Vec<SocketAddr>,
    /// Who answers for the proxy itself, if anybody does.
    pub(super) site: Option<Arc<dyn Site>>,
    /// Whom it was shown to just now.
    pub(super) checks: Checks,
    /// Cancelled when no new request is to be begun.
    pub(super) stop: CancellationToken,
    /// Connection ids where there is no recorder to give them.
    pub(super) conn_ids: AtomicU64,
}

impl Shared {
    /// What a proxy with these parts shares, and that listens at `own`, to explicit clients at `explicit` of them.
    pub(super) fn new(options: ServerOptions, own: Vec<SocketAddr>, explicit: Vec<SocketAddr>) -> Self {
        Self {
            limits: options.limits,
            recorder: options.recorder,
            require_recording: options.require_recording,
            answers: options.answers,
            rules: options.rules,
            sockets: Arc::default(),
            leaves: options.leaves,
            dialer: options.dialer,
            pool: Arc::new(Pool::new(KEEP_ORIGINS)),
            memo: Memo::default(),
            carriers: TaskTracker::new(),
            passthrough: Passthrough::new(options.passthrough),
            access: Access::new(options.access),
            own,
            explicit,
            site: options.site,
            checks: Checks::default(),
            stop: CancellationToken::new(),
            conn_ids: AtomicU64::new(1),
        }
    }

    /// The id of a new connection.
    pub(super) fn next_conn_id(&self) -> ConnId {
        match &self.recorder {
            Some(recorder) => recorder.next_conn_id(),
            None => ConnId(self.conn_ids.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether `address` is one of our own listeners. Compared by resolved address, never by name; `local` is our end of
    /// the client's connection, an address of this machine.
    pub(super) fn is_own(&self, address: SocketAddr, local: Option<IpAddr>) -> bool {
        let ip = address.ip().to_canonical();
        let reaches_loopback = ip.is_loopback() || is_unspecified(ip);
        self.own.iter().any(|own| {
            let own_ip = own.ip().to_canonical();
            own.port() == address.port()
                && (own_ip == ip
                    || (is_unspecified(own_ip)
                        && (reaches_loopback || local.map(|l| l.to_canonical()) == Some(ip)))
                    || (own_ip.is_loopback() && is_unspecified(ip)))
        })
    }
}

fn is_unspecified(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}
