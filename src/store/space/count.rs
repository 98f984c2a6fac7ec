//! How many flows there are, so that nobody has to count a million of them each second.

use rusqlite::{Connection, params};

use super::delete::deleted_ever;

/// The number of flows, counted once and kept up from then on.
#[derive(Debug, Default)]
pub(super) struct Count {
    flows: u64,
    pass: Pass,
    /// How many were ever deleted, as far as `flows` knows: also others than the writer delete.
    deleted: u64,
}

/// The one count that there is.
#[derive(Debug, Default)]
enum Pass {
    /// It has not begun: there cannot be too many.
    #[default]
    Before,
    /// Up to which mid, and how many.
    Under(i64, u64),
    Over,
}

impl Count {
    /// How many there are at least, and more only if that is above `max`: 0 while that is not known.
    pub(super) fn flows(&mut self, conn: &Connection, max: u64) -> rusqlite::Result<u64> {
        match self.pass {
            Pass::Over => {
                let gone = deleted_ever(conn)?;
                self.flows = self.flows.saturating_sub(gone.saturating_sub(self.deleted));
                self.deleted = gone;
                return Ok(self.flows);
            }
            Pass::Before => {
                let span: i64 = conn.prepare_cached(SPAN)?.query_row([], |row| row.get(0))?;
                if span.cast_unsigned() <= max {
                    return Ok(0);
                }
                // What is deleted from now on may have been counted. Too few are no harm.
                (self.pass, self.deleted) = (Pass::Under(0, 0), deleted_ever(conn)?);
            }
            Pass::Under(..) => {}
        }
        let Pass::Under(after, sum) = self.pass else { return Ok(0) };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
        let (count, last) = conn.prepare_cached(COUNT)?.query_row(params![after, COUNT_ROWS], read)?;
        let sum = sum + count.cast_unsigned();
        match last.filter(|_| count == COUNT_ROWS) {
            Some(last) => {
                self.pass = Pass::Under(last, sum);
                Ok(0)
            }
            None => {
                (self.pass, self.flows) = (Pass::Over, sum);
                self.flows(conn, max)
            }
        }
    }

    /// Whether a count is under way. What is deleted meanwhile would be counted.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.pass, Pass::Under(..))
    }

    /// So many flows came, and so many that came before are gone again.
    pub(super) fn changed(&mut self, came: usize, gone: usize) {
        self.flows = (self.flows + came as u64).saturating_sub(gone as u64);
    }
}

/// Rows that are counted at a time: about a millisecond.
const COUNT_ROWS: i64 = 20_000;

const SPAN: &str = "SELECT ifnull((SELECT max(mid) FROM flow) - (SELECT min(mid) FROM flow) + 1, 0)";
const COUNT: &str =
    "SELECT count(*), max(mid) FROM (SELECT mid FROM flow WHERE mid > ?1 ORDER BY mid LIMIT ?2)";
