//! A listener as it is written: `[MODE@][ADDR:]PORT`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::Mode;

/// Where clients are accepted, and how they come in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// How they come in.
    pub mode: Mode,
    /// Where; port 0 is any free one.
    pub addr: SocketAddr,
}

/// Why a text is no listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// No such mode.
    #[error("{0:?} is no mode: explicit, socks5, transparent or reverse:URL was expected before the @")]
    Mode(String),
    /// The system has nothing for it.
    #[error("transparent needs Linux")]
    NotHere,
    /// A reverse proxy needs to know its origin.
    #[error("reverse needs its origin: reverse:https://api.example@127.0.0.1:9000")]
    NoTarget,
    /// The origin of a reverse proxy is none.
    #[error("the origin of a reverse proxy must be http://HOST[:PORT] or https://HOST[:PORT]: {0}")]
    Target(String),
    /// The port is none.
    #[error("a port from 0 to 65535 was expected, or ADDR:PORT")]
    Port,
    /// The address is none.
    #[error("ADDR must be an IP address")]
    Address,
    /// The address could not be told from the port.
    #[error("an IPv6 address needs brackets: [::1]:8080")]
    Brackets,
}

impl Listen {
    /// The mode if one is named, and the address: `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, each
    /// with or without `MODE@` before it.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<(Option<Mode>, SocketAddr), ListenError> {
        match text.rsplit_once('@') {
            Some((mode, addr)) => Ok((Some(mode.parse()?), address(addr)?)),
            None => Ok((None, address(text)?)),
        }
    }
}

impl From<SocketAddr> for Listen {
    /// An explicit proxy there.
    fn from(addr: SocketAddr) -> Self {
        Self { mode: Mode::Explicit, addr }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    /// Without a mode, an explicit proxy.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mode, addr) = Self::parse(text)?;
        Ok(Self { mode: mode.unwrap_or_default(), addr })
    }
}

fn address(text: &str) -> Result<SocketAddr, ListenError> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().map_err(|_| ListenError::Port)?;
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(host).parse().map_err(|_| ListenError::Address)?;
    if ip.is_ipv6() && bare.is_none() {
        return Err(ListenError::Brackets);
    }
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_in_their_forms() {
        let read = |text: &str| text.parse::<Listen>().map(|it| (it.mode.to_string(), it.addr.to_string()));
        for (text, mode, addr) in [
            ("8080", "explicit", "127.0.0.1:8080"),
            (":0", "explicit", "127.0.0.1:0"),
            ("LocalHost:1", "explicit", "127.0.0.1:1"),
            ("0.0.0.0:2", "explicit", "0.0.0.0:2"),
            ("[::1]:3", "explicit", "[::1]:3"),
            ("Explicit@4", "explicit", "127.0.0.1:4"),
            ("socks5@1080", "socks5", "127.0.0.1:1080"),
            #[cfg(target_os = "linux")]
            ("transparent@0.0.0.0:81", "transparent", "0.0.0.0:81"),
            ("reverse:https://api.test@9000", "reverse:https://api.test", "127.0.0.1:9000"),
            ("reverse:HTTP://[::1]:81/@[::1]:9000", "reverse:http://[::1]:81", "[::1]:9000"),
        ] {
            assert_eq!(read(text), Ok((mode.to_owned(), addr.to_owned())), "{text}");
        }
        for bad in [
            "",
            "x",
            "65536",
            "127.0.0.1",
            "::1",
            "::1:80",
            "example.com:80",
            "[::1]",
            "-1",
            "@80",
            "nosuch@80",
            "reverse@80",
            "reverse:@80",
            "reverse:api.test@80",
            "reverse:ftp://h@80",
            "reverse:https://h/path@80",
            "reverse:https://u:p@h@80",
            "reverse:https://@80",
            "reverse:https://h:0@80",
            "explicit:x@80",
            "explicit@",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
