//! The transparent proxy, on Linux: connections that the kernel's rules led here, though they were meant for an origin.
//!
//! With `REDIRECT` (nftables: `redirect to`), the connection tracker knows where they were meant to go
//! (`SO_ORIGINAL_DST`); with `TPROXY` that is what they come to, on a socket with `IP_TRANSPARENT`, which takes
//! `CAP_NET_ADMIN` to set. Connections of our own must be exempt from the rules, by the user that we run as: the kernel
//! would lead them back to us.
//!
//! The origin is dialled before anything is read, as it is known: one that refuses is refused to the client.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

use crate::flow::{Kind as FlowKind, Scheme, Side, Stage, Target};
use crate::proxy::client::{Client, Stream};
use crate::proxy::error::{Error, Kind};
use crate::proxy::intercept::{self, Opened, Opener};
use crate::proxy::judge::recording_works;

/// Makes a listener take connections to any address, if that is allowed to us. Without it, `REDIRECT` works all the same.
pub(in crate::proxy) fn prepare(socket: &Socket, addr: SocketAddr) {
    #[cfg(target_os = "linux")]
    {
        let set = match addr {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
            // A listener on `::` takes IPv4 as well; the switch is one for both.
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
        };
        if let Err(error) = set {
            tracing::info!(%addr, %error, "REDIRECT alone: TPROXY needs CAP_NET_ADMIN");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, addr);
}

/// Where a connection was meant to go.
pub(in crate::proxy) fn original(tcp: &TcpStream) -> Option<SocketAddr> {
    let local = tcp.local_addr().ok()?;
    let address = translated(tcp, local).unwrap_or(local);
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Where it was meant to go if `REDIRECT` led it here.
fn translated(tcp: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(tcp);
        let found = match local.ip().to_canonical() {
            IpAddr::V4(_) => socket.original_dst_v4(),
            IpAddr::V6(_) => socket.original_dst_v6(),
        };
        found.ok()?.as_socket()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (tcp, local);
        None
    }
}

/// Reaches the origin that a client meant. `None`: it cannot be reached, which is recorded, and the client's connection is
/// reset.
pub(in crate::proxy) async fn accept(
    client: &mut Client,
    mut stream: Stream,
    original: SocketAddr,
) -> Option<(Stream, Opened)> {
    let target = Target { scheme: Scheme::Tcp, host: original.ip().to_string(), port: original.port() };
    let opener = Opener { request: None, started: Instant::now(), target };
    client.entry.busy();
    let reached = if client.shared.is_own(original, None) {
        let message = "came to the transparent port itself: connections to origins are to be redirected here";
        Err(Error::new(Kind::Loop, Side::Proxy, Stage::Target, message))
    } else {
        match recording_works(&client.shared) {
            Ok(()) => intercept::reach_ahead(client, &mut stream, &opener.target).await,
            Err(error) => Err(error),
        }
    };
    match reached {
        Ok(origin) => Some((stream, Opened { opener, origin })),
        Err(error) => {
            tracing::debug!(peer = %client.peer, %original, error = %error, "transparent connection refused");
            error.record(&intercept::begin(client, FlowKind::Connect, opener).await);
            stream.reset();
            None
        }
    }
}
