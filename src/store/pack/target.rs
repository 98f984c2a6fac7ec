//! The file that a copy becomes: made under another name beside it, `-part`, which no reader looks for, and renamed when it
//! is whole and on disk. What an earlier copy left that was killed is overwritten by the next.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags};

use super::super::db_file::DbFile;
use super::super::lock::Lock;
use super::super::paths::{Paths, open_private, private_folder, sync_folder};
use super::super::{StoreError, recover, schema};

/// A copy under construction. Dropped unfinished, it is removed.
pub(super) struct Target {
    to: Paths,
    part: Paths,
    /// Locked as long as it is open. SQLite has another lock, of another kind, on the same file.
    file: File,
    has_files: bool,
    /// The lock of the store that is replaced.
    replaced: Option<Lock>,
    renamed: bool,
}

/// Sorts what SQLite says while rows are copied.
pub(super) struct Errors<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl Target {
    /// Makes an empty file for what will be `to`, a copy of the store with the paths `from`.
    pub(super) fn begin(from: &Paths, to: &Path, replace: bool) -> Result<Self, StoreError> {
        let to = Paths::of(to);
        if to.db == from.db {
            return Err(StoreError::Same { path: to.db });
        }
        let is_there = to.db.symlink_metadata().is_ok();
        if is_there && !replace {
            return Err(StoreError::Exists { path: to.db });
        }
        // Only a store is ever replaced by one, and none that is written.
        let replaced = match is_there {
            true => {
                DbFile::find(&to.db)?.map(|file| file.inspect(&to.db)).transpose()?;
                Some(Lock::take(&to)?)
            }
            false => None,
        };
        let part = Paths::of(&with_suffix(&to.db, "-part"));
        let fail = |e| StoreError::io(&part.db, "making the copy", e);
        let file = open_private(&part.db).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: part.db, pid: None, since_unix_ns: None });
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        // Between the two, another copy may have been finished, and this be its file.
        let is_ours = |found: std::fs::Metadata| {
            let ours = file.metadata()?;
            Ok::<_, io::Error>((found.dev(), found.ino()) == (ours.dev(), ours.ino()))
        };
        match part.db.symlink_metadata().and_then(is_ours) {
            Ok(true) => {}
            _ => return Err(StoreError::Locked { path: part.db, pid: None, since_unix_ns: None }),
        }
        remove_segments(&part.bodies).and_then(|()| file.set_len(0)).map_err(fail)?;
        Ok(Self { to, part, file, has_files: false, replaced, renamed: false })
    }

    /// The name under which it is made.
    pub(super) fn path(&self) -> &Path {
        &self.part.db
    }

    pub(super) fn errors<'a>(&'a self, from: &'a Paths) -> Errors<'a> {
        Errors { from: &from.db, to: &self.part.db }
    }

    /// Makes the folder of its segment files too.
    pub(super) fn make_folder(&mut self) -> Result<(), StoreError> {
        if self.replaced.is_none() && self.to.bodies.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path: self.to.bodies.clone() });
        }
        self.has_files = true;
        private_folder(&self.part.bodies)
            .map_err(|e| StoreError::io(&self.part.bodies, "making the folder of the segments", e))
    }

    /// Its paths while it is made.
    pub(super) fn paths(&self) -> &Paths {
        &self.part
    }

    /// Its database, with empty tables.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let fail = |e| StoreError::sqlite(&self.part.db, "making the copy", e);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.part.db, flags).map_err(fail)?;
        schema::create_tables(&conn).map_err(fail)?;
        // It is synced once, at its end, and until then nobody wants it back.
        conn.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;",
        )
        .map_err(fail)?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(conn)
    }

    /// Brings it to disk and gives it its name. Its database must be closed.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        let to = self.to.db.clone();
        let fail = |action| {
            let to = &to;
            move |e| StoreError::io(to, action, e)
        };
        self.file.sync_all().map_err(fail("bringing the copy to disk"))?;
        if self.replaced.is_some() {
            // A log that is left would be taken for the copy's own.
            for suffix in ["-wal", "-shm", "-journal"] {
                remove_file(&with_suffix(&self.to.db, suffix)).map_err(fail("removing the old store"))?;
            }
        }
        if self.has_files {
            sync_folder(&self.part.bodies).map_err(fail("bringing the copy to disk"))?;
            // In this order there is never a database without its segments.
            if self.replaced.is_some() {
                remove_file(&self.to.db).map_err(fail("removing the old store"))?;
                remove_segments(&self.to.bodies).map_err(fail("removing the old store"))?;
            }
            rename(&self.part.bodies, &self.to.bodies, RenameFlags::NOREPLACE)
                .map_err(|e| exists(&self.to.bodies, e))?;
        }
        let flags = match (self.has_files, &self.replaced) {
            (false, Some(_)) => RenameFlags::empty(),
            _ => RenameFlags::NOREPLACE,
        };
        rename(&self.part.db, &self.to.db, flags).map_err(|e| exists(&self.to.db, e))?;
        self.renamed = true;
        if self.replaced.is_some() && !self.has_files {
            remove_segments(&self.to.bodies).map_err(fail("removing the old segments"))?;
        }
        let folder = self.to.db.parent().unwrap_or(Path::new("/"));
        sync_folder(folder).map_err(fail("bringing its name to disk"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: nothing looks for these names.
            let _ = remove_segments(&self.part.bodies);
            let _ = remove_file(&self.part.db);
        }
    }
}

impl<'a> Errors<'a> {
    pub(super) fn from(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<'a> {
        let path = self.from;
        move |e| StoreError::sqlite(path, "reading the store", e)
    }

    pub(super) fn to(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<'a> {
        let path = self.to;
        move |e| StoreError::sqlite(path, "writing the copy", e)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames, without a look in between whether something is there, where the file system can.
fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_ok() && !flags.is_empty() => {
            Err(io::ErrorKind::AlreadyExists.into())
        }
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(from, to),
        result => Ok(result?),
    }
}

fn exists(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.to_owned() },
        _ => StoreError::io(path, "renaming the copy", error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes segment files and their folder; what else is in it stays, and it with that.
fn remove_segments(folder: &Path) -> io::Result<()> {
    for number in recover::segment_numbers(folder)? {
        remove_file(&folder.join(format!("{number:06}.seg")))?;
    }
    match std::fs::remove_dir(folder) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(e),
        _ => Ok(()),
    }
}
