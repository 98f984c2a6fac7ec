//! Having an index made, or dropped, and what there is of one.

use std::path::Path;

use rusqlite::Connection;

use super::head;
use super::keep::{self, Pace, Patience};
use crate::store::db_file::DbFile;
use crate::store::paths::Paths;
use crate::store::reader::integer;
use crate::store::space::options;
use crate::store::zone::BLOCK_BITS;
use crate::store::{Reader, Step, StoreError, Writer, schema};

/// What there is of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexState {
    /// Whether one is wanted: then writers make it and keep it up.
    pub is_on: bool,
    /// Flows in the store.
    pub flows: u64,
    /// Those of which the index tells what their bodies have, or that they have none.
    pub covered: u64,
    /// Blocks of mids with flows.
    pub blocks: u64,
    /// Those that have an index.
    pub indexed_blocks: u64,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexProgress {
    /// Blocks that have an index; when it is dropped, those that have none any more.
    pub done: u64,
    /// Blocks that there are.
    pub total: u64,
}

/// What a step of a [`BodyIndexer`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexing {
    /// A part of the work.
    More,
    /// There is nothing left to do.
    Done,
    /// The store's writer, in another process, is doing it: look again in a while.
    Elsewhere,
}

/// Makes an index, or drops it. Its methods block.
#[derive(Debug)]
pub struct BodyIndexer {
    place: Place,
    paths: Paths,
    wanted: bool,
    /// The highest block when it was opened: what comes later is the writer's.
    last: Option<u64>,
}

#[derive(Debug)]
enum Place {
    /// As the store's writer.
    Alone(Box<Writer>),
    /// Beside a writer in another process, which does it.
    Beside { conn: Connection, _file: DbFile },
}

