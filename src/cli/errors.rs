//! What went wrong, for the user: one line, the facts that help, a command to paste, and the exit code.
//!
//! This is the one place where an error becomes a message. Codes are stable: scripts and searches use them.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::json;

use super::output::{Output, StdoutFailed};
use super::{busy, escape, text};
use crate::app::StartError;
use crate::config::ConfigError;
use crate::filter::FilterError;
use crate::flow::Mid;
use crate::format::coding::{CapReached, CodingError};
use crate::store::{BadNote, StoreError};
use crate::tls::{CaError, RootsError};

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
    /// Flows passed that the store could not take.
    #[error("{lost} could not be stored")]
    Lost { lost: String },
    /// The database went away under the recorder.
    #[error("the store was taken away or overwritten while it was in use")]
    StoreGone,
    /// A filter could not be read.
    #[error("{0}")]
    Filter(#[source] FilterError),
    /// Flows would be deleted, and nobody could be asked.
    #[error("nothing was deleted")]
    NotConfirmed,
    /// An environment variable has a value that cannot be used.
    #[error("{name} is {value:?}: {why}")]
    Environment { name: &'static str, value: String, why: String },
}

/// A message for the user.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    code: &'static str,
    exit: u8,
    message: String,
    facts: Vec<String>,
    hints: Vec<String>,
}

/// Tells the user, and gives the exit code.
pub(super) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    if stdout_failure(error).is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // `manent ls | head` has what it wanted
    }
    tracing::debug!(error = ?error, "failed");
    let report = diagnose(error);
    output.say(&if output.json { report.to_json() } else { report.to_text(output) });
    ExitCode::from(report.exit)
}

/// Tells of a bad command line in clap's words, or prints the help that was asked for.
pub(super) fn usage(error: &clap::Error, output: &Output) -> ExitCode {
    if output.json && error.use_stderr() {
        let message = error.render().to_string();
        let message = message.trim().strip_prefix("error: ").unwrap_or(message.trim()).to_owned();
        output.say(&Report::new("E001", USAGE, message).to_json());
        return ExitCode::from(USAGE);
    }
    let _ = error.print(); // `manent --help | head` has what it wanted
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
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
            .or_else(|| cause.downcast_ref().map(of_start))
            .or_else(|| cause.downcast_ref().map(of_store))
            .or_else(|| cause.downcast_ref().map(of_ca))
            .or_else(|| cause.downcast_ref().map(of_coding))
    });
    known.unwrap_or_else(|| Report::new("E000", NO, causes(error.as_ref())))
}

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
            .fact("Options stand before the mids.")
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
        CliError::Lost { .. } => Report::new("E404", STORE, error.to_string())
            .fact("They were passed on all the same. The log says why.")
            .hint("manent --require-recording   refuses what it cannot record"),
        CliError::StoreGone => gone(error.to_string()),
        CliError::Filter(error) => {
            let report = Report::new("E003", USAGE, format!("in the filter, {error}"));
            let report =
                error.caret().into_iter().fold(report, |report, line| report.fact(format!("  {line}")));
            match &error.hint {
                Some(hint) => report.hint(hint.clone()),
                None => report.hint("manent filter   tells the language"),
            }
        }
        CliError::NotConfirmed => Report::new("E210", NO, error.to_string())
            .hint("--yes   deletes without asking; --dry-run   says what would be deleted"),
        CliError::Environment { .. } => Report::new("E002", USAGE, error.to_string()),
    }
}

fn of_config(error: &ConfigError) -> Report {
    let report = Report::new("E102", USAGE, error.to_string());
    match error {
        ConfigError::RecordFilter { .. } => report.hint("record more, and ask `manent ls FILTER` later"),
        ConfigError::NoHome { .. } => report.hint("manent --store FILE --ca-dir DIR"),
        ConfigError::RemoteListen { addr } => {
            report.hint(format!("manent -p {}     or, on a trusted network: --allow-remote", addr.port()))
        }
    }
}

fn of_start(error: &StartError) -> Report {
    match error {
        StartError::Bind { addr, source } => of_bind(*addr, source),
        StartError::Store(error) => of_store(error),
        StartError::Ca(error) => of_ca(error),
        StartError::Roots(error) => of_roots(error),
        StartError::Cert(error) => Report::new("E605", TLS, causes(error))
            .hint("--cert [HOST=]PEM   takes a file with certificate and key, for clients to be shown"),
        StartError::ClientCert(error) => Report::new("E604", TLS, causes(error))
            .hint("--client-cert [HOST=]PEM   takes a file with certificate and key, for origins that ask"),
        StartError::Leaf(_) | StartError::Tls(_) => Report::new("E603", TLS, causes(error)),
    }
}

