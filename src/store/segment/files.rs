//! The files under the segments. Behind a trait, so that tests can record every write and sync, cut the power between
//! them, and fill the disk.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::paths::{Paths, open_private, private_folder, sync_folder};

/// What becomes of the system's copy of what was written, once it is on disk (posix_fadvise(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageCache {
    /// It stays as long as there is room: what was just recorded is what is looked at.
    #[default]
    Keep,
    /// It is given back, on Linux: of gigabytes that nobody reads soon, for which others would lose theirs.
    GiveBack,
}

/// Where segment files come from, and go.
pub(in crate::store) trait SegmentFiles: Send + Sync + Debug {
    /// Opens a segment, making it if it is not there; its name is on disk when this returns.
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>>;
    /// Returns when all that SQLite has written to its WAL is on disk. SQLite locks other files than this one, so that closing it
    /// gives up no lock (see `db_file`).
    fn sync_wal(&self) -> io::Result<()>;
    /// Takes a segment away; whether its name is gone on disk is open until [`SegmentFiles::sync_names`]. One that is not there
    /// is no error.
    fn remove(&self, number: u32) -> io::Result<()>;
    /// Returns when the names that are there are those on disk.
    fn sync_names(&self) -> io::Result<()>;
}

/// One segment file.
pub(in crate::store) trait SegmentFile: Send + Sync + Debug {
    /// Writes some of `data` at `offset`; how many bytes.
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Returns when everything written before is on disk.
    fn sync(&self) -> io::Result<()>;
    /// Told after a sync: these bytes are on disk.
    fn synced(&self, _from: u64, _to: u64) {}
    /// Sees to it that bytes which will be written there find blocks, where that can be done. The file's length stays.
    fn reserve(&self, _from: u64, _len: u64) {}
    /// Gives back blocks that were reserved and not written to.
    fn release(&self) {}
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Whether it still has its name. One that was deleted can be written as if nothing were, until it is closed.
    fn is_in_place(&self) -> bool;
}

/// Real files in the store's folder.
#[derive(Debug)]
pub(in crate::store) struct DiskFiles {
    pub(in crate::store) paths: Paths,
    pub(in crate::store) cache: PageCache,
}

/// One of them.
#[derive(Debug)]
struct DiskFile {
    file: File,
    path: PathBuf,
    /// Device and number.
    key: (u64, u64),
    cache: PageCache,
}

impl SegmentFiles for DiskFiles {
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>> {
        private_folder(&self.paths.bodies)?;
        let path = self.paths.segment(number);
        let file = open_private(&path)?;
        sync_folder(&self.paths.bodies)?;
        let key = key(&file.metadata()?);
        Ok(Arc::new(DiskFile { file, path, key, cache: self.cache }))
    }

    fn sync_wal(&self) -> io::Result<()> {
        let mut wal = self.paths.db.clone().into_os_string();
        wal.push("-wal");
        match File::open(wal) {
            // All of it is in the database, which was synced before.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file?.sync_data(),
        }
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        match std::fs::remove_file(self.paths.segment(number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        match sync_folder(&self.paths.bodies) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl SegmentFile for DiskFile {
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pwritev(&self.file, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn synced(&self, from: u64, to: u64) {
        if self.cache == PageCache::GiveBack {
            give_back(&self.file, from, to);
        }
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, from: u64, len: u64) {
        // Where the system cannot, or the disk is too full for it, blocks are found as they are needed.
        let _ = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, from, len);
    }

    /// Blocks behind the end go when a file is cut, be it to the length that it has.
    fn release(&self) {
        if let Ok(metadata) = self.file.metadata() {
            let _ = self.file.set_len(metadata.len());
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|there| key(&there) == self.key)
    }
}

/// Gives back the system's copy of bytes that are on disk, where that can be done.
fn give_back(file: &File, from: u64, to: u64) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(to.saturating_sub(from)) {
        // Only an advice, of which nothing depends on what becomes.
        let _ = rustix::fs::fadvise(file, from, Some(len), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from, to);
}

fn key(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
