//! `--via` and `--no-via`: the upstream proxy of commands that reach origins.

use clap::Args;

use super::errors::CliError;
use crate::upstream::{NoProxy, UpstreamProxy, Via};

/// Flags of every command that reaches origins.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Upstream proxy")]
pub(super) struct ViaFlags {
    /// Reach origins through this proxy: http, https or socks5://[user:pass@]HOST[:PORT]. It resolves their names. Plain
    /// requests go to an HTTP proxy with whole URLs, all else through CONNECT. Its credentials are recorded nowhere; from
    /// the environment they are in no list of processes, either. (HTTP_PROXY and HTTPS_PROXY are not looked at)
    #[arg(long, value_name = "URL", env = "MANENT_VIA", hide_env_values = true)]
    via: Option<String>,
    /// Reach these hosts directly: names (and all below them), IP addresses, networks such as 10.0.0.0/8, or *, with
    /// commas between, as curl reads NO_PROXY. Repeatable [default: NO_PROXY of the environment]
    #[arg(long, value_name = "HOSTS", env = "MANENT_NO_VIA")]
    no_via: Vec<NoProxy>,
}

impl ViaFlags {
    /// What they come to, `None` without an upstream proxy.
    ///
    /// # Errors
    /// If the URL is none of a proxy. The error does not quote it: it may hold credentials.
    pub(super) fn via(&self) -> Result<Option<Via>, CliError> {
        let Some(url) = self.via.as_deref().filter(|url| !url.trim().is_empty()) else { return Ok(None) };
        let proxy = url.parse::<UpstreamProxy>();
        let proxy = proxy.map_err(|why| CliError::Flag { flag: "--via", why: why.to_string() })?;
        let except = match &self.no_via[..] {
            [] => inherited(),
            given => given.iter().cloned().fold(NoProxy::default(), NoProxy::and),
        };
        Ok(Some(Via::new(proxy, except)))
    }
}

/// The environment's list, the small letters before the capitals, as curl has it.
fn inherited() -> NoProxy {
    let variable = |name| std::env::var(name).ok();
    let list = variable("no_proxy").or_else(|| variable("NO_PROXY"));
    list.map(|list| NoProxy::lenient(&list)).unwrap_or_default()
}
