//! Taking flows out of the store again, in the transaction of a group.
//!
//! Bodies stay in their segments, where no row names them any more.

use rusqlite::Transaction;

use super::row::sqlite_int;
use crate::flow::Mid;

/// Deletes all rows of these flows. A mid without rows is no error.
pub(super) fn remove(tx: &Transaction<'_>, mids: &[Mid]) -> rusqlite::Result<()> {
    if mids.is_empty() {
        return Ok(());
    }
    for sql in DELETE {
        let mut delete = tx.prepare_cached(sql)?;
        for mid in mids {
            delete.execute([sqlite_int(mid.0)])?;
        }
    }
    Ok(())
}

const DELETE: [&str; 3] = [
    "DELETE FROM flow WHERE mid = ?1",
    "DELETE FROM record WHERE mid = ?1",
    "DELETE FROM message WHERE mid = ?1",
];
