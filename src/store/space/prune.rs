//! Deleting flows on demand, also from a store that another process records into.
//!
//! Beside a recorder only rows are deleted, in short transactions of a connection of its own: SQLite lets one write at a time,
//! and each waits for the other. What the recorder believes to be written (hosts, connections) is left alone, and the space is
//! given back by the recorder. Without one, the pruner is the writer, and does that itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::super::db_file::DbFile;
use super::super::paths::Paths;
use super::super::record::RecordFiles;
use super::super::schema;
use super::super::source::Source;
use super::super::{Durability, PageCache, Reader, StoreError, Writer, WriterOptions};
use super::delete::{self, Freed, Marked};
use super::keep::Step;
use super::limits::Limits;
use super::usage::Usage;
use crate::flow::Mid;

/// Deletes flows. Its methods block.
#[derive(Debug)]
pub struct Pruner {
    place: Place,
    files: RecordFiles,
    paths: Paths,
}

#[derive(Debug)]
enum Place {
    /// As the store's writer.
    Alone(Box<Writer>),
    /// Beside a writer in another process.
    Beside { conn: Connection, _file: DbFile },
}

impl Pruner {
    /// Opens the store at `path`, which may have a writer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none; [`StoreError::Locked`] if it is of an older version and has a writer; else
    /// as [`Writer::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        let files = RecordFiles::new(Arc::new(Source::new(paths.clone(), None)));
        if !paths.db.exists() {
            return Err(StoreError::NotFound { path: paths.db });
        }
        let place = match Writer::open(path, &options("prune")) {
            Ok(writer) => Place::Alone(Box::new(writer)),
            Err(locked @ StoreError::Locked { .. }) => {
                let file = DbFile::find(&paths.db)?;
                let file = file.ok_or_else(|| StoreError::NotFound { path: paths.db.clone() })?;
                let conn = schema::open_checkpointer(&paths.db)?;
                let version = schema::version(&conn);
                match version
                    .map_err(|e| StoreError::sqlite(&paths.db, "reading the version of the tables", e))?
                {
                    schema::VERSION => Place::Beside { conn, _file: file },
                    _ => return Err(locked),
                }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { place, files, paths })
    }

    /// Whether another process writes to the store, which will give the space back.
    #[must_use]
    pub fn is_beside_writer(&self) -> bool {
        matches!(self.place, Place::Beside { .. })
    }

    /// Deletes these flows, some hundred in a transaction. Mids that are not there are no error.
    ///
    /// # Errors
    /// What SQLite said. What was deleted before stays deleted.
    pub fn delete(&mut self, mids: &[Mid], marked: Marked) -> Result<Freed, StoreError> {
        let Self { place, files, paths } = self;
        let conn = match place {
            Place::Alone(writer) => &mut writer.conn,
            Place::Beside { conn, .. } => conn,
        };
        let fail = |e| StoreError::sqlite(&paths.db, "deleting flows", e);
        let mut freed = Freed::default();
        for mids in mids.chunks(TOGETHER) {
            let plan = delete::plan(conn, files, mids, marked, Duration::MAX).map_err(fail)?;
            freed += Freed { flows: 0, bytes: 0, ..plan.left };
            freed += delete::delete(conn, &plan.doomed, marked).map_err(fail)?;
        }
        if let Place::Alone(writer) = place {
            writer.keeper.pruned(&writer.conn);
        }
        Ok(freed)
    }

    /// Ends it. Where there is no other writer, segments that are mostly dead are reclaimed before; `progress` is told
    /// how many bytes of how many of the segment in work are done.
    ///
    /// # Errors
    /// What the system or SQLite said.
    pub fn finish(self, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let Place::Alone(writer) = self.place else { return Ok(()) };
        let mut writer = *writer;
        // The last segment, too, if it is worth it: nothing is appended to it now.
        writer.keeper.segments.roll();
        writer.keeper.space.look_now();
        while writer.keeper.tidy(&mut writer.conn)? != Step::Idle {
            let (done, total) = writer.keeper.space.reclaimer.at();
            progress(done, total);
        }
        writer.close()
    }
}

impl Reader {
    /// What [`Pruner::delete`] would do.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn weigh(&self, mids: &[Mid], marked: Marked) -> Result<Freed, StoreError> {
        let plan = delete::plan(&self.conn, &self.records, mids, marked, Duration::MAX);
        Ok(plan.map_err(|e| StoreError::sqlite(&self.paths.db, "reading flows", e))?.freed())
    }

    /// Bytes of the store's files that deleting flows can make less: without what is dead in segments, or free in the
    /// database, already.
    ///
    /// # Errors
    /// What SQLite or the system said.
    pub fn live_bytes(&self) -> Result<u64, StoreError> {
        Ok(Usage::of(&self.conn, &self.paths)?.live())
    }
}

/// For one that writes but records nothing.
pub(in crate::store) fn options(label: &str) -> WriterOptions {
    WriterOptions {
        durability: Durability::Full,
        queue_bytes: 8 << 20,
        label: label.to_owned(),
        listen: String::new(),
        limits: Limits::default(),
        cache: PageCache::default(),
    }
}

/// Flows in a transaction: some milliseconds, for which a recorder may have to wait.
const TOGETHER: usize = 250;
