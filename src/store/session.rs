//! Openings of the store by a writer, and what each had counted when it closed.

use rusqlite::{Connection, params};

use super::reader::{integer, text};
use super::row::sqlite_int;
use super::{Reader, StoreError};

/// What a recorder counted between an opening and its close.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Flows that ended and were committed.
    pub stored: u64,
    /// Flows that ended and could not be stored.
    pub lost: u64,
    /// Bodies of stored flows that the disk could not take.
    pub lost_bodies: u64,
    /// Messages of WebSockets that were committed.
    pub messages: u64,
    /// Messages of WebSockets that could not be stored.
    pub lost_messages: u64,
    /// Groups that were committed.
    pub groups: u64,
    /// Bytes of the records that were committed.
    pub record_bytes: u64,
}

/// One opening of a store by a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number, from 1.
    pub id: i64,
    /// When it began: nanoseconds since 1970, UTC.
    pub started_unix_ns: i64,
    /// When it was closed in order; `None` for one that goes on, or whose process died.
    pub ended_unix_ns: Option<i64>,
    /// A name, as people gave it.
    pub label: String,
    /// Where the proxy listened.
    pub listen: String,
    /// The version of the program.
    pub version: String,
    /// What was counted; `None` for one that was not closed in order, and for one of a version that kept no counts.
    pub counts: Option<SessionCounts>,
}

/// Ends a session in order.
pub(super) fn end(
    conn: &Connection,
    session: i64,
    ended_unix_ns: i64,
    counts: Option<SessionCounts>,
) -> rusqlite::Result<()> {
    conn.execute("UPDATE session SET ended_unix_ns = ?1 WHERE id = ?2", params![ended_unix_ns, session])?;
    if let Some(counts) = counts {
        let SessionCounts { stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes } =
            counts;
        let all = [stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes].map(sqlite_int);
        let [stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes] = all;
        conn.execute(
            COUNTS,
            params![session, stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes],
        )?;
    }
    Ok(())
}

impl Reader {
    /// The last openings, newest first: up to `limit`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError> {
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading the sessions", e);
        // A store whose last writer knew no counts lacks their columns.
        let has_counts =
            self.conn.prepare_cached(HAS_COUNTS).and_then(|mut has| has.exists([])).map_err(fail)?;
        let mut statement =
            self.conn.prepare_cached(if has_counts { SESSIONS } else { SESSIONS_5 }).map_err(fail)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sessions = statement.query_map([limit], read).map_err(fail)?;
        sessions.collect::<Result<_, _>>().map_err(fail)
    }
}

/// Lenient, as [`super::Row`] is.
fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Session> {
    let number = |at| integer(row, at).map(|n| n.and_then(|n| u64::try_from(n).ok()));
    let words = |at| text(row, at).map(Option::unwrap_or_default);
    let counts = match number(6)? {
        None => None,
        Some(stored) => Some(SessionCounts {
            stored,
            lost: number(7)?.unwrap_or(0),
            lost_bodies: number(8)?.unwrap_or(0),
            messages: number(9)?.unwrap_or(0),
            lost_messages: number(10)?.unwrap_or(0),
            groups: number(11)?.unwrap_or(0),
            record_bytes: number(12)?.unwrap_or(0),
        }),
    };
    Ok(Session {
        id: integer(row, 0)?.unwrap_or(0),
        started_unix_ns: integer(row, 1)?.unwrap_or(0),
        ended_unix_ns: integer(row, 2)?,
        label: words(3)?,
        listen: words(4)?,
        version: words(5)?,
        counts,
    })
}

const COUNTS: &str = "UPDATE session SET stored = ?2, lost = ?3, lost_bodies = ?4, messages = ?5, lost_messages = ?6, \
     groups = ?7, record_bytes = ?8 WHERE id = ?1";
const HAS_COUNTS: &str = "SELECT 1 FROM pragma_table_info('session') WHERE name = 'record_bytes'";
/// Texts are cut: a file from elsewhere may hold anything.
const SESSIONS: &str = "SELECT id, started_unix_ns, ended_unix_ns, substr(label, 1, 200), substr(listen, 1, 200), \
     substr(version, 1, 50), stored, lost, lost_bodies, messages, lost_messages, groups, record_bytes \
     FROM session ORDER BY id DESC LIMIT ?1";
/// The same before version 6.
const SESSIONS_5: &str = "SELECT id, started_unix_ns, ended_unix_ns, substr(label, 1, 200), substr(listen, 1, 200), \
     substr(version, 1, 50), NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM session ORDER BY id DESC LIMIT ?1";
