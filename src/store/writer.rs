//! The one writer of a store: opens it, commits groups, keeps the WAL short, closes it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::group::{Book, Group, Outcome};
use super::lock::Lock;
use super::paths::{Paths, open_private, sync_folder};
use super::recover::recover;
use super::row::sqlite_int;
use super::schema::{self, Contents};
use super::segment::{DiskFiles, SegmentFiles, Segments};

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A committed flow and its bodies outlive a power cut.
    #[default]
    Full,
    /// They outlive the process; a power cut may take the last seconds, and leave bodies missing.
    Normal,
}

/// How a store is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// What a commit promises.
    pub durability: Durability,
    /// Bytes of bodies that may wait for the disk.
    pub queue_bytes: usize,
    /// A name for this opening, as people gave it.
    pub label: String,
    /// Where the proxy listens.
    pub listen: String,
}

/// A store open for writing. Its methods block; they are for a thread that may.
#[derive(Debug)]
pub struct Writer {
    pub(super) conn: Connection,
    pub(super) keeper: Keeper,
}

/// All of a writer but its connection, which lives on a thread of its own.
#[derive(Debug)]
pub(crate) struct Keeper {
    paths: Paths,
    book: Book,
    segments: Segments,
    next_mid: u64,
    next_conn: u64,
    /// Bytes that went into the WAL since it was last checkpointed whole, by estimate.
    pub(super) wal_bytes: u64,
    _lock: Lock,
}

impl Writer {
    /// Opens the store at `path`, making it if there is none; marks flows that were left open, cuts torn segments.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another writer has it; [`StoreError::NotAStore`] or [`StoreError::NewerSchema`] if it
    /// is not ours to write, with nothing changed; [`StoreError::NotWritable`] for a file or folder that cannot be
    /// made or written; else what the system or SQLite said.
    pub fn open(path: &Path, options: &WriterOptions) -> Result<Self, StoreError> {
        Self::open_with(path, options, |paths| Box::new(DiskFiles { paths }))
    }

    /// As [`Writer::open`], with segment files of any make.
    pub(super) fn open_with(
        path: &Path,
        options: &WriterOptions,
        files: impl FnOnce(Paths) -> Box<dyn SegmentFiles>,
    ) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        schema::inspect(&paths.db)?;
        let lock = Lock::take(&paths)?;
        if schema::inspect(&paths.db)? == Contents::Missing {
            let folder = paths.db.parent().unwrap_or(Path::new("/"));
            open_private(&paths.db)
                .and_then(|_| sync_folder(folder))
                .map_err(|e| StoreError::io(&paths.db, "making the database", e))?;
        } else {
            open_private(&paths.db).map_err(|e| StoreError::io(&paths.db, "opening the database", e))?;
        }
        let conn = schema::open_writer(&paths, options.durability)?;
        let start = recover(&conn, &paths)?;
        let fail = |e| StoreError::sqlite(&paths.db, "beginning a session", e);
        let (session, next_mid, next_conn) = begin_session(&conn, options).map_err(fail)?;
        let segments = Segments::start(files(paths.clone()), start, options.queue_bytes)
            .map_err(|e| StoreError::io(&paths.bodies, "starting the segment thread", e))?;
        let book = Book::new(session, options.durability);
        let keeper = Keeper { paths, book, segments, next_mid, next_conn, wal_bytes: 0, _lock: lock };
        Ok(Self { conn, keeper })
    }

    /// The first mid, and the first connection id, that were never given out.
    #[must_use]
    pub fn next_ids(&self) -> (u64, u64) {
        (self.keeper.next_mid, self.keeper.next_conn)
    }

    /// The append side of its segments.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.keeper.segments
    }

    /// The database, symbolic links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.keeper.paths.db
    }

    /// Brings the bodies of the group to disk, then commits its rows, then shortens the WAL if it is long.
    ///
    /// # Errors
    /// If the transaction failed: then nothing of the group is stored, and it may be tried again.
    pub fn commit(&mut self, group: &mut Group) -> Result<Outcome, StoreError> {
        self.keeper.commit(&mut self.conn, group)
    }

    /// Writes what is queued, takes the WAL into the database and closes it.
    ///
    /// # Errors
    /// If the last checkpoint failed; the store is whole then too, with its WAL.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.keeper.close(&mut self.conn)
    }

    pub(crate) fn into_parts(self) -> (Connection, Keeper) {
        (self.conn, self.keeper)
    }
}

