//! Long output on a terminal, through a pager.
//!
//! The pager takes the place of standard output, so that nobody who prints has to know of it. What fits on the screen
//! `less` leaves there (`-F`). A pager that is left early ends the command, as a closed pipe does.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::output::Output;

/// A pager that shows what is printed; dropping it waits until it has been left.
#[derive(Debug, Default)]
pub(super) struct Pager(Option<Running>);

#[derive(Debug)]
struct Running {
    child: Child,
    terminal: OwnedFd,
}

/// Starts one if standard output is a terminal and the user has not chosen to do without.
pub(super) fn start(output: &mut Output) -> Pager {
    if !output.pager || !output.terminal || !io::stdout().is_terminal() {
        return Pager::default();
    }
    let Some(command) = chosen(|name| std::env::var(name).ok()) else { return Pager::default() };
    let program = command.split_whitespace().next().unwrap_or_default();
    if !is_program(program) {
        if command != DEFAULT {
            output.say(&format!("warning: the pager {program} is not there"));
        }
        return Pager::default();
    }
    match Running::start(&command) {
        Ok(running) => {
            // Neither a counter nor a bar belongs on a screen that the pager draws.
            output.paging = true;
            Pager(Some(running))
        }
        Err(error) => {
            tracing::warn!(%error, %command, "no pager");
            Pager::default()
        }
    }
}

impl Running {
    fn start(command: &str) -> io::Result<Self> {
        ignore_interrupts()?;
        let mut pager = Command::new("sh");
        pager.arg("-c").arg(command).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            // Leave a short text, keep colours, and the text on the screen at the end.
            pager.env("LESS", "FRX");
        }
        let terminal = io::stdout().as_fd().try_clone_to_owned()?;
        let mut child = pager.spawn()?;
        if let Some(pipe) = child.stdin.take() {
            rustix::stdio::dup2_stdout(&pipe)?;
        }
        Ok(Self { child, terminal })
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        let Some(Running { child, terminal }) = &mut self.0 else { return };
        // Closes the pipe, which is the end of the text for the pager. If that fails, it is left by hand.
        let closed = rustix::stdio::dup2_stdout(&*terminal);
        if let Err(error) = closed.map_err(io::Error::from).and_then(|()| child.wait()) {
            tracing::debug!(%error, "the pager was not waited for");
        }
    }
}

/// Ctrl-C is the pager's, which stops reading at it; ended by it, we would leave the terminal to pager and shell at once.
/// The handler does nothing and stays for good.
fn ignore_interrupts() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map(drop)
}

/// What the environment names; `None` for none: an empty name, or `cat`.
fn chosen(env: impl Fn(&str) -> Option<String>) -> Option<String> {
    if env("TERM").is_some_and(|term| term == "dumb") {
        return None;
    }
    let named = env("MANENT_PAGER").or_else(|| env("PAGER"));
    let command = named.map_or_else(|| DEFAULT.to_owned(), |named| named.trim().to_owned());
    (!command.is_empty() && command != "cat").then_some(command)
}

fn is_program(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

const DEFAULT: &str = "less";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pager_is_ours_then_everybodys_then_less() {
        let choose = |vars: &[(&str, &str)]| {
            let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            chosen(env)
        };
        assert_eq!(choose(&[]).as_deref(), Some("less"));
        assert_eq!(choose(&[("PAGER", "most -x")]).as_deref(), Some("most -x"));
        assert_eq!(choose(&[("PAGER", "most"), ("MANENT_PAGER", "bat")]).as_deref(), Some("bat"));
        for none in [&[("PAGER", "most"), ("MANENT_PAGER", "")][..], &[("PAGER", "cat")], &[("TERM", "dumb")]]
        {
            assert_eq!(choose(none), None);
        }
    }
}
