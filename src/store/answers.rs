//! The index of recorded answers that a replay makes for itself: which flow answers which request.
//!
//! What makes two requests the same depends on the options of a replay, so the index is made when one begins, in a temporary
//! database: SQLite makes its file without a name and beyond 16 MiB of it keeps it on the disk (sqlite.org/inmemorydb.html,
//! "temporary databases"), so that its size in memory does not depend on the number of flows. It holds sums, no text.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::StoreError;
use super::row::sqlite_int;
use crate::flow::Mid;

/// A flow that can answer, and what it is found by. All sums are the maker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerEntry {
    /// The flow.
    pub mid: Mid,
    /// When it began: nanoseconds since 1970, UTC.
    pub at_unix_ns: i64,
    /// The sum of all that a request must have in common with its own. As long as it takes for two requests with one sum
    /// to be one request.
    pub key: [u8; 16],
    /// A sum of the same without the body.
    pub head: i64,
    /// A sum of the path alone.
    pub path: i64,
    /// A sum of the host alone.
    pub host: i64,
}

/// A place among the answers to one request in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerAt {
    /// See [`AnswerEntry::at_unix_ns`].
    pub at_unix_ns: i64,
    /// The flow.
    pub mid: Mid,
}

/// See the module. Calls wait for each other; each takes microseconds.
#[derive(Debug)]
pub struct AnswerIndex {
    conn: Mutex<Connection>,
}

impl AnswerIndex {
    /// An empty index.
    ///
    /// # Errors
    /// What SQLite said: there may be no place for temporary files.
    pub fn new() -> Result<Self, StoreError> {
        let open = || {
            let conn = Connection::open("")?;
            conn.execute_batch(SETUP)?;
            Ok(conn)
        };
        let conn = open().map_err(fail("making the index of answers"))?;
        Ok(Self { conn: Mutex::new(conn) })
    }

    /// Adds flows. One that is there already stays as it is.
    ///
    /// # Errors
    /// What SQLite said: the disk may be full.
    pub fn add(&self, entries: &[AnswerEntry]) -> Result<(), StoreError> {
        let mut conn = self.conn();
        let add = |conn: &mut Connection| {
            let tx = conn.transaction()?;
            {
                let mut insert = tx.prepare_cached(INSERT)?;
                for entry in entries {
                    insert.execute(params![
                        sqlite_int(entry.mid.0),
                        entry.at_unix_ns,
                        entry.key,
                        entry.head,
                        entry.path,
                        entry.host
                    ])?;
                }
            }
            tx.commit()
        };
        add(&mut conn).map_err(fail("adding to the index of answers"))
    }

    /// Sorts what was added by key, path and host, to be found quickly. What is added later is sorted in.
    ///
    /// # Errors
    /// As [`AnswerIndex::add`].
    pub fn sort(&self) -> Result<(), StoreError> {
        self.index(INDEXES)
    }

    /// Sorts by time as well, for [`AnswerIndex::after`] and [`AnswerIndex::before`], which take long otherwise.
    ///
    /// # Errors
    /// As [`AnswerIndex::add`].
    pub fn sort_by_time(&self) -> Result<(), StoreError> {
        self.index(TIME_INDEX)
    }

    /// Sorts by the sum of all but the body as well, for [`AnswerIndex::has_head`], which takes long otherwise.
    ///
    /// # Errors
    /// As [`AnswerIndex::add`].
    pub fn sort_by_head(&self) -> Result<(), StoreError> {
        self.index(HEAD_INDEX)
    }

