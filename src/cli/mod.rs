//! The command line: subcommands, printing, exit codes.
//!
//! Standard output is data, standard error is talk. Only `output` prints, only `errors` words an error, and captured
//! text reaches a terminal through `escape` alone.

mod access;
mod args;
mod busy;
mod ca;
mod capture;
mod cat;
mod check;
mod columns;
mod compared;
mod connection;
mod content;
mod diff;
mod errors;
mod escape;
mod export;
mod feed;
mod flags;
mod grpc;
mod import;
mod index;
mod json;
mod log;
mod ls;
mod merged;
mod messages;
mod mids;
mod note;
mod output;
mod pack;
mod process;
mod progress;
mod prune;
mod replay;
mod row;
mod run;
mod search;
mod serve;
mod setup;
mod show;
mod signals;
mod stats;
mod store;
mod stores;
mod tail;
mod text;
mod user;
mod vacuum;
mod via;
mod which;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use output::Output;

/// Runs `manent` on the command line of this process, and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = args::with_default_command(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return errors::usage(&error, &args::output_before_parsing(&args)),
    };
    let output = Output::new(cli.global.color, cli.global.quiet, cli.global.json);
    log::start(&cli.global);
    let result = match cli.command {
        Command::Capture(args) => capture::run(&args, &cli.global, output),
        Command::Run(args) => run::run(&args, &cli.global, output),
        Command::Serve(args) => serve::run(&args, &cli.global, output),
        Command::Ls(args) => ls::run(&args, &cli.global, &output),
        Command::Show(args) => show::run(&args, &cli.global, &output),
        Command::Cat(args) => cat::run(&args, &cli.global, &output),
        Command::Tail(args) => tail::run(&args, &cli.global, output),
        Command::Filter(args) => search::run(&args, &output),
        Command::Mark(args) => note::mark(&args, &cli.global, &output),
        Command::Comment(args) => note::comment(&args, &cli.global, &output),
        Command::Tag(args) => note::tag(&args, &cli.global, &output),
        Command::Stats(args) => stats::run(&args, &cli.global, &output),
        Command::Check(args) => check::run(&args, &cli.global, &output),
        Command::Prune(args) => prune::run(&args, &cli.global, &output),
        Command::Vacuum(args) => vacuum::run(&args, &cli.global, &output),
        Command::Export(args) => export::run(&args, &cli.global, &output),
        Command::Import(args) => import::run(&args, &cli.global, &output),
        Command::Index(args) => index::run(&args, &cli.global, &output),
        Command::Store(args) => pack::run(&args, &cli.global, &output),
        Command::Replay(args) => replay::run(&args, &cli.global, output),
        Command::Diff(args) => diff::run(&args, &cli.global, &output),
        Command::Ca(args) => ca::run(&args, &cli.global, &output),
    };
    result.unwrap_or_else(|error| errors::report(&error, &output))
}
