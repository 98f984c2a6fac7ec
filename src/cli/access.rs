//! `--proxy-auth`, `--allow` and `--open`: who may use a proxy.

use clap::Args;

use super::errors::CliError;
use crate::flow::Network;
use crate::proxy::{AccessOptions, ProxyAuth};

/// A listener that other machines reach needs one of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessFlags {
    /// Ask clients that know a proxy (explicit, socks5) for this user and password, or for those of a file of htpasswd -B.
    /// They are recorded nowhere and not sent on; from the environment they are in no list of processes, either
    #[arg(long, value_name = "USER:PASS|@FILE", env = "MANENT_PROXY_AUTH", hide_env_values = true)]
    proxy_auth: Option<String>,
    /// Let only clients from these networks in, and from this machine. Repeatable
    #[arg(long, value_name = "CIDR", env = "MANENT_ALLOW", value_delimiter = ',')]
    allow: Vec<Network>,
    /// Let everybody in who reaches an address of --listen, on a trusted network
    #[arg(long, alias = "allow-remote", env = "MANENT_OPEN")]
    open: bool,
}

impl AccessFlags {
    /// What they come to.
    ///
    /// # Errors
    /// If the credentials are none, or their file cannot be read. The error does not quote them.
    pub(super) fn options(&self) -> Result<AccessOptions, CliError> {
        let refuse = |why: String| CliError::Flag { flag: "--proxy-auth", why };
        let given = self.proxy_auth.as_deref().filter(|given| !given.is_empty());
        let auth = match given.map(|given| given.strip_prefix('@').ok_or(given)) {
            None => None,
            Some(Err(pair)) => Some(pair.parse::<ProxyAuth>().map_err(|error| refuse(error.to_string()))?),
            Some(Ok(file)) => {
                let text = read(file).map_err(|error| refuse(format!("{file}: {error}")))?;
                let auth = ProxyAuth::from_htpasswd(&text);
                Some(auth.map_err(|error| refuse(format!("{file}: {error}")))?)
            }
        };
        Ok(AccessOptions { auth, allow: self.allow.clone(), open: self.open })
    }

    /// The user and the password that a command of ours has to show, `user:pass`; `None` where none are asked for.
    ///
    /// # Errors
    /// If they are in a file, which has their hashes alone.
    pub(super) fn credentials(&self) -> Result<Option<&str>, CliError> {
        credentials(self.proxy_auth.as_deref())
    }
}

/// What `--proxy-auth` says, if it is a user and a password: see [`AccessFlags::credentials`].
///
/// # Errors
/// See there.
pub(super) fn credentials(proxy_auth: Option<&str>) -> Result<Option<&str>, CliError> {
    match proxy_auth.filter(|given| !given.is_empty()) {
        Some(file) if file.starts_with('@') => {
            let why = "programs have to be told the password itself: USER:PASS".to_owned();
            Err(CliError::Flag { flag: "--proxy-auth", why })
        }
        given => Ok(given),
    }
}

/// A file of this kind is small.
fn read(file: &str) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Ten thousand users.
const MAX_FILE: u64 = 1 << 20;
