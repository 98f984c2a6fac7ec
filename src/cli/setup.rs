//! `--setup-host` and `--no-setup-page`, and the line that tells where the setup page is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;

use crate::app::Proxy;
use crate::config::Config;
use crate::proxy::Mode;
use crate::web::{DEFAULT_HOST, parse_host};

/// The page on which clients are set up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Setup page")]
pub(super) struct SetupFlags {
    /// Show the setup page at http://NAME/ through the proxy, rather than at http://manent/, if that is a machine of yours
    #[arg(long, value_name = "NAME", env = "MANENT_SETUP_HOST", value_parser = parse_host)]
    setup_host: Option<String>,
    /// Show it nowhere: neither there nor to who opens an explicit listener in a browser
    #[arg(long, env = "MANENT_NO_SETUP_PAGE")]
    no_setup_page: bool,
}

impl SetupFlags {
    /// The page's name, if there is to be one.
    pub(super) fn host(&self) -> Option<String> {
        let host = || self.setup_host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned());
        (!self.no_setup_page).then(host)
    }
}

/// Where the setup page is, for who starts a proxy; `None` where none of its clients can see it.
pub(super) fn place(proxy: &Proxy, config: &Config) -> Option<String> {
    let host = config.setup_host.as_ref()?;
    let named = format!("http://{host}/ through the proxy");
    let mut listeners = proxy.addrs().iter().zip(&config.listen);
    match listeners.clone().find(|(_, listen)| listen.mode == Mode::Explicit) {
        Some((addr, _)) => Some(format!("http://{}/ in a browser, {named}", here(*addr))),
        None => listeners.any(|(_, listen)| listen.mode == Mode::Socks5).then_some(named),
    }
}

/// A listener as this machine reaches it.
fn here(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
