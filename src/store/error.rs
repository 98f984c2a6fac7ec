//! What can go wrong with a store, by the operation that failed.

use std::path::PathBuf;

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to it.
    #[error("{} is in use by another writer{}", path.display(), pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// The database.
        path: PathBuf,
        /// The process that holds it, where its lock file tells.
        pid: Option<u32>,
        /// Since when, in nanoseconds since 1970, where its lock file tells.
        since_unix_ns: Option<i64>,
    },
    /// Its name is to follow the clock, and no clock can make it.
    #[error("{} cannot be the name of a store: {why}", path.display())]
    BadName {
        /// The name as it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a newer version of this program.
    #[error("{} has store version {found}; this program knows up to {known}", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version of the file.
        found: u32,
        /// The newest version that this program can read.
        known: u32,
    },
    /// The file is something else: another program's database, or no database.
    #[error("{} is not a manent store", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// It is a packed store, which is read only.
    #[error("{} is a packed store, which is only read", path.display())]
    Packed {
        /// The database.
        path: PathBuf,
    },
    /// It was to be unpacked, and is not packed.
    #[error("{} is not a packed store", path.display())]
    NotPacked {
        /// The database.
        path: PathBuf,
    },
    /// A store or another file is where a new one was to be.
    #[error("{} is there already", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// What was to be made of a store would take its own place, or be added to itself.
    #[error("{} cannot be made of itself", path.display())]
    Same {
        /// The database.
        path: PathBuf,
    },
    /// Whoever asked for a copy wants it no more.
    #[error("stopped before {} was whole", path.display())]
    Stopped {
        /// The copy, of which nothing is left.
        path: PathBuf,
    },
    /// Its file or folder cannot be written or created.
    #[error("cannot write to {}: {source}", path.display())]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is of an older version, and cannot be brought up to date while its writer has it.
    #[error("{} is being written by an older version{}", path.display(), pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    OlderWriter {
        /// The database.
        path: PathBuf,
        /// The process that writes, where its lock file tells.
        pid: Option<u32>,
    },
    /// One flow would have more tags than any may have.
    #[error("flow {mid} would have more than {limit} tags")]
    TooManyTags {
        /// The flow.
        mid: crate::flow::Mid,
        /// How many it may have.
        limit: usize,
    },
    /// There is no such file.
    #[error("there is no store at {}", path.display())]
    NotFound {
        /// The database.
        path: PathBuf,
    },
    /// It was deleted or something else was put in its place while it was open for writing.
    #[error("{} was taken away or overwritten while it was in use", path.display())]
    Gone {
        /// Where the database was.
        path: PathBuf,
    },
    /// Its WAL holds flows and cannot be read, since its folder may not be written: SQLite makes a file there for that
    /// (sqlite.org/wal.html §5).
    #[error("{}-wal cannot be read where its folder may not be written", path.display())]
    UnreadableLog {
        /// The database.
        path: PathBuf,
    },
    /// The disk, or what the store may use of it, is full.
    #[error("no space left for {}", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// What was asked for needs room on the disk for a while, and there is less.
    #[error("{} needs {need} bytes of free disk for that, and there are {free}", path.display())]
    NoRoom {
        /// The database.
        path: PathBuf,
        /// Bytes that it takes.
        need: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// Another process has the database locked, and for longer than is waited for.
    #[error("{} is locked by another process: {action} failed", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
    },
    /// What was read is not what was written.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The database or segment file.
        path: PathBuf,
        /// What and where.
        detail: String,
    },
    /// SQLite failed at something.
    #[error("{}: {action} failed: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system failed at something.
    #[error("{}: {action} failed: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Our own code panicked while it wrote a group.
    #[error("{}: the writer panicked: {message}", path.display())]
    Panicked {
        /// The database.
        path: PathBuf,
        /// The panic's message.
        message: String,
    },
}

impl StoreError {
    /// Sorts an error of SQLite into full, damaged, and the rest.
    pub(super) fn sqlite(path: &std::path::Path, action: &'static str, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase};
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(DiskFull) => StoreError::Full { path, source },
            Some(DatabaseBusy | DatabaseLocked) => StoreError::Busy { path, action },
            Some(DatabaseCorrupt | NotADatabase) => {
                StoreError::Damaged { path, detail: format!("{action}: {source}") }
            }
            _ => StoreError::Sqlite { path, action, source },
        }
    }

    pub(super) fn io(path: &std::path::Path, action: &'static str, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        let path = path.to_owned();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem | NotADirectory | NotFound => {
                StoreError::NotWritable { path, source }
            }
            _ => StoreError::Io { path, action, source },
        }
    }
}
