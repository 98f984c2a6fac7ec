//! The one writer of a store: opens it, commits groups, keeps the WAL short, closes it.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::checkpoint::{By, Checkpoints};
use super::db_file::DbFile;
use super::group::{Book, Group, Outcome};
use super::index::{self, Patience};
use super::lock::Lock;
use super::paths::Paths;
use super::recover::recover;
use super::row::sqlite_int;
use super::schema;
use super::segment::{DiskFiles, PageCache, SegmentFiles, Segments};
use super::session::{self, SessionCounts};
use super::space::{Limits, Pins, Space, Step, Swept};
use super::{Reader, StoreError};

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
    /// What it may hold.
    pub limits: Limits,
    /// What becomes of the system's copy of what was written.
    pub cache: PageCache,
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
    pub(super) paths: Paths,
    pub(super) book: Book,
    pub(super) segments: Segments,
    next_mid: u64,
    next_conn: u64,
    pub(super) checkpoints: Checkpoints,
    /// What the recorder counted, for the session's row; to be told before it is closed.
    pub(crate) counts: Option<SessionCounts>,
    file: DbFile,
    pub(super) space: Space,
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
        Self::open_with(path, options, |paths| Box::new(DiskFiles { paths, cache: options.cache }))
    }

    /// As [`Writer::open`], with segment files of any make.
    pub(super) fn open_with(
        path: &Path,
        options: &WriterOptions,
        files: impl FnOnce(Paths) -> Box<dyn SegmentFiles>,
    ) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        if let Some(file) = DbFile::find(&paths.db)? {
            file.inspect(&paths.db)?;
        }
        let lock = Lock::take(&paths)?;
        let file = match DbFile::find(&paths.db)? {
            Some(file) => {
                file.inspect(&paths.db)?;
                rustix::fs::access(&paths.db, rustix::fs::Access::WRITE_OK)
                    .map_err(|e| StoreError::io(&paths.db, "opening the database", e.into()))?;
                file
            }
            None => {
                schema::make(&paths)?;
                DbFile::find(&paths.db)?.ok_or_else(|| StoreError::Gone { path: paths.db.clone() })?
            }
        };
        let conn = schema::open_writer(&paths, options.durability)?;
        let start = recover(&conn, &paths)?;
        // A session without a flow may be lost, and the commit of its first flow brings it to disk, too.
        let begun = schema::sync_commits(&conn, Durability::Normal)
            .and_then(|()| begin_session(&conn, options))
            .and_then(|begun| schema::sync_commits(&conn, options.durability).map(|()| begun));
        let (session, next_mid, next_conn) =
            begun.map_err(|e| StoreError::sqlite(&paths.db, "beginning a session", e))?;
        let segments = Segments::start(files(paths.clone()), start, options.queue_bytes)
            .map_err(|e| StoreError::io(&paths.bodies, "starting the segment thread", e))?;
        let book = Book::new(session, options.durability, next_mid);
        let space = Space::new(&paths, options.limits);
        let keeper = Keeper {
            space,
            paths,
            book,
            segments,
            next_mid,
            next_conn,
            checkpoints: Checkpoints::default(),
            counts: None,
            file,
            _lock: lock,
        };
        Ok(Self { conn, keeper })
    }

    /// The first mid, and the first connection id, that were never given out.
    #[must_use]
    pub fn next_ids(&self) -> (u64, u64) {
        (self.keeper.next_mid, self.keeper.next_conn)
    }

    /// For a store that follows another one by the clock, unless it has had flows: takes over from the one at `before` whether
    /// an index of its bodies is wanted.
    ///
    /// # Errors
    /// If one of them cannot be asked; this one is as it was then.
    pub fn take_over(&mut self, before: &Path) -> Result<(), StoreError> {
        if self.keeper.next_mid > 1 || !Reader::open(before)?.wants_index()? {
            return Ok(());
        }
        let fail = |e| StoreError::sqlite(&self.keeper.paths.db, "saying that an index is wanted", e);
        index::want(&self.conn, true).map_err(fail)
    }

    /// The append side of its segments.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.keeper.segments
    }

    /// The flows that are under way: their pieces are not taken for dead.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.keeper.space.pins
    }

    /// The database, symbolic links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.keeper.paths.db
    }

    /// Brings the bodies of the group to disk, then commits its rows, then shortens the WAL if it is long.
    ///
    /// # Errors
    /// If the transaction failed: then nothing of the group is stored, and it may be tried again. [`StoreError::Gone`] if the
    /// database was taken away or overwritten.
    pub fn commit(&mut self, group: &mut Group) -> Result<Outcome, StoreError> {
        self.keeper.commit(&mut self.conn, group)
    }

    /// Makes zones that are missing, such as those of a store of an older version, until all are there or `patience` is
    /// over; gives whether that is all that can be done. Without it they come as flows are stored.
    ///
    /// # Errors
    /// What SQLite said. Nothing but zones is missing then, and filters are slow without them.
    pub fn make_zones(&mut self, patience: Duration) -> Result<bool, StoreError> {
        self.keeper.make_zones(&mut self.conn, patience)
    }

    /// Writes what is queued, takes the WAL into the database and closes it.
    ///
    /// # Errors
    /// If the last checkpoint failed; the store is whole then too, with its WAL. [`StoreError::Gone`] as in
    /// [`Writer::commit`].
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
        self.still_there()?;
        let result = self.book.commit(conn, &self.segments, group);
        if let Some(used) = &mut self.book.used {
            self.space.used(used);
            used.clear();
        }
        let outcome = result.map_err(|e| StoreError::sqlite(&self.paths.db, "storing flows", e))?;
        self.space.committed(group.fresh(), group.taken_out());
        self.wal_grew(conn, outcome.row_bytes + rows * ROW_BYTES + GROUP_BYTES);
        Ok(outcome)
    }

    /// Flows were deleted by the connection.
    pub(super) fn pruned(&mut self, conn: &Connection) {
        self.wal_grew(conn, TIDY_BYTES);
    }

    /// Keeps the WAL short, now that a commit gave it about `bytes`.
    fn wal_grew(&mut self, conn: &Connection, bytes: u64) {
        let by = match self.book.durability {
            Durability::Full => By::Thread,
            // Their segments are synced no more often than the database is.
            Durability::Normal => By::Writer,
        };
        let sync = || drop(self.segments.sync());
        self.checkpoints.after_commit(conn, &self.paths, bytes, by, sync);
    }

    /// What the store may hold from now on.
    pub(crate) fn keep_within(&mut self, limits: Limits) {
        self.space.keep_within(limits);
    }

    /// Does a little to keep the store within its limits, to give space back, and for the index of bodies.
    pub(crate) fn tidy(&mut self, conn: &mut Connection) -> Result<Step, StoreError> {
        self.still_there()?;
        // Nothing of it is urgent, and while another process writes, groups of flows wait already.
        let step = schema::with_patience(conn, TIDY_PATIENCE, |conn| {
            self.space.step(conn, &self.paths, &self.segments)
        });
        let (step, swept) = step?;
        self.book.used = self.space.wants_used().then(Vec::new);
        if swept == Swept::Took {
            self.book.forget();
        }
        if step != Step::Idle {
            self.wal_grew(conn, TIDY_BYTES);
        }
        Ok(step.max(self.index_step(conn, Patience::Look)?))
    }

    /// The part of it that is for the index.
    pub(super) fn index_step(
        &mut self,
        conn: &mut Connection,
        patience: Patience,
    ) -> Result<Step, StoreError> {
        let (step, bytes) = self.book.index.step(conn, &self.paths.db, patience)?;
        if bytes > 0 {
            self.wal_grew(conn, bytes + TIDY_BYTES);
        }
        Ok(step)
    }

    /// From here on, tidying makes the index of bodies, if people want one.
    pub(crate) fn make_index(&mut self) {
        self.book.index.make();
    }

    /// A look at the file's name and header, which costs a microsecond or two a group.
    fn still_there(&self) -> Result<(), StoreError> {
        match self.file.is_still_at(&self.paths.db) {
            true => Ok(()),
            false => Err(StoreError::Gone { path: self.paths.db.clone() }),
        }
    }

    fn make_zones(&mut self, conn: &mut Connection, patience: Duration) -> Result<bool, StoreError> {
        let end = Instant::now() + patience;
        while !self.book.zones.is_complete() {
            if Instant::now() >= end {
                return Ok(false);
            }
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate);
            let made = tx.and_then(|tx| {
                let bytes = self.book.zones.make_early(&tx)?;
                tx.commit().map(|()| bytes)
            });
            let bytes = made.map_err(|e| StoreError::sqlite(&self.paths.db, "noting what blocks hold", e))?;
            self.wal_grew(conn, bytes);
        }
        Ok(true)
    }

    pub(crate) fn close(&mut self, conn: &mut Connection) -> Result<(), StoreError> {
        self.book.index.stop();
        self.segments.close();
        self.segments.sync();
        self.still_there()?;
        if let Err(error) = self.space.reclaimer.finish(conn, &self.segments) {
            tracing::warn!(%error, "rows of segments that are gone stay for now");
        }
        let fail = |e| StoreError::sqlite(&self.paths.db, "closing the store", e);
        // Of what is written now, nothing is missed, and the checkpoint brings all of it to disk.
        schema::sync_commits(conn, Durability::Normal).map_err(fail)?;
        if let Err(error) = self.make_zones(conn, ZONES_AT_CLOSE) {
            tracing::warn!(%error, "what the last blocks hold is not noted");
        }
        self.checkpoints.join();
        let fail = |e| StoreError::sqlite(&self.paths.db, "closing the store", e);
        session::end(conn, self.book.session, unix_ns(), self.counts).map_err(fail)?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(fail)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Ends the threads, also where an error or a panic led here.
        self.segments.close();
        self.checkpoints.join();
        self.space.reclaimer.join();
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

/// How long closing a store may take to make the zones that still wait: those of 500,000 flows.
const ZONES_AT_CLOSE: Duration = Duration::from_millis(500);

/// Of the database (`schema`), in bytes.
const PAGE_BYTES: u64 = 8192;

/// How long tidying waits for another's lock.
const TIDY_PATIENCE: Duration = Duration::from_millis(50);

/// What a step of tidying gives to the WAL, at most about.
const TIDY_BYTES: u64 = 32 * PAGE_BYTES;

/// What a row adds to the WAL beside its texts, and a commit by its partly filled pages.
const ROW_BYTES: u64 = 100;
const GROUP_BYTES: u64 = 4 * PAGE_BYTES;
