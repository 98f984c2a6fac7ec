//! What a service manager is told: one datagram a message (sd_notify(3)). Without one, nothing.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if one has started us.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.and_then(|name| match open(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, ?name, "NOTIFY_SOCKET cannot be used");
                None
            }
        });
        let watchdog = watchdog(|name| std::env::var(name).ok()).filter(|_| socket.is_some());
        Self { socket, watchdog }
    }

    /// Clients are served from now on.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// The settings are read again; [`Notify::ready`] must follow.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the settings again"));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=storing what is under way");
    }

    /// Says again and again that this task still gets its turn, where the manager wants to hear it; never ends. It is no
    /// statement about the network or the disk, which a restart would not mend.
    pub(super) async fn keep_alive(&self) {
        let Some(period) = self.watchdog else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(period);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, manager)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}

/// A socket of ours, and the manager's: a path, or behind `@` a name in the abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(rest)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not listen must not hold anything up.
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

/// How often the manager is to hear from us: twice in the time after which it would give up.
fn watchdog(env: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let micros: u64 = env("WATCHDOG_USEC")?.parse().ok().filter(|&micros| micros > 1)?;
    let ours = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    ours.then(|| Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdogs_of_others_are_left_alone() {
        let with = |vars: &[(&str, &str)]| {
            watchdog(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned()))
        };
        let us = std::process::id().to_string();
        let half = Some(Duration::from_secs(15));
        assert_eq!(with(&[("WATCHDOG_USEC", "30000000")]), half);
        assert_eq!(with(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", &us)]), half);
        assert_eq!(with(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!((with(&[]), with(&[("WATCHDOG_USEC", "soon")])), (None, None));
    }
}
