//! The command line: subcommands, printing, exit codes.
//!
//! Standard output is data, standard error is talk. Only `output` prints, only `errors` words an error, and captured
//! text reaches a terminal through `escape` alone.

mod access;
mod args;
mod asked;
mod busy;
mod ca;
mod capture;
mod cat;
mod check;
mod columns;
mod compared;
mod completions;
mod connection;
mod content;
mod diff;
mod disk;
mod doctor;
mod env;
mod errors;
mod escape;
mod export;
mod export_store;
mod feed;
mod flags;
mod given;
mod grpc;
mod import;
mod index;
mod json;
mod log;
mod ls;
mod merged;
mod messages;
mod mids;
mod new_file;
mod note;
mod notify;
mod output;
mod pack;
mod pager;
mod process;
mod progress;
mod prune;
mod reload;
mod replay;
mod row;
mod rules;
mod run;
mod search;
mod serve;
mod settings;
mod setup;
mod show;
mod signals;
mod stats;
mod store;
mod stores;
mod tail;
mod text;
mod tree;
mod trust;
mod user;
mod vacuum;
mod via;
mod which;

use std::process::ExitCode;

use args::Command;
use pager::Pager;
use reload::Reload;
use tree::with_default_command;

/// Runs `manent` on the command line of this process, and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = with_default_command(std::env::args_os().collect());
    let (cli, settings) = match tree::parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => return errors::refused(error, args::output_before_parsing(&args)),
    };
    given::remember(&cli.global, &settings);
    let mut output = cli.global.output();
    let log = log::start(&cli.global);
    if matches!(cli.command, Command::Capture(_) | Command::Run(_) | Command::Serve(_) | Command::Config(_)) {
        for told in tree::misspelt_variables() {
            output.say(&format!("{}: {}", output.talk_paint.yellow("warning"), escape::line(told)));
        }
    }
    let _pager = match &cli.command {
        Command::Ls(_)
        | Command::Show(_)
        | Command::Diff(_)
        | Command::Filter(_)
        | Command::Stats(_)
        | Command::Config(_) => pager::start(&mut output),
        _ => Pager::default(),
    };
    let result = match cli.command {
        Command::Capture(capture) => {
            capture::run(&capture, &cli.global, output, Reload::new(args, settings, log))
        }
        Command::Run(args) => run::run(&args, &cli.global, output),
        Command::Env(args) => env::run(&args, &cli.global, &output),
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
        Command::Doctor(args) => doctor::run(&args, &cli.global, &output),
        Command::Config(args) => settings::run(&args, &cli.global, &settings, &output),
        Command::Completions(args) => completions::completions(&args, &output),
        Command::Man(args) => completions::man(&args, &output),
    };
    result.unwrap_or_else(|error| errors::report(&error, &output))
}
