//! The command tree, and the flags that every command knows.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::errors::CliError;
use super::log::{self, LogFormat};
use super::output::{ColorChoice, Output};
use super::stores::Stores;
use super::{
    ca, capture, cat, check, completions, diff, doctor, env, export, import, index, ls, note, pack, prune,
    replay, run, search, serve, settings, show, stats, tail, vacuum,
};
use crate::config::{self, ConfigError};

/// An intercepting HTTP(S) proxy that keeps what passes through it.
///
/// `manent` alone is `manent capture`: it listens on 127.0.0.1:8080 and records each request and response into a
/// store, where each flow has a number, its mid.
#[derive(Debug, Parser)]
#[command(name = "manent", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(override_usage = "manent [OPTIONS] [COMMAND]")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Capture(capture::CaptureArgs),
    Run(run::RunArgs),
    Env(env::EnvArgs),
    Serve(serve::ServeArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Cat(cat::CatArgs),
    Tail(tail::TailArgs),
    Filter(search::FilterArgs),
    Mark(note::MarkArgs),
    Comment(note::CommentArgs),
    Tag(note::TagArgs),
    Stats(stats::StatsArgs),
    Check(check::CheckArgs),
    Prune(prune::PruneArgs),
    Vacuum(vacuum::VacuumArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Index(index::IndexArgs),
    Store(pack::StoreArgs),
    Replay(replay::ReplayArgs),
    Diff(diff::DiffArgs),
    Ca(ca::CaArgs),
    Doctor(doctor::DoctorArgs),
    Config(settings::ConfigArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Flags that stand before or after the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// The store's file [default: $XDG_DATA_HOME/manent/flows.db]. Commands that read take several, and patterns:
    /// 'flows-*.db'. `capture` and `run` take a strftime format, and go on in the next file when the clock names another:
    /// 'flows-%Y%m%d.db' (each file has mids of its own)
    #[arg(short, long, value_name = "FILE", env = "MANENT_STORE", global = true, hide_env_values = true)]
    store: Vec<PathBuf>,
    /// Where the certificate authority lives [default: $XDG_DATA_HOME/manent/ca]
    #[arg(long, value_name = "DIR", env = "MANENT_CA_DIR", global = true, hide_env_values = true)]
    ca_dir: Option<PathBuf>,
    /// Read the settings from this file, which must be there [default: $XDG_CONFIG_HOME/manent/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "MANENT_CONFIG", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Read no file of settings
    #[arg(long, global = true, conflicts_with = "config")]
    pub(super) no_config: bool,
    /// Print JSON, one object a line; errors too
    #[arg(long, global = true, env = "MANENT_JSON")]
    pub(super) json: bool,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true, env = "MANENT_QUIET")]
    pub(super) quiet: bool,
    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(short, long, action = clap::ArgAction::Count, global = true, env = "MANENT_VERBOSE")]
    pub(super) verbose: u8,
    /// Log this much: off, error, warn, info, debug, trace. Or by part, as manent::proxy=debug,warn [default: warn]
    #[arg(long, value_name = "LEVEL", global = true, env = "MANENT_LOG", conflicts_with = "verbose")]
    #[arg(value_parser = log::parse_level)]
    pub(super) log: Option<String>,
    /// How to log and talk on standard error: as text, or as JSON, one object a line
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        global = true,
        env = "MANENT_LOG_FORMAT"
    )]
    pub(super) log_format: LogFormat,
    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true, env = "MANENT_COLOR")]
    pub(super) color: ColorChoice,
    /// Do not show long output through a pager (MANENT_PAGER, PAGER, less)
    #[arg(long, global = true, env = "MANENT_NO_PAGER")]
    pub(super) no_pager: bool,
}

impl Global {
    /// The store's file, for a command that uses one.
    ///
    /// # Errors
    /// If several are given; if none is, and there is no home directory.
    pub(super) fn store(&self) -> anyhow::Result<PathBuf> {
        match &self.store[..] {
            [] => Ok(config::default_store()?),
            [store] => Ok(store.clone()),
            several => Err(CliError::OneStore { count: several.len() }.into()),
        }
    }

    /// The same, for a command that makes the store where there is none.
    ///
    /// # Errors
    /// As [`Global::store`], and if the default folder cannot be made.
    pub(super) fn store_to_write(&self) -> anyhow::Result<PathBuf> {
        let store = self.store()?;
        let failed = |source| CliError::Write { path: super::text::path(&store), source };
        config::make_default_folder(&store).map_err(failed)?;
        Ok(store)
    }

    /// What `--store` says, word by word.
    pub(super) fn store_names(&self) -> &[PathBuf] {
        &self.store
    }

    /// How to talk.
    pub(super) fn output(&self) -> Output {
        let mut output = Output::new(self.color, self.quiet, self.json).logging(self.log_format);
        output.pager = !self.no_pager;
        output
    }

    /// The stores, for a command that reads several.
    ///
    /// # Errors
    /// If none is given and there is no home directory; if a name is a pattern or a format and a bad one.
    pub(super) fn stores(&self) -> anyhow::Result<Stores> {
        match &self.store[..] {
            [] => Stores::of(&[config::default_store()?]),
            given => Stores::of(given),
        }
    }

    /// The directory of the certificate authority.
    ///
    /// # Errors
    /// If none is given and there is no home directory.
    pub(super) fn ca_dir(&self) -> Result<PathBuf, ConfigError> {
        self.ca_dir.clone().map_or_else(config::default_ca_dir, Ok)
    }
}

/// How to talk before the command line is understood.
pub(super) fn output_before_parsing(args: &[OsString]) -> Output {
    let named = |flag: &str| args.iter().take_while(|arg| *arg != "--").any(|arg| arg == flag);
    let mut output = Output::new(ColorChoice::Auto, false, named("--json"));
    output.pager = !named("--no-pager");
    let format = std::env::var("MANENT_LOG_FORMAT").is_ok_and(|format| format == "json");
    output.logging(if format || named("--log-format=json") { LogFormat::Json } else { LogFormat::Text })
}

const EXAMPLES: &str = "\
Examples:
  manent run -- curl https://example.com/   record what one command does; nothing to install
  manent                                    record on 127.0.0.1:8080 until Ctrl-C
  manent ls                                 list what was recorded
  manent ls 'status>=400 last:1h'           or what of it matches; `manent filter` tells how
  manent tail -f                            watch what another manent records
  manent show last                          look at the newest flow
  manent cat 12 > body.json                 the body of response 12";
