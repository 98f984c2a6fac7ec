//! What went wrong with a store.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::report::{Report, causes, plain_io, sentence};
use super::{NOT_FOUND, STORE, USAGE};
use crate::cli::{busy, escape, text, user};
use crate::store::StoreError;

#[expect(clippy::too_many_lines, reason = "a table: an entry an error")]
pub(super) fn of_store(error: &StoreError) -> Report {
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
                .hint("manent replay MIDS --into other.db   records the answers elsewhere")
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
            let is_forbidden = source.kind() == io::ErrorKind::PermissionDenied;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
            if let (io::ErrorKind::NotFound, Some(folder)) = (source.kind(), folder) {
                let message = format!("there is no folder {}, where the store is to be", text::path(folder));
                let mkdir = format!("mkdir -p {}", escape::shell_path(folder));
                return Report::new("E402", STORE, message).fact("Nothing was changed.").hint(mkdir);
            }
            let is_unreadable = is_forbidden && !may(path, Access::READ_OK);
            let what = if is_unreadable { "read" } else { "write to" };
            let message = format!("cannot {what} {}: {}", text::path(path), plain_io(source));
            let report = Report::new("E402", STORE, message);
            let report = if is_forbidden { forbidden(report, path, is_unreadable) } else { report };
            let elsewhere = if is_unreadable { "uses another store" } else { "records elsewhere" };
            report.hint(format!("manent -s FILE   {elsewhere}"))
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
        StoreError::NotAStore { path } => {
            Report::new("E406", STORE, format!("{} is not a store of manent's", text::path(path)))
                .facts(path.is_dir().then_some("It is a folder."))
                .fact("Nothing was changed.")
                .hint("manent -s FILE")
        }
        StoreError::Packed { path } => {
            Report::new("E415", STORE, format!("{} is a packed store, which is only read", text::path(path)))
                .fact("Nothing was changed.")
                .hint(format!(
                    "manent store unpack {} FILE   makes one to record into",
                    escape::shell_path(path)
                ))
        }
        StoreError::NotPacked { path } => {
            Report::new("E416", STORE, format!("{} is not a packed store", text::path(path)))
                .hint(format!("manent store pack -s {} FILE   makes one of it", escape::shell_path(path)))
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
            Report::new("E405", STORE, format!("{} is damaged", text::path(path)))
                .fact(sentence(detail))
                .hint(format!("manent check -s {}   tells by mid what is damaged", escape::shell_path(path)))
        }
        StoreError::Busy { .. } => Report::new("E425", STORE, error.to_string()).hint(
            "another program has a transaction open in it for more than 5 s: let it end, then try again",
        ),
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

/// Whether this user may do so with a path that is there.
fn may(path: &Path, what: Access) -> bool {
    rustix::fs::access(path, what) != Err(rustix::io::Errno::ACCESS)
}

/// Who may read or write a file that is there.
fn forbidden(report: Report, path: &Path, is_unreadable: bool) -> Report {
    let Ok(found) = std::fs::metadata(path) else { return report };
    match found.uid() == rustix::process::geteuid().as_raw() {
        false => {
            let (owner, own) = (user::name(found.uid()), user::own_name());
            let report = report.fact(format!("It belongs to {owner}, and you are {own}."));
            if is_unreadable {
                return report;
            }
            report.hint(format!("manent ls -s {}   reads it", escape::shell_path(path)))
        }
        true if is_unreadable && found.mode() & 0o400 == 0 => report
            .fact(format!("It is yours, and nobody may read it (mode {:04o}).", found.mode() & 0o7777))
            .hint(format!("chmod u+rw {}", escape::shell_path(path))),
        true if found.mode() & 0o200 == 0 => report
            .fact(format!("It is yours, and read-only (mode {:04o}).", found.mode() & 0o7777))
            .hint(format!("chmod u+w {}", escape::shell_path(path))),
        // It is the folder that may not be written.
        true => report,
    }
}

pub(super) fn gone(message: String) -> Report {
    Report::new("E409", STORE, message)
        .fact("What was recorded into it is lost, but for what the file that is there now has of it.")
        .fact("All was passed on all the same.")
        .hint("manent ls   tells whether a store is there; manent   begins a new one where there is none")
}
