//! The database as a file: looked at without SQLite, before it is opened and while it is open.
//!
//! Closing any descriptor of a file gives up all locks that the process has on it, SQLite's among them (fcntl(2),
//! sqlite.org/howtocorrupt.html §2.2). A program with an older SQLite (3.40 does, 3.53 does not) that then opens and closes the
//! database takes itself for the last to use it, and deletes the WAL under our writer. So there is one descriptor a file and
//! process, shared by all that have it open and closed after the last connection: a [`DbFile`] has to outlive the connection
//! beside it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::schema::{self, Contents};

/// A share in the descriptor of a database.
#[derive(Debug)]
pub(super) struct DbFile {
    key: Key,
}

/// Device and number of a file.
type Key = (u64, u64);

/// The descriptors that are open, and how many share each, which is at least one.
type Table = BTreeMap<Key, (File, usize)>;

/// Its lock is held while a descriptor is opened or closed: nobody may lock a file between another's last look and close.
static OPEN: Mutex<Table> = Mutex::new(Table::new());

impl DbFile {
    /// The file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] for a folder; else what the system said.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, StoreError> {
        let fail = |source| StoreError::io(path, "reading the database's header", source);
        let mut table = lock();
        let found = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(StoreError::NotAStore { path: path.to_owned() }),
            Ok(found) => key(&found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        if let Some((_, shares)) = table.get_mut(&found) {
            *shares += 1;
            return Ok(Some(Self { key: found }));
        }
        let file = File::open(path).map_err(fail)?;
        share(&mut table, file).map(Some).map_err(fail)
    }

    /// What it holds.
    ///
    /// # Errors
    /// As [`schema::inspect`]; else what the system said.
    pub(super) fn inspect(&self, path: &Path) -> Result<Contents, StoreError> {
        let mut head = [0; schema::HEAD];
        let len = match lock().get(&self.key) {
            Some((file, _)) => read_up_to(file, &mut head)
                .map_err(|source| StoreError::io(path, "reading the database's header", source))?,
            None => 0,
        };
        schema::inspect(&head[..len], path)
    }

    /// Whether it still is the file at `path`, and a store. One that was deleted can be written as if nothing were, until it
    /// is closed.
    pub(super) fn is_still_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|there| key(&there) == self.key)
            && self.inspect(path).is_ok_and(|contents| contents == Contents::Store)
    }
}

impl Drop for DbFile {
    fn drop(&mut self) {
        let mut table = lock();
        if let Some((_, shares)) = table.get_mut(&self.key) {
            *shares -= 1;
            if *shares == 0 {
                table.remove(&self.key);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Table> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn share(table: &mut Table, file: File) -> io::Result<DbFile> {
    let key = key(&file.metadata()?);
    table.entry(key).or_insert((file, 0)).1 += 1;
    Ok(DbFile { key })
}

fn key(file: &Metadata) -> Key {
    (file.dev(), file.ino())
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
