//! The tables, the settings of a connection, and the check that a file is a store of ours before anything touches it.
//!
//! Columns are for ever. A step to a newer `user_version` is an entry of `STEPS` that runs under the writer's lock; a
//! store whose version is above [`VERSION`] is refused, since its rows may mean more than we know.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::paths::{Paths, open_private, sync_folder};
use super::source::packed;
use super::{Durability, StoreError};

/// The version of the tables that this program writes.
pub(super) const VERSION: u32 = 11;

/// `application_id` in the database's header: "mnnt".
const APPLICATION_ID: u32 = 0x6d6e_6e74;

/// The longest record, in bytes. Heads are limited to far less, and large bodies lie in segments.
pub(super) const MAX_RECORD: usize = 64 << 20;

/// The tables of version 1.
///
/// No foreign keys are declared: one writer keeps the references, and each check would cost a look-up a row.
///
/// `flow.mid` is not AUTOINCREMENT: that updates `sqlite_sequence` at each insert, which costs 0.7 to 0.9 us a row
/// (500,000 rows in groups of 1,000; the whole insert takes 1.5 to 2.1). `meta.next_mid`, written once a group, keeps a
/// mid from being used twice just as well.
const TABLES: &str = "
CREATE TABLE meta (          -- counters that outlive deleted rows: next_mid, next_conn
  key TEXT PRIMARY KEY, value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE session (       -- one opening of the store by a writer
  id INTEGER PRIMARY KEY, started_unix_ns INTEGER NOT NULL, ended_unix_ns INTEGER,
  label TEXT NOT NULL, listen TEXT NOT NULL, version TEXT NOT NULL
) STRICT;
CREATE TABLE host (          -- names, so that a row holds a small number
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE flow (          -- what lists and filters ask for; nothing here needs the record to be read
  mid INTEGER PRIMARY KEY, session INTEGER NOT NULL, started_unix_ns INTEGER NOT NULL, duration_us INTEGER,
  kind INTEGER NOT NULL, state INTEGER NOT NULL, method TEXT NOT NULL, scheme INTEGER NOT NULL,
  host INTEGER NOT NULL, port INTEGER NOT NULL, path TEXT NOT NULL, status INTEGER,
  request_type TEXT, response_type TEXT, request_len INTEGER NOT NULL, response_len INTEGER NOT NULL,
  error TEXT, client_conn INTEGER NOT NULL, server_conn INTEGER, replay_of INTEGER
) STRICT;
CREATE INDEX flow_open ON flow(mid) WHERE state = 0;
CREATE TABLE record (        -- proto/flow.proto, Flow
  mid INTEGER PRIMARY KEY, pbuf BLOB NOT NULL
) STRICT;
CREATE TABLE conn (          -- side 1: ClientConn, 2: ServerConn, of proto/flow.proto
  id INTEGER PRIMARY KEY, side INTEGER NOT NULL, session INTEGER NOT NULL, revision INTEGER NOT NULL,
  started_unix_ns INTEGER NOT NULL, peer TEXT, pbuf BLOB NOT NULL
) STRICT;
CREATE TABLE segment (       -- len: bytes of the file that committed rows may refer to
  number INTEGER PRIMARY KEY, len INTEGER NOT NULL
) STRICT;
";

/// What version 2 added: WebSockets. Rows of one WebSocket lie side by side, in the order in which its messages ended. A small payload
/// is in its row, a large one in segment files; without either it is not recorded.
///
/// A program of version 1 refuses a store of version 2, whether to read or to write.
const MESSAGES: &str = "
CREATE TABLE message (       -- messages and control frames of WebSockets
  mid INTEGER NOT NULL, seq INTEGER NOT NULL,
  from_client INTEGER NOT NULL, opcode INTEGER NOT NULL, at_us INTEGER NOT NULL,
  len INTEGER NOT NULL, wire_len INTEGER NOT NULL, coding INTEGER NOT NULL, fragments INTEGER NOT NULL,
  injected INTEGER NOT NULL, body_end INTEGER NOT NULL,
  payload BLOB,
  extents BLOB,               -- proto/flow.proto, Extents
  PRIMARY KEY (mid, seq)
) STRICT, WITHOUT ROWID;
";

/// What version 3 added: bodies of which a cap kept something out of the record. 1 the request's or a tunnel's from the
/// client, 2 the response's or a tunnel's from the origin, 3 both. Rows from before say that there are none; there was no cap.
const TRUNCATED: &str = "ALTER TABLE flow ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;";

/// What version 4 added: records lie in segment files, beside the bodies, and a row says where. Rows of before, and of a
/// packed store, have theirs in `record`. SQLite writes every byte twice and sums it: 9 us of CPU for a flow of 2 KiB, a third
/// of that for the row alone.
const RECORD_EXTENTS: &str = "
ALTER TABLE flow ADD COLUMN record_segment INTEGER;
ALTER TABLE flow ADD COLUMN record_offset INTEGER;
ALTER TABLE flow ADD COLUMN record_len INTEGER;  -- in the file, with the heads of its pieces
";

/// What version 5 added: zones, see there. A set of numbers is LEB128 of differences, one of texts has the length before each;
/// NULL is not known. `present` and `absent`: bits of what some rows have, and of what some have not.
pub(super) const ZONES: &str = "
CREATE TABLE zone (          -- what the rows of a block hold, or held: mids of which mid >> 10 is the block
  block INTEGER PRIMARY KEY,
  kinds INTEGER NOT NULL, states INTEGER NOT NULL, schemes INTEGER NOT NULL,     -- bit 1 << number
  present INTEGER NOT NULL, absent INTEGER NOT NULL,
  started_min INTEGER, started_max INTEGER, duration_min INTEGER, duration_max INTEGER,
  request_len_min INTEGER, request_len_max INTEGER, response_len_min INTEGER, response_len_max INTEGER,
  len_min INTEGER, len_max INTEGER,
  hosts BLOB, ports BLOB, statuses BLOB, methods BLOB, request_types BLOB, response_types BLOB
) STRICT;
CREATE TABLE zone_url (      -- the URLs of a block, a line for each mid; left_out: the places of those that are too long
  block INTEGER PRIMARY KEY, urls BLOB NOT NULL, left_out BLOB
) STRICT;
";

/// What version 6 added: what people write beside flows. A flow is marked if its marker is neither NULL nor empty. Others than the
/// recorder write here, see [`super::Annotator`], so it is apart from `flow`, whose rows the recorder replaces.
const NOTES: &str = "
CREATE TABLE note (
  mid INTEGER PRIMARY KEY, marker TEXT, comment TEXT
) STRICT;
CREATE TABLE tag (
  mid INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (mid, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_name ON tag(name, mid);
";

/// What version 7 added: what a recorder had counted when it closed the store; NULL if it was not closed in order.
const COUNTERS: &str = "
ALTER TABLE session ADD COLUMN stored INTEGER;
ALTER TABLE session ADD COLUMN lost INTEGER;
ALTER TABLE session ADD COLUMN lost_bodies INTEGER;
ALTER TABLE session ADD COLUMN messages INTEGER;
ALTER TABLE session ADD COLUMN lost_messages INTEGER;
ALTER TABLE session ADD COLUMN groups INTEGER;
ALTER TABLE session ADD COLUMN record_bytes INTEGER;
";

/// What version 8 added: bytes of a segment that no row refers to any more, at least, and whether its file is to go.
const DEAD_BYTES: &str = "
ALTER TABLE segment ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE segment ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
";

/// What version 9 added: packed stores, whose segments are in the database, and pieces that are stored as zstd frames.
///
/// The segment of a packed store is one run of bytes, cut into rows: `at` is how many come before. It is made of pieces, as
/// a file is, without regard to rows, and has the number `source::PACKED` in extents. `meta` has `packed`, the time.
const CHUNKS: &str = "
CREATE TABLE chunk (         -- bytes of the segment of a packed store
  at INTEGER PRIMARY KEY, data BLOB NOT NULL
) STRICT;
";

/// What version 10 added: the index of bodies, see there. A block with a row in `index_block` has one; `classes` tells of
/// which flows. `meta` has `index_bodies`, 1, if people want one.
const INDEX: &str = "
CREATE TABLE index_block (
  block INTEGER PRIMARY KEY,
  covered INTEGER NOT NULL,    -- flows of which both sides are covered
  stale INTEGER NOT NULL,      -- rows that changed since
  bytes INTEGER NOT NULL,      -- of its chunks
  classes BLOB NOT NULL
) STRICT;
CREATE TABLE index_chunk (     -- block << 24 | its first trigram
  key INTEGER PRIMARY KEY, data BLOB NOT NULL
) STRICT;
";

/// What version 11 added: messages of WebSockets that a rule kept from the other end.
const DROPPED: &str = "ALTER TABLE message ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;";

/// What makes version 2 of version 1, and so on. A new store takes the same steps.
///
/// A reader finds a store whose writer has not been here since: it must do without what a step adds.
const STEPS: [&str; (VERSION - 1) as usize] =
    [MESSAGES, TRUNCATED, RECORD_EXTENTS, ZONES, NOTES, COUNTERS, DEAD_BYTES, CHUNKS, INDEX, DROPPED];

/// Bytes of a database's header (sqlite.org/fileformat2.html §1.3).
pub(super) const HEAD: usize = 100;

/// What the first 100 bytes of a file tell, or fewer if it has no more. They are read without SQLite, so that a file that
/// is not ours is not even opened as a database.
///
/// # Errors
/// [`StoreError::NotAStore`] and [`StoreError::NewerSchema`], as they say.
pub(super) fn inspect(head: &[u8], path: &Path) -> Result<Contents, StoreError> {
    if head.is_empty() {
        return Ok(Contents::Empty);
    }
    let number =
        |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).map(|four| u32::from_be_bytes(*four));
    let is_ours = head.starts_with(b"SQLite format 3\0") && number(68) == Some(APPLICATION_ID);
    match number(60) {
        _ if !is_ours || head.len() < HEAD => Err(StoreError::NotAStore { path: path.to_owned() }),
        Some(found) if found > VERSION => {
            Err(StoreError::NewerSchema { path: path.to_owned(), found, known: VERSION })
        }
        _ => Ok(Contents::Store),
    }
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contents {
    Empty,
    Store,
}

/// Opens the writing connection, with tables made if there are none. The file must be there, empty or ours.
pub(super) fn open_writer(paths: &Paths, durability: Durability) -> Result<Connection, StoreError> {
    let fail = |action| move |e| StoreError::sqlite(&paths.db, action, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&paths.db, flags).map_err(fail("opening the database"))?;
    // Of a file that was there and empty: else they are there. SQLite's default is a full sync.
    create_tables(&conn).map_err(fail("creating the tables"))?;
    if packed(&conn).map_err(fail("asking whether it is packed"))?.is_some() {
        return Err(StoreError::Packed { path: paths.db.clone() });
    }
    upgrade(&conn).map_err(fail("upgrading the tables"))?;
    harden(&conn).map_err(fail("setting up the connection"))?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = OFF;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 67108864;",
    )
    .map_err(fail("setting up the connection"))?;
    sync_commits(&conn, durability).map_err(fail("setting up the connection"))?;
    conn.set_prepared_statement_cache_capacity(96);
    Ok(conn)
}

/// What a commit waits for from now on, in a WAL: with [`Durability::Normal`], for no disk
/// (sqlite.org/pragma.html#pragma_synchronous).
pub(super) fn sync_commits(conn: &Connection, durability: Durability) -> rusqlite::Result<()> {
    conn.execute_batch(match durability {
        Durability::Full => "PRAGMA synchronous = FULL",
        Durability::Normal => "PRAGMA synchronous = NORMAL",
    })
}

/// Opens a connection that takes the WAL into the database, beside the writing one.
pub(super) fn open_checkpointer(db: &Path) -> Result<Connection, StoreError> {
    let fail = |e| StoreError::sqlite(db, "opening the database", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(db, flags).map_err(fail)?;
    harden(&conn).map_err(fail)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;").map_err(fail)?;
    Ok(conn)
}

/// Opens a connection that writes notes, beside any writer. The file must be a store of ours.
///
/// It never checkpoints while a writer is there: that is the writer's, which has to bring bodies to disk first.
pub(super) fn open_annotator(paths: &Paths) -> Result<Connection, StoreError> {
    let fail = |action| move |e| StoreError::sqlite(&paths.db, action, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&paths.db, flags).map_err(fail("opening the database"))?;
    harden(&conn).map_err(fail("setting up the connection"))?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;",
    )
    .map_err(fail("setting up the connection"))?;
    Ok(conn)
}

/// Makes an empty store, under a name of its own until it is on disk: whatever happens meanwhile, there is a whole one or none.
/// In place it would take nine syncs, for each transaction and for the files that it makes and removes; this takes two.
///
/// To be called by who has the lock, where there is no database.
pub(super) fn make(paths: &Paths) -> Result<(), StoreError> {
    let fail = |source| StoreError::io(&paths.db, "making the database", source);
    let made = fill(paths).and_then(|()| std::fs::rename(&paths.new, &paths.db).map_err(fail));
    if made.is_err() {
        // Nobody would look for it.
        let _ = remove_file(&paths.new);
    }
    made?;
    sync_folder(paths.db.parent().unwrap_or(Path::new("/"))).map_err(fail)
}

fn fill(paths: &Paths) -> Result<(), StoreError> {
    let fail = |source| StoreError::io(&paths.db, "making the database", source);
    // Left behind by a process that was killed at this.
    let mut log = paths.new.clone().into_os_string();
    log.push("-wal");
    for left in [paths.new.as_path(), Path::new(&log)] {
        remove_file(left).map_err(fail)?;
    }
    let file = open_private(&paths.new).map_err(fail)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let made = Connection::open_with_flags(&paths.new, flags).and_then(|conn| {
        // Nobody else has it, and what is left of it when this does not come to its end is of no use.
        conn.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;",
        )?;
        create_tables(&conn)?;
        conn.execute_batch("PRAGMA journal_mode = WAL")?;
        conn.close().map_err(|(_, error)| error)
    });
    made.map_err(|e| StoreError::sqlite(&paths.db, "creating the tables", e))?;
    file.sync_all().map_err(fail)
}

/// Removes a file that may not be there.
fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// In a rollback transaction, before WAL is switched on: so the header that [`inspect`] reads is in the database
/// itself, never only in the WAL. As durable as the connection is.
pub(super) fn create_tables(conn: &Connection) -> rusqlite::Result<()> {
    if version(conn)? != 0 {
        return Ok(());
    }
    conn.execute_batch(&format!(
        "PRAGMA page_size = 8192; BEGIN IMMEDIATE;
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {TABLES} {} COMMIT;",
        STEPS.concat()
    ))
}

/// Brings an older store up to [`VERSION`], all at once or not at all, under the writer's lock.
pub(super) fn upgrade(conn: &Connection) -> rusqlite::Result<()> {
    let from = version(conn)?;
    let due = STEPS.get(from.saturating_sub(1) as usize..).unwrap_or_default();
    if due.is_empty() {
        return Ok(());
    }
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; BEGIN IMMEDIATE; {} PRAGMA user_version = {VERSION}; COMMIT;",
        due.concat()
    ))?;
    tracing::info!(from, to = VERSION, "the store was upgraded");
    // So that the version is in the database's own header, where `inspect` looks, and not in the WAL alone. A reader may
    // keep it from that for now; the next checkpoint does it then.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The version of the tables; 0 in an empty file.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Opens a reading connection. It is read-only, and does not trust the file: it may come from elsewhere.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let fail = |action| move |e| StoreError::sqlite(path, action, e);
    let conn = connect_reader(path).map_err(|source| match is_cantopen(&source) && has_wal(path) {
        true => StoreError::UnreadableLog { path: path.to_owned() },
        false => fail("opening the database")(source),
    })?;
    harden(&conn).map_err(fail("setting up the connection"))?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;")
        .map_err(fail("setting up the connection"))?;
    Ok(conn)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    match probe(&conn) {
        // In a folder that may not be written, SQLite cannot make the shared memory of a WAL. Without a WAL the file
        // is at rest, and may be read as such.
        Err(e) if is_cantopen(&e) && !has_wal(path) => {
            let uri = format!("file:{}?immutable=1", escape_uri(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        Err(e) => Err(e),
        Ok(()) => Ok(conn),
    }
}

fn probe(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

pub(super) fn is_cantopen(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    matches!(error.sqlite_error_code(), Some(CannotOpen | ReadOnly))
}

fn has_wal(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).is_ok_and(|m| m.len() > 0)
}

fn escape_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut uri, &byte| {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(uri, "%{byte:02x}");
            }
        }
        uri
    })
}

/// What both kinds of connection have in common: nothing in the file is run, and nothing is taken on trust.
fn harden(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    let max_record = i32::try_from(MAX_RECORD + (1 << 20)).unwrap_or(i32::MAX);
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, max_record),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_COLUMN, 100),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
    ] {
        conn.set_limit(limit, value)?;
    }
    conn.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;")
}

/// Does something that waits so long for another's lock, and no longer.
pub(super) fn with_patience<T>(
    conn: &mut Connection,
    patience: std::time::Duration,
    work: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = conn.pragma_query_value(None, "busy_timeout", |row| row.get::<_, u32>(0));
    let before = before.map_or(BUSY, |ms| std::time::Duration::from_millis(ms.into()));
    // It only sets a number in the connection, and fails for none.
    let _ = conn.busy_timeout(patience.min(before));
    let result = work(conn);
    let _ = conn.busy_timeout(before);
    result
}

/// How long a connection waits for another's lock. Only a checkpoint or an opening ever holds one.
pub(super) const BUSY: std::time::Duration = std::time::Duration::from_secs(5);
