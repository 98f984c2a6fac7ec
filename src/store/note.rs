//! What people write beside flows: marks, comments and tags.
//!
//! They are rows of their own, so that neither a flow's row nor its record is written again, and so that they can be set while
//! another process records: SQLite lets one of the two write at a time, each waits for the other, and a transaction here is a
//! few hundred small rows. The writer's lock is not taken for that; it keeps a second recorder away, not a pencil.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::db_file::DbFile;
use super::lock::Lock;
use super::paths::Paths;
use super::reader::text;
use super::row::sqlite_int;
use super::schema::{self, Contents};
use super::{Reader, StoreError};
use crate::flow::{Mid, Note};

/// A change of the notes of some flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Marker(Option<String>),
    Comment(Option<String>),
    Tags { add: Vec<String>, remove: Vec<String> },
}

/// Why a text cannot be a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// It is empty.
    #[error("a {what} cannot be empty")]
    Empty {
        /// What it was to be.
        what: &'static str,
    },
    /// It is too long.
    #[error("a {what} has at most {limit} bytes, and this has {len}")]
    TooLong {
        /// What it was to be.
        what: &'static str,
        /// Its bytes.
        len: usize,
        /// How many there may be.
        limit: usize,
    },
    /// It has a character that it cannot have.
    #[error("a {what} cannot have {char:?} in it")]
    BadChar {
        /// What it was to be.
        what: &'static str,
        /// The first such character.
        char: char,
    },
}

impl Change {
    /// The marker of a flow that was marked without saying how, as mitmproxy has it.
    pub const DEFAULT_MARKER: &str = ":default:";

    /// Sets a marker, of up to 100 bytes without control characters.
    ///
    /// # Errors
    /// If the text cannot be a marker.
    pub fn mark(marker: &str) -> Result<Self, BadNote> {
        check("marker", marker, NAME_BYTES, char::is_control)?;
        Ok(Self(Kind::Marker(Some(marker.to_owned()))))
    }

    /// Takes the marker away.
    #[must_use]
    pub fn unmark() -> Self {
        Self(Kind::Marker(None))
    }

    /// Sets a comment of up to 64 KiB, of any characters but NUL.
    ///
    /// # Errors
    /// If the text cannot be a comment.
    pub fn comment(comment: &str) -> Result<Self, BadNote> {
        check("comment", comment, COMMENT_BYTES, |c| c == '\0')?;
        Ok(Self(Kind::Comment(Some(comment.to_owned()))))
    }

    /// Takes the comment away.
    #[must_use]
    pub fn uncomment() -> Self {
        Self(Kind::Comment(None))
    }

    /// Adds and removes tags: names of up to 100 bytes without control characters, white space and commas. One that is in
    /// both lists is removed.
    ///
    /// # Errors
    /// If one of the texts cannot be a tag.
    pub fn tags(add: Vec<String>, remove: Vec<String>) -> Result<Self, BadNote> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == ',';
        add.iter().chain(&remove).try_for_each(|name| check("tag", name, NAME_BYTES, bad))?;
        Ok(Self(Kind::Tags { add, remove }))
    }

    /// The longest comment, in bytes.
    pub const MAX_COMMENT: usize = COMMENT_BYTES;
}

fn check(what: &'static str, text: &str, limit: usize, bad: impl Fn(char) -> bool) -> Result<(), BadNote> {
    match text.chars().find(|&c| bad(c)) {
        _ if text.is_empty() => Err(BadNote::Empty { what }),
        _ if text.len() > limit => Err(BadNote::TooLong { what, len: text.len(), limit }),
        Some(char) => Err(BadNote::BadChar { what, char }),
        None => Ok(()),
    }
}

/// Writes notes into a store, which may have a writer, also in another process. Its methods block.
#[derive(Debug)]
pub struct Annotator {
    conn: Connection,
    paths: Paths,
    /// Behind the connection, which it outlives.
    _file: DbFile,
}

