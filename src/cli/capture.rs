//! `manent capture`: record until told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::args::Global;
use super::errors::{self, CliError};
use super::feed::{self, Show, Stores, Tally};
use super::flags::ProxyFlags;
use super::notify::Notify;
use super::output::Output;
use super::reload::Reload;
use super::signals::Signals;
use super::{process, setup, text};
use crate::app::{Grace, Proxy, Summary};
use crate::config::{Config, DEFAULT_LISTEN};
use crate::proxy::{Listen, Mode};
use crate::record::Rotating;

/// Record what passes until stopped. This is what `manent` does without a command
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CaptureArgs {
    #[command(flatten)]
    proxy: ProxyFlags,
}

impl CaptureArgs {
    /// The settings.
    ///
    /// # Errors
    /// As [`ProxyFlags::config`].
    pub(super) fn config(&self, global: &Global) -> anyhow::Result<Config> {
        self.proxy.config(global)
    }
}

pub(super) fn run(
    args: &CaptureArgs,
    global: &Global,
    output: Output,
    reload: Reload,
) -> anyhow::Result<ExitCode> {
    let config = args.config(global)?;
    if config.record {
        global.store_to_write()?;
    }
    process::forbid_core_dumps();
    process::raise_file_limit();
    process::reserve_descriptors();
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(capture(config, output, reload));
    // All of ours has ended; a print that a stopped terminal holds up is not waited for.
    runtime.shutdown_background();
    result
}

async fn capture(mut config: Config, output: Output, mut reload: Reload) -> anyhow::Result<ExitCode> {
    let notify = Notify::from_environment();
    let mut signals = Signals::listen()?;
    let period = config.timeouts.grace;
    warn(&config, &output);
    let proxy = Proxy::start(config.clone()).await?;
    let mut feed = match show(&output) {
        // News that nobody is shown is not made: it would cost every flow a few allocations.
        Show::Nothing => Feed::default(),
        show => Feed::start(&proxy, show, output),
    };
    let followed = feed.task.is_some();
    say_ready(&proxy, &config, &output);
    let status = format!("listening on {}", listeners(&proxy, &config));
    notify.ready(&status);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::HUP if !signals.lost_terminal() => {
                    notify.reloading();
                    reload.again(&proxy, &mut config, &output);
                    notify.ready(&status);
                }
                _ => {
                    output.talk("stopping; once more to stop at once");
                    break;
                }
            },
            () = feed.stdout_closed() => break,
            () = notify.keep_alive() => {}
        }
    }
    notify.stopping();
    let summary = stop(proxy, period, &mut signals).await;
    let tally = feed.finish().await;
    if config.record {
        let stored = Tally::of(summary.stored);
        output.talk(&if followed { tally } else { stored }.told(summary.left_out));
    }
    Ok(match lost(&summary, &config.store) {
        Some(error) => errors::report(&error.into(), &output),
        None => ExitCode::SUCCESS,
    })
}

/// Stops the proxy in order; a signal on the way skips the grace, never the drain.
pub(super) async fn stop(proxy: Proxy, period: Duration, signals: &mut Signals) -> Summary {
    let skip = CancellationToken::new();
    let mut shutdown = std::pin::pin!(proxy.shutdown(Grace { period, skip: skip.clone() }));
    loop {
        tokio::select! {
            summary = &mut shutdown => return summary,
            _ = signals.next() => skip.cancel(),
        }
    }
}

/// What has to be said about flows and messages that are not in the store.
pub(super) fn lost(summary: &Summary, store: &Path) -> Option<CliError> {
    if summary.gone {
        return Some(CliError::StoreGone);
    }
    let lost = [(summary.lost, "flow"), (summary.lost_messages, "WebSocket message")];
    let lost = lost.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| text::count(count, what));
    let lost = lost.collect::<Vec<_>>().join(" and ");
    (!lost.is_empty()).then(|| CliError::Lost { lost, store: Some(store.to_owned()) })
}

/// Says what is dangerous about the settings, even when quiet.
pub(super) fn warn(config: &Config, output: &Output) {
    let warning = output.talk_paint.yellow("warning");
    if config.insecure {
        output.say(&format!(
            "{warning}: upstream certificates are NOT verified (--insecure): \
             whoever is between here and an origin can read and change everything"
        ));
    }
    let access = &config.access;
    let is_remote = |listen: &Listen| {
        let asked = access.auth.is_some() && listen.mode.asks_for_credentials();
        !listen.addr.ip().to_canonical().is_loopback() && !asked
    };
    if access.open && access.allow.is_empty() && config.listen.iter().any(is_remote) {
        output.say(&format!("{warning}: other machines can use this proxy (--open)"));
    }
}

/// The task that follows the commits, and how to end it.
#[derive(Debug, Default)]
pub(super) struct Feed {
    task: Option<JoinHandle<std::io::Result<Tally>>>,
    stop: CancellationToken,
    tally: Tally,
    /// Mids of several stores make no range.
    rotates: bool,
}