impl Keeper {
    /// The error for a panic that was caught in [`Keeper::commit`].
    pub(crate) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> StoreError {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        StoreError::Panicked { path: self.paths.db.clone(), message }
    }

    pub(crate) fn commit(&mut self, conn: &mut Connection, group: &mut Group) -> Result<Outcome, StoreError> {
        let rows = group.len() as u64;
        let outcome = self
            .book
            .commit(conn, &self.segments, group)
            .map_err(|e| StoreError::sqlite(&self.paths.db, "storing flows", e))?;
        self.wal_bytes += outcome.row_bytes + rows * ROW_BYTES + GROUP_BYTES;
        if self.wal_bytes > WAL_BYTES {
            self.checkpoint(conn);
        }
        Ok(outcome)
    }

    /// Takes the WAL into the database as far as readers let it. Failing is no loss: the WAL holds everything, and
    /// the next commit tries again.
    fn checkpoint(&mut self, conn: &Connection) {
        if self.book.durability == Durability::Normal {
            self.segments.sync();
        }
        let pragma = match self.wal_bytes > LONG_WAL_BYTES {
            // Readers have kept it from starting anew for long: wait for them a moment.
            true => "PRAGMA wal_checkpoint(RESTART)",
            false => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        let result = conn.query_row(pragma, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match result {
            Ok((0, log, done)) if done >= log => self.wal_bytes = 0,
            // Not all of it: again when as much has come.
            Ok((_, log, _)) => {
                tracing::debug!(log, "a reader keeps the WAL from being checkpointed");
                let long = u64::try_from(log).unwrap_or(0) * PAGE_BYTES;
                self.wal_bytes = if long > LONG_WAL_BYTES { LONG_WAL_BYTES } else { 0 };
            }
            Err(error) => tracing::warn!(%error, "checkpoint failed"),
        }
    }

    pub(crate) fn close(&mut self, conn: &mut Connection) -> Result<(), StoreError> {
        self.segments.close();
        self.segments.sync();
        let fail = |e| StoreError::sqlite(&self.paths.db, "closing the store", e);
        conn.execute(
            "UPDATE session SET ended_unix_ns = ?1 WHERE id = ?2",
            params![unix_ns(), self.book.session],
        )
        .map_err(fail)?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(fail)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Ends the segment thread, also where an error or a panic led here.
        self.segments.close();
    }
}

/// Ids that were given out in an earlier session are not given out again, also if their rows are gone.
fn begin_session(conn: &Connection, options: &WriterOptions) -> rusqlite::Result<(i64, u64, u64)> {
    let next = |counter: &str, highest: &str| -> rusqlite::Result<u64> {
        let kept: Option<i64> = conn
            .query_row("SELECT value FROM meta WHERE key = ?1", [counter], |row| row.get(0))
            .optional()?;
        let highest: Option<i64> = conn.query_row(highest, [], |row| row.get(0))?;
        let next = kept.unwrap_or(1).max(highest.unwrap_or(0).saturating_add(1)).max(1);
        Ok(next.cast_unsigned())
    };
    let next_mid = next("next_mid", "SELECT max(mid) FROM flow")?;
    let next_conn = next("next_conn", "SELECT max(id) FROM conn")?;
    conn.execute(
        "INSERT INTO session (started_unix_ns, label, listen, version) VALUES (?1, ?2, ?3, ?4)",
        params![unix_ns(), options.label, options.listen, env!("CARGO_PKG_VERSION")],
    )?;
    Ok((conn.last_insert_rowid(), next_mid, next_conn))
}

pub(super) fn unix_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    sqlite_int(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

const PAGE_BYTES: u64 = 8192;

/// A checkpoint when so much has come: each copies every page that changed once, so rare is cheap; the WAL and the
/// kernel's cache of it stay small all the same.
pub(super) const WAL_BYTES: u64 = 16 << 20;

/// Beyond this, a checkpoint waits for readers, so that the WAL can start anew.
const LONG_WAL_BYTES: u64 = 128 << 20;

/// What a row adds to the WAL beside its texts, and a commit by its partly filled pages.
const ROW_BYTES: u64 = 100;
const GROUP_BYTES: u64 = 4 * PAGE_BYTES;