impl Annotator {
    /// Opens the store at `path`. One of a version that knew no notes is brought up to date, as its next writer would do.
    ///
    /// # Errors
    /// [`StoreError::OlderWriter`] if it would have to be, and a writer has it; [`StoreError::NotWritable`] for a store that
    /// can only be read; [`StoreError::NotFound`], [`StoreError::NotAStore`] and [`StoreError::NewerSchema`] as they
    /// say; else what the system or SQLite said.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let paths = Paths::of(path);
        let Some(file) = DbFile::find(&paths.db)? else {
            return Err(StoreError::NotFound { path: paths.db });
        };
        if file.inspect(&paths.db)? == Contents::Empty {
            return Err(StoreError::NotAStore { path: paths.db });
        }
        let conn = schema::open_annotator(&paths).map_err(|e| not_writable(&paths.db, e))?;
        Self::over(conn, paths, file)
    }

    pub(super) fn over(conn: Connection, paths: Paths, file: DbFile) -> Result<Self, StoreError> {
        let fail = |action| {
            let path = paths.db.clone();
            move |e| StoreError::sqlite(&path, action, e)
        };
        if conn.is_readonly("main").map_err(fail("opening the database"))? {
            let source = io::ErrorKind::PermissionDenied.into();
            return Err(StoreError::NotWritable { path: paths.db, source });
        }
        let has_notes = |conn: &Connection| conn.query_row(EXISTS, [], |_| Ok(())).optional();
        let found =
            has_notes(&conn).map_err(fail("reading the schema")).map_err(|e| not_writable(&paths.db, e))?;
        if found.is_none() {
            let lock = Lock::take(&paths).map_err(|e| match e {
                StoreError::Locked { path, pid, .. } => StoreError::OlderWriter { path, pid },
                other => other,
            })?;
            schema::upgrade(&conn).map_err(fail("upgrading the tables"))?;
            drop(lock);
        }
        Ok(Self { conn, paths, _file: file })
    }

    /// Makes a change to some flows, all of them or none; how many there are of them. To those that are not there nothing is
    /// done. Waits while another process writes, for seconds at most; give it a few hundred at a time, for in that time no
    /// recorder can commit.
    ///
    /// # Errors
    /// [`StoreError::TooManyTags`]; else what SQLite said. Nothing is changed then.
    pub fn apply(&mut self, mids: &[Mid], change: &Change) -> Result<usize, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "writing notes", e);
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let mut there = 0;
        for &mid in mids {
            if !tx.prepare_cached(FLOW).and_then(|mut s| s.exists([sqlite_int(mid.0)])).map_err(fail)? {
                continue;
            }
            there += 1;
            write(&tx, mid, change).map_err(fail)?;
            if matches!(change.0, Kind::Tags { .. }) && count_tags(&tx, mid).map_err(fail)? > MAX_TAGS {
                return Err(StoreError::TooManyTags { mid, limit: MAX_TAGS });
            }
        }
        tx.commit().map_err(fail)?;
        Ok(there)
    }
}

/// A file that cannot be opened for writing, told as such.
fn not_writable(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Sqlite { source, .. } if schema::is_cantopen(&source) => {
            StoreError::NotWritable { path: path.to_owned(), source: io::Error::other(source) }
        }
        other => other,
    }
}

fn write(tx: &Transaction<'_>, mid: Mid, change: &Change) -> rusqlite::Result<()> {
    let mid = sqlite_int(mid.0);
    match &change.0 {
        Kind::Marker(Some(marker)) => tx.prepare_cached(MARK)?.execute(params![mid, marker])?,
        Kind::Comment(Some(comment)) => tx.prepare_cached(COMMENT)?.execute(params![mid, comment])?,
        Kind::Marker(None) => tx.prepare_cached(UNMARK)?.execute([mid])?,
        Kind::Comment(None) => tx.prepare_cached(UNCOMMENT)?.execute([mid])?,
        Kind::Tags { add, remove } => {
            for name in add {
                tx.prepare_cached(TAG)?.execute(params![mid, name])?;
            }
            for name in remove {
                tx.prepare_cached(UNTAG)?.execute(params![mid, name])?;
            }
            return Ok(());
        }
    };
    // A row that says nothing would be looked up for nothing.
    tx.prepare_cached(TIDY)?.execute([mid])?;
    Ok(())
}

fn count_tags(tx: &Transaction<'_>, mid: Mid) -> rusqlite::Result<usize> {
    tx.prepare_cached(COUNT_TAGS)?
        .query_row([sqlite_int(mid.0)], |row| row.get::<_, i64>(0))
        .map(|n| usize::try_from(n).unwrap_or(0))
}

