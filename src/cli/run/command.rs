//! Starts proxy and command, passes signals on, and ends with the command's exit code.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::Args;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use super::environment::{self, Preload};
use super::files::Files;
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
    /// Do not load anything into Node.js: before 22.21 and 24.5 its https and fetch then go past the proxy
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
    process::forbid_core_dumps();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(record(args, config, output))
}

async fn record(args: &RunArgs, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let (period, records) = (config.timeouts.grace, config.record);
    let credentials = args.proxy.credentials()?.map(userinfo).unwrap_or_default();
    let explicit = config.listen.iter().position(|listen| listen.mode == Mode::Explicit);
    let Some(explicit) = explicit else { return Err(CliError::NoExplicitListener.into()) };
    warn(&config, &output);
    let proxy = Proxy::start(config).await?;
    let feed = Feed::start(&proxy, Show::Nothing, output);
    let ended = execute(args, &proxy, (proxy.addrs()[explicit], &credentials), &mut signals).await;
    let summary = stop(proxy, period, &mut signals).await;
    let tally = feed.finish().await;
    if records && ended.is_ok() {
        output.talk(&format!("manent: {}", tally.told(summary.left_out)));
    }
    if let Some(error) = lost(&summary) {
        // Told, but the exit code is the command's.
        let _ = errors::report(&error.into(), &output);
    }
    Ok(exit_code(ended?))
}

/// Runs the command to its end. The files that its environment points to go when it has ended.
async fn execute(
    args: &RunArgs,
    proxy: &Proxy,
    (addr, credentials): (SocketAddr, &str),
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let (pem, der) = (proxy.ca().cert_pem(), proxy.ca().cert_der().to_vec());
    let files =
        tokio::task::spawn_blocking(move || Files::make(&pem, &der, user_wgetrc().as_deref())).await??;
    let preload = if args.no_preload { Preload::Nothing } else { Preload::Node };
    let variables = environment::variables(addr, credentials, &files, preload, |name| std::env::var_os(name));
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command.spawn().map_err(|source| CliError::Spawn {
        command: escape::line(args.command[0].as_encoded_bytes()),
        source,
    })?;
    process::raise_file_limit();
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            signal = signals.next() => pass_on(signal, &child),
        }
    }
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

/// `user:pass@` as it stands in a URL.
fn userinfo(pair: &str) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
    format!("{}:{}@", escaped(user), escaped(password))
}

/// The settings that wget would have read.
fn user_wgetrc() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".wgetrc"));
    std::env::var_os("WGETRC").map(PathBuf::from).or_else(home)
}

const EXAMPLES: &str = "\
Examples:
  manent run -- curl https://example.com/
  manent run -s ci.db -- npm test
  manent run -- sh                     a shell; everything started from it is recorded

Java says \"Picked up JAVA_TOOL_OPTIONS\" at each start. Python's aiohttp looks at these variables only with
trust_env=True. Go never sends requests for localhost through a proxy.

Exit code: the command's own; 126 or 127 if it could not be started; 128 and the signal that ended it.";
