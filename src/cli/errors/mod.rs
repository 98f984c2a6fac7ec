//! What went wrong, for the user: one line, the facts that help, a command to paste, and the exit code.
//!
//! This is the one place where an error becomes a message. Codes are stable: scripts and searches use them.

mod replay;
mod report;
mod serve;
mod settings;
mod start;
mod store;
mod trust;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

pub(super) use self::replay::{Failed, ReplayFailed};
pub(super) use self::report::causes;
use self::report::{Report, plain_io, sentence};
pub(super) use self::serve::ServeError;
use self::start::{of_ca, of_start};
use self::store::{gone, of_store};
pub(super) use self::trust::TrustError;
use super::output::{Output, StdoutFailed};
use super::{disk, escape, pager, text};
use crate::config::ConfigError;
use crate::config::layers::LayerError;
use crate::config::setting::masked;
use crate::filter::FilterError;
use crate::flow::Mid;
use crate::format::FORMATS;
use crate::format::coding::{CapReached, CodingError};
use crate::format::transfer::Format;
use crate::record::RecordError;
use crate::rules::{Problem, RuleError};
use crate::store::BadNote;
use crate::transfer::{ExportError, ImportError};

/// What a subcommand can fail with by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// No flow has this mid, or one of this range.
    #[error("no flow with mid {first}{}", if last > first { format!("–{last}") } else { String::new() })]
    UnknownMid { first: Mid, last: Mid, bounds: Option<(Mid, Mid, u64)> },
    /// A list of mids holds something else.
    #[error("line {line} of {name} names no flow")]
    BadMids { name: String, line: usize, why: String },
    /// A text cannot be a marker, a comment or a tag.
    #[error(transparent)]
    BadNote(BadNote),
    /// What `tag` is to do is neither `+name` nor `-name`.
    #[error("`{word}` is neither +name nor -name")]
    BadTagChange { word: String },
    /// Mids and a text cannot both come from there.
    #[error("standard input cannot be both the mids and the comment")]
    StdinTwice,
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The store holds no flow at all.
    #[error("the store holds no flow yet")]
    EmptyStore,
    /// Several stores were given to a command that uses one.
    #[error("this command uses one store, and {count} were given")]
    OneStore { count: usize },
    /// A pattern for names of stores that cannot be read.
    #[error("{pattern:?} is no pattern: {why}")]
    Pattern { pattern: String, why: String },
    /// No store is called so.
    #[error("no store matches {pattern}")]
    NoStore { pattern: String },
    /// A mid was given where it could be that of several stores.
    #[error("a mid is of one store, and {stores} stores are listed")]
    MidOfMany { stores: usize },
    /// A limit was given that is one store's, where there are several.
    #[error("--max-size and --max-flows are limits of one store, and {stores} stores are listed")]
    LimitOfMany { stores: usize },
    /// Several stores have a flow with this mid.
    #[error("several stores have a flow with mid {mid}")]
    Ambiguous { mid: Mid, stores: Vec<String> },
    /// A store was named that is none of those given, nor a file.
    #[error("there is no store called {name}")]
    UnknownStore { name: String },
    /// None of several stores has a flow with this mid.
    #[error("no flow with mid {mid} in any of {stores} stores")]
    InNoStore { mid: Mid, stores: usize },
    /// The message that was asked for is not there, or its body is not.
    #[error("flow {mid} has no {what}")]
    NotRecorded { mid: Mid, what: &'static str, why: String },
    /// The body was given as far as it is there.
    #[error("the {what} of flow {mid} is not whole")]
    NotWhole { mid: Mid, what: &'static str, why: String },
    /// Binary bytes would have gone to a terminal.
    #[error("the body of flow {mid} is binary, and standard output is a terminal")]
    BinaryToTerminal { mid: Mid },
    /// The body is not what its content-coding says.
    #[error("the body of flow {mid} cannot be decoded")]
    Undecodable {
        mid: Mid,
        #[source]
        source: io::Error,
    },
    /// What is stored of a body is not what was written.
    #[error("the stored body of flow {mid} is damaged")]
    Damaged {
        mid: Mid,
        #[source]
        source: io::Error,
    },
    /// The command of `run` could not be started.
    #[error("cannot start {command}")]
    Spawn {
        command: String,
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    /// A file is in none of the formats that are read.
    #[error("{name} is in no format that manent reads")]
    UnknownFormat { name: String, is_markup: bool },
    /// Nothing says in which format to write.
    #[error("{name} does not say in which format to write")]
    NoFormat { name: String },
    /// A format cannot be written, or not be read.
    #[error("{format} is only {can}")]
    OneWay { format: &'static str, can: &'static str },
    /// The file to be written is there.
    #[error("{path} is there already")]
    FileExists { path: String },
    /// A store is a file that is read here and there.
    #[error("a store cannot go to standard output")]
    StoreToStdout,
    /// Bytes that are no text would have gone to a terminal.
    #[error("{format} is no text, and standard output is a terminal")]
    FormatToTerminal { format: &'static str },
    /// A file is not what it should be.
    #[error("{name} cannot be read on: {why}")]
    BadFile { name: String, why: String, before: String },
    /// A store is so damaged that not even a check can say what is left of it.
    #[error("{} is damaged", text::path(.path))]
    Unreadable { path: PathBuf, detail: String },
    /// Flows passed that the store could not take.
    #[error("{lost} could not be stored")]
    Lost { lost: String, store: Option<PathBuf> },
    /// The database went away under the recorder.
    #[error("the store was taken away or overwritten while it was in use")]
    StoreGone,
    /// A filter could not be read.
    #[error("{0}")]
    Filter(#[source] FilterError),
    /// A rule could not be read.
    #[error("{0}")]
    Rule(#[source] RuleError),
    /// Flows would be deleted, and nobody could be asked.
    #[error("nothing was deleted")]
    NotConfirmed,
    /// No listener takes what variables lead there.
    #[error("`{command}` needs a listener for programs that know a proxy: -l explicit@{example}")]
    NoExplicitListener { command: &'static str, example: u16 },
    /// There is no such command.
    #[error("there is no command `{name}`")]
    NoCommand { name: String },
    /// A flag that may hold a secret has a value that cannot be used.
    #[error("{flag}: {why}")]
    Flag { flag: &'static str, why: String },
}

/// Tells the user, and gives the exit code.
pub(super) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    if stdout_failure(error).is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // `manent ls | head` has what it wanted
    }
    tracing::debug!(error = ?error, "failed");
    let report = diagnose(error);
    tell(&report, output);
    ExitCode::from(report.exit)
}

/// Tells why the command line and what lies below it cannot be used, or prints the help that was asked for.
pub(super) fn refused(error: LayerError, mut output: Output) -> ExitCode {
    let error = match error {
        LayerError::Usage(error) => LayerError::Usage(without_secret(error)),
        other => other,
    };
    match error {
        LayerError::Usage(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            tell(&no_command(&error), &output);
            ExitCode::from(USAGE)
        }
        LayerError::Usage(error) if error.use_stderr() && (output.json || output.log_json) => {
            let message = error.render().to_string();
            let message = message.trim().strip_prefix("error: ").unwrap_or(message.trim()).to_owned();
            tell(&Report::new("E001", USAGE, message), &output);
            ExitCode::from(USAGE)
        }
        LayerError::Usage(error) => {
            let _pager = (!error.use_stderr()).then(|| pager::start(&mut output));
            let _ = error.print(); // `manent --help | head` has what it wanted
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        }
        other => report(&other.into(), &output),
    }
}

fn no_command(error: &clap::Error) -> Report {
    // "Usage: manent ca [OPTIONS] <COMMAND>"
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let above = usage.split(['[', '<']).next().unwrap_or_default().trim_start_matches("Usage: ").trim();
    let lists = format!("{} --help   lists them", if above.is_empty() { "manent" } else { above });
    let given = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) => given.as_str(),
        _ => "this",
    };
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(near)) if !near.is_empty() => near.join("` or `"),
        Some(ContextValue::String(near)) => near.clone(),
        _ => return Report::new("E001", USAGE, format!("`{given}` is not a command")).hint(lists),
    };
    Report::new("E001", USAGE, format!("`{given}` is not a command. Did you mean `{near}`?")).hint(lists)
}

/// clap quotes the value that it refuses, which may hold a password.
fn without_secret(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    if let (Some(flag), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) {
        let key = flag.trim_start_matches('-').split(' ').next().unwrap_or_default();
        let shown = masked(key, &value);
        if shown != value {
            error.insert(ContextKind::InvalidValue, ContextValue::String(shown.clone()));
            // What is wrong with it may quote it once more.
            let text = error.render().to_string().replace(&value, &shown);
            return clap::Error::raw(error.kind(), text.strip_prefix("error: ").unwrap_or(&text));
        }
    }
    error
}

fn tell(report: &Report, output: &Output) {
    match (output.log_json, output.json) {
        (true, _) => output.say_json("ERROR", &report.message, Some(report.json())),
        (false, true) => output.say(&report.to_json()),
        (false, false) => output.say(&report.to_text(output)),
    }
}

fn stdout_failure(error: &anyhow::Error) -> Option<&io::Error> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find(|e| e.get_ref().is_some_and(|inner| inner.is::<StdoutFailed>()))
}