impl Reader {
    /// The notes of those of these flows that have any. Where none has, that is one query, however many flows are asked for.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn notes(&self, mids: &[Mid]) -> Result<BTreeMap<Mid, Note>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading notes", e);
        let mut notes = BTreeMap::new();
        let (Some(&low), Some(&high)) = (mids.iter().min(), mids.iter().max()) else { return Ok(notes) };
        if !self.has_notes()? {
            return Ok(notes);
        }
        let between = params![sqlite_int(low.0), sqlite_int(high.0)];
        if !self.conn.prepare_cached(ANY).and_then(|mut any| any.exists(between)).map_err(fail)? {
            return Ok(notes);
        }
        let mut note = self.conn.prepare_cached(NOTE).map_err(fail)?;
        let mut tags = self.conn.prepare_cached(TAGS).map_err(fail)?;
        for &mid in mids {
            let found = read(&mut note, &mut tags, mid).map_err(fail)?;
            if !found.is_empty() {
                notes.insert(mid, found);
            }
        }
        Ok(notes)
    }

    /// Mids of flows that are there, rising: up to `limit` of those from `first` to `last`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn mids(&self, first: Mid, last: Mid, limit: usize) -> Result<Vec<Mid>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "looking for flows", e);
        let mut statement = self.conn.prepare_cached(MIDS).map_err(fail)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let asked = params![sqlite_int(first.0), sqlite_int(last.0), limit];
        let mids = statement.query_map(asked, |row| row.get::<_, i64>(0)).map_err(fail)?;
        mids.map(|mid| mid.map(|mid| Mid(mid.cast_unsigned()))).collect::<Result<_, _>>().map_err(fail)
    }

    /// A store of before version 5 has no notes, until a writer or an annotator opens it.
    pub(super) fn has_notes(&self) -> Result<bool, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading the schema", e);
        self.conn.prepare_cached(EXISTS).and_then(|mut exists| exists.exists([])).map_err(fail)
    }
}

/// Lenient, and no more than what [`Change`] lets in: a file from elsewhere may hold anything.
fn read(note: &mut CachedStatement<'_>, tags: &mut CachedStatement<'_>, mid: Mid) -> rusqlite::Result<Note> {
    let mid = sqlite_int(mid.0);
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let found = note.query_row([mid], |row| Ok((text(row, 0)?, text(row, 1)?))).optional()?;
    let (marker, comment) = found.unwrap_or_default();
    let names = tags.query_map([mid], |row| text(row, 0))?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect();
    Ok(Note { marker: given(marker), comment: given(comment), tags: names })
}

/// A word or a sign, not a text.
const NAME_BYTES: usize = 100;

/// A long letter.
const COMMENT_BYTES: usize = 64 << 10;

/// What a list could ever show of one flow.
const MAX_TAGS: usize = 100;

pub(super) const EXISTS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tag'";
const FLOW: &str = "SELECT 1 FROM flow WHERE mid = ?1";
const MARK: &str =
    "INSERT INTO note (mid, marker) VALUES (?1, ?2) ON CONFLICT (mid) DO UPDATE SET marker = excluded.marker";
const COMMENT: &str = "INSERT INTO note (mid, comment) VALUES (?1, ?2) ON CONFLICT (mid) DO UPDATE SET comment = excluded.comment";
const UNMARK: &str = "UPDATE note SET marker = NULL WHERE mid = ?1";
const UNCOMMENT: &str = "UPDATE note SET comment = NULL WHERE mid = ?1";
const TIDY: &str = "DELETE FROM note WHERE mid = ?1 AND marker IS NULL AND comment IS NULL";
const TAG: &str = "INSERT OR IGNORE INTO tag (mid, name) VALUES (?1, ?2)";
const UNTAG: &str = "DELETE FROM tag WHERE mid = ?1 AND name = ?2";
const COUNT_TAGS: &str = "SELECT count(*) FROM tag WHERE mid = ?1";
const ANY: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM note WHERE mid BETWEEN ?1 AND ?2) \
     OR EXISTS (SELECT 1 FROM tag WHERE mid BETWEEN ?1 AND ?2)";
const NOTE: &str = "SELECT substr(marker, 1, 100), substr(comment, 1, 65536) FROM note WHERE mid = ?1";
const TAGS: &str = "SELECT substr(name, 1, 100) FROM tag WHERE mid = ?1 ORDER BY name LIMIT 100";
const MIDS: &str = "SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid LIMIT ?3";