impl BodyIndexer {
    /// Opens the store at `path`, which may have a writer, and says there whether an index is `wanted`, for this and all
    /// later writers.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none; [`StoreError::Locked`] if it is of an older version and has a writer; else
    /// as [`Writer::open`], and what SQLite said.
    pub fn open(path: &Path, wanted: bool) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        if !paths.db.exists() {
            return Err(StoreError::NotFound { path: paths.db });
        }
        let fail = |action| {
            let db = &paths.db;
            move |e| StoreError::sqlite(db, action, e)
        };
        let place = match Writer::open(path, &options("index")) {
            Ok(mut writer) => {
                writer.keeper.book.index.begin(Pace::AT_ONCE);
                Place::Alone(Box::new(writer))
            }
            Err(locked @ StoreError::Locked { .. }) => {
                let file = DbFile::find(&paths.db)?;
                let file = file.ok_or_else(|| StoreError::NotFound { path: paths.db.clone() })?;
                let conn = schema::open_checkpointer(&paths.db)?;
                let version = schema::version(&conn).map_err(fail("reading the version of the tables"))?;
                if version != schema::VERSION {
                    return Err(locked);
                }
                Place::Beside { conn, _file: file }
            }
            Err(error) => return Err(error),
        };
        let conn = place.conn();
        keep::want(conn, wanted).map_err(fail("saying that an index is wanted"))?;
        let highest =
            conn.query_row(HIGHEST, [], |row| integer(row, 0)).map_err(fail("looking for flows"))?;
        let last = highest.map(|mid| mid.cast_unsigned() >> BLOCK_BITS);
        Ok(Self { place, paths, wanted, last })
    }

    /// Whether another process writes to the store, which makes the index, or drops it.
    #[must_use]
    pub fn is_beside_writer(&self) -> bool {
        matches!(self.place, Place::Beside { .. })
    }

    /// How far it is.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn progress(&self) -> Result<IndexProgress, StoreError> {
        let last = self.last.map_or(-1, u64::cast_signed);
        let count = |sql: &str| {
            let count = self.place.conn().query_row(sql, [last], |row| integer(row, 0));
            count.map(|count| count.unwrap_or(0).cast_unsigned())
        };
        let numbers = count(BLOCKS).and_then(|total| Ok((total, count(INDEXED)?)));
        let (total, indexed) = numbers.map_err(|e| self.fail(e))?;
        let total = total.max(indexed);
        Ok(IndexProgress { done: if self.wanted { indexed } else { total - indexed }, total })
    }

    /// Does a part of the work; a block takes about a tenth of a second.
    ///
    /// # Errors
    /// What SQLite said. What was done before stays done.
    pub fn step(&mut self) -> Result<Indexing, StoreError> {
        match &mut self.place {
            Place::Alone(writer) => match writer.keeper.index_step(&mut writer.conn, Patience::Wait)? {
                Step::Idle => Ok(Indexing::Done),
                Step::More { .. } | Step::Later => Ok(Indexing::More),
            },
            Place::Beside { conn, .. } => {
                let wanted = keep::is_on(conn).map_err(|e| self.fail(e))?;
                let IndexProgress { done, total } = self.progress()?;
                // Whoever said the contrary meanwhile is obeyed.
                if done >= total || wanted != self.wanted {
                    return Ok(Indexing::Done);
                }
                // The writer may have ended, or be one that makes no index.
                match Self::open(&self.paths.db, self.wanted) {
                    Ok(now) if !now.is_beside_writer() => {
                        *self = now;
                        Ok(Indexing::More)
                    }
                    Ok(_) | Err(StoreError::Locked { .. }) => Ok(Indexing::Elsewhere),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Closes the store.
    ///
    /// # Errors
    /// As [`Writer::close`].
    pub fn close(self) -> Result<(), StoreError> {
        match self.place {
            Place::Alone(writer) => writer.close(),
            Place::Beside { .. } => Ok(()),
        }
    }

    fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.paths.db, "indexing bodies", source)
    }
}

impl Place {
    fn conn(&self) -> &Connection {
        match self {
            Self::Alone(writer) => &writer.conn,
            Self::Beside { conn, .. } => conn,
        }
    }
}

impl Reader {
    /// What there is of an index of bodies. Counts the flows.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn index_state(&self) -> Result<IndexState, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "asking for the index of bodies", e);
        let count = |sql: &str| {
            let count = self.conn.query_row(sql, [i64::MAX], |row| integer(row, 0));
            count.map(|count| count.unwrap_or(0).cast_unsigned())
        };
        let mut state = IndexState {
            flows: count(FLOWS).map_err(fail)?,
            blocks: count(BLOCKS).map_err(fail)?,
            ..IndexState::default()
        };
        if head::exists(&self.conn).map_err(fail)? {
            state.is_on = self.wants_index()?;
            (state.indexed_blocks, state.covered, state.bytes) = head::totals(&self.conn).map_err(fail)?;
        }
        Ok(state)
    }

    /// Whether people want an index of bodies.
    pub(in crate::store) fn wants_index(&self) -> Result<bool, StoreError> {
        let ask = || Ok(head::exists(&self.conn)? && keep::is_on(&self.conn)?);
        ask().map_err(|e| StoreError::sqlite(&self.paths.db, "asking for the index of bodies", e))
    }

    /// How many flows the index of bodies covers; `None` if there is none. Quick, however many there are.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn indexed_flows(&self) -> Result<Option<u64>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "asking for the index of bodies", e);
        if !head::exists(&self.conn).map_err(fail)? {
            return Ok(None);
        }
        let (blocks, covered, _) = head::totals(&self.conn).map_err(fail)?;
        Ok((blocks > 0).then_some(covered))
    }
}

const HIGHEST: &str = "SELECT max(mid) FROM flow";
const FLOWS: &str = "SELECT count(*) FROM flow WHERE mid <= ?1";
/// 10 is `zone::BLOCK_BITS`.
const BLOCKS: &str = "SELECT count(DISTINCT mid >> 10) FROM flow WHERE mid >> 10 <= ?1";
const INDEXED: &str = "SELECT count(*) FROM index_block WHERE block <= ?1";