    /// How many flows there are.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn len(&self) -> Result<u64, StoreError> {
        let count = self.conn().query_row(COUNT, [], |row| row.get::<_, i64>(0));
        count.map(i64::cast_unsigned).map_err(fail(READING))
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// As [`AnswerIndex::len`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        self.len().map(|len| len == 0)
    }

    /// When the first flow began, by time.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn earliest_unix_ns(&self) -> Result<Option<i64>, StoreError> {
        self.conn().query_row(EARLIEST, [], |row| row.get(0)).map_err(fail(READING))
    }

    /// Up to `limit` flows with this key from `from` on, rising.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn oldest(&self, key: &[u8; 16], from: Mid, limit: usize) -> Result<Vec<Mid>, StoreError> {
        self.mids(OLDEST, params![key, sqlite_int(from.0), sqlite_limit(limit)])
    }

    /// Up to `limit` flows with this key up to `to`, falling.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn newest(&self, key: &[u8; 16], to: Mid, limit: usize) -> Result<Vec<Mid>, StoreError> {
        self.mids(NEWEST, params![key, sqlite_int(to.0), sqlite_limit(limit)])
    }

    /// Up to `limit` flows with this key that began after `place`, from the earliest on.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn after(&self, key: &[u8; 16], place: AnswerAt, limit: usize) -> Result<Vec<AnswerAt>, StoreError> {
        self.places(AFTER, key, place, limit)
    }

    /// Up to `limit` flows with this key that began before `place`, from the latest on.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn before(&self, key: &[u8; 16], place: AnswerAt, limit: usize) -> Result<Vec<AnswerAt>, StoreError> {
        self.places(BEFORE, key, place, limit)
    }

    /// Whether there is a flow with this sum of all but the body.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn has_head(&self, head: i64) -> Result<bool, StoreError> {
        let conn = self.conn();
        let mut statement = conn.prepare_cached(HEAD).map_err(fail(READING))?;
        statement.exists([head]).map_err(fail(READING))
    }

    /// The newest flows with this path, up to `limit`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn with_path(&self, path: i64, limit: usize) -> Result<Vec<Mid>, StoreError> {
        self.mids(PATH, params![path, sqlite_limit(limit)])
    }

    /// The newest flows with this host, up to `limit`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn with_host(&self, host: i64, limit: usize) -> Result<Vec<Mid>, StoreError> {
        self.mids(HOST, params![host, sqlite_limit(limit)])
    }

    fn index(&self, sql: &str) -> Result<(), StoreError> {
        self.conn().execute_batch(sql).map_err(fail("sorting the index of answers"))
    }

    fn mids(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Vec<Mid>, StoreError> {
        let conn = self.conn();
        let mut statement = conn.prepare_cached(sql).map_err(fail(READING))?;
        let rows = statement.query_map(params, |row| row.get::<_, i64>(0)).map_err(fail(READING))?;
        rows.map(|mid| mid.map(|mid| Mid(mid.cast_unsigned())))
            .collect::<Result<_, _>>()
            .map_err(fail(READING))
    }

    fn places(
        &self,
        sql: &str,
        key: &[u8; 16],
        place: AnswerAt,
        limit: usize,
    ) -> Result<Vec<AnswerAt>, StoreError> {
        let conn = self.conn();
        let mut statement = conn.prepare_cached(sql).map_err(fail(READING))?;
        let params = params![key, place.at_unix_ns, sqlite_int(place.mid.0), sqlite_limit(limit)];
        let read = |row: &rusqlite::Row<'_>| {
            Ok(AnswerAt { at_unix_ns: row.get(0)?, mid: Mid(row.get::<_, i64>(1)?.cast_unsigned()) })
        };
        let rows = statement.query_map(params, read).map_err(fail(READING))?;
        rows.collect::<Result<_, _>>().map_err(fail(READING))
    }

    fn conn(&self) -> MutexGuard<'_, Connection> {
        // A panic under the lock leaves a transaction that is rolled back.
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(action: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| StoreError::sqlite(Path::new("(temporary)"), action, error)
}

fn sqlite_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

const READING: &str = "reading the index of answers";