fn diagnose(error: &anyhow::Error) -> Report {
    let known = error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref().map(of_cli))
            .or_else(|| cause.downcast_ref().map(of_config))
            .or_else(|| cause.downcast_ref().map(settings::told))
            .or_else(|| cause.downcast_ref().map(serve::told))
            .or_else(|| cause.downcast_ref().map(replay::told))
            .or_else(|| cause.downcast_ref().map(trust::told))
            .or_else(|| cause.downcast_ref().map(of_start))
            .or_else(|| cause.downcast_ref().map(of_store))
            .or_else(|| cause.downcast_ref().map(of_ca))
            .or_else(|| cause.downcast_ref().map(of_coding))
            .or_else(|| cause.downcast_ref().map(of_import))
            .or_else(|| cause.downcast_ref().map(of_export))
    });
    known.unwrap_or_else(|| Report::new("E000", NO, causes(error.as_ref())))
}

#[expect(clippy::too_many_lines, reason = "a table: an entry an error")]
fn of_cli(error: &CliError) -> Report {
    match error {
        CliError::UnknownMid { bounds, .. } => {
            let report = Report::new("E201", NOT_FOUND, error.to_string());
            match bounds {
                None => report
                    .fact("The store holds no flow yet.")
                    .hint("manent run -- curl https://example.com/"),
                Some((low, high, count)) => {
                    let span = high.0.saturating_sub(low.0).saturating_add(1);
                    let gaps = span.saturating_sub(*count);
                    let missing = if gaps == 0 { String::new() } else { format!(" ({gaps} not there)") };
                    report
                        .fact(format!("The store holds {low}–{high}{missing}."))
                        .hint("manent show last   shows the newest; manent ls   lists them")
                }
            }
        }
        CliError::BadMids { why, .. } => Report::new("E210", USAGE, error.to_string())
            .fact(sentence(why))
            .hint("manent ls | manent mark -"),
        CliError::BadNote(_) | CliError::StdinTwice => Report::new("E211", USAGE, error.to_string()),
        CliError::BadTagChange { .. } => Report::new("E211", USAGE, error.to_string())
            .hint("manent tag 12 +login -cart"),
        CliError::Read { source, .. } => {
            let exit = if source.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NO };
            Report::new("E212", exit, error.to_string()).fact(sentence(&plain_io(source)))
        }
        CliError::EmptyStore => Report::new("E204", NOT_FOUND, error.to_string())
            .hint("manent run -- curl https://example.com/   records one"),
        CliError::OneStore { .. } => Report::new("E004", USAGE, error.to_string()).hint("name one: -s FILE"),
        CliError::Pattern { .. } => Report::new("E004", USAGE, error.to_string())
            .hint("* is any text, ? any character, [a-z] one of several; [*] is a * itself"),
        CliError::NoStore { .. } => Report::new("E407", NOT_FOUND, error.to_string())
            .fact("Nothing has been recorded under such a name yet.")
            .hint("put a pattern in quotes, so that it is not the shell that looks for files"),
        CliError::MidOfMany { .. } => Report::new("E004", USAGE, error.to_string())
            .hint("name its store: -s FILE     or, for one flow of each, FILE:MID"),
        CliError::LimitOfMany { .. } => Report::new("E004", USAGE, error.to_string())
            .hint("name the store: -s FILE     or say --max-age, which is for each"),
        CliError::Ambiguous { mid, stores } => {
            let first = stores.first().map_or("FILE", String::as_str);
            Report::new("E004", USAGE, error.to_string())
                .fact(stores.join(", "))
                .hint(format!("name the store, too: {first}:{mid}     or give one alone: -s FILE"))
        }
        CliError::UnknownStore { .. } => Report::new("E407", NOT_FOUND, error.to_string())
            .hint("FILE:MID takes the name of one of the stores of -s, or a path"),
        CliError::InNoStore { .. } => {
            Report::new("E201", NOT_FOUND, error.to_string()).hint("manent ls   lists what they hold")
        }
        CliError::NotRecorded { mid, why, .. } => {
            Report::new("E205", NO, error.to_string()).fact(why.clone()).hint(format!("manent show {mid}"))
        }
        CliError::NotWhole { mid, why, .. } => Report::new("E206", NO, error.to_string())
            .fact(why.clone())
            .fact("What is there was written.")
            .hint(format!("manent show {mid}")),
        CliError::BinaryToTerminal { mid } => Report::new("E207", NO, error.to_string())
            .hint(format!("manent cat {mid} > FILE     or, if you mean it: manent cat {mid} --force")),
        CliError::Undecodable { mid, source } => {
            let report = Report::new("E208", NO, error.to_string()).fact(sentence(&causes(source)));
            let report =
                report.fact("What could be decoded was written.").hint(format!("manent cat {mid} --raw"));
            let capped = source.get_ref().is_some_and(|inner| inner.is::<CapReached>());
            if capped { report.hint(format!("manent cat {mid} --max-decoded none")) } else { report }
        }
        CliError::Damaged { source, .. } => Report::new("E405", STORE, error.to_string())
            .fact(sentence(&causes(source)))
            .fact("What came before the damage was written."),
        CliError::Spawn { source, .. } => {
            let exit = if source.kind() == io::ErrorKind::NotFound { CANNOT_FIND } else { CANNOT_START };
            Report::new("E103", exit, error.to_string()).fact(sentence(&plain_io(source)))
        }
        CliError::Write { source, .. } => {
            Report::new("E209", NO, error.to_string()).fact(sentence(&plain_io(source)))
        }
        CliError::UnknownFormat { is_markup, .. } => Report::new("E701", DATA, error.to_string())
            .facts(is_markup.then_some("It looks like HTML or XML: the page of a login, perhaps."))
            .fact(format!("It reads: {}.", formats(|format| format.decoder.is_some())))
            .hint("--format NAME   says what it is"),
        CliError::NoFormat { .. } => Report::new("E702", USAGE, error.to_string())
            .fact(format!("Written are: {}.", formats(|format| format.encoder.is_some())))
            .hint("manent export -o FILE.har     or --format NAME"),
        CliError::OneWay { .. } => Report::new("E702", USAGE, error.to_string()).fact(format!(
            "Written are: {}; read are: {}.",
            formats(|format| format.encoder.is_some()),
            formats(|format| format.decoder.is_some())
        )),
        CliError::FileExists { .. } => Report::new("E703", USAGE, error.to_string())
            .fact("Nothing was changed.")
            .hint("--force   writes over it"),
        CliError::StoreToStdout => {
            Report::new("E704", USAGE, error.to_string()).hint("-o FILE.db   writes it to a file")
        }
        CliError::FormatToTerminal { .. } => {
            Report::new("E704", USAGE, error.to_string()).hint("-o FILE   writes it to a file")
        }
        CliError::BadFile { before, .. } => Report::new("E706", DATA, error.to_string()).fact(before.clone()),
        CliError::Unreadable { path, detail } => Report::new("E405", STORE, error.to_string())
            .fact(sentence(detail))
            .fact("It is the database itself, so that nothing can be told of single flows. Nothing was changed.")
            .hint(format!(
                "sqlite3 {} .recover | sqlite3 recovered.db   saves the rows that can still be read",
                escape::shell_path(path)
            )),
        CliError::Lost { store, .. } => {
            let report = Report::new("E404", STORE, error.to_string())
                .fact("They were passed on all the same. The log says why.");
            let free = store.as_deref().and_then(|store| Some((text::path(store), disk::free(store).ok()?)));
            let report = match free {
                Some((store, free)) if free < disk::LITTLE => report
                    .fact(format!("{} bytes are free on the disk of {store}.", text::size(free)))
                    .hint("manent prune --max-age 7d && manent vacuum   make room"),
                _ => report,
            };
            report.hint("manent --require-recording   refuses what it cannot record, instead of passing it on")
        }
        CliError::StoreGone => gone(error.to_string()),
        CliError::Filter(error) => of_filter(format!("in the filter, {error}"), error),
        CliError::Rule(error) => of_rule(error),
        CliError::NotConfirmed => Report::new("E210", NO, error.to_string())
            .hint("--yes   deletes without asking; --dry-run   says what would be deleted"),
        CliError::Flag { .. } | CliError::NoExplicitListener { .. } | CliError::NoCommand { .. } => {
            Report::new("E002", USAGE, error.to_string())
        }
    }
}

