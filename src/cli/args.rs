//! The command tree, and the flags that every command knows.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use super::errors::CliError;
use super::output::{ColorChoice, Output};
use super::stores::Stores;
use super::{
    ca, capture, cat, check, diff, doctor, env, export, import, index, ls, note, pack, prune, replay, run,
    search, serve, show, stats, tail, vacuum,
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
    /// Print JSON, one object a line; errors too
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(super) verbose: u8,
    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true)]
    pub(super) color: ColorChoice,
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

/// Puts `capture` where the command would stand, if there is none: `manent -p 0` is `manent capture -p 0`.
///
/// A word that is no command stays, so that clap can tell what was meant.
pub(super) fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let root = Cli::command();
    let mut at = 1;
    while let Some(width) = args.get(at).and_then(|arg| arg.to_str()).and_then(|arg| global_width(&root, arg))
    {
        at += width;
    }
    let first = args.get(at).map(|arg| arg.to_string_lossy());
    let named = first
        .is_some_and(|arg| !arg.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&&*arg));
    if !named {
        args.insert(at.min(args.len()), "capture".into());
    }
    args
}

/// How to talk before the command line is understood.
pub(super) fn output_before_parsing(args: &[OsString]) -> Output {
    let ours = || args.iter().take_while(|arg| *arg != "--");
    Output::new(ColorChoice::Auto, false, ours().any(|arg| arg == "--json"))
}

/// How many arguments a global flag takes up, itself among them; `None` if `arg` is not one.
fn global_width(root: &clap::Command, arg: &str) -> Option<usize> {
    let takes_value = |known: &clap::Arg| known.get_action().takes_values();
    if let Some(long) = arg.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let known = root.get_arguments().find(|known| known.get_long() == Some(name))?;
        return Some(if takes_value(known) && value.is_none() { 2 } else { 1 });
    }
    let shorts = arg.strip_prefix('-').filter(|shorts| !shorts.is_empty())?;
    for (i, short) in shorts.char_indices() {
        let known = root.get_arguments().find(|known| known.get_short() == Some(short))?;
        if takes_value(known) {
            return Some(if i + short.len_utf8() == shorts.len() { 2 } else { 1 });
        }
    }
    Some(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_capture() {
        let filled = |line: &str| {
            let args = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
            let args = with_default_command(args).into_iter().map(|arg| arg.to_string_lossy().into_owned());
            args.collect::<Vec<_>>().join(" ")
        };
        for (given, expected) in [
            ("manent", "manent capture"),
            ("manent -p 0", "manent capture -p 0"),
            ("manent -s ls -q", "manent -s ls -q capture"),
            ("manent -s x ls", "manent -s x ls"),
            ("manent -qsx --json ls", "manent -qsx --json ls"),
            ("manent --store=x -k", "manent --store=x capture -k"),
            ("manent --color never -vv", "manent --color never -vv capture"),
            ("manent --help", "manent --help"),
            ("manent -V", "manent -V"),
            ("manent exprot", "manent exprot"),
            ("manent --nosuch", "manent capture --nosuch"),
            ("manent -s", "manent -s capture"),
        ] {
            assert_eq!(filled(given), expected);
        }
    }
}