/// Nothing of it outlives the process, so nothing is synced or rolled back.
const SETUP: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; \
     CREATE TABLE answer (mid INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB NOT NULL, head INTEGER NOT NULL, \
     path INTEGER NOT NULL, host INTEGER NOT NULL);";

/// The first ends in the mid, as every index does (sqlite.org/queryplanner.html).
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS answer_key ON answer (key); \
     CREATE INDEX IF NOT EXISTS answer_path ON answer (path); \
     CREATE INDEX IF NOT EXISTS answer_host ON answer (host);";

const TIME_INDEX: &str = "CREATE INDEX IF NOT EXISTS answer_time ON answer (key, at)";
const HEAD_INDEX: &str = "CREATE INDEX IF NOT EXISTS answer_head ON answer (head)";

const INSERT: &str =
    "INSERT OR IGNORE INTO answer (mid, at, key, head, path, host) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const COUNT: &str = "SELECT count(*) FROM answer";
const EARLIEST: &str = "SELECT min(at) FROM answer";
const OLDEST: &str = "SELECT mid FROM answer WHERE key = ?1 AND mid >= ?2 ORDER BY mid LIMIT ?3";
const NEWEST: &str = "SELECT mid FROM answer WHERE key = ?1 AND mid <= ?2 ORDER BY mid DESC LIMIT ?3";
const AFTER: &str =
    "SELECT at, mid FROM answer WHERE key = ?1 AND (at, mid) > (?2, ?3) ORDER BY at, mid LIMIT ?4";
const BEFORE: &str =
    "SELECT at, mid FROM answer WHERE key = ?1 AND (at, mid) < (?2, ?3) ORDER BY at DESC, mid DESC LIMIT ?4";
const HEAD: &str = "SELECT 1 FROM answer WHERE head = ?1 LIMIT 1";
const PATH: &str = "SELECT mid FROM answer WHERE path = ?1 ORDER BY mid DESC LIMIT ?2";
const HOST: &str = "SELECT mid FROM answer WHERE host = ?1 ORDER BY mid DESC LIMIT ?2";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mid: u64, at_unix_ns: i64, key: u8) -> AnswerEntry {
        AnswerEntry { mid: Mid(mid), at_unix_ns, key: [key; 16], head: 7, path: 8, host: 9 }
    }

    #[test]
    fn answers_are_found_by_key_in_order_of_mid_and_of_time() {
        let index = AnswerIndex::new().unwrap();
        assert!(index.is_empty().unwrap());
        index.add(&[entry(1, 30, 1), entry(2, 20, 1), entry(3, 10, 2)]).unwrap();
        index.sort().unwrap();
        index.sort_by_time().unwrap();
        index.sort_by_head().unwrap();
        // Once more, and one that comes later.
        index.add(&[entry(1, 99, 2), entry(5, 25, 1)]).unwrap();
        assert_eq!((index.len().unwrap(), index.earliest_unix_ns().unwrap()), (4, Some(10)));
        let key = [1; 16];
        assert_eq!(index.oldest(&key, Mid(2), 9).unwrap(), [Mid(2), Mid(5)]);
        assert_eq!(index.newest(&key, Mid(u64::MAX), 2).unwrap(), [Mid(5), Mid(2)]);
        let place = |at_unix_ns, mid| AnswerAt { at_unix_ns, mid: Mid(mid) };
        assert_eq!(index.after(&key, place(20, 2), 9).unwrap(), [place(25, 5), place(30, 1)]);
        assert_eq!(index.before(&key, place(25, 6), 9).unwrap(), [place(25, 5), place(20, 2)]);
        assert_eq!(index.before(&key, place(25, 5), 9).unwrap(), [place(20, 2)]);
        assert!(index.has_head(7).unwrap() && !index.has_head(8).unwrap());
        assert_eq!(index.with_path(8, 2).unwrap(), [Mid(5), Mid(3)]);
        assert_eq!(index.with_host(9, 1).unwrap(), [Mid(5)]);
    }
}
