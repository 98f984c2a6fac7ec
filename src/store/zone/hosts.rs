//! Which hosts a filter means: names are looked at once, and zones hold their ids.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// The hosts whose names pass a test, two bits each.
#[derive(Debug, Clone, Default)]
pub struct HostSet {
    known: Vec<u64>,
    passing: Vec<u64>,
}

impl HostSet {
    /// Whether the host with this id passes. `None` if it is not known: a host that came since, for one.
    #[must_use]
    pub fn contains(&self, id: i64) -> Option<bool> {
        let id = u64::try_from(id).ok()?;
        let word = usize::try_from(id / 64).ok()?;
        let bit = 1 << (id % 64);
        (self.known.get(word)? & bit != 0).then(|| self.passing[word] & bit != 0)
    }

    /// Reads the table of hosts once.
    pub(in crate::store) fn read(
        conn: &Connection,
        mut test: impl FnMut(&[u8]) -> bool,
    ) -> rusqlite::Result<Self> {
        let mut set = Self::default();
        let mut statement = conn.prepare_cached("SELECT id, name FROM host WHERE id BETWEEN 0 AND ?1")?;
        let mut rows = statement.query([MAX_ID])?;
        while let Some(row) = rows.next()? {
            let (ValueRef::Integer(id), ValueRef::Text(name)) = (row.get_ref(0)?, row.get_ref(1)?) else {
                continue;
            };
            let Ok(id) = usize::try_from(id) else { continue };
            let (word, bit) = (id / 64, 1 << (id % 64));
            if set.known.len() <= word {
                set.known.resize(word + 1, 0);
                set.passing.resize(word + 1, 0);
            }
            set.known[word] |= bit;
            if test(name) {
                set.passing[word] |= bit;
            }
        }
        Ok(set)
    }
}

/// Hosts beyond this are not known, so that a set never takes more than 1 MiB.
const MAX_ID: i64 = (1 << 22) - 1;
