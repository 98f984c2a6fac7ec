//! The address by which other machines reach a listener of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where another machine finds one of these listeners; `None` where none is for others, or this machine is in no network.
pub(super) fn address(listeners: &[SocketAddr]) -> Option<SocketAddr> {
    let reachable = |listener: &&SocketAddr| !listener.ip().to_canonical().is_loopback();
    let listener = listeners.iter().find(reachable)?;
    let ip = match listener.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => outward(V4)?,
        // It takes IPv4 as well, which a phone's network is more likely to have.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => outward(V4).or_else(|| outward(V6))?,
        ip => ip,
    };
    Some(SocketAddr::new(ip, listener.port()))
}

/// Our address on the way to another one. The system looks up its routes for it; nothing is sent.
fn outward(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Of documentation (RFC 5737, RFC 3849): the default route leads there, and nobody is there.
const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_reach_is_told() {
        let found = |listeners: &[&str]| {
            let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
            address(&listeners)
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:1"]), None);
        assert_eq!(found(&["127.0.0.1:1", "192.0.2.7:8080"]), Some("192.0.2.7:8080".parse().unwrap()));
        // As this machine has it: an address that is none of loopback's, or none.
        for any in ["0.0.0.0:81", "[::]:81"] {
            if let Some(own) = found(&[any]) {
                assert!(own.port() == 81 && !own.ip().is_loopback() && !own.ip().is_unspecified(), "{own}");
            }
        }
    }
}