fn of_filter(message: String, error: &FilterError) -> Report {
    let report = Report::new("E003", USAGE, message);
    let report = error.caret().into_iter().fold(report, |report, line| report.fact(format!("  {line}")));
    match &error.hint {
        Some(hint) => report.hint(hint.clone()),
        None => report.hint("manent filter   tells the language"),
    }
}

fn of_rule(error: &RuleError) -> Report {
    let flag = error.flag;
    if let Problem::Filter(filter) = &error.problem {
        let report = of_filter(format!("in the filter of {flag}, {filter}"), filter);
        return match filter.text == error.text {
            true => report,
            false => report.hint(format!("a filter with a / in it takes another sign: {flag} '|~u /api/|…'")),
        };
    }
    let report = Report::new("E005", USAGE, format!("{flag}: {}", error.problem)).fact(error.text.clone());
    match &error.problem {
        Problem::Form { .. } | Problem::Answer(_) if error.text.starts_with('/') => report.hint(format!(
            "the first sign separates the parts, so a / in one takes another: {flag} '|~u /ads/|…'"
        )),
        _ => report.hint("manent capture --help   tells the form"),
    }
}

fn of_config(error: &ConfigError) -> Report {
    let report = Report::new("E102", USAGE, error.to_string());
    match error {
        ConfigError::RecordFilter { .. } => report.hint("record more, and ask `manent ls FILTER` later"),
        ConfigError::NoHome { xdg: "XDG_CONFIG_HOME", .. } => report.hint("manent --config FILE"),
        ConfigError::NoHome { .. } => report.hint("manent --store FILE --ca-dir DIR"),
        ConfigError::RemoteListen { asks, .. } => {
            let password = if *asks { "--proxy-auth me:secret     or " } else { "" };
            report.hint(format!("{password}--allow 192.168.0.0/16     or, on a trusted network: --open"))
        }
    }
}

