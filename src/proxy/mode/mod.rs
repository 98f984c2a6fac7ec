//! How clients come in, and how that tells where their requests go: one file a mode.

pub(super) mod explicit;
mod listen;
pub(super) mod reverse;
pub(super) mod socks5;
pub(super) mod transparent;

pub use listen::{Listen, ListenError};
pub use reverse::Reverse;

use std::str::FromStr;

/// How the clients of a listener come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// They know that we are a proxy, and name their origin.
    #[default]
    Explicit,
    /// They take us for the origin; all goes to one.
    Reverse(Reverse),
    /// They ask for connections by SOCKS5.
    Socks5,
    /// They know nothing of us: the kernel leads their connections here. Linux alone.
    Transparent,
}

impl Mode {
    /// Whether its clients can be asked who they are: they know that there is a proxy.
    #[must_use]
    pub fn asks_for_credentials(&self) -> bool {
        matches!(self, Mode::Explicit | Mode::Socks5)
    }

    /// Its name, as it is recorded.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Mode::Explicit => "explicit",
            Mode::Reverse(_) => "reverse",
            Mode::Socks5 => "socks5",
            Mode::Transparent => "transparent",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mode::Reverse(reverse) => write!(f, "reverse:{reverse}"),
            other => f.write_str(other.as_str()),
        }
    }
}

impl FromStr for Mode {
    type Err = ListenError;

    /// Reads what stands before the `@` of a listener.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text.eq_ignore_ascii_case("explicit") => Ok(Mode::Explicit),
            None if text.eq_ignore_ascii_case("socks5") => Ok(Mode::Socks5),
            None if text.eq_ignore_ascii_case("transparent") => match cfg!(target_os = "linux") {
                true => Ok(Mode::Transparent),
                false => Err(ListenError::NotHere),
            },
            Some((name, url)) if name.eq_ignore_ascii_case("reverse") => Ok(Mode::Reverse(url.parse()?)),
            None if text.eq_ignore_ascii_case("reverse") => Err(ListenError::NoTarget),
            _ => Err(ListenError::Mode(text.chars().take(40).collect())),
        }
    }
}
