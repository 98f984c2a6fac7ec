//! A range of IP addresses, as it is written: `10.0.0.0/8`, `fd00::/8`, or one address.

use std::net::IpAddr;
use std::str::FromStr;

/// A network (RFC 4632, RFC 4291 §2.3). IPv4 addresses that come mapped into IPv6 are IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    ip: IpAddr,
    bits: u32,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IP address or a network was expected, such as 192.168.0.0/16 or fd00::/8")]
pub struct NetworkError;

impl Network {
    /// Whether `ip` is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                prefix(u128::from(ours.to_bits()) << 96, self.bits)
                    == prefix(u128::from(theirs.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                prefix(ours.to_bits(), self.bits) == prefix(theirs.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

/// The first `bits` bits.
fn prefix(address: u128, bits: u32) -> u128 {
    address.checked_shr(128 - bits).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| NetworkError)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= most).ok_or(NetworkError)?
            }
            Some(_) => return Err(NetworkError),
        };
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
        match (ip.to_canonical(), ip) {
            (IpAddr::V4(mapped), IpAddr::V6(_)) if bits >= 96 => {
                Ok(Self { ip: mapped.into(), bits: bits - 96 })
            }
            _ => Ok(Self { ip, bits }),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_networks_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.1.2", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "::ffff:192.0.2.200", "192.0.2.127"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "127.0.0.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} not in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "/8",
            "10/8",
            "[::1]",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