fn of_import(error: &ImportError) -> Report {
    match error {
        ImportError::Source(error) | ImportError::Note { error, .. } => of_store(error),
        ImportError::Store { error: RecordError::Commit(error), .. } => of_store(error),
        ImportError::Store { error, .. } => Report::new("E404", STORE, causes(error)),
        ImportError::File { .. } | ImportError::Read { .. } => Report::new("E706", DATA, causes(error)),
    }
}

fn of_export(error: &ExportError) -> Report {
    match error {
        ExportError::Store(error) => of_store(error),
        ExportError::Flow { mid, source } => {
            Report::new("E209", NO, format!("flow {mid} could not be written: {}", plain_io(source)))
        }
    }
}

fn formats(those: impl Fn(&Format) -> bool) -> String {
    let names = FORMATS.iter().filter(|format| those(format)).map(|format| format.name);
    names.chain(["db"]).collect::<Vec<_>>().join(", ")
}

fn of_coding(error: &CodingError) -> Report {
    Report::new("E208", NO, error.to_string()).hint("--raw   gives the bytes as they were on the wire")
}

/// It ran, and the answer is "no".
pub(super) const NO: u8 = 1;
pub(super) const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
/// The store, or one of several, could not be read or written.
pub(super) const STORE: u8 = 4;
pub(super) const NETWORK: u8 = 5;
pub(super) const TLS: u8 = 6;
/// A file could not be read or written as its format wants it, or only in part.
pub(super) const DATA: u8 = 7;
/// As `env` and shells have it (POSIX, "Exit Status for Commands").
const CANNOT_START: u8 = 126;
const CANNOT_FIND: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::StartError;
    use crate::store::StoreError;

    #[test]
    fn an_unknown_mid_names_the_range() {
        let bounds = Some((Mid(1), Mid(1187), 1146));
        let error = anyhow::Error::from(CliError::UnknownMid { first: Mid(1200), last: Mid(1200), bounds })
            .context("while showing");
        let report = diagnose(&error);
        assert_eq!((report.code, report.exit), ("E201", 3));
        assert_eq!(report.message, "no flow with mid 1200");
        assert_eq!(report.facts, ["The store holds 1–1187 (41 not there)."]);
    }

    #[test]
    fn start_errors_tell_of_their_cause() {
        let locked =
            StoreError::Locked { path: "/x/flows.db".into(), pid: Some(u32::MAX), since_unix_ns: None };
        let report = diagnose(&StartError::Store(locked).into());
        assert_eq!((report.code, report.exit), ("E401", 4));
        assert_eq!(report.message, "the store is in use by another recorder (pid 4294967295)");
        assert_eq!(report.facts, ["/x/flows.db"]);
    }

    #[test]
    fn what_a_message_quotes_is_escaped() {
        let output = Output::new(crate::cli::output::ColorChoice::Never, false, false);
        let report = Report::new("E000", NO, "a\x1b[2Jb").fact("c\nd").hint("e\x07");
        assert_eq!(report.to_text(&output), "error[E000]: a\\x1b[2Jb\n  c\\nd\n  hint: e\\x07");
    }
}