fn of_bind(addr: SocketAddr, error: &io::Error) -> Report {
    let (ip, port) = (addr.ip(), addr.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let report = Report::new("E101", NETWORK, format!("port {port} on {ip} is already in use"));
            let report = match busy::listener(addr) {
                Some(process) => report.fact(format!("by: {} (pid {})", process.name, process.pid)),
                None => report,
            };
            let next = port.checked_add(2).unwrap_or(8082);
            report.hint(format!("manent -p {next}     or let it choose: manent -p 0"))
        }
        io::ErrorKind::PermissionDenied => {
            Report::new("E104", NETWORK, format!("not allowed to listen on {addr}"))
                .fact("Ports below 1024 belong to the system.")
                .hint("manent -p 8080")
        }
        _ => Report::new("E105", NETWORK, format!("cannot listen on {addr}: {}", plain_io(error))),
    }
}

#[expect(clippy::too_many_lines, reason = "a table: an entry an error")]
fn of_store(error: &StoreError) -> Report {
    match error {
        StoreError::Locked { path, pid, since_unix_ns } => {
            let who = match pid {
                Some(pid) => match busy::name_of(*pid) {
                    Some(name) => format!(" ({name}, pid {pid})"),
                    None => format!(" (pid {pid})"),
                },
                None => String::new(),
            };
            Report::new("E401", STORE, format!("the store is in use by another recorder{who}"))
                .fact(match since_unix_ns {
                    Some(at) => format!("{}, since {}", text::path(path), text::local(*at)),
                    None => text::path(path),
                })
                .hint("reading works at the same time: manent ls     second recording: manent -s other.db")
        }
        StoreError::BadName { path, why } => {
            let message = format!("{} cannot be the name of a store: {why}", text::path(path));
            Report::new("E412", USAGE, message).hint("manent -s 'flows-%Y%m%d.db'   a new file each day")
        }
        StoreError::OlderWriter { path, pid } => {
            let who = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
            Report::new(
                "E413",
                STORE,
                format!("the recorder that has the store is older than this manent{who}"),
            )
            .fact(text::path(path))
            .fact("Its store has no place for marks, comments and tags yet. Nothing was changed.")
            .hint("stop it, and try again; or start it anew with this version")
        }
        StoreError::TooManyTags { .. } => Report::new("E414", USAGE, error.to_string())
            .fact("Flows before it may have been changed.")
            .hint("manent tag MIDS -name   removes one"),
        StoreError::NotWritable { path, source } => {
            Report::new("E402", STORE, format!("cannot write to {}: {}", text::path(path), plain_io(source)))
                .hint("manent -s FILE   records elsewhere")
        }
        StoreError::NewerSchema { path, found, known } => {
            let message = format!("{} was written by a newer manent", text::path(path));
            Report::new("E403", STORE, message)
                .fact(format!(
                    "Its schema is {found}; this is {} and knows up to {known}.",
                    env!("CARGO_PKG_VERSION")
                ))
                .fact("Nothing was changed.")
                .hint("cargo install manent     or record elsewhere: manent -s other.db")
        }
        StoreError::Full { path, .. } => {
            Report::new("E404", STORE, format!("no space left for {}", text::path(path)))
                .hint("manent -s FILE   records on another disk")
        }
        StoreError::NoRoom { path, need, free } => {
            let message = format!("the disk of {} is too full for that", text::path(path));
            Report::new("E404", STORE, message)
                .fact(format!("It takes {} for a while; {} are free.", text::size(*need), text::size(*free)))
                .fact("Nothing was changed.")
                .hint("manent prune --max-age 7d   deletes flows, which takes no room")
        }
        StoreError::Busy { .. } => Report::new("E425", STORE, error.to_string()).hint(
            "another program has a transaction open in it for more than 5 s: let it end, then try again",
        ),
        StoreError::NotAStore { path } => {
            Report::new("E406", STORE, format!("{} is not a store of manent's", text::path(path)))
                .fact("Nothing was changed.")
                .hint("manent -s FILE")
        }
        StoreError::Packed { path } => {
            Report::new("E415", STORE, format!("{} is a packed store, which is only read", text::path(path)))
                .fact("Nothing was changed.")
                .hint(format!("manent store unpack {0} FILE   makes one to record into", text::path(path)))
        }
        StoreError::NotPacked { path } => {
            Report::new("E416", STORE, format!("{} is not a packed store", text::path(path)))
                .hint(format!("manent store pack -s {} FILE   makes one of it", text::path(path)))
        }
        StoreError::Exists { path } => {
            Report::new("E417", STORE, format!("{} is there already", text::path(path)))
                .fact("Nothing was changed.")
                .hint("--force   puts the new store in its place, if it is a store")
        }
        StoreError::Same { .. } | StoreError::Stopped { .. } => Report::new("E418", STORE, causes(error)),
        StoreError::NotFound { path } => {
            Report::new("E407", NOT_FOUND, format!("there is no store at {}", text::path(path)))
                .fact("Nothing has been recorded there yet.")
                .hint(
                    "manent run -- curl https://example.com/   records one flow; -s FILE names another store",
                )
        }
        StoreError::Damaged { path, detail } => {
            Report::new("E405", STORE, format!("{} is damaged", text::path(path))).fact(sentence(detail))
        }
        StoreError::Gone { .. } => gone(error.to_string()),
        StoreError::UnreadableLog { path } => Report::new(
            "E410",
            STORE,
            format!("{}-wal cannot be read in a folder that may not be written", text::path(path)),
        )
        .fact("It holds flows of a capture that was killed, or still runs elsewhere.")
        .hint(
            "copy the store with all that belongs to it (flows.db*) to a folder of yours, and read it there",
        ),
        StoreError::Sqlite { .. } | StoreError::Io { .. } | StoreError::Panicked { .. } => {
            Report::new("E408", STORE, causes(error))
        }
    }
}

