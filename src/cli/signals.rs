//! The signals that end a capture, or that a child of `run` should hear of.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// The signals we listen to.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    quit: unix::Signal,
    /// `None` if this process was told to ignore it, as `nohup` does.
    hangup: Option<unix::Signal>,
    /// Whether there was a terminal whose end a hangup may tell.
    had_terminal: bool,
}

impl Signals {
    /// From here on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub(super) fn listen() -> io::Result<Self> {
        // A limit on the size of files ends a process that writes beyond it, unless it has a handler: then the write fails
        // (setrlimit(2), RLIMIT_FSIZE), as on a full disk, and traffic goes on. The handler stays for good; nobody needs to hear of the signal.
        drop(unix::signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        let hangup = if is_ignored(rustix::process::Signal::HUP) {
            None
        } else {
            Some(unix::signal(SignalKind::hangup())?)
        };
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            quit: unix::signal(SignalKind::quit())?,
            hangup,
            had_terminal: has_terminal(),
        })
    }

    /// Whether a hangup tells that our terminal is gone, rather than that somebody wants the settings to be read again.
    pub(super) fn lost_terminal(&self) -> bool {
        self.had_terminal && !has_terminal()
    }

    /// Waits for the next one. Dropping this future loses none.
    pub(super) async fn next(&mut self) -> rustix::process::Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => rustix::process::Signal::INT,
            _ = self.terminate.recv() => rustix::process::Signal::TERM,
            _ = self.quit.recv() => rustix::process::Signal::QUIT,
            _ = hangup => rustix::process::Signal::HUP,
        }
    }
}

/// Whether there is a controlling terminal: the kernel takes it from the session before it sends the hangup (tty(4)).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether this process ignores `signal`, by the mask in `/proc/self/status` (proc_pid_status(5)).
fn is_ignored(signal: rustix::process::Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}
