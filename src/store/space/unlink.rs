//! Files of segments that are dropped go on a thread of their own: unlinking a large file takes a disk up to 100 ms, and the
//! commit after which it may go has to be on disk before.

use std::io;
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::super::segment::Segments;
use super::delete::unsynced;

/// The segments that are marked as dropped by a commit, and the thread that takes their files away.
#[derive(Debug, Default)]
pub(super) struct Unlinks {
    waiting: Vec<u32>,
    thread: Option<JoinHandle<(Vec<u32>, io::Result<()>)>>,
}

impl Unlinks {
    /// A commit marked this segment as dropped.
    pub(super) fn push(&mut self, segment: u32) {
        self.waiting.push(segment);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.thread.is_some() || !self.waiting.is_empty()
    }

    /// Starts the thread if there is something to do, and ends it if it has done it.
    ///
    /// # Errors
    /// What SQLite said when the rows of segments were taken away. That is no loss: they go when the store is opened again.
    pub(super) fn step(&mut self, conn: &mut Connection, segments: &Segments) -> rusqlite::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join(conn)?;
        }
        if self.thread.is_none() && !self.waiting.is_empty() {
            let (numbers, segments) = (std::mem::take(&mut self.waiting), segments.clone());
            let work = move || {
                let done = segments.remove(&numbers);
                (numbers, done)
            };
            match std::thread::Builder::new().name("unlink".into()).spawn(work) {
                Ok(thread) => self.thread = Some(thread),
                // They go when the store is opened again.
                Err(error) => tracing::warn!(%error, "files of dropped segments stay for now"),
            }
        }
        Ok(())
    }

    /// Waits until all files are gone.
    ///
    /// # Errors
    /// As [`Unlinks::step`].
    pub(super) fn finish(&mut self, conn: &mut Connection, segments: &Segments) -> rusqlite::Result<()> {
        while self.is_busy() {
            self.step(conn, segments)?;
            self.join(conn)?;
        }
        Ok(())
    }

    /// Waits for the thread, where no connection is left to tell of it.
    pub(super) fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // What it could not do is done when the store is opened again.
            let _ = thread.join();
        }
    }

    /// Waits for the thread.
    fn join(&mut self, conn: &mut Connection) -> rusqlite::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok((numbers, Ok(()))) => {
                unsynced(conn, |conn| numbers.iter().try_for_each(|number| forget(conn, *number)))
            }
            Ok((numbers, Err(error))) => {
                tracing::warn!(?numbers, %error, "files of dropped segments stay for now");
                Ok(())
            }
            // A panic of it has been printed.
            Err(_) => Ok(()),
        }
    }
}

/// Takes away the row of a segment whose file is gone.
pub(super) fn forget(conn: &Connection, number: u32) -> rusqlite::Result<()> {
    conn.prepare_cached(FORGET)?.execute([number]).map(drop)
}

/// The highest stays, for its number.
const FORGET: &str = "DELETE FROM segment WHERE number = ?1 AND number < (SELECT max(number) FROM segment)";