fn gone(message: String) -> Report {
    Report::new("E409", STORE, message)
        .fact("What was recorded into it is lost, but for what the file that is there now has of it.")
        .fact("All was passed on all the same.")
        .hint("manent ls   tells whether a store is there; manent   begins a new one where there is none")
}

fn of_roots(error: &RootsError) -> Report {
    Report::new("E602", TLS, causes(error))
        .hint("--upstream-ca PEM   takes a file of certificates, for origins")
}

fn of_ca(error: &CaError) -> Report {
    Report::new("E601", TLS, causes(error))
        .hint("manent --ca-dir DIR   uses or makes another one; --ca-cert FILE   a given one")
}

fn of_coding(error: &CodingError) -> Report {
    Report::new("E208", NO, error.to_string()).hint("--raw   gives the bytes as they were on the wire")
}

impl Report {
    fn new(code: &'static str, exit: u8, message: impl Into<String>) -> Self {
        Self { code, exit, message: without_os_codes(&message.into()), facts: Vec::new(), hints: Vec::new() }
    }

    fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(without_os_codes(&fact.into()));
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Escaped line by line: a message may quote a peer or the name of a file.
    fn to_text(&self, output: &Output) -> String {
        let paint = output.talk_paint;
        let mut out = paint.red(&paint.bold(&format!("error[{}]", self.code)));
        out += ": ";
        out += &escape::line(&self.message);
        for fact in &self.facts {
            out += "\n  ";
            out += &escape::line(fact);
        }
        for hint in &self.hints {
            out += "\n  ";
            out += &paint.cyan("hint:");
            out += " ";
            out += &escape::line(hint);
        }
        out
    }

    fn to_json(&self) -> String {
        json!({"error": {
            "code": self.code, "message": self.message, "facts": self.facts, "hints": self.hints, "exit": self.exit,
        }})
        .to_string()
    }
}

/// An error with its causes: `cannot read ca.pem: permission denied`.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        // Some types repeat their cause in their own words.
        if !message.contains(&part) {
            message = format!("{message}: {}", lower_first(&part));
        }
        next = cause.source();
    }
    message
}

fn plain_io(error: &io::Error) -> String {
    lower_first(&without_os_codes(&error.to_string()))
}

/// Without `(os error 13)`, which helps nobody; the log has it.
fn without_os_codes(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// "Permission denied" inside a sentence; names such as "OpenSSL" or "E12" stay.
fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => message.to_owned(),
    }
}

fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// It ran, and the answer is "no".
pub(super) const NO: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
/// The store, or one of several, could not be read or written.
pub(super) const STORE: u8 = 4;
const NETWORK: u8 = 5;
const TLS: u8 = 6;
/// As `env` and shells have it (POSIX, "Exit Status for Commands").
const CANNOT_START: u8 = 126;
const CANNOT_FIND: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        assert_eq!(without_os_codes("a: No (os error 13): b (os error 2)"), "a: No: b");
        assert_eq!(plain_io(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(sentence("permission denied"), "Permission denied.");
    }

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
