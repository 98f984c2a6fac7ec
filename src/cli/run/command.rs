//! Starts proxy and command, passes signals on, and ends with the command's exit code.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use super::browser::Browser;
use super::environment::{self, Destination};
use super::files::{Authority, Directory, Files, Preload, Size};
use crate::app::Proxy;
use crate::cli::args::Global;
use crate::cli::capture::{Feed, lost, stop, warn};
use crate::cli::errors::{self, CliError};
use crate::cli::feed::Show;
use crate::cli::flags::ProxyFlags;
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::cli::{escape, process};
use crate::config::Config;
use crate::proxy::Mode;

/// Run a command and record what it does, with nothing to install
///
/// Starts a proxy on a free port, and the command with the variables that common programs and runtimes read: where the
/// proxy is, and that its certificate is to be trusted. Ends with the command's exit code.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    proxy: ProxyFlags,
    /// Load nothing into Node.js, Python and PHP: then Node.js before 22.21 and 24.5, aiohttp, and file_get_contents() of
    /// PHP go past the proxy
    #[arg(long)]
    no_preload: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl RunArgs {
    /// The settings of its proxy.
    ///
    /// # Errors
    /// As [`ProxyFlags::config`].
    pub(in crate::cli) fn config(&self, global: &Global) -> anyhow::Result<Config> {
        self.proxy.config(global)
    }
}

pub(in crate::cli) fn run(args: &RunArgs, global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.config(global)?;
    if config.record {
        global.store_to_write()?;
    }
    process::forbid_core_dumps();
    process::reserve_descriptors();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(record(args, config, output))
}

async fn record(args: &RunArgs, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let (period, records, store) = (config.timeouts.grace, config.record, config.store.clone());
    let credentials = args.proxy.credentials()?;
    let explicit = config.listen.iter().position(|listen| listen.mode == Mode::Explicit);
    let Some(explicit) = explicit else {
        return Err(CliError::NoExplicitListener { command: "run", example: 0 }.into());
    };
    warn(&config, &output);
    let proxy = Proxy::start(config).await?;
    let feed = Feed::start(&proxy, Show::Nothing, output);
    let to = Destination { addr: proxy.addrs()[explicit], credentials };
    let ended = execute(args, (&proxy, to), &output, &mut signals).await;
    let summary = stop(proxy, period, &mut signals).await;
    let tally = feed.finish().await;
    if records && ended.is_ok() {
        output.talk(&format!("manent: {}", tally.told(summary.left_out)));
    }
    if let Some(error) = lost(&summary, &store) {
        // Told, but the exit code is the command's.
        let _ = errors::report(&error.into(), &output);
    }
    Ok(exit_code(ended?))
}

/// Runs the command to its end. The files that its environment points to go when it has ended.
async fn execute(
    args: &RunArgs,
    (proxy, to): (&Proxy, Destination<'_>),
    output: &Output,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let preload = if args.no_preload { Preload::Nothing } else { Preload::Runtimes };
    let ca = Authority::from(proxy.ca());
    let (program, rest) = args.command.split_first().context("clap asks for a command")?;
    let (given, at) = (rest.to_vec(), to.reachable());
    let browser = Browser::of(program);
    let made = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let size = if browser.is_some() { Size::Large } else { Size::Small };
        let cannot = "cannot write the files that the command's environment points to";
        let dir = Directory::make(size).context(cannot)?;
        let files = Files::write(dir.path(), &ca, preload).context(cannot)?;
        let profile = browser.map(|browser| browser.profile(&given, &dir.path().join("profile"), at, &ca));
        Ok((dir, files, profile.transpose()?))
    });
    let (dir, files, profile) = made.await??;
    let mut command = Command::new(program);
    if let Some((args, note)) = profile {
        output.talk(&format!("manent: {note}"));
        command.args(args);
    }
    command.args(rest);
    for (name, value) in environment::variables(to, &files, preload, environment::present_before) {
        match value {
            Some(value) => command.env(&*name, value),
            None => command.env_remove(&*name),
        };
    }
    let mut child = command
        .spawn()
        .map_err(|source| CliError::Spawn { command: escape::line(program.as_encoded_bytes()), source })?;
    process::raise_file_limit();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            signal = signals.next() => pass_on(signal, &child),
        }
    };
    // It may take a moment where helpers of a browser are still writing.
    tokio::task::spawn_blocking(move || drop(dir)).await?;
    Ok(status)
}

/// Gives a signal to the command, unless it came from the terminal: then the command has got it as well as we.
fn pass_on(signal: Signal, child: &Child) {
    let from_terminal = matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground();
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let (false, Some(pid)) = (from_terminal, pid) {
        // It may have ended just now, which the loop will see.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether this process belongs to the group that the terminal's keys reach.
fn is_in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The command's own code, or 128 and the signal that ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

const EXAMPLES: &str = "\
Examples:
  manent run -- curl https://example.com/
  manent run -s ci.db -- npm test
  manent run -- firefox https://example.com/   or chromium, with a profile that goes at the end
  manent run -- sh                             a shell; all that is started from it is recorded

Set for the command, over what is there: where the proxy is, for what reads HTTPS_PROXY or has a
variable of its own; that its certificate is trusted, for curl, wget, git, Python (requests,
httpx, aiohttp, pip), Node.js and npm, Java, Go, Ruby, Perl, PHP, cargo, what is built on OpenSSL,
and the CLIs of AWS and Google Cloud. NO_PROXY is taken away. `manent env` prints the same for a
shell.

Java says \"Picked up JAVA_TOOL_OPTIONS\" at each start. Go and Ruby never send requests for this
machine itself through a proxy. What the command starts in a container does not see its environment.

Exit code: the command's own; 126 or 127 if it could not be started; 128 and the signal that ended
it.";
