//! Keeping the WAL short without holding commits up (sqlite.org/wal.html §2.1, sqlite.org/c3ref/wal_checkpoint_v2.html).
//!
//! Most of a checkpoint, copying pages and syncing the database, is done by a thread with a connection of its own while
//! commits go on. What these commits added meanwhile is little; the writer takes it in itself, and with nothing left in it
//! the WAL begins anew.

use std::path::Path;
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::paths::Paths;
use super::schema;

/// What is known of the WAL, and the thread that takes it in.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Bytes that went into the WAL since it began anew, by estimate.
    pub(super) wal_bytes: u64,
    /// At how many the next checkpoint is due, when readers have kept the last one from its end.
    again_at: u64,
    thread: Option<JoinHandle<()>>,
}

/// Who takes the WAL in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A thread first, the writer for the rest.
    Thread,
    /// The writer alone, since segments have to be synced just before.
    Writer,
}

impl Checkpoints {
    /// After a commit that gave the WAL about `bytes`: a step of a checkpoint, if one is due. Failing is no loss: the WAL
    /// holds everything, and another commit tries again. `sync` brings the segments to disk, if `by` is the writer.
    pub(super) fn after_commit(
        &mut self,
        conn: &Connection,
        paths: &Paths,
        bytes: u64,
        by: By,
        sync: impl FnOnce(),
    ) {
        self.wal_bytes += bytes;
        if self.wal_bytes <= WAL_BYTES.max(self.again_at) {
            return;
        }
        match (&self.thread, by) {
            (None, By::Thread) => {
                let db = paths.db.clone();
                let work = move || take_in(&db);
                match std::thread::Builder::new().name("checkpoint".into()).spawn(work) {
                    Ok(thread) => self.thread = Some(thread),
                    // No threads to be had: then by ourselves.
                    Err(_) => self.finish(conn),
                }
            }
            (Some(thread), By::Thread) if !thread.is_finished() => {}
            (_, by) => {
                self.join();
                if by == By::Writer {
                    sync();
                }
                self.finish(conn);
            }
        }
    }

    /// Takes in what is left, as far as readers let it.
    fn finish(&mut self, conn: &Connection) {
        let result = match self.wal_bytes > LONG_WAL_BYTES {
            // Readers have kept it from beginning anew for long: they are waited for, but not so that anybody notices.
            true => with_timeout(conn, READERS, || checkpoint(conn, "RESTART")),
            false => checkpoint(conn, "PASSIVE"),
        };
        match result {
            Ok((0, log, done)) if done >= log => (self.wal_bytes, self.again_at) = (0, 0),
            Ok((_, log, _)) => {
                tracing::debug!(log, "a reader keeps the WAL from being taken in");
                self.again_at = self.wal_bytes + WAL_BYTES / 2;
            }
            Err(error) => {
                tracing::warn!(%error, "checkpoint failed");
                self.again_at = self.wal_bytes + WAL_BYTES / 2;
            }
        }
    }

    /// Waits for the thread.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed, and the WAL still holds everything.
            let _ = thread.join();
        }
    }
}

/// What the thread does.
fn take_in(db: &Path) {
    let taken = schema::open_checkpointer(db).and_then(|conn| {
        checkpoint(&conn, "PASSIVE").map_err(|e| super::StoreError::sqlite(db, "taking the WAL in", e))
    });
    if let Err(error) = taken {
        tracing::debug!(%error, "checkpoint failed");
    }
}

/// Whether it was kept from its end (0 for no), pages in the WAL, and how many of them are in the database.
fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<(i64, i64, i64)> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], read)
}

fn with_timeout<T>(
    conn: &Connection,
    timeout: std::time::Duration,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.busy_timeout(timeout)?;
    let result = work();
    conn.busy_timeout(schema::BUSY)?;
    result
}

/// A checkpoint when so much has come: each copies every page that changed once, so rare is cheap; the WAL and the
/// kernel's cache of it stay small all the same.
pub(super) const WAL_BYTES: u64 = 16 << 20;

/// Beyond this, a checkpoint waits for readers, so that the WAL can begin anew.
const LONG_WAL_BYTES: u64 = 128 << 20;

/// How long it does.
const READERS: std::time::Duration = std::time::Duration::from_millis(20);