impl Feed {
    pub(super) fn start(proxy: &Proxy, show: Show, output: Output) -> Self {
        let stop = CancellationToken::new();
        let rotates = proxy.recorder().is_some_and(Rotating::rotates);
        let stores = if rotates { Stores::Many } else { Stores::One };
        let commits = proxy.recorder().map(Rotating::commits);
        let follow = |commits| tokio::spawn(feed::follow(commits, (show, stores), output, stop.clone()));
        let task = commits.map(follow);
        Self { task, stop, tally: Tally::default(), rotates }
    }

    /// Waits until nobody reads standard output any more; for ever if that does not happen.
    async fn stdout_closed(&mut self) {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Err(error)) => tracing::info!(%error, "nobody reads standard output"),
            Ok(Ok(tally)) => {
                self.tally = tally;
                std::future::pending().await
            }
            Err(error) => {
                tracing::error!(%error, "the feed of flows has ended");
                std::future::pending().await
            }
        }
    }

    /// Ends the task once it has shown what was committed, unless standard output holds it up.
    pub(super) async fn finish(mut self) -> Tally {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Ok(Ok(Ok(tally))) = tokio::time::timeout(LAST_PRINT, task).await
        {
            self.tally = tally;
        }
        if self.rotates { self.tally.without_mids() } else { self.tally }
    }
}

fn show(output: &Output) -> Show {
    match (output.json, output.quiet, output.terminal) {
        (true, ..) => Show::Json,
        (false, false, true) => Show::Lines,
        _ => Show::Nothing,
    }
}

/// The first line is what scripts wait for, so it is said even when quiet.
fn say_ready(proxy: &Proxy, config: &Config, output: &Output) {
    let listeners = listeners(proxy, config);
    output.say(&format!("manent {} listening on {listeners}   (Ctrl-C stops)", env!("CARGO_PKG_VERSION")));
    let record = match proxy.recorder() {
        None => "nothing (--no-record)".to_owned(),
        Some(recorder) if recorder.rotates() => {
            format!("{}, now {}", text::path(&config.store), text::path(&recorder.path()))
        }
        Some(_) => text::path(&config.store),
    };
    output.talk(&format!("  record  {record}"));
    if let Some(path) = proxy.ca().cert_path() {
        output.talk(&format!("  trust   {}", text::path(path)));
    }
    if proxy.ca().is_constrained() {
        let only = proxy.ca().constraints_text();
        output.talk(&format!("  only    {only}   (tunnels to other hosts pass through unread)"));
    }
    if let Some(place) = setup::place(proxy, config) {
        output.talk(&format!("  setup   {place}"));
    }
    let mut listeners = proxy.addrs().iter().zip(&config.listen);
    if let Some((addr, _)) = listeners.find(|(_, listen)| listen.mode == Mode::Explicit) {
        // Not `manent run`, which is a capture of its own: this one has the store.
        let env = env_command(*addr);
        // Which they are is told to nobody here.
        let credentials = if config.access.auth.is_some() { " --proxy-auth USER:PASS" } else { "" };
        let line =
            format!("eval \"$({env}{credentials})\"; curl https://example.com/   (in another terminal)");
        output.talk(&format!("  try     {line}"));
    }
}

/// What prints the variables that lead to an explicit listener, as briefly as that can be said.
fn env_command(addr: SocketAddr) -> String {
    let ip = addr.ip();
    match () {
        () if addr == DEFAULT_LISTEN => "manent env".to_owned(),
        () if ip == Ipv4Addr::LOCALHOST || ip == Ipv4Addr::UNSPECIFIED => {
            format!("manent env -p {}", addr.port())
        }
        () => format!("manent env -l {addr}"),
    }
}

/// The first address begins the text, without its mode where that is the common one: it stands right behind `listening on`.
fn listeners(proxy: &Proxy, config: &Config) -> String {
    let listeners = proxy.addrs().iter().zip(&config.listen).map(|(addr, listen)| match &listen.mode {
        Mode::Explicit => addr.to_string(),
        mode => format!("{addr} ({mode})"),
    });
    listeners.collect::<Vec<_>>().join(", ")
}

/// Long enough for any terminal that is being read.
const LAST_PRINT: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  manent                                   127.0.0.1:8080, into the default store
  manent -p 0 -s bug.db                    any free port, into a store of its own
  manent -s 'flows-%Y%m%d.db'              a store a day, each with mids of its own
  manent --json | jq .url                  each flow as it ends
  manent --record 'host:api.test !~a'      only what matches; see `manent filter`
  manent --block host:ads.test --delay '|~u /api/|2s'   rules: what is blocked, held and changed
  manent --upstream-ca company-root.pem    trust a company's own servers
  curl -x 127.0.0.1:8080 --cacert \"$(manent ca path)\" https://example.com/";
